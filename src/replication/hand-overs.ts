// Mastership that changes hands without an election's waiting: a master gives it, or is asked for it, and a replica
// takes it. handing-over.ts says when a master may; docs/protocol.md, section "Hand-over", tells the story.
//
// The point of no return is `#complete`: from its effect `steppedDown` on nothing more is written here, and the term is
// on this disk, as the other site's, before that one is told.

import { CoterieError } from '../base/errors.ts'
import type { Lsn, Term } from '../base/lsn.ts'
import type { PeerId } from './core-options.ts'
import type { CoreState } from './core-state.ts'
import { ignore, type StepResult, stepOk } from './effects.ts'
import type { Handover, TakeOver } from './group-messages.ts'
import type { Master } from './master.ts'
import { messageLimits } from './message-limits.ts'
import type { Join } from './messages.ts'
import type { Progress } from './progress.ts'
import type { Roles } from './roles.ts'

/** A hand-over that this site has made: the term is the other site's. */
interface Successor {
  readonly site: string
  readonly address: string
  readonly term: Term
  readonly lsn: Lsn
  readonly grouped: boolean
}

export class HandOvers {
  readonly #state: CoreState
  readonly #roles: Roles
  #successor: Successor | undefined
  /** The replica that asked for mastership last, and where it will serve. */
  #asked: { readonly site: string; readonly address: string } | undefined

  constructor(state: CoreState, roles: Roles) {
    this.#state = state
    this.#roles = roles
  }

  /** Where the site is that this one has handed over to, in the present term. */
  get heirAddress(): string | undefined {
    const successor = this.#successor
    return successor?.term === this.#state.term ? successor.address : undefined
  }

  /** TRANSFER_FAILED where it cannot be, INVALID_STATE where another one is under way. */
  begin(master: Master, site: string): void {
    const { now, timings } = this.#state
    const progress = master.attachments.ofSite(site)
    if (progress === undefined) throw new CoterieError('TRANSFER_FAILED', `site ${site} is not attached`)
    const problem = this.#whyNotTo(progress)
    if (problem !== undefined) throw new CoterieError('TRANSFER_FAILED', problem)
    if (master.heir !== undefined) {
      throw new CoterieError('INVALID_STATE', `a hand-over to ${master.heir.site} is under way`)
    }
    const address = this.#asked?.site === site ? this.#asked.address : progress.join.address
    master.handOver({ site, address, deadline: now + timings.handOverTimeoutMs })
  }

  /** After every step. */
  review(): void {
    const heir = this.#roles.master?.readyToHandOver()
    if (heir !== undefined) this.#complete(heir)
  }

  takeOver(message: TakeOver, from: PeerId): StepResult {
    const { master, relay } = this.#roles
    if (relay !== undefined) return relay.takeOver(message, from)
    const progress = master?.attachments.ofPeer(from)
    if (master === undefined || progress?.session !== message.session)
      return ignore('the session is not known')
    progress.heardAt = this.#state.now
    const { heir } = master
    if (heir?.site === progress.site) return ignore('the hand-over is under way')
    const problem =
      heir === undefined ? this.#whyNotTo(progress) : `the master is handing over to site ${heir.site}`
    if (problem !== undefined) {
      this.#refuse(progress, problem)
      return ignore(problem)
    }
    const { site } = progress
    const address = message.address || progress.join.address
    this.#asked = { site, address }
    this.#state.event({ kind: 'takeOverAsked', site, peer: from, address })
    return stepOk
  }

  /** The mastership is not to be had: nothing changes. */
  refuse(options: { readonly site: string; readonly message: string }): void {
    const progress = this.#roles.master?.attachments.ofSite(options.site)
    if (progress !== undefined) this.#refuse(progress, options.message)
  }

  #refuse({ peer, session }: Progress, message: string): void {
    const { term } = this.#state
    this.#state.send(peer, { type: 'handoverRefused', session, term, code: 'TRANSFER_FAILED', message })
  }

  /** Why a site that is attached cannot be handed the mastership. */
  #whyNotTo({ site, votes, join }: Progress): string | undefined {
    if (join.view) return `site ${site} is a view: it never becomes master`
    if (this.#roles.master?.settings.elections === true && !votes) {
      return `site ${site} is no member of the group yet`
    }
    const view = this.#roles.group?.sites.find((each) => each.site === site)
    if (view?.priority === 0) return `site ${site} has priority 0: it never becomes master`
    return this.#state.term >= messageLimits.termMax ? 'there is no term left' : undefined
  }

  #complete(heir: Progress): void {
    const state = this.#state
    const { site, peer, session } = heir
    const reigning = this.#roles.master
    const grouped = reigning?.settings.elections === true
    const address = reigning?.heir?.address ?? ''
    const term = (state.term + 1) as Term
    const { lsn } = state.last
    const master = this.#roles.endReign({ reason: 'handed-over', term, site, address })
    state.counters.handOvers++
    // In a group the other may still lose the election, so only the vote is given; else the whole term is.
    state.raiseTerm(term, grouped ? undefined : site, site)
    this.#successor = { site, address, term, lsn, grouped }
    state.send(peer, { type: 'handover', session, term, lsn, grouped })
    master?.end({ code: 'REPLACED', message: `site ${site} has taken over`, master: address, heir })
    state.event({ kind: 'handedOver', site, address, term, lsn })
    this.#roles.group?.election.gaveAway()
  }

  /** The heir comes again: it has not heard that it is one. True: it is told. */
  tellAgain(join: Join, to: PeerId): boolean {
    const { term, databaseId } = this.#state
    const successor = this.#successor
    if (successor?.site !== join.site || join.databaseId !== databaseId || successor.term !== term)
      return false
    const { lsn, grouped } = successor
    this.#state.send(to, { type: 'handover', session: join.session, term, lsn, grouped })
    return true
  }

  /** The master gives its place to this site. */
  handover(message: Handover, from: PeerId): StepResult {
    const state = this.#state
    const replica = this.#roles.replica
    const group = this.#roles.group
    if (replica?.peer !== from || replica.session !== message.session) {
      return ignore('the session is not known')
    }
    if (message.grouped && (group === undefined || state.ownMember === undefined)) {
      return ignore('this site is no member of the group')
    }
    if (replica.isView) return ignore('a view is never master')
    const by = replica.master?.site
    const refusal = replica.takeHandover(message)
    if (refusal !== undefined) return refusal
    this.#roles.dropEnded()
    if (message.grouped) {
      // In answer to a Join it is not known here who gave it: then its vote is asked for like any other.
      group?.election.handedOver(message.term, by)
    } else {
      // The term is this site's already where it died between taking it and its first record.
      if (message.term > state.term) state.raiseTerm(message.term, state.site, state.site)
      // Or where it has heard whose the term is from others, before it was told itself.
      else if (state.vote === undefined) state.castVote(state.site)
      this.#roles.given(message.term)
      state.emit({ kind: 'elected', term: message.term, handover: true })
    }
    return stepOk
  }
}
