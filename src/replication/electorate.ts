// Who votes in an election, and how many of them it takes.
//
// In a group that looks after itself these are the members that the log names, each with the very data that it was
// taken in with. Where the application holds the elections (Base API) it says how many sites there are, and any site
// that has greeted counts once, by its id: that the number is right is the application's word.

import { assert } from '../base/assert.ts'
import { majorityOf, memberOf } from '../base/membership.ts'
import type { PeerId } from './core-options.ts'
import type { CoreState } from './core-state.ts'
import type { Greetings } from './greetings.ts'

export interface LinkedVoter {
  readonly site: string
  readonly peer: PeerId
}

export interface Electorate {
  /** This site may stand and be elected. */
  readonly includesThisSite: boolean
  /** Votes that it takes to be elected. */
  readonly majority: number
  /** Whether `site` is one of them; `incarnation` where it is known of what data. */
  includes(site: string, incarnation?: string): boolean
  /** The others that can be reached. */
  linked(): LinkedVoter[]
  /** Of two sites that go on alone the other one, and which half of the terms are this one's; else undefined. */
  readonly pair: Pair | undefined
}

/** Two sites, each of which may reign without the other's vote. */
export interface Pair {
  readonly other: string
  /** What the terms leave, divided by two, that this site is elected in without the other one: so no term is of both. */
  readonly remainder: 0 | 1
}

/** The members that the log names. */
export class MemberElectorate implements Electorate {
  readonly #state: CoreState
  readonly #greetings: Greetings

  constructor(state: CoreState, greetings: Greetings) {
    this.#state = state
    this.#greetings = greetings
  }

  get includesThisSite(): boolean {
    return this.#state.ownMember !== undefined
  }

  get majority(): number {
    const { membership } = this.#state
    assert(membership !== undefined, 'who votes is a member')
    return majorityOf(membership)
  }

  includes(site: string, incarnation?: string): boolean {
    const member = memberOf(this.#state.membership, site)
    return member !== undefined && (incarnation === undefined || member.incarnation === incarnation)
  }

  linked(): LinkedVoter[] {
    const { membership, site: own } = this.#state
    const others = (membership?.members ?? []).filter(({ site }) => site !== own)
    return others.flatMap(({ site }) => {
      const peer = this.#greetings.linkTo(site)
      return peer === undefined ? [] : [{ site, peer }]
    })
  }

  get pair(): Pair | undefined {
    const { membership, site: own, ownMember, goesOnAlone } = this.#state
    if (ownMember === undefined || !goesOnAlone) return undefined
    const other = membership?.members.find(({ site }) => site !== own)
    assert(other !== undefined, 'of two members one is another one')
    return { other: other.site, remainder: own < other.site ? 0 : 1 }
  }
}

/** As many sites as the application says. */
export class StatedElectorate implements Electorate {
  readonly #state: CoreState
  readonly #greetings: Greetings
  /** Of the election that is held, or was held last. */
  votes = 1

  constructor(state: CoreState, greetings: Greetings) {
    this.#state = state
    this.#greetings = greetings
  }

  get includesThisSite(): boolean {
    return this.#state.databaseId !== undefined
  }

  get majority(): number {
    return this.votes
  }

  includes(site: string): boolean {
    return this.#greetings.sites.some((view) => view.site === site && !view.view) || site === this.#state.site
  }

  linked(): LinkedVoter[] {
    return this.#greetings.linkedSites().filter(({ site }) => this.includes(site))
  }

  get pair(): undefined {
    return undefined
  }
}
