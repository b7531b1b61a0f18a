// Whose a message is: the master's, the replica's, the group's or the hand-over's. What belongs to nobody is answered
// where the sender must learn something: that this site is not master, that its session or its term is over.
//
// A message of an attachment counts only with its session, and only on the peer that the session is with. A higher
// term counts only in a message of the same database, or of an attachment.

import type { ErrorCode } from '../base/errors.ts'
import type { Term } from '../base/lsn.ts'
import { mayGoOnAlone } from '../base/membership.ts'
import { membershipProblem } from './admission.ts'
import type { PeerId } from './core-options.ts'
import type { CoreState } from './core-state.ts'
import { ignore, type StepResult, stepOk } from './effects.ts'
import type { Hello } from './group-messages.ts'
import type { HandOvers } from './hand-overs.ts'
import { sendDetach } from './master-messages.ts'
import type { HigherTerm, Join, MasterMessage, Message, ReplicaMessage } from './messages.ts'
import { isPreferred } from './preference.ts'
import type { Roles } from './roles.ts'

const handedOverToSender = 'the mastership has been handed over to the sender'

export class MessageDispatch {
  readonly #state: CoreState
  readonly #roles: Roles
  readonly #handOvers: HandOvers
  /** The term in which a second master was reported, so that it is reported once. */
  #rivalTerm: Term | undefined

  constructor(state: CoreState, roles: Roles, handOvers: HandOvers) {
    this.#state = state
    this.#roles = roles
    this.#handOvers = handOvers
  }

  /** `rec` is empty where the message has no bulk. */
  take(message: Message, rec: Uint8Array, from: PeerId): StepResult {
    switch (message.type) {
      case 'join':
        return this.#join(message, from)
      case 'ack':
      case 'gapRequest':
      case 'snapshotAck':
        return this.#fromReplica(message, from)
      case 'higherTerm':
        return this.#higherTerm(message, from)
      case 'hello':
        return this.#hello(message, from)
      case 'canvass':
      case 'voteRequest':
      case 'vote':
        return this.#roles.group?.process(message, from) ?? ignore('this site is in no group')
      case 'takeOver':
        return this.#handOvers.takeOver(message, from)
      case 'handover':
        return this.#handOvers.handover(message, from)
      case 'refuse':
        if (message.session !== 0) return this.#fromMaster(message, rec, from)
        return this.#roles.group?.refused(message, from) ?? ignore('the session is not known')
      case 'detach':
        if (message.fromMaster) return this.#fromMaster(message, rec, from)
        return this.#roles.serving?.detached(message, from) ?? ignore('this site is not master')
      default:
        return this.#fromMaster(message, rec, from)
    }
  }

  // ---- for a master

  #join(join: Join, from: PeerId): StepResult {
    const state = this.#state
    const problem = this.#roles.group === undefined ? undefined : membershipProblem(state, join)
    // Who belongs to the group only its master can say: another site may be behind. But nobody is unseated by it.
    if (problem !== undefined) {
      return this.#refuseJoin(join, from, this.#roles.master === undefined ? this.#notMasterHere : problem)
    }
    if (this.#roles.relay !== undefined) {
      // Nobody else can tell the heir that it is one.
      const isTold = join.term <= state.term && this.#handOvers.tellAgain(join, from)
      return isTold ? ignore(handedOverToSender) : this.#roles.relay.join(join, from)
    }
    // Terms of other databases do not compare.
    if (join.databaseId === state.databaseId && state.databaseId !== undefined) {
      if (join.term > state.term) this.#roles.seeTerm(join.term, undefined)
    }
    const { master } = this.#roles
    if (master !== undefined) return master.join(join, from)
    if (this.#handOvers.tellAgain(join, from)) return ignore(handedOverToSender)
    return this.#refuseJoin(join, from, this.#notMasterHere)
  }

  #refuseJoin(join: Join, to: PeerId, problem: { code: ErrorCode; message: string }): StepResult {
    const state = this.#state
    const { code, message } = problem
    state.counters.joinsRefused++
    const { session } = join
    const master = this.#masterAddress
    state.send(to, { type: 'refuse', session, term: state.term, code, message, master })
    if (code !== 'NOT_MASTER') state.event({ kind: 'replicaRefused', site: join.site, code, message })
    return { kind: 'joinFailure', code, reason: message }
  }

  get #notMasterHere(): { code: ErrorCode; message: string } {
    return { code: 'NOT_MASTER', message: `site ${this.#state.site} is not master` }
  }

  /** Where whoever looks for the master should ask; '' if this site does not know. */
  get #masterAddress(): string {
    const { replica, relay } = this.#roles
    if (relay !== undefined) return relay.masterAddress
    if (replica?.master !== undefined) return replica.address ?? ''
    return this.#handOvers.heirAddress ?? replica?.address ?? ''
  }

  #fromReplica(message: ReplicaMessage, from: PeerId): StepResult {
    const state = this.#state
    const isPeers = message.type === 'gapRequest' && this.#roles.replica?.servesOthers === true
    if (this.#roles.relay !== undefined && !isPeers) return this.#roles.relay.fromReplica(message, from)
    const isAttached = this.#roles.master?.attachments.ofPeer(from)?.session === message.session
    if (isAttached && message.term > state.term) this.#roles.seeTerm(message.term, undefined)
    const { master, replica } = this.#roles
    if (isPeers && replica !== undefined) return replica.serveGap(message, from)
    if (master === undefined) return this.#notMaster(message, from)
    if (isAttached && message.term < state.term) {
      state.counters.messagesStale++
      return ignore(`term ${message.term} is over`)
    }
    switch (message.type) {
      case 'ack':
        return master.serving.ack(message, from)
      case 'gapRequest':
        return master.serving.gapRequest(message, from)
      case 'snapshotAck':
        return master.serving.snapshotAck(message, from)
    }
  }

  /** Lets a replica that missed the end of a reign know of it. */
  #notMaster({ session }: ReplicaMessage, to: PeerId): StepResult {
    sendDetach(this.#state, to, { session, ...this.#notMasterHere, master: this.#masterAddress })
    return ignore('this site is not master')
  }

  // ---- of a site of the group

  /**
   * A master that hears of another one in a later term is it no more, as with any word of such a term. Where the sites
   * elect by themselves it has stepped down before, alone, unless it is one of two that go on so; where the application
   * does, nobody else may tell it. Two in one term are made by hand, and only by hand can one of them be ended.
   */
  #hello(hello: Hello, from: PeerId): StepResult {
    const { group } = this.#roles
    if (group === undefined) return ignore('this site is in no group')
    const result = group.process(hello, from)
    const { databaseId, term, site, membership } = this.#state
    const { master } = hello
    const hasStepped = group.elects && !mayGoOnAlone(membership)
    if (result.kind !== 'ok' && result.kind !== 'newSite') return result
    if (this.#roles.master === undefined || hasStepped || master === undefined) return result
    if (hello.databaseId !== databaseId || master.site === site || master.term < term) return result
    if (master.term > term) {
      this.#roles.seeTerm(master.term, master.site)
      return result
    }
    this.#sawRival(master.site)
    return result.kind === 'newSite' ? result : { kind: 'dupMaster' }
  }

  // ---- of a master

  #fromMaster(message: MasterMessage, rec: Uint8Array, from: PeerId): StepResult {
    const { replica, master, group } = this.#roles
    if (replica !== undefined && replica.peer === from && replica.session === message.session) {
      const result = replica.process(message, rec)
      // Who takes over shall have time to.
      if (message.type === 'detach' && message.code === 'REPLACED') group?.election.gaveAway()
      if (result.kind === 'wouldRewind' && isPreferred(this.#state)) group?.election.insist()
      return result
    }
    if (message.type === 'append' && replica?.session === message.session && replica.servesOthers) {
      return replica.fromOther(message, rec)
    }
    if (message.type === 'refuse' || message.type === 'detach') return ignore('the session is not known')
    const state = this.#state
    if (message.term < state.term) return this.#staleMaster(from)
    if (master !== undefined && message.term === state.term && namesRival(message, state.site)) {
      this.#sawRival(undefined)
      return { kind: 'dupMaster' }
    }
    return ignore('the session is not known')
  }

  #sawRival(site: string | undefined): void {
    const { term } = this.#state
    if (this.#rivalTerm !== term) this.#state.event({ kind: 'duplicateMaster', term, site })
    this.#rivalTerm = term
  }

  /** One who acts as master in a term that is over is told so. */
  #staleMaster(to: PeerId): StepResult {
    const state = this.#state
    const { databaseId, term } = state
    state.counters.messagesStale++
    if (databaseId !== undefined) {
      const site = this.#roles.knownMaster?.site ?? ''
      state.send(to, { type: 'higherTerm', session: 0, term, databaseId, site })
    }
    return ignore('the term is over')
  }

  #higherTerm(message: HigherTerm, from: PeerId): StepResult {
    const { databaseId, term } = this.#state
    if (message.databaseId !== databaseId) return ignore('the term is of another database')
    if (message.term <= term) return ignore('the term is known')
    // Terms come from above.
    if (this.#roles.relay?.isBelow(from) === true) return this.#roles.relay.higherTerm(message.term, from)
    this.#roles.seeTerm(message.term, message.site === '' ? undefined : message.site)
    return stepOk
  }
}

/**
 * It speaks of another master. Whoever serves in its turn says whose log it passes on, and that may be this site's: only
 * what names a master counts, and what comes with a session that is over may be a message of long ago.
 */
function namesRival(message: MasterMessage, site: string): boolean {
  if (message.type === 'accept') return message.site !== site
  if (message.type !== 'heartbeat') return false
  const { route } = message
  return route === undefined || (route.site !== '' && route.site !== site)
}
