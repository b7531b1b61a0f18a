// The layout of a log record and of a durable mark, and the few helpers that read single fields of them.
//
// The same bytes stand on disk and on the wire and are equal on every site, so nothing in a record may depend
// on where it stands. Its checksum is seeded with the database and covers the LSN and the checksum of the record
// before it: a record of another database, a stale record and a record out of its chain do not verify.
// Everything is little endian. docs/log-format.md has the grammar; a change here is a new format version.

import type { RecordPlace } from '../base/batch.ts'
import { utf8Encode } from '../base/bytes.ts'
import { crc32 } from '../base/checksum.ts'
import { limits } from '../base/limits.ts'
import { type Lsn, noLsn, noTerm, type Term } from '../base/lsn.ts'

export const recordHeaderBytes = 32

/** Where each field of the header starts. */
export const recordField = {
  /** u32 over everything behind it. */
  crc: 0,
  /** u32, of the whole record. */
  length: 4,
  /** u64, a safe integer. */
  lsn: 8,
  /** u32 */
  term: 16,
  /** u32, 0 at LSN 1. */
  previousCrc: 20,
  /** u48, milliseconds since 1970 at the master. */
  wallMs: 24,
  /** u8 */
  kind: 30,
  /** u8, 0. */
  flags: 31,
} as const

export const recordKind = {
  /** The writes of one transaction. */
  commit: 1,
  /** The first record of a reign: its payload is the master's site id. */
  term: 2,
  /** The members of the group, as the write of one row: members-record.ts. */
  members: 3,
  /** Not a record: a durable mark, which exists on disk only. */
  mark: 255,
} as const

/** Whether the payload is a run of writes. */
export function hasWrites(kind: number): boolean {
  return kind === recordKind.commit || kind === recordKind.members
}

/** Whether this version knows records of the kind. */
export function isRecordKind(kind: number): boolean {
  return hasWrites(kind) || kind === recordKind.term
}

export const writeOp = { put: 1, del: 2 } as const

/** A mark is a header and nothing else. */
export const markBytes: number = recordHeaderBytes

export const recordBytesMax: number = recordHeaderBytes + limits.transactionBytesMax

const highUnit = 0x1_0000_0000

/** What precedes LSN 1. */
export const placeBeforeAll: RecordPlace = { lsn: noLsn, term: noTerm, crc: 0 }

export function samePlace(a: RecordPlace, b: RecordPlace): boolean {
  return a.lsn === b.lsn && a.crc === b.crc && a.term === b.term
}

export function databaseSeed(databaseId: string): number {
  return crc32(utf8Encode(databaseId))
}

/** Marks are bound to their segment too, so that a stale one in a recycled file does not verify. */
export function segmentMarkSeed(databaseId: string, segmentFirstLsn: Lsn): number {
  const place = new Uint8Array(8)
  writeU64(new DataView(place.buffer), 0, segmentFirstLsn)
  return crc32(place, databaseSeed(databaseId))
}

export function readU32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0
  )
}

/** May be beyond the safe integers for hostile bytes: compare it with what is expected before using it. */
export function readU64(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at + 4) * highUnit + readU32(bytes, at)
}

export function writeU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true)
  view.setUint32(at + 4, Math.floor(value / highUnit), true)
}

/** The place of the record that starts at `at` in verified bytes. */
export function placeAt(bytes: Uint8Array, at: number): RecordPlace {
  return {
    lsn: readU64(bytes, at + recordField.lsn) as Lsn,
    term: readU32(bytes, at + recordField.term) as Term,
    crc: readU32(bytes, at + recordField.crc),
  }
}

/** A durable mark: everything up to `durableLsn` had been synced when it was written. */
export function encodeMark(options: {
  readonly durableLsn: Lsn
  readonly markSeed: number
  readonly wallMs: number
}): Uint8Array {
  const bytes = new Uint8Array(markBytes)
  const view = new DataView(bytes.buffer)
  view.setUint32(recordField.length, markBytes, true)
  writeU64(view, recordField.lsn, options.durableLsn)
  writeWallMs(view, recordField.wallMs, options.wallMs)
  view.setUint8(recordField.kind, recordKind.mark)
  view.setUint32(recordField.crc, crc32(bytes.subarray(recordField.length), options.markSeed), true)
  return bytes
}

/** The LSN that the mark at `at` attests; undefined unless it is a mark that verifies. */
export function readMark(bytes: Uint8Array, at: number, markSeed: number): Lsn | undefined {
  if (at < 0 || at + markBytes > bytes.length) return undefined
  if (bytes[at + recordField.kind] !== recordKind.mark || bytes[at + recordField.flags] !== 0)
    return undefined
  if (readU32(bytes, at + recordField.length) !== markBytes) return undefined
  const crc = crc32(bytes.subarray(at + recordField.length, at + markBytes), markSeed)
  if (crc !== readU32(bytes, at + recordField.crc)) return undefined
  const lsn = readU64(bytes, at + recordField.lsn)
  return Number.isSafeInteger(lsn) ? (lsn as Lsn) : undefined
}

/** Wall-clock milliseconds as u48. */
export function writeWallMs(view: DataView, at: number, wallMs: number): void {
  view.setUint32(at, wallMs >>> 0, true)
  view.setUint16(at + 4, Math.floor(wallMs / highUnit) & 0xffff, true)
}

export function readWallMs(bytes: Uint8Array, at: number): number {
  return ((bytes[at + 4] as number) | ((bytes[at + 5] as number) << 8)) * highUnit + readU32(bytes, at)
}
