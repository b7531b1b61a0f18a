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
import type { CommitException } from '../base/policy.ts'
import {
  type CoreOptions,
  type Detachment,
  defaultServeSettings,
  type FollowOptions,
  type Gate,
  givenSettings,
  type PeerId,
  type ReplicaView,
  type ServeOptions,
  type ServeSettings,
} from './core-options.ts'
import { CoreState } from './core-state.ts'
import type { Counters } from './counters.ts'
import { type Effect, ignore, type StepResult, stepOk } from './effects.ts'
import type { LogReadAnswer } from './feed.ts'
import { notMaster } from './gate.ts'
import { Master } from './master.ts'
import { decodeMessage } from './message-codec.ts'
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
  #address: string | undefined
  /** The term in which a second master was reported, so that it is reported once. */
  #rivalTerm: Term | undefined
  /** Positions after the step before; undefined after a rewind or a snapshot, where they may fall. */
  #seen: Seen | undefined

  constructor(options: CoreOptions) {
    this.#state = new CoreState(options)
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
      case 'detach':
        if (message.fromMaster) return this.#fromMaster(message, rec, from)
        return this.#master?.detached(message, from) ?? ignore('this site is not master')
      default:
        return this.#fromMaster(message, rec, from)
    }
  }

  #join(join: Join, from: PeerId): StepResult {
    const state = this.#state
    // Terms of other databases do not compare.
    if (join.databaseId === state.databaseId && state.databaseId !== undefined) {
      if (join.term > state.term) this.#seeTerm(join.term, undefined)
    }
    if (this.#master !== undefined) return this.#master.join(join, from)
    const master = this.#replica?.address ?? ''
    state.counters.joinsRefused++
    state.send(from, {
      type: 'refuse',
      session: join.session,
      term: state.term,
      code: 'NOT_MASTER',
      message: `site ${state.site} is not master`,
      master,
    })
    return { kind: 'joinFailure', code: 'NOT_MASTER', reason: 'this site is not master' }
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
    })
    return ignore('this site is not master')
  }

  #fromMaster(message: MasterMessage, rec: Uint8Array, from: PeerId): StepResult {
    const replica = this.#replica
    if (replica !== undefined && replica.peer === from && replica.session === message.session) {
      return replica.process(message, rec)
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
    const master = this.#master
    if (master === undefined) {
      this.#state.raiseTerm(term, chosen)
      return
    }
    const state = this.#state
    this.#master = undefined
    state.counters.stepDowns++
    // Before the barrier of the new term: not one more write, whatever the disk takes.
    state.emit({ kind: 'steppedDown', term, site })
    state.raiseTerm(term, chosen)
    master.end({ code: 'REPLACED', message: `term ${term} has begun` })
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
   * first), then appends a record of the new term and calls `proposed`; only then replicas may attach.
   */
  startTerm(now: number, options: { above?: Term } = {}): Term {
    const master = this.#needMaster()
    const state = this.#state
    state.now = now
    state.raiseTerm((Math.max(state.term, options.above ?? 0) + 1) as Term, state.site)
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
    master.proposed(options.batch, options.exceptions ?? noExceptions)
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
  rewound(options: { place: RecordPlace; history?: History; now: number }): void {
    this.#state.now = options.now
    assertEndsAt(options)
    this.#seen = undefined
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
  snapshotInstalled(options: { place: RecordPlace; history?: History; now: number }): void {
    this.#state.now = options.now
    assertEndsAt(options)
    this.#seen = undefined
    this.#needReplica().snapshotInstalled(options.place)
    this.#settle()
  }

  /** The staging could not be prepared, filled or installed. */
  snapshotInstallFailed(options: { reason: string; now: number }): void {
    this.#state.now = options.now
    this.#replica?.snapshotFailed(options.reason)
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
    this.#settle()
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
    this.#replica?.tick()
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

const noExceptions: readonly CommitException[] = []
