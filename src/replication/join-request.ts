// The Join of a replica: who it is, what its log is, and what it asks for. docs/protocol.md, section "Attach".

import { noTerm } from '../base/lsn.ts'
import type { FollowOptions, LeaseTerms, SnapshotResume } from './core-options.ts'
import type { CoreState } from './core-state.ts'
import type { Join } from './messages.ts'

export function joinRequest(
  state: CoreState,
  session: number,
  options: FollowOptions,
  lease: LeaseTerms | undefined,
): Join {
  const { databaseId, site, incarnation, history, firstLsn, last, durableLsn, permanentLsn, mixed } = state
  const { replace, snapshot, forceSync, view, member } = options
  return {
    type: 'join',
    session,
    term: databaseId === undefined ? noTerm : state.term,
    databaseId,
    site,
    incarnation,
    address: member?.address ?? '',
    history,
    firstLsn,
    last,
    durableLsn,
    permanentLsn,
    replace: replace === true,
    // Rows of two ages of which nobody knows what they make are of no use.
    snapshot: snapshot === true || (mixed !== undefined && mixed.reign === undefined),
    forceSync: forceSync === true,
    view: view === true,
    member: member !== undefined,
    leaseMs: lease?.durationMs ?? 0,
    resume: usefulResume(state, options),
    mixed: mixed?.reign && { lsn: mixed.lsn, reign: mixed.reign },
  }
}

/** Rows of an earlier snapshot are of use unless the log here has passed them. */
function usefulResume(state: CoreState, { resume }: FollowOptions): SnapshotResume | undefined {
  if (resume === undefined) return undefined
  const isOurs = resume.databaseId === state.databaseId
  return isOurs && resume.base.lsn < state.last.lsn ? undefined : resume
}
