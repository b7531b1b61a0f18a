// The engine: one site's database below all faces. It owns the generation in use (parts.ts), gathers commits
// (commit-queue.ts), serves reads, and does to the log and the store what the replication driver decides.
//
// It decides nothing about the group. Whoever drives it (`Replicator`) says when the site may write, what is
// committed, and what must be taken back; a database alone is driven by the same code with a group of one.
// A failed log or store is final for the handle: reads of what is in memory may go on, writes never.

import { AssertionFailure, assert } from '../base/assert.ts'
import type { RecordBatch, RecordPlace } from '../base/batch.ts'
import { asError, CoterieError, isCoterieError } from '../base/errors.ts'
import type { History } from '../base/history.ts'
import { type Lsn, lsnPlus, noLsn } from '../base/lsn.ts'
import { decodeMembers, encodeMembers, type Members, type Membership } from '../base/membership.ts'
import type { CommitException, Durability } from '../base/policy.ts'
import type { Host, Timer } from '../env/host.ts'
import { hasWrites, recordKind } from '../log/record-format.ts'
import { eachRecord, eachWrite } from '../log/record-reader.ts'
import type { StoreEngine, StoreSnapshot } from '../store/store.ts'
import { type CommitOptions, CommitQueue } from './commit-queue.ts'
import type { DatabaseFolder } from './database-folder.ts'
import { KeptStores } from './kept-stores.ts'
import { latin1, type WholeKey } from './key-space.ts'
import { type ApplyBatch, Parts } from './parts.ts'
import type { Receipt, Reign } from './receipt.ts'
import { RecentWrites } from './recent-writes.ts'
import { type Retention, retentionBound } from './retention.ts'
import { membersKey } from './system-keys.ts'
import { WriteSet } from './write-set.ts'

/** Whether a write may be taken now. */
export type Gate =
  | { readonly open: true }
  | { readonly open: false; readonly wait: true }
  | { readonly open: false; readonly wait: false; readonly error: CoterieError }

/** Who decides for the engine: the replication driver. */
export interface Replicator {
  /** Makes this site ready to write, or rejects with the reason why it may not. */
  becomeWriter(): Promise<void>
  gate(): Gate
  /**
   * Asks whether no other site has become master; undefined where there can be none. Rejects with NOT_MASTER when this
   * site ceases to be master before it knows.
   */
  confirmReign(): Promise<void> | undefined
  /**
   * Waits until all that any master had committed by now is committed here; undefined where that is certain already.
   * NOT_MASTER, NO_MASTER; LEASE_EXPIRED or NO_QUORUM where it did not become certain in time; ABORTED.
   */
  whenNewest(signal: AbortSignal | undefined): Promise<void> | undefined
  /** Records of this site have been handed to the log; `batch.membership`: they change who belongs to the group. */
  proposed(batch: RecordBatch, exceptions: readonly CommitException[]): void
  /** The operating system has these records; they are not durable yet. */
  written(writtenLsn: Lsn): void
  durable(durableLsn: Lsn): void
  applied(appliedLsn: Lsn): void
  /** The log is poisoned or the store has failed. */
  failed(error: CoterieError): void
  stalled(error: CoterieError | undefined): void
  /** The oldest record that someone still needs from the log. */
  retainFrom(): Lsn | undefined
  /** The log begins later now. */
  trimmed(firstLsn: Lsn): void
}

export interface EngineOptions {
  readonly host: Host
  readonly folder: DatabaseFolder
  readonly storeEngine: StoreEngine
  readonly durability: Durability
  readonly segmentBytes: number | undefined
  readonly cacheBytes: number | undefined
  readonly retain: Retention
  /** How much log may gather before a checkpoint is made and older log can go. */
  readonly checkpointBytes: number
  readonly overlayWritesMax: number
}

/** A state of the database that stays as it is while it is held. */
export interface EngineSnapshot {
  readonly lsn: Lsn
  readonly rows: StoreSnapshot
  /** CLOSED once the database is. */
  assertOpen(): void
  /** STORE_NOT_KEPT unless the rows of the store are here. */
  assertKept(store: string): void
  close(): Promise<void>
}

/** So many records wait for the acks that make their undo needless, and for so long. */
const undoAvoidedMax = 8192
const undoDelayMs = 20
const pendingLogBytesMax = 64 * 1024 * 1024

export class Engine {
  readonly host: Host
  readonly folder: DatabaseFolder
  readonly recentWrites: RecentWrites = new RecentWrites()
  /** Which stores have their rows here: not all on a partial view. */
  readonly keptStores: KeptStores
  readonly #options: EngineOptions
  #parts: Parts | undefined
  #queue: CommitQueue | undefined
  #replicator: Replicator | undefined
  #applyBatch: ApplyBatch = {}
  #committedLsn: Lsn = noLsn
  #permanentLsn: Lsn = noLsn
  #applyLsn: Lsn = noLsn
  #rewinding: boolean = false
  /** What was acknowledged here in a reign that has ended. */
  #ownCommittedLsn: Lsn = noLsn
  #undoTimer: Timer | undefined
  #checkpointLsn: Lsn = noLsn
  #checkpointing: Promise<void> | undefined
  #loggedSinceCheckpoint = 0
  #failure: CoterieError | undefined
  #stall: CoterieError | undefined
  #closing = false
  #closed = false
  #reignEnd = new AbortController()
  #roomWaiters: (() => void)[] = []
  #commitWaiters: { lsn: Lsn; wake: () => void }[] = []

  constructor(options: EngineOptions) {
    this.#options = options
    this.host = options.host
    this.folder = options.folder
    this.keptStores = new KeptStores(options.folder.state?.view)
  }

  set replicator(replicator: Replicator) {
    this.#replicator = replicator
  }

  /** The generation in use. INVALID_STATE on a replica that has no data yet. */
  get parts(): Parts {
    if (this.#parts === undefined) {
      throw this.#closed
        ? new CoterieError('CLOSED', 'the database is closed')
        : new CoterieError('INVALID_STATE', 'this replica has no data yet: wait for `synced`')
    }
    return this.#parts
  }

  /** As `parts`; undefined where that throws. */
  get partsInUse(): Parts | undefined {
    return this.#parts
  }

  get hasData(): boolean {
    return this.#parts !== undefined
  }

  get durability(): Durability {
    return this.#options.durability
  }

  get storeEngine(): StoreEngine {
    return this.#options.storeEngine
  }

  get committedLsn(): Lsn {
    return this.#committedLsn
  }

  get permanentLsn(): Lsn {
    return this.#permanentLsn
  }

  get checkpointLsn(): Lsn {
    return this.#checkpointLsn
  }

  /**
   * Who belongs to the group as this site knows it: it holds from the moment that its record is in the log. Undefined
   * before there is data, and in a database that has never been a group's.
   */
  get membership(): Membership | undefined {
    return this.#parts?.membership
  }

  get failure(): CoterieError | undefined {
    return this.#failure
  }

  get stall(): CoterieError | undefined {
    return this.#stall
  }

  /** The stall is the log's own, which ends it by itself. */
  get isLogStalled(): boolean {
    return this.#parts?.log.isStalled === true
  }

  get closed(): boolean {
    return this.#closed
  }

  /** The last LSN given out, whether or not it has reached the log. */
  get lastLsn(): Lsn {
    return this.#queue?.reign === undefined ? (this.#parts?.log.lastLsn ?? noLsn) : this.#queue.lastLsn
  }

  get waitingCommits(): number {
    return this.#queue?.waiting ?? 0
  }

  set applyBatch(applyBatch: ApplyBatch) {
    this.#applyBatch = applyBatch
    this.#parts?.applyBy(applyBatch)
  }

  // ---- generations -------------------------------------------------------------------------------------------

  /** Opens the generation that the state names. */
  async openParts(options: {
    databaseId: string
    generation: number
    durableAtLeast: Lsn
    mayLackRows?: boolean
  }): Promise<Parts> {
    const { host, folder, storeEngine, segmentBytes, cacheBytes } = this.#options
    const parts = await Parts.open({
      mayLackRows: false,
      ...options,
      host,
      folder,
      storeEngine,
      segmentBytes,
      cacheBytes,
      applyBatch: this.#applyBatch,
      keptStores: this.keptStores,
      onApplied: (appliedLsn) => this.#onApplied(parts, appliedLsn),
      onFailed: (error) => this.fail(error),
    })
    parts.log.onWritten = (writtenLsn): void => {
      if (parts === this.#parts) (this.#replicator as Replicator).written(writtenLsn)
    }
    parts.log.onDurable = (durableLsn): void => this.#onDurable(parts, durableLsn)
    parts.log.onPoisoned = (error): void => this.fail(error)
    parts.log.onStalled = (error): void => this.setStall(error)
    parts.log.onResumed = (): void => this.setStall(undefined)
    return parts
  }

  /** Puts a generation to use; returns the one that was, for its owner to close. */
  useParts(
    parts: Parts,
    options: {
      readonly databaseId: string
      readonly permanentLsn: Lsn
      /** Certainly committed. Default: what is applied. */
      readonly committedLsn?: Lsn
    },
  ): Parts | undefined {
    assert(this.#queue?.reign === undefined, 'a master never changes its generation')
    const { databaseId } = options
    const before = this.#parts
    this.#parts = parts
    this.#committedLsn = options.committedLsn ?? parts.appliedLsn
    this.#permanentLsn = options.permanentLsn
    this.#applyLsn = parts.appliedLsn
    this.#checkpointLsn = noLsn
    this.#ownCommittedLsn = noLsn
    this.#loggedSinceCheckpoint = parts.log.bytes
    this.#queue = new CommitQueue({
      databaseId,
      last: parts.log.last,
      clock: this.host.clock,
      timers: this.host.timers,
      durability: this.#options.durability,
      isSyncing: () => parts.log.pendingBytes > 0,
      onBatch: (batch, exceptions) => this.#onBatch(batch, exceptions),
    })
    this.#wakeCommitWaiters()
    return before
  }

  // ---- writing -----------------------------------------------------------------------------------------------

  /** Undefined if a write may be taken at once; else a promise to wait for before asking again. Throws if never. */
  admit(): Promise<void> | undefined {
    this.#assertTakesWrites()
    const replicator = this.#replicator as Replicator
    if (this.#stall !== undefined) throw this.#stall
    if (this.#queue?.reign === undefined) return Promise.race([replicator.becomeWriter(), this.#room()])
    const gate = replicator.gate()
    if (!gate.open && !gate.wait) throw gate.error
    if (!gate.open || !this.#hasRoom()) return this.#room()
    return undefined
  }

  #assertTakesWrites(): void {
    this.assertOpen()
    if (this.#closing) throw new CoterieError('CLOSED', 'the database is being closed')
    if (this.#failure !== undefined) throw this.#failure
  }

  #hasRoom(): boolean {
    const parts = this.#parts as Parts
    return (
      parts.overlay.count < this.#options.overlayWritesMax &&
      parts.overlay.bytes < pendingLogBytesMax &&
      parts.log.pendingBytes < pendingLogBytesMax
    )
  }

  #room(): Promise<void> {
    return new Promise((resolve) => {
      this.#roomWaiters.push(resolve)
    })
  }

  /** Whoever waits to write looks again: something has moved. */
  wakeWriters(): void {
    if (this.#roomWaiters.length === 0) return
    const waiters = this.#roomWaiters
    this.#roomWaiters = []
    for (const wake of waiters) wake()
  }

  /**
   * Logs the writes as one transaction. Call only after `admit` returned undefined, in the same turn; what may have
   * happened in the microtasks since is checked again.
   */
  submit(
    writes: WriteSet,
    options: CommitOptions | undefined,
    kind: number = recordKind.commit,
  ): Promise<Receipt> {
    const queue = this.#writingQueue()
    const { overlay } = this.#parts as Parts
    const { lsn, receipt } = queue.submit(writes, options, kind)
    for (const write of writes.writes) overlay.set(write.text, write.value, lsn)
    if (this.recentWrites.watching) for (const write of writes.writes) this.recentWrites.note(write.text, lsn)
    return receipt
  }

  /**
   * Logs who belongs to the group from now on, as a transaction of its own; resolves and rejects as a commit does.
   * It asks nobody: whether this site may write, and whether the change before it is done, the caller knows. In
   * effect (`membership`) once it is in the log, at the end of this turn, or at `flush()`.
   */
  async submitMembers(members: Members, options?: CommitOptions): Promise<Receipt> {
    const encoded = encodeMembers(members)
    // Before a record is begun: half a record would end all writing here.
    assert(decodeMembers(encoded) !== undefined, 'the members that are logged can be read')
    const writes = new WriteSet()
    writes.set(membersKey, encoded)
    return await this.submit(writes, options, recordKind.members)
  }

  /**
   * Resolves as a commit after all that has been logged would: the state that a reader saw is confirmed then. In a
   * group that elects a majority is asked, too, whether it was still the newest one.
   */
  confirm(lsn: Lsn, options: CommitOptions | undefined): Promise<Receipt> {
    const receipt = this.#writingQueue().confirm(lsn, this.#committedLsn, options)
    const reign = (this.#replicator as Replicator).confirmReign()
    if (reign === undefined) return receipt
    return Promise.all([receipt, reign]).then(([confirmed]) => confirmed)
  }

  /** Whoever reads after it reads nothing older than what was committed by any master when it was called. */
  async whenNewest(signal: AbortSignal | undefined): Promise<void> {
    this.#assertTakesWrites()
    await (this.#replicator as Replicator).whenNewest(signal)
  }

  #writingQueue(): CommitQueue {
    this.#assertTakesWrites()
    const queue = this.#queue
    if (queue?.reign === undefined) {
      throw new CoterieError('NOT_MASTER', 'this site has just ceased to be master')
    }
    return queue
  }

  #onBatch(batch: RecordBatch, exceptions: readonly CommitException[]): void {
    // The log failed in the turn in which these were gathered: whoever waits has been told that nothing is known.
    if (this.#failure !== undefined || this.#closed) return
    this.#append(batch)
    ;(this.#replicator as Replicator).proposed(batch, exceptions)
  }

  #append(batch: RecordBatch): void {
    const { log, applier, overlay } = this.parts
    log.append(batch)
    applier.offer(batch)
    overlay.sealGeneration()
    this.#loggedSinceCheckpoint += batch.bytes.length
  }

  /** Starts to write: the log's unapplied tail comes into the overlay, so that transactions read it. */
  async beginReign(
    reign: Reign,
    options: { firstRecord: boolean; isStillMaster: () => boolean },
  ): Promise<void> {
    assert(!this.keptStores.isPartial, 'a partial view never writes')
    const { log, overlay, applier } = this.parts
    const queue = this.#queue as CommitQueue
    overlay.clear()
    for (let from = lsnPlus(applier.appliedLsn, 1); from <= log.lastLsn; ) {
      const batch = await log.read({ from, bytesMax: 1024 * 1024 })
      eachRecord(batch.bytes, (lsn, _term, _wallMs, kind, start, end) => {
        if (!hasWrites(kind)) return
        eachWrite(batch.bytes, start, end, (key, value) => overlay.set(latin1(key), value, lsn))
      })
      overlay.sealGeneration()
      from = lsnPlus(batch.lastLsn, 1)
    }
    this.#assertTakesWrites()
    if (!options.isStillMaster()) {
      overlay.clear()
      throw new CoterieError('NOT_MASTER', 'another site has become master meanwhile')
    }
    overlay.dropThrough(applier.appliedLsn)
    this.#reignEnd = new AbortController()
    queue.beginReign(reign, { last: log.last, firstRecord: options.firstRecord })
  }

  /** `unseated`: by another master; then what has not reached the log never does. */
  endReign(why: string, options: { readonly unseated: boolean }): void {
    if (this.#queue?.reign === undefined) return
    const { log, overlay } = this.parts
    this.#queue.endReign(why, { discard: options.unseated ? log.last : undefined })
    overlay.dropAfter(log.lastLsn)
    this.#ownCommittedLsn = Math.min(this.#committedLsn, log.lastLsn) as Lsn
    overlay.sealGeneration()
    this.#reignEnd.abort()
    this.wakeWriters()
  }

  get reign(): Reign | undefined {
    return this.#queue?.reign
  }

  /** How long a commit waits for its acks. */
  get ackTimeoutMs(): number {
    return this.#queue?.ackTimeoutMs ?? 0
  }

  set ackTimeoutMs(ms: number) {
    if (this.#queue !== undefined) this.#queue.ackTimeoutMs = ms
  }

  /** Hands on at once what commits have gathered in this turn. */
  flush(): void {
    this.#queue?.flush()
  }

  expireCommits(): void {
    this.#queue?.expire(this.host.clock.now())
  }

  // ---- what the replicator decides ---------------------------------------------------------------------------

  /** Records of the master, checked and fitting, go to the log of this replica. */
  appendReplicated(batch: RecordBatch): void {
    assert(this.#queue?.reign === undefined, 'only a replica takes records of another site')
    this.#append(batch)
  }

  /** Invariant: both positions only grow. */
  commitTo(options: {
    readonly committedLsn: Lsn
    readonly permanentLsn: Lsn
    /** `committedLsn`, or more where acks attest `applied`: then rows are applied before they count. */
    readonly applyLsn: Lsn
    readonly acks: number
    readonly detached: readonly string[]
  }): void {
    const { committedLsn, permanentLsn } = options
    assert(committedLsn >= this.#committedLsn, 'committedLsn never falls')
    assert(permanentLsn >= this.#permanentLsn, 'permanentLsn never falls')
    this.#committedLsn = committedLsn
    this.#permanentLsn = permanentLsn
    this.#applyLsn = Math.max(committedLsn, options.applyLsn) as Lsn
    this.#queue?.resolveTo(committedLsn, options.acks, options.detached)
    this.#advance()
    this.#wakeCommitWaiters()
  }

  /**
   * Lets the applier go on. A record that the group may yet take back costs seven times as much to apply, for its
   * undo; where the acks that make it permanent are under way, it is cheaper to wait for them a little.
   */
  #advance(): void {
    const { log } = this.parts
    const applicable = Math.min(this.#applyLsn, log.durableLsn) as Lsn
    const waiting = applicable - this.#permanentLsn
    if (waiting <= 0 || waiting > undoAvoidedMax || this.#applyLsn > this.#committedLsn) {
      this.#applyTo(applicable)
      return
    }
    this.#applyTo(this.#permanentLsn)
    this.#undoTimer ??= this.host.timers.after(undoDelayMs, () => {
      this.#undoTimer = undefined
      this.#applyNow()
    })
  }

  /** Applies all that may be applied, with undo where need be: somebody wants to read it. */
  #applyNow(): void {
    if (this.#closed || this.#parts === undefined) return
    this.#applyTo(Math.min(this.#applyLsn, this.#parts.log.durableLsn) as Lsn)
  }

  #applyTo(to: Lsn): void {
    // Invariant: the applier is never told of a record that a rewind takes back. What was due meanwhile is told afterwards.
    if (this.#rewinding) return
    // Where acks attest `applied`, commits wait for the rows.
    const urgent = this.#applyLsn > this.#committedLsn
    this.parts.applier.advance({ to, permanentLsn: this.#permanentLsn, urgent })
  }

  #wakeCommitWaiters(): void {
    if (this.#commitWaiters.length === 0) return
    const due = this.#commitWaiters.filter((waiter) => waiter.lsn <= this.#committedLsn)
    this.#commitWaiters = this.#commitWaiters.filter((waiter) => waiter.lsn > this.#committedLsn)
    for (const waiter of due) waiter.wake()
  }

  /** Resolves when `lsn` is committed, or early when the engine closes or fails: look again. ABORTED by the signal. */
  whenCommitted(lsn: Lsn, signal?: AbortSignal): Promise<void> {
    if (lsn <= this.#committedLsn || this.#closed || this.#failure !== undefined) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        this.#commitWaiters = this.#commitWaiters.filter((other) => other !== waiter)
        reject(new CoterieError('ABORTED', 'the wait was aborted', { cause: signal?.reason }))
      }
      const wake = (): void => {
        signal?.removeEventListener('abort', abort)
        resolve()
      }
      const waiter = { lsn, wake }
      this.#commitWaiters.push(waiter)
      if (signal?.aborted === true) abort()
      else signal?.addEventListener('abort', abort, { once: true })
    })
  }

  #onDurable(parts: Parts, durableLsn: Lsn): void {
    if (parts !== this.#parts) return
    ;(this.#replicator as Replicator).durable(durableLsn)
    this.#queue?.flushAfterSync()
    this.#advance()
    this.wakeWriters()
  }

  #onApplied(parts: Parts, appliedLsn: Lsn): void {
    if (parts !== this.#parts) return
    parts.overlay.dropThrough(appliedLsn)
    ;(this.#replicator as Replicator).applied(appliedLsn)
    this.wakeWriters()
    if (this.#loggedSinceCheckpoint > this.#options.checkpointBytes) this.#checkpointSoon()
  }

  /** The log's records after `to` are taken back, in the store and in the log. */
  async rewind(to: Lsn): Promise<{ place: RecordPlace; history: History }> {
    assert(this.#queue?.reign === undefined, 'a master never rewinds')
    assert(to >= this.#permanentLsn, 'a permanent record is never taken back')
    const { parts } = this
    const { log, applier, overlay, cache } = parts
    await log.whenDurable(log.lastLsn)
    this.#rewinding = true
    await applier.pause()
    try {
      const place = await log.placeOf(to)
      const history = log.history.filter((entry) => entry.firstLsn <= to)
      await applier.rewind({ to: place, history })
      // Before the log is cut, so that nobody asks it for a record that goes.
      this.#committedLsn = Math.min(this.#committedLsn, to) as Lsn
      this.#applyLsn = Math.min(this.#applyLsn, to) as Lsn
      this.#ownCommittedLsn = Math.min(this.#ownCommittedLsn, to) as Lsn
      overlay.clear()
      cache.clear()
      // The log may be left without a members record; then the row that is back in the store holds.
      await parts.readStoredMembership()
      // Invariant: no record leaves the log while the store's disk may have its rows. A power cut could else bring back a
      // store that is ahead of the log; and that log would pass for a damaged one, for the records that it lacks.
      await parts.store.flush()
      await log.truncateAfter(to)
      this.#wakeAllCommitWaiters()
      return { place, history: log.history }
    } finally {
      this.#rewinding = false
      applier.resume()
      if (parts === this.#parts && !this.#closed) this.#advance()
    }
  }

  /** The disk is full: writes are refused until it is told that there is space again. */
  setStall(error: CoterieError | undefined): void {
    this.#stall = error
    ;(this.#replicator as Replicator).stalled(error)
    this.wakeWriters()
  }

  /** Final for this handle: nothing more is acknowledged. */
  fail(cause: unknown): void {
    if (this.#failure !== undefined || this.#closed) return
    const error =
      cause instanceof CoterieError
        ? cause
        : new CoterieError(
            'INVALID_STATE',
            cause instanceof AssertionFailure
              ? cause.message
              : `the site has stopped: ${asError(cause).message}`,
            { cause },
          )
    this.#failure = error
    this.#queue?.rejectAll('OUTCOME_UNKNOWN', `the site has stopped (${error.code}: ${error.message})`, error)
    this.#reignEnd.abort()
    ;(this.#replicator as Replicator).failed(error)
    this.wakeWriters()
    this.#wakeAllCommitWaiters()
  }

  #wakeAllCommitWaiters(): void {
    const waiters = this.#commitWaiters
    this.#commitWaiters = []
    for (const waiter of waiters) waiter.wake()
  }

  // ---- reading -----------------------------------------------------------------------------------------------

  assertOpen(): void {
    if (this.#closed) throw new CoterieError('CLOSED', 'the database is closed')
  }

  /** The committed value. SYNCING while a resumed snapshot is not yet caught up. */
  readSync(key: WholeKey): Uint8Array | undefined {
    this.assertOpen()
    const { parts } = this
    if (!parts.readable) throw new CoterieError('SYNCING', 'the store is being brought up to date')
    const version = parts.overlay.getAt(key.text, this.#readableLsn(parts))
    return version === undefined ? readStoreSync(parts, key) : version.value
  }

  read(key: WholeKey): Promise<Uint8Array | undefined> | Uint8Array | undefined {
    this.assertOpen()
    const { parts } = this
    if (!parts.readable) return this.#whenReadable().then(() => this.read(key))
    const version = parts.overlay.getAt(key.text, this.#readableLsn(parts))
    if (version !== undefined) return version.value
    const ticket = parts.cache.ticket()
    const cached = parts.cache.get(key.text)
    if (cached !== undefined) return cached.value
    const release = parts.lease()
    return parts.store.get(key.bytes).then(
      (value) => {
        release()
        parts.cache.fill(key.text, value, ticket)
        return value
      },
      (error: unknown) => {
        release()
        throw error
      },
    )
  }

  /** What is committed; and what the store shows already, where acks attest `applied` and rows come before the commit. */
  #readableLsn(parts: Parts): Lsn {
    return Math.max(this.#committedLsn, parts.appliedLsn) as Lsn
  }

  /** The newest value, committed or not: what a transaction reads. */
  readLatestSync(key: WholeKey): Uint8Array | undefined {
    this.assertOpen()
    const { parts } = this
    const version = parts.overlay.get(key.text)
    return version === undefined ? readStoreSync(parts, key) : version.value
  }

  async #whenReadable(): Promise<void> {
    for (;;) {
      const { parts } = this
      try {
        await parts.applier.whenApplied(parts.store.meta?.readableLsn ?? noLsn)
        return
      } catch (error) {
        // Another generation has come into use while this one was waited for.
        if (parts === this.#parts || this.#closed) throw error
      }
    }
  }

  /** A consistent view that holds at least everything committed (or up to `atLeast`) by now. */
  async snapshot(atLeast: Lsn = this.#committedLsn): Promise<EngineSnapshot> {
    for (;;) {
      this.assertOpen()
      const { parts } = this
      const release = parts.lease()
      try {
        await this.#whenShown(parts, atLeast)
        this.assertOpen()
        if (parts === this.#parts) {
          const rows = parts.store.snapshot()
          const lsn = rows.meta?.appliedLsn ?? noLsn
          const close = (): Promise<void> => rows.close().finally(release)
          const assertKept = (store: string): void => this.keptStores.assertKept(store)
          return { lsn, rows, assertOpen: () => this.assertOpen(), assertKept, close }
        }
      } catch (error) {
        if (parts === this.#parts) {
          release()
          throw error
        }
      }
      // Another generation has come into use while this one was waited for.
      release()
    }
  }

  /**
   * A master's reads include all that it has acknowledged, also after its reign; a replica shows the prefix that it has
   * applied.
   */
  async #whenShown(parts: Parts, atLeast: Lsn): Promise<void> {
    const readableLsn = parts.store.meta?.readableLsn ?? noLsn
    if (parts.appliedLsn < readableLsn) await parts.applier.whenApplied(readableLsn)
    const { reign } = this
    const shownLsn = reign === undefined ? (Math.min(atLeast, this.#ownCommittedLsn) as Lsn) : atLeast
    if (this.#failure !== undefined || parts.appliedLsn >= shownLsn) return
    this.#applyNow()
    try {
      const signal = reign === undefined ? undefined : this.#reignEnd.signal
      await parts.applier.whenApplied(shownLsn, signal)
    } catch (error) {
      // No longer master, or failed: what was waited for may never come, and the prefix that is applied is shown.
      if (this.reign === reign && this.#failure === undefined) throw error
    }
  }

  // ---- checkpoint --------------------------------------------------------------------------------------------

  #checkpointSoon(): void {
    this.#loggedSinceCheckpoint = 0
    this.checkpoint().catch((error: unknown) => {
      // A full disk passes: the next records bring the next try.
      if (isCoterieError(error, 'DISK_FULL')) this.#loggedSinceCheckpoint = this.#options.checkpointBytes
      else if (!this.#closed) this.fail(error)
    })
  }

  /** Makes the store durable up to what is applied, and lets go of the log that nobody needs any more. */
  checkpoint(): Promise<void> {
    this.assertOpen()
    this.#checkpointing ??= this.#runCheckpoint().finally(() => {
      this.#checkpointing = undefined
    })
    return this.#checkpointing
  }

  async #runCheckpoint(): Promise<void> {
    const { parts } = this
    const release = parts.lease()
    let reached: Lsn
    try {
      // All that is committed now shall be in it.
      this.#applyNow()
      await parts.applier.whenApplied(Math.min(this.#committedLsn, parts.log.durableLsn) as Lsn)
      reached = parts.appliedLsn
      await parts.store.flush()
    } finally {
      release()
    }
    if (parts !== this.#parts) return
    this.#checkpointLsn = reached
    await this.trim(this.#options.retain)
  }

  /** Removes log segments that neither the store, nor a replica, nor the retention setting needs. */
  async trim(retain: Retention): Promise<{ removedSegments: number; firstLsn: Lsn }> {
    const { log } = this.parts
    const wanted = await retentionBound(log, retain, this.host.clock.wall())
    const replicator = this.#replicator as Replicator
    // A replica may come while segments are being removed: what it needs stays, and what is going it is not promised.
    const bound = (): Lsn =>
      Math.min(
        wanted,
        lsnPlus(this.#checkpointLsn, 1),
        lsnPlus(this.#permanentLsn, 1),
        replicator.retainFrom() ?? Number.MAX_SAFE_INTEGER,
      ) as Lsn
    const { removedSegments } = await log.trimBefore(bound, (firstLsn) => replicator.trimmed(firstLsn))
    return { removedSegments, firstLsn: log.firstLsn }
  }

  // ---- the end -----------------------------------------------------------------------------------------------

  /** Confirms and applies what it can, then closes. Returns where the log ended if that was orderly. */
  async close(options: { discard?: boolean } = {}): Promise<RecordPlace | undefined> {
    if (this.#closing) return undefined
    this.#closing = true
    this.wakeWriters()
    this.#queue?.flush()
    const parts = this.#parts
    let orderly = this.#failure === undefined && this.#stall === undefined && options.discard !== true
    // What fails here has told its waiters, and is the reason of the failure that `status` shows.
    if (parts !== undefined && orderly) {
      orderly = await this.#settledIn(parts)
    }
    this.#closed = true
    this.#undoTimer?.cancel()
    this.#queue?.rejectAll('OUTCOME_UNKNOWN', 'the database was closed')
    this.#wakeAllCommitWaiters()
    await this.#checkpointing?.catch(() => undefined)
    const last = parts?.log.last
    await parts?.close({ waitForReaders: false })
    return orderly ? last : undefined
  }

  /** Waits until the log is durable and the store has what is committed; false if one fails or stalls before. */
  async #settledIn(parts: Parts): Promise<boolean> {
    const { log } = parts
    while (log.durableLsn < log.lastLsn) {
      if (this.#failure !== undefined || this.#stall !== undefined) return false
      await this.#room()
    }
    // What is acknowledged shall be read at the next open, also where only the group can say that it is committed.
    this.#applyNow()
    const committed = Math.min(this.#committedLsn, log.durableLsn) as Lsn
    await parts.applier.whenApplied(committed).catch((error: unknown) => this.fail(error))
    return this.#failure === undefined
  }
}

function readStoreSync(parts: Parts, key: WholeKey): Uint8Array | undefined {
  const cached = parts.cache.get(key.text)
  if (cached !== undefined) return cached.value
  const ticket = parts.cache.ticket()
  const value = parts.store.getSync(key.bytes)
  parts.cache.fill(key.text, value, ticket)
  return value
}
