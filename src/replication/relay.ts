// A replica that serves in its turn (eXtremeDB's cascade): others attach to it as they would to its master, and get from
// it what is permanent (relayed-log.ts). docs/protocol.md, section "Serving in turn".
//
// It counts for itself alone: nothing that those below say reaches its master. It commits nothing, takes no write, and
// hands nothing over. Its life does not depend on that of an attachment: without a master it keeps those who are attached,
// who just get nothing new, and goes on when it has one again. It ends when the site becomes master, or serves no more.
//
// A log that would come back to whoever asks for it is refused by the sites that it comes through (`Route.via`): each site
// tells those below whom it has above, so two that attach to each other at one moment learn of it with the next Heartbeat.

import type { RecordPlace } from '../base/batch.ts'
import type { ErrorCode } from '../base/errors.ts'
import { agreedLsn } from '../base/history.ts'
import type { Term } from '../base/lsn.ts'
import { loopProblem } from './accept-check.ts'
import { defaultServeSettings, type PeerId, type RelayOptions, type ServeSettings } from './core-options.ts'
import type { CoreState } from './core-state.ts'
import { ignore, type StepResult } from './effects.ts'
import type { TakeOver } from './group-messages.ts'
import { messageLimits } from './message-limits.ts'
import type { Join, ReplicaMessage, Route } from './messages.ts'
import { RelayedLog } from './relayed-log.ts'
import type { Replica } from './replica.ts'
import { Serving } from './serving.ts'

interface Problem {
  readonly code: ErrorCode
  readonly message: string
  /** It may be over in a moment: the Join is not answered before it has lasted. */
  readonly mayPass: boolean
}

/** Those who wait to be let in are remembered; beyond it they are refused at once. */
const waitingMax = 256
/** Less than a stranger has to be let in. */
const waitMsMax = 5_000

export class Relay {
  readonly #state: CoreState
  /** What this site follows itself, if it does. */
  readonly #upstream: () => Replica | undefined
  readonly #log: RelayedLog
  readonly #settings: ServeSettings
  /** Of the route. */
  #routeTerm: Term
  /** Since when those wait whose Join could not be answered yet. */
  readonly #waiting = new Map<PeerId, number>()
  /** There are too many sites above for one more below. */
  #isTooFar = false
  readonly serving: Serving

  constructor(state: CoreState, options: RelayOptions, upstream: () => Replica | undefined) {
    const { timings, end, master, ...limits } = options
    this.#state = state
    this.#upstream = upstream
    this.#settings = { ...defaultServeSettings, ...limits }
    this.#routeTerm = state.term
    const { address = '', sites = 0 } = master ?? {}
    this.#log = new RelayedLog(state, {
      timings: state.timingsWith(timings),
      route: { site: state.termMaster ?? '', address, sites, via: [state.site] },
      end,
    })
    this.serving = new Serving(state, this.#log, {
      settings: () => this.#settings,
      mayVote: () => false,
      sites: () => (this.#log.route.sites === 0 ? undefined : this.#log.route.sites),
      goesOnAlone: () => false,
      asked: () => undefined,
      heard: () => undefined,
      isToBeAsked: () => false,
      changed: () => undefined,
    })
    state.onLogged = (batch) => {
      this.#log.logged(batch)
      this.serving.feed.logged(batch)
    }
    this.review()
  }

  /** Where the master is, as far as this site knows; else ''. */
  get masterAddress(): string {
    return this.#log.route.address
  }

  // ---- messages

  join(join: Join, from: PeerId): StepResult {
    const isKnown = this.serving.attachments.ofPeer(from)?.session === join.session
    const problem = isKnown ? this.#noMaster : this.#problemWith(join)
    if (problem === undefined) {
      this.#waiting.delete(from)
      return this.serving.join(join, from)
    }
    const { code, message, mayPass } = problem
    if (mayPass && this.#mayWait(from)) return ignore(message)
    this.#waiting.delete(from)
    return this.serving.refuse(join, from, { code, message, master: this.masterAddress })
  }

  #mayWait(peer: PeerId): boolean {
    const { now } = this.#state
    const since = this.#waiting.get(peer)
    if (since !== undefined) return now - since < Math.min(this.#log.timings.silenceTimeoutMs / 2, waitMsMax)
    if (this.#waiting.size >= waitingMax) return false
    this.#waiting.set(peer, now)
    return true
  }

  /** An Accept names the master of the term; without one there is none, for those who are attached as well. */
  get #noMaster(): Problem | undefined {
    const { site, term } = this.#state
    const { route } = this.#log
    if (route.site !== '' && route.site !== site) return undefined
    return { code: 'NOT_MASTER', message: `site ${site} knows no master of term ${term}`, mayPass: true }
  }

  /** Why a site cannot be let in here, beside what a master would ask. */
  #problemWith(join: Join): Problem | undefined {
    const { site, term, databaseId } = this.#state
    const { route } = this.#log
    const loop = join.site === site ? undefined : loopProblem(route, join.site)
    if (loop !== undefined) return { ...loop, mayPass: false }
    if (this.#isTooFar) return { ...tooFar, mayPass: false }
    if (databaseId === undefined || !this.#log.isKnown || this.#upstream()?.isInstalling === true) {
      const message = `site ${site} does not know yet what it could pass on`
      return { code: 'NOT_MASTER', message, mayPass: true }
    }
    if (this.#noMaster !== undefined) return this.#noMaster
    if (join.databaseId !== databaseId) return undefined
    // Terms come from above: whoever is below unseats nobody.
    if (join.term > term) {
      const message = `site ${join.site} comes from term ${join.term}, which is not known here`
      return { code: 'NOT_MASTER', message, mayPass: true }
    }
    return this.#tailProblem(join)
  }

  /**
   * A site with more than is permanent here may have acknowledged it to the master, and the master may count on that. It
   * must not be told to undo it, unless its records stand where permanent ones do.
   */
  #tailProblem(join: Join): Problem | undefined {
    const { last, history } = this.#log
    if (join.last.lsn <= last.lsn) return undefined
    const agreed = agreedLsn(
      { history, lastLsn: last.lsn },
      { history: join.history, lastLsn: join.last.lsn },
    )
    if (agreed < last.lsn) return undefined
    const message = `site ${join.site} has LSN ${join.last.lsn}, and here LSN ${last.lsn} is known to be permanent`
    return { code: 'RELAY_BEHIND', message, mayPass: true }
  }

  /** A message of an attachment; its term is that of this site, or it has not heard the last Heartbeat. */
  fromReplica(message: ReplicaMessage, from: PeerId): StepResult {
    const isAttached = this.serving.attachments.ofPeer(from)?.session === message.session
    if (isAttached && message.term !== this.#state.term) {
      this.#state.counters.messagesStale++
      return ignore(`term ${message.term} is not that of this site`)
    }
    switch (message.type) {
      case 'ack':
        return this.serving.ack(message, from)
      case 'gapRequest':
        return this.serving.gapRequest(message, from)
      case 'snapshotAck':
        return this.serving.snapshotAck(message, from)
    }
  }

  isBelow(peer: PeerId): boolean {
    return this.serving.attachments.ofPeer(peer) !== undefined
  }

  /** A site below has heard of a term elsewhere. It unseats nobody here, and cannot be served before this site knows, too. */
  higherTerm(term: Term, from: PeerId): StepResult {
    const progress = this.serving.attachments.ofPeer(from)
    const message = `site ${progress?.site} has heard of term ${term}, which is not known here`
    if (progress !== undefined) this.serving.drop(progress, { code: 'NOT_MASTER', message, tell: true })
    return ignore(message)
  }

  /** The mastership is not this site's to give. */
  takeOver({ session }: TakeOver, from: PeerId): StepResult {
    const state = this.#state
    if (this.serving.attachments.ofPeer(from)?.session !== session) return ignore('the session is not known')
    const { site, address } = this.#log.route
    const where =
      site === ''
        ? 'its master is not known'
        : `the master is ${site}${address === '' ? '' : ` at ${address}`}`
    const message = `site ${state.site} is a replica itself; ${where}`
    state.send(from, { type: 'handoverRefused', session, term: state.term, code: 'NOT_MASTER', message })
    return ignore(message)
  }

  // ---- what happens to the log here

  /** The log was cut after `place`. What was sent is not touched; rows that nobody has seen yet may be undone ones. */
  rewound(place: RecordPlace): void {
    this.#log.rewound(place)
    this.serving.feed.forget()
    for (const progress of [...this.serving.attachments.all()]) {
      if (progress.snapshot?.hasBegun === false) this.#sendAgain(progress.site)
    }
  }

  /** Another log, after `base`, has taken the place of the old one. */
  replaced(base: RecordPlace): void {
    this.#sendAllAgain('the data here was replaced')
    this.#log.replaced(base)
    this.serving.feed.forget()
    this.serving.backlog.forget()
  }

  #sendAgain(site: string): void {
    const progress = this.serving.attachments.ofSite(site)
    const message = 'the rows that were to be sent are undone'
    if (progress !== undefined) this.serving.drop(progress, { code: 'RELAY_CHANGED', message, tell: true })
  }

  #sendAllAgain(message: string): void {
    this.#dropAll({ code: 'RELAY_CHANGED', message })
  }

  #dropAll(why: { readonly code: ErrorCode; readonly message: string }): void {
    for (const progress of [...this.serving.attachments.all()])
      this.serving.drop(progress, { ...why, tell: true })
  }

  // ---- after every step, and with time

  /** Passes on what has become permanent, and tells of another master. */
  review(): void {
    if (this.#upstream()?.isInstalling === true) this.#sendAllAgain('the data here is being replaced')
    this.#reviewRoute()
    const bytes = this.#log.advance()
    if (bytes === undefined) return
    const { attachments, backlog, feed } = this.serving
    backlog.proposed(this.#log.last.lsn, bytes)
    feed.advanced(attachments.all())
    for (const progress of attachments.all()) progress.snapshot?.beginIfServed()
  }

  #reviewRoute(): void {
    const { term, termMaster = '', site } = this.#state
    const before = this.#log.route
    const source = this.#upstream()?.source
    const above = source?.via ?? noSites
    const isSameTerm = term === this.#routeTerm
    const address = source?.address ?? (isSameTerm ? before.address : '')
    const sites = source?.sites ?? before.sites
    const isSame =
      isSameTerm &&
      termMaster === before.site &&
      address === before.address &&
      sites === before.sites &&
      isBelow(before, above)
    if (isSame) return
    this.#routeTerm = term
    this.#isTooFar = above.length >= messageLimits.routeSitesMax
    if (this.#isTooFar) this.#dropAll(tooFar)
    const via = this.#isTooFar ? [site] : [...above, site]
    this.#log.route = { site: termMaster, address, sites, via }
    this.serving.tellAll()
  }

  disconnected(peer: PeerId): void {
    this.#waiting.delete(peer)
    this.serving.disconnected(peer)
  }

  tick(): void {
    this.serving.tick()
  }

  end(why: { readonly code: ErrorCode; readonly message: string }): void {
    this.#state.onLogged = undefined
    this.#dropAll(why)
  }

  checkInvariants(): void {
    this.#log.checkInvariants()
  }

  /** Those that cost more than O(1). */
  checkAttached(): void {
    this.serving.checkInvariants()
  }
}

const noSites: readonly string[] = []
const tooFar = {
  code: 'ATTACH_LOOP',
  message: `there are ${messageLimits.routeSitesMax} sites between this one and its master already`,
} as const

/** Whether the sites above are those of the route, which ends here. */
function isBelow({ via }: Route, above: readonly string[]): boolean {
  return via.length === above.length + 1 && above.every((site, index) => site === via[index])
}
