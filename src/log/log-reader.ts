// Reads records back from segment files, each one verified again on its way: bytes rot after recovery too.
//
// One read is one window of one segment. Marks are left out, so what comes back is what was appended and can go
// to a replica as it is. A record that does not verify is LOG_DAMAGED with its file, offset and LSN; the records
// before it are still served.

import { assert } from '../base/assert.ts'
import type { RecordBatch, RecordPlace } from '../base/batch.ts'
import { CoterieError } from '../base/errors.ts'
import { type Lsn, lsnPlus } from '../base/lsn.ts'
import type { Membership } from '../base/membership.ts'
import type { Files, OpenFile } from '../env/host.ts'
import { readFully, toLogError } from './file-io.ts'
import { membershipAt, withMembership } from './members-record.ts'
import { entryStop, RecordChecker } from './record-checker.ts'
import { recordKind } from './record-format.ts'
import type { Segment } from './segment.ts'
import { scanSegment } from './segment-scan.ts'

/** Room for what precedes the first record wanted, since the index is sparse. */
const leadBytes = 69_632

export interface SegmentRead {
  readonly from: Lsn
  readonly to: Lsn
  readonly bytesMax: number
}

/** Where a record stands in the files. */
export interface RecordLocation {
  readonly file: string
  readonly offset: number
  /** Where it ends. */
  readonly end: number
  readonly place: RecordPlace
}

/** The fault of a record that was durable, or of what should be one. */
export function damaged(options: {
  readonly file: string
  readonly offset: number
  readonly lsn: Lsn
  readonly reason: string
}): CoterieError {
  const { file, offset, lsn, reason } = options
  return new CoterieError(
    'LOG_DAMAGED',
    `log record ${lsn} does not verify: ${reason} (${file}, offset ${offset})`,
    { details: { file, offset, lsn, reason } },
  )
}

export function unsupported(options: {
  readonly file: string
  readonly offset: number
  readonly reason: string
}): CoterieError {
  const { file, offset, reason } = options
  return new CoterieError('FORMAT_UNSUPPORTED', `${file}, offset ${offset}: ${reason}`, {
    details: { file, offset },
  })
}

/** At least the record `from`, which must be in the segment and written; up to `bytesMax`, or the segment's end. */
export async function readSegment(
  options: SegmentRead & { readonly files: Files; readonly segment: Segment; readonly databaseId: string },
): Promise<RecordBatch> {
  const { files, segment } = options
  try {
    return await segment.read(files, (file) => readRecords(file, options))
  } catch (thrown) {
    throw toLogError(thrown, `${segment.path} could not be read`)
  }
}

async function readRecords(
  file: OpenFile,
  options: SegmentRead & { readonly segment: Segment; readonly databaseId: string },
): Promise<RecordBatch> {
  const { segment, from } = options
  assert(from >= segment.firstLsn && from <= segment.last.lsn, 'a read is of a record in the segment')
  const start = segment.findIndex(from)
  const available = segment.dataEnd - start.offset
  let windowBytes = Math.min(available, options.bytesMax + leadBytes)
  for (;;) {
    const bytes = new Uint8Array(windowBytes)
    const end = await readFully(file, bytes, start.offset)
    const checker = new RecordChecker({
      databaseId: options.databaseId,
      markSeed: segment.markSeed,
      previous: start.previous,
    })
    const moreBytes = end < windowBytes ? 0 : available - windowBytes
    const found = collect({ bytes, end, moreBytes, checker, read: options })
    if (found.batch !== undefined) return found.batch
    if (found.stop !== entryStop.incomplete) {
      const where = {
        file: segment.path,
        offset: start.offset + found.at,
        reason: checker.reason || 'it is empty',
      }
      if (found.stop === entryStop.unsupported) throw unsupported(where)
      throw damaged({ ...where, lsn: checker.nextLsn })
    }
    windowBytes = Math.min(available, found.at + checker.neededBytes)
  }
}

interface Collected {
  readonly batch?: RecordBatch
  /** Without a batch: why and where the walk stopped. */
  readonly stop: number
  readonly at: number
}

/** Closes the gaps that marks leave, in place: the bytes are ours until they are handed out. */
function collect(options: {
  readonly bytes: Uint8Array
  readonly end: number
  readonly moreBytes: number
  readonly checker: RecordChecker
  readonly read: SegmentRead
}): Collected {
  const { bytes, end, moreBytes, checker, read } = options
  let at = 0
  let stop: number = entryStop.incomplete
  let previous: RecordPlace | undefined
  let last = checker.place
  let outStart = 0
  let outEnd = 0
  let membership: Membership | undefined
  while (last.lsn < read.to) {
    const taken = checker.check(bytes, at, end, moreBytes)
    if (taken < 0) {
      stop = taken
      break
    }
    const isRecord = checker.kind !== recordKind.mark
    if (isRecord && checker.previous.lsn >= lsnPlus(read.from, -1)) {
      if (previous === undefined) {
        previous = checker.previous
        outStart = at
        outEnd = at
      } else if (outEnd - outStart + taken > read.bytesMax) {
        break
      }
      if (checker.kind === recordKind.members) membership = membershipAt(bytes, at)
      if (outEnd !== at) bytes.copyWithin(outEnd, at, at + taken)
      outEnd += taken
      last = checker.place
    }
    at += taken
  }
  if (previous === undefined) return { stop, at }
  const firstLsn = lsnPlus(previous.lsn, 1)
  return {
    stop,
    at,
    batch: {
      bytes: bytes.subarray(outStart, outEnd),
      firstLsn,
      lastLsn: last.lsn,
      previous,
      last,
      ...withMembership(membership),
    },
  }
}

/** Where the record `lsn` stands; it must be in the segment and written. */
export async function locateInSegment(options: {
  readonly files: Files
  readonly segment: Segment
  readonly databaseId: string
  readonly lsn: Lsn
}): Promise<RecordLocation> {
  const { segment, lsn } = options
  assert(lsn >= segment.firstLsn && lsn <= segment.last.lsn, 'a record is looked for where it is')
  const start = segment.findIndex(lsn)
  const checker = new RecordChecker({
    databaseId: options.databaseId,
    markSeed: segment.markSeed,
    previous: start.previous,
  })
  const found: { location?: RecordLocation } = {}
  const end = await segment.read(options.files, (file) =>
    scanSegment(file, {
      checker,
      from: start.offset,
      to: segment.dataEnd,
      visit: (_bytes, _at, length, offset) => {
        if (checker.kind === recordKind.mark || checker.nextLsn <= lsn) return true
        found.location = { file: segment.path, offset, end: offset + length, place: checker.place }
        return false
      },
    }),
  )
  if (found.location !== undefined) return found.location
  const where = { file: segment.path, offset: end.offset, reason: end.reason }
  if (end.stop === 'unsupported') throw unsupported(where)
  throw damaged({ ...where, lsn: checker.nextLsn })
}
