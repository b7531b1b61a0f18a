// The records of the log as an operator sees them: all of them, committed or not, decoded.

import { type Lsn, lsnPlus } from '../base/lsn.ts'
import type { Members } from '../base/membership.ts'
import { checkOptions, type OptionRules, wholeNumber } from '../base/options.ts'
import { membersIn } from '../log/members-record.ts'
import { recordKind } from '../log/record-format.ts'
import { eachRecord } from '../log/record-reader.ts'
import { type ChangeWrite, changesIn } from './changes.ts'
import type { Engine } from './engine.ts'

export interface LogRecord {
  readonly lsn: Lsn
  readonly term: number
  /** The master's wall clock, ms since 1970. */
  readonly time: number
  /** `commit`: a transaction; `term`: the first record of a reign; `members`: a change of who belongs to the group. */
  readonly kind: 'commit' | 'term' | 'members'
  readonly bytes: number
  /** Of a commit. */
  readonly writes: readonly ChangeWrite[]
  /** Of a term record: who became master. */
  readonly site: string | undefined
  /** Of a members record: who belongs to the group from there on, and who was removed from it. */
  readonly members: Members | undefined
  readonly committed: boolean
}

export interface RecordsOptions {
  /** Default: the oldest that is kept. */
  readonly from?: number
  /** Default: the last. */
  readonly to?: number
  readonly limit?: number
}

const recordsRules: OptionRules = { from: wholeNumber(1), to: wholeNumber(1), limit: wholeNumber(0) }

export async function* readRecords(
  engine: Engine,
  options: RecordsOptions,
): AsyncGenerator<LogRecord, void, undefined> {
  checkOptions('records', options, recordsRules)
  const { log } = engine.parts
  let left = options.limit ?? Number.MAX_SAFE_INTEGER
  let next = (options.from ?? log.firstLsn) as Lsn
  const to = Math.min(options.to ?? log.lastLsn, log.lastLsn) as Lsn
  while (next <= to && left > 0) {
    const batch = await log.read({ from: next, to, bytesMax: 256 * 1024 })
    for (const record of recordsIn(batch.bytes, engine.committedLsn)) {
      if (left-- <= 0) return
      yield record
    }
    next = lsnPlus(batch.lastLsn, 1)
  }
}

function recordsIn(bytes: Uint8Array, committedLsn: Lsn): LogRecord[] {
  const writes = new Map(changesIn(bytes).map((change) => [change.lsn, change.writes]))
  const records: LogRecord[] = []
  eachRecord(bytes, (lsn, term, time, kind, start, end) => {
    const isTerm = kind === recordKind.term
    const isMembers = kind === recordKind.members
    records.push({
      lsn,
      term,
      time,
      kind: isTerm ? 'term' : isMembers ? 'members' : 'commit',
      bytes: end - start,
      writes: writes.get(lsn) ?? [],
      site: isTerm ? Buffer.from(bytes.subarray(start, end)).toString('utf8') : undefined,
      members: isMembers ? membersIn(bytes, start, end) : undefined,
      committed: lsn <= committedLsn,
    })
  })
  return records
}
