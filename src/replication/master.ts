// The master's role: who attaches, what their acks amount to, and what time does to them. The flow of records is in
// feed.ts, the commit rule in commitment.ts, a replica's numbers in progress.ts, snapshots in snapshot-sender.ts. Who
// counts is in voters.ts, who must go in overdue.ts, and what replicas are told in master-messages.ts.
// docs/protocol.md, sections "Attach", "Stream", "Acks", "Commit rule", "Timeouts".

import { assert } from '../base/assert.ts'
import type { RecordBatch, RecordPlace } from '../base/batch.ts'
import { emptyBytes } from '../base/bytes.ts'
import type { ErrorCode } from '../base/errors.ts'
import type { Lsn } from '../base/lsn.ts'
import type { CommitException } from '../base/policy.ts'
import { countAtLeast } from './acks.ts'
import { admit } from './admission.ts'
import { Attachments } from './attachments.ts'
import { Backlog } from './backlog.ts'
import { Commitment, type CommitPositions } from './commitment.ts'
import {
  defaultServeSettings,
  type Gate,
  type PeerId,
  type ReplicaView,
  type ServeSettings,
} from './core-options.ts'
import type { CoreState } from './core-state.ts'
import { ignore, type StepResult, stepOk } from './effects.ts'
import { Feed, type LogReadAnswer } from './feed.ts'
import { WriteGate } from './gate.ts'
import { HandingOver, type Heir } from './handing-over.ts'
import { Lease } from './lease.ts'
import { sendAccept, sendDetach, sendHeartbeat } from './master-messages.ts'
import type { Ack, Detach, GapRequest, Join, SnapshotAck } from './messages.ts'
import { mustProbe, overdue } from './overdue.ts'
import { Progress } from './progress.ts'
import { ReignCheck } from './reign-check.ts'
import { replicaView } from './replica-view.ts'
import { type SnapshotRowsAnswer, SnapshotSender } from './snapshot-sender.ts'
import { Tally } from './tally.ts'
import { startRetry } from './timings.ts'
import { Voters } from './voters.ts'

interface DetachOptions {
  readonly code: ErrorCode
  readonly message: string
  /** Tell the replica, and end the connection. */
  readonly tell: boolean
  /** Leave the connection: another attachment has taken it over. */
  readonly keepPeer?: boolean
  /** Where the next master is, if known. */
  readonly master?: string
}

export class Master {
  readonly #state: CoreState
  readonly #attachments = new Attachments()
  readonly #feed: Feed
  readonly #backlog: Backlog
  readonly #commitment: Commitment
  readonly #voters: Voters
  readonly #tally = new Tally()
  readonly #gate: WriteGate
  readonly #reignCheck: ReignCheck
  readonly #lease: Lease
  readonly #handing: HandingOver
  #settings: ServeSettings
  /** The own term's first record is in the log: replicas may attach. */
  #reigns = false
  #reignAt: number

  constructor(state: CoreState, settings: Partial<ServeSettings>) {
    this.#state = state
    this.#settings = { ...defaultServeSettings, ...settings }
    this.#feed = new Feed(state, () => this.#settings)
    this.#commitment = new Commitment({ committedLsn: state.committedLsn, permanentLsn: state.permanentLsn })
    const voters = new Voters(state, this.#attachments, () => this.#settings)
    this.#voters = voters
    this.#gate = new WriteGate(state)
    this.#gate.configured(this.#settings)
    const attachments = this.#attachments
    const ask = (progress: Progress): void => this.#heartbeat(progress, true)
    this.#reignCheck = new ReignCheck({ state, voters, attachments, ask })
    this.#lease = new Lease(state, voters)
    this.#handing = new HandingOver(state, attachments)
    this.#backlog = new Backlog(state, attachments)
    this.#reignAt = state.now
    this.#review()
  }

  /** The own term's first record is in the log. */
  get reigns(): boolean {
    return this.#reigns
  }

  /** A record of the own term is permanent: from then on the members may change. */
  get hasPermanentInReign(): boolean {
    return this.#commitment.hasPermanentInReign
  }

  get gate(): Gate {
    return this.#gate.gate
  }

  get settings(): ServeSettings {
    return this.#settings
  }

  get attachments(): Attachments {
    return this.#attachments
  }

  configure(change: Partial<ServeSettings>): void {
    const before = this.#settings
    this.#settings = { ...before, ...change }
    this.#gate.configured(this.#settings)
    const { attest, window } = this.#settings
    if (attest !== before.attest || window !== before.window) {
      for (const progress of this.#attachments.all()) this.#heartbeat(progress, true)
    }
    this.#review()
  }

  beginTerm(): void {
    this.#commitment.beginTerm()
    this.#reigns = false
    this.#reignAt = this.#state.now
  }

  /** Records that were just handed to the own log. The hot path. */
  proposed(batch: RecordBatch, exceptions: readonly CommitException[]): void {
    const state = this.#state
    const before = state.membership
    assert(batch.last.term === state.term, 'a master writes in its own term')
    const isFirst = !this.#reigns
    const reign = { term: state.term, firstLsn: batch.firstLsn, site: state.site }
    state.extendLog(batch, isFirst ? [reign] : [])
    if (isFirst) {
      this.#commitment.termRecord(batch.firstLsn)
      this.#reigns = true
    }
    if (batch.membership !== undefined) {
      this.#voters.checkChange(before, batch.membership, this.hasPermanentInReign)
      for (const progress of this.#attachments.all()) progress.votes = this.#voters.mayVote(progress.join)
    }
    if (exceptions.length > 0) this.#commitment.addExceptions(exceptions)
    this.#backlog.proposed(batch)
    this.#feed.proposed(batch, this.#attachments.all(), exceptions.length > 0)
    if (this.#settings.mode === 'async' && this.#settings.onFull === 'detach') this.#detachLaggards()
    this.#review()
  }

  /** Only commits that wait for the operating system alone can move by it. */
  written(): void {
    if (this.#settings.durability === 'written' || this.#commitment.exceptionsWaiting > 0) this.#review()
  }

  synced(): void {
    this.#review()
  }

  applied(): void {
    for (const progress of this.#attachments.all()) progress.snapshot?.openIfReady()
  }

  // ---- messages

  join(join: Join, from: PeerId): StepResult {
    if (!this.#reigns) return ignore('the reign has not begun')
    const state = this.#state
    const { maxReplicas } = this.#settings
    const admission = admit({ state, attachments: this.#attachments, join, from, maxReplicas })
    switch (admission.kind) {
      case 'ignore':
        return ignore(admission.reason)
      case 'refuse':
        return this.#refuse(join, from, admission)
      case 'repeat':
        admission.progress.heardAt = state.now
        this.#accept(admission.progress)
        return stepOk
      case 'admit':
        break
    }
    const { plan, agreedLsn, resume } = admission
    for (const progress of admission.replaces) {
      const tell = progress.peer !== from
      this.#drop(progress, { code: 'DUPLICATE_SITE', message: 'replaced', tell, keepPeer: !tell })
    }
    const isNew = !this.#attachments.hasMet(join.site)
    const { now, last } = state
    const progress = new Progress({
      peer: from,
      join,
      votes: this.#voters.mayVote(join),
      plan,
      agreedLsn,
      targetLsn: last.lsn,
      now,
      timings: state.timings,
    })
    this.#attachments.add(progress)
    state.counters.joins++
    this.#accept(progress)
    state.event({ kind: 'replicaJoined', site: join.site, peer: from, plan })
    if (plan === 'snapshot') {
      state.counters.snapshotsSent++
      progress.snapshot = new SnapshotSender({ state, progress, settings: () => this.#settings, resume })
    }
    this.#backlog.retain(this.#settings.attest)
    this.#review()
    return isNew ? { kind: 'newSite', site: join.site, data: emptyBytes } : stepOk
  }

  ack(ack: Ack, from: PeerId): StepResult {
    const progress = this.#attached(ack, from)
    if (progress === undefined) return this.#unknownSession(ack.session, from)
    const state = this.#state
    state.counters.acksReceived++
    progress.heardAt = state.now
    progress.echoed(ack.stamp, state.now)
    this.#lease.granted(progress, ack.stamp)
    this.#reignCheck.heard(progress, ack.stamp)
    if (ack.busy) {
      progress.waitingSince = state.now
      return stepOk
    }
    if (progress.state === 'snapshot' && !this.#snapshotInstalled(progress, ack)) {
      return ignore('an ack before the snapshot')
    }
    if (!progress.isPlausible(ack)) {
      this.#drop(progress, {
        code: 'HANDSHAKE_FAILED',
        message: `the replica acknowledged LSN ${ack.receivedLsn}, which it was not sent`,
        tell: true,
      })
      this.#review()
      return ignore('an ack beyond what was sent')
    }
    if (progress.state === 'joining') progress.state = 'catchUp'
    if (progress.acked(ack, state.now)) progress.probe = startRetry(state.timings, state.now)
    if (progress.state === 'catchUp') this.#feed.pump(progress)
    if (!progress.inStep) this.#noteInStep(progress)
    this.#review()
    return stepOk
  }

  gapRequest(request: GapRequest, from: PeerId): StepResult {
    const progress = this.#attached(request, from)
    if (progress === undefined) return this.#unknownSession(request.session, from)
    progress.heardAt = this.#state.now
    this.#feed.gapRequest(progress, request)
    return stepOk
  }

  snapshotAck(ack: SnapshotAck, from: PeerId): StepResult {
    const progress = this.#attached(ack, from)
    if (progress === undefined) return this.#unknownSession(ack.session, from)
    progress.heardAt = this.#state.now
    if (progress.snapshot === undefined) return ignore('no snapshot is under way')
    progress.snapshot.acked(ack)
    return stepOk
  }

  detached(message: Detach, from: PeerId): StepResult {
    const progress = this.#attached(message, from)
    this.#attachments.endSession(message.session)
    if (progress === undefined) return ignore('the session is not known')
    this.#drop(progress, { code: 'DETACHED', message: message.message, tell: false })
    this.#review()
    return stepOk
  }

  // ---- answers of the driver

  logRead(peer: PeerId, answer: LogReadAnswer): void {
    const progress = this.#attachments.ofPeer(peer)
    if (progress === undefined) return
    const code = this.#feed.logRead(progress, answer)
    if (code === undefined) return
    const message = code === 'LOG_TRIMMED' ? 'the log no longer reaches back' : 'the log could not be read'
    this.#drop(progress, { code, message, tell: true })
    this.#review()
  }

  snapshotOpened(peer: PeerId, place: RecordPlace, rowsEstimate: number): void {
    const progress = this.#attachments.ofPeer(peer)
    if (progress?.snapshot === undefined) return
    progress.snapshot.opened(place, rowsEstimate)
    this.#backlog.retain(this.#settings.attest)
  }

  snapshotRows(peer: PeerId, answer: SnapshotRowsAnswer): void {
    this.#attachments.ofPeer(peer)?.snapshot?.gotRows(answer)
  }

  snapshotFailed(peer: PeerId, reason: string): void {
    const progress = this.#attachments.ofPeer(peer)
    if (progress?.snapshot === undefined) return
    this.#drop(progress, { code: 'SNAPSHOT_FAILED', message: reason, tell: true })
    this.#review()
  }

  // ---- connections and time

  disconnected(peer: PeerId): void {
    const progress = this.#attachments.ofPeer(peer)
    if (progress === undefined) return
    this.#drop(progress, { code: 'CONNECTION_CLOSED', message: 'the connection was lost', tell: false })
    this.#review()
  }

  congested(peer: PeerId, congested: boolean): void {
    const progress = this.#attachments.ofPeer(peer)
    if (progress === undefined || progress.congested === congested) return
    progress.congested = congested
    if (congested) return
    this.#feed.pump(progress)
    progress.snapshot?.readMore()
    if (!progress.inStep) this.#noteInStep(progress)
    this.#review()
  }

  detach(site: string, options: { code: ErrorCode; message: string }): boolean {
    const progress = this.#attachments.ofSite(site)
    this.#attachments.forget(site)
    if (progress !== undefined) this.#drop(progress, { ...options, tell: true })
    this.#review()
    return progress !== undefined
  }

  /** In a group that elects: too few members were heard for an election timeout, so another may have been elected. */
  get hasLostMajority(): boolean {
    const { now, timings } = this.#state
    // The others need time to find a new master.
    return now - this.#reignAt >= 2 * timings.electionTimeoutMs && this.#voters.hasLostMajority
  }

  /** What is committed here is all that was committed by any master, until the lease runs out. */
  holdsLease(now: number): boolean {
    return this.#commitment.hasCommittedInReign && this.#lease.holds(now)
  }

  /** Asks the members whether this is still their master. */
  confirmReign(question: number): void {
    this.#reignCheck.confirm(question)
  }

  // ---- handing over

  get heir(): Heir | undefined {
    return this.#handing.heir
  }

  /** Writers wait as soon as the other site is in step, until it is done or called off. */
  handOver(heir: Heir): void {
    this.#handing.begin(heir)
    this.#review()
  }

  /** Writers go on. */
  callOffHandOver(code: ErrorCode, message: string): void {
    if (this.#handing.callOff(code, message)) this.#review()
  }

  /** The replica that everything has come to; undefined while it has not. Calls the hand-over off where it is hopeless. */
  readyToHandOver(): Progress | undefined {
    const { problem } = this.#handing
    if (problem === undefined) return this.#handing.ready
    this.callOffHandOver(problem.code, problem.message)
    return undefined
  }

  tick(): void {
    const state = this.#state
    const settings = this.#settings
    const { now, timings } = state
    const sitesFixed = this.#voters.sites !== undefined
    let changed = false
    for (const progress of [...this.#attachments.all()]) {
      const fault = overdue(progress, { state, settings, sitesFixed })
      if (fault !== undefined) {
        this.#drop(progress, { ...fault, tell: true })
        changed = true
        continue
      }
      const isDue = now - progress.heartbeatAt >= timings.heartbeatMs
      if (isDue || mustProbe(progress, { state, settings }) || this.#reignCheck.isToBeAsked(progress)) {
        this.#heartbeat(progress, true)
      }
      this.#feed.pump(progress)
    }
    this.announceCommit()
    this.#backlog.retain(this.#settings.attest)
    if (changed) this.#review()
  }

  /** Tells the commit position to those who have not heard it with an Append. */
  announceCommit(): void {
    const { committedLsn } = this.#state
    for (const progress of this.#attachments.all()) {
      if (progress.state !== 'live' && progress.state !== 'catchUp') continue
      if (progress.toldLsn < committedLsn) this.#heartbeat(progress, false)
    }
  }

  /** Asks all replicas to acknowledge what they have, whatever the window. */
  flushWindow(): void {
    for (const progress of this.#attachments.all()) {
      if (progress.state === 'live' || progress.state === 'catchUp') this.#heartbeat(progress, true)
    }
  }

  /** Ends the role. `heir` has been told already. */
  end(options: { code: ErrorCode; message: string; master?: string; heir?: Progress }): void {
    const { heir, ...why } = options
    if (heir === undefined) this.#handing.failed(why.message)
    else this.#handing.done()
    for (const progress of [...this.#attachments.all()]) {
      this.#drop(progress, { ...why, tell: progress !== heir })
    }
  }

  // ---- for the status and receipts

  replicas(): ReplicaView[] {
    const options = { state: this.#state, lag: this.#backlog.lag, attest: this.#settings.attest }
    return Array.from(this.#attachments.all(), (progress) => replicaView(progress, options))
  }

  /** Sites, this one included, that attest the record at `lsn`. */
  sitesHaving(lsn: Lsn): number {
    this.#tally.count(this.#attachments.all(), this.#settings)
    return 1 + countAtLeast(this.#tally.attested, lsn)
  }

  checkInvariants(): void {
    this.#attachments.checkInvariants()
    for (const progress of this.#attachments.all()) {
      progress.checkInvariants(this.#state.last.lsn)
      progress.snapshot?.checkInvariants()
    }
    assert(this.#commitment.committedLsn <= this.#state.committedLsn, 'the commit position is the core’s')
  }

  // ---- inside

  #attached(message: { session: number }, from: PeerId): Progress | undefined {
    const progress = this.#attachments.ofPeer(from)
    return progress?.session === message.session ? progress : undefined
  }

  /** Lets a replica that thinks it is attached find out at once. */
  #unknownSession(session: number, from: PeerId): StepResult {
    const message = 'the session is not known'
    sendDetach(this.#state, from, { session, code: 'CONNECTION_CLOSED', message })
    return ignore(message)
  }

  #refuse(join: Join, to: PeerId, refusal: { code: ErrorCode; message: string }): StepResult {
    const state = this.#state
    const { code, message } = refusal
    state.counters.joinsRefused++
    state.send(to, { type: 'refuse', session: join.session, term: state.term, code, message, master: '' })
    state.event({ kind: 'replicaRefused', site: join.site, code, message })
    if (code !== 'DUPLICATE_MASTER') return { kind: 'joinFailure', code, reason: message }
    state.event({ kind: 'duplicateMaster', term: state.term, site: join.history.at(-1)?.site })
    return { kind: 'dupMaster' }
  }

  #accept(progress: Progress): void {
    sendAccept(this.#state, progress, { settings: this.#settings, sites: this.#voters.sites })
  }

  /** The first Ack after a snapshot says that it is installed: the log goes on from its base. */
  #snapshotInstalled(progress: Progress, ack: Ack): boolean {
    const base = progress.snapshot?.base
    if (progress.snapshot === undefined || base === undefined || ack.receivedLsn !== base.lsn) return false
    progress.snapshot.close()
    progress.snapshot = undefined
    progress.beginAfter(base.lsn)
    progress.state = 'catchUp'
    return true
  }

  #noteInStep(progress: Progress): void {
    if (progress.state !== 'live' || progress.receivedLsn < progress.targetLsn) return
    progress.inStep = true
    const lsn = progress.receivedLsn
    this.#state.event({ kind: 'replicaSynced', site: progress.site, peer: progress.peer, lsn })
  }

  #heartbeat(progress: Progress, ackNow: boolean): void {
    const { now } = this.#state
    if (ackNow) progress.heartbeatAt = now
    const stamp = ackNow ? progress.drawStamp(now) : undefined
    if (stamp !== undefined) this.#reignCheck.asked(progress, stamp)
    sendHeartbeat(this.#state, progress, { settings: this.#settings, stamp })
  }

  #drop(progress: Progress, options: DetachOptions): void {
    const state = this.#state
    const { site, peer, session } = progress
    const { code, message, master } = options
    progress.snapshot?.close()
    this.#attachments.remove(progress)
    const lsn = state.last.lsn
    state.counters.detachments++
    if (options.tell) {
      sendDetach(state, peer, { session, code, message, ...(master === undefined ? {} : { master }) })
      if (options.keepPeer !== true) state.emit({ kind: 'disconnect', peer, code, reason: message })
    }
    state.event({ kind: 'replicaDetached', site, peer, code, message, lsn })
    this.#backlog.retain(this.#settings.attest)
  }

  #detachLaggards(): void {
    const { attest, maxLagBytes } = this.#settings
    for (const progress of [...this.#attachments.all()]) {
      const lagBytes = this.#backlog.bytesOf(progress, attest)
      if (lagBytes <= maxLagBytes) continue
      const message = `the replica lagged by ${lagBytes} bytes`
      this.#drop(progress, { code: 'LAG_DETACHED', message, tell: true })
    }
  }

  /** After anything that a commit or the gate could depend on. */
  #review(): void {
    const state = this.#state
    const tally = this.#tally
    tally.count(this.#attachments.all(), this.#settings)
    const { inStep, attested, durable, forcedLsn } = tally
    const { sites } = this.#voters
    const positions: CommitPositions = {
      lastLsn: state.last.lsn,
      ownWrittenLsn: state.writtenLsn,
      ownDurableLsn: state.durableLsn,
      attested,
      durable,
      forcedLsn,
      group: { sites: sites ?? 1 + inStep, attached: inStep },
      sitesKnown: sites ?? 1 + this.#attachments.knownSites,
    }
    if (this.#commitment.advance(this.#settings, positions)) {
      const { committedLsn, permanentLsn } = this.#commitment
      const applyLsn = committedLsn
      state.advance({ committedLsn, permanentLsn, applyLsn })
    }
    this.#reviewGate(tally)
  }

  #reviewGate({ inStep, snapshots }: Tally): void {
    const lagBytes = (): number => this.#backlog.bytesOfSlowest(this.#settings.attest)
    const isHandingOver = this.#handing.isPausing
    this.#gate.review(this.#settings, { inStep, snapshots, lagBytes, isHandingOver })
    // Acks of all that there is, as soon as may be.
    if (this.#handing.paused(isHandingOver)) this.flushWindow()
  }
}
