// Group commit: one write and one sync at a time, and whatever gathers meanwhile goes into the next.
//
// The way of a flush is plan, fill, write, sync, land; each step starts from the callback of the one before,
// since a promise per write costs a third of the rate. Failures are of two kinds. No space, where nothing is in
// doubt: the same step is tried again every 500 ms, and nothing is lost meanwhile. Anything else, a failed sync
// above all: the log is poisoned, for good - what the disk holds is unknown, and only a reopen that verifies it
// may go on.

import { assert } from '../base/assert.ts'
import type { RecordBatch, RecordPlace } from '../base/batch.ts'
import { concatBytes } from '../base/bytes.ts'
import { asError, CoterieError } from '../base/errors.ts'
import { historyUpTo } from '../base/history.ts'
import { type Lsn, lsnPlus, noLsn } from '../base/lsn.ts'
import type { Host, Timer } from '../env/host.ts'
import { recordBytesAt, takeRecords } from './batch-slice.ts'
import { isDiskFull, toLogError, zeroParts } from './file-io.ts'
import { fillBytesMin, type LogFolder } from './log-folder.ts'
import { type LogState, withMembershipsOf, withReignsOf } from './log-state.ts'
import { encodeMark, markBytes, placeAt, readU32, recordField, samePlace } from './record-format.ts'
import type { Segment } from './segment.ts'

/** One write takes no more than this, so that records become durable at a steady pace. */
const flushBytesMax = 8_388_608
const fillBytesMax = 4_194_304
/** More parts than this are copied into one: the system call would cost more than the copy. */
const partsMax = 32
const retryMs = 500
const idleMs = 50

const terminator = new Uint8Array(markBytes)

export interface LogWriterEvents {
  /** The operating system has the records up to here; they outlive the process, not yet the machine. */
  written(writtenLsn: Lsn): void
  durable(durableLsn: Lsn): void
  poisoned(error: CoterieError): void
  stalled(error: CoterieError): void
  resumed(): void
}

export interface LogWriterOptions {
  readonly host: Pick<Host, 'timers' | 'clock'>
  readonly folder: LogFolder
  readonly state: LogState
  /** What the last mark in the log attests. */
  readonly markedLsn: Lsn
  readonly events: LogWriterEvents
}

/** What is on its way to the disk. Invariant: it stays the same until it is durable. */
interface Flush {
  readonly segment: Segment
  readonly mark: Uint8Array | undefined
  readonly batches: readonly RecordBatch[]
  /** Of the records, without the mark. */
  readonly recordBytes: number
}

interface Waiter {
  readonly lsn: Lsn
  readonly resolve: () => void
  readonly reject: (error: CoterieError) => void
}

export class LogWriter {
  readonly #host: Pick<Host, 'timers' | 'clock'>
  readonly #folder: LogFolder
  readonly #state: LogState
  readonly #events: LogWriterEvents
  /** What was appended and is not in a flush. */
  #queue: RecordBatch[] = []
  #pendingBytes = 0
  #markedLsn: Lsn
  /** What the owner was told; a host that calls back at once may land a later flush first. */
  #reportedLsn: Lsn = noLsn
  #fillBytes = fillBytesMin
  /** Invariant: at most one operation on the last segment is under way, and only while this is true. */
  #busy = false
  #held = false
  #stalled: { readonly retry: () => void; readonly timer: Timer; readonly error: CoterieError } | undefined
  #isStalled = false
  #poison: CoterieError | undefined
  #idleTimer: Timer | undefined
  #waiters: Waiter[] = []
  #whenSettled: (() => void)[] = []
  #closed = false

  constructor(options: LogWriterOptions) {
    this.#host = options.host
    this.#folder = options.folder
    this.#state = options.state
    this.#markedLsn = options.markedLsn
    this.#events = options.events
    this.#expectIdle()
  }

  get pendingBytes(): number {
    return this.#pendingBytes
  }

  get poison(): CoterieError | undefined {
    return this.#poison
  }

  get isStalled(): boolean {
    return this.#isStalled
  }

  append(batch: RecordBatch): void {
    if (this.#poison !== undefined) throw this.#poison
    if (this.#closed) throw closedError()
    const state = this.#state
    assert(!this.#held, 'nothing is appended while the log is truncated')
    assert(samePlace(batch.previous, state.last), 'a batch follows the last record of the log')
    assert(batch.bytes.length > 0 && batch.firstLsn === lsnPlus(state.last.lsn, 1), 'a batch holds records')
    state.history = withReignsOf(state.history, batch)
    state.memberships = withMembershipsOf(state.memberships, batch)
    state.last = batch.last
    state.tail.push(batch)
    this.#queue.push(batch)
    this.#pendingBytes += batch.bytes.length
    this.#pump()
  }

  whenDurable(lsn: Lsn): Promise<void> {
    if (lsn <= this.#state.durableLsn) return Promise.resolve()
    if (this.#poison !== undefined) return Promise.reject(this.#poison)
    if (this.#closed) return Promise.reject(closedError())
    return new Promise((resolve, reject) => {
      this.#waiters.push({ lsn, resolve, reject })
    })
  }

  /** Keeps the writer still, for a change of the segments under it. The caller sees to it that nothing is pending. */
  async hold(): Promise<void> {
    assert(this.#pendingBytes === 0 && !this.#held, 'the log is truncated while nothing is pending')
    this.#held = true
    await this.#settled()
    if (this.#poison !== undefined) throw this.#poison
  }

  /** After a truncation the last mark may attest what is no longer there. */
  release(): void {
    this.#held = false
    this.#markedLsn = noLsn
    this.#reportedLsn = noLsn
    this.#expectIdle()
    this.#pump()
  }

  /** The log can no longer be trusted: nothing after this becomes durable. */
  poisonBy(thrown: unknown): void {
    if (this.#poison !== undefined) return
    const cause = asError(thrown)
    const message = `the log failed and is no longer written: ${cause.message}`
    const error = new CoterieError('LOG_POISONED', message, { cause })
    this.#poison = error
    this.#busy = false
    this.#idleTimer?.cancel()
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error)
    this.#settle()
    this.#events.poisoned(error)
  }

  /** Writes and syncs what is pending, and a last mark. Rejects if that fails, or if the disk is full. */
  async close(): Promise<void> {
    this.#closed = true
    this.#idleTimer?.cancel()
    const wasPoisoned = this.#poison !== undefined
    const stalled = this.#stalled
    if (stalled !== undefined) {
      stalled.timer.cancel()
      this.#stalled = undefined
      stalled.retry()
    }
    await this.#settled()
    const stalledNow = this.#stalled as { readonly timer: Timer; readonly error: CoterieError } | undefined
    stalledNow?.timer.cancel()
    if (this.#poison === undefined && stalledNow === undefined) {
      await new Promise<void>((resolve) => {
        this.#whenSettled.push(resolve)
        this.#writeMark({ sync: true })
      })
    }
    for (const waiter of this.#waiters.splice(0)) waiter.reject(closedError())
    await this.#state.active.detach()
    if (this.#poison !== undefined && !wasPoisoned) throw this.#poison
    if (stalledNow !== undefined) throw stalledNow.error
  }

  /** Resolves when nothing is under way and nothing waits, or when nothing will move: poisoned or stalled. */
  async #settled(): Promise<void> {
    if (!this.#busy || this.#poison !== undefined || this.#stalled !== undefined) return
    await new Promise<void>((resolve) => this.#whenSettled.push(resolve))
  }

  #settle(): void {
    for (const resolve of this.#whenSettled.splice(0)) resolve()
  }

  /** Starts a flush if none is under way and there is something to write. */
  #pump(): void {
    if (this.#busy || this.#poison !== undefined) return
    if (this.#queue.length > 0) {
      this.#busy = true
      this.#plan()
    } else {
      this.#expectIdle()
      this.#settle()
    }
  }

  #plan(): void {
    if (this.#poison !== undefined) return
    const segment = this.#state.active
    const flush = this.#gather(segment)
    if (flush !== undefined) {
      this.#fill(flush)
    } else if (segment.isEmpty) {
      // The first record is larger than a segment: this one grows, since the next would have the same name.
      segment.capacityBytes = segment.dataEnd + this.#firstRecordBytes() + 2 * markBytes
      this.#plan()
    } else {
      this.#rollOver()
    }
  }

  #firstRecordBytes(): number {
    const first = this.#queue[0]
    assert(first !== undefined, 'a flush is planned when something is queued')
    return recordBytesAt(first, first.firstLsn)
  }

  /** As many records as the segment and the bound take; undefined if not even one fits into the segment. */
  #gather(segment: Segment): Flush | undefined {
    const { durableLsn } = this.#state
    const isMarked = durableLsn > this.#markedLsn
    const room = segment.capacityBytes - segment.dataEnd - (isMarked ? markBytes : 0)
    const batches: RecordBatch[] = []
    let recordBytes = 0
    let taken = 0
    for (const batch of this.#queue) {
      if (recordBytes >= flushBytesMax) break
      const bytesMax = room - recordBytes
      const part = takeRecords(batch, { from: batch.firstLsn, to: batch.lastLsn, bytesMax })
      if (part === undefined) break
      batches.push(part)
      recordBytes += part.bytes.length
      if (part !== batch) {
        const from = lsnPlus(part.lastLsn, 1)
        const rest = takeRecords(batch, { from, to: batch.lastLsn, bytesMax: batch.bytes.length })
        assert(rest !== undefined, 'what does not fit into a segment is left for the next')
        this.#queue[taken] = rest
        break
      }
      taken++
    }
    if (batches.length === 0) return undefined
    if (taken > 0) this.#queue = this.#queue.slice(taken)
    return { segment, mark: isMarked ? this.#mark(segment) : undefined, batches, recordBytes }
  }

  /** Zero-fills the file ahead of the data, so that most syncs have no metadata to write. */
  #fill(flush: Flush, step: number = this.#fillBytes): void {
    const { segment } = flush
    const neededEnd = segment.dataEnd + (flush.mark?.length ?? 0) + flush.recordBytes
    if (neededEnd <= segment.fileBytes) {
      this.#write(flush)
      return
    }
    const ahead = Math.max(segment.fileBytes + step, neededEnd + markBytes)
    const end = step === 0 ? neededEnd : Math.max(neededEnd, Math.min(ahead, segment.capacityBytes))
    segment.file.write(zeroParts(end - segment.fileBytes), segment.fileBytes, (error) => {
      if (error === null) {
        segment.fileBytes = end
        this.#fillBytes = Math.min(this.#fillBytes * 2, fillBytesMax)
        this.#resumed()
        this.#write(flush)
      } else if (isDiskFull(error) && end > neededEnd) {
        this.#fill(flush, 0)
      } else {
        this.#failed(error, () => this.#fill(flush, 0))
      }
    })
  }

  #write(flush: Flush): void {
    if (this.#poison !== undefined) return
    const { segment, mark, batches, recordBytes } = flush
    const parts = batches.map((batch) => batch.bytes)
    if (mark !== undefined) parts.unshift(mark)
    const end = segment.dataEnd + (mark?.length ?? 0) + recordBytes
    const termination = terminationAt(segment, end)
    if (termination !== undefined) parts.push(termination)
    segment.file.write(parts.length > partsMax ? [concatBytes(parts)] : parts, segment.dataEnd, (error) => {
      if (error === null) {
        this.#resumed()
        this.#sync(flush)
        this.#events.written((flush.batches.at(-1) as RecordBatch).lastLsn)
      } else {
        this.#failed(error, () => this.#write(flush))
      }
    })
  }

  #sync(flush: Flush): void {
    if (this.#poison !== undefined) return
    flush.segment.file.sync((error) => {
      if (error === null) this.#land(flush)
      else this.poisonBy(error)
    })
  }

  /** The flush is durable. */
  #land(flush: Flush): void {
    if (this.#poison !== undefined) return
    const state = this.#state
    const { segment, batches } = flush
    if (flush.mark !== undefined) {
      this.#markedLsn = state.durableLsn
      segment.dataEnd += flush.mark.length
    }
    for (const batch of batches) {
      indexBatch(segment, batch)
      segment.dataEnd += batch.bytes.length
      segment.last = batch.last
    }
    assert(segment.last.lsn > state.durableLsn, 'the durable LSN grows')
    const durableLsn = segment.last.lsn
    state.durableLsn = durableLsn
    this.#pendingBytes -= flush.recordBytes
    state.tail.evict(durableLsn)
    this.#busy = false
    // The disk gets its next work first; then the owner and the waiters hear of this one.
    this.#pump()
    if (durableLsn <= this.#reportedLsn) return
    this.#reportedLsn = durableLsn
    this.#events.durable(durableLsn)
    if (this.#waiters.length > 0) this.#wake(durableLsn)
  }

  #wake(durableLsn: Lsn): void {
    const waiting: Waiter[] = []
    for (const waiter of this.#waiters) {
      if (waiter.lsn <= durableLsn) waiter.resolve()
      else waiting.push(waiter)
    }
    this.#waiters = waiting
  }

  /** Goes on in a new segment. All that the old one holds is durable: each flush ended with a sync. */
  #rollOver(): void {
    const state = this.#state
    const full = state.active
    assert(!full.isEmpty, 'two segments never begin with the same record')
    assert(full.last.lsn === state.durableLsn, 'a segment is durable before the next one begins')
    const history = historyUpTo(state.history, full.last.lsn)
    const recordBytes = this.#firstRecordBytes()
    this.#folder.create({ previous: full.last, history, recordBytes }).then(
      (segment) => {
        state.segments.push(segment)
        this.#resumed()
        // Reads under way may go on in the old file; its close is not waited for, but its failure is not hidden.
        full.detach().catch((error: unknown) => this.poisonBy(error))
        this.#plan()
      },
      (error: unknown) => this.#failed(error, () => this.#rollOver()),
    )
  }

  /** Marks what is durable when nothing else will come by to do so. */
  #expectIdle(): void {
    if (this.#idleTimer !== undefined || this.#closed || !this.#canMark()) return
    this.#idleTimer = this.#host.timers.after(idleMs, () => {
      this.#idleTimer = undefined
      if (!this.#busy && !this.#held && !this.#closed && this.#poison === undefined) {
        this.#writeMark({ sync: false })
      }
    })
  }

  #canMark(): boolean {
    const { active, durableLsn } = this.#state
    return durableLsn > this.#markedLsn && active.dataEnd + markBytes <= active.fileBytes
  }

  #writeMark(options: { readonly sync: boolean }): void {
    if (!this.#canMark()) {
      this.#settle()
      return
    }
    const { active, durableLsn } = this.#state
    const mark = this.#mark(active)
    const termination = terminationAt(active, active.dataEnd + mark.length)
    const done = (error: Error | null, isSync: boolean): void => {
      if (this.#poison !== undefined) return
      if (error === null) {
        active.dataEnd += mark.length
        this.#markedLsn = durableLsn
      } else if (isSync || !isDiskFull(error)) {
        this.poisonBy(error)
        return
      }
      // On a full disk a mark can wait: nothing depends on it, and the next write takes its place.
      this.#busy = false
      if (this.#queue.length === 0) this.#settle()
      else this.#pump()
    }
    this.#busy = true
    active.file.write(termination === undefined ? [mark] : [mark, termination], active.dataEnd, (error) => {
      if (error === null && options.sync) active.file.sync((failure) => done(failure, true))
      else done(error, false)
    })
  }

  #mark(segment: Segment): Uint8Array {
    return encodeMark({
      durableLsn: this.#state.durableLsn,
      markSeed: segment.markSeed,
      wallMs: this.#host.clock.wall(),
    })
  }

  #failed(thrown: unknown, retry: () => void): void {
    if (!isDiskFull(thrown)) {
      this.poisonBy(thrown)
      return
    }
    const error = toLogError(thrown, 'the log cannot grow')
    const again = (): void => {
      this.#stalled = undefined
      retry()
    }
    const wasStalled = this.#isStalled
    this.#isStalled = true
    this.#stalled = { retry, timer: this.#host.timers.after(retryMs, again), error }
    this.#settle()
    if (!wasStalled) this.#events.stalled(error)
  }

  #resumed(): void {
    if (!this.#isStalled) return
    this.#isStalled = false
    this.#events.resumed()
  }
}

/** Zeros behind the data, where otherwise stale bytes would stand: so the end of a recycled file looks like one. */
function terminationAt(segment: Segment, end: number): Uint8Array | undefined {
  const room = Math.min(segment.staleBytes - end, terminator.length)
  return room > 0 ? terminator.subarray(0, room) : undefined
}

/** Index entries for a batch that stands at the segment's `dataEnd`. */
function indexBatch(segment: Segment, batch: RecordBatch): void {
  const start = segment.dataEnd
  if (!segment.wantsIndex(start + batch.bytes.length)) return
  let previous: RecordPlace = batch.previous
  let at = 0
  while (at < batch.bytes.length) {
    if (segment.wantsIndex(start + at)) segment.addIndex({ previous, offset: start + at })
    previous = placeAt(batch.bytes, at)
    at += readU32(batch.bytes, at + recordField.length)
  }
}

function closedError(): CoterieError {
  return new CoterieError('CLOSED', 'the log is closed')
}
