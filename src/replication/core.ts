// The replication core of one site: synchronous and deterministic, with no clock, no promise, no socket and no file.
//
// Everything that happens comes in by a method, with the time; everything that must be done goes out as effects, in
// order (effects.ts). The same inputs give the same effects, so whole groups run in a simulator. Messages come in by
// one door, `processMessage`; message-dispatch.ts knows whose they are, roles.ts which role the site has, and
// hand-overs.ts how mastership changes hands.
//
// How it fails: bytes from outside never throw and never change state unless they fit; a broken invariant throws
// AssertionFailure, and the driver must stop the site. docs/protocol.md has the protocols and the invariants.

import { assert } from '../base/assert.ts'
import type { RecordBatch, RecordPlace } from '../base/batch.ts'
import { emptyBytes } from '../base/bytes.ts'
import { CoterieError, type ErrorCode } from '../base/errors.ts'
import type { History } from '../base/history.ts'
import type { Lsn, Term } from '../base/lsn.ts'
import type { Membership } from '../base/membership.ts'
import type { CommitException } from '../base/policy.ts'
import {
  type CoreOptions,
  type FollowOptions,
  type Gate,
  type GroupOptions,
  givenSettings,
  type PeerId,
  type RelayOptions,
  type ReplicaView,
  type ServeOptions,
  type ServeSettings,
  type SiteView,
} from './core-options.ts'
import { CoreState } from './core-state.ts'
import type { Counters } from './counters.ts'
import { type Effect, ignore, type StepResult } from './effects.ts'
import type { LogReadAnswer } from './feed.ts'
import { notMaster } from './gate.ts'
import type { HeardMaster } from './group-messages.ts'
import { HandOvers } from './hand-overs.ts'
import { decodeMessage } from './message-codec.ts'
import { MessageDispatch } from './message-dispatch.ts'
import { type KnownMaster, type Role, Roles } from './roles.ts'
import type { SnapshotRowsAnswer } from './snapshot-sender.ts'
import type { Timings } from './timings.ts'

export class Core {
  readonly #state: CoreState
  readonly #roles: Roles
  readonly #handOvers: HandOvers
  readonly #dispatch: MessageDispatch
  readonly #paranoid: boolean

  constructor(options: CoreOptions) {
    const state = new CoreState(options)
    this.#state = state
    this.#roles = new Roles(state)
    this.#handOvers = new HandOvers(state, this.#roles)
    this.#dispatch = new MessageDispatch(state, this.#roles, this.#handOvers)
    this.#paranoid = options.paranoid === true
    this.checkInvariants()
  }

  // ---- what it knows

  get site(): string {
    return this.#state.site
  }

  get databaseId(): string | undefined {
    return this.#state.databaseId
  }

  get role(): Role {
    return this.#roles.role
  }

  /** The highest term seen. */
  get term(): Term {
    return this.#state.term
  }

  /** The master of `term` that this site has chosen; undefined while it is free. */
  get termMaster(): string | undefined {
    return this.#state.termMaster
  }

  /** Whom this site has voted for in `term`. */
  get vote(): string | undefined {
    return this.#state.vote
  }

  /** The members of the group, as the log here says. */
  get membership(): Membership | undefined {
    return this.#state.membership
  }

  /** Of two members this one may reign while the other one is away: it is certain that both know that they may. */
  get goesOnAlone(): boolean {
    return this.#state.goesOnAlone
  }

  /** This very site, with this very data, is one of them. */
  get isMember(): boolean {
    return this.#state.ownMember !== undefined
  }

  /** The sites that have told of themselves on a link. */
  get sites(): SiteView[] {
    return this.#roles.group?.sites ?? []
  }

  /** The master that this site hears now, itself perhaps. */
  get heardMaster(): HeardMaster | undefined {
    return this.#roles.heardMaster()
  }

  /** This master has made a record of its own term permanent: the members may change. */
  get hasPermanentInReign(): boolean {
    return this.#roles.master?.hasPermanentInReign === true
  }

  get history(): History {
    return this.#state.history
  }

  get last(): RecordPlace {
    return this.#state.last
  }

  get lastLsn(): Lsn {
    return this.#state.last.lsn
  }

  get durableLsn(): Lsn {
    return this.#state.durableLsn
  }

  get appliedLsn(): Lsn {
    return this.#state.appliedLsn
  }

  get committedLsn(): Lsn {
    return this.#state.committedLsn
  }

  get permanentLsn(): Lsn {
    return this.#state.permanentLsn
  }

  /** Reads are consistent once this is applied; a site without it cannot become master. */
  get readableLsn(): Lsn {
    return this.#state.readableLsn
  }

  get timings(): Timings {
    return this.#state.timings
  }

  get counters(): Readonly<Counters> {
    return this.#state.counters
  }

  /** This site, as master, or whom it follows and was accepted by. */
  get knownMaster(): KnownMaster | undefined {
    return this.#roles.knownMaster
  }

  /** On a replica: everything that the attach was about is here and readable. */
  get isSynced(): boolean {
    return this.#roles.replica?.isSynced === true
  }

  /** How this site serves; undefined unless it is master. */
  get settings(): ServeSettings | undefined {
    return this.#roles.master?.settings
  }

  /** Those who are attached here, to a master or to a replica that serves in its turn. */
  get replicas(): ReplicaView[] {
    return this.#roles.serving?.replicas() ?? []
  }

  /** True if the site has been attached in this reign. */
  hasMet(site: string): boolean {
    return this.#roles.serving?.attachments.hasMet(site) === true
  }

  /** How many sites, this one included, attest the record at `lsn`. */
  sitesHaving(lsn: Lsn): number {
    return this.#roles.master?.sitesHaving(lsn) ?? 0
  }

  /** Whether a write may be accepted now. To be asked in the same turn in which the write is taken. */
  gate(): Gate {
    return this.#roles.master?.gate ?? notMaster
  }

  // ---- messages in, effects out

  /** The one door for messages. The bytes of `rec` must not change afterwards: they may be kept. */
  processMessage(options: { control: Uint8Array; rec?: Uint8Array; from: PeerId; now: number }): StepResult {
    const { control, rec = emptyBytes, from, now } = options
    const state = this.#state
    const { counters } = state
    state.now = now
    counters.messagesIn++
    counters.bytesIn += control.length + rec.length
    const decoded = decodeMessage(control)
    if (!decoded.ok) return this.#invalid(from, decoded.code, decoded.reason)
    const { message } = decoded
    const isBulk = message.type === 'append' || message.type === 'snapshotRows'
    if (isBulk !== rec.length > 0)
      return this.#invalid(from, 'FRAME_INVALID', 'the bulk does not fit the message')
    const result = this.#dispatch.take(message, rec, from)
    if (result.kind === 'ignore') counters.messagesIgnored++
    this.#settle()
    return result
  }

  #invalid(from: PeerId, code: ErrorCode, reason: string): StepResult {
    this.#state.counters.messagesInvalid++
    // An address of the application's network is no connection that could be ended: the message is as if it were lost.
    if (this.#roles.group?.elects !== false) {
      this.#state.emit({ kind: 'disconnect', peer: from, code, reason })
      this.#roles.disconnected(from, reason)
      this.#settle()
    }
    return ignore(reason)
  }

  /** What is to be done, in order. To be taken after every call. */
  takeEffects(): Effect[] {
    return this.#state.takeEffects()
  }

  // ---- terms and reigns

  /**
   * Makes this site know a term, and choose its master: it will not acknowledge to a master of a lower term, nor to
   * another one of this term. A promotion by hand does so on a majority before it compares their logs. No effect
   * if the term is not higher than the own.
   */
  adoptTerm(options: { term: Term; master?: string; now: number }): void {
    const { term, master, now } = options
    this.#step(now, () => {
      if (term > this.#state.term) this.#roles.seeTerm(term, master, master)
    })
  }

  /**
   * Begins a reign: the term is one above every term seen here and `above`. The driver runs the effects (`persist`
   * first), then appends a record of the new term and calls `proposed`; only then replicas may attach. `elected`: the
   * term is the one of the effect `elected`; NOT_MASTER if it is over.
   */
  startTerm(now: number, options: { above?: Term; elected?: boolean } = {}): Term {
    this.#step(now, () => this.#roles.beginReign(options))
    return this.#state.term
  }

  /** The reign of the effect `elected` could not begin. */
  electionLost(now: number): void {
    this.#step(now, () => this.#roles.forgetReign())
  }

  /** Gives up mastership without handing it over, so that the others elect. */
  stepDown(now: number): void {
    this.#step(now, () => {
      this.#roles.needMaster()
      this.#roles.stepDown('asked', 'the master gives up its reign')
      this.#roles.group?.election.gaveAway()
    })
  }

  /** This site reigns where others may be elected without its knowledge, by so many voters as are known. */
  get mayBeDeposed(): boolean {
    const settings = this.settings
    if (settings === undefined) return false
    return settings.elections || (this.#roles.group !== undefined && settings.sites !== undefined)
  }

  /** It runs in a group that has leases. */
  get hasLeases(): boolean {
    return this.#state.leases !== undefined
  }

  /** The first record of the present reign; undefined where this site does not reign. */
  get reignLsn(): Lsn | undefined {
    return this.#roles.master?.reigns === true ? this.#state.history.at(-1)?.firstLsn : undefined
  }

  /**
   * True while a master's lease holds: until it ends nobody else has been elected, and all that any master committed
   * can be read here. False without `leases`. To be asked with the time of asking, in the turn in which it matters.
   */
  holdsLease(now: number): boolean {
    return this.#roles.master?.holdsLease(now) === true
  }

  /**
   * Asks a majority of the members whether this site is still their master. Questions are numbered by the driver,
   * growing. Answered by the effect `reignConfirmed`, or by `steppedDown`.
   */
  confirmReign(options: { question: number; now: number }): void {
    this.#step(options.now, () => this.#roles.needMaster().confirmReign(options.question))
  }

  // ---- master

  /**
   * Takes the role of master; nothing is accepted before `startTerm` and its record. Called on a master it changes how
   * it serves, in the same term: options that are not given go back to their defaults.
   */
  serve(options: ServeOptions & { now: number }): void {
    const { now, ...serveOptions } = options
    this.#step(now, () => this.#roles.serve(serveOptions))
  }

  /** Changes how this site serves, from now on. */
  configure(options: Partial<ServeOptions> & { now: number }): void {
    const { now, ...change } = options
    this.#step(now, () => this.#roles.needMaster().configure(givenSettings(change)))
  }

  stopServing(now: number, options: { code?: ErrorCode; message?: string } = {}): void {
    const { code = 'MASTER_STOPPED', message = 'the master stops serving' } = options
    this.#step(now, () => this.#roles.stopServing({ code, message }))
  }

  /** Records that were just handed to the own log, of the own term. */
  proposed(options: { batch: RecordBatch; exceptions?: readonly CommitException[]; now: number }): void {
    const { batch, exceptions = noExceptions, now } = options
    this.#step(now, () => this.#roles.proposed(batch, exceptions))
  }

  /** True if the site was attached. It also leaves the count of sites where that is not fixed. */
  detach(options: { site: string; code?: ErrorCode; message?: string; now: number }): boolean {
    const { site, code = 'DETACHED', message = 'detached by the operator', now } = options
    return this.#step(now, () => this.#roles.serving?.detach(site, { code, message }) === true)
  }

  /** Asks the replicas to acknowledge now, whatever the window. */
  flushWindow(now: number): void {
    this.#step(now, () => this.#roles.master?.serving.flushWindow())
  }

  /** Tells replicas what was committed since the last Append; `tick` does so too. */
  announceCommit(now: number): void {
    this.#step(now, () => this.#roles.serving?.announceCommit())
  }

  // ---- replica

  /** Attaches to the master behind `peer`. Ends with the effect `stopped`. */
  follow(options: { peer: PeerId; now: number; options?: FollowOptions }): void {
    const { peer, now } = options
    this.#step(now, () => this.#roles.follow({ ...options.options, peer }))
  }

  /** `stop`: what was received becomes durable and is acknowledged first. `cancel`: at once. */
  leave(options: { now: number; kind: 'stop' | 'cancel' }): void {
    this.#step(options.now, () => this.#roles.replica?.leave(options.kind))
  }

  // ---- serving in turn

  /** This site serves in its turn: others attach to it, and get what is permanent. */
  get isServingInTurn(): boolean {
    return this.#roles.relay !== undefined
  }

  /**
   * On a replica, whether it follows a master at the moment or not: lets others attach. Ends with `stopServingInTurn`, or
   * with `serve`. INVALID_STATE on a master, or where it serves already.
   */
  serveInTurn(options: RelayOptions & { now: number }): void {
    const { now, ...relay } = options
    this.#step(now, () => this.#roles.serveInTurn(relay))
  }

  stopServingInTurn(now: number): void {
    const message = 'this site serves no more'
    this.#step(now, () => this.#roles.stopRelaying({ code: 'MASTER_STOPPED', message }))
  }

  // ---- one of a group

  /**
   * From now on this site is one of a group: it greets, canvasses and votes. Called again it changes what the site says
   * of itself. INVALID_STATE without an incarnation.
   */
  joinGroup(options: GroupOptions & { now: number }): void {
    this.#step(options.now, () => this.#roles.joinGroup(options))
  }

  leaveGroup(now: number): void {
    this.#step(now, () => this.#roles.leaveGroup())
  }

  /** A link to another site of the group is up: both sides greet. It ends with `disconnected`. */
  linked(options: { peer: PeerId; now: number }): void {
    this.#step(options.now, () => this.#roles.group?.greetings.linked(options.peer))
  }

  /** Greets whoever can be reached at `everybody`, an address that is no one site's: who answers is linked. */
  call(options: { everybody: PeerId; now: number }): void {
    this.#step(options.now, () => this.#roles.group?.greetings.call(options.everybody))
  }

  /**
   * Where elections are not automatic: holds one, which a majority of the members must agree to, or as many sites as the
   * application says. Ends with the effect `elected`, or the event `electionDecided`; then another one may be held.
   * INVALID_STATE while one is under way.
   */
  holdElection(options: { votes?: number; now: number }): void {
    this.#step(options.now, () => {
      if (this.#roles.group === undefined) throw new CoterieError('INVALID_STATE', 'this site is in no group')
      this.#roles.group.holdElection(options.votes)
    })
  }

  /** The term that this site was elected in and has not begun to reign in. */
  get electedTerm(): Term | undefined {
    return this.#roles.group?.election.electedTerm
  }

  /** Tells the others of this site at once. */
  announce(now: number): void {
    this.#step(now, () => this.#roles.group?.greetings.announce())
  }

  // ---- handing over

  /**
   * Hands the mastership over to an attached replica: writers wait (`gate`), and once everything is on its disk and
   * committed, this site gives up its reign for good and the other one takes the next term. Ends with the event
   * `handedOver`, or with `handOverFailed`, and then nothing has changed. The driver hands on what it has gathered first.
   */
  handOver(options: { site: string; now: number }): void {
    this.#step(options.now, () => this.#handOvers.begin(this.#roles.needMaster(), options.site))
  }

  /** Before the point of no return; after it nothing happens. */
  cancelHandOver(options: { now: number; message: string }): void {
    const { message, now } = options
    this.#step(now, () => this.#roles.master?.callOffHandOver('TRANSFER_FAILED', message))
  }

  /** On an attached replica: asks the master to hand over. Ends with the effect `elected`, or `handOverFailed`. */
  askTakeOver(options: { address: string; now: number }): void {
    this.#step(options.now, () => this.#roles.needReplica().askTakeOver(options.address))
  }

  /** The answer to `takeOverAsked` where the master is not to be had: nothing changes. */
  refuseTakeOver(options: { site: string; message: string; now: number }): void {
    this.#step(options.now, () => this.#handOvers.refuse(options))
  }

  // ---- log and applier

  /** The operating system has the log up to `writtenLsn`: enough for commits of the durability `written`. */
  written(options: { writtenLsn: Lsn; now: number }): void {
    this.#step(options.now, () => {
      this.#state.written(options.writtenLsn)
      this.#roles.master?.written()
    })
  }

  /** The log is durable up to `durableLsn`. Acks and commits come from here. */
  synced(options: { durableLsn: Lsn; now: number }): void {
    this.#step(options.now, () => {
      this.#state.synced(options.durableLsn)
      this.#roles.master?.synced()
      this.#roles.replica?.positionsMoved()
    })
  }

  /** The store has every record up to `appliedLsn`. */
  applied(options: { appliedLsn: Lsn; now: number }): void {
    this.#step(options.now, () => {
      this.#state.applied(options.appliedLsn)
      this.#roles.serving?.applied()
      this.#roles.replica?.positionsMoved()
    })
  }

  /** The log now begins at `firstLsn`. */
  logTrimmed(options: { firstLsn: Lsn; now: number }): void {
    this.#step(options.now, () => this.#state.trimmed(options.firstLsn))
  }

  // ---- answers to effects of a master

  /** `batch` begins at the `from` of the request; undefined where nothing can be read there yet. */
  logRead(options: { peer: PeerId; from: Lsn; now: number } & LogReadAnswer): void {
    const { peer } = options
    this.#step(options.now, () => {
      const { serving, replica } = this.#roles
      if (serving?.attachments.ofPeer(peer) !== undefined) serving.logRead(peer, options)
      else replica?.logRead(peer, options)
    })
  }

  /** `place` is that of the last record in the store's snapshot. */
  snapshotOpened(options: {
    peer: PeerId
    place: RecordPlace
    history?: History
    rowsEstimate: number
    now: number
  }): void {
    const { peer, place, rowsEstimate, now } = options
    this.#step(now, () => {
      assertEndsAt(options)
      this.#roles.serving?.snapshotOpened(peer, place, rowsEstimate)
    })
  }

  snapshotRows(options: { peer: PeerId; now: number } & SnapshotRowsAnswer): void {
    this.#step(options.now, () => this.#roles.serving?.snapshotRows(options.peer, options))
  }

  snapshotFailed(options: { peer: PeerId; reason: string; now: number }): void {
    this.#step(options.now, () => this.#roles.serving?.snapshotFailed(options.peer, options.reason))
  }

  // ---- answers to effects of a replica

  /** The log was cut after `place` and the store undone. `synced` must not report records that were cut. */
  rewound(options: {
    place: RecordPlace
    history?: History
    /** What holds now. */
    membership?: Membership | undefined
    now: number
  }): void {
    this.#step(options.now, () => {
      assertEndsAt(options)
      this.#state.setMembership(options.membership)
      this.#roles.needReplica().rewound(options.place)
      this.#roles.relay?.rewound(options.place)
    })
  }

  rewindFailed(options: { reason?: string; now: number }): void {
    this.#step(options.now, () => this.#roles.needReplica().rewindFailed(options.reason))
  }

  snapshotPrepared(options: { now: number }): void {
    this.#step(options.now, () => this.#roles.replica?.snapshotPrepared())
  }

  /** Chunks up to `index` are safely in the staging. */
  snapshotStored(options: { index: number; now: number }): void {
    this.#step(options.now, () => this.#roles.replica?.snapshotStored(options.index))
  }

  /** `place` is the end of the new log: the base of the snapshot, or the last record that was kept. */
  snapshotInstalled(options: {
    place: RecordPlace
    history?: History
    /** What the new store says. */
    membership?: Membership | undefined
    /** Of the data folder from now on, where the old data was set aside. */
    incarnation?: string
    now: number
  }): void {
    const { place, membership, incarnation = this.#state.incarnation, now } = options
    this.#step(now, () => {
      assertEndsAt(options)
      const isAnother = incarnation !== this.#state.incarnation
      this.#state.renew(incarnation)
      this.#state.setMembership(membership)
      const replica = this.#roles.needReplica()
      replica.snapshotInstalled(place)
      this.#roles.relay?.replaced(place)
      // The master knows it as the one that it was.
      if (isAnother) replica.joinAnew()
    })
  }

  /** The staging could not be prepared, filled or installed. */
  snapshotInstallFailed(options: { reason: string; now: number }): void {
    this.#step(options.now, () => this.#roles.replica?.snapshotFailed(options.reason))
  }

  // ---- connections and time

  /** The peer can be reached. Nothing depends on it: a peer that has not spoken is nobody yet. */
  connected(options: { peer: PeerId; now: number }): void {
    this.#step(options.now, () => undefined)
  }

  /** The peer's connection is gone; on a transport without connections this is never called. */
  disconnected(options: { peer: PeerId; now: number; cause?: string }): void {
    const { peer, now, cause = 'the connection was lost' } = options
    this.#step(now, () => this.#roles.disconnected(peer, cause))
    // Who has lost the master looks for another at once; whether the others still hear it, they will say.
    this.#tickGroup()
  }

  /** The transport would rather not take more for this peer, or takes more again. */
  congested(options: { peer: PeerId; congested: boolean; now?: number }): void {
    const { peer, congested, now = this.#state.now } = options
    this.#step(now, () => this.#roles.serving?.congested(peer, congested))
  }

  /** To be called every `timings.tickMs`. */
  tick(now: number): void {
    this.#step(now, () => this.#roles.tick())
    this.#tickGroup()
  }

  #tickGroup(): void {
    const { group } = this.#roles
    if (group === undefined) return
    group.tick()
    this.#settle()
  }

  // ---- inside

  /** What all but messages come in by: the time, the change, and what follows from it. */
  #step<T>(now: number, change: () => T): T {
    this.#state.now = now
    const result = change()
    this.#settle()
    return result
  }

  /** After every step. */
  #settle(): void {
    this.#handOvers.review()
    this.#roles.dropEnded()
    this.#roles.relay?.review()
    this.checkInvariants()
  }

  /** Throws AssertionFailure. O(1), unless the core is `paranoid`. docs/protocol.md, section "Invariants". */
  checkInvariants(): void {
    const state = this.#state
    const { master, replica, relay } = this.#roles
    assert(master === undefined || (replica === undefined && relay === undefined), 'a site has one role')
    state.checkPositions()
    state.checkGrowth()
    replica?.checkInvariants()
    relay?.checkInvariants()
    if (!this.#paranoid) return
    state.checkHistory()
    master?.checkInvariants()
    relay?.checkAttached()
  }
}

/** The core knows the history itself; what the driver tells must agree with the place. */
function assertEndsAt(options: { place: RecordPlace; history?: History }): void {
  const { place, history } = options
  assert(
    history === undefined || (history.at(-1)?.term ?? 0) === place.term,
    'a history ends as its log does',
  )
}

const noExceptions: readonly CommitException[] = []
