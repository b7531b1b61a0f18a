// The preferred master of two sites (`TwoSites`): it is master whenever it can be. While it is away the other one
// reigns; when it is back it follows that one, and asks for the reign as soon as it has everything. Only where both have
// committed something that the other one lacks, it does not follow: then the other one follows it, and undoes its own.

import { preferredMasterOf } from '../base/membership.ts'
import type { CoreState } from './core-state.ts'
import type { GroupSide } from './group-side.ts'
import type { Accept } from './messages.ts'

/** What a replica does that asks for the reign. */
interface Asker {
  readonly isSynced: boolean
  askTakeOver(address: string): void
}

/**
 * This very site is to be master whenever it can be. Only when it is certain that both know: one that takes itself for it by
 * a record that the other one lacks may not insist on the reign, and must follow, or it would do neither for ever.
 */
export function isPreferred(state: CoreState): boolean {
  if (state.ownMember === undefined || !state.goesOnAlone) return false
  return preferredMasterOf(state.membership) === state.site
}

/**
 * To follow this master would undo what the preferred one has committed. A tail that nobody was told of may go. Only one
 * that may be elected can have its way.
 */
export function undoesPreferred(accept: Accept, state: CoreState): boolean {
  if (accept.databaseId !== state.databaseId || !isPreferred(state)) return false
  if (accept.plan !== 'rewind' && accept.plan !== 'snapshot') return false
  return accept.agreedLsn < state.committedLsn
}

export class Preference {
  readonly #state: CoreState
  #askAt = 0

  constructor(state: CoreState) {
    this.#state = state
  }

  tick(replica: Asker | undefined, group: GroupSide | undefined): void {
    const { now, timings } = this.#state
    if (replica?.isSynced !== true || group === undefined || !isPreferred(this.#state)) return
    if (group.election.priority === 0 || now < this.#askAt) return
    // The question may be lost, or come to nothing; a hand-over has its time.
    this.#askAt = now + Math.max(1000, 4 * timings.electionTimeoutMs)
    replica.askTakeOver(group.greetings.address)
  }
}
