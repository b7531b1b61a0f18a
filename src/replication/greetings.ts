// Who is there: the links of a site to the other sites of its group, what each of them tells of itself, and who is
// turned away. docs/protocol.md, section "Groups".
//
// A link is a connection (or an address) that is no attachment. Hello goes out on it at its beginning, now and then,
// and at once when there is a new master. Nothing that a Hello says is counted for safety: it finds masters, it tells
// the operator, and an election takes it for a hint.

import { emptyBytes } from '../base/bytes.ts'
import type { ErrorCode } from '../base/errors.ts'
import { memberOf } from '../base/membership.ts'
import type { GroupOptions, PeerId, SiteView } from './core-options.ts'
import type { CoreState } from './core-state.ts'
import { ignore, type StepResult, stepOk } from './effects.ts'
import type { HeardMaster, Hello, SiteActivity } from './group-messages.ts'

export interface GreetingsHooks {
  /** Whom this site names to others: the master that it hears, itself once it reigns. */
  announcedMaster(): HeardMaster | undefined
  activity(): SiteActivity
  /** Another site names a master, or is it. */
  masterFound(master: HeardMaster): void
}

interface Link {
  /** Undefined until the other side has greeted. */
  site: string | undefined
  heardAt: number
  toldAt: number
}

/** Sites that are remembered; beyond it the one that was heard longest ago is forgotten. */
const sitesMax = 256

export class Greetings {
  readonly #state: CoreState
  #options: GroupOptions
  readonly #hooks: GreetingsHooks
  readonly #links = new Map<PeerId, Link>()
  readonly #sites = new Map<string, SiteView>()
  #helloAt: number

  constructor(state: CoreState, options: GroupOptions, hooks: GreetingsHooks) {
    this.#state = state
    this.#options = options
    this.#hooks = hooks
    this.#helloAt = state.now
  }

  /** What this site says of itself from now on. */
  change(options: GroupOptions): void {
    this.#options = options
  }

  /** Where this site is reached. */
  get address(): string {
    return this.#options.address
  }

  get sites(): SiteView[] {
    return [...this.#sites.values()].map((view) => ({
      ...view,
      linked: this.linkTo(view.site) !== undefined,
    }))
  }

  /** The link to a site: of several the one that was heard last. */
  linkTo(site: string): PeerId | undefined {
    let best: PeerId | undefined
    let heardAt = Number.NEGATIVE_INFINITY
    for (const [peer, link] of this.#links) {
      if (link.site !== site || link.heardAt < heardAt) continue
      best = peer
      heardAt = link.heardAt
    }
    return best
  }

  /** Every other site that has greeted on a link that is up. */
  linkedSites(): { readonly site: string; readonly peer: PeerId }[] {
    return [...this.#sites.keys()].flatMap((site) => {
      const peer = this.linkTo(site)
      return peer === undefined ? [] : [{ site, peer }]
    })
  }

  linked(peer: PeerId): void {
    const { now } = this.#state
    this.#links.set(peer, { site: undefined, heardAt: now, toldAt: now })
    this.#hello(peer, false)
  }

  unlinked(peer: PeerId): void {
    this.#links.delete(peer)
  }

  /** Any message of another site on a link shows that it is up. */
  heard(peer: PeerId): void {
    const link = this.#links.get(peer)
    if (link !== undefined) link.heardAt = this.#state.now
  }

  /** Whether a word of `site` has come since `at`. */
  wasHeard(site: string, at: number): boolean {
    for (const link of this.#links.values()) if (link.site === site && link.heardAt >= at) return true
    return false
  }

  isLink(peer: PeerId): boolean {
    return this.#links.has(peer)
  }

  hello(hello: Hello, from: PeerId): StepResult {
    const state = this.#state
    const { site } = hello
    if (site === state.site && hello.incarnation === state.incarnation) {
      // A way back to this very site: of no use, but no fault either.
      state.event({ kind: 'siteMet', site, peer: from, address: hello.address })
      // So that the end that dialled learns of it too.
      if (!hello.answer) this.#hello(from, true)
      return ignore('the link leads back to this site')
    }
    const problem = this.#problemWith(hello)
    if (problem !== undefined) return this.#turnAway(hello, from, problem)
    const link = this.#links.get(from)
    const isNew = link?.site !== site
    this.#links.set(from, { site, heardAt: state.now, toldAt: state.now })
    this.#note(hello)
    if (isNew) state.event({ kind: 'siteMet', site, peer: from, address: hello.address })
    if (!hello.answer) this.#hello(from, true)
    const { master } = hello
    // A master of a lower term is of use to who has no other: a site that lost an election has to come back somehow.
    const isOfUse =
      master !== undefined && (master.term >= state.term || this.#hooks.announcedMaster() === undefined)
    if (master !== undefined && isOfUse && master.site !== state.site) {
      state.event({ kind: 'masterFound', ...master })
      this.#hooks.masterFound(master)
    }
    return isNew ? { kind: 'newSite', site, data: hello.data } : stepOk
  }

  /** Why the sender is not one of this group. */
  #problemWith(hello: Hello): { code: ErrorCode; message: string } | undefined {
    const { databaseId, membership, permanentLsn, site } = this.#state
    if (hello.site === site) {
      return { code: 'DUPLICATE_SITE', message: `two sites have the id '${site}'` }
    }
    const isForeign =
      databaseId !== undefined && hello.databaseId !== undefined && hello.databaseId !== databaseId
    // Data that is to be replaced, here or there, belongs nowhere.
    if (isForeign && this.#options.replace !== true && hello.grouped && membership !== undefined) {
      return { code: 'FOREIGN_HISTORY', message: `site ${hello.site} holds database ${hello.databaseId}` }
    }
    // It believes this for good, so it is not told before it is certain.
    const isSettled = membership !== undefined && membership.lsn <= permanentLsn
    if (isSettled && membership.removed.includes(hello.site)) {
      return { code: 'MEMBER_REMOVED', message: `site ${hello.site} was removed from the group` }
    }
    const member = memberOf(membership, hello.site)
    if (member !== undefined && member.incarnation !== hello.incarnation) {
      return {
        code: 'SITE_WIPED',
        message: `site ${hello.site} is known with other data: it has lost its disk, or two sites have its id`,
      }
    }
    return undefined
  }

  #turnAway(hello: Hello, from: PeerId, problem: { code: ErrorCode; message: string }): StepResult {
    const state = this.#state
    const { code, message } = problem
    state.event({ kind: 'siteRefused', site: hello.site, peer: from, code, message })
    state.send(from, { type: 'refuse', session: 0, term: state.term, code, message, master: '' })
    state.emit({ kind: 'disconnect', peer: from, code, reason: message })
    this.#links.delete(from)
    return { kind: 'joinFailure', code, reason: message }
  }

  #note(hello: Hello): void {
    const { site, address, incarnation, priority, version, activity, grouped, databaseId, term, last } = hello
    const { durableLsn, appliedLsn, committedLsn, ackMicros, view } = hello
    if (this.#sites.size >= sitesMax && !this.#sites.has(site)) this.#forgetOldest()
    this.#sites.set(site, {
      site,
      address,
      incarnation,
      priority,
      version,
      activity,
      grouped,
      databaseId,
      term,
      last,
      durableLsn,
      appliedLsn,
      committedLsn,
      ackMicros,
      view,
      heardAt: this.#state.now,
      linked: true,
    })
  }

  #forgetOldest(): void {
    let oldest: SiteView | undefined
    for (const view of this.#sites.values()) {
      if (oldest === undefined || view.heardAt < oldest.heardAt) oldest = view
    }
    if (oldest !== undefined) this.#sites.delete(oldest.site)
  }

  /** Tells everybody at once: there is a new master, or a new state of this site. */
  announce(): void {
    this.#helloAt = this.#state.now
    for (const [peer, link] of this.#links) {
      // Of several links to a site one is enough; the others are only kept alive.
      if (link.site !== undefined && this.linkTo(link.site) === peer) this.#hello(peer, true)
    }
  }

  /** Tells whoever is there, on a transport that can: who answers is linked. */
  call(everybody: PeerId): void {
    this.#hello(everybody, false)
  }

  /** Tells one site, in answer to something that shows that it does not know. */
  tell(peer: PeerId): void {
    this.#hello(peer, true)
  }

  tick(): void {
    const { now, timings } = this.#state
    for (const [peer, link] of this.#links) {
      if (now - link.heardAt > timings.silenceTimeoutMs) {
        this.#links.delete(peer)
        const reason = `nothing was heard for ${timings.silenceTimeoutMs} ms`
        this.#state.emit({ kind: 'disconnect', peer, code: 'SILENCE_TIMEOUT', reason })
        continue
      }
      // A greeting may be lost; until it is answered nobody can be asked for a vote here.
      const isGreeted = link.site !== undefined
      const waitMs = isGreeted ? timings.silenceTimeoutMs / 2 : 2 * timings.retryMinMs
      if (now - link.toldAt >= waitMs) this.#hello(peer, isGreeted)
    }
    if (now - this.#helloAt >= timings.helloMs) this.announce()
  }

  #hello(to: PeerId, answer: boolean): void {
    const state = this.#state
    const link = this.#links.get(to)
    if (link !== undefined) link.toldAt = state.now
    const { address, priority = 100, version = '', ackMicros, replace } = this.#options
    const { view = false, data = emptyBytes } = this.#options
    const { last, durableLsn, appliedLsn, committedLsn } = state
    state.send(to, {
      type: 'hello',
      session: 0,
      term: state.term,
      answer,
      databaseId: replace === true ? undefined : state.databaseId,
      site: state.site,
      incarnation: state.incarnation,
      address,
      priority,
      version,
      activity: this.#hooks.activity(),
      grouped: state.ownMember !== undefined,
      last,
      durableLsn,
      appliedLsn,
      committedLsn,
      ackMicros: ackMicros?.() ?? 0,
      view,
      data,
      master: this.#hooks.announcedMaster(),
    })
  }
}
