// One segment file of an open log, as this process knows it: where its records end, and a sparse index of them.
//
// The last segment of a log is held open for writing; the others are opened for each read. Reads are counted, so
// that a file is renamed, replaced or closed only when nobody is in it: a recycled file would otherwise look
// like damage to a reader, and a closed descriptor could already be another file.

import { assert } from '../base/assert.ts'
import type { RecordPlace } from '../base/batch.ts'
import { type Lsn, lsnPlus } from '../base/lsn.ts'
import type { Files, OpenFile } from '../env/host.ts'
import { segmentMarkSeed } from './record-format.ts'

/** Records are at most this far apart in the index, plus one record. */
const indexStepBytes = 65_536

export interface IndexEntry {
  /** The record before the one at `offset`. */
  readonly previous: RecordPlace
  /** Where the entry of record `previous.lsn + 1` starts, or marks before it. */
  readonly offset: number
}

export interface SegmentOptions {
  readonly path: string
  readonly databaseId: string
  readonly previous: RecordPlace
  readonly headerBytes: number
  /** Records end at or before this. */
  readonly capacityBytes: number
  /** How far the file is written: with zeros, or with what is stale. */
  readonly fileBytes: number
  /** Up to here the file may hold bytes of its former use. */
  readonly staleBytes: number
}

export class Segment {
  readonly path: string
  readonly previous: RecordPlace
  readonly headerBytes: number
  readonly markSeed: number
  capacityBytes: number
  readonly staleBytes: number
  /** Invariant: headerBytes <= dataEnd <= capacityBytes; what precedes it are whole entries, written. */
  dataEnd: number
  fileBytes: number
  /** The last record before `dataEnd`. */
  last: RecordPlace

  readonly #index: IndexEntry[]
  #file: OpenFile | undefined
  #readers = 0
  #whenUnread: (() => void)[] = []

  constructor(options: SegmentOptions) {
    this.path = options.path
    this.previous = options.previous
    this.headerBytes = options.headerBytes
    this.markSeed = segmentMarkSeed(options.databaseId, lsnPlus(options.previous.lsn, 1))
    this.capacityBytes = options.capacityBytes
    this.fileBytes = options.fileBytes
    this.staleBytes = options.staleBytes
    this.dataEnd = options.headerBytes
    this.last = options.previous
    this.#index = [{ previous: options.previous, offset: options.headerBytes }]
  }

  get firstLsn(): Lsn {
    return lsnPlus(this.previous.lsn, 1)
  }

  get isEmpty(): boolean {
    return this.last.lsn === this.previous.lsn
  }

  /** The file open for writing. */
  get file(): OpenFile {
    assert(this.#file !== undefined, 'only the last segment is written to')
    return this.#file
  }

  attach(file: OpenFile): void {
    assert(this.#file === undefined, 'a segment has one writer')
    this.#file = file
  }

  /** Closes the writer's file, when the reads under way are done. */
  async detach(): Promise<void> {
    const file = this.#file
    if (file === undefined) return
    this.#file = undefined
    await this.whenUnread()
    await file.close()
  }

  /** Runs `use` on the file, which stays where it is until `use` is done. */
  async read<T>(files: Files, use: (file: OpenFile) => Promise<T>): Promise<T> {
    this.#readers++
    try {
      const shared = this.#file
      if (shared !== undefined) return await use(shared)
      const own = await files.open(this.path, 'read')
      try {
        return await use(own)
      } finally {
        await own.close()
      }
    } finally {
      this.#readers--
      if (this.#readers === 0) for (const resolve of this.#whenUnread.splice(0)) resolve()
    }
  }

  async whenUnread(): Promise<void> {
    while (this.#readers > 0) await new Promise<void>((resolve) => this.#whenUnread.push(resolve))
  }

  /** True if a record at `offset` is far enough from the last one indexed. */
  wantsIndex(offset: number): boolean {
    const last = this.#index[this.#index.length - 1] as IndexEntry
    return offset - last.offset >= indexStepBytes
  }

  addIndex(entry: IndexEntry): void {
    this.#index.push(entry)
  }

  /** The nearest entry at or before the record `lsn`. */
  findIndex(lsn: Lsn): IndexEntry {
    let low = 0
    let high = this.#index.length - 1
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if ((this.#index[middle] as IndexEntry).previous.lsn < lsn) low = middle
      else high = middle - 1
    }
    return this.#index[low] as IndexEntry
  }

  /** Index entries for records up to `lsn`, for the segment's copy that ends there. */
  indexUpTo(lsn: Lsn): readonly IndexEntry[] {
    return this.#index.slice(1).filter((entry) => entry.previous.lsn < lsn)
  }
}
