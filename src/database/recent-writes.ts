// What has been written since the oldest async transaction began: the ground on which those are validated.
//
// Costs nothing while there is none. Bounded: a transaction that is older than what is kept counts as beaten and is
// run again, so that one which never ends cannot hold memory for ever.

import type { Lsn } from '../base/lsn.ts'
import { inRange, type TextRange } from './key-space.ts'

const writesKeptMax = 262_144

export class RecentWrites {
  #active = new Map<object, Lsn>()
  #newest = new Map<string, Lsn>()
  #keys: string[] = []
  #lsns: Lsn[] = []
  /** Writes after this LSN are all known. */
  #knownFrom: Lsn = 0 as Lsn
  #inTurn = false

  get watching(): boolean {
    return this.#inTurn || this.#active.size > 0
  }

  /** As `watch`, for a function that runs in this turn. Nothing but the function itself can write in between. */
  beginTurn(lsn: Lsn): void {
    if (this.#active.size === 0) this.#knownFrom = lsn
    this.#inTurn = true
  }

  endTurn(): void {
    this.#inTurn = false
    if (this.#active.size === 0 && this.#keys.length > 0) this.#forget()
  }

  /** From now on writes are kept for `reader`, who reads the state at `lsn`. */
  watch(reader: object, lsn: Lsn): void {
    if (this.#active.size === 0) this.#knownFrom = lsn
    this.#active.set(reader, lsn)
  }

  unwatch(reader: object): void {
    this.#active.delete(reader)
    if (!this.watching) this.#forget()
  }

  #forget(): void {
    this.#newest = new Map()
    this.#keys = []
    this.#lsns = []
  }

  note(key: string, lsn: Lsn): void {
    if (this.#keys.length >= writesKeptMax) this.#forgetHalf()
    this.#newest.set(key, lsn)
    this.#keys.push(key)
    this.#lsns.push(lsn)
  }

  #forgetHalf(): void {
    const half = this.#keys.length >> 1
    this.#knownFrom = this.#lsns[half - 1] as Lsn
    for (let i = 0; i < half; i++) {
      const key = this.#keys[i] as string
      if (this.#newest.get(key) === this.#lsns[i]) this.#newest.delete(key)
    }
    this.#keys = this.#keys.slice(half)
    this.#lsns = this.#lsns.slice(half)
  }

  /** Whether the key was, or may have been, written after `since`. */
  writtenSince(key: string, since: Lsn): boolean {
    if (since < this.#knownFrom) return true
    const lsn = this.#newest.get(key)
    return lsn !== undefined && lsn > since
  }

  /** Whether a key of the range was, or may have been, written after `since` and up to `until`. */
  rangeWrittenSince(range: TextRange, since: Lsn, until: Lsn): boolean {
    if (since < this.#knownFrom) return true
    for (let i = this.#lsns.length - 1; i >= 0; i--) {
      const lsn = this.#lsns[i] as Lsn
      if (lsn <= since) return false
      if (lsn <= until && inRange(this.#keys[i] as string, range)) return true
    }
    return false
  }
}
