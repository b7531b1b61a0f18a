// The applier: brings committed log records into the store, in large batches, off the commit path. The only one that
// writes to a store in use.
//
// It is told how far it may go (`advance`) and takes the records from what it was offered, or from the log when it
// is behind. `appliedLsn` goes into the same store batch as the rows, so after a crash it goes on where the store
// is. Records that the group may yet take back carry undo, in the same batch; `rewind` plays it.
//
// Invariant: a record is applied only if its checksum chains to the record applied before it; so a record that the
// log has taken back is never applied, whatever is still queued. Any failure is final: `onFailed` is called once,
// and nothing goes on.

import { AssertionFailure, assert } from '../base/assert.ts'
import type { RecordBatch, RecordPlace } from '../base/batch.ts'
import { asError, CoterieError } from '../base/errors.ts'
import type { History, HistoryEntry } from '../base/history.ts'
import { type Lsn, lsnPlus, noLsn, noTerm } from '../base/lsn.ts'
import type { Timer, Timers } from '../env/host.ts'
import {
  hasWrites,
  placeAt,
  readU32,
  recordField,
  recordHeaderBytes,
  recordKind,
  writeOp,
} from '../log/record-format.ts'
import { eachWrite, siteOf, type WriteVisitor } from '../log/record-reader.ts'
import { ApplyBatch } from './apply-batch.ts'
import { keyText } from './key-text.ts'
import type { RowCache } from './row-cache.ts'
import type { RowFilter } from './row-filter.ts'
import type { RowWrite, Store, StoreMeta } from './store.ts'

export interface ApplierOptions {
  readonly store: Store
  readonly databaseId: string
  readonly timers: Timers
  /** Told of every row that changes. */
  readonly cache?: RowCache
  /** A batch ends with the record that reaches so many writes. Default: what the store wants. */
  readonly batchWritesMax?: number
  /** Or so many bytes of records. Default 8 MiB. */
  readonly batchBytesMax?: number
  /** How much of what is offered is kept. Default 16 MiB. */
  readonly queueBytesMax?: number
  /** How long a batch that is not full waits for more, in ms. Default 0: not at all. */
  readonly delayMs?: number
  /** Writes of rows that it does not keep are passed over; asked for each batch. Undefined: all are kept. */
  readonly rowFilter?: () => RowFilter | undefined
  /** Reads the log, where the applier is behind what it was offered. At least the record `from`. */
  source(from: Lsn, bytesMax: number): Promise<RecordBatch>
  /** In the turn in which the store shows the records up to here. */
  onApplied(appliedLsn: Lsn): void
  onFailed(error: CoterieError): void
}

const mebibyte = 1_048_576
const batchBytesDefault = 8 * mebibyte
/** The event loop gets a turn after so many writes or bytes: 2 ms or so of decoding. */
const sliceWrites = 2048
const sliceBytes = mebibyte
/** Records up to this size are decoded in one go. */
const smallRecordBytes = 65_536
/** Undo that nobody needs any more is forgotten with the next batch, or alone after this time. */
const forgetDelayMs = 1000

interface Waiter {
  readonly lsn: Lsn
  readonly resolve: () => void
  readonly reject: (error: CoterieError) => void
}

export class Applier {
  readonly #options: ApplierOptions
  readonly #store: Store
  #batchRecordsMax = Number.MAX_SAFE_INTEGER
  #batchWritesMax: number
  #batchBytesMax: number
  readonly #queueBytesMax: number
  #delayMs: number
  #applied: RecordPlace
  #targetLsn: Lsn
  /** Up to here somebody waits: no delay. */
  #urgentLsn: Lsn = noLsn
  #permanentLsn: Lsn = noLsn
  /** Records offered or read, in order, without gaps but for one after the first. The first may be partly applied. */
  #queue: RecordBatch[] = []
  #queuedBytes = 0
  /** Undo may be in the store for these LSNs, both included; none if `from` is greater. */
  #undo: { from: Lsn; to: Lsn }
  #waiters: Waiter[] = []
  /** Settles (never rejects) when the work under way is done. */
  #running: Promise<void> | undefined
  #delay: Timer | undefined
  #forgetDelay: Timer | undefined
  #paused = false
  #failure: CoterieError | undefined
  #closed = false

  constructor(options: ApplierOptions) {
    const { store } = options
    const { meta } = store
    assert(meta === undefined || meta.databaseId === options.databaseId, 'the store is of this database')
    this.#options = options
    this.#store = store
    this.#batchWritesMax = options.batchWritesMax ?? store.batchWritesWanted
    this.#batchBytesMax = options.batchBytesMax ?? batchBytesDefault
    this.#queueBytesMax = options.queueBytesMax ?? 16 * mebibyte
    this.#delayMs = options.delayMs ?? 0
    this.#applied =
      meta === undefined
        ? { lsn: noLsn, term: noTerm, crc: 0 }
        : { lsn: meta.appliedLsn, term: meta.appliedTerm, crc: meta.appliedCrc }
    this.#targetLsn = this.#applied.lsn
    this.#undo = { from: lsnPlus(noLsn, 1), to: this.#applied.lsn }
  }

  get appliedLsn(): Lsn {
    return this.#applied.lsn
  }

  /** Changes how records are gathered, from the next batch on. */
  gatherBy(options: {
    readonly recordsMax: number | undefined
    readonly bytesMax: number | undefined
    readonly delayMs: number | undefined
  }): void {
    this.#batchRecordsMax = options.recordsMax ?? Number.MAX_SAFE_INTEGER
    this.#batchBytesMax = options.bytesMax ?? batchBytesDefault
    this.#delayMs = options.delayMs ?? 0
  }

  /** How many records it may apply and has not yet, and the bytes of records that it holds. */
  get lag(): { readonly records: number; readonly queuedBytes: number } {
    return { records: this.#targetLsn - this.#applied.lsn, queuedBytes: this.#queuedBytes }
  }

  /** Records that have just been appended to the log. Kept while there is room, else read again later. */
  offer(batch: RecordBatch): void {
    if (this.#closed || this.#failure !== undefined) return
    const tail = this.#queue[this.#queue.length - 1]
    if (tail !== undefined && !follows(batch, tail)) {
      // Either there was no room for those in between, or the log has taken back what is queued.
      if (batch.firstLsn > lsnPlus(tail.lastLsn, 1)) return
      this.#clearQueue()
    }
    if (this.#queue.length > 0 && this.#queuedBytes + batch.bytes.length > this.#queueBytesMax) return
    this.#queue.push(batch)
    this.#queuedBytes += batch.bytes.length
  }

  /**
   * Everything up to `to` is committed, and durable here. Up to `permanentLsn` it can never be taken back, so no
   * undo is kept. Neither falls, but by `rewind`. `urgent`: an ack waits for it, so that nothing more is gathered.
   */
  advance(options: { readonly to: Lsn; readonly permanentLsn: Lsn; readonly urgent?: boolean }): void {
    this.#targetLsn = Math.max(this.#targetLsn, options.to) as Lsn
    this.#permanentLsn = Math.max(this.#permanentLsn, options.permanentLsn) as Lsn
    if (options.urgent === true) this.#urgentLsn = this.#targetLsn
    this.#kick()
  }

  /** Resolves when the store shows the record. Rejects with ABORTED, CLOSED, or why the applier failed. */
  whenApplied(lsn: Lsn, signal?: AbortSignal): Promise<void> {
    if (lsn <= this.#applied.lsn) return Promise.resolve()
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    if (this.#closed) return Promise.reject(closedError())
    if (signal?.aborted === true) return Promise.reject(abortedError(signal))
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiters = this.#waiters.filter((other) => other !== waiter)
        reject(abortedError(signal as AbortSignal))
      }
      const settle = (): void => signal?.removeEventListener('abort', onAbort)
      const waiter: Waiter = {
        lsn,
        resolve: () => {
          settle()
          resolve()
        },
        reject: (error) => {
          settle()
          reject(error)
        },
      }
      signal?.addEventListener('abort', onAbort)
      this.#waiters.push(waiter)
      // Somebody waits: no more of the delay.
      this.#kick()
    })
  }

  /** Resolves when the batch under way is done; no other begins before `resume`. */
  async pause(): Promise<void> {
    this.#paused = true
    await this.#running
  }

  resume(): void {
    this.#paused = false
    this.#kick()
  }

  /**
   * Takes back every record after `to`: in the store, by undo, in one batch with the meta; and from the queue, so
   * that it must be called even where nothing of it has been applied. Only while paused. `history` is that of the
   * log up to `to`. REWIND_REFUSED if the undo does not reach back: then nothing has been changed.
   */
  async rewind(options: { readonly to: RecordPlace; readonly history: History }): Promise<void> {
    const { to, history } = options
    assert(this.#paused && this.#running === undefined, 'the applier is paused while it is rewound')
    if (this.#failure !== undefined) throw this.#failure
    if (this.#closed) throw closedError()
    this.#clearQueue()
    this.#targetLsn = Math.min(this.#targetLsn, to.lsn) as Lsn
    const { lsn: from } = this.#applied
    if (to.lsn >= from) return
    const { meta } = this.#store
    assert(meta !== undefined, 'a store that records were applied to has a meta')
    const undo = await this.#store.undoAfter(to.lsn)
    const complete = undo.length === from - to.lsn && undo.every(({ lsn }, i) => lsn === from - i)
    if (!complete || to.lsn < this.#permanentLsn || to.lsn < meta.readableLsn) {
      throw new CoterieError('REWIND_REFUSED', `the store cannot go back from LSN ${from} to ${to.lsn}`, {
        details: { from, to: to.lsn, permanentLsn: this.#permanentLsn },
      })
    }
    // From the newest on: what the oldest record found overwrites what later ones did.
    const writes = new Map<string, RowWrite>()
    for (const { entries } of undo) {
      for (const { key, before } of entries) writes.set(keyText(key), { key, value: before })
    }
    await this.#write({
      rows: [...writes.values()],
      writes,
      meta: { ...meta, appliedLsn: to.lsn, appliedTerm: to.term, appliedCrc: to.crc, history },
      place: to,
      forgetUndoAfter: to.lsn,
    })
    this.#undo = { from: this.#undo.from, to: to.lsn }
  }

  /** Finishes the batch under way; what is left stays in the log. */
  async close(): Promise<void> {
    this.#closed = true
    this.#stopTimers()
    await this.#running
    this.#clearQueue()
    this.#rejectWaiters(closedError())
  }

  #kick(): void {
    if (this.#running !== undefined || !this.#mayRun) return
    if (this.#applied.lsn >= this.#targetLsn) {
      this.#forgetLater()
      return
    }
    const waiting = this.#targetLsn - this.#applied.lsn
    const full =
      waiting >= Math.min(this.#batchWritesMax, this.#batchRecordsMax) ||
      this.#queuedBytes >= this.#batchBytesMax
    const urgent = this.#waiters.length > 0 || this.#applied.lsn < this.#urgentLsn
    if (this.#delayMs > 0 && !full && !urgent) {
      this.#delay ??= this.#options.timers.after(this.#delayMs, () => {
        this.#delay = undefined
        this.#start()
      })
      return
    }
    this.#start()
  }

  get #mayRun(): boolean {
    return !this.#paused && !this.#closed && this.#failure === undefined
  }

  #start(): void {
    if (this.#running !== undefined || !this.#mayRun) return
    this.#stopTimers()
    this.#running = this.#run()
      .catch((error: unknown) => this.#fail(error))
      .then(() => {
        this.#running = undefined
        this.#kick()
      })
  }

  #stopTimers(): void {
    this.#delay?.cancel()
    this.#delay = undefined
    this.#forgetDelay?.cancel()
    this.#forgetDelay = undefined
  }

  async #run(): Promise<void> {
    // Gathers what else is committed in this turn.
    await Promise.resolve()
    for (;;) {
      await this.#applyOne()
      if (!this.#mayRun || this.#applied.lsn >= this.#targetLsn || this.#delayMs > 0) return
      // A store in memory never waits for anything: without this nobody else would get a turn.
      await this.#turn()
    }
  }

  async #applyOne(): Promise<void> {
    if (this.#applied.lsn >= this.#targetLsn) return await this.#forgetUndo()
    const { history = [], readableLsn = noLsn } = this.#store.meta ?? {}
    const batch = new ApplyBatch({ last: this.#applied, history })
    const filter = this.#options.rowFilter?.()
    await this.#gather(batch, filter)
    if (filter !== undefined) await filter.settle()
    await batch.readUndo(this.#store, this.#options.cache)
    const { last } = batch
    const lastUndo = batch.undo[batch.undo.length - 1]
    await this.#write({
      rows: batch.rows,
      writes: batch.writes,
      meta: {
        databaseId: this.#options.databaseId,
        appliedLsn: last.lsn,
        appliedTerm: last.term,
        appliedCrc: last.crc,
        readableLsn,
        history: batch.history as readonly HistoryEntry[],
      },
      place: last,
      undo: batch.undo,
    })
    if (lastUndo !== undefined) this.#undo = { from: this.#undo.from, to: lastUndo.lsn }
  }

  /** Decodes committed records until the batch is full; the event loop gets a turn now and then. */
  async #gather(batch: ApplyBatch, filter: RowFilter | undefined): Promise<void> {
    const visitor = (key: Uint8Array, value: Uint8Array | undefined): void => {
      if (filter === undefined || filter.keeps(key)) batch.write(key, value)
      else batch.passOver()
    }
    let turnWrites = sliceWrites
    let turnBytes = sliceBytes
    while (batch.last.lsn < this.#targetLsn && !this.#isFull(batch)) {
      const records = await this.#recordsAfter(batch.last)
      const { bytes } = records
      let at = startOf(records, lsnPlus(batch.last.lsn, 1))
      while (at < bytes.length && batch.last.lsn < this.#targetLsn && !this.#isFull(batch)) {
        const end = at + readU32(bytes, at + recordField.length)
        const start = at + recordHeaderBytes
        this.#beginRecord(batch, { bytes, at, end })
        if (hasWrites(bytes[at + recordField.kind] as number)) {
          if (end - start <= smallRecordBytes) eachWrite(bytes, start, end, visitor)
          else await this.#decodeLarge(bytes, { start, end, visitor })
        }
        at = end
        if (batch.decodedWrites < turnWrites && batch.decodedBytes < turnBytes) continue
        await this.#turn()
        turnWrites = batch.decodedWrites + sliceWrites
        turnBytes = batch.decodedBytes + sliceBytes
      }
    }
  }

  async #decodeLarge(
    bytes: Uint8Array,
    record: { readonly start: number; readonly end: number; readonly visitor: WriteVisitor },
  ): Promise<void> {
    const { end, visitor } = record
    for (let start = record.start; start < end; ) {
      const next = afterWrites(bytes, { start, end, count: sliceWrites })
      eachWrite(bytes, start, next, visitor)
      start = next
      await this.#turn()
    }
  }

  #beginRecord(batch: ApplyBatch, { bytes, at, end }: { bytes: Uint8Array; at: number; end: number }): void {
    const place = placeAt(bytes, at)
    assert(
      readU32(bytes, at + recordField.previousCrc) === batch.last.crc,
      'a record chains to the one before',
    )
    assert(place.lsn === batch.last.lsn + 1, 'records are applied one after the other')
    batch.beginRecord(place, { bytes: end - at, withUndo: place.lsn > this.#permanentLsn })
    if (bytes[at + recordField.kind] !== recordKind.term) return
    const site = siteOf(bytes, at + recordHeaderBytes, end)
    assert(site !== undefined, 'a term record that was verified names its site')
    batch.term(site)
  }

  #isFull(batch: ApplyBatch): boolean {
    return (
      batch.decodedWrites >= this.#batchWritesMax ||
      batch.decodedBytes >= this.#batchBytesMax ||
      batch.last.lsn - this.#applied.lsn >= this.#batchRecordsMax
    )
  }

  /** Records that begin with the one after `place`, or have it somewhere. */
  async #recordsAfter(place: RecordPlace): Promise<RecordBatch> {
    const next = lsnPlus(place.lsn, 1)
    this.#dropQueued(place.lsn)
    const first = this.#queue[0]
    if (first !== undefined && first.firstLsn <= next) {
      const chained = first.firstLsn < next ? first : chainsTo(first, place)
      if (chained) return first
      this.#clearQueue()
    }
    const read = await this.#options.source(next, this.#batchBytesMax)
    assert(read.firstLsn <= next && read.lastLsn >= next, 'the log has the record that was asked for')
    // What does not fit into this batch is for the next one. It may overlap with what was offered meanwhile.
    this.#queue.unshift(read)
    this.#queuedBytes += read.bytes.length
    return read
  }

  #dropQueued(lsn: Lsn): void {
    let count = 0
    for (const { lastLsn, bytes } of this.#queue) {
      if (lastLsn > lsn) break
      this.#queuedBytes -= bytes.length
      count++
    }
    if (count > 0) this.#queue.splice(0, count)
  }

  #clearQueue(): void {
    this.#queue = []
    this.#queuedBytes = 0
  }

  async #write(change: {
    readonly rows: readonly RowWrite[]
    readonly writes: ReadonlyMap<string, RowWrite>
    readonly meta: StoreMeta
    readonly place: RecordPlace
    readonly undo?: ApplyBatch['undo']
    readonly forgetUndoAfter?: Lsn
  }): Promise<void> {
    const { rows, writes, meta, place, undo = [], forgetUndoAfter } = change
    const forgetUndoTo = this.#forgettable()
    await this.#store.write({
      writes: rows,
      meta,
      ...(undo.length === 0 ? {} : { undo }),
      ...(forgetUndoTo === undefined ? {} : { forgetUndoTo }),
      ...(forgetUndoAfter === undefined ? {} : { forgetUndoAfter }),
      onVisible: () => {
        const forward = place.lsn > this.#applied.lsn
        this.#applied = place
        this.#dropQueued(place.lsn)
        this.#options.cache?.applied(writes)
        if (!forward) return
        this.#options.onApplied(place.lsn)
        this.#wakeWaiters()
      },
    })
    this.#forgotten(forgetUndoTo)
  }

  /** Undo up to here may go; undefined if there is none of it. */
  #forgettable(): Lsn | undefined {
    const { from, to } = this.#undo
    return from <= to && this.#permanentLsn >= from ? this.#permanentLsn : undefined
  }

  #forgotten(to: Lsn | undefined): void {
    if (to !== undefined) this.#undo = { from: lsnPlus(to, 1), to: this.#undo.to }
  }

  #forgetLater(): void {
    if (this.#forgetDelay !== undefined || this.#forgettable() === undefined) return
    this.#forgetDelay = this.#options.timers.after(forgetDelayMs, () => {
      this.#forgetDelay = undefined
      this.#start()
    })
  }

  async #forgetUndo(): Promise<void> {
    const forgetUndoTo = this.#forgettable()
    if (forgetUndoTo === undefined) return
    await this.#store.write({ writes: [], forgetUndoTo })
    this.#forgotten(forgetUndoTo)
  }

  #turn(): Promise<void> {
    return new Promise((resolve) => this.#options.timers.soon(resolve))
  }

  #wakeWaiters(): void {
    if (this.#waiters.length === 0) return
    const due = this.#waiters.filter(({ lsn }) => lsn <= this.#applied.lsn)
    this.#waiters = this.#waiters.filter(({ lsn }) => lsn > this.#applied.lsn)
    for (const { resolve } of due) resolve()
  }

  #rejectWaiters(error: CoterieError): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const { reject } of waiters) reject(error)
  }

  #fail(thrown: unknown): void {
    if (this.#failure !== undefined) return
    this.#failure =
      thrown instanceof CoterieError
        ? thrown
        : new CoterieError('STORE_FAILED', `records could not be applied: ${asError(thrown).message}`, {
            cause: thrown,
            details: { broken: thrown instanceof AssertionFailure },
          })
    this.#stopTimers()
    this.#clearQueue()
    this.#rejectWaiters(this.#failure)
    this.#options.onFailed(this.#failure)
  }
}

function follows(batch: RecordBatch, tail: RecordBatch): boolean {
  return batch.firstLsn === tail.lastLsn + 1 && chainsTo(batch, tail.last)
}

function chainsTo(batch: RecordBatch, place: RecordPlace): boolean {
  return batch.previous.lsn === place.lsn && batch.previous.crc === place.crc
}

/** Where the record `lsn` starts. */
function startOf({ bytes, firstLsn }: RecordBatch, lsn: Lsn): number {
  let at = 0
  for (let here: number = firstLsn; here < lsn; here++) at += readU32(bytes, at + recordField.length)
  return at
}

/** Where `count` writes from `start` on end, or `end`. Lengths that make no sense are left to `eachWrite`. */
function afterWrites(bytes: Uint8Array, range: { start: number; end: number; count: number }): number {
  const { start, end, count } = range
  let at = start
  for (let left = count; left > 0 && at < end; left--) {
    const keyBytes = (bytes[at + 1] as number) | ((bytes[at + 2] as number) << 8)
    if (bytes[at] === writeOp.put) at += 7 + keyBytes + readU32(bytes, at + 3)
    else if (bytes[at] === writeOp.del) at += 3 + keyBytes
    else return end
  }
  return Math.min(at, end)
}

function abortedError(signal: AbortSignal): CoterieError {
  return new CoterieError('ABORTED', 'the wait was aborted', { cause: signal.reason })
}

function closedError(): CoterieError {
  return new CoterieError('CLOSED', 'the database is closed')
}
