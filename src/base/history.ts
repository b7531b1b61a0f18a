// The history of a log: which database it belongs to, and who wrote from which LSN on, and in which term.
//
// Two logs agree up to the last LSN before their histories part. Terms alone would do when a majority elects
// each master; promotions by hand can give two sites the same term, so an entry also names its master, and two
// entries are the same only if all three fields are.

import { type Lsn, lsnPlus, noLsn, type Term } from './lsn.ts'

/** One reign: `site` was master in `term` and wrote its first record at `firstLsn`. */
export interface HistoryEntry {
  readonly term: Term
  readonly firstLsn: Lsn
  readonly site: string
}

/** In order of LSN; terms grow. May begin after LSN 1 when older entries were forgotten. */
export type History = readonly HistoryEntry[]

/** The entry that `lsn` was written in, if the history reaches back to it. */
export function entryAt(history: History, lsn: Lsn): HistoryEntry | undefined {
  for (let i = history.length - 1; i >= 0; i--) {
    const entry = history[i]
    if (entry !== undefined && entry.firstLsn <= lsn) return entry
  }
  return undefined
}

/** The history of the log cut after `lastLsn`. */
export function historyUpTo(history: History, lastLsn: Lsn): History {
  return history.filter((entry) => entry.firstLsn <= lastLsn)
}

/** A log's identity for sync-up: its history and where it ends. */
export interface LogEnd {
  readonly history: History
  readonly lastLsn: Lsn
}

/**
 * The last LSN up to which two logs of one database hold the same records; 0 if they share none.
 * Two logs that share an entry share everything before it (log matching).
 */
export function agreedLsn(a: LogEnd, b: LogEnd): Lsn {
  for (let i = a.history.length - 1; i >= 0; i--) {
    const entry = a.history[i]
    if (entry === undefined) continue
    const j = b.history.findIndex((other) => sameEntry(entry, other))
    if (j < 0) continue
    return Math.min(endOfEntry(a, i), endOfEntry(b, j)) as Lsn
  }
  return noLsn
}

export function sameEntry(a: HistoryEntry, b: HistoryEntry): boolean {
  return a.term === b.term && a.firstLsn === b.firstLsn && a.site === b.site
}

function endOfEntry(log: LogEnd, index: number): Lsn {
  const next = log.history[index + 1]
  return next === undefined ? log.lastLsn : lsnPlus(next.firstLsn, -1)
}
