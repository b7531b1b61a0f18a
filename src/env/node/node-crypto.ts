// Keyed hashes of the real host, over node:crypto.

import { createHmac, timingSafeEqual } from 'node:crypto'
import type { Crypto } from '../host.ts'

export const nodeCrypto: Crypto = {
  hmac(key: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
    const hmac = createHmac('sha256', key)
    for (const part of parts) hmac.update(part)
    const digest = hmac.digest()
    return new Uint8Array(digest.buffer, digest.byteOffset, digest.length)
  },
  equal: (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && timingSafeEqual(a, b),
}
