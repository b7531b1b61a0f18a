// Serves those who attach: lets them in, brings them into step, keeps the records flowing, and sends them away. Whoever
// serves - a master (master.ts), or a replica in its turn (relay.ts) - says what they may be shown and what follows from
// what they say. The flow of records is in feed.ts, a replica's numbers in progress.ts, snapshots in snapshot-sender.ts,
// who must go in overdue.ts, what replicas are told in master-messages.ts.
// docs/protocol.md, sections "Attach", "Stream", "Timeouts".

import type { RecordPlace } from '../base/batch.ts'
import { emptyBytes } from '../base/bytes.ts'
import type { ErrorCode } from '../base/errors.ts'
import type { Lsn } from '../base/lsn.ts'
import { admit } from './admission.ts'
import { Attachments } from './attachments.ts'
import { Backlog } from './backlog.ts'
import type { PeerId, ReplicaView, ServeSettings } from './core-options.ts'
import type { CoreState } from './core-state.ts'
import { ignore, type StepResult, stepOk } from './effects.ts'
import { Feed, type LogReadAnswer } from './feed.ts'
import { sendAccept, sendDetach, sendHeartbeat } from './master-messages.ts'
import type { Ack, Detach, GapRequest, Join, SnapshotAck } from './messages.ts'
import { mustProbe, overdue } from './overdue.ts'
import { Progress } from './progress.ts'
import { replicaView } from './replica-view.ts'
import type { Served } from './served.ts'
import { type SnapshotRowsAnswer, SnapshotSender } from './snapshot-sender.ts'
import { startRetry } from './timings.ts'

export interface DetachOptions {
  readonly code: ErrorCode
  readonly message: string
  /** Tell the replica, and end the connection. */
  readonly tell: boolean
  /** Leave the connection: another attachment has taken it over. */
  readonly keepPeer?: boolean
  /** Where the next master is, if known. */
  readonly master?: string
}

/** What the one who serves makes of those who are attached. */
export interface ServingHooks {
  readonly settings: () => ServeSettings
  /** Whether the acks of a replica count. */
  readonly mayVote: (join: Join) => boolean
  /** Voting sites of the group, where it is known how many they are. */
  readonly sites: () => number | undefined
  /** Two sites, of which one alone is enough while the other one is away. */
  readonly goesOnAlone: () => boolean
  /** A heartbeat with this stamp asks for an ack. */
  readonly asked: (progress: Progress, stamp: number) => void
  /** An ack has brought this stamp back. */
  readonly heard: (progress: Progress, stamp: number) => void
  /** An ack is wanted now, whatever there is to acknowledge. */
  readonly isToBeAsked: (progress: Progress) => boolean
  /** What is attached, or what they have acknowledged, has changed. */
  readonly changed: () => void
}

export class Serving {
  readonly #state: CoreState
  readonly #served: Served
  readonly #hooks: ServingHooks
  readonly attachments: Attachments = new Attachments()
  readonly feed: Feed
  readonly backlog: Backlog

  constructor(state: CoreState, served: Served, hooks: ServingHooks) {
    this.#state = state
    this.#served = served
    this.#hooks = hooks
    this.feed = new Feed(state, served, () => hooks.settings())
    this.backlog = new Backlog(state, served, this.attachments)
  }

  // ---- messages

  join(join: Join, from: PeerId): StepResult {
    const state = this.#state
    const served = this.#served
    const { maxReplicas } = this.#hooks.settings()
    const admission = admit({ state, served, attachments: this.attachments, join, from, maxReplicas })
    switch (admission.kind) {
      case 'ignore':
        return ignore(admission.reason)
      case 'refuse':
        return this.refuse(join, from, admission)
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
      this.drop(progress, { code: 'DUPLICATE_SITE', message: 'replaced', tell, keepPeer: !tell })
    }
    const isNew = !this.attachments.hasMet(join.site)
    const progress = new Progress({
      peer: from,
      join,
      votes: this.#hooks.mayVote(join),
      plan,
      agreedLsn,
      targetLsn: served.last.lsn,
      now: state.now,
      timings: served.timings,
    })
    this.attachments.add(progress)
    state.counters.joins++
    this.#accept(progress)
    state.event({ kind: 'replicaJoined', site: join.site, peer: from, plan })
    if (plan === 'snapshot') {
      state.counters.snapshotsSent++
      const { settings } = this.#hooks
      progress.snapshot = new SnapshotSender({ state, served, progress, settings, resume })
    }
    this.retain()
    this.#hooks.changed()
    return isNew ? { kind: 'newSite', site: join.site, data: emptyBytes } : stepOk
  }

  refuse(join: Join, to: PeerId, refusal: { code: ErrorCode; message: string; master?: string }): StepResult {
    const state = this.#state
    const { code, message, master = '' } = refusal
    state.counters.joinsRefused++
    state.send(to, { type: 'refuse', session: join.session, term: state.term, code, message, master })
    state.event({ kind: 'replicaRefused', site: join.site, code, message })
    if (code !== 'DUPLICATE_MASTER') return { kind: 'joinFailure', code, reason: message }
    state.event({ kind: 'duplicateMaster', term: state.term, site: join.history.at(-1)?.site })
    return { kind: 'dupMaster' }
  }

  ack(ack: Ack, from: PeerId): StepResult {
    const progress = this.#attached(ack, from)
    if (progress === undefined) return this.#unknownSession(ack.session, from)
    const state = this.#state
    state.counters.acksReceived++
    progress.heardAt = state.now
    progress.echoed(ack.stamp, state.now)
    this.#hooks.heard(progress, ack.stamp)
    if (ack.busy) {
      progress.waitingSince = state.now
      return stepOk
    }
    if (progress.state === 'snapshot' && !this.#snapshotInstalled(progress, ack)) {
      return ignore('an ack before the snapshot')
    }
    if (!progress.isPlausible(ack)) {
      this.drop(progress, {
        code: 'HANDSHAKE_FAILED',
        message: `the replica acknowledged LSN ${ack.receivedLsn}, which it was not sent`,
        tell: true,
      })
      this.#hooks.changed()
      return ignore('an ack beyond what was sent')
    }
    if (progress.join.view) this.attachments.noteView(progress)
    if (progress.state === 'joining') progress.state = 'catchUp'
    if (progress.acked(ack, state.now)) progress.probe = startRetry(this.#served.timings, state.now)
    if (progress.state === 'catchUp') this.feed.pump(progress)
    if (!progress.inStep) this.#noteInStep(progress)
    this.#hooks.changed()
    return stepOk
  }

  gapRequest(request: GapRequest, from: PeerId): StepResult {
    const progress = this.#attached(request, from)
    if (progress === undefined) return this.#unknownSession(request.session, from)
    progress.heardAt = this.#state.now
    this.feed.gapRequest(progress, request)
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
    this.attachments.endSession(message.session)
    if (progress === undefined) return ignore('the session is not known')
    this.drop(progress, { code: 'DETACHED', message: message.message, tell: false })
    this.#hooks.changed()
    return stepOk
  }

  // ---- answers of the driver

  logRead(peer: PeerId, answer: LogReadAnswer): void {
    const progress = this.attachments.ofPeer(peer)
    if (progress === undefined) return
    const code = this.feed.logRead(progress, answer)
    if (code === undefined) return
    const message = code === 'LOG_TRIMMED' ? 'the log no longer reaches back' : 'the log could not be read'
    this.drop(progress, { code, message, tell: true })
    this.#hooks.changed()
  }

  /** The store has more rows. */
  applied(): void {
    for (const progress of this.attachments.all()) progress.snapshot?.openIfReady()
  }

  snapshotOpened(peer: PeerId, place: RecordPlace, rowsEstimate: number): void {
    const progress = this.attachments.ofPeer(peer)
    if (progress?.snapshot === undefined) return
    progress.snapshot.opened(place, rowsEstimate)
    this.retain()
  }

  snapshotRows(peer: PeerId, answer: SnapshotRowsAnswer): void {
    this.attachments.ofPeer(peer)?.snapshot?.gotRows(answer)
  }

  snapshotFailed(peer: PeerId, reason: string): void {
    const progress = this.attachments.ofPeer(peer)
    if (progress?.snapshot === undefined) return
    this.drop(progress, { code: 'SNAPSHOT_FAILED', message: reason, tell: true })
    this.#hooks.changed()
  }

  // ---- connections and time

  disconnected(peer: PeerId): void {
    const progress = this.attachments.ofPeer(peer)
    if (progress === undefined) return
    this.drop(progress, { code: 'CONNECTION_CLOSED', message: 'the connection was lost', tell: false })
    this.#hooks.changed()
  }

  congested(peer: PeerId, congested: boolean): void {
    const progress = this.attachments.ofPeer(peer)
    if (progress === undefined || progress.congested === congested) return
    progress.congested = congested
    if (congested) return
    this.feed.pump(progress)
    progress.snapshot?.readMore()
    if (!progress.inStep) this.#noteInStep(progress)
    this.#hooks.changed()
  }

  detach(site: string, options: { code: ErrorCode; message: string }): boolean {
    const progress = this.attachments.ofSite(site)
    this.attachments.forget(site)
    if (progress !== undefined) this.drop(progress, { ...options, tell: true })
    this.#hooks.changed()
    return progress !== undefined
  }

  tick(): void {
    const state = this.#state
    const served = this.#served
    const settings = this.#hooks.settings()
    const facts = { now: state.now, served, settings }
    const sitesFixed = this.#hooks.sites() !== undefined
    const goesOnAlone = this.#hooks.goesOnAlone()
    let changed = false
    for (const progress of [...this.attachments.all()]) {
      const fault = overdue(progress, { ...facts, sitesFixed, goesOnAlone })
      if (fault !== undefined) {
        this.drop(progress, { ...fault, tell: true })
        changed = true
        continue
      }
      const isDue = state.now - progress.heartbeatAt >= served.timings.heartbeatMs
      if (isDue || mustProbe(progress, facts) || this.#hooks.isToBeAsked(progress)) {
        this.heartbeat(progress, true)
      }
      this.feed.pump(progress)
    }
    this.announceCommit()
    this.retain()
    if (changed) this.#hooks.changed()
  }

  /** Tells the commit position to those who have not heard it with an Append. */
  announceCommit(): void {
    const { committedLsn } = this.#served
    for (const progress of this.attachments.all()) {
      if (progress.state !== 'live' && progress.state !== 'catchUp') continue
      if (progress.toldLsn < committedLsn) this.heartbeat(progress, false)
    }
  }

  /** Asks all replicas to acknowledge what they have, whatever the window. */
  flushWindow(): void {
    for (const progress of this.attachments.all()) {
      if (progress.state === 'live' || progress.state === 'catchUp') this.heartbeat(progress, true)
    }
  }

  /** Tells everybody how things are now. */
  tellAll(): void {
    for (const progress of this.attachments.all()) this.heartbeat(progress, true)
  }

  heartbeat(progress: Progress, ackNow: boolean): void {
    const { now } = this.#state
    if (ackNow) progress.heartbeatAt = now
    const stamp = ackNow ? progress.drawStamp(now) : undefined
    if (stamp !== undefined) this.#hooks.asked(progress, stamp)
    const settings = this.#hooks.settings()
    sendHeartbeat(this.#state, progress, { served: this.#served, settings, stamp })
  }

  /** The log that they need is kept. */
  retain(): void {
    this.backlog.retain(this.#hooks.settings().attest)
  }

  drop(progress: Progress, options: DetachOptions): void {
    const state = this.#state
    const { site, peer, session } = progress
    const { code, message, master } = options
    progress.snapshot?.close()
    this.attachments.remove(progress)
    const lsn = this.#served.last.lsn
    state.counters.detachments++
    if (options.tell) {
      sendDetach(state, peer, { session, code, message, ...(master === undefined ? {} : { master }) })
      if (options.keepPeer !== true) state.emit({ kind: 'disconnect', peer, code, reason: message })
    }
    state.event({ kind: 'replicaDetached', site, peer, code, message, lsn })
    this.retain()
  }

  // ---- for the status

  replicas(): ReplicaView[] {
    const { attest } = this.#hooks.settings()
    const options = { now: this.#state.now, lastLsn: this.#served.last.lsn, lag: this.backlog.lag, attest }
    return Array.from(this.attachments.all(), (progress) => replicaView(progress, options))
  }

  checkInvariants(): void {
    this.attachments.checkInvariants()
    for (const progress of this.attachments.all()) {
      progress.checkInvariants(this.#served.last.lsn)
      progress.snapshot?.checkInvariants()
    }
  }

  // ---- inside

  #attached(message: { session: number }, from: PeerId): Progress | undefined {
    const progress = this.attachments.ofPeer(from)
    return progress?.session === message.session ? progress : undefined
  }

  /** Lets a replica that thinks it is attached find out at once. */
  #unknownSession(session: number, from: PeerId): StepResult {
    const message = 'the session is not known'
    sendDetach(this.#state, from, { session, code: 'CONNECTION_CLOSED', message })
    return ignore(message)
  }

  #accept(progress: Progress): void {
    const settings = this.#hooks.settings()
    sendAccept(this.#state, progress, { served: this.#served, settings, sites: this.#hooks.sites() })
  }

  /** The first Ack after a snapshot says that it is installed: the log goes on from its base. */
  #snapshotInstalled(progress: Progress, ack: Ack): boolean {
    const base = progress.snapshot?.base
    if (progress.snapshot === undefined || base === undefined) return false
    // It may have kept what it shares beyond the base.
    const isKept = base.lsn < progress.agreedLsn && ack.receivedLsn === progress.agreedLsn
    if (ack.receivedLsn !== base.lsn && !isKept) return false
    progress.snapshot.close()
    progress.snapshot = undefined
    progress.beginAfter(base.lsn)
    progress.state = 'catchUp'
    return true
  }

  #noteInStep(progress: Progress): void {
    if (progress.state !== 'live' || progress.receivedLsn < progress.targetLsn) return
    progress.inStep = true
    const lsn: Lsn = progress.receivedLsn
    this.#state.event({ kind: 'replicaSynced', site: progress.site, peer: progress.peer, lsn })
  }
}
