// The replica's role: joins, comes into step as the master plans, takes records that fit and acknowledges them. What
// fits is in record-intake.ts, what is acknowledged in ack-sender.ts, what is learned of commits in heard-commit.ts.
// docs/protocol.md, sections "Attach", "Sync-up", "Stream", "Acks".
//
// How it fails: into a `stopped` with a reason. What the driver is doing to the log or to the staging by then is always
// finished first, whatever else happens: its answer must not be taken for one to a later attachment.

import { assert } from '../base/assert.ts'
import type { RecordPlace } from '../base/batch.ts'
import type { ErrorCode } from '../base/errors.ts'
import { type Lsn, noLsn, noTerm, type Term } from '../base/lsn.ts'
import { acceptProblem, loopProblem } from './accept-check.ts'
import { AckSender } from './ack-sender.ts'
import type { FollowOptions, LeaseTerms, PeerId } from './core-options.ts'
import { type CoreState, samePlace } from './core-state.ts'
import {
  anywhereHints,
  ignore,
  noHints,
  rerequestHints,
  type StepResult,
  type StopReason,
  type SyncHow,
  stepOk,
} from './effects.ts'
import type { LogReadAnswer } from './feed.ts'
import type { Handover, HeardMaster } from './group-messages.ts'
import { HeardCommit } from './heard-commit.ts'
import { joinRequest } from './join-request.ts'
import { knownCode } from './message-codec.ts'
import type {
  Accept,
  Append,
  Detach,
  GapRequest,
  Heartbeat,
  MasterMessage,
  Refuse,
  Route,
} from './messages.ts'
import { PeerServing } from './peer-serving.ts'
import { undoesPreferred } from './preference.ts'
import { RecordIntake } from './record-intake.ts'
import { SnapshotReceiver } from './snapshot-receiver.ts'
import { SyncWatch } from './sync-watch.ts'
import { backOff, type Retry, startRetry } from './timings.ts'

interface Stop {
  readonly reason: StopReason
  readonly code: ErrorCode | undefined
  readonly message: string
  readonly master?: string
}

const howOf: Readonly<Record<Accept['plan'], SyncHow>> = {
  equal: 'equal',
  stream: 'incremental',
  rewind: 'rewound',
  snapshot: 'snapshot',
}

export interface ReplicaOptions extends FollowOptions {
  readonly peer: PeerId
  /** Asked, for it may change: this site may be elected, so it can have its way as the preferred master. */
  readonly mayReign: () => boolean
}

export class Replica {
  readonly #state: CoreState
  readonly peer: PeerId
  readonly session: number
  readonly #options: ReplicaOptions
  readonly #intake: RecordIntake
  readonly #acks: AckSender
  readonly #heard: HeardCommit
  #phase: 'joining' | 'rewinding' | 'snapshot' | 'following' | 'finishing' | 'ended' = 'joining'
  /** The data here is to be replaced by that of another database: its terms do not compare with ours. */
  #foreignTerm: Term | undefined
  #accept: Accept | undefined
  /** How the log comes here, where the other side is not its master. */
  #route: Route | undefined
  #snapshot: SnapshotReceiver | undefined
  #watch: SyncWatch | undefined
  #joinRetry: Retry
  #startedAt: number
  #heardAt: number
  #silenceTimeoutMs: number
  #snapshotBytes = 0
  #stopAfter: Stop | undefined
  /** What the master was told in the Join that it may count on. */
  readonly #lease: LeaseTerms | undefined
  readonly #serving: PeerServing

  constructor(state: CoreState, options: ReplicaOptions) {
    const { timings, now } = state
    this.#state = state
    this.peer = options.peer
    this.#options = options
    this.session = state.drawSession()
    this.#intake = new RecordIntake(state)
    this.#heard = new HeardCommit(state)
    this.#serving = new PeerServing(state)
    const { peer, session } = this
    this.#acks = new AckSender(state, { peer, session, term: () => this.#term })
    this.#startedAt = now
    this.#heardAt = now
    this.#lease = options.view === true ? undefined : state.leases
    this.#silenceTimeoutMs = timings.silenceTimeoutMs
    this.#joinRetry = startRetry(timings, now)
    this.#sendJoin()
  }

  get hasEnded(): boolean {
    return this.#phase === 'ended'
  }

  get master(): { site: string; term: Term; address: string | undefined } | undefined {
    const site = this.#masterSite
    return site === '' ? undefined : { site, term: this.#term, address: this.address }
  }

  /** '' while it is not known. */
  get #masterSite(): string {
    return this.#route?.site ?? this.#accept?.site ?? ''
  }

  /** Where the master is; where that is not known, whom this site is attached to. */
  get address(): string | undefined {
    const { address = '' } = this.#route ?? {}
    return address === '' ? this.#options.address : address
  }

  /** For those who are attached here in their turn; undefined before this site is accepted, and once it leaves. */
  get source(): Route | undefined {
    const accept = this.#accept
    if (accept === undefined || this.#phase === 'ended' || this.#stopAfter !== undefined) return undefined
    const { address = this.#options.address ?? '', sites = accept.sites, via = [] } = this.#route ?? {}
    return { site: this.#masterSite, address, sites, via }
  }

  /** The data here is being replaced this very moment. */
  get isInstalling(): boolean {
    return this.#snapshot?.isInstalling === true
  }

  /** It has asked to be let in as one that never counts. */
  get isView(): boolean {
    return this.#options.view === true
  }

  /** The driver is changing the log or the store. */
  get isBusy(): boolean {
    return this.#phase === 'rewinding' || this.#phase === 'snapshot'
  }

  /** The master, if it has accepted this site and was heard within `withinMs`. */
  heardMaster(withinMs: number): HeardMaster | undefined {
    const { source } = this
    if (source === undefined || this.#state.now - this.#heardAt > withinMs) return undefined
    return { site: source.site, term: this.#term, address: source.address }
  }

  /** Every record that the attach was about is here and readable. */
  get isSynced(): boolean {
    return this.#watch?.isDone === true
  }

  /** The term of this attachment. */
  get #term(): Term {
    return this.#foreignTerm ?? this.#state.term
  }

  // ---- messages

  process(message: MasterMessage, rec: Uint8Array): StepResult {
    if (this.#phase === 'ended' || this.#stopAfter !== undefined) return ignore('the attachment has ended')
    if (message.type === 'detach') return this.#detached(message)
    if (message.type === 'refuse') return this.#refused(message)
    if (message.type === 'handoverRefused') {
      const code = knownCode(message.code, 'TRANSFER_FAILED')
      this.#state.event({ kind: 'handOverFailed', site: this.#state.site, code, message: message.message })
      return stepOk
    }
    if (message.term < this.#knownTerm) return this.#staleMaster(message.term)
    this.#heardAt = this.#state.now
    if (message.type === 'accept') return this.#accepted(message)
    if (this.#accept === undefined) return ignore('the Accept has not come')
    if (this.#route !== undefined) {
      const refusal = this.#passedOn(message, this.#route)
      if (refusal !== undefined) return refusal
    } else if (message.term > this.#term) {
      this.#adopt(message.term, this.#accept.site)
    }
    switch (message.type) {
      case 'append':
        return this.#appended(message, rec)
      case 'heartbeat':
        return this.#heartbeat(message)
      default:
        return this.#snapshotMessage(message, rec)
    }
  }

  /** The lowest term that a master may have. A site whose data counts for nothing knows none before it is accepted. */
  get #knownTerm(): Term {
    if (this.#foreignTerm !== undefined) return this.#foreignTerm
    return this.#accept === undefined && this.#mayTakeForeign() ? noTerm : this.#state.term
  }

  #mayTakeForeign(): boolean {
    return this.#state.databaseId === undefined || this.#options.replace === true
  }

  #adopt(term: Term, master: string | undefined): void {
    if (this.#foreignTerm === undefined) this.#state.raiseTerm(term, master)
    else this.#foreignTerm = term
  }

  /** Whoever passes the log on names its master in heartbeats: a new term is known here with the first of them. */
  #passedOn(message: MasterMessage, before: Route): StepResult | undefined {
    const { term } = message
    const route = message.type === 'heartbeat' ? message.route : undefined
    if (route === undefined) {
      return term > this.#term ? ignore('the master of the new term is not known yet') : undefined
    }
    const loop = loopProblem(route, this.#state.site)
    if (loop !== undefined) return this.#quitFor(loop)
    const isNewTerm = term > this.#term
    if (isNewTerm) {
      // What a snapshot brings belongs to a master.
      if (route.site === '' && this.#snapshot !== undefined) return ignore('the term has no master yet')
      this.#adopt(term, route.site === '' ? undefined : route.site)
    } else if (route.site !== '') {
      const chosen = this.#foreignTerm === undefined ? (this.#state.termMaster ?? '') : before.site
      if (chosen !== '' && chosen !== route.site) {
        this.#state.event({ kind: 'duplicateMaster', term, site: route.site })
        const text = `site ${chosen} is master of term ${term} too`
        return this.#quitFor({ code: 'DUPLICATE_MASTER', message: text })
      }
      if (this.#foreignTerm === undefined) this.#state.chooseMaster(route.site)
    }
    this.#route = route
    if (isNewTerm || route.site !== before.site || route.address !== before.address) this.#tellMaster()
    return undefined
  }

  #quitFor(problem: { readonly code: ErrorCode; readonly message: string }): StepResult {
    this.#quit({ reason: 'handshake-refused', ...problem })
    return { kind: 'joinFailure', code: problem.code, reason: problem.message }
  }

  #tellMaster(): void {
    const { master, source } = this
    if (master === undefined || source === undefined) return
    const sites = source.sites === 0 ? undefined : source.sites
    this.#state.event({ kind: 'newMaster', ...master, sites })
  }

  #staleMaster(term: Term): StepResult {
    const state = this.#state
    state.counters.messagesStale++
    if (state.databaseId !== undefined && this.#foreignTerm === undefined) {
      const { databaseId } = state
      state.send(this.peer, { type: 'higherTerm', session: 0, term: state.term, databaseId, site: '' })
    }
    return ignore(`term ${term} is over`)
  }

  #detached(message: Detach): StepResult {
    if (this.#phase === 'finishing') return stepOk
    const code = knownCode(message.code, 'DETACHED')
    const hasMoved = code === 'REPLACED' && message.master !== ''
    const reason = hasMoved
      ? 'replaced'
      : message.code === 'CONNECTION_CLOSED'
        ? 'connection-lost'
        : 'detached-by-master'
    const { master } = message
    this.#stop({ reason, code, message: message.message, ...(master === '' ? {} : { master }) })
    return stepOk
  }

  // ---- becoming master

  /** Asks the master to hand over to this site. */
  askTakeOver(address: string): void {
    const { session, peer } = this
    this.#state.send(peer, { type: 'takeOver', session, term: this.#term, address })
  }

  /**
   * The master has given its place to this site. Takes it, and ends the attachment, if everything there was is on disk
   * here: the master has made sure of it, so this is a check.
   */
  takeHandover(handover: Handover): StepResult | undefined {
    assert(!this.isView, 'a view is never master')
    const state = this.#state
    const { last, durableLsn, databaseId } = state
    const mayTake = this.#phase === 'following' || this.#phase === 'joining'
    if (!mayTake || databaseId === undefined || this.#foreignTerm !== undefined) {
      return ignore('this site cannot take over now')
    }
    // Told once more, after this site died before it could begin: the term is its own, and nothing was written in it.
    const isFree = state.vote === undefined || state.vote === state.site
    const isNamed = handover.term === state.term && state.termMaster === state.site
    const isOurs = isNamed && isFree && last.term < state.term
    if (handover.term <= state.term && (handover.grouped || !isOurs)) return ignore('the term is over')
    if (handover.lsn !== last.lsn || durableLsn !== last.lsn) {
      return ignore(`the master hands over at LSN ${handover.lsn}, this site has ${durableLsn}`)
    }
    this.#heard.hear({ committedLsn: handover.lsn, permanentLsn: noLsn })
    this.#learnHeard()
    this.#stop({
      reason: 'became-master',
      code: undefined,
      message: 'the master has handed over to this site',
    })
    return undefined
  }

  /** In a group: joins once more, because its incarnation has changed. */
  joinAnew(): void {
    if (this.#options.member === undefined) return
    const message = 'the data here was replaced, and with it the incarnation of this site'
    this.#quit({ reason: 'connection-lost', code: 'CONNECTION_CLOSED', message })
  }

  /** A new term begins for this site: it follows nobody any more. */
  endForTerm(message: string): void {
    this.#quit({ reason: 'connection-lost', code: 'REPLACED', message })
  }

  #refused(message: Refuse): StepResult {
    if (this.#phase !== 'joining') return ignore('the attach is over')
    const code = knownCode(message.code, 'HANDSHAKE_FAILED')
    this.#state.event({ kind: 'connectFailed', code, message: message.message })
    const stop = { reason: 'handshake-refused', code, message: message.message } as const
    this.#stop(message.master === '' ? stop : { ...stop, master: message.master })
    return { kind: 'joinFailure', code, reason: message.message }
  }

  // ---- attach

  #sendJoin(): void {
    this.#state.send(this.peer, joinRequest(this.#state, this.session, this.#options, this.#lease))
  }

  #accepted(accept: Accept): StepResult {
    if (this.#phase !== 'joining') return ignore('the attach is over')
    const state = this.#state
    if (accept.databaseId === state.databaseId && accept.term < state.term)
      return this.#staleMaster(accept.term)
    const { replace } = this.#options
    const problem = acceptProblem(accept, { state, replace: replace === true })
    if (problem !== undefined) {
      this.#quit({ reason: 'handshake-refused', ...problem })
      if (problem.code !== 'DUPLICATE_MASTER') {
        return { kind: 'joinFailure', code: problem.code, reason: problem.message }
      }
      state.event({ kind: 'duplicateMaster', term: accept.term, site: accept.site })
      return { kind: 'dupMaster' }
    }
    if (accept.plan === 'rewind' && this.#options.autoRewind === false) {
      const message = `the master's log parts from this one after LSN ${accept.agreedLsn}`
      this.#quit({ reason: 'handshake-refused', code: 'REWIND_REFUSED', message })
      return { kind: 'wouldRewind', lsn: accept.agreedLsn }
    }
    if (this.#options.mayReign() && undoesPreferred(accept, state)) {
      const message = `this site is the preferred master, and has committed what site ${accept.site} lacks after LSN ${accept.agreedLsn}`
      this.#quit({ reason: 'handshake-refused', code: 'NOT_MASTER', message })
      return { kind: 'wouldRewind', lsn: accept.agreedLsn }
    }
    if (accept.plan === 'snapshot' && this.#options.autoInit === false) {
      const message = `the master has no record after LSN ${state.last.lsn} any more that this site could go on with`
      this.#quit({ reason: 'handshake-refused', code: 'SNAPSHOT_REFUSED', message })
      return { kind: 'joinFailure', code: 'SNAPSHOT_REFUSED', reason: message }
    }
    this.#accept = accept
    this.#route = accept.route
    if (accept.databaseId !== state.databaseId) this.#foreignTerm = accept.term
    else if (accept.term > state.term) state.raiseTerm(accept.term, accept.site)
    else state.chooseMaster(accept.site)
    this.#silenceTimeoutMs = Math.min(this.#silenceTimeoutMs, accept.silenceTimeoutMs)
    this.#acks.agree(accept)
    state.event({ kind: 'connected', peer: this.peer })
    this.#tellMaster()
    this.#watch = new SyncWatch({
      state,
      how: howOf[accept.plan],
      from: accept.plan === 'snapshot' ? noLsn : accept.agreedLsn,
      lastLsn: accept.last.lsn,
      committedLsn: accept.committedLsn,
    })
    this.#begin(accept)
    return stepOk
  }

  #begin(accept: Accept): void {
    const state = this.#state
    if (accept.plan === 'rewind') {
      assert(accept.agreedLsn >= state.permanentLsn, 'nothing permanent is undone')
      this.#phase = 'rewinding'
      state.counters.rewinds++
      state.emit({ kind: 'rewind', to: accept.agreedLsn })
    } else if (accept.plan === 'snapshot') {
      this.#phase = 'snapshot'
      state.counters.snapshotsReceived++
      const { session, peer } = this
      this.#snapshot = new SnapshotReceiver({
        state,
        databaseId: accept.databaseId,
        master: () => this.#masterSite,
        term: () => this.#term,
        agreedLsn: accept.databaseId === state.databaseId ? this.#sharedLsn(accept) : undefined,
        mayFallBack: this.#options.replace === true || this.#options.snapshot === true,
        sendAck: (ack) => state.send(peer, { type: 'snapshotAck', session, term: this.#term, ...ack }),
      })
    } else {
      this.#follow()
    }
  }

  /** Data that is set aside shares nothing with what takes its place. */
  #sharedLsn(accept: Accept): Lsn | undefined {
    return this.#options.replace === true && accept.agreedLsn === 0 ? undefined : accept.agreedLsn
  }

  /** From here on the log is a beginning of the master's. */
  #follow(): void {
    const accept = this.#accept
    assert(accept !== undefined, 'a replica follows whom it was accepted by')
    this.#phase = 'following'
    this.#heard.hear(accept)
    this.#learnHeard()
    this.#acks.send()
    this.#watch?.review(this.#snapshotBytes)
  }

  rewound(place: RecordPlace): void {
    const state = this.#state
    assert(this.#phase === 'rewinding' && place.lsn === this.#accept?.agreedLsn, 'a rewind was asked for')
    const from = state.last.lsn
    state.rewound(place)
    state.event({ kind: 'rewound', from, to: place.lsn })
    if (!this.#stopNow()) this.#follow()
  }

  rewindFailed(reason?: string): void {
    assert(this.#phase === 'rewinding', 'a rewind was asked for')
    if (this.#stopNow()) return
    this.#phase = 'following'
    const message = reason ?? 'the records that the master does not have could not be undone'
    this.#quit({ reason: 'apply-failed', code: 'STORE_FAILED', message })
  }

  // ---- snapshot

  #snapshotMessage(
    message: Extract<MasterMessage, { type: 'snapshotBegin' | 'snapshotRows' | 'snapshotEnd' }>,
    rec: Uint8Array,
  ): StepResult {
    const snapshot = this.#snapshot
    if (snapshot === undefined || this.#phase !== 'snapshot') return ignore('no snapshot is under way')
    if (message.type === 'snapshotRows') return snapshot.rowsCame(message, rec)
    if (message.type === 'snapshotEnd') return snapshot.endCame(message)
    const result = snapshot.begin(message)
    if (result.kind !== 'failed') return result
    this.#quit({ reason: 'handshake-refused', code: 'SNAPSHOT_FAILED', message: result.message })
    return { kind: 'joinFailure', code: 'SNAPSHOT_FAILED', reason: result.message }
  }

  snapshotPrepared(): void {
    assert(this.#phase === 'snapshot', 'a staging was asked for')
    this.#snapshot?.prepared()
    this.#stopIfIdle()
  }

  snapshotStored(index: number): void {
    assert(this.#phase === 'snapshot', 'chunks were handed over')
    this.#snapshot?.stored(index)
    this.#stopIfIdle()
  }

  #stopIfIdle(): void {
    if (this.#stopAfter !== undefined && this.#snapshot?.isBusy === false) this.#stopNow()
  }

  snapshotInstalled(place: RecordPlace): void {
    const snapshot = this.#snapshot
    assert(this.#phase === 'snapshot' && snapshot !== undefined, 'a snapshot is installed once')
    snapshot.installed(place)
    this.#snapshotBytes = snapshot.bytes
    this.#foreignTerm = undefined
    this.#watch?.readableFrom(snapshot.snapshotLsn)
    this.#snapshot = undefined
    if (!this.#stopNow()) this.#follow()
  }

  /** Staging or installation failed; the old database is as it was. */
  snapshotFailed(reason: string): void {
    if (this.#phase !== 'snapshot' || this.#snapshot === undefined) return
    this.#snapshot = undefined
    if (this.#stopNow()) return
    this.#quit({ reason: 'apply-failed', code: 'SNAPSHOT_FAILED', message: reason })
  }

  // ---- stream

  #appended(message: Append, rec: Uint8Array): StepResult {
    if (this.#phase !== 'following') return ignore('records are not taken now')
    const state = this.#state
    state.counters.appendsReceived++
    this.#heard.hear(message)
    if (message.ackNow) this.#acks.urgent(message.lastLsn)
    const result = this.#intake.append(message, rec, this.#term)
    switch (result.kind) {
      case 'damaged':
        return this.#damaged(result.reason)
      case 'diverged':
        return this.#diverged(result.theirs)
      case 'early':
        this.#learnHeard()
        return { kind: 'notPerm', lsn: message.lastLsn }
      case 'duplicate':
        this.#learnHeard()
        this.#acks.send()
        break
      case 'taken':
        this.#taken(result)
        break
    }
    return { kind: 'isPerm', lsn: state.last.lsn }
  }

  #damaged(reason: string): StepResult {
    const state = this.#state
    state.counters.messagesInvalid++
    // Where others than the master serve, too, they may be another's; they are asked for again.
    if (this.#options.anywhere !== true) {
      state.emit({ kind: 'disconnect', peer: this.peer, code: 'FRAME_INVALID', reason })
      this.disconnected(`records do not verify: ${reason}`)
    }
    return ignore(`records do not verify: ${reason}`)
  }

  #diverged(theirs: RecordPlace): StepResult {
    const state = this.#state
    state.event({ kind: 'diverged', ours: state.last, theirs })
    const message = `the master's log differs from this one at LSN ${theirs.lsn}`
    this.#quit({ reason: 'handshake-refused', code: 'FOREIGN_HISTORY', message })
    return { kind: 'joinFailure', code: 'FOREIGN_HISTORY', reason: message }
  }

  #heartbeat(message: Heartbeat): StepResult {
    if (message.ackNow) this.#stamped(message.stamp)
    if (this.#phase === 'rewinding' || this.#phase === 'snapshot') {
      if (message.ackNow) {
        this.#acks.sendBusy()
        this.#snapshot?.repeatAck()
      }
      return stepOk
    }
    if (this.#phase !== 'following') return ignore('the attachment is ending')
    const { last } = this.#state
    if (message.last.lsn === last.lsn && !samePlace(message.last, last)) return this.#diverged(message.last)
    this.#acks.agree(message)
    this.#intake.sent(message.sentLsn)
    this.#heard.hear(message)
    this.#learnHeard()
    if (message.ackNow) {
      this.#acks.urgent(message.last.lsn)
      this.#acks.send()
    }
    return stepOk
  }

  /** The acks from now on tell of this heartbeat, and of what it was promised. */
  #stamped(stamp: number): void {
    const master = this.#accept?.site
    const isVoter = this.#lease !== undefined && this.#foreignTerm === undefined
    if (isVoter && master !== undefined) this.#state.promiseTo(master, this.#lease)
    this.#acks.stamped(stamp)
  }

  // ---- commits and acks

  #learnHeard(): void {
    this.#heard.learn(this.#acks.attest)
  }

  /** A position has moved: `synced` or `applied`. */
  positionsMoved(): void {
    if (this.#phase === 'following') this.#acks.sendIfDue()
    if (this.#phase === 'following') this.#watch?.review(this.#snapshotBytes)
    if (this.#phase === 'finishing') this.#finishIfDone()
  }

  // ---- time

  tick(): void {
    if (this.#stopAfter !== undefined) return
    const { now } = this.#state
    if (this.#phase === 'joining') {
      this.#tickJoining()
      return
    }
    if (this.#phase === 'following') this.#tickGap()
    if (this.#phase !== 'finishing' && now - this.#heardAt > this.#silenceTimeoutMs) {
      const message = `nothing was heard of the master for ${this.#silenceTimeoutMs} ms`
      this.#quit({ reason: 'connection-lost', code: 'SILENCE_TIMEOUT', message })
    }
  }

  #tickJoining(): void {
    const { now, timings } = this.#state
    if (now - this.#startedAt > timings.initialTimeoutMs) {
      const message = `nobody answered for ${timings.initialTimeoutMs} ms`
      this.#state.event({ kind: 'connectFailed', code: 'CONNECT_TIMEOUT', message })
      this.#quit({ reason: 'connection-lost', code: 'CONNECT_TIMEOUT', message })
    } else if (now >= this.#joinRetry.dueAt) {
      this.#sendJoin()
      backOff(this.#joinRetry, timings, now)
    }
  }

  #tickGap(): void {
    const gap = this.#intake.gapDue()
    if (gap === undefined) return
    const { from, to, again } = gap
    // The first request may be served by anybody; what comes of that is soon seen.
    const hints = again ? rerequestHints : this.#options.anywhere === true ? anywhereHints : noHints
    const { session } = this
    this.#state.send(this.peer, { type: 'gapRequest', session, term: this.#term, from, to }, hints)
  }

  /** It takes part in that replicas serve each other. */
  get servesOthers(): boolean {
    return this.#options.anywhere === true && this.#foreignTerm === undefined && this.#phase === 'following'
  }

  /** Another site asks for records that it misses: it is of no account who its master is, only what is permanent. */
  serveGap(request: GapRequest, from: PeerId): StepResult {
    return this.#serving.request(request, from)
  }

  logRead(peer: PeerId, answer: LogReadAnswer): void {
    this.#serving.logRead(peer, answer)
  }

  /** What another replica sends in the master's place: only what is missing, and permanent as it says. */
  fromOther(append: Append, rec: Uint8Array): StepResult {
    if (append.term !== this.#term) return ignore('the records are sent in another term')
    const { lastLsn, permanentLsn } = append
    if (lastLsn > permanentLsn || !this.#intake.isMissing(lastLsn))
      return ignore('nothing of it was asked for')
    const result = this.#intake.append(append, rec, this.#term)
    if (result.kind === 'early') return { kind: 'notPerm', lsn: lastLsn }
    // What does not fit is the other one's fault, or late: the master has the last word.
    if (result.kind !== 'taken') return ignore(`records of another replica: ${result.kind}`)
    this.#taken(result)
    return { kind: 'isPerm', lsn: this.#state.last.lsn }
  }

  #taken(result: { readonly records: number; readonly bytes: number }): void {
    this.#acks.received(result.bytes)
    this.#watch?.received(result.records, result.bytes)
    this.#learnHeard()
    this.#acks.sendIfDue()
  }

  // ---- the end

  leave(kind: 'stop' | 'cancel'): void {
    if (this.#stopAfter !== undefined) return
    if (kind === 'cancel') {
      this.#quit({ reason: 'cancelled', code: undefined, message: 'cancelled' })
    } else if (this.#phase === 'following') {
      this.#phase = 'finishing'
      this.#intake.close()
      this.#finishIfDone()
    } else if (this.#phase !== 'finishing') {
      this.#quit({ reason: 'stopped', code: undefined, message: 'stopped' })
    }
  }

  disconnected(message: string): void {
    if (this.#phase === 'finishing') return
    this.#stop({ reason: 'connection-lost', code: 'CONNECTION_CLOSED', message })
  }

  /** Everything received is durable, and what is committed of it can be read. */
  #finishIfDone(): void {
    const { durableLsn, last, appliedLsn, committedLsn } = this.#state
    if (durableLsn < last.lsn || appliedLsn < committedLsn) return
    this.#acks.send()
    this.#quit({ reason: 'stopped', code: undefined, message: 'stopped' })
  }

  /** Tells the master, and stops. */
  #quit(stop: Stop): void {
    if (this.#phase === 'ended') return
    const { session, peer } = this
    const code = stop.code ?? 'DETACHED'
    const { message } = stop
    const term = this.#term
    this.#state.send(peer, { type: 'detach', session, term, fromMaster: false, code, message, master: '' })
    this.#stop(stop)
  }

  /** What the driver is doing to the log or the staging is finished first, so that no answer comes too late. */
  #stop(stop: Stop): void {
    if (this.#phase === 'ended') return
    if (this.#phase === 'rewinding' || this.#snapshot?.isBusy === true) {
      this.#stopAfter ??= stop
      this.#snapshot?.halt()
      return
    }
    this.#phase = 'ended'
    const { last, term } = this.#state
    const { reason, code, message, master } = stop
    this.#state.emit({ kind: 'stopped', reason, code, message, master, lsn: last.lsn, term })
  }

  /** True if a stop waited for what has just ended. */
  #stopNow(): boolean {
    const stop = this.#stopAfter
    if (stop === undefined) return false
    this.#phase = 'following'
    this.#snapshot = undefined
    this.#stop(stop)
    return true
  }

  checkInvariants(): void {
    this.#intake.checkInvariants()
  }
}
