// How records from the master get into a replica's log: what fits is taken, what comes too early is held, what is
// missing is noticed. Says what a message came to; what follows from it is for replica.ts.
// docs/protocol.md, section "Stream".

import { assert } from '../base/assert.ts'
import type { RecordBatch, RecordPlace } from '../base/batch.ts'
import type { HistoryEntry } from '../base/history.ts'
import { type Lsn, lsnPlus, noLsn, type Term } from '../base/lsn.ts'
import { batchProblem } from './accept-check.ts'
import { type CoreState, samePlace } from './core-state.ts'
import { HeldRecords } from './held-records.ts'
import type { Append } from './messages.ts'
import { backOff, type Retry, startRetry } from './timings.ts'

export type IntakeResult =
  | { readonly kind: 'taken'; readonly records: number; readonly bytes: number }
  /** Held, or to be asked for again: a record before it is missing. */
  | { readonly kind: 'early' }
  | { readonly kind: 'duplicate' }
  | { readonly kind: 'damaged'; readonly reason: string }
  /** The master's log contradicts the one here at `theirs`. */
  | { readonly kind: 'diverged'; readonly theirs: RecordPlace }

/** Records that are missing; `to` is 0 where their end is not known. */
export interface Gap {
  readonly from: Lsn
  readonly to: Lsn
  /** It was asked for before. */
  readonly again: boolean
}

export class RecordIntake {
  readonly #state: CoreState
  readonly #held: HeldRecords
  /** The last record that the master says it has sent here. */
  #sentLsn = noLsn
  #retry: Retry | undefined

  constructor(state: CoreState) {
    const { heldBytesMax, heldBatchesMax } = state.timings
    this.#state = state
    this.#held = new HeldRecords({ bytesMax: heldBytesMax, batchesMax: heldBatchesMax })
  }

  /** Records that the master has sent, up to here, and that are not all here: another site may fill them in. */
  isMissing(lsn: Lsn): boolean {
    return lsn > this.#state.last.lsn && lsn <= this.#sentLsn
  }

  sent(lsn: Lsn): void {
    if (lsn > this.#sentLsn) this.#sentLsn = lsn
  }

  /** No more will be taken. */
  close(): void {
    this.#held.clear()
  }

  append(message: Append, rec: Uint8Array, term: Term): IntakeResult {
    const state = this.#state
    const { last, databaseId, counters } = state
    const { previous } = message
    this.sent(message.lastLsn)
    if (previous.lsn === last.lsn && !samePlace(previous, last)) return { kind: 'diverged', theirs: previous }
    if (message.lastLsn <= last.lsn) {
      counters.duplicates++
      return { kind: 'duplicate' }
    }
    const isEarly = previous.lsn > last.lsn
    if (isEarly && !this.#canHold(message, rec)) return { kind: 'early' }
    assert(databaseId !== undefined, 'a replica that follows has a database')
    const verified = state.codec.verify(rec, { databaseId, previous })
    if (!verified.ok) return { kind: 'damaged', reason: verified.reason }
    const { batch, reigns } = verified
    const problem = batchProblem(batch, { reigns, message, term })
    if (problem !== undefined) return { kind: 'damaged', reason: problem }
    if (isEarly) {
      this.#held.hold({ batch, reigns })
      counters.held++
      return { kind: 'early' }
    }
    return this.#takeAll(batch, reigns)
  }

  /** Whether it is worth verifying: there is room, and it is not held already. */
  #canHold(message: Append, rec: Uint8Array): boolean {
    const { counters } = this.#state
    if (this.#held.has(lsnPlus(message.previous.lsn, 1), message.lastLsn)) {
      counters.duplicates++
      return false
    }
    if (this.#held.fits(rec.length)) return true
    counters.heldDropped++
    return false
  }

  /** Takes a batch that fits, and after it what was held for want of it. */
  #takeAll(batch: RecordBatch, reigns: readonly HistoryEntry[]): IntakeResult {
    const state = this.#state
    const before = state.last.lsn
    let bytes = batch.bytes.length
    let theirs = this.#take(batch, reigns)
    while (theirs === undefined) {
      const held = this.#held.take(lsnPlus(state.last.lsn, 1))
      if (held === undefined) break
      if (held.batch.lastLsn <= state.last.lsn) continue
      theirs = this.#take(held.batch, held.reigns)
      bytes += held.batch.bytes.length
      state.counters.gapsFilled++
    }
    if (theirs !== undefined) return { kind: 'diverged', theirs }
    this.#retry = undefined
    return { kind: 'taken', records: state.last.lsn - before, bytes }
  }

  /** Appends what is new in the batch. Returns the place that contradicts ours, if one does. */
  #take(whole: RecordBatch, reigns: readonly HistoryEntry[]): RecordPlace | undefined {
    const state = this.#state
    const { last } = state
    const batch = whole.previous.lsn < last.lsn ? state.codec.dropThrough(whole, last.lsn) : whole
    // Invariant 2: what is appended follows the very record that is here.
    if (!samePlace(batch.previous, last)) return batch.previous
    const newReigns = batch === whole ? reigns : reigns.filter((reign) => reign.firstLsn > last.lsn)
    state.extendLog(batch, newReigns)
    state.counters.recordsReceived += batch.lastLsn - last.lsn
    state.emit({ kind: 'append', batch })
    return undefined
  }

  /** What is to be asked for now, after a wait that doubles for as long as nothing comes. */
  gapDue(): Gap | undefined {
    const { now, timings, last, counters } = this.#state
    const heldLsn = this.#held.firstLsn
    if (heldLsn === undefined && this.#sentLsn <= last.lsn) {
      this.#retry = undefined
      return undefined
    }
    this.#retry ??= startRetry(timings, now)
    if (now < this.#retry.dueAt) return undefined
    const again = this.#retry.waitMs > timings.retryMinMs
    backOff(this.#retry, timings, now)
    counters.gapRequests++
    return { from: lsnPlus(last.lsn, 1), to: heldLsn === undefined ? noLsn : lsnPlus(heldLsn, -1), again }
  }

  checkInvariants(): void {
    const { timings, last } = this.#state
    assert(this.#held.bytes <= timings.heldBytesMax, 'held bytes are bounded')
    assert(this.#held.count <= timings.heldBatchesMax, 'held batches are bounded')
    const { firstLsn } = this.#held
    assert(firstLsn === undefined || firstLsn > last.lsn + 1, 'what fits is not held')
  }
}
