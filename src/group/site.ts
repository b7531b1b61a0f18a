// The driver: it joins one site's engine (database, log, store) to the replication core and to its connections.
//
// Whatever happens - a message, a sync, a tick, a commit - is told to the core, and then the core's effects are run
// in order (`#settle`). `persist` is a barrier: nothing behind it runs before the state file is durable. An ack
// cannot leave before its sync, because the core makes acks only when `durable` tells it of one.
// A broken invariant anywhere in a step stops the site: the engine fails and takes no more writes.

import { assert } from '../base/assert.ts'
import type { RecordBatch } from '../base/batch.ts'
import { Emitter } from '../base/emitter.ts'
import { asError, CoterieError, type ErrorCode, isCoterieError } from '../base/errors.ts'
import { type Lsn, noLsn, noTerm, type Term } from '../base/lsn.ts'
import type { CommitException } from '../base/policy.ts'
import { aborted } from '../database/aborted.ts'
import type { Engine, Gate, Replicator } from '../database/engine.ts'
import { keepLost, type LostReport } from '../database/lost-file.ts'
import { nobody } from '../database/receipt.ts'
import type { SiteRole, SiteState } from '../database/site-state.ts'
import type { Core } from '../replication/core.ts'
import type {
  Detachment,
  FollowOptions,
  GroupOptions,
  PeerId,
  ReplicaView,
  ServeOptions,
  SnapshotResume,
} from '../replication/core-options.ts'
import type { CoreEvent, Effect } from '../replication/effects.ts'
import { defaultTimings } from '../replication/timings.ts'
import type { Connection } from '../transport/transport.ts'
import { AckMeter } from './ack-meter.ts'
import { Peers } from './peers.ts'
import type { SiteEvents } from './site-events.ts'
import type { SiteSteps } from './site-steps.ts'
import { SnapshotServing } from './snapshot-serving.ts'
import { SnapshotTaking } from './snapshot-taking.ts'
import { type StartOptions, startCore } from './start-core.ts'

/** How often a term is tried to be written while the disk is full. */
const persistRetryMs = 500

export class Site implements Replicator, SiteSteps {
  readonly engine: Engine
  readonly events: Emitter<SiteEvents> = new Emitter()
  readonly #peers: Peers
  readonly #serving: SnapshotServing
  readonly #taking: SnapshotTaking
  #core: Core
  #effects: readonly Effect[] = []
  #effectAt = 0
  #settling = false
  #barrier = false
  #idleWaiters: (() => void)[] = []
  #ticking = false
  #retainFrom: Lsn | undefined
  #gate: Gate = { open: true }
  #reigning: Promise<void> | undefined
  /** The role that the next persisted term is taken in. */
  #role: SiteRole
  #sites: number | undefined
  /** About to follow a master, or following it: takes no writes. */
  #isLeavingReign = false
  /** Writers wait until the commits under way are settled. */
  #draining = false
  #masterAddress: string | undefined
  #masterPeer: PeerId | undefined
  #closing = false
  #detachments: Detachment[] = []
  #following = false
  #lostFiles: readonly string[] = []
  /** It is one of a group: elections decide whether it writes, and never what it last was. */
  #inGroup: boolean
  #whyNoMaster: CoterieError | undefined
  #question = 0
  /** Who waits to hear that this site is still master, by question. */
  #reignWaiters: { question: number; resolve: () => void; reject: (error: CoterieError) => void }[] = []
  readonly #ackMeter = new AckMeter()

  constructor(
    options: StartOptions & {
      readonly engine: Engine
      readonly state: SiteState
      readonly segmentBytes: number | undefined
    },
  ) {
    const { engine, state } = options
    this.engine = engine
    this.#role = state.role
    this.#sites = state.sites
    this.#masterAddress = state.master
    this.#inGroup = state.inGroup
    this.#core = startCore(engine, state, options)
    this.#serving = new SnapshotServing(this)
    this.#taking = new SnapshotTaking(this, { segmentBytes: options.segmentBytes })
    this.#peers = new Peers({
      clock: engine.host.clock,
      timers: engine.host.timers,
      onMessage: (from, control, rec) => {
        this.step(() => this.core.processMessage({ control, rec, from, now: this.now() }))
      },
      onDrain: (peer) => this.step(() => this.core.congested({ peer, congested: false })),
      onClosed: (peer, cause) => {
        this.step(() =>
          this.core.disconnected({
            peer,
            now: this.now(),
            ...(cause === undefined ? {} : { cause: cause.message }),
          }),
        )
        this.events.emit('peerGone', { peer, cause })
      },
    })
    engine.replicator = this
  }

  get core(): Core {
    return this.#core
  }

  /** A database that has no record yet gets another site id than the one that it was created with; on disk, too. */
  async takeId(site: string): Promise<void> {
    const isFresh = this.core.role === 'none' && this.core.term === noTerm && this.core.lastLsn === noLsn
    if (!isFresh || this.#inGroup) {
      throw new CoterieError('OPTION_INVALID', `this site's id is '${this.site}' for ever, not '${site}'`)
    }
    const state = await this.saveState({ site })
    this.#core = startCore(this.engine, state, {})
  }

  /** Sites of the group, where its master has said. */
  get groupSites(): number | undefined {
    return this.#sites
  }

  get role(): SiteRole {
    return this.#role
  }

  get site(): string {
    return (this.engine.folder.state as SiteState).site
  }

  get replicas(): readonly ReplicaView[] {
    return this.core.replicas
  }

  get isWriter(): boolean {
    return this.engine.reign !== undefined
  }

  /** 99 % of what this site waited for lately took no longer: commits at a master, syncs of the log elsewhere. */
  get ackMicros(): number {
    return this.#ackMeter.p99Micros(this.now())
  }

  get isFollowing(): boolean {
    return this.#following
  }

  trafficOf(peer: PeerId): { bytesIn: number; bytesOut: number; remote: string } | undefined {
    return this.#peers.trafficOf(peer)
  }

  now(): number {
    return this.engine.host.clock.now()
  }

  // ---- running the core --------------------------------------------------------------------------------------

  /** Tells the core something and runs what follows from it. A thrown error stops the site. */
  step(tell: () => unknown): void {
    if (this.engine.failure !== undefined) return
    try {
      tell()
    } catch (error) {
      this.engine.fail(error)
      return
    }
    this.#settle()
  }

  /** As `step`, where the core may say no: its refusal is the caller's, and the site goes on. */
  #attempt(tell: () => unknown): void {
    let refusal: CoterieError | undefined
    this.step(() => {
      try {
        tell()
      } catch (error) {
        if (!isCoterieError(error)) throw error
        refusal = error
      }
    })
    if (refusal !== undefined) throw refusal
  }

  #settle(): void {
    if (this.#settling || this.#barrier) return
    this.#settling = true
    try {
      while (!this.#barrier && this.#nextEffects()) {
        const effect = this.#effects[this.#effectAt++] as Effect
        if (effect.kind === 'persist') this.#persist(effect)
        else this.#perform(effect)
      }
    } catch (error) {
      this.engine.fail(error)
    } finally {
      this.#settling = false
    }
    if (!this.#barrier) this.#wakeIdle()
    this.#tickWhileBusy()
  }

  #nextEffects(): boolean {
    if (this.#effectAt < this.#effects.length) return true
    this.#effects = this.core.takeEffects()
    this.#effectAt = 0
    return this.#effects.length > 0
  }

  #persist(effect: Extract<Effect, { kind: 'persist' }>): void {
    this.#barrier = true
    this.#saveWhenRoom({ term: effect.term, termMaster: effect.master, vote: effect.vote }).then(
      () => {
        this.#barrier = false
        this.#settle()
      },
      (error: unknown) => {
        this.#barrier = false
        this.engine.fail(error)
        this.#wakeIdle()
      },
    )
  }

  /** As `saveState`, but a full disk is waited for: nothing is in doubt then, and writers are told meanwhile. */
  async #saveWhenRoom(change: Partial<SiteState>): Promise<void> {
    const { engine } = this
    for (;;) {
      try {
        await this.saveState(change)
        if (isCoterieError(engine.stall, 'DISK_FULL') && !engine.isLogStalled) engine.setStall(undefined)
        return
      } catch (error) {
        if (!isCoterieError(error, 'DISK_FULL') || this.#closing) throw error
        if (engine.stall === undefined) engine.setStall(error)
        await new Promise<void>((resolve) => {
          engine.host.timers.after(persistRetryMs, resolve)
        })
      }
    }
  }

  saveState(change: Partial<SiteState>): Promise<SiteState> {
    return this.engine.folder.saveState((state) => {
      const next = {
        ...(state as SiteState),
        // A site of a group comes back as a replica, whatever it was: others may reign by then.
        role: this.#inGroup ? 'replica' : this.#role,
        inGroup: this.#inGroup,
        sites: this.#sites,
        master: this.#masterAddress,
        cleanEnd: undefined,
        ...change,
      }
      const isSame = next.databaseId === (state as SiteState).databaseId
      assert(
        !isSame || next.term >= (state as SiteState).term,
        'the persisted term of a database never falls',
      )
      return next
    })
  }

  /** Resolves when every effect so far has been run, barriers included. */
  async #idle(): Promise<void> {
    // Asked from within an effect: those behind it come first, and one of them may be a barrier.
    if (this.#settling) await Promise.resolve()
    this.#settle()
    while (this.#barrier && this.engine.failure === undefined) {
      await new Promise<void>((resolve) => {
        this.#idleWaiters.push(resolve)
      })
      this.engine.assertOpen()
    }
    if (this.engine.failure !== undefined) throw this.engine.failure
  }

  #wakeIdle(): void {
    const waiters = this.#idleWaiters
    this.#idleWaiters = []
    for (const wake of waiters) wake()
  }

  #perform(effect: Exclude<Effect, { kind: 'persist' }>): void {
    switch (effect.kind) {
      case 'send':
        if (!this.#peers.send(effect.to, effect.control, effect.rec)) {
          this.core.congested({ peer: effect.to, congested: true })
        }
        return
      case 'append':
        this.#ackMeter.begun(effect.batch.lastLsn, this.now())
        this.engine.appendReplicated(effect.batch)
        return
      case 'commit':
        this.#commit(effect)
        return
      case 'readLog':
        this.#readLog(effect)
        return
      case 'rewind':
        this.background(this.#rewind(effect.to), (error) =>
          this.core.rewindFailed({ reason: asError(error).message, now: this.now() }),
        )
        return
      case 'snapshotOpen':
      case 'snapshotRead':
      case 'snapshotClose':
        this.#serving.run(effect)
        return
      case 'snapshotPrepare':
      case 'snapshotStore':
      case 'snapshotInstall':
        this.#taking.run(effect)
        return
      case 'retainLog':
        this.#retainFrom = effect.from
        return
      case 'disconnect':
        this.#disconnect(effect.peer, new CoterieError(effect.code, effect.reason))
        return
      case 'event':
        this.#report(effect.event)
        return
      case 'stopped':
        this.#following = false
        if (effect.reason === 'became-master' && !this.#inGroup) {
          // On disk with the term that was given to this site, the next effect: a crash from then on leaves a master.
          this.#role = 'master'
          this.#masterAddress = undefined
        }
        this.#partFrom(effect)
        this.events.emit('stopped', effect)
        return
      case 'steppedDown':
        this.#stepDown(effect)
        return
      case 'elected':
        this.events.emit('elected', effect)
        return
      case 'reignConfirmed':
        this.#reignConfirmed(effect.question)
        return
    }
  }

  #disconnect(peer: PeerId, cause: CoterieError): void {
    this.#peers.disconnect(peer, cause)
    this.events.emit('peerGone', { peer, cause })
  }

  #commit(effect: Extract<Effect, { kind: 'commit' }>): void {
    const { committedLsn, permanentLsn, applyLsn } = effect
    if (this.isWriter) this.#ackMeter.ended(committedLsn, this.now())
    const writer = this.engine.waitingCommits > 0
    const acks = writer ? this.core.sitesHaving(committedLsn) : 0
    const detached =
      writer && this.#detachments.length > 0
        ? this.#detachedSince(this.engine.committedLsn, committedLsn)
        : nobody
    this.engine.commitTo({ committedLsn, permanentLsn, applyLsn, acks, detached })
  }

  #detachedSince(before: Lsn, committedLsn: Lsn): readonly string[] {
    const sites = this.#detachments.filter((each) => each.lsn > before).map((each) => each.site)
    this.#detachments = this.#detachments.filter((each) => each.lsn > committedLsn)
    return sites
  }

  #report(event: CoreEvent): void {
    if (event.kind === 'replicaDetached') {
      this.#detachments.push({ site: event.site, code: event.code, lsn: event.lsn, at: this.now() })
      if (this.#detachments.length > 100) this.#detachments.shift()
    }
    if (event.kind === 'replicaJoined' || event.kind === 'siteMet') this.#peers.joined(event.peer)
    if (event.kind === 'gate') {
      this.#setGate()
      // What was taken before writers had to wait belongs to what is handed over.
      if (!event.gate.open && event.gate.code === 'HANDING_OVER') this.engine.flush()
    }
    this.events.emit('core', event)
  }

  #setGate(): void {
    const gate = this.core.gate()
    if (gate.open || gate.wait || gate.code === 'HANDING_OVER') {
      this.#gate = gate.open ? { open: true } : { open: false, wait: true }
    } else {
      const error = new CoterieError(
        gate.code,
        gate.code === 'NO_QUORUM'
          ? `writes need ${gate.need} attached replicas, there are ${gate.have}`
          : `a replica lags by ${gate.have} bytes, allowed are ${gate.need}`,
        { details: { have: gate.have, need: gate.need } },
      )
      this.#gate = { open: false, wait: false, error }
    }
    this.engine.wakeWriters()
  }

  /** The connection to the master is of no more use. */
  #partFrom({ code = 'DETACHED', message }: Extract<Effect, { kind: 'stopped' }>): void {
    if (this.#masterPeer === undefined) return
    this.#peers.disconnect(this.#masterPeer, new CoterieError(code, message))
    this.#masterPeer = undefined
  }

  #stepDown(effect: Extract<Effect, { kind: 'steppedDown' }>): void {
    this.#role = 'replica'
    this.#masterAddress = effect.address === '' ? undefined : effect.address
    const why = {
      replaced: 'another site has become master',
      'no-majority': 'this master has lost the majority of its group',
      'handed-over': 'this master has handed over to another site',
      asked: 'this master has given up its reign',
    }[effect.reason]
    this.engine.endReign(why, { unseated: true })
    this.#reignOver(why)
    // The role goes to the disk with the new term, which the core asks to persist next.
    this.events.emit('steppedDown', effect)
    this.events.emit('role', { role: 'replica', term: effect.term })
  }

  /** Runs something that answers the core later. Its failure is told to the core, or else stops the site. */
  background(work: Promise<unknown>, onFailed?: (error: unknown) => void): void {
    work.catch((error: unknown) => {
      if (this.engine.closed) return
      if (onFailed === undefined || !isCoterieError(error)) this.engine.fail(error)
      else this.step(() => onFailed(error))
    })
  }

  // ---- log and snapshots for replicas ------------------------------------------------------------------------

  #readLog(effect: Extract<Effect, { kind: 'readLog' }>): void {
    const { peer, from, to, bytesMax } = effect
    this.engine.parts.log.read({ from, to, bytesMax }).then(
      (batch) => this.step(() => this.core.logRead({ peer, from, batch, now: this.now() })),
      (error: unknown) => {
        if (this.engine.closed) return
        const why = isCoterieError(error, 'LOG_TRIMMED') ? 'trimmed' : 'failed'
        if (why === 'failed' && !isCoterieError(error, 'CLOSED'))
          this.events.emit('damaged', asCoterie(error))
        this.step(() => this.core.logRead({ peer, from, error: why, now: this.now() }))
      },
    )
  }

  /** Files with transactions that were rolled back here. */
  get lostFiles(): readonly string[] {
    return this.#lostFiles
  }

  async loadLostFiles(): Promise<void> {
    this.#lostFiles = await this.engine.folder.lostFiles()
  }

  async keepWhatIsLost(agreedLsn: Lsn | undefined): Promise<LostReport | undefined> {
    if (agreedLsn === undefined || !this.engine.hasData) return undefined
    const lost = await keepLost(this.engine.folder, this.engine.parts.log, agreedLsn)
    await this.loadLostFiles()
    return lost
  }

  async #rewind(to: Lsn): Promise<void> {
    const lost = await this.keepWhatIsLost(to)
    // The mark of an orderly end attests records that are about to go.
    await this.saveState({})
    const { place, history } = await this.engine.rewind(to)
    this.events.emit('rewound', { to, lost })
    const { membership } = this.engine
    this.step(() => this.core.rewound({ place, history, membership, now: this.now() }))
  }

  // ---- what the engine tells (Replicator) --------------------------------------------------------------------

  async becomeWriter(): Promise<void> {
    if (this.#reigning !== undefined) {
      await this.#reigning
      return
    }
    const reason = this.whyNotWriter()
    if (reason !== undefined) throw reason
    await this.reign(this.#role, { sites: 1, durability: this.engine.durability })
  }

  /** Why this site may not write of its own accord, if so. */
  whyNotWriter(): CoterieError | undefined {
    if (this.#inGroup && this.engine.hasData) return this.#whyNotGroupWriter()
    const master = this.masterAddress
    const at = master === undefined ? '' : `; the master was last at ${master}`
    if (!this.engine.hasData) {
      return new CoterieError('NOT_MASTER', `this replica has no data yet${at}`, {
        details: { ...(master === undefined ? {} : { master }) },
      })
    }
    if (this.#isLeavingReign || this.#following || this.#role === 'replica') {
      return new CoterieError('NOT_MASTER', `this site is a replica and takes no writes${at}`, {
        details: { ...(master === undefined ? {} : { master }) },
      })
    }
    if (this.#role === 'master' && (this.#sites ?? 1) > 1) {
      return new CoterieError(
        'NOT_MASTER',
        `this site was the master of a group of ${this.#sites}: call serve(), or standalone() to go on alone`,
      )
    }
    return undefined
  }

  /** In a group only the elected master writes. */
  #whyNotGroupWriter(): CoterieError {
    const heard = this.core.heardMaster
    if (heard !== undefined && heard.site !== this.site) {
      const { site, address } = heard
      const message = `this site is a replica and takes no writes; the master is ${site} at ${address}`
      return new CoterieError('NOT_MASTER', message, { details: { master: address, site } })
    }
    return (
      this.#whyNoMaster ?? new CoterieError('NO_MASTER', 'the group has no master now; an election is due')
    )
  }

  get masterAddress(): string | undefined {
    return this.#masterAddress
  }

  gate(): Gate {
    if (this.#isLeavingReign) return { open: false, wait: false, error: this.whyNotWriter() as CoterieError }
    return this.#draining ? { open: false, wait: true } : this.#gate
  }

  confirmReign(): Promise<void> | undefined {
    if (this.core.settings?.elections !== true) return undefined
    return new Promise((resolve, reject) => {
      const question = ++this.#question
      this.#reignWaiters.push({ question, resolve, reject })
      this.step(() => this.core.confirmReign({ question, now: this.now() }))
    })
  }

  #reignConfirmed(question: number): void {
    const answered = this.#reignWaiters.filter((waiter) => waiter.question <= question)
    this.#reignWaiters = this.#reignWaiters.filter((waiter) => waiter.question > question)
    for (const waiter of answered) waiter.resolve()
  }

  #reignOver(why: string): void {
    const waiters = this.#reignWaiters
    this.#reignWaiters = []
    for (const waiter of waiters) waiter.reject(new CoterieError('NOT_MASTER', why))
  }

  proposed(batch: RecordBatch, exceptions: readonly CommitException[]): void {
    const now = this.now()
    this.#ackMeter.begun(batch.lastLsn, now)
    this.step(() => this.core.proposed({ batch, exceptions, now }))
  }

  written(writtenLsn: Lsn): void {
    if (this.isWriter) this.step(() => this.core.written({ writtenLsn, now: this.now() }))
  }

  durable(durableLsn: Lsn): void {
    if (!this.isWriter) this.#ackMeter.ended(durableLsn, this.now())
    this.step(() => this.core.synced({ durableLsn, now: this.now() }))
  }

  applied(appliedLsn: Lsn): void {
    this.step(() => this.core.applied({ appliedLsn, now: this.now() }))
  }

  failed(error: CoterieError): void {
    this.#reignOver(`this site has stopped: ${error.message}`)
    this.#peers.disconnectAll(error)
    this.#wakeIdle()
    this.events.emit('failed', error)
  }

  stalled(error: CoterieError | undefined): void {
    if (error === undefined) this.events.emit('resumed', undefined)
    else this.events.emit('stalled', error)
  }

  retainFrom(): Lsn | undefined {
    return this.#retainFrom
  }

  trimmed(firstLsn: Lsn): void {
    this.step(() => this.core.logTrimmed({ firstLsn, now: this.now() }))
  }

  // ---- roles -------------------------------------------------------------------------------------------------

  /** Takes mastership in a new term: the term is on disk before the first record of the reign is. */
  reign(role: SiteRole, options: ServeOptions): Promise<void> {
    assert(role !== 'replica', 'a replica does not reign')
    if (!this.engine.hasData) {
      return Promise.reject(new CoterieError('INVALID_STATE', 'this replica has no data yet'))
    }
    if (this.#isLeavingReign) {
      return Promise.reject(new CoterieError('INVALID_STATE', 'this site is attaching to a master'))
    }
    this.#reigning ??= this.#startReign(role, options).finally(() => {
      this.#reigning = undefined
    })
    return this.#reigning
  }

  /** Begins the reign that this site was elected to, or was given. */
  reignElected(options: ServeOptions): Promise<void> {
    this.#isLeavingReign = false
    this.#reigning ??= this.#startReign('master', options, { elected: true })
      .catch(async (error: unknown) => {
        // A later term is another site's: this one does not begin one of its own accord.
        if (!this.#inGroup && this.core.termMaster !== this.site)
          await this.becomeReplica(undefined, this.#sites)
        throw error
      })
      .finally(() => {
        this.#reigning = undefined
      })
    return this.#reigning
  }

  async #startReign(
    role: 'standalone' | 'master',
    options: ServeOptions,
    how: { readonly elected: boolean } = { elected: false },
  ): Promise<void> {
    const before = { role: this.#role, sites: this.#sites }
    this.#role = role
    this.#sites = role === 'master' ? options.sites : undefined
    const { databaseId, site } = this.engine.folder.state as SiteState
    assert(databaseId !== undefined, 'a master has a database')
    let term: Term = noTerm
    try {
      this.#attempt(() => {
        this.core.serve({ ...options, databaseId, now: this.now() })
        term = this.core.startTerm(this.now(), how)
      })
      await this.#idle()
      const isStillMaster = (): boolean => this.core.role === 'master' && this.core.term === term
      this.#ackMeter.reset()
      await this.engine.beginReign({ databaseId, site, term }, { firstRecord: true, isStillMaster })
    } catch (error) {
      if (this.core.role === 'master') {
        this.step(() => this.core.stopServing(this.now()))
        this.#role = before.role
        this.#sites = before.sites
      }
      if (how.elected) this.step(() => this.core.electionLost(this.now()))
      throw error
    }
    this.#setGate()
    this.events.emit('role', { role, term })
  }

  /** Changes how a reign goes on: from alone to serving and back. */
  async changeReign(role: 'standalone' | 'master', options: ServeOptions): Promise<void> {
    // One that a write has just begun is not served as this one asks.
    await this.#reigning?.catch(() => {})
    if (!this.isWriter) {
      await this.reign(role, options)
      return
    }
    const before = { role: this.#role, sites: this.#sites }
    this.#role = role
    this.#sites = role === 'master' ? options.sites : undefined
    try {
      await this.saveState({})
    } catch (error) {
      this.#role = before.role
      this.#sites = before.sites
      throw error
    }
    if (!this.isWriter) throw new CoterieError('NOT_MASTER', 'another site has become master meanwhile')
    this.step(() => this.core.serve({ ...options, now: this.now() }))
    this.#setGate()
    await this.#idle()
    this.events.emit('role', { role, term: this.core.term })
  }

  /**
   * Takes no more writes until `resumeReign`: about to follow another site. What is under way is confirmed first, where
   * this site can do so alone; everything logged is durable when it resolves.
   */
  async abdicate(): Promise<void> {
    this.#isLeavingReign = true
    await this.#reigning?.catch(() => {})
    const { engine } = this
    engine.flush()
    if (engine.hasData) {
      if (engine.stall !== undefined) throw engine.stall
      const { log } = engine.parts
      await log.whenDurable(log.lastLsn)
    }
    engine.endReign('this site is becoming a replica', { unseated: false })
    this.#reignOver('this site is becoming a replica')
    if (this.core.role === 'master') this.step(() => this.core.stopServing(this.now()))
    await this.#idle()
  }

  /** The attachment has ended: whether this site takes writes is a matter of its role again. */
  resumeReign(): void {
    this.#isLeavingReign = false
  }

  /** What an earlier, broken snapshot has left here. */
  async resumable(): Promise<SnapshotResume | undefined> {
    return await this.#taking.resumable()
  }

  /** Follows the master behind a connection. */
  follow(connection: Connection, options: FollowOptions): void {
    if (this.engine.failure !== undefined) throw this.engine.failure
    const peer = this.#peers.add(connection, { trusted: true })
    this.#masterPeer = peer
    this.#following = true
    this.#ackMeter.reset()
    this.step(() => {
      this.core.connected({ peer, now: this.now() })
      this.core.follow({ peer, now: this.now(), options })
    })
  }

  /** Ends the attachment: `stop` finishes what was received, `cancel` stops at once. */
  leave(kind: 'stop' | 'cancel'): void {
    this.step(() => this.core.leave({ now: this.now(), kind }))
  }

  /** A connection on which a replica may ask to join. */
  accept(connection: Connection): void {
    const peer = this.#peers.add(connection, { trusted: false })
    this.step(() => this.core.connected({ peer, now: this.now() }))
  }

  /** The site is a replica from now on, also after a restart. */
  async becomeReplica(master: string | undefined, sites: number | undefined): Promise<void> {
    this.#role = 'replica'
    this.#sites = sites
    this.#masterAddress = master
    await this.#saveWhenRoom({})
    this.events.emit('role', { role: 'replica', term: this.core.term })
  }

  // ---- groups ------------------------------------------------------------------------------------------------

  get inGroup(): boolean {
    return this.#inGroup
  }

  /** From now on this site is one of a group; it takes no writes of its own accord any more. */
  async joinGroup(options: GroupOptions): Promise<void> {
    if (!this.#inGroup) {
      await this.abdicate()
      this.#inGroup = true
      this.#role = 'replica'
      try {
        await this.#saveWhenRoom({})
      } catch (error) {
        this.#inGroup = false
        throw error
      } finally {
        this.#isLeavingReign = false
      }
    }
    this.step(() => this.core.joinGroup({ ...options, now: this.now() }))
  }

  /** Undoes `joinGroup`, also on disk, where nothing of a group was taken. */
  async withdraw(role: SiteRole): Promise<void> {
    this.#inGroup = false
    this.#role = role
    await this.#saveWhenRoom({})
  }

  /** It is one of no group any more, on disk with the next reign. */
  forgetGroup(): void {
    this.#inGroup = false
  }

  /** Takes no part in the group any more; it stays a replica of it, on disk too. */
  leaveGroup(): void {
    this.step(() => this.core.leaveGroup(this.now()))
  }

  /** A connection to another site of the group. */
  link(connection: Connection): PeerId {
    const peer = this.#peers.add(connection, { trusted: true })
    this.step(() => this.core.linked({ peer, now: this.now() }))
    return peer
  }

  unlink(peer: PeerId, why: string): void {
    this.#peers.disconnect(peer, new CoterieError('CONNECTION_CLOSED', why))
    this.step(() => this.core.disconnected({ peer, now: this.now(), cause: why }))
  }

  /** Why there is no master, for those who want to write. */
  set whyNoMaster(error: CoterieError | undefined) {
    this.#whyNoMaster = error
  }

  /** Writes wait until it is done or called off: events `handedOver` and `handOverFailed` of the core. */
  handOver(site: string): void {
    this.engine.flush()
    this.#attempt(() => this.core.handOver({ site, now: this.now() }))
    this.#setGate()
  }

  cancelHandOver(message: string): void {
    this.step(() => this.core.cancelHandOver({ message, now: this.now() }))
  }

  /** Answers a replica that asked to take over, before anything has begun. */
  refuseTakeOver(site: string, message: string): void {
    this.step(() => this.core.refuseTakeOver({ site, message, now: this.now() }))
  }

  /** Asks the master to hand over to this site, which will serve at `address`. */
  askTakeOver(address: string): void {
    this.step(() => this.core.askTakeOver({ address, now: this.now() }))
  }

  stepDown(): void {
    this.step(() => this.core.stepDown(this.now()))
  }

  detach(options: { site: string; code: ErrorCode; message: string }): void {
    this.step(() => this.core.detach({ ...options, now: this.now() }))
  }

  configure(options: Partial<ServeOptions>): void {
    this.step(() => this.core.configure({ ...options, now: this.now() }))
    this.#setGate()
  }

  flushWindow(): void {
    this.step(() => this.core.flushWindow(this.now()))
  }

  /**
   * Ends the reign: commits under way have up to `waitMs` to be confirmed, and new ones wait meanwhile; then the
   * replicas are sent away.
   */
  async stopServing(options: { waitMs: number }): Promise<void> {
    this.#draining = true
    try {
      if (this.isWriter) await this.#drain(options.waitMs)
      this.engine.endReign('this site has stopped serving', { unseated: false })
      this.#reignOver('this site has stopped serving')
      if (this.core.role === 'master') this.step(() => this.core.stopServing(this.now()))
      // What waits behind a barrier, a hand-over perhaps, shall still leave.
      await this.#idle()
    } finally {
      this.#draining = false
      this.engine.wakeWriters()
    }
    await this.#peers.endAll()
  }

  async #drain(waitMs: number): Promise<void> {
    const { engine } = this
    engine.flush()
    this.flushWindow()
    if (waitMs === 0) return
    const timeUp = new AbortController()
    const timer = engine.host.timers.after(waitMs, () => timeUp.abort())
    try {
      const { log } = engine.parts
      await aborted(log.whenDurable(log.lastLsn), timeUp.signal)
      // Without replicas nobody is left to confirm what their acks are asked for.
      if (this.core.replicas.length > 0) await engine.whenCommitted(engine.lastLsn, timeUp.signal)
    } catch (error) {
      // Out of time, or the log has failed: whoever waits is told that the outcome is unknown.
      if (!isCoterieError(error)) throw error
    } finally {
      timer.cancel()
    }
  }

  // ---- time --------------------------------------------------------------------------------------------------

  #tickWhileBusy(): void {
    if (this.#ticking || this.engine.closed) return
    const isIdle = this.#peers.count === 0 && this.engine.waitingCommits === 0 && !this.#following
    if (isIdle && !this.#inGroup) return
    this.#ticking = true
    this.engine.host.timers.after(defaultTimings.tickMs, () => {
      this.#ticking = false
      if (this.engine.closed) return
      this.step(() => this.core.tick(this.now()))
      this.engine.expireCommits()
      this.#tickWhileBusy()
    })
  }

  async close(): Promise<void> {
    this.#closing = true
    await this.#serving.close()
    await this.#peers.endAll()
    await this.#taking.close()
  }
}

function asCoterie(error: unknown): CoterieError {
  return isCoterieError(error)
    ? error
    : new CoterieError('IO_ERROR', asError(error).message, { cause: error })
}
