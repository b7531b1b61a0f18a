// Verifies a batch that came from outside, before anything else looks at it.
//
// Whatever the bytes are, the answer is a value: a batch that fits, or the reason and place of the first thing
// wrong with it. A batch is taken whole or not at all.

import type { RecordBatch, RecordPlace } from '../base/batch.ts'
import { type Lsn, lsnPlus, type Term } from '../base/lsn.ts'
import type { Membership } from '../base/membership.ts'
import { membershipAt, withMembership } from './members-record.ts'
import { RecordChecker } from './record-checker.ts'
import {
  placeBeforeAll,
  readU32,
  readU64,
  recordField,
  recordHeaderBytes,
  recordKind,
  samePlace,
} from './record-format.ts'
import { payloadProblem } from './record-reader.ts'

/** Either the record that the batch must follow, or just its term, and the rest is read from the first record. */
export type VerifyBatchOptions =
  | { readonly databaseId: string; readonly previous: RecordPlace }
  | { readonly databaseId: string; readonly previousTerm: Term }

export type VerifyBatchResult =
  | { readonly ok: true; readonly batch: RecordBatch }
  | { readonly ok: false; readonly reason: string; readonly at: number }

/** The batch shares `bytes`, which must not change any more. */
export function verifyBatch(bytes: Uint8Array, options: VerifyBatchOptions): VerifyBatchResult {
  const previous = 'previous' in options ? options.previous : previousOf(bytes, options.previousTerm)
  if (previous === undefined)
    return { ok: false, reason: 'there is no record that could follow another', at: 0 }
  const checker = new RecordChecker({ databaseId: options.databaseId, previous })
  let membership: Membership | undefined
  let at = 0
  while (at < bytes.length) {
    const taken = checker.check(bytes, at, bytes.length, 0)
    if (taken < 0) return { ok: false, reason: checker.reason || 'it is empty', at }
    const problem = payloadProblem(bytes, checker.kind, at + recordHeaderBytes, at + taken)
    if (problem !== undefined) return { ok: false, reason: problem, at }
    if (checker.kind === recordKind.members) membership = membershipAt(bytes, at)
    at += taken
  }
  if (at === 0) return { ok: false, reason: 'there is no record', at }
  const last = checker.place
  return {
    ok: true,
    batch: {
      bytes,
      firstLsn: lsnPlus(previous.lsn, 1),
      lastLsn: last.lsn,
      previous,
      last,
      ...withMembership(membership),
    },
  }
}

/** The place that the first record says it follows; the check of the record itself comes after. */
function previousOf(bytes: Uint8Array, term: Term): RecordPlace | undefined {
  if (bytes.length < recordHeaderBytes) return undefined
  const lsn = readU64(bytes, recordField.lsn) - 1
  if (!Number.isSafeInteger(lsn) || lsn < 0) return undefined
  const previous: RecordPlace = { lsn: lsn as Lsn, term, crc: readU32(bytes, recordField.previousCrc) }
  return lsn > 0 || samePlace(previous, placeBeforeAll) ? previous : undefined
}
