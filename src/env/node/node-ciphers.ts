// Ciphers by OpenSSL. AES-256-GCM and not ChaCha20-Poly1305: with the instructions that servers have had for ten years
// it is a little faster (docs/udp.md has the measurement).

import { createCipheriv, createDecipheriv, createHmac, hkdfSync, timingSafeEqual } from 'node:crypto'
import { type Ciphers, type DeriveOptions, type Sealer, sealTagBytes } from '../ciphers.ts'

const algorithm = 'aes-256-gcm'
const tagLength = { authTagLength: sealTagBytes }

export const nodeCiphers: Ciphers = {
  mac: (key, text) => plain(createHmac('sha256', key).update(text).digest()),
  same: (a, b) => a.length === b.length && timingSafeEqual(a, b),
  derive: ({ key, salt, info, bytes }: DeriveOptions) =>
    new Uint8Array(hkdfSync('sha256', key, salt, info, bytes)),
  sealer: (key) => new NodeSealer(key),
}

class NodeSealer implements Sealer {
  readonly #key: Uint8Array

  constructor(key: Uint8Array) {
    this.#key = key
  }

  seal(nonce: Uint8Array, datagram: Uint8Array, headerBytes: number): void {
    const tagAt = datagram.length - sealTagBytes
    const cipher = createCipheriv(algorithm, this.#key, nonce, tagLength)
    cipher.setAAD(datagram.subarray(0, headerBytes))
    datagram.set(cipher.update(datagram.subarray(headerBytes, tagAt)), headerBytes)
    cipher.final()
    datagram.set(cipher.getAuthTag(), tagAt)
  }

  open(nonce: Uint8Array, datagram: Uint8Array, headerBytes: number): Uint8Array | undefined {
    const tagAt = datagram.length - sealTagBytes
    if (tagAt < headerBytes) return undefined
    const decipher = createDecipheriv(algorithm, this.#key, nonce, tagLength)
    decipher.setAAD(datagram.subarray(0, headerBytes))
    decipher.setAuthTag(datagram.subarray(tagAt))
    const body = decipher.update(datagram.subarray(headerBytes, tagAt))
    try {
      decipher.final()
    } catch {
      // The one thing that `final` throws for: it was not sealed so.
      return undefined
    }
    return plain(body)
  }
}

/** Subclasses of Uint8Array cost twice as much to look into. */
function plain(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
}
