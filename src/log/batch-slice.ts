// Parts of batches and batches of parts, at record boundaries. Slices share the bytes; joining copies them once.

import { assert } from '../base/assert.ts'
import type { RecordBatch } from '../base/batch.ts'
import { concatBytes } from '../base/bytes.ts'
import type { Lsn } from '../base/lsn.ts'
import type { Membership } from '../base/membership.ts'
import { membershipAt, withMembership } from './members-record.ts'
import { placeAt, readU32, readU64, recordField, recordKind } from './record-format.ts'

/**
 * The whole records of `batch` from `from` up to `to`, as many as fit into `bytesMax`; undefined if none does.
 * The batch itself if all of it is wanted.
 */
export function takeRecords(
  batch: RecordBatch,
  options: { readonly from: Lsn; readonly to: Lsn; readonly bytesMax: number },
): RecordBatch | undefined {
  const { from, to, bytesMax } = options
  const { bytes } = batch
  if (from <= batch.firstLsn && to >= batch.lastLsn && bytes.length <= bytesMax) return batch
  let at = 0
  let previous = batch.previous
  while (at < bytes.length && readU64(bytes, at + recordField.lsn) < from) {
    previous = placeAt(bytes, at)
    at += readU32(bytes, at + recordField.length)
  }
  const start = at
  let lastStart = -1
  while (at < bytes.length && readU64(bytes, at + recordField.lsn) <= to) {
    const end = at + readU32(bytes, at + recordField.length)
    if (end - start > bytesMax) break
    lastStart = at
    at = end
  }
  if (lastStart < 0) return undefined
  const last = placeAt(bytes, lastStart)
  return {
    bytes: bytes.subarray(start, at),
    firstLsn: (previous.lsn + 1) as Lsn,
    lastLsn: last.lsn,
    previous,
    last,
    ...withMembership(membershipWithin(batch, start, at)),
  }
}

/** Each record of `batch` by itself. */
export function splitRecords(batch: RecordBatch): RecordBatch[] {
  const { bytes } = batch
  const parts: RecordBatch[] = []
  let { previous } = batch
  for (let at = 0; at < bytes.length; ) {
    const end = at + readU32(bytes, at + recordField.length)
    const last = placeAt(bytes, at)
    parts.push({
      bytes: bytes.subarray(at, end),
      firstLsn: last.lsn,
      lastLsn: last.lsn,
      previous,
      last,
      ...withMembership(membershipWithin(batch, at, end)),
    })
    previous = last
    at = end
  }
  return parts
}

/** Of the last members record in a part of a batch. */
function membershipWithin(batch: RecordBatch, start: number, end: number): Membership | undefined {
  const { membership, bytes } = batch
  if (membership === undefined) return undefined
  let last = -1
  for (let at = start; at < end; at += readU32(bytes, at + recordField.length)) {
    if (bytes[at + recordField.kind] === recordKind.members) last = at
  }
  return last < 0 ? undefined : membershipAt(bytes, last)
}

/** The size of the first record at or after `from`. */
export function recordBytesAt(batch: RecordBatch, from: Lsn): number {
  let at = 0
  while (readU64(batch.bytes, at + recordField.lsn) < from)
    at += readU32(batch.bytes, at + recordField.length)
  return readU32(batch.bytes, at + recordField.length)
}

/** Batches that follow each other, as one. */
export function joinBatches(batches: readonly RecordBatch[]): RecordBatch {
  const first = batches[0]
  const last = batches[batches.length - 1]
  assert(first !== undefined && last !== undefined, 'there is a batch to join')
  if (first === last) return first
  return {
    bytes: concatBytes(batches.map((batch) => batch.bytes)),
    firstLsn: first.firstLsn,
    lastLsn: last.lastLsn,
    previous: first.previous,
    last: last.last,
    ...withMembership(batches.findLast((batch) => batch.membership !== undefined)?.membership),
  }
}
