// Reads the records of trusted batches: the applier's loop, and the friendly form that `coterie log` prints.
//
// Trusted means that the records have been verified (by the checker) or built here. What the checksum cannot rule
// out is a payload written by a later version: a write of an unknown kind is refused, never skipped, because a
// skipped write is a replica that differs in silence.

import { utf8Decode } from '../base/bytes.ts'
import { CoterieError } from '../base/errors.ts'
import { limits } from '../base/limits.ts'
import type { Lsn, Term } from '../base/lsn.ts'
import type { Members } from '../base/membership.ts'
import { membersIn } from './members-record.ts'
import {
  readU32,
  readU64,
  readWallMs,
  recordField,
  recordHeaderBytes,
  recordKind,
  writeOp,
} from './record-format.ts'

export type RecordVisitor = (
  lsn: Lsn,
  term: Term,
  wallMs: number,
  kind: number,
  payloadStart: number,
  payloadEnd: number,
) => void

/** `value` is undefined for a delete. Both are views of the batch. */
export type WriteVisitor = (key: Uint8Array, value: Uint8Array | undefined) => void

export function eachRecord(bytes: Uint8Array, visitor: RecordVisitor): void {
  let at = 0
  while (at < bytes.length) {
    const end = at + readU32(bytes, at + recordField.length)
    visitor(
      readU64(bytes, at + recordField.lsn) as Lsn,
      readU32(bytes, at + recordField.term) as Term,
      readWallMs(bytes, at + recordField.wallMs),
      bytes[at + recordField.kind] as number,
      at + recordHeaderBytes,
      end,
    )
    at = end
  }
}

/** The writes of one commit or members record. Throws FORMAT_UNSUPPORTED on a payload that it does not understand. */
export function eachWrite(
  bytes: Uint8Array,
  payloadStart: number,
  payloadEnd: number,
  visitor: WriteVisitor,
): void {
  let at = payloadStart
  while (at < payloadEnd) {
    const writeEnd = endOfWrite(bytes, at, payloadEnd)
    if (writeEnd === undefined) {
      throw new CoterieError(
        'FORMAT_UNSUPPORTED',
        'a log record holds a write that this version does not know',
        {
          details: { lsn: readU64(bytes, payloadStart - recordHeaderBytes + recordField.lsn) },
        },
      )
    }
    const keyBytes = readU16(bytes, at + 1)
    if (bytes[at] === writeOp.put) {
      const keyStart = at + 7
      visitor(bytes.subarray(keyStart, keyStart + keyBytes), bytes.subarray(keyStart + keyBytes, writeEnd))
    } else {
      visitor(bytes.subarray(at + 3, writeEnd), undefined)
    }
    at = writeEnd
  }
}

/** What is wrong with a payload, if anything: so that no bytes from the network surprise the applier later. */
export function payloadProblem(
  bytes: Uint8Array,
  kind: number,
  payloadStart: number,
  payloadEnd: number,
): string | undefined {
  if (kind === recordKind.term) {
    const site = siteOf(bytes, payloadStart, payloadEnd)
    return site === undefined ? 'a term record does not hold a site id' : undefined
  }
  if (kind === recordKind.members) {
    const members = membersIn(bytes, payloadStart, payloadEnd)
    return members === undefined ? 'its members cannot be read' : undefined
  }
  let at = payloadStart
  while (at < payloadEnd) {
    const writeEnd = endOfWrite(bytes, at, payloadEnd)
    if (writeEnd === undefined) return 'a commit record holds a malformed write'
    at = writeEnd
  }
  return undefined
}

/** The site id in a term record; undefined if the payload is not one. */
export function siteOf(bytes: Uint8Array, payloadStart: number, payloadEnd: number): string | undefined {
  const length = payloadEnd - payloadStart
  if (length < 1 || length > limits.siteIdBytesMax) return undefined
  try {
    return utf8Decode(bytes.subarray(payloadStart, payloadEnd))
  } catch {
    // Not UTF-8: an expected outcome for hostile bytes, told by the result.
    return undefined
  }
}

export interface LogWrite {
  readonly op: 'put' | 'del'
  readonly key: Uint8Array
  readonly value?: Uint8Array
}

interface LogRecordBase {
  readonly lsn: Lsn
  readonly term: Term
  readonly wallMs: number
  readonly crc: number
  readonly previousCrc: number
  /** The size of the whole record. */
  readonly bytes: number
  readonly file?: string
  readonly offset?: number
}

/** A record for people: `coterie log`, tests, reports. */
export type LogRecord =
  | (LogRecordBase & { readonly kind: 'commit'; readonly writes: readonly LogWrite[] })
  | (LogRecordBase & { readonly kind: 'term'; readonly site: string })
  | (LogRecordBase & { readonly kind: 'members'; readonly members: Members })

/** Decodes the verified record at `at`. `location` (Log.locationOf) is passed through. */
export function decodeRecord(
  bytes: Uint8Array,
  at = 0,
  location: { readonly file?: string; readonly offset?: number } = {},
): LogRecord {
  const length = readU32(bytes, at + recordField.length)
  const base: LogRecordBase = {
    lsn: readU64(bytes, at + recordField.lsn) as Lsn,
    term: readU32(bytes, at + recordField.term) as Term,
    wallMs: readWallMs(bytes, at + recordField.wallMs),
    crc: readU32(bytes, at + recordField.crc),
    previousCrc: readU32(bytes, at + recordField.previousCrc),
    bytes: length,
    ...location,
  }
  const payloadStart = at + recordHeaderBytes
  const kind = bytes[at + recordField.kind] as number
  if (kind === recordKind.commit) {
    const writes: LogWrite[] = []
    eachWrite(bytes, payloadStart, at + length, (key, value) => {
      writes.push(value === undefined ? { op: 'del', key } : { op: 'put', key, value })
    })
    return { ...base, kind: 'commit', writes }
  }
  const site = kind === recordKind.term ? siteOf(bytes, payloadStart, at + length) : undefined
  if (site !== undefined) return { ...base, kind: 'term', site }
  const members = kind === recordKind.members ? membersIn(bytes, payloadStart, at + length) : undefined
  if (members !== undefined) return { ...base, kind: 'members', members }
  throw new CoterieError('FORMAT_UNSUPPORTED', 'a log record is of a kind that this version does not know', {
    details: { lsn: base.lsn, kind },
  })
}

/** Where the write at `at` ends; undefined if it is malformed or of an unknown kind. */
function endOfWrite(bytes: Uint8Array, at: number, payloadEnd: number): number | undefined {
  let end: number
  if (bytes[at] === writeOp.put) {
    if (payloadEnd - at < 7) return undefined
    end = at + 7 + readU16(bytes, at + 1) + readU32(bytes, at + 3)
  } else if (bytes[at] === writeOp.del) {
    if (payloadEnd - at < 3) return undefined
    end = at + 3 + readU16(bytes, at + 1)
  } else {
    return undefined
  }
  return end <= payloadEnd ? end : undefined
}

function readU16(bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) | ((bytes[at + 1] as number) << 8)
}
