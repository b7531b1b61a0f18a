// A check of four bytes behind every value that goes to disk.
//
// LevelDB has checksums in its tables, but the binding opens it without verifying them, and it reads tables
// through a memory map: a value that rots while the database is open would come back as data. (Where the structure of
// a table rots, LevelDB stops the process; the next open finds it.) The check covers key and value, so a value under
// another key does not pass either. It finds every damage within one aligned word and
// all but one in 2^32 of the others. Measured: 0.1 us a row, where reading it costs 2.5 us.

export const checkBytes = 4

/** Both steps are one-to-one for a given word, and for a given state: no change of one word can cancel out. */
function mix(state: number, word: number): number {
  const product = Math.imul(state ^ word, 0x9e37_79b1)
  return product ^ (product >>> 15)
}

function mixBytes(seed: number, bytes: Uint8Array, length: number): number {
  let state = mix(seed, length)
  let at = 0
  for (const last = length - 4; at <= last; at += 4) {
    const word =
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)
    state = mix(state, word)
  }
  let rest = 0
  for (; at < length; at++) rest = (rest << 8) | (bytes[at] as number)
  return mix(state, rest)
}

/** Puts checks behind values, all of them into one block: an allocation for each would cost more than the check. */
export class RowSealer {
  readonly #block: Uint8Array
  #at = 0

  /** `bytes`: the values to come, with `checkBytes` for each. */
  constructor(bytes: number) {
    this.#block = new Uint8Array(bytes)
  }

  seal(key: Uint8Array, value: Uint8Array): Uint8Array {
    const block = this.#block
    const start = this.#at
    const end = start + value.length
    if (value.length > 40) block.set(value, start)
    else for (let i = 0; i < value.length; i++) block[start + i] = value[i] as number
    const check = mixBytes(mixBytes(0, key, key.length), value, value.length)
    block[end] = check
    block[end + 1] = check >>> 8
    block[end + 2] = check >>> 16
    block[end + 3] = check >>> 24
    this.#at = end + checkBytes
    return block.subarray(start, this.#at)
  }
}

/** The value without its check, not copied; undefined if it does not pass. */
export function unsealRow(key: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
  const length = sealed.length - checkBytes
  if (length < 0) return undefined
  const check = mixBytes(mixBytes(0, key, key.length), sealed, length)
  const stored =
    (sealed[length] as number) |
    ((sealed[length + 1] as number) << 8) |
    ((sealed[length + 2] as number) << 16) |
    ((sealed[length + 3] as number) << 24)
  return check === stored ? sealed.subarray(0, length) : undefined
}
