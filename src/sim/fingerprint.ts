// A checksum of everything that happened in a run, in order: two runs of a seed that differ in anything, differ in it.

import { toHex } from '../base/bytes.ts'

export class Fingerprint {
  #a = 0x811c9dc5
  #b = 0x2545f491
  readonly #double = new Float64Array(1)
  readonly #words = new Uint32Array(this.#double.buffer)

  word(value: number): void {
    this.#a = Math.imul(this.#a ^ value, 0x01000193)
    this.#b = (Math.imul(this.#b ^ (value >>> 7), 0x5bd1e995) + value) | 0
    this.#b ^= this.#b >>> 13
  }

  /** Any number, with its fraction. */
  number(value: number): void {
    this.#double[0] = value
    this.word(this.#words[0] as number)
    this.word(this.#words[1] as number)
  }

  bytes(bytes: Uint8Array): void {
    let a = this.#a
    for (let i = 0; i < bytes.length; i++) a = Math.imul(a ^ (bytes[i] as number), 0x01000193)
    this.#a = a
    this.word(bytes.length)
  }

  text(text: string): void {
    let a = this.#a
    for (let i = 0; i < text.length; i++) a = Math.imul(a ^ text.charCodeAt(i), 0x01000193)
    this.#a = a
    this.word(text.length)
  }

  toString(): string {
    const bytes = new Uint8Array(8)
    const view = new DataView(bytes.buffer)
    view.setUint32(0, this.#a >>> 0)
    view.setUint32(4, this.#b >>> 0)
    return toHex(bytes)
  }
}
