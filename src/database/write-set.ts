// The writes of one transaction, in order, each key once: its own reads see them, and at the end they become one
// log record.

import { CoterieError } from '../base/errors.ts'
import { limits } from '../base/limits.ts'
import type { WholeKey } from './key-space.ts'

export interface PendingWrite {
  readonly key: Uint8Array
  readonly text: string
  /** Undefined: a delete. */
  readonly value: Uint8Array | undefined
}

/** Framing of one write in a record, at most. */
const writeOverheadBytes = 8

/** From so many writes on, a map finds the key; below it a look at each is cheaper (most transactions write one). */
const indexFrom = 8

export class WriteSet {
  readonly #writes: PendingWrite[] = []
  #index: Map<string, number> | undefined
  #bytes = 0

  get size(): number {
    return this.#writes.length
  }

  get bytes(): number {
    return this.#bytes
  }

  /** In the order in which the keys were first written. */
  get writes(): readonly PendingWrite[] {
    return this.#writes
  }

  /** A write of this transaction to the key, if there is one. */
  get(text: string): PendingWrite | undefined {
    const at = this.#find(text)
    return at < 0 ? undefined : this.#writes[at]
  }

  #find(text: string): number {
    if (this.#index !== undefined) return this.#index.get(text) ?? -1
    for (let i = 0; i < this.#writes.length; i++) if (this.#writes[i]?.text === text) return i
    return -1
  }

  /** TRANSACTION_TOO_LARGE leaves the set as it was. */
  set(key: WholeKey, value: Uint8Array | undefined): void {
    const at = this.#find(key.text)
    const before = this.#writes[at]
    const grown =
      this.#bytes + sizeOf(key.bytes, value) - (before === undefined ? 0 : sizeOf(before.key, before.value))
    const rows = this.#writes.length + (before === undefined ? 1 : 0)
    if (grown > limits.transactionBytesMax || rows > limits.transactionWritesMax) {
      throw new CoterieError(
        'TRANSACTION_TOO_LARGE',
        `a transaction writes at most ${limits.transactionBytesMax} bytes and ${limits.transactionWritesMax} rows`,
        { details: { bytes: grown, bytesMax: limits.transactionBytesMax, rows } },
      )
    }
    this.#bytes = grown
    const write = { key: key.bytes, text: key.text, value }
    if (before !== undefined) {
      this.#writes[at] = write
      return
    }
    this.#writes.push(write)
    if (this.#index !== undefined) this.#index.set(key.text, this.#writes.length - 1)
    else if (this.#writes.length === indexFrom)
      this.#index = new Map(this.#writes.map((each, i) => [each.text, i]))
  }
}

function sizeOf(key: Uint8Array, value: Uint8Array | undefined): number {
  return key.length + (value?.length ?? 0) + writeOverheadBytes
}
