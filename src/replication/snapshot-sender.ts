// The side of a snapshot that gives it: reads rows through the driver, sends them in chunks within a window, and keeps the
// chunks that are not stored yet, because an iterator cannot go back. docs/protocol.md, section "Snapshot".

import { assert } from '../base/assert.ts'
import type { RecordPlace } from '../base/batch.ts'
import { crc32 } from '../base/checksum.ts'
import { entryAt, historyUpTo } from '../base/history.ts'
import { type Lsn, noLsn } from '../base/lsn.ts'
import type { PeerId, ServeSettings, SnapshotResume } from './core-options.ts'
import type { CoreState } from './core-state.ts'
import { bulkHints } from './effects.ts'
import type { SnapshotAck, SnapshotBegin } from './messages.ts'
import type { Served } from './served.ts'
import { backOff, type Retry, startRetry } from './timings.ts'

/** Chunks that are sent again at one time, so that a slow replica is not flooded with what it has. */
const resendMax = 8

interface Chunk {
  readonly index: number
  readonly bytes: Uint8Array
  readonly count: number
  readonly crc: number
  sentAt: number
}

/** What the driver read of the store; the last answer has `done`, and may have rows too. */
export interface SnapshotRowsAnswer {
  readonly bytes: Uint8Array
  readonly count: number
  readonly done: boolean
}

/** The replica that takes the snapshot, as its master sees it (progress.ts). */
export interface SnapshotTaker {
  readonly peer: PeerId
  readonly session: number
  readonly congested: boolean
  readonly agreedLsn: Lsn
  retainLsn: Lsn
  bytesOut: number
}

export interface SnapshotSenderOptions {
  readonly state: CoreState
  readonly served: Served
  readonly progress: SnapshotTaker
  readonly settings: () => ServeSettings
  readonly resume: SnapshotResume | undefined
}

export class SnapshotSender {
  readonly #state: CoreState
  readonly #served: Served
  readonly #progress: SnapshotTaker
  readonly #settings: () => ServeSettings
  #resume: SnapshotResume | undefined
  /**
   * waiting: for the store to have what the replica has; held: until the rows may be given; opened: for the replica's
   * staging to be ready.
   */
  #phase: 'waiting' | 'opening' | 'held' | 'opened' | 'sending' | 'sent' = 'waiting'
  #begin: SnapshotBegin | undefined
  /** Invariant: sent and not stored, by index without a hole. */
  #chunks: Chunk[] = []
  #unstoredBytes = 0
  #nextIndex = 1
  #receivedIndex = 0
  #reading = false
  #storeIsOpen = false
  #readNotBefore = 0
  #retry: Retry
  #movedAt: number
  rows = 0
  bytes = 0
  rowsEstimate = 0

  constructor(options: SnapshotSenderOptions) {
    const { state, progress, resume } = options
    this.#state = state
    this.#served = options.served
    this.#progress = progress
    this.#settings = options.settings
    // The rows of the first part are of no use to a store that is older than they are.
    this.#resume = resume !== undefined && resume.newest.lsn <= state.appliedLsn ? resume : undefined
    this.#retry = startRetry(options.served.timings, state.now)
    this.#movedAt = state.now
    progress.retainLsn = ((this.#resume?.base.lsn ?? state.appliedLsn) + 1) as Lsn
    this.openIfReady()
  }

  /** Where the log goes on after the snapshot; undefined until it is open. */
  get base(): RecordPlace | undefined {
    return this.#begin?.base
  }

  /** A replica must not go back behind what it shares with us, so our store must have got there. */
  openIfReady(): void {
    if (this.#phase !== 'waiting') return
    const state = this.#state
    if (state.appliedLsn < Math.min(this.#progress.agreedLsn, state.committedLsn)) return
    if (state.appliedLsn < state.readableLsn) return
    this.#phase = 'opening'
    this.#storeIsOpen = true
    state.emit({ kind: 'snapshotOpen', peer: this.#progress.peer, afterKey: this.#resume?.afterKey })
  }

  opened(place: RecordPlace, rowsEstimate: number): void {
    assert(this.#phase === 'opening', 'a snapshot is opened once')
    const state = this.#state
    assert(place.lsn <= state.last.lsn, 'a store holds records of its log')
    assert((entryAt(state.history, place.lsn)?.term ?? 0) === place.term, 'a store is of this history')
    const base = this.#resume?.base ?? place
    assert(base.lsn <= place.lsn, 'rows are at least as new as the base')
    // Invariant: what the rows are said to be of is the newest of all their parts.
    assert((this.#resume?.newest.lsn ?? noLsn) <= place.lsn, 'rows are at least as new as the part before')
    // Invariant 12: the log from the base on stays until the replica has it.
    assert(state.firstLsn <= base.lsn + 1, 'the log reaches back to the snapshot')
    this.#progress.retainLsn = (base.lsn + 1) as Lsn
    this.rowsEstimate = rowsEstimate
    this.#begin = {
      type: 'snapshotBegin',
      session: this.#progress.session,
      term: state.term,
      base,
      snapshotLsn: place.lsn,
      snapshotReign: this.#resume === undefined ? undefined : entryAt(state.history, place.lsn),
      history: historyUpTo(state.history, base.lsn),
      rowsEstimate,
      resumed: this.#resume !== undefined,
    }
    this.#phase = 'held'
    this.#resume = undefined
    this.beginIfServed()
  }

  /** Rows are given once the record that they are of is one that is served. */
  beginIfServed(): void {
    const rowsLsn = this.#begin?.snapshotLsn ?? noLsn
    if (this.#phase !== 'held' || rowsLsn > this.#served.last.lsn) return
    this.#phase = 'opened'
    this.#restart()
    this.#sendBegin()
  }

  gotRows(answer: SnapshotRowsAnswer): void {
    assert(this.#phase === 'sending' && this.#reading, 'rows come when they were asked for')
    const { now } = this.#state
    this.#reading = false
    if (answer.count > 0) {
      const { bytes, count } = answer
      const chunk: Chunk = { index: this.#nextIndex, bytes, count, crc: crc32(bytes), sentAt: now }
      this.#nextIndex++
      this.#chunks.push(chunk)
      this.#unstoredBytes += bytes.length
      this.rows += count
      this.bytes += bytes.length
      this.#sendChunk(chunk)
      this.#readNotBefore = now + this.#settings().chunkDelayMs
    } else {
      assert(answer.done && answer.bytes.length === 0, 'an answer without rows is the last')
    }
    if (answer.done) {
      this.close()
      this.#phase = 'sent'
      this.#sendEnd()
    } else {
      this.readMore()
    }
  }

  /** Asks for more rows if the window has room. */
  readMore(): void {
    const { now } = this.#state
    const { timings } = this.#served
    if (this.#phase !== 'sending' || this.#reading || this.#progress.congested) return
    if (now < this.#readNotBefore) return
    if (this.#chunks.length >= timings.snapshotWindowChunksMax) return
    const { chunkRecords, chunkBytes } = this.#settings()
    const hasRoom = this.#unstoredBytes + chunkBytes <= timings.snapshotWindowBytesMax
    if (!hasRoom && this.#chunks.length > 0) return
    this.#reading = true
    this.#state.emit({
      kind: 'snapshotRead',
      peer: this.#progress.peer,
      recordsMax: chunkRecords,
      bytesMax: chunkBytes,
    })
  }

  acked(ack: SnapshotAck): void {
    if (!this.hasBegun || ack.receivedIndex >= this.#nextIndex) return
    if (this.#phase === 'opened') {
      this.#phase = 'sending'
      this.#restart()
    }
    if (ack.receivedIndex > this.#receivedIndex) {
      this.#receivedIndex = ack.receivedIndex
      this.#restart()
    }
    let stored = 0
    while (stored < this.#chunks.length && (this.#chunks[stored] as Chunk).index <= ack.storedIndex) {
      this.#unstoredBytes -= (this.#chunks[stored] as Chunk).bytes.length
      stored++
    }
    if (stored > 0) {
      this.#chunks.splice(0, stored)
      this.#restart()
    }
    this.readMore()
  }

  /** The replica has been told of it. */
  get hasBegun(): boolean {
    return this.#phase === 'opened' || this.#phase === 'sending' || this.#phase === 'sent'
  }

  /** Sends again what may be lost. Returns true if the replica has taken nothing for too long. */
  tick(): boolean {
    const { now } = this.#state
    const { timings } = this.#served
    this.openIfReady()
    this.beginIfServed()
    this.readMore()
    const waits = this.#phase === 'opened' || this.#chunks.length > 0 || this.#phase === 'sent'
    if (!waits || this.#progress.congested) return false
    if (now >= this.#retry.dueAt) {
      this.#sendAgain()
      backOff(this.#retry, timings, now)
    }
    return this.#chunks.length > 0 && now - this.#movedAt > timings.snapshotTimeoutMs
  }

  /** Ends the reading of the store. */
  close(): void {
    if (!this.#storeIsOpen) return
    this.#storeIsOpen = false
    this.#state.emit({ kind: 'snapshotClose', peer: this.#progress.peer })
  }

  #restart(): void {
    this.#retry = startRetry(this.#served.timings, this.#state.now)
    this.#movedAt = this.#state.now
  }

  #sendAgain(): void {
    const { now, counters } = this.#state
    if (this.#phase === 'opened') this.#sendBegin()
    let left = resendMax
    for (const chunk of this.#chunks) {
      if (left === 0) break
      if (chunk.index <= this.#receivedIndex || now - chunk.sentAt < this.#retry.waitMs) continue
      chunk.sentAt = now
      counters.snapshotChunksResent++
      this.#sendChunk(chunk)
      left--
    }
    if (this.#phase === 'sent') this.#sendEnd()
  }

  #sendBegin(): void {
    assert(this.#begin !== undefined, 'a snapshot that has begun has a beginning')
    this.#state.send(this.#progress.peer, { ...this.#begin, term: this.#state.term })
  }

  #sendChunk(chunk: Chunk): void {
    const { peer, session } = this.#progress
    this.#progress.bytesOut += chunk.bytes.length
    this.#state.counters.snapshotChunks++
    this.#state.sendBulk(
      peer,
      {
        type: 'snapshotRows',
        session,
        term: this.#state.term,
        index: chunk.index,
        count: chunk.count,
        crc: chunk.crc,
      },
      chunk.bytes,
      bulkHints,
    )
  }

  #sendEnd(): void {
    const { peer, session } = this.#progress
    const chunks = this.#nextIndex - 1
    this.#state.send(peer, { type: 'snapshotEnd', session, term: this.#state.term, chunks, rows: this.rows })
  }

  checkInvariants(): void {
    let bytes = 0
    let index = this.#nextIndex - this.#chunks.length
    for (const chunk of this.#chunks) {
      assert(chunk.index === index, 'chunks that are not stored have no hole')
      bytes += chunk.bytes.length
      index++
    }
    assert(bytes === this.#unstoredBytes, 'bytes that are not stored add up')
  }
}
