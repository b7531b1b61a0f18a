// The records appended last, in memory: what is not yet durable, and behind it as much as the bound allows.
//
// Replicas that are a little behind, and readers of what is still being written, are served from here without a
// look at the disk. Batches are kept as they came; their bytes are shared with whoever else holds them.

import { assert } from '../base/assert.ts'
import type { RecordBatch } from '../base/batch.ts'
import type { Lsn } from '../base/lsn.ts'
import { joinBatches, recordBytesAt, takeRecords } from './batch-slice.ts'

/** Evicted places stay in front of the array, empty, until there are this many: a shift per batch would copy it all. */
const compactAt = 1024

export class LogTail {
  readonly #bytesMax: number
  #batches: (RecordBatch | undefined)[] = []
  #head = 0
  #bytes = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  get bytes(): number {
    return this.#bytes
  }

  /** True if the record is here. */
  has(lsn: Lsn): boolean {
    const first = this.#batches[this.#head]
    return first !== undefined && lsn >= first.firstLsn && lsn <= this.#last.lastLsn
  }

  push(batch: RecordBatch): void {
    this.#batches.push(batch)
    this.#bytes += batch.bytes.length
  }

  /** Lets the oldest batches go while there is too much, but none that is not durable. */
  evict(durableLsn: Lsn): void {
    while (this.#bytes > this.#bytesMax) {
      const first = this.#batches[this.#head]
      if (first === undefined || first.lastLsn > durableLsn) break
      this.#bytes -= first.bytes.length
      this.#batches[this.#head] = undefined
      this.#head++
    }
    if (this.#head >= compactAt) {
      this.#batches = this.#batches.slice(this.#head)
      this.#head = 0
    }
  }

  clear(): void {
    this.#batches = []
    this.#head = 0
    this.#bytes = 0
  }

  /** Records from `from` to `to`, as many as fit into `bytesMax`, but one at least. */
  read(options: { readonly from: Lsn; readonly to: Lsn; readonly bytesMax: number }): RecordBatch {
    const { from, to } = options
    assert(this.has(from), 'a read from memory starts with a record that is there')
    const parts: RecordBatch[] = []
    let room = options.bytesMax
    for (let i = this.#find(from); i < this.#batches.length; i++) {
      const batch = this.#batches[i] as RecordBatch
      if (batch.firstLsn > to) break
      const bytesMax = parts.length === 0 ? Math.max(room, recordBytesAt(batch, from)) : room
      const part = takeRecords(batch, { from, to, bytesMax })
      if (part === undefined) break
      parts.push(part)
      room -= part.bytes.length
      if (part.lastLsn < batch.lastLsn) break
    }
    return joinBatches(parts)
  }

  get #last(): RecordBatch {
    return this.#batches[this.#batches.length - 1] as RecordBatch
  }

  /** The index of the batch that holds `lsn`. */
  #find(lsn: Lsn): number {
    let low = this.#head
    let high = this.#batches.length - 1
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#batches[middle] as RecordBatch).lastLsn < lsn) low = middle + 1
      else high = middle
    }
    return low
  }
}
