// What the parts of an open log share: its segments, its end, its history. Only the writer and the operations
// that it waits for (truncation, trimming) change it.

import { assert } from '../base/assert.ts'
import type { RecordBatch, RecordPlace } from '../base/batch.ts'
import type { History, HistoryEntry } from '../base/history.ts'
import { limits } from '../base/limits.ts'
import type { Lsn } from '../base/lsn.ts'
import type { Membership } from '../base/membership.ts'
import type { LogTail } from './log-tail.ts'
import { membershipsOf } from './members-record.ts'
import { recordKind } from './record-format.ts'
import { eachRecord, siteOf } from './record-reader.ts'
import type { Segment } from './segment.ts'

export class LogState {
  readonly databaseId: string
  readonly tail: LogTail
  /** In order of LSN, without gaps; never empty. The last one is open for writing. */
  readonly segments: Segment[]
  /** The last record appended; the disk may not have it yet. */
  last: RecordPlace
  /** Invariant: durableLsn <= last.lsn. */
  durableLsn: Lsn
  /** Of the records up to `last`. */
  history: History
  /** Of the members records that the log holds, in order, and of the last one that was trimmed from it while open. */
  memberships: readonly Membership[]

  constructor(options: {
    readonly databaseId: string
    readonly tail: LogTail
    readonly segments: Segment[]
    readonly last: RecordPlace
    readonly history: History
    readonly memberships: readonly Membership[]
  }) {
    assert(options.segments.length > 0, 'an open log has a segment')
    this.databaseId = options.databaseId
    this.tail = options.tail
    this.segments = options.segments
    this.last = options.last
    this.durableLsn = options.last.lsn
    this.history = options.history
    this.memberships = options.memberships
  }

  get active(): Segment {
    return this.segments[this.segments.length - 1] as Segment
  }

  get firstLsn(): Lsn {
    return (this.segments[0] as Segment).firstLsn
  }

  /** The segment that holds `lsn`; the first one for an LSN before it. */
  segmentOf(lsn: Lsn): Segment {
    let low = 0
    let high = this.segments.length - 1
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if ((this.segments[middle] as Segment).firstLsn <= lsn) low = middle
      else high = middle - 1
    }
    return this.segments[low] as Segment
  }
}

/** `memberships` and those that `batch` brings. */
export function withMembershipsOf(
  memberships: readonly Membership[],
  batch: RecordBatch,
): readonly Membership[] {
  return batch.membership === undefined ? memberships : [...memberships, ...membershipsOf(batch)]
}

/** What is left when the log begins with `firstLsn`: the last one before it still holds, until the next. */
export function membershipsFrom(memberships: readonly Membership[], firstLsn: Lsn): readonly Membership[] {
  const held = memberships.findLastIndex((membership) => membership.lsn < firstLsn)
  return held <= 0 ? memberships : memberships.slice(held)
}

/** `history` and the reign that a term record begins, the oldest forgotten beyond the bound. */
export function withReign(history: History, entry: HistoryEntry): History {
  const kept =
    history.length < limits.historyEntriesMax ? history : history.slice(1 - limits.historyEntriesMax)
  return [...kept, entry]
}

/** `history` and the reigns that begin in `batch`. */
export function withReignsOf(history: History, batch: RecordBatch): History {
  // Terms change with term records only (the checker and the builder see to it): most batches have none.
  if (batch.last.term === batch.previous.term) return history
  let grown = history
  eachRecord(batch.bytes, (lsn, term, _wallMs, kind, payloadStart, payloadEnd) => {
    if (kind !== recordKind.term) return
    const site = siteOf(batch.bytes, payloadStart, payloadEnd)
    assert(site !== undefined, 'a term record holds a site id')
    grown = withReign(grown, { term, firstLsn: lsn, site })
  })
  return grown
}
