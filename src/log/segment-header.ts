// The header block of a segment file: which database, which LSN it starts with, what precedes it.
//
// It repeats the place of the record before the segment and the history up to there, so that any suffix of the
// segments is a complete log: trimming and truncation need no other file. A header that does not verify says so
// as a value; what that means depends on what else is in the folder (recovery.ts).

import { assert } from '../base/assert.ts'
import type { RecordPlace } from '../base/batch.ts'
import { utf8Decode, utf8Encode } from '../base/bytes.ts'
import { crc32 } from '../base/checksum.ts'
import type { History, HistoryEntry } from '../base/history.ts'
import { limits } from '../base/limits.ts'
import { type Lsn, lsnPlus, type Term } from '../base/lsn.ts'
import { readU32, readU64, writeU64 } from './record-format.ts'

export const logFormatVersion = 1

const blockBytes = 4096
const fixedBytes = 53
const entryFixedBytes = 13
const databaseIdBytesMax = 36
const magic: Uint8Array = utf8Encode('coterlog')

/** Where each field starts. Magic, version, size and checksum stay where they are in every version. */
const field = {
  version: 8,
  headerBytes: 12,
  crc: 16,
  flags: 20,
  firstLsn: 24,
  previousLsn: 32,
  previousTerm: 40,
  previousCrc: 44,
  historyCount: 48,
  databaseIdBytes: 52,
} as const

const recycledFlag = 1

export const segmentHeaderBytesMax: number =
  Math.ceil(
    (fixedBytes + databaseIdBytesMax + limits.historyEntriesMax * (entryFixedBytes + limits.siteIdBytesMax)) /
      blockBytes,
  ) * blockBytes

export interface SegmentHeader {
  readonly databaseId: string
  readonly headerBytes: number
  /** The record before the first of the segment. */
  readonly previous: RecordPlace
  /** Of the records before the segment. */
  readonly history: History
  /** The file held other records before: what stands behind the last record may be theirs. */
  readonly recycled: boolean
}

export function encodeSegmentHeader(options: {
  readonly databaseId: string
  readonly previous: RecordPlace
  readonly history: History
  readonly recycled: boolean
}): Uint8Array {
  const { previous, history } = options
  const databaseId = utf8Encode(options.databaseId)
  assert(databaseId.length > 0 && databaseId.length <= databaseIdBytesMax, 'a database id has 1 to 36 bytes')
  assert(history.length <= limits.historyEntriesMax, 'a history is within its bound')
  const sites = history.map((entry) => utf8Encode(entry.site))
  let usedBytes = fixedBytes + databaseId.length
  for (const site of sites) {
    assert(site.length > 0 && site.length <= limits.siteIdBytesMax, 'a site id is within its bound')
    usedBytes += entryFixedBytes + site.length
  }
  const bytes = new Uint8Array(Math.ceil(usedBytes / blockBytes) * blockBytes)
  const view = new DataView(bytes.buffer)
  bytes.set(magic)
  view.setUint32(field.version, logFormatVersion, true)
  view.setUint32(field.headerBytes, bytes.length, true)
  view.setUint32(field.flags, options.recycled ? recycledFlag : 0, true)
  writeU64(view, field.firstLsn, lsnPlus(previous.lsn, 1))
  writeU64(view, field.previousLsn, previous.lsn)
  view.setUint32(field.previousTerm, previous.term, true)
  view.setUint32(field.previousCrc, previous.crc, true)
  view.setUint32(field.historyCount, history.length, true)
  view.setUint8(field.databaseIdBytes, databaseId.length)
  bytes.set(databaseId, fixedBytes)
  let at = fixedBytes + databaseId.length
  for (const [i, entry] of history.entries()) {
    const site = sites[i] as Uint8Array
    view.setUint32(at, entry.term, true)
    writeU64(view, at + 4, entry.firstLsn)
    view.setUint8(at + 12, site.length)
    bytes.set(site, at + entryFixedBytes)
    at += entryFixedBytes + site.length
  }
  view.setUint32(field.crc, headerCrc(bytes), true)
  return bytes
}

export type SegmentHeaderResult =
  | { readonly ok: true; readonly header: SegmentHeader }
  /** `unsupported`: it verifies, but another version wrote it. */
  | { readonly ok: false; readonly unsupported: boolean; readonly reason: string }

/** How long the header in `start` (the first block of a file) claims to be; undefined if it cannot be one. */
export function claimedHeaderBytes(start: Uint8Array): number | undefined {
  if (start.length < blockBytes) return undefined
  const claimed = readU32(start, field.headerBytes)
  return claimed >= blockBytes && claimed <= segmentHeaderBytesMax && claimed % blockBytes === 0
    ? claimed
    : undefined
}

/** `bytes` is as long as the header claims to be. Never throws, whatever the bytes are. */
export function decodeSegmentHeader(bytes: Uint8Array): SegmentHeaderResult {
  if (claimedHeaderBytes(bytes) !== bytes.length) return refused('its size is impossible')
  for (const [i, byte] of magic.entries()) if (bytes[i] !== byte) return refused('it has no magic number')
  if (headerCrc(bytes) !== readU32(bytes, field.crc)) return refused('its checksum is wrong')
  const version = readU32(bytes, field.version)
  const flags = readU32(bytes, field.flags)
  if (version !== logFormatVersion || (flags & ~recycledFlag) !== 0) {
    return { ok: false, unsupported: true, reason: `its format version is ${version}` }
  }
  const previousLsn = readU64(bytes, field.previousLsn)
  if (!Number.isSafeInteger(previousLsn) || readU64(bytes, field.firstLsn) !== previousLsn + 1) {
    return refused('its LSNs contradict each other')
  }
  const idEnd = fixedBytes + (bytes[field.databaseIdBytes] as number)
  const history = decodeHistory(bytes, idEnd, readU32(bytes, field.historyCount))
  if (history === undefined) return refused('its history is malformed')
  return {
    ok: true,
    header: {
      databaseId: decodeText(bytes, fixedBytes, idEnd) ?? '',
      headerBytes: bytes.length,
      previous: {
        lsn: previousLsn as Lsn,
        term: readU32(bytes, field.previousTerm) as Term,
        crc: readU32(bytes, field.previousCrc),
      },
      history,
      recycled: (flags & recycledFlag) !== 0,
    },
  }
}

function decodeHistory(bytes: Uint8Array, start: number, count: number): History | undefined {
  if (count > limits.historyEntriesMax) return undefined
  const history: HistoryEntry[] = []
  let at = start
  for (let i = 0; i < count; i++) {
    if (at + entryFixedBytes > bytes.length) return undefined
    const end = at + entryFixedBytes + (bytes[at + 12] as number)
    const site = decodeText(bytes, at + entryFixedBytes, end)
    const firstLsn = readU64(bytes, at + 4)
    if (site === undefined || !Number.isSafeInteger(firstLsn)) return undefined
    history.push({ term: readU32(bytes, at) as Term, firstLsn: firstLsn as Lsn, site })
    at = end
  }
  return history
}

function decodeText(bytes: Uint8Array, start: number, end: number): string | undefined {
  if (end > bytes.length) return undefined
  try {
    return utf8Decode(bytes.subarray(start, end))
  } catch {
    // Not UTF-8: told by the result, like every other malformation.
    return undefined
  }
}

function headerCrc(bytes: Uint8Array): number {
  return crc32(bytes.subarray(field.crc + 4), crc32(bytes.subarray(0, field.crc)))
}

function refused(reason: string): SegmentHeaderResult {
  return { ok: false, unsupported: false, reason }
}
