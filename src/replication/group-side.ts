// What a site does as one of a group beside its role: greet, canvass, vote. The one door for the messages of a group
// that belong to no attachment.

import type { GroupOptions, PeerId, SiteView } from './core-options.ts'
import type { CoreState } from './core-state.ts'
import { ignore, type StepResult } from './effects.ts'
import { Election, type ElectionHooks } from './election.ts'
import { MemberElectorate, StatedElectorate } from './electorate.ts'
import { Greetings, type GreetingsHooks } from './greetings.ts'
import type { Canvass, HeardMaster, Hello, SiteActivity, Vote, VoteRequest } from './group-messages.ts'
import { knownCode } from './message-codec.ts'
import type { Refuse } from './messages.ts'

export type LinkMessage = Hello | Canvass | VoteRequest | Vote

export type GroupHooks = ElectionHooks &
  Pick<GreetingsHooks, 'announcedMaster'> & {
    /** What the site does by its role; 'alone' where it has none. */
    activity(): SiteActivity
  }

export class GroupSide {
  readonly #state: CoreState
  readonly election: Election
  readonly greetings: Greetings
  /** Where the application says who votes. */
  readonly #stated: StatedElectorate | undefined

  constructor(state: CoreState, options: GroupOptions, hooks: GroupHooks) {
    this.#state = state
    const activity = (): SiteActivity => {
      const byRole = hooks.activity()
      return byRole === 'alone' && this.election.isCandidate ? 'candidate' : byRole
    }
    const announcedMaster = (): HeardMaster | undefined => hooks.announcedMaster()
    const masterFound = (master: HeardMaster): void => this.election.masterFound(master)
    this.greetings = new Greetings(state, options, { announcedMaster, activity, masterFound })
    const { greetings } = this
    const { priority = 100, view = false, elections = 'members' } = options
    const { automatic = elections === 'members' } = options
    this.#stated = elections === 'application' ? new StatedElectorate(state, greetings) : undefined
    this.election = new Election({
      state,
      greetings,
      hooks,
      electorate: this.#stated ?? new MemberElectorate(state, greetings),
      priority,
      view,
      automatic,
    })
  }

  /** What this site says of itself, and its priority, from now on. Who holds the elections stays. */
  change(options: GroupOptions): void {
    this.greetings.change(options)
    this.election.priority = options.priority ?? 100
  }

  /** The sites elect by themselves; false: the application holds the elections. */
  get elects(): boolean {
    return this.#stated === undefined
  }

  get sites(): SiteView[] {
    return this.greetings.sites
  }

  /** An election that is asked for; `votes` to win it where the application says how many vote. */
  holdElection(votes: number = 1): void {
    // Not in the midst of one: what it takes to win must not change.
    if (this.#stated !== undefined && !this.election.isCandidate) this.#stated.votes = votes
    this.election.hold()
  }

  process(message: LinkMessage, from: PeerId): StepResult {
    if (!this.greetings.isLink(from) && message.type !== 'hello') {
      // On a transport without connections the answer may find its own way; who asks is greeted first.
      return ignore('the sender has not said who it is')
    }
    switch (message.type) {
      case 'hello':
        return this.greetings.hello(message, from)
      case 'canvass':
        return this.election.canvass(message, from)
      case 'voteRequest':
        return this.election.voteRequest(message, from)
      case 'vote':
        return this.election.vote(message, from)
    }
  }

  /** Another site turns this one away. */
  refused(refusal: Refuse, from: PeerId): StepResult {
    if (!this.greetings.isLink(from)) return ignore('the session is not known')
    const { message } = refusal
    const code = knownCode(refusal.code, 'HANDSHAKE_FAILED')
    if (code === 'DUPLICATE_SITE' && this.#state.ownMember !== undefined) {
      return ignore('the other one has the id of this site, which is the member')
    }
    this.#state.event({ kind: 'refusedByGroup', code, message })
    return { kind: 'joinFailure', code, reason: message }
  }

  disconnected(peer: PeerId): void {
    this.greetings.unlinked(peer)
  }

  tick(): void {
    this.greetings.tick()
    this.election.tick()
  }
}
