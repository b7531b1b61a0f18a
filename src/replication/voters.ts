// Who counts for a master: the sites whose acks vote, how many there are, and whether a majority of them is heard.
// In a group that elects these are the members that the log names; elsewhere whoever attaches, or as many as the
// operator says.

import { assert } from '../base/assert.ts'
import {
  isSameTwoSites,
  type Members,
  type Membership,
  majorityOf,
  mayGoOnAlone,
  memberOf,
} from '../base/membership.ts'
import type { Attachments } from './attachments.ts'
import type { ServeSettings } from './core-options.ts'
import type { CoreState } from './core-state.ts'
import type { Join } from './messages.ts'

export class Voters {
  readonly #state: CoreState
  readonly #attachments: Attachments
  readonly #settings: () => ServeSettings

  constructor(state: CoreState, attachments: Attachments, settings: () => ServeSettings) {
    this.#state = state
    this.#attachments = attachments
    this.#settings = settings
  }

  /** Whether the acks of a replica count. */
  mayVote(join: Join): boolean {
    const { membership } = this.#state
    if (join.view) return false
    if (!this.#settings().elections || membership === undefined) return true
    return memberOf(membership, join.site)?.incarnation === join.incarnation
  }

  /** Voting sites of the group: its members, or as many as the operator says; undefined where nobody says. */
  get sites(): number | undefined {
    const { elections, sites } = this.#settings()
    const { membership } = this.#state
    return elections && membership !== undefined ? membership.members.length : sites
  }

  /** Of the two members the one that is there is enough for its commits and its reign, if not for permanence. */
  get goesOnAlone(): boolean {
    return this.#settings().elections && this.#state.goesOnAlone
  }

  /**
   * The members have changed. Two lists that are in force anywhere share a majority: they differ by one site, each is
   * permanent before the next, and the first of a reign comes after a permanent record of its own.
   */
  checkChange(before: Membership | undefined, now: Membership, hasPermanentInReign: boolean): void {
    if (!this.#settings().elections || before === undefined) return
    const { permanentLsn, ownMember } = this.#state
    // Of two that go on alone one may take the other off the list without its word: nothing is permanent but what both have.
    const isAlone = mayGoOnAlone(before) && now.members.length < 2
    assert(hasPermanentInReign || isAlone, 'the members change after a permanent record of the reign')
    assert(before.lsn <= permanentLsn, 'the members change one at a time')
    assert(countChanged(before, now) <= 1, 'the members change by one site at a time')
    // A third one could else elect with one of the two what the other one, alone, knows nothing of.
    assert(
      now.members.length <= 2 || !mayGoOnAlone(before),
      'two that go on alone are strict before a third comes',
    )
    assert(
      isSameTwoSites(before.twoSites, now.twoSites) || countChanged(before, now) === 0,
      'what two sites do changes by itself',
    )
    assert(ownMember !== undefined, 'a master is a member')
  }

  /** In a group that elects: too few members were heard for an election timeout, so another may have been elected. */
  get hasLostMajority(): boolean {
    const { now, timings, membership } = this.#state
    if (!this.#settings().elections || membership === undefined || this.goesOnAlone) return false
    return !this.#isMajority(membership, (site) => {
      const heardAt = this.#attachments.heardAt(site)
      return heardAt !== undefined && now - heardAt <= timings.electionTimeoutMs
    })
  }

  /** Whether the sites that are heard, with this one, are a majority of those that vote. */
  areMajority(isHeard: (site: string) => boolean): boolean {
    const { membership } = this.#state
    const { elections, sites } = this.#settings()
    if (elections) return membership === undefined || this.#isMajority(membership, isHeard)
    let count = 1
    for (const { votes, site } of this.#attachments.all()) if (votes && isHeard(site)) count++
    // Who votes nobody has said: then there is no majority of them.
    return sites !== undefined && count > sites >> 1
  }

  #isMajority(membership: Membership, isHeard: (site: string) => boolean): boolean {
    let count = 0
    for (const { site } of membership.members) if (site === this.#state.site || isHeard(site)) count++
    return count >= majorityOf(membership)
  }
}

/** Sites that are on one of two lists only, or with another incarnation. */
function countChanged(a: Members, b: Members): number {
  const missing = (from: Members, other: Members): number =>
    from.members.filter(({ site, incarnation }) => memberOf(other, site)?.incarnation !== incarnation).length
  return Math.max(missing(a, b), missing(b, a))
}
