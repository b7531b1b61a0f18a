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
import { type Lsn, noLsn, noTerm, type Term, toTerm } from '../base/lsn.ts'
import type { CommitException } from '../base/policy.ts'
import { aborted } from '../database/aborted.ts'
import type { Engine, Gate, Replicator } from '../database/engine.ts'
import { keepLost, type LostReport } from '../database/lost-file.ts'
import { nobody } from '../database/receipt.ts'
import type { SiteRole, SiteState } from '../database/site-state.ts'
import { placeBeforeAll } from '../log/record-format.ts'
import { Core } from '../replication/core.ts'
import type {
  Detachment,
  FollowOptions,
  PeerId,
  ReplicaView,
  ServeOptions,
  SnapshotResume,
} from '../replication/core-options.ts'
import type { CoreEvent, Effect } from '../replication/effects.ts'
import { defaultTimings, type Timings } from '../replication/timings.ts'
import type { Connection } from '../transport/transport.ts'
import { Peers } from './peers.ts'
import { recordCodec } from './record-codec.ts'
import type { SiteEvents } from './site-events.ts'
import type { SiteSteps } from './site-steps.ts'
import { SnapshotServing } from './snapshot-serving.ts'
import { SnapshotTaking } from './snapshot-taking.ts'

/** How often a term is tried to be written while the disk is full. */
const persistRetryMs = 500

export class Site implements Replicator, SiteSteps {
  readonly engine: Engine
  readonly events: Emitter<SiteEvents> = new Emitter()
  readonly core: Core
  readonly #peers: Peers
  readonly #serving: SnapshotServing
  readonly #taking: SnapshotTaking
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

  constructor(options: {
    readonly engine: Engine
    readonly state: SiteState
    readonly segmentBytes: number | undefined
    /** What is certain from the start; default: what the store shows, and what of it has no undo. */
    readonly committedLsn?: Lsn
    readonly permanentLsn?: Lsn
    readonly timings?: Partial<Timings>
  }) {
    const { engine, state } = options
    this.engine = engine
    this.#role = state.role
    this.#sites = state.sites
    this.#masterAddress = state.master
    const parts = engine.partsInUse
    // A database without a record is nobody's yet: it can become a copy of any other.
    const isEmpty = parts === undefined || parts.log.lastLsn === noLsn
    this.core = new Core({
      site: state.site,
      databaseId: isEmpty ? undefined : state.databaseId,
      term: toTerm(Math.max(state.term, parts?.log.last.term ?? 0)),
      // Who reigns in a later term of the log, the log itself says.
      ...(state.term < (parts?.log.last.term ?? 0) ? {} : { termMaster: state.termMaster }),
      readableLsn: parts?.store.meta?.readableLsn ?? noLsn,
      log: {
        first: parts?.log.firstLsn ?? (1 as Lsn),
        last: parts?.log.last ?? placeBeforeAll,
        durableLsn: parts?.log.durableLsn ?? noLsn,
        history: parts?.log.history ?? [],
      },
      appliedLsn: parts?.appliedLsn ?? noLsn,
      committedLsn: options.committedLsn ?? engine.committedLsn,
      permanentLsn: options.permanentLsn ?? engine.permanentLsn,
      codec: recordCodec,
      random: () => new DataView(engine.host.random.bytes(4).buffer as ArrayBuffer).getUint32(0),
      ...(options.timings === undefined ? {} : { timings: options.timings }),
    })
    this.#serving = new SnapshotServing(this)
    this.#taking = new SnapshotTaking(this, { segmentBytes: options.segmentBytes })
    this.#peers = new Peers({
      clock: engine.host.clock,
      timers: engine.host.timers,
      onMessage: (from, control, rec) => {
        this.step(() => this.core.processMessage({ control, rec, from, now: this.now() }))
      },
      onDrain: (peer) => this.step(() => this.core.congested({ peer, congested: false })),
      onClosed: (peer, cause) =>
        this.step(() =>
          this.core.disconnected({
            peer,
            now: this.now(),
            ...(cause === undefined ? {} : { cause: cause.message }),
          }),
        ),
    })
    engine.replicator = this
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
    this.#saveWhenRoom({ term: effect.term, termMaster: effect.master }).then(
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
        role: this.#role,
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
        this.#peers.disconnect(effect.peer, new CoterieError(effect.code, effect.reason))
        return
      case 'event':
        this.#report(effect.event)
        return
      case 'stopped':
        this.#following = false
        this.#partFrom(effect)
        this.events.emit('stopped', effect)
        return
      case 'steppedDown':
        this.#stepDown(effect)
        return
    }
  }

  #commit(effect: Extract<Effect, { kind: 'commit' }>): void {
    const { committedLsn, permanentLsn, applyLsn } = effect
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
    if (event.kind === 'replicaJoined') this.#peers.joined(event.peer)
    if (event.kind === 'gate') this.#setGate()
    this.events.emit('core', event)
  }

  #setGate(): void {
    const gate = this.core.gate()
    if (gate.open) this.#gate = { open: true }
    else if (gate.wait) this.#gate = { open: false, wait: true }
    else {
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
    this.#masterAddress = undefined
    this.engine.endReign('another site has become master', { unseated: true })
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
    this.step(() => this.core.rewound({ place, history, now: this.now() }))
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

  get masterAddress(): string | undefined {
    return this.#masterAddress
  }

  gate(): Gate {
    if (this.#isLeavingReign) return { open: false, wait: false, error: this.whyNotWriter() as CoterieError }
    return this.#draining ? { open: false, wait: true } : this.#gate
  }

  proposed(batch: RecordBatch, exceptions: readonly CommitException[]): void {
    this.step(() => this.core.proposed({ batch, exceptions, now: this.now() }))
  }

  written(writtenLsn: Lsn): void {
    if (this.isWriter) this.step(() => this.core.written({ writtenLsn, now: this.now() }))
  }

  durable(durableLsn: Lsn): void {
    this.step(() => this.core.synced({ durableLsn, now: this.now() }))
  }

  applied(appliedLsn: Lsn): void {
    this.step(() => this.core.applied({ appliedLsn, now: this.now() }))
  }

  failed(error: CoterieError): void {
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

  async #startReign(role: 'standalone' | 'master', options: ServeOptions): Promise<void> {
    const before = { role: this.#role, sites: this.#sites }
    this.#role = role
    this.#sites = role === 'master' ? options.sites : undefined
    const { databaseId, site } = this.engine.folder.state as SiteState
    assert(databaseId !== undefined, 'a master has a database')
    let term: Term = noTerm
    try {
      this.step(() => {
        this.core.serve({ ...options, databaseId, now: this.now() })
        term = this.core.startTerm(this.now())
      })
      await this.#idle()
      const isStillMaster = (): boolean => this.core.role === 'master' && this.core.term === term
      await this.engine.beginReign({ databaseId, site, term }, { firstRecord: true, isStillMaster })
    } catch (error) {
      if (this.core.role === 'master') {
        this.step(() => this.core.stopServing(this.now()))
        this.#role = before.role
        this.#sites = before.sites
      }
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
      if (this.core.role === 'master') this.step(() => this.core.stopServing(this.now()))
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
    if (this.#peers.count === 0 && this.engine.waitingCommits === 0 && !this.#following) return
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
