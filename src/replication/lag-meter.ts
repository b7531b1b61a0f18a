// How many bytes, and how long, a replica lags behind what was proposed. Kept as samples (LSN, bytes so far, time),
// because one number per record would grow with the lag. When there are too many, neighbours are joined: then the lag
// is over-estimated, by at most one joined span, and never under-estimated.

import { assert } from '../base/assert.ts'
import type { Lsn } from '../base/lsn.ts'

const samplesMax = 1_024

export class LagMeter {
  /** Parallel, in order. A sample speaks of the records after the sample before it, up to its LSN. */
  #lsns: Lsn[] = []
  #totals: number[] = []
  #times: number[] = []
  #head = 0
  #startLsn: Lsn
  #startTotal = 0
  #total = 0
  /** A sample that spans fewer bytes takes in the next one. */
  #grain = 0

  constructor(startLsn: Lsn) {
    this.#startLsn = startLsn
  }

  get samples(): number {
    return this.#lsns.length - this.#head
  }

  add(lastLsn: Lsn, bytes: number, now: number): void {
    this.#total += bytes
    const end = this.#lsns.length
    const before = end - 1 > this.#head ? (this.#totals[end - 2] as number) : this.#startTotal
    if (end > this.#head && (this.#totals[end - 1] as number) - before < this.#grain) {
      this.#lsns[end - 1] = lastLsn
      this.#totals[end - 1] = this.#total
      return
    }
    this.#lsns.push(lastLsn)
    this.#totals.push(this.#total)
    this.#times.push(now)
    if (this.samples > samplesMax) this.#join()
  }

  /** Bytes proposed after `lsn`: at least the truth. */
  bytesAfter(lsn: Lsn): number {
    const index = this.#firstAfter(lsn) - 1
    return this.#total - (index < this.#head ? this.#startTotal : (this.#totals[index] as number))
  }

  /** For how long a record after `lsn` has waited; 0 if there is none. */
  msAfter(lsn: Lsn, now: number): number {
    const time = this.#times[this.#firstAfter(lsn)]
    return time === undefined ? 0 : now - time
  }

  /** No replica will ask for a lag before `lsn` any more. */
  forgetThrough(lsn: Lsn): void {
    const first = this.#firstAfter(lsn)
    if (first > this.#head) {
      this.#startLsn = this.#lsns[first - 1] as Lsn
      this.#startTotal = this.#totals[first - 1] as number
      this.#head = first
    }
    if (this.#head === this.#lsns.length) {
      this.#lsns.length = 0
      this.#totals.length = 0
      this.#times.length = 0
      this.#head = 0
      this.#grain = 0
    } else if (this.#head > samplesMax) {
      this.#drop()
    }
  }

  /** The first sample whose records are not all at or before `lsn`. */
  #firstAfter(lsn: Lsn): number {
    let low = this.#head
    let high = this.#lsns.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#lsns[middle] as Lsn) <= lsn) low = middle + 1
      else high = middle
    }
    return low
  }

  #drop(): void {
    this.#lsns = this.#lsns.slice(this.#head)
    this.#totals = this.#totals.slice(this.#head)
    this.#times = this.#times.slice(this.#head)
    this.#head = 0
  }

  #join(): void {
    this.#drop()
    let kept = 0
    for (let i = 0; i < this.#lsns.length; i += 2) {
      const last = Math.min(i + 1, this.#lsns.length - 1)
      this.#lsns[kept] = this.#lsns[last] as Lsn
      this.#totals[kept] = this.#totals[last] as number
      this.#times[kept] = this.#times[i] as number
      kept++
    }
    this.#lsns.length = kept
    this.#totals.length = kept
    this.#times.length = kept
    this.#grain = Math.max(1, Math.ceil((this.#total - this.#startTotal) / samplesMax))
    assert(this.samples <= samplesMax, 'samples are bounded')
  }

  /** Where the meter began to count, or was last cut. */
  get startLsn(): Lsn {
    return this.#startLsn
  }
}
