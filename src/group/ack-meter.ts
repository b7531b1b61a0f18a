// How long this site waits for its records to be safe: at a master from the hand-over to the log to the commit, at a
// replica to the end of the log's sync. Of the last thousand batches it tells the time that 99 % did not exceed.
//
// One entry for a batch, not for a commit, and no sorting before somebody asks: nothing that a commit would notice.

import type { Lsn } from '../base/lsn.ts'

const samplesMax = 1000
/** Batches under way; beyond it the oldest are not measured. */
const waitingMax = 1000
/** A figure that was made so lately is told again. */
const freshMs = 250

export class AckMeter {
  readonly #samples = new Float64Array(samplesMax)
  #count = 0
  #waiting: { readonly lsn: Lsn; readonly at: number }[] = []
  #head = 0
  #answer = 0
  #answeredAt = Number.NEGATIVE_INFINITY

  begun(lsn: Lsn, now: number): void {
    if (this.#waiting.length - this.#head >= waitingMax) this.#head++
    this.#waiting.push({ lsn, at: now })
  }

  /** All up to `lsn` is safe. */
  ended(lsn: Lsn, now: number): void {
    while (this.#head < this.#waiting.length) {
      const next = this.#waiting[this.#head] as { lsn: Lsn; at: number }
      if (next.lsn > lsn) break
      this.#head++
      this.#samples[this.#count++ % samplesMax] = now - next.at
    }
    if (this.#head === this.#waiting.length) {
      this.#waiting = []
      this.#head = 0
    } else if (this.#head > waitingMax) {
      this.#waiting = this.#waiting.slice(this.#head)
      this.#head = 0
    }
  }

  /** The role has changed: what was under way is not comparable. */
  reset(): void {
    this.#waiting = []
    this.#head = 0
    this.#count = 0
    this.#answeredAt = Number.NEGATIVE_INFINITY
  }

  /** In microseconds; 0 without a sample. */
  p99Micros(now: number): number {
    if (now - this.#answeredAt < freshMs) return this.#answer
    const count = Math.min(this.#count, samplesMax)
    const sorted = this.#samples.slice(0, count).sort()
    const worst = sorted[Math.min(count - 1, Math.floor(count * 0.99))]
    this.#answeredAt = now
    this.#answer = Math.round((worst ?? 0) * 1000)
    return this.#answer
  }
}
