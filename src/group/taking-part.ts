// One site's part in its group, below the face (group.ts): the links (mesh.ts), whom to follow (following.ts), when to
// reign (reigning.ts), who belongs to the group (membership-keeper.ts), whether to found one (founding.ts).
//
// What the core decides comes in as events and goes out as events, in the order in which it happens. Whatever fails for
// the moment is tried again for as long as the site takes part; what can never succeed ends it, with the reason in
// `stopped`.

import type { Emitter } from '../base/emitter.ts'
import { asError, CoterieError, type ErrorCode, isCoterieError } from '../base/errors.ts'
import type { Membership } from '../base/membership.ts'
import type { SiteRole } from '../database/site-state.ts'
import type { Timer } from '../env/host.ts'
import type { CoreEvent } from '../replication/effects.ts'
import { defaultTimings } from '../replication/timings.ts'
import type { Listener } from '../transport/transport.ts'
import type { GroupEnd, GroupEvents } from './events.ts'
import { Following } from './following.ts'
import { Founding } from './founding.ts'
import { tellCoreEvent, tellMembers } from './group-events.ts'
import { HeldElection } from './held-election.ts'
import type { JoinSettings } from './join-options.ts'
import type { Links } from './links.ts'
import { MembershipKeeper } from './membership-keeper.ts'
import { Mesh } from './mesh.ts'
import { Refusals } from './refusals.ts'
import { Reigning } from './reigning.ts'
import type { Site } from './site.ts'
import { handOver } from './transfer.ts'

export interface TakingPartOptions {
  readonly site: Site
  readonly links: Links
  readonly settings: JoinSettings
  readonly listeners: readonly Listener[]
  /** Where the others reach this site. */
  readonly address: string
  /** The face, which tells everything. */
  readonly tell: Emitter<GroupEvents>
}

export class TakingPart {
  readonly ready: Promise<void>
  readonly stopped: Promise<GroupEnd>
  readonly keeper: MembershipKeeper
  readonly election: HeldElection
  readonly #site: Site
  readonly #settings: JoinSettings
  readonly #listeners: readonly Listener[]
  readonly #address: string
  readonly #tell: Emitter<GroupEvents>
  readonly #mesh: Mesh
  readonly #following: Following
  readonly #founding: Founding
  readonly #refusals: Refusals
  readonly #reigning: Reigning
  readonly #offs: (() => void)[] = []
  readonly #closing = new AbortController()
  readonly #linked = new Set<string>()
  #resolveReady: (() => void) | undefined
  #rejectReady: ((error: CoterieError) => void) | undefined
  #resolveStopped: ((end: GroupEnd) => void) | undefined
  #timer: Timer | undefined
  #membership: Membership | undefined
  #ending: Promise<void> | undefined
  #end: GroupEnd | undefined
  /** What this site was before, if joining is what made it one of a group. */
  #before: SiteRole | undefined

  constructor(options: TakingPartOptions) {
    const { site, links, settings, listeners, address, tell } = options
    this.#site = site
    this.#settings = settings
    this.#listeners = listeners
    this.#address = address
    this.#tell = tell
    this.ready = new Promise((resolve, reject) => {
      this.#resolveReady = resolve
      this.#rejectReady = reject
    })
    // Whoever only waits for `stopped` must not die of an unhandled rejection.
    this.ready.catch(() => undefined)
    this.stopped = new Promise((resolve) => {
      this.#resolveStopped = resolve
    })
    const { electionTimeoutMs, silenceTimeoutMs, retryMinMs, retryMaxMs } = settings.timings
    const connectTimeoutMs = Math.max(1000, 3 * electionTimeoutMs)
    const reaching = { site, links, connectTimeoutMs, retryMinMs, retryMaxMs }
    this.#mesh = new Mesh({
      ...reaching,
      own: [address, ...listeners.map((listener) => listener.address)],
      seeds: settings.seeds,
      onSeedFailed: (seed, error) => tell.emit('seedFailed', { address: seed, error }),
    })
    this.#following = new Following({
      ...reaching,
      address,
      replace: settings.replace,
      electionTimeoutMs,
      silenceTimeoutMs,
      onRefused: (code, message) => this.#refused(code, message),
    })
    this.election = new HeldElection(site)
    this.keeper = new MembershipKeeper({ site, address, twoSites: settings.twoSites })
    this.#founding = new Founding({ site, settings })
    this.#refusals = new Refusals({ site, electionTimeoutMs })
    this.#reigning = new Reigning({
      site,
      settings,
      address,
      following: this.#following,
      keeper: this.keeper,
      onReigns: () => this.#reigns(),
      isEnding: () => this.isEnding,
    })
  }

  get isEnding(): boolean {
    return this.#ending !== undefined
  }

  /** How it ended, if it has. */
  get end(): GroupEnd | undefined {
    return this.#end
  }

  /** Aborts when this site leaves. */
  get signal(): AbortSignal {
    return this.#closing.signal
  }

  /** Rejects as the group could not be joined or founded; then everything is as it was. */
  async begin(): Promise<void> {
    try {
      await this.#join()
    } catch (error) {
      await this.finish('left', { cause: asCoterie(error) })
      throw error
    }
  }

  async #join(): Promise<void> {
    const site = this.#site
    const { timings, version, replace, priority, elections, leases, signal } = this.#settings
    this.#watch()
    const { role, inGroup } = site
    await site.roles.joinGroup({
      address: this.#address,
      priority,
      version,
      replace,
      timings,
      automatic: elections,
      ...(leases === undefined ? {} : { leases }),
      ackMicros: () => site.ackMicros,
    })
    if (!inGroup) this.#before = role
    this.#membership = site.core.membership
    if (this.#founding.isDue(this.#mesh.seeds)) await this.#reigning.found()
    if (signal !== undefined) this.#listenTo(signal)
    this.#tickLater()
  }

  #listenTo(signal: AbortSignal): void {
    const abort = (): void => void this.finish('cancelled', {})
    if (signal.aborted) abort()
    else {
      signal.addEventListener('abort', abort, { once: true })
      this.#offs.push(() => signal.removeEventListener('abort', abort))
    }
  }

  #tickLater(): void {
    if (this.isEnding) return
    this.#timer = this.#site.engine.host.timers.after(defaultTimings.tickMs, () => {
      if (this.isEnding || this.#site.engine.closed) return
      this.#tick()
      this.#tickLater()
    })
  }

  #tick(): void {
    const now = this.#site.now()
    this.#mesh.tick(now)
    this.#following.tick(now)
    this.keeper.tick()
    if (this.#reigning.isBeginning || !this.#founding.isDue(this.#mesh.seeds)) return
    this.#reigning.found().catch((error: unknown) => {
      // A full disk, perhaps: the site is as it was, and the next tick tries again.
      if (!isCoterieError(error)) this.#site.engine.fail(error)
    })
  }

  // ---- events of the core ------------------------------------------------------------------------------------

  #watch(): void {
    const site = this.#site
    const { events } = site
    this.#offs.push(
      events.on('core', (event) => this.#onCore(event)),
      events.on('stopped', (stopped) => this.#following.stopped(stopped)),
      events.on('elected', ({ term }) => {
        this.election.decided({ kind: 'elected', master: site.site, term })
        this.#reigning.elected()
      }),
      events.on('steppedDown', ({ term, reason, site }) => {
        this.#tell.emit('steppedDown', { term, reason, site })
        this.keeper.reviewed()
        this.#following.resume()
      }),
      events.on('peerGone', ({ peer }) => {
        this.#mesh.gone(peer)
        this.#reviewLinks()
      }),
      events.on('rewound', ({ to, lost }) =>
        this.#tell.emit('rewound', { to, transactions: lost?.transactions ?? 0, file: lost?.file }),
      ),
      events.on('failed', (cause) => {
        this.#following.failed()
        void this.finish('failed', { cause })
      }),
    )
  }

  #onCore(event: CoreEvent): void {
    const site = this.#site
    // Their consequences first, then the word: a listener sees the state that it is told of.
    switch (event.kind) {
      case 'masterFound':
        site.writeGate.whyNoMaster = undefined
        this.#following.found(event)
        break
      case 'newMaster':
        this.#follows(event)
        break
      case 'synced':
        this.#following.synced()
        this.#resolveReady?.()
        break
      case 'electionFailed':
        site.writeGate.whyNoMaster = noMasterError(event)
        break
      case 'electionDecided':
        this.election.decided(event.outcome)
        break
      case 'siteMet':
        this.#mesh.met(event)
        this.#reviewLinks()
        break
      case 'takeOverAsked':
        this.#handOverTo(event.site)
        break
      case 'refusedByGroup':
        this.#refused(event.code, event.message)
        break
      case 'membership': {
        const before = this.#membership
        this.#membership = event.membership
        tellMembers(this.#tell, before, event.membership)
        break
      }
      default:
    }
    tellCoreEvent(this.#tell, event)
  }

  #follows(event: Extract<CoreEvent, { kind: 'newMaster' }>): void {
    const { site, term, address = '' } = event
    this.#site.writeGate.whyNoMaster = undefined
    this.#refusals.takenIn()
    this.#following.accepted(event)
    this.#site.roles
      .becomeReplica(address, event.sites)
      .catch((error: unknown) => this.#site.engine.fail(error))
    this.#tell.emit('newMaster', { site, term, address })
    this.#tell.emit('replica', { term })
  }

  #reviewLinks(): void {
    for (const { site, address, linked } of this.#site.core.sites) {
      if (linked === this.#linked.has(site)) continue
      if (linked) {
        this.#linked.add(site)
        this.#tell.emit('siteConnected', { site, address })
      } else {
        this.#linked.delete(site)
        this.#tell.emit('siteLost', { site })
      }
    }
  }

  #refused(code: ErrorCode, message: string): void {
    if (this.isEnding) return
    const { isNews, isFinal } = this.#refusals.refused(code)
    const cause = new CoterieError(code, message)
    if (isNews || isFinal) this.#tell.emit('refused', cause)
    if (!isFinal) return
    if (code === 'MEMBER_REMOVED') this.#tell.emit('removed', cause)
    void this.finish(code === 'MEMBER_REMOVED' ? 'removed' : 'refused', { cause })
  }

  /** A replica asks to be master. What comes of it, the core tells both sides. */
  #handOverTo(site: string): void {
    try {
      if (this.isEnding) throw new CoterieError('TRANSFER_FAILED', 'the master is leaving the group')
      this.#site.handOver(site)
    } catch (error) {
      if (!isCoterieError(error)) throw error
      this.#site.refuseTakeOver(site, error.message)
    }
  }

  #reigns(): void {
    const { term, site } = this.#site.core
    this.#refusals.takenIn()
    this.#site.writeGate.whyNoMaster = undefined
    this.#tell.emit('newMaster', { site, term, address: this.#address })
    this.#tell.emit('master', { term })
    this.#resolveReady?.()
  }

  // ---- the end -----------------------------------------------------------------------------------------------

  finish(reason: GroupEnd['reason'], more: { cause?: CoterieError }): Promise<void> {
    this.#ending ??= this.#close(reason, more)
    return this.#ending
  }

  async #close(reason: GroupEnd['reason'], more: { cause?: CoterieError }): Promise<void> {
    const site = this.#site
    const { engine } = site
    let problem: { cause: CoterieError } | undefined
    const note = (error: unknown): void => {
      if (!isCoterieError(error)) engine.fail(error)
      problem ??= { cause: engine.failure ?? asCoterie(error) }
    }
    if (reason === 'left' && more.cause === undefined) await this.#giveAway().catch(note)
    this.#timer?.cancel()
    this.#closing.abort(new CoterieError('ABORTED', 'this site leaves the group'))
    const message = 'this site left its group before its election was decided'
    this.election.close(more.cause ?? new CoterieError('CLOSED', message))
    if (engine.failure === undefined) site.roles.leaveGroup()
    await this.#stopFollowing(reason)
    this.#mesh.close()
    await Promise.all(this.#listeners.map((listener) => listener.close())).catch(note)
    if (engine.failure === undefined) await this.#endRole(reason, more.cause).catch(note)
    for (const off of this.#offs) off()
    this.keeper.reviewed()
    this.#rejectReady?.(more.cause ?? new CoterieError('ABORTED', 'this site has left the group'))
    this.#end = { reason, ...problem, ...more, lsn: engine.lastLsn, term: site.core.term }
    this.#tell.emit('stopped', this.#end)
    this.#resolveStopped?.(this.#end)
  }

  /** What was received is finished, where there is time and room for it. */
  async #stopFollowing(reason: GroupEnd['reason']): Promise<void> {
    const site = this.#site
    const isOrderly = reason === 'left' && site.engine.stall === undefined
    const { timers } = site.engine.host
    const timer = timers.after(this.#settings.ackTimeoutMs, () => site.leave('cancel'))
    await this.#following.halt(isOrderly ? 'stop' : 'cancel')
    timer.cancel()
  }

  /** Hands over to whoever has the most, or lets the others elect. */
  async #giveAway(): Promise<void> {
    const site = this.#site
    if (!site.isWriter || (site.core.membership?.members.length ?? 0) < 2) return
    const { timings } = this.#settings
    const electable = new Set(site.core.sites.filter((view) => view.priority > 0).map((view) => view.site))
    const heirs = site.replicas
      .filter((view) => view.votes && view.inStep && electable.has(view.site))
      .sort((a, b) => b.durableLsn - a.durableLsn)
    const timeoutMs = Math.max(1000, 4 * timings.electionTimeoutMs)
    for (const heir of heirs.slice(0, 2)) {
      try {
        await handOver(site, { to: heir.site, timeoutMs, signal: this.#closing.signal })
        return
      } catch (error) {
        if (!isCoterieError(error)) throw error
        if (!site.isWriter) return
      }
    }
  }

  async #endRole(reason: GroupEnd['reason'], cause: CoterieError | undefined): Promise<void> {
    const site = this.#site
    await site.roles.stopServing({ waitMs: reason === 'left' ? this.#settings.ackTimeoutMs : 0 })
    const before = this.#before
    // Nothing of a group was taken: the site is again what it was.
    if (before !== undefined && site.core.membership === undefined) await site.roles.withdraw(before)
    else {
      site.writeGate.whyNoMaster =
        cause ?? new CoterieError('NO_MASTER', 'this site has left its group: join again')
    }
  }
}

function noMasterError(event: { reason: string; have: number; need: number }): CoterieError {
  const { reason, have, need } = event
  const why: Record<string, string> = {
    'no-majority': `${have} of its members are reached, ${need} are needed to elect one`,
    'nobody-electable': 'none of the members that are reached may become master',
    'no-votes': `the last election ended with ${have} of ${need} votes`,
    deferred: 'the site that has the most did not become master',
    leased: 'the lease of the last one may hold still',
  }
  return new CoterieError('NO_MASTER', `the group has no master: ${why[reason]}`, {
    details: { have, need, reason },
  })
}

function asCoterie(error: unknown): CoterieError {
  if (isCoterieError(error)) return error
  return new CoterieError('IO_ERROR', asError(error).message, { cause: error })
}
