// Cookies: a listener keeps nothing of a hello before its sender has shown that it receives at the address that it
// sends from. The cookie is a code over that address, the hello and the time, under a key that only this process has
// and draws anew at each start. A spoofed hello costs one code and a shorter answer.

import { concatBytes, utf8Encode } from '../../base/bytes.ts'
import type { Ciphers } from '../../env/ciphers.ts'
import type { DatagramPeer } from '../../env/datagrams.ts'
import { udpBounds } from './bounds.ts'
import { cookieBytes, type Hello } from './packet.ts'
import { readU32, writeU32, writeU48 } from './wire.ts'

const slotBytes = 4

export class Cookies {
  readonly #ciphers: Ciphers
  readonly #key: Uint8Array

  /** `key`: 32 random bytes. */
  constructor(ciphers: Ciphers, key: Uint8Array) {
    this.#ciphers = ciphers
    this.#key = key
  }

  make(hello: Hello, from: DatagramPeer, nowMs: number): Uint8Array {
    return this.#inSlot(hello, from, slotOf(nowMs))
  }

  /** Whether it was made for this hello from this address, in this slot of time or the one before. */
  isGood(hello: Hello, from: DatagramPeer, nowMs: number): boolean {
    const slot = readU32(hello.cookie, 0)
    const now = slotOf(nowMs)
    if (slot !== now && slot !== ((now - 1) & 0x7fff_ffff)) return false
    return this.#ciphers.same(this.#inSlot(hello, from, slot), hello.cookie)
  }

  #inSlot(hello: Hello, from: DatagramPeer, slot: number): Uint8Array {
    const fixed = new Uint8Array(slotBytes + 6)
    writeU32(fixed, 0, slot)
    writeU48(fixed, slotBytes, hello.id)
    const address = utf8Encode(`${from.host} ${from.port}`)
    const code = this.#ciphers.mac(this.#key, concatBytes([fixed, hello.nonce, address]))
    const cookie = new Uint8Array(cookieBytes)
    writeU32(cookie, 0, slot)
    cookie.set(code.subarray(0, cookieBytes - slotBytes), slotBytes)
    return cookie
  }
}

function slotOf(nowMs: number): number {
  // One is added so that the cookie of zeros, which a first hello has, is never a slot's.
  return (Math.floor(nowMs / udpBounds.cookieSlotMs) + 1) & 0x7fff_ffff
}
