// The master's role: what it writes, what the acks of its replicas amount to, and whether it may go on. Those who are
// attached are in serving.ts, the commit rule is in commitment.ts, who counts in voters.ts.
// docs/protocol.md, sections "Acks", "Commit rule", "Terms".

import { assert } from '../base/assert.ts'
import type { RecordBatch } from '../base/batch.ts'
import type { ErrorCode } from '../base/errors.ts'
import type { Lsn } from '../base/lsn.ts'
import type { CommitException } from '../base/policy.ts'
import { countAtLeast } from './acks.ts'
import type { Attachments } from './attachments.ts'
import { Commitment, type CommitPositions } from './commitment.ts'
import { defaultServeSettings, type Gate, type PeerId, type ServeSettings } from './core-options.ts'
import type { CoreState } from './core-state.ts'
import { ignore, type StepResult } from './effects.ts'
import { WriteGate } from './gate.ts'
import { HandingOver, type Heir } from './handing-over.ts'
import { Lease } from './lease.ts'
import type { Join } from './messages.ts'
import type { Progress } from './progress.ts'
import { ReignCheck } from './reign-check.ts'
import { OwnLog } from './served.ts'
import { Serving } from './serving.ts'
import { Tally } from './tally.ts'
import { Voters } from './voters.ts'

export class Master {
  readonly #state: CoreState
  /** Those who are attached. */
  readonly serving: Serving
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
    this.#commitment = new Commitment({ committedLsn: state.committedLsn, permanentLsn: state.permanentLsn })
    this.#gate = new WriteGate(state)
    this.#gate.configured(this.#settings)
    const serving = new Serving(state, new OwnLog(state), {
      settings: () => this.#settings,
      mayVote: (join) => this.#voters.mayVote(join),
      sites: () => this.#voters.sites,
      goesOnAlone: () => this.#voters.goesOnAlone,
      asked: (progress, stamp) => this.#reignCheck.asked(progress, stamp),
      heard: (progress, stamp) => {
        this.#lease.granted(progress, stamp)
        this.#reignCheck.heard(progress, stamp)
      },
      isToBeAsked: (progress) => this.#reignCheck.isToBeAsked(progress),
      changed: () => this.#review(),
    })
    this.serving = serving
    const { attachments } = serving
    const voters = new Voters(state, attachments, () => this.#settings)
    this.#voters = voters
    const ask = (progress: Progress): void => serving.heartbeat(progress, true)
    this.#reignCheck = new ReignCheck({ state, voters, attachments, ask })
    this.#lease = new Lease(state, voters)
    this.#handing = new HandingOver(state, attachments)
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
    return this.serving.attachments
  }

  configure(change: Partial<ServeSettings>): void {
    const before = this.#settings
    this.#settings = { ...before, ...change }
    this.#gate.configured(this.#settings)
    const { attest, window } = this.#settings
    if (attest !== before.attest || window !== before.window) this.serving.tellAll()
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
      for (const progress of this.attachments.all()) progress.votes = this.#voters.mayVote(progress.join)
    }
    if (exceptions.length > 0) this.#commitment.addExceptions(exceptions)
    const { backlog, feed } = this.serving
    backlog.proposed(batch.lastLsn, batch.bytes.length)
    feed.proposed(batch, this.attachments.all(), exceptions.length > 0)
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

  /** Replicas attach once the reign has begun. */
  join(join: Join, from: PeerId): StepResult {
    return this.#reigns ? this.serving.join(join, from) : ignore('the reign has not begun')
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

  /** Ends the role. `heir` has been told already. */
  end(options: { code: ErrorCode; message: string; master?: string; heir?: Progress }): void {
    const { heir, ...why } = options
    if (heir === undefined) this.#handing.failed(why.message)
    else this.#handing.done()
    for (const progress of [...this.attachments.all()]) {
      this.serving.drop(progress, { ...why, tell: progress !== heir })
    }
  }

  // ---- for receipts

  /** Sites, this one included, that attest the record at `lsn`. */
  sitesHaving(lsn: Lsn): number {
    this.#tally.count(this.attachments.all(), this.#settings)
    return 1 + countAtLeast(this.#tally.attested, lsn)
  }

  checkInvariants(): void {
    this.serving.checkInvariants()
    assert(this.#commitment.committedLsn <= this.#state.committedLsn, 'the commit position is the core’s')
  }

  // ---- inside

  #detachLaggards(): void {
    const { attest, maxLagBytes } = this.#settings
    for (const progress of [...this.attachments.all()]) {
      const lagBytes = this.serving.backlog.bytesOf(progress, attest)
      if (lagBytes <= maxLagBytes) continue
      const message = `the replica lagged by ${lagBytes} bytes`
      this.serving.drop(progress, { code: 'LAG_DETACHED', message, tell: true })
    }
  }

  /** After anything that a commit or the gate could depend on. */
  #review(): void {
    const state = this.#state
    const tally = this.#tally
    tally.count(this.attachments.all(), this.#settings)
    const { inStep, attested, durable, forcedLsn } = tally
    const { sites, goesOnAlone } = this.#voters
    const positions: CommitPositions = {
      lastLsn: state.last.lsn,
      ownWrittenLsn: state.writtenLsn,
      ownDurableLsn: state.durableLsn,
      attested,
      durable,
      forcedLsn,
      group: { sites: sites ?? 1 + inStep, attached: inStep, goesOnAlone },
      sitesKnown: sites ?? 1 + this.attachments.knownSites,
    }
    if (this.#commitment.advance(this.#settings, positions)) {
      const { committedLsn, permanentLsn } = this.#commitment
      const applyLsn = committedLsn
      state.advance({ committedLsn, permanentLsn, applyLsn })
    }
    this.#reviewGate(tally)
  }

  #reviewGate({ inStep, snapshots }: Tally): void {
    const lagBytes = (): number => this.serving.backlog.bytesOfSlowest(this.#settings.attest)
    const isHandingOver = this.#handing.isPausing
    this.#gate.review(this.#settings, { inStep, snapshots, lagBytes, isHandingOver })
    // Acks of all that there is, as soon as may be.
    if (this.#handing.paused(isHandingOver)) this.serving.flushWindow()
  }
}
