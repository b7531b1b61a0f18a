// What a site does as one of a group beside its role: greet, canvass, vote. The one door for the messages of a group
// that belong to no attachment.

import type { GroupOptions, PeerId, SiteView } from './core-options.ts'
import type { CoreState } from './core-state.ts'
import { ignore, type StepResult } from './effects.ts'
import { Election, type ElectionHooks } from './election.ts'
import { Greetings, type GreetingsHooks } from './greetings.ts'
import type { Canvass, Hello, SiteActivity, Vote, VoteRequest } from './group-messages.ts'

export type LinkMessage = Hello | Canvass | VoteRequest | Vote

export type GroupHooks = ElectionHooks &
  Pick<GreetingsHooks, 'heardMaster'> & {
    /** What the site does by its role; 'alone' where it has none. */
    activity(): SiteActivity
  }

export class GroupSide {
  readonly address: string
  readonly election: Election
  readonly greetings: Greetings

  constructor(state: CoreState, options: GroupOptions, hooks: GroupHooks) {
    this.address = options.address
    const { heardMaster } = hooks
    const activity = (): SiteActivity => {
      const byRole = hooks.activity()
      return byRole === 'alone' && this.election.isCandidate ? 'candidate' : byRole
    }
    this.greetings = new Greetings(state, options, { heardMaster, activity })
    const { greetings } = this
    this.election = new Election({ state, greetings, hooks, priority: options.priority ?? 100 })
  }

  get sites(): SiteView[] {
    return this.greetings.sites
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

  disconnected(peer: PeerId): void {
    this.greetings.unlinked(peer)
  }

  tick(): void {
    this.greetings.tick()
    this.election.tick()
  }
}
