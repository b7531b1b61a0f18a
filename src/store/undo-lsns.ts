// The LSNs whose undo a store keeps, in order. Undo comes with rising LSNs and is forgotten from either end, so all
// steps are cheap even while hundreds of thousands of records wait to become permanent.

import type { Lsn } from '../base/lsn.ts'
import type { StoreBatch } from './store.ts'

export class UndoLsns {
  /** Rising; those before `#start` are forgotten. */
  #lsns: Lsn[]
  #start = 0

  /** `lsns` rise. */
  constructor(lsns: readonly Lsn[] = []) {
    this.#lsns = [...lsns]
  }

  get oldest(): Lsn | undefined {
    return this.#lsns[this.#start]
  }

  /** Those after `lsn`, newest first. */
  after(lsn: Lsn): Lsn[] {
    return this.#lsns.slice(this.#indexAfter(lsn)).reverse()
  }

  /** Those that the batch says are to be forgotten. */
  forgottenBy({ forgetUndoTo, forgetUndoAfter }: StoreBatch): Lsn[] {
    const first = forgetUndoTo === undefined ? this.#start : this.#indexAfter(forgetUndoTo)
    const kept = forgetUndoAfter === undefined ? this.#lsns.length : this.#indexAfter(forgetUndoAfter)
    return [...this.#lsns.slice(this.#start, first), ...this.#lsns.slice(Math.max(first, kept))]
  }

  /** The batch is in the store: first it forgets, then it adds. */
  apply(batch: StoreBatch): void {
    const { forgetUndoTo, forgetUndoAfter, undo = [] } = batch
    if (forgetUndoTo !== undefined) this.#start = this.#indexAfter(forgetUndoTo)
    if (forgetUndoAfter !== undefined)
      this.#lsns.length = Math.max(this.#start, this.#indexAfter(forgetUndoAfter))
    if (this.#start > 1024 && this.#start * 2 > this.#lsns.length) {
      this.#lsns = this.#lsns.slice(this.#start)
      this.#start = 0
    }
    for (const { lsn } of undo) {
      const at = this.#indexAfter(lsn)
      const known = at > this.#start && this.#lsns[at - 1] === lsn
      if (!known) this.#lsns.splice(at, 0, lsn)
    }
  }

  #indexAfter(lsn: Lsn): number {
    let low = this.#start
    let high = this.#lsns.length
    // The usual question is about the newest.
    if (high > low && (this.#lsns[high - 1] as Lsn) <= lsn) return high
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#lsns[middle] as Lsn) <= lsn) low = middle + 1
      else high = middle
    }
    return low
  }
}
