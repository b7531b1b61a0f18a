// Keys and values, all made before anything is measured: 16-byte keys out of a fixed number, random values.

import { Prng } from '../src/base/prng.ts'

const alphabet = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_'
const valuesKept = 1024

export const keyBytes = 16

/** `count` different keys whose order says nothing about their numbers. */
export function makeKeys(count: number): string[] {
  return Array.from({ length: count }, (_, index) => keyOf(index))
}

function keyOf(index: number): string {
  const spread = Math.imul(index, 2_654_435_761) >>> 0
  return flat(`${spread.toString(16).padStart(8, '0')}${index.toString(16).padStart(8, '0')}`)
}

/** The engine joins the pieces of a string when it is first read; that belongs to the making of it. */
function flat(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1')
}

/** Values that do not compress. */
export function makeValues(bytes: number): string[] {
  const random = new Prng(bytes)
  return Array.from({ length: valuesKept }, () => {
    let text = ''
    for (let i = 0; i < bytes; i++) text += alphabet[random.next() & 63]
    return flat(text)
  })
}

/** Draws numbers in [0, bound) at a few nanoseconds each. */
export class Draw {
  #state = 0x9e37_79b9
  readonly #bound: number

  constructor(bound: number, seed = 1) {
    this.#bound = bound
    this.#state ^= Math.imul(seed, 0x85eb_ca6b)
  }

  next(): number {
    let state = this.#state
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    this.#state = state
    return (state >>> 0) % this.#bound
  }
}
