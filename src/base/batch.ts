// A run of log records as they stand on disk and wire: the unit in which records are written, sent and applied.

import type { Lsn, Term } from './lsn.ts'
import type { Membership } from './membership.ts'

/**
 * Whole records, one after the other, with consecutive LSNs. `previous` names the record before the first, so that
 * whoever receives the batch can tell whether it fits.
 *
 * Invariant: `bytes` never changes once a batch exists; disk, sockets and the applier share it without copies.
 */
export interface RecordBatch {
  readonly bytes: Uint8Array
  readonly firstLsn: Lsn
  readonly lastLsn: Lsn
  readonly previous: RecordPlace
  readonly last: RecordPlace
  /** What the last members record in it says. Invariant: there if and only if there is such a record. */
  readonly membership?: Membership
}

/** Names one record beyond doubt: equal places mean equal logs up to there (the checksums are chained). */
export interface RecordPlace {
  readonly lsn: Lsn
  readonly term: Term
  /** The record's checksum, which covers the checksum of the record before it. 0 at LSN 0. */
  readonly crc: number
}
