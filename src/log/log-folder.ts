// The folder of a log: names of segment files, and how they come, go and are used again.
//
// A segment gets its name only when its header is on disk: it is prepared under another name, synced, renamed,
// and the folder synced, before the first record goes into it. So after a crash a named segment has a header,
// and a prepared one is left over and of no account. Segments go from the oldest on, or (truncation) from the
// newest on, each with a sync of the folder, so that a crash never leaves a gap.

import type { RecordPlace } from '../base/batch.ts'
import { asError } from '../base/errors.ts'
import type { History } from '../base/history.ts'
import { type Lsn, lsnPlus } from '../base/lsn.ts'
import type { Files, OpenFile } from '../env/host.ts'
import { copyRange, readFully, SyncFailure, syncFile, writeParts, zeroParts } from './file-io.ts'
import { markBytes, recordHeaderBytes } from './record-format.ts'
import { Segment } from './segment.ts'
import {
  claimedHeaderBytes,
  decodeSegmentHeader,
  encodeSegmentHeader,
  type SegmentHeaderResult,
} from './segment-header.ts'

const segmentNamePattern = /^(\d{16})\.seg$/
const spareNamePattern = /^spare-\d+$/
const preparedName = 'prepared'
const sparesMax = 2
const headerBlockBytes = 4096

/** How much a new file is filled with zeros at first; the writer goes on from there. */
export const fillBytesMin = 262_144

export interface SegmentName {
  readonly path: string
  readonly firstLsn: Lsn
}

export interface FolderContent {
  /** In order of LSN. */
  readonly segments: readonly SegmentName[]
  readonly spares: readonly string[]
  /** Files that a crash left half made. */
  readonly leftovers: readonly string[]
}

export interface LogFolderOptions {
  readonly files: Files
  readonly path: string
  readonly databaseId: string
  readonly segmentBytes: number
}

export class LogFolder {
  readonly files: Files
  readonly path: string
  readonly databaseId: string
  readonly segmentBytes: number
  /** Invariant: a spare holds records older than every record of the log. */
  readonly #spares: string[] = []
  #sparesMade = 0

  constructor(options: LogFolderOptions) {
    this.files = options.files
    this.path = options.path
    this.databaseId = options.databaseId
    this.segmentBytes = options.segmentBytes
  }

  segmentPath(firstLsn: Lsn): string {
    return this.files.join(this.path, `${String(firstLsn).padStart(16, '0')}.seg`)
  }

  async content(): Promise<FolderContent> {
    const names = (await this.files.list(this.path)) ?? []
    const segments: SegmentName[] = []
    const spares: string[] = []
    const leftovers: string[] = []
    for (const name of names) {
      const path = this.files.join(this.path, name)
      const match = segmentNamePattern.exec(name)
      if (match !== null) segments.push({ path, firstLsn: Number(match[1]) as Lsn })
      else if (spareNamePattern.test(name)) spares.push(path)
      else if (name === preparedName) leftovers.push(path)
    }
    segments.sort((a, b) => a.firstLsn - b.firstLsn)
    return { segments, spares, leftovers }
  }

  /** Takes over the spares that an earlier process left. */
  adoptSpares(paths: readonly string[]): void {
    this.#spares.push(...paths)
  }

  async readHeader(file: OpenFile): Promise<SegmentHeaderResult> {
    const start = new Uint8Array(headerBlockBytes)
    const count = await readFully(file, start, 0)
    const headerBytes = claimedHeaderBytes(start.subarray(0, count))
    if (headerBytes === undefined)
      return { ok: false, unsupported: false, reason: 'it is cut short or malformed' }
    const bytes = headerBytes === headerBlockBytes ? start : new Uint8Array(headerBytes)
    if (bytes !== start) {
      const whole = await readFully(file, bytes, 0)
      if (whole < headerBytes) return { ok: false, unsupported: false, reason: 'it is cut short' }
    }
    return decodeSegmentHeader(bytes)
  }

  /** A segment that follows `previous`, durable and open for writing, with room for a record of `recordBytes`. */
  async create(options: {
    readonly previous: RecordPlace
    readonly history: History
    readonly recordBytes: number
  }): Promise<Segment> {
    const { previous, history } = options
    const header = { databaseId: this.databaseId, previous, history }
    const plain = encodeSegmentHeader({ ...header, recycled: false })
    const neededBytes = plain.length + options.recordBytes + 2 * markBytes
    const capacityBytes = Math.max(this.segmentBytes, neededBytes)
    const spare = capacityBytes === this.segmentBytes ? await this.#usableSpare() : undefined
    const preparedPath = spare?.path ?? this.files.join(this.path, preparedName)
    if (spare === undefined && (await this.files.size(preparedPath)) !== undefined) {
      await this.files.remove(preparedPath)
    }
    const file = await this.files.open(preparedPath, spare === undefined ? 'create' : 'write')
    let fileBytes: number
    try {
      if (spare === undefined) {
        fileBytes = Math.min(capacityBytes, Math.max(fillBytesMin, plain.length + recordHeaderBytes))
        await writeParts(file, [plain, ...zeroParts(fileBytes - plain.length)], 0)
      } else {
        // The zeros behind the header say that there is no record yet, whatever else the file holds.
        const recycled = encodeSegmentHeader({ ...header, recycled: true })
        await writeParts(file, [recycled, new Uint8Array(recordHeaderBytes)], 0)
        fileBytes = Math.max(spare.bytes, recycled.length + recordHeaderBytes)
      }
      await syncFile(file)
    } finally {
      await file.close()
    }
    const path = this.segmentPath(lsnPlus(previous.lsn, 1))
    await this.files.rename(preparedPath, path)
    if (spare !== undefined) this.#spares.splice(this.#spares.indexOf(spare.path), 1)
    await this.sync()
    const segment = new Segment({
      path,
      databaseId: this.databaseId,
      previous,
      headerBytes: plain.length,
      capacityBytes,
      fileBytes,
      staleBytes: spare === undefined ? 0 : fileBytes,
    })
    segment.attach(await this.files.open(path, 'write'))
    return segment
  }

  /** Lets the oldest segment go: kept as a spare while few are kept, else removed. */
  async retire(segment: Segment): Promise<void> {
    await segment.whenUnread()
    if (this.#spares.length < sparesMax && segment.fileBytes <= this.segmentBytes) {
      const spare = await this.#unusedSparePath()
      await this.files.rename(segment.path, spare)
      this.#spares.push(spare)
    } else {
      await this.files.remove(segment.path)
    }
    await this.sync()
  }

  /** Removes the newest segment. */
  async removeNewest(segment: Segment): Promise<void> {
    await segment.detach()
    await segment.whenUnread()
    await this.files.remove(segment.path)
    await this.sync()
  }

  /**
   * The first `bytes` of a segment as a file of its own, synced; `putInPlace` gives it the segment's name. Returns
   * its size, with the zeros that it goes on with.
   */
  async prepareCopy(segment: Segment, bytes: number): Promise<number> {
    const preparedPath = this.files.join(this.path, preparedName)
    await this.removePaths([preparedPath])
    const copy = await this.files.open(preparedPath, 'create')
    try {
      await segment.read(this.files, (file) => copyRange(file, copy, 0, bytes))
      const fileBytes = Math.max(bytes + markBytes, Math.min(bytes + fillBytesMin, this.segmentBytes))
      await writeParts(copy, zeroParts(fileBytes - bytes), bytes)
      await syncFile(copy)
      return fileBytes
    } finally {
      await copy.close()
    }
  }

  /** Replaces the segment by its prepared copy: a crash leaves one or the other. Returns the copy, open. */
  async putInPlace(
    segment: Segment,
    options: { readonly last: RecordPlace; readonly dataEnd: number; readonly fileBytes: number },
  ): Promise<Segment> {
    await segment.detach()
    await segment.whenUnread()
    await this.files.rename(this.files.join(this.path, preparedName), segment.path)
    await this.sync()
    const copy = new Segment({
      path: segment.path,
      databaseId: this.databaseId,
      previous: segment.previous,
      headerBytes: segment.headerBytes,
      capacityBytes: Math.max(this.segmentBytes, options.fileBytes),
      fileBytes: options.fileBytes,
      staleBytes: 0,
    })
    copy.dataEnd = options.dataEnd
    copy.last = options.last
    for (const entry of segment.indexUpTo(options.last.lsn)) copy.addIndex(entry)
    copy.attach(await this.files.open(segment.path, 'write'))
    return copy
  }

  /** Removes files if they exist. */
  async removePaths(paths: readonly string[]): Promise<void> {
    for (const path of paths) {
      if ((await this.files.size(path)) !== undefined) await this.files.remove(path)
    }
  }

  /** Makes what was created, renamed and removed durable. A failure is that of a sync. */
  async sync(): Promise<void> {
    try {
      await this.files.syncFolder(this.path)
    } catch (thrown) {
      throw new SyncFailure(this.path, asError(thrown))
    }
  }

  async #usableSpare(): Promise<{ path: string; bytes: number } | undefined> {
    for (;;) {
      const path = this.#spares.at(-1)
      if (path === undefined) return undefined
      const bytes = await this.files.size(path)
      if (bytes !== undefined && bytes <= this.segmentBytes) return { path, bytes }
      // Another segment size was set since it was kept.
      this.#spares.pop()
      if (bytes !== undefined) await this.files.remove(path)
    }
  }

  async #unusedSparePath(): Promise<string> {
    for (;;) {
      this.#sparesMade++
      const path = this.files.join(this.path, `spare-${this.#sparesMade}`)
      if ((await this.files.size(path)) === undefined) return path
    }
  }
}
