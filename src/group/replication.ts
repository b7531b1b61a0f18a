// Replication over the application's own network, with its own elections: the Base API of Berkeley DB. The application
// hands in what comes (`processMessage`) and acts on what it comes to; it carries what goes out (`send`); it decides who
// is master (`elect`, `start`). What is on disk and when, who has what, and what must be sent again is ours.
//
// How it fails: a message can be lost, doubled, late or hostile without harm. Wrong use is an error that says which.
// A site whose log or store has failed takes no more messages: every call rejects with the cause.

import { emptyBytes } from '../base/bytes.ts'
import { Emitter } from '../base/emitter.ts'
import { asError, CoterieError } from '../base/errors.ts'
import { checkOptions } from '../base/options.ts'
import type { Timer } from '../env/host.ts'
import type { LeaseTerms } from '../replication/core-options.ts'
import type { CoreEvent } from '../replication/effects.ts'
import { defaultTimings } from '../replication/timings.ts'
import { AppFollowing } from './app-following.ts'
import { AppNetwork, everybody, type SendFailure, type SiteAddress } from './app-network.ts'
import { BackOff } from './back-off.ts'
import type { ReplicationEvents } from './events.ts'
import { type ElectResult, HeldElection } from './held-election.ts'
import { MessageResults, type ProcessResult } from './message-results.ts'
import {
  checkReplication,
  checkSettings,
  type ElectOptions,
  followOptionsOf,
  leasesOf,
  type ReplicationOptions,
  type ReplicationSettings,
  roleRule,
  type StartOptions,
  serveOptionsOf,
  startRules,
  timingsOf,
  votesNeeded,
} from './replication-options.ts'
import { type ReplicationStats, statsOf } from './replication-stats.ts'
import type { Site } from './site.ts'
import { tellSync } from './sync-events.ts'
import { assertNoView, becomeView } from './views.ts'

export class Replication extends Emitter<ReplicationEvents> implements AsyncDisposable {
  readonly #site: Site
  readonly #network: AppNetwork
  readonly #following: AppFollowing
  readonly #election: HeldElection
  readonly #results: MessageResults
  /** When to ask for a master again. */
  readonly #calls: BackOff
  readonly #offs: (() => void)[] = []
  #timer: Timer | undefined
  #settings: ReplicationSettings
  #data: Uint8Array = emptyBytes
  #isStarted: boolean = false
  #role: 'none' | 'master' | 'replica' = 'none'
  /** Role changes, one after the other. */
  #changing: Promise<unknown> = Promise.resolve()
  /** The term that this site has won and not begun to reign in. */
  #wonTerm: number | undefined
  #sendFailures = 0
  #dupMasters = 0
  readonly #leases: LeaseTerms | undefined
  #isClosed: boolean = false

  private constructor(site: Site, options: ReplicationOptions) {
    super()
    const { send, view: _view, site: _site, leases: _leases, ...settings } = options
    this.#leases = leasesOf(options)
    this.#site = site
    this.#settings = settings
    this.#election = new HeldElection(site)
    this.#results = new MessageResults(site)
    this.#network = new AppNetwork({ site, send, onFailed: (failure) => this.#sendFailed(failure) })
    const { minMs: retryMinMs = 40, maxMs: retryMaxMs = 1280 } = settings.rerequest ?? {}
    const { random } = site.engine.host
    this.#calls = new BackOff({ random, minMs: retryMinMs, maxMs: retryMaxMs })
    this.#following = new AppFollowing({
      site,
      follow: () => followOptionsOf(this.#settings),
      isDelayed: () => this.#settings.delaySync === true,
      call: () => this.#network.call(),
      retryMinMs,
      retryMaxMs,
    })
  }

  /** Internal: `db.replication()`. OPTION_UNKNOWN, OPTION_INVALID, INVALID_STATE, VIEW_FILTER_FAILED. */
  static async open(site: Site, options: ReplicationOptions): Promise<Replication> {
    checkReplication(options)
    const id = String(options.site)
    if (id !== site.site) await site.takeId(id)
    await Replication.#settleView(site, options.view)
    const replication = new Replication(site, options)
    replication.#begin()
    return replication
  }

  /** Nobody has been told of this site yet. */
  static async #settleView(site: Site, view: ReplicationOptions['view']): Promise<void> {
    if (view === undefined || view === false) {
      await becomeView(site, view)
      return
    }
    await site.roles.abdicate()
    try {
      await becomeView(site, view)
    } finally {
      site.roles.resumeReign()
    }
  }

  #begin(): void {
    const { events } = this.#site
    this.#offs.push(
      events.on('core', (event) => this.#onCore(event)),
      events.on('stopped', (stopped) => this.#following.stopped(stopped)),
      events.on('elected', ({ term }) => this.#elected(term)),
      events.on('steppedDown', ({ term, reason, site }) => {
        this.#role = 'replica'
        this.emit('steppedDown', { term, reason, site })
        this.#following.resume()
      }),
      events.on('peerGone', ({ peer }) => this.#following.gone(peer)),
      events.on('rewound', ({ to, lost }) =>
        this.emit('rewound', { to, transactions: lost?.transactions ?? 0, file: lost?.file }),
      ),
      events.on('failed', (cause) => {
        this.#following.failed()
        this.#election.close(cause)
      }),
    )
    this.#enterGroup()
    this.#tickLater()
  }

  #tickLater(): void {
    const site = this.#site
    this.#timer = site.engine.host.timers.after(defaultTimings.tickMs, () => {
      if (this.#isClosed || site.engine.closed || site.engine.failure !== undefined) return
      this.#following.tick()
      this.#lookForMaster()
      this.#tickLater()
    })
  }

  /** Whoever hears no master asks for one, again and again: what was asked or answered may be lost. */
  #lookForMaster(): void {
    const { core } = this.#site
    if (this.#role !== 'replica' || core.heardMaster !== undefined || this.#following.isWaiting) {
      this.#calls.succeeded()
      return
    }
    const now = this.#site.now()
    if (!this.#calls.isDue(now)) return
    this.#calls.failed(now)
    this.#network.call()
  }

  /** Tells the core who this site is; again where that has changed. */
  #enterGroup(): void {
    const site = this.#site
    site.step(() =>
      site.core.joinGroup({
        address: site.site,
        priority: site.view === undefined ? (this.#settings.priority ?? 100) : 0,
        view: site.view !== undefined,
        data: this.#data,
        elections: 'application',
        ...(this.#leases === undefined ? {} : { leases: this.#leases }),
        timings: timingsOf(this.#settings),
        now: site.now(),
      }),
    )
  }

  /** The durable id of this site. */
  get site(): string {
    return this.#site.site
  }

  /** `none` before the first `start`. */
  get role(): 'none' | 'master' | 'replica' {
    return this.#role
  }

  get term(): number {
    return this.#site.core.term
  }

  /** The master that this site hears, itself perhaps. */
  get master(): string | undefined {
    return this.#site.core.heardMaster?.site
  }

  /** How it is set now. */
  get config(): Readonly<ReplicationSettings> {
    return { ...this.#settings }
  }

  // ---- roles -------------------------------------------------------------------------------------------------

  /**
   * Takes a role (Berkeley DB's rep_start). `replica`: looks for a master and follows it; called again it asks the
   * others once more. `master`: begins a reign, in the term that was won by `elect`, or, if none was, in a new one of
   * the application's own choice. INVALID_STATE for a view, or a replica without all of its data; NOT_MASTER if
   * another term has begun meanwhile. Repeated calls take effect one after the other.
   */
  async start(role: 'master' | 'replica', options: StartOptions = {}): Promise<void> {
    this.#assertOpen()
    const problem = roleRule(role)
    if (problem !== undefined) throw new TypeError(`start: the role must be ${problem}`)
    checkOptions('start', options, startRules)
    if (role === 'master') assertNoView(this.#site, 'is never master')
    this.#isStarted = true
    // Before anything is said of this site.
    if (options.data !== undefined) {
      this.#data = options.data.slice()
      this.#enterGroup()
    }
    const change = this.#changing.then(async () => {
      this.#assertOpen()
      if (role === 'master') await this.#startMaster()
      else await this.#startReplica()
    })
    this.#changing = change.catch(() => undefined)
    await change
  }

  async #startMaster(): Promise<void> {
    const site = this.#site
    if (site.isWriter && this.#role === 'master') return
    const isElected = this.#wonTerm === site.core.term
    // A site that founds the database has nobody beside it.
    if (this.#leases !== undefined && !isElected && site.core.lastLsn > 0) {
      throw new CoterieError('INVALID_STATE', 'with leases, only who has been elected becomes master')
    }
    this.#enterGroup()
    const wasFollowing = !this.#following.isHalted
    await this.#following.halt()
    const { durability } = site.engine
    if (this.#settings.ackTimeoutMs !== undefined) site.engine.ackTimeoutMs = this.#settings.ackTimeoutMs
    const serve = serveOptionsOf(this.#settings, { address: site.site, durability })
    try {
      if (isElected) await site.roles.reignElected(serve)
      else if (site.isWriter) await site.roles.changeReign('master', serve)
      else await site.roles.reign('master', serve)
    } catch (error) {
      if (wasFollowing) this.#following.resume()
      throw error
    } finally {
      this.#wonTerm = undefined
    }
    this.#role = 'master'
    this.#following.forget()
    const { term } = site.core
    this.emit('newMaster', { site: site.site, term })
    this.emit('master', { term })
    site.step(() => site.core.announce(site.now()))
    this.#network.call()
  }

  async #startReplica(): Promise<void> {
    const site = this.#site
    if (this.#role !== 'replica') {
      await site.roles.abdicate()
      await site.roles.becomeReplica(undefined, this.#settings.sites)
      site.roles.resumeReign()
      this.#role = 'replica'
    }
    this.#enterGroup()
    this.#calls.failed(site.now())
    this.#network.call()
    this.#following.resume()
  }

  // ---- messages ----------------------------------------------------------------------------------------------

  /**
   * Takes a message that another site's `send` was given: `from` is where answers go, as this application names that
   * site. The bytes must not change afterwards. Calls may overlap: each takes effect when it is made. Resolves to what
   * the message came to; `isPerm` only once the records are durable here. INVALID_STATE before `start`, CLOSED,
   * TypeError for what is no message, and the error of a log or store that has failed.
   */
  async processMessage(
    control: Uint8Array,
    rec: Uint8Array | undefined,
    from: SiteAddress,
  ): Promise<ProcessResult> {
    this.#assertOpen()
    if (!(control instanceof Uint8Array)) throw new TypeError('processMessage: control is bytes')
    if (control.length === 0) throw new TypeError('processMessage: control is empty')
    if (rec !== undefined && !(rec instanceof Uint8Array)) throw new TypeError('processMessage: rec is bytes')
    if ((typeof from !== 'string' || from === '') && (typeof from !== 'number' || Number.isNaN(from))) {
      throw new TypeError('processMessage: from is the address of a site, text or a number')
    }
    if (from === everybody) throw new TypeError(`processMessage: '${everybody}' is no site's address`)
    if (!this.#isStarted) throw new CoterieError('INVALID_STATE', 'processMessage: call start() first')
    const site = this.#site
    const wasWriter = site.isWriter
    const peer = this.#network.peerOf(from)
    const result = site.process({ control, rec: rec ?? emptyBytes, from: peer })
    if (site.engine.failure !== undefined) throw site.engine.failure
    const hasSteppedDown = wasWriter && !site.isWriter && this.#role === 'replica'
    const told = await this.#results.of(result, control)
    if (told.kind === 'newSite') this.emit('newSite', { site: told.site, data: told.data })
    if (!hasSteppedDown && told.kind !== 'dupMaster') return told
    this.#dupMasters++
    return { kind: 'dupMaster' }
  }

  /** A replica that waits (`delaySync`), or was refused, follows its master now; without one others are asked for it. */
  sync(): void {
    this.#assertOpen()
    if (this.#role !== 'replica') throw new CoterieError('INVALID_STATE', 'sync: this site is not a replica')
    this.#following.sync()
  }

  // ---- elections ---------------------------------------------------------------------------------------------

  /**
   * Holds an election (Berkeley DB's rep_elect). Resolves when it is decided, one way or the other; nobody is master
   * before it calls `start('master')`. INVALID_STATE on a master, a view, a site without data, and while one is under
   * way; OPTION_INVALID; CLOSED when `close` comes first; ABORTED by `signal`: then the election itself goes on, and `elected` is an event.
   */
  async elect(options: ElectOptions = {}): Promise<ElectResult> {
    this.#assertOpen()
    const votes = votesNeeded(options, this.#settings.sites)
    this.#checkLeased(votes)
    assertNoView(this.#site, 'elects nobody')
    if (this.#role !== 'replica') {
      const why = this.#role === 'none' ? 'call start() first' : 'this site is master'
      throw new CoterieError('INVALID_STATE', `elect: ${why}`)
    }
    const { signal } = options
    return await this.#election.hold({ votes, ...(signal === undefined ? {} : { signal }) })
  }

  /** A lease is counted by more than half of the sites: so must votes be, or both could hold at once. */
  #checkLeased(votes: number): void {
    const { sites = 0 } = this.#settings
    if (this.#leases === undefined || votes > sites >> 1) return
    throw new CoterieError('OPTION_INVALID', `with leases it takes more than half of the ${sites} sites`, {
      details: { option: 'votes' },
    })
  }

  #elected(term: number): void {
    this.#wonTerm = term
    this.emit('elected', { term })
    this.#election.decided({ kind: 'elected', master: this.site, term })
  }

  // ---- what the core reports ---------------------------------------------------------------------------------

  #onCore(event: CoreEvent): void {
    switch (event.kind) {
      case 'masterFound':
        this.#following.found(event)
        if (this.#following.isWaiting) this.emit('syncDelayed', { site: event.site, term: event.term })
        return
      case 'siteMet':
        if (event.site !== this.site) this.#following.met(event.site, event.peer)
        return
      case 'newMaster': {
        const { site, term } = event
        this.#following.accepted({ site, term })
        this.#site.roles
          .becomeReplica(site, event.sites)
          .catch((error: unknown) => this.#site.engine.fail(error))
        this.emit('newMaster', { site, term })
        this.emit('replica', { term })
        return
      }
      case 'electionFailed': {
        const { reason, have, need } = event
        this.emit('electionFailed', { reason, have, need })
        return
      }
      case 'electionDecided':
        this.#election.decided(event.outcome)
        return
      case 'connectFailed':
        this.emit('joinFailed', { code: event.code, reason: event.message })
        return
      case 'duplicateMaster':
        this.emit('duplicateMaster', { term: event.term, site: event.site })
        return
      default:
        tellSync(this, event)
    }
  }

  #sendFailed({ to, flags, error }: SendFailure): void {
    this.#sendFailures++
    // Whatever becomes of it elsewhere, it is to be durable here.
    if (flags.permanent) this.#site.engine.flush()
    const cause = error === undefined ? undefined : asError(error)
    this.emit('sendFailed', { to, lsn: flags.lsn, permanent: flags.permanent, cause })
  }

  // ---- settings and figures ----------------------------------------------------------------------------------

  /** Changes settings at run time: those that are given. OPTION_UNKNOWN, OPTION_INVALID. */
  configure(change: Partial<ReplicationSettings>): void {
    this.#assertOpen()
    checkSettings(change)
    const given = Object.entries(change).filter(([, value]) => value !== undefined)
    this.#settings = { ...this.#settings, ...Object.fromEntries(given) }
    this.#enterGroup()
    const site = this.#site
    if (this.#role !== 'master' || !site.isWriter) return
    const { durability } = site.engine
    if (this.#settings.ackTimeoutMs !== undefined) site.engine.ackTimeoutMs = this.#settings.ackTimeoutMs
    const {
      address: _,
      timings: __,
      ...serve
    } = serveOptionsOf(this.#settings, {
      address: site.site,
      durability,
    })
    site.configure(serve)
  }

  /** Figures since the beginning, or since the last call with `reset: true`. */
  stats(options: { readonly reset?: boolean } = {}): ReplicationStats {
    this.#assertOpen()
    checkOptions('stats', options, {
      reset: (value) => (typeof value === 'boolean' ? undefined : 'true or false'),
    })
    const stats = statsOf(this.#site, {
      role: this.#role,
      sendFailures: this.#sendFailures,
      newSites: this.#results.newSites,
      dupMasters: this.#dupMasters,
    })
    const since = subtract(stats, this.#zero)
    if (options.reset === true) this.#zero = stats.counters
    return since
  }

  #zero: Readonly<Record<string, number>> = {}

  // ---- the end -----------------------------------------------------------------------------------------------

  /** Takes no more part: a master stops serving, a replica finishes what it has received. The database stays open. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#timer?.cancel()
    const message = 'the replication of this database ended before its election was decided'
    this.#election.close(new CoterieError('CLOSED', message))
    await this.#changing
    const site = this.#site
    if (site.engine.failure === undefined && !site.engine.closed) {
      await this.#following.halt('stop')
      if (site.core.role === 'master') await site.roles.stopServing({ waitMs: 0 })
      site.roles.leaveGroup()
    }
    for (const off of this.#offs) off()
    this.emit('closed', undefined)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new CoterieError('CLOSED', 'the replication of this database has ended')
    this.#site.engine.assertOpen()
  }
}

/** The same figures, counted from another beginning. */
function subtract(stats: ReplicationStats, zero: Readonly<Record<string, number>>): ReplicationStats {
  const counters = Object.fromEntries(
    Object.entries(stats.counters).map(([name, value]) => [name, value - (zero[name] ?? 0)]),
  ) as ReplicationStats['counters']
  return { ...stats, counters }
}
