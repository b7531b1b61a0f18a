// Watches a replica come into step and says so once: when all that the master had at the attach is durable here, and
// all that was committed then can be read.

import type { Lsn } from '../base/lsn.ts'
import type { CoreState } from './core-state.ts'
import type { SyncHow } from './effects.ts'

const progressEveryMs = 250

export interface SyncWatchOptions {
  readonly state: CoreState
  readonly how: SyncHow
  readonly from: Lsn
  /** The end of the master's log at the attach. */
  readonly lastLsn: Lsn
  readonly committedLsn: Lsn
}

export class SyncWatch {
  readonly #state: CoreState
  readonly #how: SyncHow
  readonly #from: Lsn
  readonly #startedAt: number
  #lastLsn: Lsn
  #readableLsn: Lsn
  #records = 0
  #bytes = 0
  #progressAt: number
  #isDone = false

  constructor(options: SyncWatchOptions) {
    const { state, how, from, lastLsn } = options
    this.#state = state
    this.#how = how
    this.#from = from
    this.#lastLsn = lastLsn
    this.#readableLsn = options.committedLsn
    this.#startedAt = state.now
    this.#progressAt = state.now
    if (how !== 'equal') state.event({ kind: 'syncBegin', how, from, to: lastLsn })
  }

  get isDone(): boolean {
    return this.#isDone
  }

  /** Rows of a snapshot are consistent only from `lsn` on. */
  readableFrom(lsn: Lsn): void {
    if (lsn > this.#readableLsn) this.#readableLsn = lsn
    if (lsn > this.#lastLsn) this.#lastLsn = lsn
  }

  received(records: number, bytes: number): void {
    if (this.#isDone) return
    this.#records += records
    this.#bytes += bytes
    const { now } = this.#state
    if (now - this.#progressAt < progressEveryMs) return
    this.#progressAt = now
    const total = Math.max(this.#records, this.#lastLsn - this.#from)
    this.#state.event({
      kind: 'syncProgress',
      unit: 'records',
      done: this.#records,
      total,
      bytes: this.#bytes,
    })
  }

  /** To be called when a position has moved. */
  review(snapshotBytes: number): void {
    if (this.#isDone) return
    const state = this.#state
    if (state.durableLsn < this.#lastLsn || state.appliedLsn < this.#readableLsn) return
    this.#isDone = true
    state.event({
      kind: 'synced',
      how: this.#how,
      from: this.#from,
      to: this.#lastLsn,
      transactions: this.#records,
      bytes: this.#bytes + snapshotBytes,
      ms: state.now - this.#startedAt,
    })
  }
}
