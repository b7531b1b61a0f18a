// Opens the segments of a log after whatever happened: verifies all of them, cuts what a crash tore, refuses
// what was damaged.
//
// A crash may tear only what was never synced, so never acknowledged; that is cut, and reported. A record that
// does not verify although it was durable is damage: LOG_DAMAGED, and not a byte on disk is changed, because a
// cut there would undo acknowledged commits in silence. The verdict is complete before the first change.
// docs/log-format.md, "Recovery", has the rules and their reasons.

import type { RecordPlace } from '../base/batch.ts'
import type { History } from '../base/history.ts'
import { type Lsn, lsnPlus, noLsn } from '../base/lsn.ts'
import type { Membership } from '../base/membership.ts'
import type { OpenFile } from '../env/host.ts'
import { holdsRecord, searchRemainder } from './evidence.ts'
import { copyRange, syncFile, toLogError, writeParts, zeroParts } from './file-io.ts'
import type { LogFolder, SegmentName } from './log-folder.ts'
import { damaged, unsupported } from './log-reader.ts'
import { withReign } from './log-state.ts'
import { membershipAt } from './members-record.ts'
import { RecordChecker } from './record-checker.ts'
import { recordHeaderBytes, recordKind, samePlace, segmentMarkSeed } from './record-format.ts'
import { siteOf } from './record-reader.ts'
import { Segment } from './segment.ts'
import type { SegmentHeader } from './segment-header.ts'
import { type ScanEnd, scanSegment } from './segment-scan.ts'

/** What was found when a log was opened, and what was done about it. */
export interface RecoveryReport {
  /** There was no log: a new one was begun. */
  readonly created: boolean
  readonly firstLsn: Lsn
  readonly lastLsn: Lsn
  readonly segments: number
  readonly records: number
  /** A torn tail that was cut: from where, the LSN that is missing there, and how many bytes were zeroed. */
  readonly cut?: { readonly file: string; readonly offset: number; readonly lsn: Lsn; readonly bytes: number }
  /** Segment files without a header and without records, which were removed. */
  readonly removedFiles: readonly string[]
}

export interface Recovered {
  /** The last one is open for writing. */
  readonly segments: Segment[]
  readonly last: RecordPlace
  readonly history: History
  readonly memberships: readonly Membership[]
  /** What the last mark in the log attests. */
  readonly markedLsn: Lsn
  readonly report: Omit<RecoveryReport, 'created'>
}

interface Candidate extends SegmentName {
  readonly fileBytes: number
  readonly header: SegmentHeader
}

/** Where a walk over all segments ended. */
interface Walk {
  readonly segments: Segment[]
  last: RecordPlace
  history: History
  readonly memberships: Membership[]
  markedLsn: Lsn
  records: number
  /** In the last segment: what precedes this is known to have been synced. */
  attestedEnd: number
}

/** Undefined if no segment has a header: then nothing was changed, and `names` are of no account. */
export async function recover(options: {
  readonly folder: LogFolder
  readonly names: readonly SegmentName[]
  readonly durableAtLeast: Lsn
}): Promise<Recovered | undefined> {
  const { folder, durableAtLeast } = options
  const { candidates, torn } = await readHeaders(folder, options.names, durableAtLeast)
  const newest = candidates[candidates.length - 1]
  if (newest === undefined) return undefined
  const walk: Walk = {
    segments: [],
    last: (candidates[0] as Candidate).header.previous,
    history: (candidates[0] as Candidate).header.history,
    memberships: [],
    markedLsn: noLsn,
    records: 0,
    attestedEnd: 0,
  }
  for (const [i, candidate] of candidates.entries()) {
    const next = candidates[i + 1]
    const end = await walkSegment(folder, candidate, walk)
    if (next !== undefined && !samePlace(next.header.previous, walk.last)) {
      throw damaged({ file: candidate.path, offset: end.offset, lsn: nextOf(walk), reason: end.reason })
    }
    if (next === undefined) {
      const nonZeroEnd = await judgeEnd({ folder, candidate, walk, end, durableAtLeast })
      await dropTorn(folder, torn)
      const cutBytes = await secureEnd({ folder, walk, nonZeroEnd })
      // Behind the last record of a recycled file stands its former content: an end like any other.
      const quiet = candidate.header.recycled && end.stop !== 'invalid'
      const cut = { file: candidate.path, offset: end.offset, lsn: nextOf(walk), bytes: cutBytes }
      return recovered(walk, { torn, ...(cutBytes > 0 && !quiet ? { cut } : {}) })
    }
  }
  return undefined
}

function recovered(
  walk: Walk,
  found: { readonly torn: readonly SegmentName[]; readonly cut?: NonNullable<RecoveryReport['cut']> },
): Recovered {
  const { segments, last, history, memberships, markedLsn, records } = walk
  const { torn, ...cut } = found
  return {
    segments,
    last,
    history,
    memberships,
    markedLsn,
    report: {
      firstLsn: (segments[0] as Segment).firstLsn,
      lastLsn: last.lsn,
      segments: segments.length,
      records,
      removedFiles: torn.map((name) => name.path),
      ...cut,
    },
  }
}

/** Headers of all segments, and the newest files that have neither a header nor anything else. */
async function readHeaders(
  folder: LogFolder,
  names: readonly SegmentName[],
  durableAtLeast: Lsn,
): Promise<{ readonly candidates: readonly Candidate[]; readonly torn: readonly SegmentName[] }> {
  const candidates: Candidate[] = []
  const torn: SegmentName[] = []
  for (let i = names.length - 1; i >= 0; i--) {
    const name = names[i] as SegmentName
    const result = await readHeader(folder, name)
    if (typeof result !== 'string') {
      candidates.unshift(result)
      continue
    }
    const bad = damaged({ file: name.path, offset: 0, lsn: name.firstLsn, reason: `the header: ${result}` })
    if (candidates.length > 0 || durableAtLeast >= name.firstLsn) throw bad
    if (await holdsAnything(folder, name)) throw bad
    torn.push(name)
  }
  return { candidates, torn }
}

/** The reason if there is no valid header. */
async function readHeader(folder: LogFolder, name: SegmentName): Promise<Candidate | string> {
  const fileBytes = (await folder.files.size(name.path)) ?? 0
  const result = await withFile(folder, name.path, (file) => folder.readHeader(file))
  if (!result.ok) {
    if (result.unsupported) throw unsupported({ file: name.path, offset: 0, reason: result.reason })
    return result.reason
  }
  const { header } = result
  if (header.databaseId !== folder.databaseId) {
    const reason = `the segment belongs to database ${header.databaseId}`
    throw damaged({ file: name.path, offset: 0, lsn: name.firstLsn, reason })
  }
  if (header.previous.lsn + 1 !== name.firstLsn) return 'its first LSN is not that of its name'
  return { ...name, fileBytes, header }
}

/** True if a file without a header has records or marks of the segment that its name says it is. */
async function holdsAnything(folder: LogFolder, name: SegmentName): Promise<boolean> {
  const fileBytes = (await folder.files.size(name.path)) ?? 0
  const { databaseId } = folder
  return withFile(folder, name.path, async (file) => {
    const markSeed = segmentMarkSeed(databaseId, name.firstLsn)
    const { markedLsn } = await searchRemainder(file, { from: 0, to: fileBytes, markSeed })
    return markedLsn >= name.firstLsn || holdsRecord(file, { fileBytes, databaseId, from: name.firstLsn })
  })
}

/** Verifies one segment and adds it to the walk. */
async function walkSegment(folder: LogFolder, candidate: Candidate, walk: Walk): Promise<ScanEnd> {
  const { path, header, fileBytes } = candidate
  const segment = new Segment({
    path,
    databaseId: folder.databaseId,
    previous: header.previous,
    headerBytes: header.headerBytes,
    capacityBytes: Math.max(folder.segmentBytes, fileBytes),
    fileBytes,
    staleBytes: 0,
  })
  const checker = new RecordChecker({
    databaseId: folder.databaseId,
    markSeed: segment.markSeed,
    previous: header.previous,
  })
  walk.attestedEnd = header.headerBytes
  const visit = (bytes: Uint8Array, at: number, length: number, offset: number): boolean => {
    if (checker.kind === recordKind.mark) {
      walk.markedLsn = checker.markedLsn
      if (lsnPlus(checker.markedLsn, 1) === checker.nextLsn) walk.attestedEnd = offset
      return true
    }
    walk.records++
    if (segment.wantsIndex(offset)) segment.addIndex({ previous: checker.previous, offset })
    if (checker.kind === recordKind.term) {
      const site = siteOf(bytes, at + recordHeaderBytes, at + length)
      if (site === undefined)
        throw unsupported({ file: path, offset, reason: 'a term record has no site id' })
      const { lsn, term } = checker.place
      walk.history = withReign(walk.history, { term, firstLsn: lsn, site })
    } else if (checker.kind === recordKind.members) {
      const membership = membershipAt(bytes, at)
      if (membership === undefined)
        throw unsupported({ file: path, offset, reason: 'the members of a members record cannot be read' })
      walk.memberships.push(membership)
    }
    return true
  }
  const end = await withFile(folder, path, (file) =>
    scanSegment(file, { checker, from: header.headerBytes, to: fileBytes, visit }),
  )
  if (end.stop === 'unsupported') throw unsupported({ file: path, offset: end.offset, reason: end.reason })
  segment.dataEnd = end.offset
  segment.last = checker.place
  walk.last = checker.place
  walk.segments.push(segment)
  return end
}

/** Throws if what stands at the end of the last segment had been durable. Returns where its non-zero bytes end. */
async function judgeEnd(options: {
  readonly folder: LogFolder
  readonly candidate: Candidate
  readonly walk: Walk
  readonly end: ScanEnd
  readonly durableAtLeast: Lsn
}): Promise<number> {
  const { folder, candidate, walk, end, durableAtLeast } = options
  const segment = walk.segments[walk.segments.length - 1] as Segment
  const { markedLsn, nonZeroEnd } = await withFile(folder, candidate.path, (file) =>
    searchRemainder(file, { from: end.offset, to: candidate.fileBytes, markSeed: segment.markSeed }),
  )
  const lsn = nextOf(walk)
  if (durableAtLeast >= lsn || markedLsn >= lsn) {
    throw damaged({ file: candidate.path, offset: end.offset, lsn, reason: end.reason })
  }
  return nonZeroEnd
}

/**
 * Zeroes the remainder of the last segment and makes the records in it durable. Returns how much was zeroed.
 *
 * The records that no mark attests are written again: after a failed sync the system may hold them in memory, call
 * them clean and never write them, and a sync alone would succeed without doing anything.
 */
async function secureEnd(options: {
  readonly folder: LogFolder
  readonly walk: Walk
  readonly nonZeroEnd: number
}): Promise<number> {
  const { folder, walk, nonZeroEnd } = options
  const segment = walk.segments[walk.segments.length - 1] as Segment
  const { dataEnd } = segment
  const cutBytes = Math.max(0, nonZeroEnd - dataEnd)
  try {
    const file = await folder.files.open(segment.path, 'write')
    segment.attach(file)
    if (cutBytes > 0) await writeParts(file, zeroParts(cutBytes), dataEnd)
    await copyRange(file, file, walk.attestedEnd, dataEnd)
    await syncFile(file)
    await folder.sync()
  } catch (thrown) {
    await segment.detach()
    throw toLogError(thrown, `${segment.path} could not be recovered`)
  }
  return cutBytes
}

async function dropTorn(folder: LogFolder, torn: readonly SegmentName[]): Promise<void> {
  if (torn.length === 0) return
  await folder.removePaths(torn.map((name) => name.path))
  await folder.sync()
}

async function withFile<T>(folder: LogFolder, path: string, use: (file: OpenFile) => Promise<T>): Promise<T> {
  const file = await folder.files.open(path, 'read')
  try {
    return await use(file)
  } finally {
    await file.close()
  }
}

function nextOf(walk: Walk): Lsn {
  return lsnPlus(walk.last.lsn, 1)
}
