// The members record: who belongs to the group from this record on. It is a commit that writes one row, the one under
// the system key of the members, so that stores, snapshots and undo need to know nothing of it.
//
// It holds from the moment that it is in a log, so the log keeps all that it holds, in order: a truncation brings
// back the one before. They are few, and a batch says whether it has any, so no commit pays for them. One whose
// members cannot be read is refused from the network, and FORMAT_UNSUPPORTED on disk.

import { assert } from '../base/assert.ts'
import type { RecordBatch } from '../base/batch.ts'
import { utf8Encode } from '../base/bytes.ts'
import type { Lsn } from '../base/lsn.ts'
import { decodeMembers, type Members, type Membership } from '../base/membership.ts'
import { readU32, readU64, recordField, recordHeaderBytes, recordKind, writeOp } from './record-format.ts'

/**
 * First byte of the keys that belong to no store of a user: theirs begin with the length of a name, 200 at most. The
 * store on disk keeps 254 and 255 for itself.
 */
export const systemKeyByte = 253

/** The whole key of the row that has the members. */
export const membersKey: Uint8Array = Uint8Array.of(systemKeyByte, ...utf8Encode('members'))

const putHeaderBytes = 7

/** What a members record says; undefined unless its payload is one put of the members' row that can be read. */
export function membersIn(bytes: Uint8Array, payloadStart: number, payloadEnd: number): Members | undefined {
  const keyStart = payloadStart + putHeaderBytes
  const valueStart = keyStart + membersKey.length
  if (valueStart > payloadEnd || bytes[payloadStart] !== writeOp.put) return undefined
  const keyBytes = (bytes[payloadStart + 1] as number) | ((bytes[payloadStart + 2] as number) << 8)
  if (keyBytes !== membersKey.length || readU32(bytes, payloadStart + 3) !== payloadEnd - valueStart)
    return undefined
  if (!membersKey.every((byte, i) => bytes[keyStart + i] === byte)) return undefined
  return decodeMembers(bytes.subarray(valueStart, payloadEnd))
}

/** What the verified members record at `at` says. */
export function membershipAt(bytes: Uint8Array, at: number): Membership | undefined {
  const members = membersIn(bytes, at + recordHeaderBytes, at + readU32(bytes, at + recordField.length))
  return members && { ...members, lsn: readU64(bytes, at + recordField.lsn) as Lsn }
}

/** All members records of a verified batch, in order. */
export function membershipsOf(batch: RecordBatch): Membership[] {
  // The builder, the checks and the slices see to it that a batch with such a record has the last of them.
  if (batch.membership === undefined) return []
  const { bytes } = batch
  const found: Membership[] = []
  for (let at = 0; at < bytes.length; at += readU32(bytes, at + recordField.length)) {
    if (bytes[at + recordField.kind] !== recordKind.members) continue
    const membership = membershipAt(bytes, at)
    assert(membership !== undefined, 'the members of a verified record can be read')
    found.push(membership)
  }
  assert(found.at(-1)?.lsn === batch.membership.lsn, 'a batch has the last of its members records')
  return found
}

/** As an optional field of a batch: left out where there is none. */
export function withMembership(membership: Membership | undefined): { readonly membership?: Membership } {
  return membership === undefined ? {} : { membership }
}
