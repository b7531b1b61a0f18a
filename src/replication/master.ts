// The master's role: who attaches, what their acks amount to, and what time does to them. The flow of records is in
// feed.ts, the commit rule in commitment.ts, a replica's numbers in progress.ts, snapshots in snapshot-sender.ts.
// docs/protocol.md, sections "Attach", "Stream", "Acks", "Commit rule", "Timeouts".

import { assert } from '../base/assert.ts'
import type { RecordBatch, RecordPlace } from '../base/batch.ts'
import type { ErrorCode } from '../base/errors.ts'
import type { Lsn } from '../base/lsn.ts'
import { type Members, type Membership, majorityOf, memberOf } from '../base/membership.ts'
import type { CommitException } from '../base/policy.ts'
import { countAtLeast, dependsOnAttached } from './acks.ts'
import { admit } from './admission.ts'
import { Attachments } from './attachments.ts'
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
import { decideGate, sameGate } from './gate.ts'
import { type HandingOver, handOverProblem, isHandOverReady } from './handing-over.ts'
import { LagMeter } from './lag-meter.ts'
import type { Ack, Detach, GapRequest, Join, SnapshotAck } from './messages.ts'
import { Progress } from './progress.ts'
import { ReignCheck } from './reign-check.ts'
import { replicaView } from './replica-view.ts'
import { type SnapshotRowsAnswer, SnapshotSender } from './snapshot-sender.ts'
import { backOff, startRetry } from './timings.ts'

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
  readonly #lag: LagMeter
  readonly #commitment: Commitment
  #settings: ServeSettings
  /** The own term's first record is in the log: replicas may attach. */
  #reigns = false
  #gate: Gate = { open: true }
  #hadQuorum: boolean
  #reignAt: number
  #handing: HandingOver | undefined
  /** Writers wait for the hand-over since the driver took effects so often. */
  #pausedAtTake: number | undefined
  readonly #reignCheck = new ReignCheck()
  #retainLsn: Lsn | undefined
  /** Used again for each evaluation of the commit rule. */
  readonly #attested: Lsn[] = []
  readonly #durable: Lsn[] = []

  constructor(state: CoreState, settings: Partial<ServeSettings>) {
    this.#state = state
    this.#settings = { ...defaultServeSettings, ...settings }
    this.#feed = new Feed(state)
    this.#lag = new LagMeter(state.last.lsn)
    this.#commitment = new Commitment({ committedLsn: state.committedLsn, permanentLsn: state.permanentLsn })
    this.#hadQuorum = this.#settings.quorum === 0
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
    return this.#gate
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
    this.#hadQuorum ||= this.#settings.quorum === 0
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
    if (batch.membership !== undefined) this.#countMembers(before, batch.membership)
    if (exceptions.length > 0) this.#commitment.addExceptions(exceptions)
    this.#lag.add(batch.lastLsn, batch.bytes.length, state.now)
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
      votes: this.#mayVote(join),
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
    this.#retain()
    this.#review()
    return isNew ? { kind: 'newSite', site: join.site } : stepOk
  }

  ack(ack: Ack, from: PeerId): StepResult {
    const progress = this.#attached(ack, from)
    if (progress === undefined) return this.#unknownSession(ack.session, from)
    const state = this.#state
    state.counters.acksReceived++
    progress.heardAt = state.now
    progress.echoed(ack.stamp, state.now)
    if (this.#reignCheck.isWaiting) {
      this.#reignCheck.heard(progress, ack.stamp)
      this.#reviewReign()
    }
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
    this.#retain()
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

  /** Whether the acks of a replica count. */
  #mayVote(join: Join): boolean {
    const { membership } = this.#state
    if (!this.#settings.elections || membership === undefined) return !join.view
    return memberOf(membership, join.site)?.incarnation === join.incarnation
  }

  /**
   * The members have changed. Two lists that are in force anywhere share a majority: they differ by one site, each is
   * permanent before the next, and the first of a reign comes after a permanent record of its own.
   */
  #countMembers(before: Membership | undefined, now: Membership): void {
    const { elections } = this.#settings
    if (elections && before !== undefined) {
      const { permanentLsn, ownMember } = this.#state
      assert(this.hasPermanentInReign, 'the members change after a permanent record of the reign')
      assert(before.lsn <= permanentLsn, 'the members change one at a time')
      assert(countChanged(before, now) <= 1, 'the members change by one site at a time')
      assert(ownMember !== undefined, 'a master is a member')
    }
    for (const progress of this.#attachments.all()) progress.votes = this.#mayVote(progress.join)
  }

  /** Voting sites of the group: its members, or as many as the operator says; undefined where nobody says. */
  get #sites(): number | undefined {
    const { elections, sites } = this.#settings
    const { membership } = this.#state
    return elections && membership !== undefined ? membership.members.length : sites
  }

  /** In a group that elects: too few members were heard for an election timeout, so another may have been elected. */
  get hasLostMajority(): boolean {
    const { now, timings, membership, site } = this.#state
    if (!this.#settings.elections || membership === undefined) return false
    const { electionTimeoutMs } = timings
    // The others need time to find a new master.
    if (now - this.#reignAt < 2 * electionTimeoutMs) return false
    let heard = 0
    for (const member of membership.members) {
      const heardAt = member.site === site ? now : this.#attachments.heardAt(member.site)
      if (heardAt !== undefined && now - heardAt <= electionTimeoutMs) heard++
    }
    return heard < majorityOf(membership)
  }

  // ---- still master?

  /** Asks the members. Answered by the effect `reignConfirmed` with this question or a later one, or by none. */
  confirmReign(question: number): void {
    if (this.#reignCheck.ask(question)) this.#askReign()
  }

  #askReign(): void {
    this.#reignCheck.begin()
    for (const progress of this.#attachments.all()) if (progress.votes) this.#heartbeat(progress, true)
    this.#reviewReign()
  }

  #reviewReign(): void {
    const { membership, site } = this.#state
    const answered = this.#reignCheck.review((heard) => {
      if (membership === undefined) return true
      let count = 0
      for (const member of membership.members) if (member.site === site || heard.has(member.site)) count++
      return count >= majorityOf(membership)
    })
    if (answered === undefined) return
    this.#state.emit({ kind: 'reignConfirmed', question: answered })
    if (this.#reignCheck.isWaiting) this.#askReign()
  }

  // ---- handing over

  get handingOver(): HandingOver | undefined {
    return this.#handing
  }

  /** Writers wait as soon as the other site is in step, until it is done or called off. */
  handOver(handing: HandingOver): void {
    this.#handing = handing
    this.#review()
  }

  /** Writers go on. */
  callOffHandOver(code: ErrorCode, message: string): void {
    const handing = this.#handing
    if (handing === undefined) return
    this.#handing = undefined
    const progress = this.#attachments.ofSite(handing.site)
    const state = this.#state
    if (progress !== undefined) {
      const { peer, session } = progress
      state.send(peer, { type: 'handoverRefused', session, term: state.term, code, message })
    }
    state.event({ kind: 'handOverFailed', site: handing.site, code, message })
    this.#review()
  }

  /** The replica that everything has come to; undefined while it has not. Calls the hand-over off where it is hopeless. */
  readyToHandOver(): Progress | undefined {
    const handing = this.#handing
    if (handing === undefined) return undefined
    const { now, timings, last, durableLsn, committedLsn } = this.#state
    const progress = this.#attachments.ofSite(handing.site)
    const problem = handOverProblem(handing, { progress, now, timings })
    if (problem !== undefined) this.callOffHandOver(problem.code, problem.message)
    if (problem !== undefined || progress === undefined) return undefined
    // The driver has heard that writers wait, and has handed on what it had gathered.
    const { takes } = this.#state
    if (this.#pausedAtTake === undefined || takes === this.#pausedAtTake) return undefined
    return isHandOverReady(progress, { lastLsn: last.lsn, durableLsn, committedLsn }) ? progress : undefined
  }

  tick(): void {
    const { now, timings } = this.#state
    let changed = false
    for (const progress of [...this.#attachments.all()]) {
      const fault = this.#overdue(progress)
      if (fault !== undefined) {
        this.#drop(progress, { ...fault, tell: true })
        changed = true
        continue
      }
      const isDue = now - progress.heartbeatAt >= timings.heartbeatMs
      if (isDue || this.#mustProbe(progress) || (progress.votes && !this.#reignCheck.isAsked(progress))) {
        this.#heartbeat(progress, true)
      }
      this.#feed.pump(progress)
    }
    this.announceCommit()
    this.#retain()
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
    const handing = this.#handing
    this.#handing = undefined
    if (handing !== undefined && heir === undefined) {
      const { message } = why
      this.#state.event({ kind: 'handOverFailed', site: handing.site, code: 'TRANSFER_FAILED', message })
    }
    for (const progress of [...this.#attachments.all()]) {
      this.#drop(progress, { ...why, tell: progress !== heir })
    }
  }

  // ---- for the status and receipts

  replicas(): ReplicaView[] {
    const options = { state: this.#state, lag: this.#lag, attest: this.#settings.attest }
    return Array.from(this.#attachments.all(), (progress) => replicaView(progress, options))
  }

  /** Sites, this one included, that attest the record at `lsn`. */
  sitesHaving(lsn: Lsn): number {
    this.#gather()
    return 1 + countAtLeast(this.#attested, lsn)
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
    const { term } = this.#state
    this.#state.send(from, {
      type: 'detach',
      session,
      term,
      fromMaster: true,
      code: 'CONNECTION_CLOSED',
      message: 'the session is not known',
      master: '',
    })
    return ignore('the session is not known')
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
    const state = this.#state
    const { databaseId, last, history, site, term, committedLsn, permanentLsn, timings } = state
    assert(databaseId !== undefined, 'a master has a database')
    const { attest, window } = this.#settings
    const sites = this.#sites ?? 0
    const { heartbeatMs, silenceTimeoutMs } = timings
    const { session, agreedLsn } = progress
    // The answer to a repeated Join may find the log longer than the first one did.
    const plan = progress.plan === 'equal' && last.lsn > agreedLsn ? 'stream' : progress.plan
    state.send(progress.peer, {
      type: 'accept',
      session,
      term,
      databaseId,
      site,
      plan,
      agreedLsn,
      history,
      last,
      committedLsn,
      permanentLsn,
      attest,
      window,
      heartbeatMs,
      silenceTimeoutMs,
      sites,
    })
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
    const state = this.#state
    const { last, committedLsn, permanentLsn, now } = state
    const { attest, window } = this.#settings
    state.counters.heartbeats++
    progress.toldLsn = committedLsn
    if (ackNow) progress.heartbeatAt = now
    const stamp = ackNow ? progress.drawStamp(now) : 0
    if (ackNow) this.#reignCheck.asked(progress, stamp)
    state.send(progress.peer, {
      type: 'heartbeat',
      session: progress.session,
      term: state.term,
      last,
      sentLsn: progress.sentLsn,
      committedLsn,
      permanentLsn,
      stamp,
      attest,
      window,
      ackNow,
    })
  }

  /** Why this replica must go, if it must. */
  #overdue(progress: Progress): { code: ErrorCode; message: string } | undefined {
    const { now, timings, last } = this.#state
    if (now - progress.heardAt > timings.silenceTimeoutMs) {
      return { code: 'SILENCE_TIMEOUT', message: `nothing was heard for ${timings.silenceTimeoutMs} ms` }
    }
    if (progress.snapshot !== undefined) {
      if (!progress.snapshot.tick()) return undefined
      return { code: 'SNAPSHOT_FAILED', message: 'the replica stores no rows' }
    }
    if (progress.attested(this.#settings.attest) >= last.lsn) {
      progress.waitingSince = now
      return undefined
    }
    const waitedMs = now - progress.waitingSince
    if (waitedMs > timings.ackTimeoutMs && progress.inStep && this.#isWaitedFor(progress)) {
      return { code: 'ACK_TIMEOUT', message: `nothing new was acknowledged for ${timings.ackTimeoutMs} ms` }
    }
    if (waitedMs > timings.stuckTimeoutMs) {
      return { code: 'ACK_TIMEOUT', message: `no record was taken for ${timings.stuckTimeoutMs} ms` }
    }
    return undefined
  }

  /** Records wait for an ack: it, or they, may be lost. Asked again after a wait that doubles. */
  #mustProbe(progress: Progress): boolean {
    const { now, timings, last } = this.#state
    if (progress.state !== 'live' && progress.state !== 'catchUp') return false
    if (progress.attested(this.#settings.attest) >= last.lsn) {
      progress.probe = startRetry(timings, now)
      return false
    }
    if (now < progress.probe.dueAt) return false
    backOff(progress.probe, timings, now)
    return true
  }

  /** Whether commits wait for this replica, and would go on without it. */
  #isWaitedFor(progress: Progress): boolean {
    const { mode, acks } = this.#settings
    if (!progress.votes) return false
    return mode === 'async' ? progress.join.forceSync : dependsOnAttached(acks, this.#sites !== undefined)
  }

  #drop(progress: Progress, options: DetachOptions): void {
    const state = this.#state
    const { site, peer, session } = progress
    const { code, message, master = '' } = options
    progress.snapshot?.close()
    this.#attachments.remove(progress)
    const lsn = state.last.lsn
    this.#attachments.noteDetachment({ site, code, lsn, at: state.now })
    state.counters.detachments++
    if (options.tell) {
      const { term } = state
      state.send(peer, { type: 'detach', session, term, fromMaster: true, code, message, master })
      if (options.keepPeer !== true) state.emit({ kind: 'disconnect', peer, code, reason: message })
    }
    state.event({ kind: 'replicaDetached', site, peer, code, message, lsn })
    this.#retain()
  }

  #detachLaggards(): void {
    const { attest, maxLagBytes } = this.#settings
    for (const progress of [...this.#attachments.all()]) {
      if (!progress.inStep || !progress.votes) continue
      const lagBytes = this.#lag.bytesAfter(progress.attested(attest))
      if (lagBytes <= maxLagBytes) continue
      const message = `the replica lagged by ${lagBytes} bytes`
      this.#drop(progress, { code: 'LAG_DETACHED', message, tell: true })
    }
  }

  #slowestLagBytes(): number {
    const { attest } = this.#settings
    let most = 0
    for (const progress of this.#attachments.all()) {
      if (!progress.inStep || !progress.votes) continue
      const lagBytes = this.#lag.bytesAfter(progress.attested(attest))
      if (lagBytes > most) most = lagBytes
    }
    return most
  }

  /** The log from the lowest LSN that any replica still needs. Falls at once, rises with the ticks. */
  #retain(): void {
    let lowest: Lsn | undefined
    let acked = this.#state.last.lsn
    for (const progress of this.#attachments.all()) {
      if (lowest === undefined || progress.retainLsn < lowest) lowest = progress.retainLsn
      const attested = progress.attested(this.#settings.attest)
      if (attested < acked) acked = attested
    }
    this.#lag.forgetThrough(acked)
    if (lowest === this.#retainLsn) return
    this.#retainLsn = lowest
    this.#state.emit({ kind: 'retainLog', from: lowest })
  }

  /** Attested and durable positions of the voting replicas, and how many are in step. */
  #gather(): { inStep: number; snapshots: number; forcedLsn: Lsn | undefined } {
    const { attest, mode } = this.#settings
    const attested = this.#attested
    const durable = this.#durable
    attested.length = 0
    durable.length = 0
    let inStep = 0
    let snapshots = 0
    let forcedLsn: Lsn | undefined
    for (const progress of this.#attachments.all()) {
      if (progress.snapshot !== undefined) snapshots++
      if (!progress.votes) continue
      const lsn = progress.attested(attest)
      attested.push(lsn)
      durable.push(progress.durableLsn)
      if (!progress.inStep) continue
      inStep++
      if (mode === 'async' && progress.join.forceSync && (forcedLsn === undefined || lsn < forcedLsn)) {
        forcedLsn = lsn
      }
    }
    return { inStep, snapshots, forcedLsn }
  }

  /** After anything that a commit or the gate could depend on. */
  #review(): void {
    const state = this.#state
    const { inStep, snapshots, forcedLsn } = this.#gather()
    const sites = this.#sites
    const positions: CommitPositions = {
      lastLsn: state.last.lsn,
      ownWrittenLsn: state.writtenLsn,
      ownDurableLsn: state.durableLsn,
      attested: this.#attested,
      durable: this.#durable,
      forcedLsn,
      group: { sites: sites ?? 1 + inStep, attached: inStep },
      sitesKnown: sites ?? 1 + this.#attachments.knownSites,
    }
    if (this.#commitment.advance(this.#settings, positions)) {
      const { committedLsn, permanentLsn } = this.#commitment
      const applyLsn = committedLsn
      state.advance({ committedLsn, permanentLsn, applyLsn })
    }
    this.#reviewGate(inStep, snapshots)
  }

  #reviewGate(inStep: number, snapshots: number): void {
    const state = this.#state
    const { quorum } = this.#settings
    const hasQuorum = inStep >= quorum
    if (hasQuorum !== this.#hadQuorum) {
      this.#hadQuorum = hasQuorum
      state.event({ kind: hasQuorum ? 'quorumGained' : 'quorumLost', have: inStep, need: quorum })
    }
    const lagBytes = (): number => this.#slowestLagBytes()
    const heir = this.#handing === undefined ? undefined : this.#attachments.ofSite(this.#handing.site)
    const isHandingOver = heir?.inStep === true
    const gate = decideGate(this.#settings, {
      inStep,
      snapshots,
      lagBytes,
      isHandingOver,
    })
    if (!sameGate(gate, this.#gate)) state.event({ kind: 'gate', gate })
    this.#gate = gate
    if (!isHandingOver) this.#pausedAtTake = undefined
    else if (this.#pausedAtTake === undefined) {
      this.#pausedAtTake = state.takes
      // Acks of all that there is, as soon as may be.
      this.flushWindow()
    }
  }
}

/** Sites that are on one of two lists only, or with another incarnation. */
function countChanged(a: Members, b: Members): number {
  const missing = (from: Members, other: Members): number =>
    from.members.filter(({ site, incarnation }) => memberOf(other, site)?.incarnation !== incarnation).length
  return Math.max(missing(a, b), missing(b, a))
}
