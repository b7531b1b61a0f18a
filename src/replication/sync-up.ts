// How a replica comes into step with its master, decided by the master from what the Join says, in one round trip.
// Pure. docs/protocol.md, section "Sync-up".

import type { RecordPlace } from '../base/batch.ts'
import type { ErrorCode } from '../base/errors.ts'
import { agreedLsn, entryAt, type History, type HistoryEntry, sameEntry } from '../base/history.ts'
import { type Lsn, lsnPlus, noLsn } from '../base/lsn.ts'
import type { SnapshotResume } from './core-options.ts'
import { samePlace } from './core-state.ts'
import type { Join, SyncPlan } from './messages.ts'

/** The master's log. */
export interface MasterLog {
  readonly databaseId: string
  readonly history: History
  readonly firstLsn: Lsn
  readonly last: RecordPlace
}

export type SyncDecision =
  | {
      readonly kind: 'plan'
      readonly plan: SyncPlan
      readonly agreedLsn: Lsn
      /** The earlier snapshot that can be gone on with. */
      readonly resume: SnapshotResume | undefined
    }
  | { readonly kind: 'refuse'; readonly code: ErrorCode; readonly message: string }

type Joiner = Pick<
  Join,
  | 'databaseId'
  | 'history'
  | 'firstLsn'
  | 'last'
  | 'permanentLsn'
  | 'replace'
  | 'snapshot'
  | 'resume'
  | 'mixed'
>

export function decideSync(master: MasterLog, joiner: Joiner): SyncDecision {
  if (joiner.databaseId === undefined) return snapshotPlan(master, joiner, noLsn)
  if (joiner.databaseId !== master.databaseId) {
    if (joiner.replace) return snapshotPlan(master, joiner, noLsn)
    return refuse('FOREIGN_HISTORY', `the replica holds database ${joiner.databaseId}`)
  }
  const agreed = agreedLsn(
    { history: master.history, lastLsn: master.last.lsn },
    { history: joiner.history, lastLsn: joiner.last.lsn },
  )
  const problem = sharedProblem(master, joiner, agreed)
  if (problem !== undefined) return joiner.replace ? snapshotPlan(master, joiner, noLsn) : problem
  const masterReaches = master.firstLsn <= agreed + 1
  if (joiner.snapshot || !masterReaches || !makesOneState(master, joiner))
    return snapshotPlan(master, joiner, agreed)
  if (agreed === joiner.last.lsn) {
    return plan(agreed === master.last.lsn ? 'equal' : 'stream', agreed)
  }
  // Without the log from there on, the replica has no undo to go back with.
  if (agreed < joiner.firstLsn - 1) return snapshotPlan(master, joiner, agreed)
  return plan('rewind', agreed)
}

/** Why two logs of one database cannot be joined. */
function sharedProblem(
  master: MasterLog,
  joiner: Joiner,
  agreed: Lsn,
): Extract<SyncDecision, { kind: 'refuse' }> | undefined {
  if (agreed === 0 && !shareBeginning(master, joiner)) {
    return refuse('FOREIGN_HISTORY', 'the two logs share no record')
  }
  if (agreed < joiner.permanentLsn) {
    const message = `the logs agree up to LSN ${agreed}, but the replica's are permanent up to ${joiner.permanentLsn}`
    return refuse('REWIND_REFUSED', message)
  }
  if (agreed === joiner.last.lsn && agreed === master.last.lsn && !samePlace(joiner.last, master.last)) {
    return refuse('FOREIGN_HISTORY', `the two logs differ at LSN ${agreed}`)
  }
  return undefined
}

/**
 * Logs of one database that share no reign still agree on the empty beginning - if they can be told from there on;
 * else nothing says what they share.
 */
export function shareBeginning(
  a: { readonly history: History; readonly last: RecordPlace },
  b: { readonly history: History; readonly last: RecordPlace },
): boolean {
  const isWhole = (log: typeof a): boolean => log.last.lsn === 0 || log.history[0]?.firstLsn === 1
  return isWhole(a) && isWhole(b)
}

function plan(kind: SyncPlan, agreed: Lsn): SyncDecision {
  return { kind: 'plan', plan: kind, agreedLsn: agreed, resume: undefined }
}

function snapshotPlan(master: MasterLog, joiner: Joiner, agreed: Lsn): SyncDecision {
  const { resume } = joiner
  const resumable = resume !== undefined && canResume(master, resume)
  return {
    kind: 'plan',
    plan: 'snapshot',
    agreedLsn: agreed,
    resume: resumable ? resume : undefined,
  }
}

/** Rows of two ages are made one state by the very record that the newer ones were read at. */
function makesOneState(master: MasterLog, { mixed }: Joiner): boolean {
  return mixed === undefined || hasRecord(master, mixed.lsn, mixed.reign)
}

/** The record that was written at `lsn` in that reign, and no other one. */
function hasRecord(master: MasterLog, lsn: Lsn, reign: HistoryEntry): boolean {
  if (lsn > master.last.lsn) return false
  const entry = entryAt(master.history, lsn)
  return entry !== undefined && sameEntry(entry, reign)
}

/**
 * The rows stored so far are of use if the log goes on from their base: it must be ours, and still be there. And it must
 * have the newest record that they are of: what was undone since would stay in the rows for ever.
 */
function canResume(master: MasterLog, resume: SnapshotResume): boolean {
  const { databaseId, base, reign, newest } = resume
  if (databaseId !== master.databaseId || master.firstLsn > lsnPlus(base.lsn, 1)) return false
  return hasRecord(master, base.lsn, reign) && hasRecord(master, newest.lsn, newest.reign)
}

function refuse(code: ErrorCode, message: string): Extract<SyncDecision, { kind: 'refuse' }> {
  return { kind: 'refuse', code, message }
}
