// The flow of records from whoever serves to its replicas. A replica that is in step gets each batch when it is proposed;
// one that is not gets older records, from memory where they are recent, from the log else, within its window.
// Nothing is buffered for a slow replica: it falls behind and is read for when it has room again.

import { assert } from '../base/assert.ts'
import type { RecordBatch } from '../base/batch.ts'
import type { ErrorCode } from '../base/errors.ts'
import { type Lsn, lsnPlus } from '../base/lsn.ts'
import type { ServeSettings } from './core-options.ts'
import type { CoreState } from './core-state.ts'
import type { GapRequest } from './messages.ts'
import type { Progress } from './progress.ts'
import { RecentRecords } from './recent-records.ts'
import type { Served } from './served.ts'

/** What the driver read of the log for a replica; `batch` undefined: nothing can be read there yet. */
export type LogReadAnswer =
  | { readonly batch: RecordBatch | undefined }
  | { readonly error: 'trimmed' | 'failed'; readonly cause?: unknown }

export class Feed {
  readonly #state: CoreState
  readonly #served: Served
  readonly #settings: () => ServeSettings
  #recent: RecentRecords

  constructor(state: CoreState, served: Served, settings: () => ServeSettings) {
    this.#state = state
    this.#served = served
    this.#settings = settings
    this.#recent = this.#noRecords()
  }

  #noRecords(): RecentRecords {
    const { recentBytesMax, recentBatchesMax } = this.#served.timings
    return new RecentRecords({ bytesMax: recentBytesMax, batchesMax: recentBatchesMax })
  }

  /** The hot path: one Append for each replica in step. */
  proposed(batch: RecordBatch, replicas: Iterable<Progress>, ackNow: boolean): void {
    this.#recent.add(batch)
    const { inflightBytesMax } = this.#served.timings
    for (const progress of replicas) {
      if (progress.state !== 'live') continue
      if (progress.congested || !progress.hasRoom(batch.bytes.length, inflightBytesMax)) {
        progress.state = 'catchUp'
      } else {
        this.#send(progress, batch, ackNow)
      }
    }
  }

  /** The log here has grown by what may not be sent yet; `advanced` says when it may. */
  logged(batch: RecordBatch): void {
    this.#recent.add(batch)
  }

  /** The log here is another one now, or ends earlier. */
  forget(): void {
    this.#recent = this.#noRecords()
  }

  /** More of the log may be sent than before: those in step get it at once. */
  advanced(replicas: Iterable<Progress>): void {
    for (const progress of replicas) {
      if (progress.state === 'live') this.#goOn(progress)
    }
  }

  #goOn(progress: Progress): void {
    const { inflightBytesMax } = this.#served.timings
    while (progress.sentLsn < this.#served.last.lsn) {
      const batch = this.#recentFrom(lsnPlus(progress.sentLsn, 1))
      if (
        batch === undefined ||
        progress.congested ||
        !progress.hasRoom(batch.bytes.length, inflightBytesMax)
      ) {
        progress.state = 'catchUp'
        this.pump(progress)
        return
      }
      this.#send(progress, batch, false)
    }
  }

  /** Sends what the replica lacks and has room for; asks the log for what is no longer in memory. */
  pump(progress: Progress): void {
    if (progress.congested || (progress.state !== 'live' && progress.state !== 'catchUp')) return
    this.#repair(progress)
    if (progress.state === 'live') return
    const { inflightBytesMax, readBytesMax } = this.#served.timings
    const lastLsn = this.#served.last.lsn
    while (progress.sentLsn < lastLsn) {
      const next = lsnPlus(progress.sentLsn, 1)
      const batch = this.#recentFrom(next)
      if (batch === undefined) {
        if (progress.hasRoom(readBytesMax, inflightBytesMax)) this.#read(progress, next, lastLsn)
        return
      }
      if (!progress.hasRoom(batch.bytes.length, inflightBytesMax)) return
      this.#send(progress, batch, false)
    }
    progress.state = 'live'
  }

  /** Undefined, or why the replica must be detached. */
  logRead(progress: Progress, answer: LogReadAnswer): ErrorCode | undefined {
    progress.reading = false
    if ('error' in answer) return answer.error === 'trimmed' ? 'LOG_TRIMMED' : 'IO_ERROR'
    const { batch } = answer
    if (batch === undefined) return undefined
    // A gap request may have moved the position while the read was under way.
    const { repair } = progress
    if (repair !== undefined && batch.firstLsn <= repair.from && batch.lastLsn >= repair.from) {
      this.#send(progress, this.#from(batch, repair.from), false)
      this.#repaired(progress, batch.lastLsn)
    } else if (progress.state === 'catchUp') {
      const next = lsnPlus(progress.sentLsn, 1)
      if (batch.firstLsn <= next && batch.lastLsn >= next)
        this.#send(progress, this.#from(batch, next), false)
    }
    this.pump(progress)
    return undefined
  }

  /** The replica misses records. A lost tail is sent again from there on; a hole is filled while the rest flows. */
  gapRequest(progress: Progress, request: GapRequest): void {
    const from = Math.max(request.from, progress.receivedLsn + 1) as Lsn
    if (from > progress.sentLsn || (progress.state !== 'live' && progress.state !== 'catchUp')) return
    this.#state.counters.repairs++
    if (request.to === 0 || request.to >= progress.sentLsn) {
      progress.repair = undefined
      progress.sendAgainAfter(lsnPlus(from, -1))
      progress.state = 'catchUp'
      this.pump(progress)
    } else if (request.to >= from && progress.repair === undefined) {
      progress.repair = { from, to: request.to }
      this.#repair(progress)
    }
  }

  #repair(progress: Progress): void {
    while (progress.repair !== undefined && !progress.congested) {
      const { from, to } = progress.repair
      const batch = this.#recentFrom(from)
      if (batch === undefined) {
        this.#read(progress, from, to)
        return
      }
      this.#send(progress, batch, false)
      this.#repaired(progress, batch.lastLsn)
    }
  }

  #repaired(progress: Progress, lastLsn: Lsn): void {
    const { repair } = progress
    if (repair === undefined) return
    progress.repair = lastLsn >= repair.to ? undefined : { from: lsnPlus(lastLsn, 1), to: repair.to }
  }

  #read(progress: Progress, from: Lsn, to: Lsn): void {
    if (progress.reading) return
    progress.reading = true
    this.#state.counters.logReads++
    this.#state.emit({
      kind: 'readLog',
      peer: progress.peer,
      from,
      to,
      bytesMax: this.#served.timings.readBytesMax,
    })
  }

  #recentFrom(lsn: Lsn): RecordBatch | undefined {
    const batch = this.#recent.find(lsn)
    // Of one that is not to be sent as a whole, the log has the beginning.
    return batch === undefined || batch.lastLsn > this.#served.last.lsn ? undefined : this.#from(batch, lsn)
  }

  #from(batch: RecordBatch, lsn: Lsn): RecordBatch {
    return batch.firstLsn === lsn ? batch : this.#state.codec.dropThrough(batch, lsnPlus(lsn, -1))
  }

  #send(progress: Progress, batch: RecordBatch, ackNow: boolean): void {
    if (this.#settings().bulk || batch.firstLsn === batch.lastLsn) {
      this.#sendMessage(progress, batch, ackNow)
      return
    }
    for (const record of this.#state.codec.split(batch)) {
      // Once a replica has all of it, one ack is enough.
      this.#sendMessage(progress, record, ackNow && record.lastLsn === batch.lastLsn)
    }
  }

  #sendMessage(progress: Progress, batch: RecordBatch, ackNow: boolean): void {
    const state = this.#state
    const { committedLsn, permanentLsn, last } = this.#served
    // Invariant 22: nothing beyond what is served leaves this site.
    assert(batch.lastLsn <= last.lsn, 'only what is served is sent')
    progress.sent(batch.firstLsn, batch.lastLsn, batch.bytes.length)
    progress.toldLsn = committedLsn
    state.counters.appendsSent++
    state.sendBulk(
      progress.peer,
      {
        type: 'append',
        session: progress.session,
        term: state.term,
        previous: batch.previous,
        lastLsn: batch.lastLsn,
        committedLsn,
        permanentLsn,
        ackNow,
      },
      batch.bytes,
      { permanentLsn: batch.lastLsn, bulk: progress.state !== 'live' },
    )
  }
}
