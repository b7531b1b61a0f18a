// Whether a replica that asks to join is let in. Pure: looks, decides, changes nothing.
// docs/protocol.md, section "Attach".

import type { ErrorCode } from '../base/errors.ts'
import type { Lsn, Term } from '../base/lsn.ts'
import { memberOf } from '../base/membership.ts'
import type { Attachments } from './attachments.ts'
import type { PeerId, SnapshotResume } from './core-options.ts'
import type { CoreState } from './core-state.ts'
import type { Join, SyncPlan } from './messages.ts'
import type { Progress } from './progress.ts'
import type { Served } from './served.ts'
import { decideSync } from './sync-up.ts'

export type Admission =
  /** The same Join again: its answer was lost. */
  | { readonly kind: 'repeat'; readonly progress: Progress }
  | {
      readonly kind: 'admit'
      readonly plan: SyncPlan
      readonly agreedLsn: Lsn
      readonly resume: SnapshotResume | undefined
      /** Attachments that the new one takes the place of. */
      readonly replaces: readonly Progress[]
    }
  | { readonly kind: 'refuse'; readonly code: ErrorCode; readonly message: string }
  | { readonly kind: 'ignore'; readonly reason: string }

export interface AdmissionOptions {
  readonly state: CoreState
  readonly served: Served
  readonly attachments: Attachments
  readonly join: Join
  readonly from: PeerId
  readonly maxReplicas: number
}

export function admit(options: AdmissionOptions): Admission {
  const { state, served, attachments, join, from } = options
  const { databaseId } = state
  if (databaseId === undefined) return { kind: 'ignore', reason: 'the reign has not begun' }
  if (attachments.hasEnded(join.session)) return { kind: 'ignore', reason: 'the session has ended' }
  const onPeer = attachments.ofPeer(from)
  if (onPeer?.session === join.session) return { kind: 'repeat', progress: onPeer }
  if (join.site === state.site) return refuse('DUPLICATE_SITE', `this very site is ${join.site}`)
  const master = served.route === undefined ? state.site : served.route.site
  const rival = join.databaseId === databaseId && reignOfRival(join, { term: state.term, site: master })
  if (rival)
    return refuse('DUPLICATE_MASTER', `the replica has records of another master of term ${state.term}`)
  const ofSite = attachments.ofSite(join.site)
  if (ofSite !== undefined && ofSite !== onPeer) {
    const silentMs = state.now - ofSite.heardAt
    // The folder of a site is open in one process: the same incarnation is the same site, come back.
    const isSame = join.member && join.incarnation === ofSite.join.incarnation
    if (!isSame && silentMs < served.timings.silenceTimeoutMs) {
      return refuse(
        'DUPLICATE_SITE',
        `a site ${join.site} is attached and was heard ${Math.round(silentMs)} ms ago`,
      )
    }
  }
  const replaces: Progress[] = []
  if (onPeer !== undefined) replaces.push(onPeer)
  if (ofSite !== undefined && ofSite !== onPeer) replaces.push(ofSite)
  if (attachments.size - replaces.length >= options.maxReplicas) {
    return refuse('TOO_MANY_REPLICAS', `there are ${attachments.size} replicas, and no more are allowed`)
  }
  const decision = decideSync(
    { databaseId, history: served.history, firstLsn: state.firstLsn, last: served.last },
    join,
  )
  if (decision.kind === 'refuse') return decision
  const { plan, agreedLsn, resume } = decision
  return { kind: 'admit', plan, agreedLsn, resume, replaces }
}

/** Why a site cannot be one of this group, whatever its data. */
export function membershipProblem(
  state: CoreState,
  join: Join,
): { readonly code: ErrorCode; readonly message: string } | undefined {
  const { membership } = state
  if (membership === undefined) return undefined
  const { site } = join
  const isSettled = membership.lsn <= state.permanentLsn
  if (membership.removed.includes(site)) {
    // It believes this for good, so it is not told before it is certain.
    if (!isSettled) return { code: 'NOT_MASTER', message: `the removal of site ${site} is not settled yet` }
    return { code: 'MEMBER_REMOVED', message: `site ${site} was removed from the group` }
  }
  const member = memberOf(membership, site)
  if (member !== undefined && member.incarnation !== join.incarnation) {
    return {
      code: 'SITE_WIPED',
      message: `site ${site} is a member with other data: it has lost its disk, or two sites have its id`,
    }
  }
  // One that runs in a group has its term from a master of it, or from an election that it lost as a member by a record
  // that was undone: then the group has to reach that term. Any other unseats nobody.
  if (
    member === undefined &&
    !join.member &&
    join.databaseId === state.databaseId &&
    join.term > state.term
  ) {
    const message = `site ${site} is no member here, and comes from term ${join.term}, which is not known here`
    return { code: 'NOT_MASTER', message }
  }
  return undefined
}

/** Terms equal, sites not: two were promoted in the same term. Invariant 1: at most one of them is followed. */
function reignOfRival(join: Join, master: { readonly term: Term; readonly site: string }): boolean {
  const reign = join.history.at(-1)
  return reign !== undefined && reign.term === master.term && reign.site !== master.site
}

function refuse(code: ErrorCode, message: string): Admission {
  return { kind: 'refuse', code, message }
}
