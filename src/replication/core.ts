// The replication core of one site: synchronous and deterministic, with no clock, no promise, no socket and no file.
//
// Everything that happens comes in by a method, with the time; everything that must be done goes out as effects, in
// order (effects.ts). The same inputs give the same effects, so whole groups run in a simulator. The roles are in
// master.ts and replica.ts; here are the one door for messages, the terms, and the change of roles.
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
import { membershipProblem } from './admission.ts'
import {
  type CoreOptions,
  type Detachment,
  defaultServeSettings,
  type FollowOptions,
  type Gate,
  type GroupOptions,
  givenSettings,
  type PeerId,
  type ReplicaView,
  type ServeOptions,
  type ServeSettings,
  type SiteView,
} from './core-options.ts'
import { CoreState } from './core-state.ts'
import type { Counters } from './counters.ts'
import { type Effect, ignore, type StepDownReason, type StepResult, stepOk } from './effects.ts'
import type { LogReadAnswer } from './feed.ts'
import { notMaster } from './gate.ts'
import type { HeardMaster, SiteActivity } from './group-messages.ts'
import { GroupSide } from './group-side.ts'
import { type EndOfReign, HandOvers } from './hand-overs.ts'
import { Master } from './master.ts'
import { decodeMessage, knownCode } from './message-codec.ts'
import type { HigherTerm, Join, Message } from './messages.ts'
import { type MasterMessage, Replica } from './replica.ts'
import type { SnapshotRowsAnswer } from './snapshot-sender.ts'
import type { Timings } from './timings.ts'

export type Role = 'none' | 'master' | 'replica'

/** The master that this site knows of. */
export interface KnownMaster {
  readonly site: string
  readonly term: Term
  readonly address: string | undefined
}

interface Seen {
  readonly term: Term
  readonly committedLsn: Lsn
  readonly permanentLsn: Lsn
}

export class Core {
  readonly #state: CoreState
  readonly #paranoid: boolean
  #master: Master | undefined
  #replica: Replica | undefined
  #group: GroupSide | undefined
  #address: string | undefined
  readonly #handOvers: HandOvers
  /** The term in which a second master was reported, so that it is reported once. */
  #rivalTerm: Term | undefined
  /** Positions after the step before; undefined after a rewind or a snapshot, where they may fall. */
  #seen: Seen | undefined

  constructor(options: CoreOptions) {
    this.#state = new CoreState(options)
    this.#handOvers = new HandOvers(this.#state, {
      master: () => this.#master,
      endReign: (why) => this.#endReign(why),
      replica: () => this.#replica,
      replicaEnded: () => {
        this.#replica = undefined
      },
      group: () => this.#group,
    })
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
    if (this.#master !== undefined) return 'master'
    return this.#replica === undefined ? 'none' : 'replica'
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

  /** This very site, with this very data, is one of them. */
  get isMember(): boolean {
    return this.#state.ownMember !== undefined
  }

  /** The sites that have told of themselves on a link. */
  get sites(): SiteView[] {
    return this.#group?.sites ?? []
  }

  /** The master that this site hears now, itself perhaps. */
  get heardMaster(): HeardMaster | undefined {
    return this.#heardMaster()
  }

  /** This master has made a record of its own term permanent: the members may change. */
  get hasPermanentInReign(): boolean {
    return this.#master?.hasPermanentInReign === true
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

  /** What an `isPerm` result speaks of is on disk once `synced` has been called with at least this. */
  get pendingSync(): Lsn {
    return this.#state.last.lsn
  }

  get timings(): Timings {
    return this.#state.timings
  }

  get counters(): Readonly<Counters> {
    return this.#state.counters
  }

  /** This site, as master, or whom it follows and was accepted by. */
  get knownMaster(): KnownMaster | undefined {
    const { site, term } = this.#state
    if (this.#master !== undefined) return { site, term, address: this.#address }
    return this.#replica?.master
  }

  /** On a replica: everything that the attach was about is here and readable. */
  get isSynced(): boolean {
    return this.#replica?.isSynced === true
  }

  /** How this site serves; undefined unless it is master. */
  get settings(): ServeSettings | undefined {
    return this.#master?.settings
  }

  get replicas(): ReplicaView[] {
    return this.#master?.replicas() ?? []
  }

  /** The last 64 replicas that went away. */
  get detachments(): readonly Detachment[] {
    return this.#master?.attachments.detachments ?? []
  }

  /** Sites that were detached while the commit at `lsn` was under way. */
  detachedSince(lsn: Lsn): readonly string[] {
    return this.#master?.attachments.detachedSince(lsn) ?? []
  }

  /** True if the site has been attached in this reign. */
  hasMet(site: string): boolean {
    return this.#master?.attachments.hasMet(site) === true
  }

  /** How many sites, this one included, attest the record at `lsn`. */
  sitesHaving(lsn: Lsn): number {
    return this.#master?.sitesHaving(lsn) ?? 0
  }

  /** Whether a write may be accepted now. To be asked in the same turn in which the write is taken. */
  gate(): Gate {
    return this.#master?.gate ?? notMaster
  }

  get hasEffects(): boolean {
    return this.#state.hasEffects
  }

  /** What is to be done, in order. */
  takeEffects(): Effect[] {
    return this.#state.takeEffects()
  }

  // ---- messages, the one door

  /** Takes a message. The bytes of `rec` must not change afterwards: they may be kept. */
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
    const result = this.#dispatch(message, rec, from)
    if (result.kind === 'ignore') counters.messagesIgnored++
    this.#settle()
    return result
  }

  #invalid(from: PeerId, code: ErrorCode, reason: string): StepResult {
    this.#state.counters.messagesInvalid++
    this.#state.emit({ kind: 'disconnect', peer: from, code, reason })
    return ignore(reason)
  }

  #dispatch(message: Message, rec: Uint8Array, from: PeerId): StepResult {
    switch (message.type) {
      case 'join':
        return this.#join(message, from)
      case 'ack':
      case 'gapRequest':
      case 'snapshotAck':
        return this.#fromReplica(message, from)
      case 'higherTerm':
        return this.#higherTerm(message)
      case 'hello':
      case 'canvass':
      case 'voteRequest':
      case 'vote':
        return this.#group?.process(message, from) ?? ignore('this site is in no group')
      case 'takeOver':
        return this.#handOvers.takeOver(message, from)
      case 'handover':
        return this.#handOvers.handover(message, from)
      case 'refuse':
        if (message.session === 0) return this.#refusedOnLink(message, from)
        return this.#fromMaster(message, rec, from)
      case 'detach':
        if (message.fromMaster) return this.#fromMaster(message, rec, from)
        return this.#master?.detached(message, from) ?? ignore('this site is not master')
      default:
        return this.#fromMaster(message, rec, from)
    }
  }

  #join(join: Join, from: PeerId): StepResult {
    const state = this.#state
    const problem = this.#group === undefined ? undefined : membershipProblem(state, join)
    // Who belongs to the group only its master can say: another site may be behind. But nobody is unseated by it.
    if (problem !== undefined)
      return this.#refuseJoin(join, from, this.#master === undefined ? notMasterHere(state.site) : problem)
    // Terms of other databases do not compare.
    if (join.databaseId === state.databaseId && state.databaseId !== undefined) {
      if (join.term > state.term) this.#seeTerm(join.term, undefined)
    }
    if (this.#master !== undefined) return this.#master.join(join, from)
    if (this.#handOvers.tellAgain(join, from)) {
      return ignore('the mastership has been handed over to the sender')
    }
    return this.#refuseJoin(join, from, notMasterHere(state.site))
  }

  #refuseJoin(join: Join, from: PeerId, problem: { code: ErrorCode; message: string }): StepResult {
    const state = this.#state
    const { code, message } = problem
    state.counters.joinsRefused++
    const { session } = join
    const master = this.#masterAddress
    state.send(from, { type: 'refuse', session, term: state.term, code, message, master })
    if (code !== 'NOT_MASTER') state.event({ kind: 'replicaRefused', site: join.site, code, message })
    return { kind: 'joinFailure', code, reason: message }
  }

  /** Where whoever looks for the master should ask; '' if this site does not know. */
  get #masterAddress(): string {
    if (this.#replica?.master !== undefined) return this.#replica.address ?? ''
    const { heirAddress } = this.#handOvers
    if (heirAddress !== undefined) return heirAddress
    return this.#replica?.address ?? ''
  }

  #fromReplica(
    message: Extract<Message, { type: 'ack' | 'gapRequest' | 'snapshotAck' }>,
    from: PeerId,
  ): StepResult {
    const state = this.#state
    const isAttached = this.#master?.attachments.ofPeer(from)?.session === message.session
    if (isAttached && message.term > state.term) this.#seeTerm(message.term, undefined)
    const master = this.#master
    if (master === undefined) return this.#notMaster(message, from)
    if (isAttached && message.term < state.term) {
      state.counters.messagesStale++
      return ignore(`term ${message.term} is over`)
    }
    switch (message.type) {
      case 'ack':
        return master.ack(message, from)
      case 'gapRequest':
        return master.gapRequest(message, from)
      case 'snapshotAck':
        return master.snapshotAck(message, from)
    }
  }

  /** Lets a replica that missed the end of a reign know of it. */
  #notMaster(message: { session: number }, to: PeerId): StepResult {
    const { term, site } = this.#state
    this.#state.send(to, {
      type: 'detach',
      session: message.session,
      term,
      fromMaster: true,
      code: 'NOT_MASTER',
      message: `site ${site} is not master`,
      master: this.#masterAddress,
    })
    return ignore('this site is not master')
  }

  #fromMaster(message: MasterMessage, rec: Uint8Array, from: PeerId): StepResult {
    const replica = this.#replica
    if (replica !== undefined && replica.peer === from && replica.session === message.session) {
      const result = replica.process(message, rec)
      // Who takes over shall have time to.
      if (message.type === 'detach' && message.code === 'REPLACED') this.#group?.election.gaveAway()
      return result
    }
    if (message.type === 'refuse' || message.type === 'detach') return ignore('the session is not known')
    const state = this.#state
    if (message.term < state.term) return this.#staleMaster(from)
    if (this.#master !== undefined && message.term === state.term) {
      if (this.#rivalTerm !== state.term) {
        state.event({ kind: 'duplicateMaster', term: state.term, site: undefined })
      }
      this.#rivalTerm = state.term
      return { kind: 'dupMaster' }
    }
    return ignore('the session is not known')
  }

  /** One who acts as master in a term that is over is told so. */
  #staleMaster(to: PeerId): StepResult {
    const state = this.#state
    const { databaseId, term } = state
    state.counters.messagesStale++
    if (databaseId !== undefined) {
      const site = this.knownMaster?.site ?? ''
      state.send(to, { type: 'higherTerm', session: 0, term, databaseId, site })
    }
    return ignore('the term is over')
  }

  #higherTerm(message: HigherTerm): StepResult {
    const { databaseId, term } = this.#state
    if (message.databaseId !== databaseId) return ignore('the term is of another database')
    if (message.term <= term) return ignore('the term is known')
    this.#seeTerm(message.term, message.site === '' ? undefined : message.site)
    return stepOk
  }

  // ---- terms

  /** A higher term unseats a master; others just know it from now on. */
  #seeTerm(term: Term, site: string | undefined, chosen?: string): void {
    const state = this.#state
    // Before the barrier of the new term: not one more write, whatever the disk takes.
    const master = this.#endReign({ reason: 'replaced', term, site })
    state.raiseTerm(term, chosen)
    master?.end({ code: 'REPLACED', message: `term ${term} has begun` })
    this.#group?.election.interrupted()
  }

  /** The site writes no more. Returns the reign that was, for its replicas to be sent away. */
  #endReign(why: EndOfReign): Master | undefined {
    const master = this.#master
    if (master === undefined) return undefined
    this.#master = undefined
    this.#state.counters.stepDowns++
    this.#state.emit({ kind: 'steppedDown', ...why })
    return master
  }

  /**
   * Makes this site know a term, and choose its master: it will not acknowledge to a master of a lower term, nor to
   * another one of this term. A promotion by hand does so on a majority before it compares their logs. No effect
   * if the term is not higher than the own.
   */
  adoptTerm(options: { term: Term; master?: string; now: number }): void {
    const { term, master, now } = options
    this.#state.now = now
    if (term > this.#state.term) this.#seeTerm(term, master, master)
    this.#settle()
  }

  /**
   * Begins a reign: the term is one above every term seen here and `above`. The driver runs the effects (`persist`
   * first), then appends a record of the new term and calls `proposed`; only then replicas may attach. `elected`: the
   * term is the one of the effect `elected`; NOT_MASTER if it is over.
   */
  startTerm(now: number, options: { above?: Term; elected?: boolean } = {}): Term {
    const master = this.#needMaster()
    const state = this.#state
    state.now = now
    if (options.elected === true) {
      const term = this.#group?.election.electedTerm ?? this.#handOvers.givenTerm
      if (term !== state.term) throw new CoterieError('NOT_MASTER', 'another term has begun meanwhile')
      state.wonTerm()
    } else {
      const term = (Math.max(state.term, options.above ?? 0) + 1) as Term
      state.raiseTerm(term, state.site, state.site)
    }
    this.#handOvers.forgetGiven()
    this.#group?.election.began()
    master.beginTerm()
    this.#settle()
    return state.term
  }

  // ---- master

  /**
   * Takes the role of master; nothing is accepted before `startTerm` and its record. Called on a master it changes how
   * it serves, in the same term: options that are not given go back to their defaults.
   */
  serve(options: ServeOptions & { now: number }): void {
    const { now, ...serveOptions } = options
    const { databaseId, address, timings } = serveOptions
    const settings = givenSettings(serveOptions)
    const state = this.#state
    state.now = now
    if (this.#master === undefined) this.#needNoRole('serve')
    if (databaseId !== undefined && databaseId !== state.databaseId) state.found(databaseId)
    if (state.databaseId === undefined)
      throw new CoterieError('INVALID_STATE', 'there is no database to serve')
    if (state.readableLsn > state.last.lsn) {
      const message = `the rows here are complete only with LSN ${state.readableLsn}, which this site does not have`
      throw new CoterieError('SYNCING', message)
    }
    this.#address = address
    state.useTimings(timings)
    if (this.#master === undefined) this.#master = new Master(state, settings)
    else this.#master.configure({ ...defaultServeSettings, ...settings })
    this.#settle()
  }

  /** Changes how this site serves, from now on. */
  configure(options: Partial<ServeOptions> & { now: number }): void {
    const { now, ...change } = options
    const master = this.#needMaster()
    this.#state.now = now
    master.configure(givenSettings(change))
    this.#settle()
  }

  /** Records that were just handed to the own log, of the own term. */
  proposed(options: { batch: RecordBatch; exceptions?: readonly CommitException[]; now: number }): void {
    const master = this.#needMaster()
    this.#state.now = options.now
    const isFirst = !master.reigns
    master.proposed(options.batch, options.exceptions ?? noExceptions)
    if (isFirst) this.#group?.greetings.announce()
    this.#settle()
  }

  /** True if the site was attached. It also leaves the count of sites where that is not fixed. */
  detach(options: { site: string; code?: ErrorCode; message?: string; now: number }): boolean {
    const { site, code = 'DETACHED', message = 'detached by the operator', now } = options
    this.#state.now = now
    const was = this.#master?.detach(site, { code, message }) === true
    this.#settle()
    return was
  }

  stopServing(now: number, options: { code?: ErrorCode; message?: string } = {}): void {
    const { code = 'MASTER_STOPPED', message = 'the master stops serving' } = options
    const master = this.#needMaster()
    this.#state.now = now
    this.#master = undefined
    master.end({ code, message })
    // The reign that it was elected to may not have begun.
    this.#handOvers.forgetGiven()
    this.#group?.election.interrupted()
    this.#settle()
  }

  /** Asks the replicas to acknowledge now, whatever the window. */
  flushWindow(now: number): void {
    this.#state.now = now
    this.#master?.flushWindow()
    this.#settle()
  }

  /** Tells replicas what was committed since the last Append; `tick` does so too. */
  announceCommit(now: number): void {
    this.#state.now = now
    this.#master?.announceCommit()
    this.#settle()
  }

  /** `batch` begins at the `from` of the request; undefined where nothing can be read there yet. */
  logRead(options: { peer: PeerId; from: Lsn; now: number } & LogReadAnswer): void {
    this.#state.now = options.now
    this.#master?.logRead(options.peer, options)
    this.#settle()
  }

  /** `place` is that of the last record in the store's snapshot. */
  snapshotOpened(options: {
    peer: PeerId
    place: RecordPlace
    history?: History
    rowsEstimate: number
    now: number
  }): void {
    this.#state.now = options.now
    assertEndsAt(options)
    this.#master?.snapshotOpened(options.peer, options.place, options.rowsEstimate)
    this.#settle()
  }

  snapshotRows(options: { peer: PeerId; now: number } & SnapshotRowsAnswer): void {
    this.#state.now = options.now
    this.#master?.snapshotRows(options.peer, options)
    this.#settle()
  }

  snapshotFailed(options: { peer: PeerId; reason: string; now: number }): void {
    this.#state.now = options.now
    this.#master?.snapshotFailed(options.peer, options.reason)
    this.#settle()
  }

  // ---- replica

  /** Attaches to the master behind `peer`. Ends with the effect `stopped`. */
  follow(options: { peer: PeerId; now: number; options?: FollowOptions }): void {
    this.#needNoRole('follow')
    this.#state.now = options.now
    this.#state.useTimings(options.options?.timings)
    this.#replica = new Replica(this.#state, { ...options.options, peer: options.peer })
    this.#settle()
  }

  /** `stop`: what was received becomes durable and is acknowledged first. `cancel`: at once. */
  leave(options: { now: number; kind: 'stop' | 'cancel' }): void {
    this.#state.now = options.now
    this.#replica?.leave(options.kind)
    this.#settle()
  }

  /** The log was cut after `place` and the store undone. `synced` must not report records that were cut. */
  rewound(options: {
    place: RecordPlace
    history?: History
    /** What holds now. */
    membership?: Membership | undefined
    now: number
  }): void {
    this.#state.now = options.now
    assertEndsAt(options)
    this.#seen = undefined
    this.#state.setMembership(options.membership)
    this.#needReplica().rewound(options.place)
    this.#settle()
  }

  rewindFailed(options: { reason?: string; now: number }): void {
    this.#state.now = options.now
    this.#needReplica().rewindFailed(options.reason)
    this.#settle()
  }

  snapshotPrepared(options: { now: number }): void {
    this.#state.now = options.now
    this.#replica?.snapshotPrepared()
    this.#settle()
  }

  /** Chunks up to `index` are safely in the staging. */
  snapshotStored(options: { index: number; now: number }): void {
    this.#state.now = options.now
    this.#replica?.snapshotStored(options.index)
    this.#settle()
  }

  /** `place` is the end of the new log: the base of the snapshot. */
  snapshotInstalled(options: {
    place: RecordPlace
    history?: History
    /** What the new store says. */
    membership?: Membership | undefined
    /** Of the data folder from now on, where the old data was set aside. */
    incarnation?: string
    now: number
  }): void {
    this.#state.now = options.now
    assertEndsAt(options)
    const { incarnation = this.#state.incarnation } = options
    const isAnother = incarnation !== this.#state.incarnation
    this.#state.renew(incarnation)
    this.#seen = undefined
    this.#state.setMembership(options.membership)
    this.#needReplica().snapshotInstalled(options.place)
    // The master knows it as the one that it was.
    if (isAnother) this.#replica?.joinAnew()
    this.#settle()
  }

  /** The staging could not be prepared, filled or installed. */
  snapshotInstallFailed(options: { reason: string; now: number }): void {
    this.#state.now = options.now
    this.#replica?.snapshotFailed(options.reason)
    this.#settle()
  }

  // ---- groups

  /** From now on this site is one of a group: it greets, canvasses and votes. INVALID_STATE without an incarnation. */
  joinGroup(options: GroupOptions & { now: number }): void {
    const state = this.#state
    state.now = options.now
    if (state.incarnation === '') throw new CoterieError('INVALID_STATE', 'this site has no incarnation')
    state.changeTimings(options.timings)
    this.#group = new GroupSide(state, options, {
      heardMaster: () => this.#announcedMaster(),
      reigningMaster: () => this.#heardMaster(),
      canReign: () => this.#canReign(),
      endRole: (reason) => this.#endRole(reason),
      activity: () => this.#activity,
    })
    this.#settle()
  }

  leaveGroup(now: number): void {
    this.#state.now = now
    this.#group = undefined
    this.#settle()
  }

  /** A link to another site of the group is up: both sides greet. It ends with `disconnected`. */
  linked(options: { peer: PeerId; now: number }): void {
    this.#state.now = options.now
    this.#group?.greetings.linked(options.peer)
    this.#settle()
  }

  /** Tells the others of this site at once. */
  announce(now: number): void {
    this.#state.now = now
    this.#group?.greetings.announce()
    this.#settle()
  }

  /** The reign of the effect `elected` could not begin. */
  electionLost(now: number): void {
    this.#state.now = now
    this.#handOvers.forgetGiven()
    this.#group?.election.interrupted()
    this.#settle()
  }

  /** Gives up mastership without handing it over, so that the others elect. */
  stepDown(now: number): void {
    this.#needMaster()
    this.#state.now = now
    this.#stepDown('asked', 'the master gives up its reign')
    this.#group?.election.gaveAway()
    this.#settle()
  }

  #stepDown(reason: StepDownReason, message: string): void {
    const { term } = this.#state
    const master = this.#endReign({ reason, term, site: undefined })
    master?.end({ code: 'MASTER_STOPPED', message })
  }

  /** A master counts as heard here from the beginning of its role, also before it reigns. */
  #heardMaster(): HeardMaster | undefined {
    const { site, term, timings } = this.#state
    if (this.#master !== undefined) return { site, term, address: this.#address ?? '' }
    return this.#replica?.heardMaster(timings.electionTimeoutMs)
  }

  /** Whom this site names to others. */
  #announcedMaster(): HeardMaster | undefined {
    return this.#master?.reigns === false ? undefined : this.#heardMaster()
  }

  #canReign(): boolean {
    const { readableLsn, last } = this.#state
    return this.#replica?.isBusy !== true && readableLsn <= last.lsn && last.lsn > 0
  }

  #endRole(reason: string): void {
    this.#stepDown('replaced', reason)
    this.#replica?.endForTerm(reason)
    if (this.#replica?.hasEnded === true) this.#replica = undefined
  }

  get #activity(): SiteActivity {
    if (this.#master !== undefined) return 'master'
    const replica = this.#replica
    if (replica?.master === undefined) return 'alone'
    return replica.isSynced ? 'replica' : 'syncing'
  }

  #refusedOnLink(message: Extract<Message, { type: 'refuse' }>, from: PeerId): StepResult {
    if (this.#group?.greetings.isLink(from) !== true) return ignore('the session is not known')
    const code = knownCode(message.code, 'HANDSHAKE_FAILED')
    if (code === 'DUPLICATE_SITE' && this.#state.ownMember !== undefined) {
      return ignore('the other one has the id of this site, which is the member')
    }
    this.#state.event({ kind: 'refusedByGroup', code, message: message.message })
    return { kind: 'joinFailure', code, reason: message.message }
  }

  /**
   * Asks a majority of the members whether this site is still their master. Questions are numbered by the driver,
   * growing. Answered by the effect `reignConfirmed`, or by `steppedDown`.
   */
  confirmReign(options: { question: number; now: number }): void {
    const master = this.#needMaster()
    this.#state.now = options.now
    master.confirmReign(options.question)
    this.#settle()
  }

  // ---- handing over

  /**
   * Hands the mastership over to an attached replica: writers wait (`gate`), and once everything is on its disk and
   * committed, this site gives up its reign for good and the other one takes the next term. Ends with the event
   * `handedOver`, or with `handOverFailed`, and then nothing has changed. The driver hands on what it has gathered first.
   */
  handOver(options: { site: string; now: number }): void {
    const master = this.#needMaster()
    this.#state.now = options.now
    this.#handOvers.begin(master, options.site)
    this.#settle()
  }

  /** Before the point of no return; after it nothing happens. */
  cancelHandOver(options: { now: number; message: string }): void {
    this.#state.now = options.now
    this.#master?.callOffHandOver('TRANSFER_FAILED', options.message)
    this.#settle()
  }

  /** On an attached replica: asks the master to hand over. Ends with the effect `elected`, or `handOverFailed`. */
  askTakeOver(options: { address: string; now: number }): void {
    this.#state.now = options.now
    this.#needReplica().askTakeOver(options.address)
    this.#settle()
  }

  /** The answer to `takeOverAsked` where the master is not to be had: nothing changes. */
  refuseTakeOver(options: { site: string; message: string; now: number }): void {
    this.#state.now = options.now
    this.#handOvers.refuse(options)
    this.#settle()
  }

  // ---- log, applier, connections, time

  /** The operating system has the log up to `writtenLsn`: enough for commits of the durability `written`. */
  written(options: { writtenLsn: Lsn; now: number }): void {
    const state = this.#state
    state.now = options.now
    state.written(options.writtenLsn)
    this.#master?.written()
    this.#settle()
  }

  /** The log is durable up to `durableLsn`. Acks and commits come from here. */
  synced(options: { durableLsn: Lsn; now: number }): void {
    const state = this.#state
    state.now = options.now
    state.synced(options.durableLsn)
    this.#master?.synced()
    this.#replica?.positionsMoved()
    this.#settle()
  }

  /** The store has every record up to `appliedLsn`. */
  applied(options: { appliedLsn: Lsn; now: number }): void {
    const state = this.#state
    state.now = options.now
    state.applied(options.appliedLsn)
    this.#master?.applied()
    this.#replica?.positionsMoved()
    this.#settle()
  }

  /** The log now begins at `firstLsn`. */
  logTrimmed(options: { firstLsn: Lsn; now: number }): void {
    this.#state.now = options.now
    this.#state.trimmed(options.firstLsn)
    this.#settle()
  }

  /** The peer can be reached. Nothing depends on it: a peer that has not spoken is nobody yet. */
  connected(options: { peer: PeerId; now: number }): void {
    this.#state.now = options.now
    this.#settle()
  }

  /** The peer's connection is gone; on a transport without connections this is never called. */
  disconnected(options: { peer: PeerId; now: number; cause?: string }): void {
    const { peer, now, cause = 'the connection was lost' } = options
    this.#state.now = now
    this.#master?.disconnected(peer)
    if (this.#replica?.peer === peer) this.#replica.disconnected(cause)
    this.#group?.disconnected(peer)
    this.#settle()
    // Who has lost the master looks for another at once; whether the others still hear it, they will say.
    if (this.#group !== undefined) this.#tickGroup()
  }

  /** The transport would rather not take more for this peer, or takes more again. */
  congested(options: { peer: PeerId; congested: boolean; now?: number }): void {
    if (options.now !== undefined) this.#state.now = options.now
    this.#master?.congested(options.peer, options.congested)
    this.#settle()
  }

  /** To be called every `timings.tickMs`. */
  tick(now: number): void {
    this.#state.now = now
    this.#master?.tick()
    if (this.#master?.hasLostMajority === true)
      this.#stepDown('no-majority', 'too few members of the group are heard')
    this.#replica?.tick()
    this.#settle()
    if (this.#group !== undefined) this.#tickGroup()
  }

  #tickGroup(): void {
    this.#group?.tick()
    this.#settle()
  }

  // ---- inside

  #needMaster(): Master {
    if (this.#master === undefined)
      throw new CoterieError('NOT_MASTER', `site ${this.#state.site} is not master`)
    return this.#master
  }

  #needReplica(): Replica {
    assert(this.#replica !== undefined, 'this answers what a replica asked for')
    return this.#replica
  }

  #needNoRole(call: string): void {
    if (this.role === 'none') return
    throw new CoterieError('INVALID_STATE', `${call}: site ${this.#state.site} is ${this.role}`)
  }

  /** After every step. */
  #settle(): void {
    this.#handOvers.review()
    if (this.#replica?.hasEnded === true) this.#replica = undefined
    this.checkInvariants()
  }

  /** Throws AssertionFailure. O(1), unless the core is `paranoid`. docs/protocol.md, section "Invariants". */
  checkInvariants(): void {
    const state = this.#state
    const { term, committedLsn, permanentLsn } = state
    assert(this.#master === undefined || this.#replica === undefined, 'a site has one role')
    state.checkPositions()
    const seen = this.#seen
    if (seen !== undefined) {
      assert(term >= seen.term, 'a term never falls')
      assert(committedLsn >= seen.committedLsn, 'the commit position never falls')
      assert(permanentLsn >= seen.permanentLsn, 'the permanent position never falls')
      const same =
        term === seen.term && committedLsn === seen.committedLsn && permanentLsn === seen.permanentLsn
      if (!same) this.#seen = { term, committedLsn, permanentLsn }
    } else {
      this.#seen = { term, committedLsn, permanentLsn }
    }
    this.#replica?.checkInvariants()
    if (!this.#paranoid) return
    state.checkHistory()
    this.#master?.checkInvariants()
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

function notMasterHere(site: string): { code: ErrorCode; message: string } {
  return { code: 'NOT_MASTER', message: `site ${site} is not master` }
}

const noExceptions: readonly CommitException[] = []
