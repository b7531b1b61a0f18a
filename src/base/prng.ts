// A seeded generator of pseudo-random numbers (sfc32, seeded by splitmix32): the same seed gives the same run on
// every machine. For simulation, faults and jitter; never for ids or anything that must not be guessed.

import { assert } from './assert.ts'

export class Prng {
  #a: number
  #b: number
  #c: number
  #counter = 1

  constructor(seed: number) {
    let state = seed >>> 0
    const draw = (): number => {
      state = (state + 0x9e3779b9) | 0
      let mixed = state ^ (state >>> 16)
      mixed = Math.imul(mixed, 0x21f0aaad)
      mixed ^= mixed >>> 15
      mixed = Math.imul(mixed, 0x735a2d97)
      return mixed ^ (mixed >>> 15)
    }
    // The part of a seed beyond 32 bits counts too, so that seeds made of a time and a number stay apart.
    const high = Math.floor(seed / 0x1_0000_0000) | 0
    this.#a = draw()
    this.#b = draw() ^ high
    this.#c = draw()
    for (let i = 0; i < 12; i++) this.next()
  }

  /** An integer in [0, 2^32). */
  next(): number {
    const result = (this.#a + this.#b + this.#counter) | 0
    this.#counter = (this.#counter + 1) | 0
    this.#a = this.#b ^ (this.#b >>> 9)
    this.#b = (this.#c + (this.#c << 3)) | 0
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + result
    return result >>> 0
  }

  /** A number in [0, 1) with 53 random bits. */
  fraction(): number {
    return ((this.next() >>> 5) * 0x400_0000 + (this.next() >>> 6)) / 0x20_0000_0000_0000
  }

  /** An integer in [0, bound). */
  below(bound: number): number {
    assert(Number.isSafeInteger(bound) && bound > 0, 'a bound is a positive safe integer')
    return Math.floor(this.fraction() * bound)
  }

  /** An integer in [from, to], both included. */
  between(from: number, to: number): number {
    return from + this.below(to - from + 1)
  }

  /** True with the given probability: never for 0, always for 1. */
  chance(probability: number): boolean {
    return this.fraction() < probability
  }

  pick<T>(items: readonly T[]): T {
    assert(items.length > 0, 'there is something to pick from')
    return items[this.below(items.length)] as T
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    for (let i = 0; i < length; i += 4) {
      const word = this.next()
      bytes[i] = word
      if (i + 1 < length) bytes[i + 1] = word >>> 8
      if (i + 2 < length) bytes[i + 2] = word >>> 16
      if (i + 3 < length) bytes[i + 3] = word >>> 24
    }
    return bytes
  }

  /** A generator of its own, so that drawing more here does not change what is drawn there. */
  fork(): Prng {
    return new Prng(this.next() * 0x20_0000 + (this.next() >>> 11))
  }
}
