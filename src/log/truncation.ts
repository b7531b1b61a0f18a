// Rewind: takes the records after an LSN out of the log, so that a crash at any moment leaves a log that opens.
//
// Zeroing the tail in place would not do: half way through, the marks behind the zeros would still attest records
// that are gone, and the log would count as damaged. So the segment that holds the cut is copied up to there,
// the later segments are removed from the newest on, and the copy takes the segment's name in one rename.

import type { RecordPlace } from '../base/batch.ts'
import { historyUpTo } from '../base/history.ts'
import { type Lsn, lsnPlus } from '../base/lsn.ts'
import { SyncFailure, toLogError } from './file-io.ts'
import type { LogFolder } from './log-folder.ts'
import { locateInSegment } from './log-reader.ts'
import { type LogState, membershipsFrom } from './log-state.ts'
import type { LogWriter } from './log-writer.ts'
import type { Segment } from './segment.ts'

/** The caller holds the writer and keeps readers out. A failure after the first change poisons the log. */
export async function truncate(options: {
  readonly folder: LogFolder
  readonly state: LogState
  readonly writer: LogWriter
  readonly lsn: Lsn
}): Promise<void> {
  const { folder, state, writer, lsn } = options
  const { files, databaseId } = folder
  const segment = state.segmentOf(lsn)
  let cut: { readonly place: RecordPlace; readonly end: number }
  let fileBytes: number
  try {
    cut =
      lsn < segment.firstLsn
        ? { place: segment.previous, end: segment.headerBytes }
        : await locateInSegment({ files, segment, databaseId, lsn })
    fileBytes = await folder.prepareCopy(segment, cut.end)
  } catch (thrown) {
    throw toLogError(thrown, `${segment.path} could not be copied`)
  }
  try {
    while (state.active !== segment) {
      await folder.removeNewest(state.active)
      state.segments.pop()
    }
    const copy = await folder.putInPlace(segment, { last: cut.place, dataEnd: cut.end, fileBytes })
    state.segments[state.segments.length - 1] = copy
  } catch (thrown) {
    writer.poisonBy(thrown)
    throw toLogError(thrown, `the log could not be truncated after ${lsn}`)
  }
  state.tail.clear()
  state.history = historyUpTo(state.history, lsn)
  state.memberships = state.memberships.filter((membership) => membership.lsn <= lsn)
  state.last = cut.place
  state.durableLsn = lsn
}

/**
 * Lets the oldest segments go whose records are all below `bound`. The last segment stays. The bound is asked for anew
 * before each: removing one may take long, and meanwhile somebody may need what nobody did.
 */
export async function trim(options: {
  readonly folder: LogFolder
  readonly state: LogState
  readonly writer: LogWriter
  readonly bound: () => Lsn
  /** The log begins at this record from now on, whether or not the file is gone yet. */
  readonly onLetGo: (firstLsn: Lsn) => void
}): Promise<number> {
  const { folder, state, writer, bound, onLetGo } = options
  let removed = 0
  for (;;) {
    const oldest = state.segments[0] as Segment
    const next = state.segments[1]
    if (next === undefined || next.firstLsn > bound()) return removed
    // Out of the list first: no read may begin in a file that is about to be written anew.
    state.segments.shift()
    onLetGo(next.firstLsn)
    try {
      await folder.retire(oldest)
    } catch (thrown) {
      // After a failed sync only a reopen can tell whether the file is there; the next one must not go before it.
      if (thrown instanceof SyncFailure) writer.poisonBy(thrown)
      else state.segments.unshift(oldest)
      throw toLogError(thrown, `${oldest.path} could not be let go`)
    }
    state.memberships = membershipsFrom(state.memberships, next.firstLsn)
    removed++
  }
}

export function isInLog(state: LogState, lsn: Lsn): boolean {
  return lsn >= lsnPlus(state.firstLsn, -1) && lsn <= state.last.lsn
}
