// A group as one of its sites sees it: `db.join()`. It elects its own master; this site follows it, or is it.
//
// This is the face; what goes on behind it is in taking-part.ts. Nothing that is read here is older than what this site
// knows, and nothing is promised that the core does not keep (docs/protocol.md, section "Groups").

import { Emitter, EventQueue } from '../base/emitter.ts'
import { CoterieError } from '../base/errors.ts'
import { isTwoSites, type Member, type TwoSites } from '../base/membership.ts'
import { abortSignal, checkOptions, type OptionRules, wholeNumber } from '../base/options.ts'
import { aborted } from '../database/aborted.ts'
import type { TransportRegistry } from '../transport/registry.ts'
import type { Listener } from '../transport/transport.ts'
import type { GroupEnd, GroupEvents } from './events.ts'
import {
  type GroupMaster,
  type GroupSite,
  type GroupStatus,
  groupSites,
  groupStatus,
} from './group-status.ts'
import type { ElectResult } from './held-election.ts'
import { checkJoin, type JoinOptions, type JoinSettings, twoSitesRule } from './join-options.ts'
import { Links } from './links.ts'
import type { Site } from './site.ts'
import { TakingPart } from './taking-part.ts'
import { handOver, type TransferResult, takeOver } from './transfer.ts'

/** One event with its name, as `events()` gives them out. */
export type GroupEvent = {
  readonly [Name in keyof GroupEvents]: { readonly type: Name; readonly detail: GroupEvents[Name] }
}[keyof GroupEvents]

const transferTimeoutMsDefault = 10_000
/** How often whoever waits for a master looks whether one is known. */
const lookEveryMs = 10
const eventsKeptMax = 10_000
const transferRules: OptionRules = { timeoutMs: wholeNumber(1) }

/** What a group needs of the database that joins it. */
export interface Joinable {
  readonly site: Site
  readonly transports: TransportRegistry
}

export class Group extends Emitter<GroupEvents> implements AsyncDisposable {
  /** Where this site really listens. */
  readonly addresses: readonly string[]
  /** Where the others reach it. */
  readonly address: string
  /** 0: it is never elected. */
  readonly priority: number
  /**
   * Resolves when a master is known and this site has what that has. Rejects if the group turns this site away for
   * good before: FOREIGN_HISTORY, SITE_WIPED, MEMBER_REMOVED; or with ABORTED when it leaves.
   */
  readonly ready: Promise<void>
  /** Settles once, when this site takes no part any more for whatever reason. Never rejects. */
  readonly stopped: Promise<GroupEnd>
  readonly #site: Site
  readonly #settings: JoinSettings
  readonly #part: TakingPart

  private constructor(options: {
    readonly site: Site
    readonly links: Links
    readonly settings: JoinSettings
    readonly listeners: readonly Listener[]
  }) {
    super()
    const { site, links, settings, listeners } = options
    this.#site = site
    this.#settings = settings
    this.addresses = listeners.map((listener) => listener.address)
    this.address = settings.advertise?.text ?? (this.addresses[0] as string)
    this.priority = settings.priority
    this.#part = new TakingPart({ site, links, settings, listeners, address: this.address, tell: this })
    this.ready = this.#part.ready
    this.stopped = this.#part.stopped
  }

  /** ADDRESS_INVALID, ADDRESS_IN_USE, OPTION_INVALID, ABORTED; then nothing has changed. */
  static async join(joinable: Joinable, options: JoinOptions): Promise<Group> {
    const { site, transports } = joinable
    const settings = checkJoin(options, { durability: site.engine.durability })
    if (settings.signal?.aborted === true) {
      throw new CoterieError('ABORTED', 'the join was aborted', { cause: settings.signal.reason })
    }
    const links = new Links({ site, transports, link: settings.link })
    for (const seed of settings.seeds) links.check(seed)
    if (settings.advertise !== undefined) links.check(settings.advertise.text)
    // Whoever connects before this site is in the group is not answered, and asks again.
    const listeners = await links.listen(settings.listen.map((address) => address.text))
    try {
      if (settings.site !== undefined && settings.site !== site.site) await site.takeId(settings.site)
    } catch (error) {
      await Promise.all(listeners.map((listener) => listener.close()))
      throw error
    }
    const group = new Group({ site, links, settings, listeners })
    await group.#part.begin()
    return group
  }

  /** `candidate`: no master is known. */
  get role(): 'master' | 'replica' | 'candidate' {
    const heard = this.#site.core.heardMaster
    if (heard === undefined) return 'candidate'
    if (heard.site !== this.#site.site) return 'replica'
    return this.#site.isWriter ? 'master' : 'candidate'
  }

  get term(): number {
    return this.#site.core.term
  }

  get master(): GroupMaster | undefined {
    const heard = this.#site.core.heardMaster
    if (heard === undefined || (heard.site === this.#site.site && !this.#site.isWriter)) return undefined
    return heard
  }

  get members(): readonly Member[] {
    return this.#site.core.membership?.members ?? []
  }

  /** Every site of the group, this one included, as far as this site has heard of it. */
  get sites(): GroupSite[] {
    return groupSites(this.#site, { address: this.address, settings: this.#settings })
  }

  status(): GroupStatus {
    return groupStatus(this.#site, {
      address: this.address,
      settings: this.#settings,
      role: this.role,
      master: this.master,
    })
  }

  /** The master, as soon as there is one. ABORTED by the signal; NO_MASTER when the time is up. */
  async whenMaster(
    options: { readonly signal?: AbortSignal; readonly timeoutMs?: number } = {},
  ): Promise<GroupMaster> {
    checkOptions('whenMaster', options, { signal: abortSignal, timeoutMs: wholeNumber(0) })
    const { timeoutMs, signal } = options
    const { clock, timers } = this.#site.engine.host
    const deadline = timeoutMs === undefined ? undefined : clock.now() + timeoutMs
    const left = AbortSignal.any([this.#part.signal, ...(signal === undefined ? [] : [signal])])
    for (;;) {
      const { master } = this
      if (master !== undefined) return master
      if (deadline !== undefined && clock.now() >= deadline) {
        throw new CoterieError('NO_MASTER', `no master was known within ${timeoutMs} ms`)
      }
      const waitMs = Math.min(lookEveryMs, deadline === undefined ? lookEveryMs : deadline - clock.now())
      const waited = new Promise<void>((resolve) => {
        timers.after(Math.max(0, waitMs), resolve)
      })
      await aborted(waited, left)
    }
  }

  /** What two sites do while one of them is away; of a group of more it says nothing. */
  get twoSites(): TwoSites {
    return this.#site.core.membership?.twoSites ?? 'strict'
  }

  // ---- what can be asked for ---------------------------------------------------------------------------------

  /**
   * Holds an election now, where the sites do not by themselves (`elections: false`; Berkeley DB's repmgr_start with
   * DB_REP_ELECTION). Resolves when it is decided, one way or the other; who has won reigns in a moment. INVALID_STATE on
   * a master, on a site that is no member, and where elections are automatic or one is under way; CLOSED when this site
   * leaves the group first, or why else it is no part of it any more; ABORTED by `signal`: then the election itself goes on.
   */
  async elect(options: { readonly signal?: AbortSignal } = {}): Promise<ElectResult> {
    checkOptions('elect', options, { signal: abortSignal })
    this.#assertJoined()
    if (this.role === 'master') throw new CoterieError('INVALID_STATE', 'elect: this site is master')
    return await this.#part.election.hold(options)
  }

  /** Gives up the reign without naming a successor: the group elects. INVALID_STATE on a site that is not master. */
  stepDown(): void {
    this.#needMaster('stepDown')
    this.#site.stepDown()
  }

  /**
   * Hands the mastership over to another member: what is under way is finished, writes wait for milliseconds, nothing is
   * lost. Resolves once that site reigns. TRANSFER_FAILED: this site goes on as before, unless the message says
   * otherwise. INVALID_STATE on a site that is not master; a replica asks for itself with `takeOver`.
   */
  async transfer(site: string, options: { readonly timeoutMs?: number } = {}): Promise<TransferResult> {
    checkOptions('transfer', options, transferRules)
    if (typeof site !== 'string') throw new TypeError('transfer takes the id of a site')
    this.#needMaster('transfer')
    if (site === this.#site.site) throw new CoterieError('INVALID_STATE', 'this site is the master already')
    const view = this.#site.core.sites.find((each) => each.site === site)
    if (view?.priority === 0) {
      throw new CoterieError('TRANSFER_FAILED', `site ${site} has priority 0: it never becomes master`)
    }
    const { timeoutMs = transferTimeoutMsDefault } = options
    return await handOver(this.#site, { to: site, timeoutMs, signal: this.#part.signal })
  }

  /**
   * Asks the master to hand over to this site. TRANSFER_FAILED: the old master goes on. NO_MASTER; INVALID_STATE where
   * this site is master already, is no member yet, or may never be master.
   */
  async takeOver(options: { readonly timeoutMs?: number } = {}): Promise<TransferResult> {
    checkOptions('takeOver', options, transferRules)
    this.#assertJoined()
    const { core } = this.#site
    const why =
      this.role === 'master'
        ? 'is the master already'
        : this.priority === 0
          ? 'has priority 0: it never becomes master'
          : core.isMember
            ? undefined
            : 'is no member of the group yet'
    if (why !== undefined) throw new CoterieError('INVALID_STATE', `this site ${why}`)
    if (core.role !== 'replica' || core.heardMaster === undefined) {
      throw new CoterieError('NO_MASTER', 'the group has no master now that could hand over')
    }
    const { timeoutMs = transferTimeoutMsDefault } = options
    const onReign = (listener: () => void): (() => void) => this.on('master', listener)
    return await takeOver(this.#site, {
      address: this.address,
      timeoutMs,
      signal: this.#part.signal,
      onReign,
    })
  }

  /**
   * Removes a member for good: its id never comes back. Its data stays readable there. INVALID_STATE on a site that is
   * not master, for the master itself (transfer first), and for a site that is no member; else as a commit. Of two
   * sites that go on alone the one that is left can remove the other, which is never needed again then.
   */
  async removeMember(site: string): Promise<{ readonly lsn: number; readonly term: number }> {
    if (typeof site !== 'string') throw new TypeError('removeMember takes the id of a site')
    this.#assertJoined()
    const { lsn, term } = await this.#part.keeper.remove(site)
    return { lsn, term }
  }

  /**
   * Says what two sites do while one of them is away (Berkeley DB's 2SITE_STRICT, and its preferred master). Both have it
   * on disk before it resolves. With a third member a group is `strict` again by itself. INVALID_STATE on a site that is
   * not master, and with more than two members; OPTION_INVALID; else as a commit.
   */
  async setTwoSites(twoSites: TwoSites): Promise<{ readonly lsn: number; readonly term: number }> {
    if (!isTwoSites(twoSites)) {
      throw new CoterieError('OPTION_INVALID', `setTwoSites takes ${twoSitesRule}`, {
        details: { option: 'twoSites' },
      })
    }
    this.#assertJoined()
    const { lsn, term } = await this.#part.keeper.setTwoSites(twoSites)
    return { lsn, term }
  }

  #needMaster(call: string): void {
    this.#assertJoined()
    if (this.role === 'master') return
    const { master } = this
    const who = master === undefined ? 'there is none now' : `it is ${master.site} at ${master.address}`
    throw new CoterieError('INVALID_STATE', `${call} is for the master: ${who}`, {
      details: master === undefined ? {} : { master: master.address, site: master.site },
    })
  }

  #assertJoined(): void {
    if (this.#part.isEnding) throw new CoterieError('INVALID_STATE', 'this site has left the group')
  }

  /**
   * Takes no part any more; a master hands over first, where somebody can take it. The site stays a member, and the
   * database stays open, read-only.
   */
  async leave(): Promise<void> {
    await this.#part.finish('left', {})
  }

  /** All events in order, from now to the end. Up to 10,000 wait for a slow reader; then the oldest are dropped. */
  events(): AsyncIterableIterator<GroupEvent> {
    const queue = new EventQueue<GroupEvent>({ bound: eventsKeptMax, onEnd: () => off() })
    const off = this.onAny((type, detail) => {
      queue.push({ type, detail } as GroupEvent)
      if (type === 'stopped') queue.end()
    })
    const { end } = this.#part
    if (end !== undefined) {
      queue.push({ type: 'stopped', detail: end })
      queue.end()
    }
    return queue
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.leave()
  }
}
