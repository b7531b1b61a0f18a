// What of a site's log would survive a power cut at this moment, read from the simulated disk beneath all that the site
// believes: the files whose names and bytes are durable, verified record by record. It goes on from where it stopped,
// so that it can be asked after every sync; files that were replaced or cut are read from their beginning again.

import type { RecordPlace } from '../base/batch.ts'
import { entryAt, type History, type HistoryEntry } from '../base/history.ts'
import type { MemoryContent } from '../env/memory/memory-content.ts'
import { RecordChecker } from '../log/record-checker.ts'
import { placeBeforeAll, recordHeaderBytes, recordKind, segmentMarkSeed } from '../log/record-format.ts'
import { siteOf } from '../log/record-reader.ts'
import { claimedHeaderBytes, decodeSegmentHeader } from '../log/segment-header.ts'
import { databasePath, type SimSite } from './site.ts'

const segmentNamePattern = /^(\d{16})\.seg$/
const windowBytes = 4096

/** Called for each record that is read for the first time since the files were read anew. */
export type RecordSeen = (record: {
  readonly place: RecordPlace
  readonly previous: RecordPlace
  readonly kind: number
  /** The whole record. The bytes are used again. */
  readonly bytes: Uint8Array
}) => void

interface Walk {
  readonly path: string
  readonly content: MemoryContent
  readonly checker: RecordChecker
  readonly history: HistoryEntry[]
  offset: number
}

/** What the durable state file says. */
export interface DurableState {
  readonly term: number
  readonly vote: string | undefined
  readonly termMaster: string | undefined
  readonly generation: number
  /** On a view. */
  readonly view?: { readonly kept: readonly string[] }
}

export class DiskLog {
  readonly #site: SimSite
  readonly #seen: RecordSeen
  /** Segments that were read, in order; the last one may go on. */
  #walks: Walk[] = []
  #firstLsn = 1
  /** Which disk was read, and how far it had changed then. */
  #disk: object | undefined
  #readAtChange = -1
  #state: DurableState | undefined
  #stateContent: MemoryContent | undefined
  readonly #window: Uint8Array = new Uint8Array(windowBytes)

  constructor(site: SimSite, seen: RecordSeen) {
    this.#site = site
    this.#seen = seen
  }

  /** Undefined: there is none. */
  get state(): DurableState | undefined {
    const content = this.#site.machine.disk.durableFile(`${databasePath}/state`)
    // The file is replaced as a whole: the same content says the same.
    if (content !== this.#stateContent) {
      this.#stateContent = content
      this.#state = this.#readState(content)
    }
    return this.#state
  }

  #readState(content: MemoryContent | undefined): DurableState | undefined {
    if (content === undefined || content.size === 0) return undefined
    const [json = ''] = new TextDecoder().decode(content.readAll()).split('\n')
    try {
      return JSON.parse(json) as DurableState
    } catch {
      // Damaged: nothing can be said of it.
      return undefined
    }
  }

  /** The record that the durable log ends with. Reads on as far as there is more. */
  get last(): RecordPlace {
    this.readOn()
    return this.#walks.at(-1)?.checker.place ?? placeBeforeAll
  }

  get history(): History {
    return this.#walks.at(-1)?.history ?? []
  }

  /** True if the record, or one that stands for it, is durable: a log that was trimmed had it. */
  has(lsn: number, term: number): boolean {
    if (this.last.lsn < lsn) return false
    const reign = entryAt(this.history, lsn as RecordPlace['lsn'])
    return reign === undefined ? lsn < this.#firstLsn : reign.term === term
  }

  readOn(): void {
    const { disk } = this.#site.machine
    if (disk === this.#disk && disk.durableChanges === this.#readAtChange) return
    this.#disk = disk
    this.#readAtChange = disk.durableChanges
    const segments = this.#segments()
    const known = this.#walks.length
    const isSame =
      known > 0 &&
      this.#walks.every((walk, i) => segments[i]?.path === walk.path && segments[i]?.content === walk.content)
    if (!isSame) this.#walks = []
    this.#firstLsn = segments[0]?.firstLsn ?? 1
    for (let i = Math.max(0, this.#walks.length - 1); i < segments.length; i++) {
      const segment = segments[i] as { path: string; content: MemoryContent }
      const walk = this.#walks[i] ?? this.#begin(segment)
      if (walk === undefined) return
      this.#walks[i] = walk
      this.#walkOn(walk)
    }
  }

  #segments(): { path: string; firstLsn: number; content: MemoryContent }[] {
    const { disk } = this.#site.machine
    const { state } = this
    if (state === undefined) return []
    const folder = `${databasePath}/log-${state.generation}`
    const segments: { path: string; firstLsn: number; content: MemoryContent }[] = []
    for (const name of disk.durableNames(folder)) {
      const firstLsn = segmentNamePattern.exec(name)?.[1]
      const path = `${folder}/${name}`
      const content = disk.durableFile(path)
      if (firstLsn !== undefined && content !== undefined) {
        segments.push({ path, firstLsn: Number(firstLsn), content })
      }
    }
    return segments
  }

  /** Undefined if the segment does not follow: its header is not durable yet, or it is of another log. */
  #begin(segment: { readonly path: string; readonly content: MemoryContent }): Walk | undefined {
    const { path, content } = segment
    const start = new Uint8Array(Math.min(content.size, 4096))
    content.read(start, 0)
    const headerBytes = claimedHeaderBytes(start)
    if (headerBytes === undefined || headerBytes > content.size) return undefined
    const whole = new Uint8Array(headerBytes)
    content.read(whole, 0)
    const result = decodeSegmentHeader(whole)
    if (!result.ok) return undefined
    const { databaseId, previous, history } = result.header
    const before = this.#walks.at(-1)?.checker.place
    if (before !== undefined && before.crc !== previous.crc) return undefined
    const markSeed = segmentMarkSeed(databaseId, (previous.lsn + 1) as RecordPlace['lsn'])
    const checker = new RecordChecker({ databaseId, previous, markSeed })
    return { path, content, checker, history: [...history], offset: headerBytes }
  }

  #walkOn(walk: Walk): void {
    const { checker, content } = walk
    let window = this.#window
    for (;;) {
      const count = content.read(window, walk.offset)
      const moreBytes = content.size - walk.offset - count
      let at = 0
      for (;;) {
        const taken = count - at < recordHeaderBytes ? 0 : checker.check(window, at, count, moreBytes)
        if (taken <= 0) break
        this.#take(walk, window.subarray(at, at + taken))
        at += taken
      }
      walk.offset += at
      if (moreBytes <= 0) return
      if (at > 0) continue
      if (checker.neededBytes <= window.length) return
      window = new Uint8Array(checker.neededBytes)
    }
  }

  #take(walk: Walk, bytes: Uint8Array): void {
    const { checker, history } = walk
    const { kind, place, previous } = checker
    if (kind === recordKind.mark) return
    if (kind === recordKind.term) {
      const site = siteOf(bytes, recordHeaderBytes, bytes.length) ?? ''
      history.push({ term: place.term, firstLsn: place.lsn, site })
    }
    this.#seen({ place, previous, kind, bytes })
  }
}
