// Records that came before their time: kept by LSN until what is missing before them has come. Bounded; what does not
// fit is dropped and will be asked for again.

import type { RecordBatch } from '../base/batch.ts'
import type { HistoryEntry } from '../base/history.ts'
import type { Lsn } from '../base/lsn.ts'

export interface HeldRecordsOptions {
  readonly bytesMax: number
  readonly batchesMax: number
}

export interface HeldBatch {
  readonly batch: RecordBatch
  readonly reigns: readonly HistoryEntry[]
}

export class HeldRecords {
  readonly #options: HeldRecordsOptions
  /** Invariant: by first LSN, none twice. */
  readonly #held: HeldBatch[] = []
  #bytes = 0

  constructor(options: HeldRecordsOptions) {
    this.#options = options
  }

  get count(): number {
    return this.#held.length
  }

  get bytes(): number {
    return this.#bytes
  }

  /** The first LSN held: the gap ends before it. */
  get firstLsn(): Lsn | undefined {
    return this.#held[0]?.batch.firstLsn
  }

  has(firstLsn: Lsn, lastLsn: Lsn): boolean {
    const held = this.#held[this.#indexOf(firstLsn)]
    return held !== undefined && held.batch.firstLsn === firstLsn && held.batch.lastLsn >= lastLsn
  }

  /** Whether there would be room: asked before the bytes are verified. */
  fits(bytes: number): boolean {
    return this.#held.length < this.#options.batchesMax && this.#bytes + bytes <= this.#options.bytesMax
  }

  hold(held: HeldBatch): void {
    const { firstLsn, lastLsn } = held.batch
    if (!this.fits(held.batch.bytes.length) || this.has(firstLsn, lastLsn)) return
    const index = this.#indexOf(firstLsn)
    const same = this.#held[index]
    if (same?.batch.firstLsn === firstLsn) {
      this.#bytes -= same.batch.bytes.length
      this.#held[index] = held
    } else {
      this.#held.splice(index, 0, held)
    }
    this.#bytes += held.batch.bytes.length
  }

  /** Takes out the first batch if it begins at `nextLsn` or before. */
  take(nextLsn: Lsn): HeldBatch | undefined {
    const first = this.#held[0]
    if (first === undefined || first.batch.firstLsn > nextLsn) return undefined
    this.#held.shift()
    this.#bytes -= first.batch.bytes.length
    return first
  }

  clear(): void {
    this.#held.length = 0
    this.#bytes = 0
  }

  /** Where a batch that begins at `firstLsn` stands or would stand. */
  #indexOf(firstLsn: Lsn): number {
    let low = 0
    let high = this.#held.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#held[middle] as HeldBatch).batch.firstLsn < firstLsn) low = middle + 1
      else high = middle
    }
    return low
  }
}
