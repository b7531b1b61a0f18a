// The driver of one site: it joins the engine (database, log, store) and the connections to the replication core.
//
// All that happens comes in here - a write or a sync by the engine (`Replicator`), a message by peers.ts, a tick, a call
// of the faces above - and is told to the core in a `step`. What the core then asks for is run by effect-loop.ts, in
// order and behind its barrier, and handed out here by `#perform` to the part whose work it is.
//
// An ack never leaves before its sync, by shape: of the records that were appended the core takes for durable only what
// `durable` tells it, and only the log calls that, after a sync. For votes and terms the loop's barrier does the same.
//
// A broken invariant anywhere in a step stops the site: the engine fails and takes no more writes.

import type { RecordBatch } from '../base/batch.ts'
import { Emitter } from '../base/emitter.ts'
import { CoterieError, type ErrorCode, isCoterieError } from '../base/errors.ts'
import { type Lsn, noLsn, noTerm } from '../base/lsn.ts'
import type { CommitException } from '../base/policy.ts'
import type { Engine, Gate, Replicator } from '../database/engine.ts'
import type { LostReport } from '../database/lost-file.ts'
import { nobody } from '../database/receipt.ts'
import type { SiteRole, SiteState, ViewState } from '../database/site-state.ts'
import type { Core } from '../replication/core.ts'
import type {
  Detachment,
  FollowOptions,
  PeerId,
  ReplicaView,
  ServeOptions,
  SnapshotResume,
} from '../replication/core-options.ts'
import { type CoreEvent, type Effect, type StepResult, stepOk } from '../replication/effects.ts'
import { defaultTimings } from '../replication/timings.ts'
import type { Connection } from '../transport/transport.ts'
import { AckMeter } from './ack-meter.ts'
import { EffectLoop } from './effect-loop.ts'
import { LogServing } from './log-serving.ts'
import { Peers } from './peers.ts'
import { ReignQuestions } from './reign-questions.ts'
import { Rewinding } from './rewinding.ts'
import { Roles } from './roles.ts'
import type { SiteEvents } from './site-events.ts'
import type { SiteSteps } from './site-steps.ts'
import { SnapshotServing } from './snapshot-serving.ts'
import { SnapshotTaking } from './snapshot-taking.ts'
import { Standing } from './standing.ts'
import { type StartOptions, startCore } from './start-core.ts'
import { WriteGate } from './write-gate.ts'

export class Site implements Replicator, SiteSteps {
  readonly engine: Engine
  readonly events: Emitter<SiteEvents> = new Emitter()
  readonly peers: Peers
  /** How this site comes to write and ceases to. */
  readonly roles: Roles
  /** Whether it takes a write now. */
  readonly writeGate: WriteGate
  #core: Core
  readonly #standing: Standing
  readonly #loop: EffectLoop
  readonly #logServing: LogServing
  readonly #snapshotServing: SnapshotServing
  readonly #snapshotTaking: SnapshotTaking
  readonly #rewinding: Rewinding
  readonly #questions: ReignQuestions
  readonly #ackMeter = new AckMeter()
  #ticking = false
  #retainFrom: Lsn | undefined
  #following = false
  #masterPeer: PeerId | undefined
  /** Replicas that went while commits waited for them. */
  #detachments: Detachment[] = []

  constructor(
    options: StartOptions & {
      readonly engine: Engine
      readonly state: SiteState
      readonly segmentBytes: number | undefined
    },
  ) {
    const { engine, state } = options
    this.engine = engine
    this.#core = startCore(engine, state, options)
    this.#standing = new Standing(engine, state)
    this.#loop = new EffectLoop({
      engine,
      standing: this.#standing,
      takeEffects: () => this.core.takeEffects(),
      perform: (effect) => this.#perform(effect),
      onSettled: () => this.#tickWhileBusy(),
    })
    this.peers = new Peers(this)
    this.writeGate = new WriteGate(this, this.#standing)
    this.#questions = new ReignQuestions(this)
    this.roles = new Roles(this, {
      standing: this.#standing,
      loop: this.#loop,
      peers: this.peers,
      writeGate: this.writeGate,
      questions: this.#questions,
      ackMeter: this.#ackMeter,
    })
    this.#logServing = new LogServing(this)
    this.#snapshotServing = new SnapshotServing(this)
    this.#snapshotTaking = new SnapshotTaking(this, { segmentBytes: options.segmentBytes })
    this.#rewinding = new Rewinding(this)
    engine.replicator = this
    engine.keptStores.onAnswered = (answers): Promise<void> =>
      this.#standing.saveWhenRoom({ view: { kind: 'partial', ...answers } })
  }

  get core(): Core {
    return this.#core
  }

  /** A database that has no record yet gets another site id than the one that it was created with; on disk, too. */
  async takeId(site: string): Promise<void> {
    const isFresh = this.core.role === 'none' && this.core.term === noTerm && this.core.lastLsn === noLsn
    if (!isFresh || this.inGroup) {
      throw new CoterieError('OPTION_INVALID', `this site's id is '${this.site}' for ever, not '${site}'`)
    }
    const state = await this.saveState({ site })
    this.#core = startCore(this.engine, state, {})
  }

  /** Sites of the group, where its master has said. */
  get groupSites(): number | undefined {
    return this.#standing.sites
  }

  get role(): SiteRole {
    return this.#standing.role
  }

  get inGroup(): boolean {
    return this.#standing.inGroup
  }

  /** A view never votes, and is a replica for ever; a partial one has not every store. Undefined: a participant. */
  get view(): ViewState['kind'] | undefined {
    return this.engine.folder.state?.view?.kind
  }

  /** Where the last known master is, on a replica. */
  get masterAddress(): string | undefined {
    return this.#standing.masterAddress
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

  /** Files with transactions that were rolled back here. */
  get lostFiles(): readonly string[] {
    return this.#rewinding.lostFiles
  }

  loadLostFiles(): Promise<void> {
    return this.#rewinding.loadLostFiles()
  }

  now(): number {
    return this.engine.host.clock.now()
  }

  // ---- running the core --------------------------------------------------------------------------------------

  /** Tells the core something and runs what follows from it. A thrown error stops the site. */
  step(tell: () => unknown): void {
    this.#loop.step(tell)
  }

  #perform(effect: Exclude<Effect, { kind: 'persist' }>): void {
    switch (effect.kind) {
      case 'send':
        if (!this.peers.send(effect)) {
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
        this.#logServing.run(effect)
        return
      case 'rewind':
        this.#rewinding.run(effect)
        return
      case 'snapshotOpen':
      case 'snapshotRead':
      case 'snapshotClose':
        this.#snapshotServing.run(effect)
        return
      case 'snapshotPrepare':
      case 'snapshotStore':
      case 'snapshotInstall':
        this.#snapshotTaking.run(effect)
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
        this.#stopped(effect)
        return
      case 'steppedDown':
        this.roles.steppedDown(effect)
        return
      case 'elected':
        this.events.emit('elected', effect)
        return
      case 'reignConfirmed':
        this.#questions.confirmed(effect.question)
        return
    }
  }

  #disconnect(peer: PeerId, cause: CoterieError): void {
    this.peers.disconnect(peer, cause)
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
    // Nobody's commits wait for those who are attached to a replica.
    if (event.kind === 'replicaDetached' && this.core.role === 'master') {
      this.#detachments.push({ site: event.site, code: event.code, lsn: event.lsn, at: this.now() })
      if (this.#detachments.length > 100) this.#detachments.shift()
    }
    if (event.kind === 'replicaJoined' || event.kind === 'siteMet') this.peers.joined(event.peer)
    if (event.kind === 'gate') {
      this.writeGate.update()
      // What was taken before writers had to wait belongs to what is handed over.
      if (!event.gate.open && event.gate.code === 'HANDING_OVER') this.engine.flush()
    }
    this.events.emit('core', event)
  }

  /** The attachment to a master has ended. */
  #stopped(effect: Extract<Effect, { kind: 'stopped' }>): void {
    this.#following = false
    if (effect.reason === 'became-master' && !this.inGroup) {
      // On disk with the term that was given to this site, the next effect: a crash from then on leaves a master.
      this.#standing.role = 'master'
      this.#standing.masterAddress = undefined
    }
    if (this.#masterPeer !== undefined) {
      const { code = 'DETACHED', message } = effect
      this.peers.disconnect(this.#masterPeer, new CoterieError(code, message))
      this.#masterPeer = undefined
    }
    this.events.emit('stopped', effect)
  }

  /** Runs something that answers the core later. Its failure is told to the core, or else stops the site. */
  background(work: Promise<unknown>, onFailed?: (error: unknown) => void): void {
    work.catch((error: unknown) => {
      if (this.engine.closed) return
      if (onFailed === undefined || !isCoterieError(error)) this.engine.fail(error)
      else this.step(() => onFailed(error))
    })
  }

  // ---- what the parts need -----------------------------------------------------------------------------------

  saveState(change: Partial<SiteState>): Promise<SiteState> {
    return this.#standing.save(change)
  }

  keepWhatIsLost(agreedLsn: Lsn | undefined): Promise<LostReport | undefined> {
    return this.#rewinding.keepWhatIsLost(agreedLsn)
  }

  // ---- what the engine tells (Replicator) --------------------------------------------------------------------

  becomeWriter(): Promise<void> {
    return this.roles.becomeWriter()
  }

  gate(): Gate {
    return this.writeGate.gate
  }

  /** Nobody else can have been elected by now. */
  get #isReignCertain(): boolean {
    return !this.core.mayBeDeposed || this.core.holdsLease(this.now())
  }

  confirmReign(): Promise<void> | undefined {
    return this.#isReignCertain ? undefined : this.#questions.ask()
  }

  whenNewest(signal: AbortSignal | undefined): Promise<void> | undefined {
    if (!this.isWriter) {
      const reason = this.writeGate.whyNotWriter()
      if (reason !== undefined) throw reason
      // Alone, and it has not written yet.
      return undefined
    }
    const { core, engine } = this
    if (core.holdsLease(this.now())) return undefined
    const { reignLsn } = core
    // Who has come back as master does not know yet what of its log was committed, nor do readers see it.
    if (!core.mayBeDeposed && reignLsn !== undefined && engine.committedLsn >= reignLsn) return undefined
    return this.#questions.newest(signal)
  }

  proposed(batch: RecordBatch, exceptions: readonly CommitException[]): void {
    const now = this.now()
    this.#ackMeter.begun(batch.lastLsn, now)
    this.step(() => this.core.proposed({ batch, exceptions, now }))
  }

  written(writtenLsn: Lsn): void {
    if (this.isWriter) this.step(() => this.core.written({ writtenLsn, now: this.now() }))
  }

  /** The log has synced. Nothing else tells the core so, hence no ack can say more than the disk has. */
  durable(durableLsn: Lsn): void {
    if (!this.isWriter) this.#ackMeter.ended(durableLsn, this.now())
    this.step(() => this.core.synced({ durableLsn, now: this.now() }))
  }

  applied(appliedLsn: Lsn): void {
    this.step(() => this.core.applied({ appliedLsn, now: this.now() }))
  }

  failed(error: CoterieError): void {
    this.#questions.reignOver(`this site has stopped: ${error.message}`)
    this.peers.disconnectAll(error)
    this.#loop.wakeIdle()
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

  // ---- what the faces ask for --------------------------------------------------------------------------------

  /** What an earlier, broken snapshot has left here. */
  async resumable(): Promise<SnapshotResume | undefined> {
    return await this.#snapshotTaking.resumable()
  }

  /** What it has left is of no use: its rows are others than this site keeps. */
  async discardStaged(): Promise<void> {
    await this.#snapshotTaking.discard()
  }

  /** Follows the master behind a connection, which ends with the attachment. */
  follow(connection: Connection, options: FollowOptions): void {
    if (this.engine.failure !== undefined) throw this.engine.failure
    const peer = this.peers.add(connection, { trusted: true })
    this.#masterPeer = peer
    this.step(() => this.core.connected({ peer, now: this.now() }))
    this.followPeer(peer, options)
  }

  /** Follows the master behind a peer, which stays one when the attachment has ended. */
  followPeer(peer: PeerId, options: FollowOptions): void {
    this.#following = true
    this.#ackMeter.reset()
    const asWhat = this.view === undefined ? options : { ...options, view: true }
    this.step(() => this.core.follow({ peer, now: this.now(), options: asWhat }))
  }

  /** As `step`, where the core may say no: its refusal is the caller's. */
  attempt(tell: () => unknown): void {
    this.#loop.attempt(tell)
  }

  /** A message of a network that is not ours: what it came to, which need not be on disk yet. */
  process(message: {
    readonly control: Uint8Array
    readonly rec: Uint8Array
    readonly from: PeerId
  }): StepResult {
    let result: StepResult = stepOk
    this.step(() => {
      result = this.core.processMessage({ ...message, now: this.now() })
    })
    return result
  }

  /** Ends the attachment: `stop` finishes what was received, `cancel` stops at once. */
  leave(kind: 'stop' | 'cancel'): void {
    this.step(() => this.core.leave({ now: this.now(), kind }))
  }

  /** Writes wait until it is done or called off: events `handedOver` and `handOverFailed` of the core. */
  handOver(site: string): void {
    this.engine.flush()
    this.#loop.attempt(() => this.core.handOver({ site, now: this.now() }))
    this.writeGate.update()
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
    this.writeGate.update()
  }

  flushWindow(): void {
    this.step(() => this.core.flushWindow(this.now()))
  }

  // ---- time --------------------------------------------------------------------------------------------------

  #tickWhileBusy(): void {
    if (this.#ticking || this.engine.closed) return
    const isIdle = this.peers.count === 0 && this.engine.waitingCommits === 0 && !this.#following
    if (isIdle && !this.inGroup) return
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
    this.#standing.close()
    await this.#snapshotServing.close()
    await this.peers.endAll()
    await this.#snapshotTaking.close()
  }
}
