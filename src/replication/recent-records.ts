// The records proposed last, by reference: what a replica that lost a message or has almost caught up needs is still
// here, so that neither costs a read of the log. One bounded store for all replicas; never a buffer for a slow one.

import { assert } from '../base/assert.ts'
import type { RecordBatch } from '../base/batch.ts'
import type { Lsn } from '../base/lsn.ts'

export interface RecentRecordsOptions {
  readonly bytesMax: number
  readonly batchesMax: number
}

export class RecentRecords {
  readonly #options: RecentRecordsOptions
  /** Invariant: consecutive; from `#head` on. */
  #batches: (RecordBatch | undefined)[] = []
  #head = 0
  #bytes = 0

  constructor(options: RecentRecordsOptions) {
    this.#options = options
  }

  get bytes(): number {
    return this.#bytes
  }

  add(batch: RecordBatch): void {
    const newest = this.#batches[this.#batches.length - 1]
    assert(newest === undefined || newest.lastLsn === batch.previous.lsn, 'recent records are consecutive')
    this.#batches.push(batch)
    this.#bytes += batch.bytes.length
    while (
      this.#batches.length - this.#head > 1 &&
      (this.#bytes > this.#options.bytesMax || this.#batches.length - this.#head > this.#options.batchesMax)
    ) {
      this.#bytes -= (this.#batches[this.#head] as RecordBatch).bytes.length
      this.#batches[this.#head] = undefined
      this.#head++
    }
    if (this.#head > this.#options.batchesMax) {
      this.#batches = this.#batches.slice(this.#head)
      this.#head = 0
    }
  }

  /** The batch that has `lsn` in it, if it is still here. */
  find(lsn: Lsn): RecordBatch | undefined {
    let low = this.#head
    let high = this.#batches.length - 1
    while (low <= high) {
      const middle = (low + high) >>> 1
      const batch = this.#batches[middle] as RecordBatch
      if (lsn < batch.firstLsn) high = middle - 1
      else if (lsn > batch.lastLsn) low = middle + 1
      else return batch
    }
    return undefined
  }
}
