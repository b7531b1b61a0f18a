// Log records for tests of the replication core: chained checksums as in the real format, and nothing else of it.
//
//   record = u32 length | u32 crc | u32 lsn | u32 term | u32 previousCrc | u8 kind | payload         kind: 0 commit, 1 term, 2 members

import type { RecordBatch, RecordPlace } from '../../src/base/batch.ts'
import { concatBytes, utf8Decode, utf8Encode } from '../../src/base/bytes.ts'
import { crc32 } from '../../src/base/checksum.ts'
import type { HistoryEntry } from '../../src/base/history.ts'
import type { Lsn, Term } from '../../src/base/lsn.ts'
import { decodeMembers, encodeMembers, type Members, type Membership } from '../../src/base/membership.ts'
import type { RecordCodec } from '../../src/replication/core-options.ts'

const headerBytes = 21
const kinds = { commit: 0, term: 1, members: 2 } as const

export interface FakeRecord {
  readonly place: RecordPlace
  readonly previous: RecordPlace
  readonly isTerm: boolean
  /** The site of a term record, the members of a members record, else `key=value`. */
  readonly text: string
  /** Of a members record. */
  readonly members: Members | undefined
  readonly bytes: Uint8Array
}

export const startPlace: RecordPlace = { lsn: 0 as Lsn, term: 0 as Term, crc: 0 }

export function makeRecord(
  previous: RecordPlace,
  options: { term: Term; isTerm?: boolean; text?: string; members?: Members | undefined },
): FakeRecord {
  const { isTerm = false, members } = options
  const payload = members === undefined ? utf8Encode(options.text ?? '') : encodeMembers(members)
  const bytes = new Uint8Array(headerBytes + payload.length)
  const view = new DataView(bytes.buffer)
  const lsn = (previous.lsn + 1) as Lsn
  view.setUint32(0, bytes.length, true)
  view.setUint32(8, lsn, true)
  view.setUint32(12, options.term, true)
  view.setUint32(16, previous.crc, true)
  view.setUint8(20, isTerm ? kinds.term : members === undefined ? kinds.commit : kinds.members)
  bytes.set(payload, headerBytes)
  const crc = crc32(bytes.subarray(8))
  view.setUint32(4, crc, true)
  return {
    place: { lsn, term: options.term, crc },
    previous,
    isTerm,
    text: utf8Decode(payload),
    members,
    bytes,
  }
}

export function batchOf(records: readonly FakeRecord[]): RecordBatch {
  const first = records[0] as FakeRecord
  const last = records.at(-1) as FakeRecord
  const membership = membershipOf(records)
  return {
    bytes: concatBytes(records.map((record) => record.bytes)),
    firstLsn: first.place.lsn,
    lastLsn: last.place.lsn,
    previous: first.previous,
    last: last.place,
    ...(membership === undefined ? {} : { membership }),
  }
}

/** What the last members record among them says. */
export function membershipOf(records: readonly FakeRecord[]): Membership | undefined {
  const record = records.findLast((each) => each.members !== undefined)
  return record?.members && { ...record.members, lsn: record.place.lsn }
}

/** The records in `bytes`, or why they are not records that follow `previous`. */
export function readRecords(bytes: Uint8Array, previous: RecordPlace): FakeRecord[] | string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const records: FakeRecord[] = []
  let before = previous
  let at = 0
  while (at < bytes.length) {
    if (at + headerBytes > bytes.length) return 'cut short'
    const length = view.getUint32(at, true)
    if (length < headerBytes || at + length > bytes.length) return 'bad length'
    const record = bytes.subarray(at, at + length)
    const crc = view.getUint32(at + 4, true)
    if (crc32(record.subarray(8)) !== crc) return 'bad checksum'
    const place = {
      lsn: view.getUint32(at + 8, true) as Lsn,
      term: view.getUint32(at + 12, true) as Term,
      crc,
    }
    if (place.lsn !== before.lsn + 1 || view.getUint32(at + 16, true) !== before.crc) return 'does not follow'
    if (place.term < before.term) return 'terms fall'
    const kind = view.getUint8(at + 20)
    const payload = record.subarray(headerBytes)
    const members = kind === kinds.members ? decodeMembers(payload) : undefined
    if (kind === kinds.members && members === undefined) return 'bad members'
    const isTerm = kind === kinds.term
    records.push({ place, previous: before, isTerm, text: utf8Decode(payload), members, bytes: record })
    before = place
    at += length
  }
  return records
}

export const fakeCodec: RecordCodec = {
  verify(bytes, { previous }) {
    const records = readRecords(bytes, previous)
    if (typeof records === 'string') return { ok: false, reason: records }
    if (records.length === 0) return { ok: false, reason: 'empty' }
    const reigns: HistoryEntry[] = records
      .filter((record) => record.isTerm)
      .map((record) => ({ term: record.place.term, firstLsn: record.place.lsn, site: record.text }))
    return { ok: true, batch: batchOf(records), reigns }
  },

  split(batch) {
    const records = readRecords(batch.bytes, batch.previous)
    if (typeof records === 'string') throw new Error(`a verified batch is damaged: ${records}`)
    return records.map((record) => batchOf([record]))
  },

  dropThrough(batch, lsn) {
    const records = readRecords(batch.bytes, batch.previous)
    if (typeof records === 'string') throw new Error(`a verified batch is damaged: ${records}`)
    return batchOf(records.filter((record) => record.place.lsn > lsn))
  },
}
