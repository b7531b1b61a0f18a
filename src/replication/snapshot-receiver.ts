// The replica's side of a snapshot: chunks are taken in order, checked, stored by the driver in a staging place, and
// installed at once when all are there. Until then the old database stays as it is; a broken attempt can be gone on
// with later. docs/protocol.md, section "Snapshot".

import { assert } from '../base/assert.ts'
import type { RecordPlace } from '../base/batch.ts'
import { crc32 } from '../base/checksum.ts'
import { historyUpTo } from '../base/history.ts'
import { type Lsn, noLsn, noTerm, type Term } from '../base/lsn.ts'
import { type CoreState, samePlace } from './core-state.ts'
import { ignore, type StepResult, stepOk } from './effects.ts'
import type { SnapshotBegin, SnapshotEnd, SnapshotRows } from './messages.ts'
import { countRows } from './snapshot-rows.ts'

const progressEveryMs = 250

export interface SnapshotReceiverOptions {
  readonly state: CoreState
  readonly databaseId: string
  /** The master of that term. */
  readonly master: () => string
  /** The term of the database once it is installed. */
  readonly term: () => Term
  /** The last record shared with the master's log; undefined where the data here is foreign or none. */
  readonly agreedLsn: Lsn | undefined
  /** The operator accepts that the log here goes back behind what it shares, where it cannot be kept. */
  readonly mayFallBack: boolean
  readonly sendAck: (ack: { storedIndex: number; receivedIndex: number }) => void
}

export class SnapshotReceiver {
  readonly #state: CoreState
  readonly #options: SnapshotReceiverOptions
  #phase: 'waiting' | 'preparing' | 'receiving' | 'installing' = 'waiting'
  #begin: SnapshotBegin | undefined
  #end: SnapshotEnd | undefined
  #receivedIndex = 0
  #storedIndex = 0
  /** Chunks that came before their time, by index. Invariant: as many at most as the window has. */
  readonly #held = new Map<number, { message: SnapshotRows; rec: Uint8Array }>()
  #heldBytes = 0
  #unstored: number[] = []
  #unstoredBytes = 0
  #progressAt = 0
  #isHalted = false
  /** What the installation makes durable; a higher term that is seen meanwhile is persisted after it. */
  #installedTerm: Term = noTerm
  #installedMaster = ''
  /** Invariant 11: of the records that this site may have acknowledged none is lost by a snapshot that is older. */
  #keptLsn: Lsn | undefined
  rows = 0
  bytes = 0

  constructor(options: SnapshotReceiverOptions) {
    this.#state = options.state
    this.#options = options
  }

  /** The driver owes an answer. Nothing else may use the staging before it has come. */
  get isBusy(): boolean {
    return this.#phase === 'preparing' || this.#phase === 'installing' || this.#unstored.length > 0
  }

  /** The attachment is ending: what is under way is finished, nothing is begun. */
  halt(): void {
    if (this.#phase === 'installing') return
    this.#isHalted = true
    this.#held.clear()
    this.#heldBytes = 0
  }

  /** What is here is being replaced this very moment. */
  get isInstalling(): boolean {
    return this.#phase === 'installing'
  }

  /** The state that the rows are of; 0 before the master has said. */
  get snapshotLsn(): Lsn {
    return this.#begin?.snapshotLsn ?? noLsn
  }

  /** Database, log and term are now those of the snapshot. */
  installed(place: RecordPlace): void {
    assert(
      this.#phase === 'installing' && this.#begin !== undefined,
      'a snapshot is installed when it is whole',
    )
    const { databaseId } = this.#options
    const { base, history, snapshotLsn, snapshotReign } = this.#begin
    const keptLsn = this.#keptLsn
    assert(
      samePlace(place, base) || place.lsn === keptLsn,
      'the log goes on from the base, or from what is kept',
    )
    const term = this.#options.term()
    const master = this.#installedMaster
    const own = historyUpTo(this.#state.history, keptLsn ?? noLsn)
    const kept = own.filter((entry) => entry.firstLsn > base.lsn)
    const log = { base, last: place, history: [...history, ...kept] }
    this.#state.replaced({ databaseId, term: this.#installedTerm, master, ...log })
    if (snapshotLsn > base.lsn) this.#state.mixRows({ lsn: snapshotLsn, reign: snapshotReign })
    if (term > this.#state.term) this.#state.raiseTerm(term, this.#options.master())
    this.#state.event({ kind: 'snapshotDone', rows: this.rows, bytes: this.bytes, lsn: base.lsn })
  }

  /** The result, or why the snapshot cannot be taken. */
  begin(message: SnapshotBegin): StepResult | { kind: 'failed'; message: string } {
    if (this.#phase !== 'waiting') {
      if (this.#phase === 'receiving') this.#ack()
      return ignore('the snapshot has begun')
    }
    const { agreedLsn, databaseId, mayFallBack } = this.#options
    const { base, history, resumed, snapshotLsn, snapshotReign } = message
    // Records that this site may have acknowledged would be missing here until they come again.
    const isOlder = agreedLsn !== undefined && base.lsn < agreedLsn
    const canKeep = this.#state.firstLsn <= base.lsn + 1
    if (isOlder && !canKeep && !mayFallBack) {
      return { kind: 'failed', message: `the snapshot is of LSN ${base.lsn}, and LSN ${agreedLsn} is here` }
    }
    this.#keptLsn = isOlder && canKeep ? agreedLsn : undefined
    this.#begin = message
    this.#phase = 'preparing'
    const newest = { lsn: snapshotLsn, reign: snapshotReign ?? history.at(-1) }
    this.#state.emit({ kind: 'snapshotPrepare', databaseId, base, history, newest, resume: resumed })
    return stepOk
  }

  prepared(): void {
    assert(this.#phase === 'preparing', 'the staging is prepared when it was asked for')
    this.#phase = 'receiving'
    if (!this.#isHalted) this.#ack()
  }

  rowsCame(message: SnapshotRows, rec: Uint8Array): StepResult {
    if (this.#phase !== 'receiving') return ignore('no chunk is waited for')
    if (message.index <= this.#receivedIndex || this.#held.has(message.index)) {
      this.#state.counters.duplicates++
      this.#ack()
      return ignore('the chunk is here')
    }
    if (crc32(rec) !== message.crc || countRows(rec) !== message.count || message.count === 0) {
      return ignore('a chunk is damaged')
    }
    if (message.index === this.#receivedIndex + 1) {
      if (!this.#hasRoom(rec.length)) return ignore('there is no room for the chunk')
      this.#store(message, rec)
      this.#takeHeld()
      return stepOk
    }
    this.#hold(message, rec)
    return stepOk
  }

  endCame(message: SnapshotEnd): StepResult {
    if (this.#phase !== 'receiving') return ignore('no end is waited for')
    this.#end = message
    this.#ack()
    this.#installIfWhole()
    return stepOk
  }

  stored(index: number): void {
    if (index <= this.#storedIndex) return
    assert(index <= this.#receivedIndex, 'chunks are stored after they came')
    for (let i = this.#storedIndex; i < index; i++) this.#unstoredBytes -= this.#unstored.shift() as number
    this.#storedIndex = index
    if (this.#isHalted) return
    this.#takeHeld()
    this.#ack()
    this.#tellProgress()
    this.#installIfWhole()
  }

  /** Tells the master again where things stand. */
  repeatAck(): void {
    if (this.#phase === 'receiving') this.#ack()
  }

  #hasRoom(bytes: number): boolean {
    const { snapshotWindowBytesMax, snapshotWindowChunksMax } = this.#state.timings
    if (this.#unstored.length === 0) return true
    return (
      this.#unstored.length < 2 * snapshotWindowChunksMax &&
      this.#unstoredBytes + bytes <= 2 * snapshotWindowBytesMax
    )
  }

  #hold(message: SnapshotRows, rec: Uint8Array): void {
    const { snapshotWindowBytesMax, snapshotWindowChunksMax } = this.#state.timings
    const fits =
      message.index <= this.#receivedIndex + snapshotWindowChunksMax &&
      this.#held.size < snapshotWindowChunksMax &&
      this.#heldBytes + rec.length <= snapshotWindowBytesMax
    if (!fits) {
      this.#state.counters.heldDropped++
      return
    }
    this.#state.counters.held++
    this.#held.set(message.index, { message, rec })
    this.#heldBytes += rec.length
  }

  #takeHeld(): void {
    for (;;) {
      const next = this.#held.get(this.#receivedIndex + 1)
      if (next === undefined || !this.#hasRoom(next.rec.length)) return
      this.#held.delete(next.message.index)
      this.#heldBytes -= next.rec.length
      this.#store(next.message, next.rec)
    }
  }

  #store(message: SnapshotRows, rec: Uint8Array): void {
    const { index, count } = message
    this.#receivedIndex = index
    this.#unstored.push(rec.length)
    this.#unstoredBytes += rec.length
    this.rows += count
    this.bytes += rec.length
    this.#state.emit({ kind: 'snapshotStore', index, bytes: rec, count })
  }

  #ack(): void {
    this.#options.sendAck({ storedIndex: this.#storedIndex, receivedIndex: this.#receivedIndex })
  }

  #tellProgress(): void {
    const { now } = this.#state
    if (now - this.#progressAt < progressEveryMs) return
    this.#progressAt = now
    const total = this.#begin?.rowsEstimate ?? 0
    this.#state.event({ kind: 'syncProgress', unit: 'rows', done: this.rows, total, bytes: this.bytes })
  }

  #installIfWhole(): void {
    const begin = this.#begin
    const end = this.#end
    if (begin === undefined || end === undefined || end.chunks !== this.#storedIndex) return
    if (end.rows !== this.rows) return
    this.#phase = 'installing'
    const { databaseId, agreedLsn } = this.#options
    this.#installedTerm = this.#options.term()
    const master = this.#options.master()
    this.#installedMaster = master
    this.#state.emit({
      kind: 'snapshotInstall',
      databaseId,
      term: this.#installedTerm,
      master,
      base: begin.base,
      history: begin.history,
      readableLsn: begin.snapshotLsn,
      rows: this.rows,
      agreedLsn,
      keptLsn: this.#keptLsn,
    })
  }
}
