// Group commit: transactions that end in one turn of the event loop become one run of records, one write, one sync,
// and one message to each replica. Commits resolve in the order of their LSNs, when the group's rule says so.
//
// How it fails: a commit that is not confirmed in time rejects with OUTCOME_UNKNOWN and its token, never with
// "failed", because its record is in the log and may yet become permanent. The record stays where it is.

import { assert } from '../base/assert.ts'
import type { RecordBatch, RecordPlace } from '../base/batch.ts'
import { CoterieError, type ErrorCode } from '../base/errors.ts'
import type { Lsn } from '../base/lsn.ts'
import type { AckPolicy, CommitException, Durability } from '../base/policy.ts'
import type { Clock, Timers } from '../env/host.ts'
import { BatchBuilder } from '../log/batch-builder.ts'
import { recordKind } from '../log/record-format.ts'
import { nobody, Receipt, type Reign } from './receipt.ts'
import { makeToken } from './token.ts'
import type { WriteSet } from './write-set.ts'

/** What a single commit may ask for beyond what its group does. */
export interface CommitOptions {
  /** Local durability that this commit waits for. Default: that of the database (`sync`). */
  readonly durability?: Durability
  /** Which sites must have the record. Default: that of `serve()`. */
  readonly acks?: AckPolicy
  /** How long to wait for them, in ms. Default: that of `serve()` (10,000). */
  readonly ackTimeoutMs?: number
  /** Ends the wait, not the commit: its outcome is then unknown. */
  readonly signal?: AbortSignal
}

interface Waiter {
  readonly lsn: Lsn
  readonly reign: Reign
  readonly deadlineMs: number
  /** Its deadline is its own: those behind it may have an earlier one. */
  readonly isCustom: boolean
  readonly resolve: (receipt: Receipt) => void
  readonly reject: (error: CoterieError) => void
  release: (() => void) | undefined
  expired: boolean
}

export interface CommitQueueOptions {
  readonly databaseId: string
  readonly last: RecordPlace
  readonly clock: Clock
  readonly timers: Timers
  readonly durability: Durability
  /** A sync is under way: what comes meanwhile gathers for the next. */
  readonly isSyncing: () => boolean
  /** Takes what was gathered: to the log and to the replicas, at the same moment. */
  readonly onBatch: (batch: RecordBatch, exceptions: readonly CommitException[]) => void
}

export class CommitQueue {
  readonly #options: CommitQueueOptions
  readonly #builder: BatchBuilder
  #reign: Reign | undefined
  #waiters: Waiter[] = []
  #head = 0
  #custom: Waiter[] = []
  #exceptions: CommitException[] = []
  #flushScheduled = false
  /** A commit among those gathered waits for no sync, so it must not wait for one here either. */
  #isUrgent = false
  #turnMs = 0
  #ackTimeoutMs = 10_000

  constructor(options: CommitQueueOptions) {
    this.#options = options
    this.#builder = new BatchBuilder({ databaseId: options.databaseId, previous: options.last })
  }

  /** The last LSN given out; its record may still be on its way to the log. */
  get lastLsn(): Lsn {
    return this.#builder.lastLsn
  }

  get waiting(): number {
    return this.#waiters.length - this.#head
  }

  get reign(): Reign | undefined {
    return this.#reign
  }

  get ackTimeoutMs(): number {
    return this.#ackTimeoutMs
  }

  set ackTimeoutMs(ms: number) {
    this.#ackTimeoutMs = ms
  }

  /** Goes on from the end of the log in a reign; with `firstRecord` the reign's first record is written. */
  beginReign(reign: Reign, options: { last: RecordPlace; firstRecord: boolean }): void {
    assert(this.#builder.isEmpty, 'a reign begins with nothing gathered')
    this.#builder.reset(options.last)
    this.#reign = reign
    if (!options.firstRecord) return
    this.#builder.begin({ term: reign.term, wallMs: this.#options.clock.wall(), kind: recordKind.term })
    this.#builder.payload(Buffer.from(reign.site, 'utf8'))
    this.#builder.end()
    this.flush()
  }

  /**
   * The site is master no longer: whoever waits learns that the outcome is unknown. What was gathered goes to the log
   * first, or, where another site reigns already, nowhere.
   */
  endReign(why: string, options: { readonly discard: RecordPlace | undefined }): void {
    if (options.discard === undefined) this.flush()
    else {
      this.#builder.reset(options.discard)
      this.#exceptions = []
    }
    this.#reign = undefined
    this.rejectAll('OUTCOME_UNKNOWN', why)
  }

  /**
   * Gives the writes an LSN and gathers them. The promise settles when the group's rule is met or time is up.
   * `kind`: that of the record.
   */
  submit(
    writes: WriteSet,
    options: CommitOptions | undefined,
    kind: number = recordKind.commit,
  ): { lsn: Lsn; receipt: Promise<Receipt> } {
    const reign = this.#reign
    assert(reign !== undefined, 'only a master gives out LSNs')
    if (!this.#flushScheduled) this.#beginTurn()
    const builder = this.#builder
    builder.begin({ term: reign.term, wallMs: this.#wallMs, kind })
    for (const write of writes.writes) {
      if (write.value === undefined) builder.del(write.key)
      else builder.put(write.key, write.value)
    }
    const { lsn } = builder.end()
    if (options !== undefined) this.#notePolicy(lsn, options)
    this.#isUrgent ||= (options?.durability ?? this.#options.durability) !== 'sync'
    return { lsn, receipt: this.#wait(lsn, reign, options) }
  }

  /** As a commit that stands at `lsn`, which was given out before; nothing is written. */
  confirm(lsn: Lsn, committedLsn: Lsn, options: CommitOptions | undefined): Promise<Receipt> {
    const reign = this.#reign
    assert(reign !== undefined, 'only a master confirms')
    if (lsn <= committedLsn) return Promise.resolve(new Receipt(lsn, reign, 1, nobody))
    if (!this.#flushScheduled) this.#turnMs = this.#options.clock.now()
    return this.#wait(lsn, reign, { ackTimeoutMs: this.#ackTimeoutMs, ...options })
  }

  #wallMs = 0

  #beginTurn(): void {
    this.#flushScheduled = true
    this.#turnMs = this.#options.clock.now()
    this.#wallMs = Math.floor(this.#options.clock.wall())
    this.#options.timers.soon(() => this.flushIfIdle())
  }

  #notePolicy(lsn: Lsn, options: CommitOptions): void {
    const durability = options.durability ?? this.#options.durability
    if (options.acks === undefined && durability === this.#options.durability) return
    this.#exceptions.push({ lsn, acks: options.acks, durability })
  }

  #wait(lsn: Lsn, reign: Reign, options: CommitOptions | undefined): Promise<Receipt> {
    return new Promise((resolve, reject) => {
      const timeoutMs = options?.ackTimeoutMs ?? this.#ackTimeoutMs
      const waiter: Waiter = {
        lsn,
        reign,
        deadlineMs: this.#turnMs + timeoutMs,
        isCustom: options?.ackTimeoutMs !== undefined,
        resolve,
        reject,
        release: undefined,
        expired: false,
      }
      let at = this.#waiters.length
      while (at > this.#head && (this.#waiters[at - 1] as Waiter).lsn > lsn) at--
      if (at === this.#waiters.length) this.#waiters.push(waiter)
      else this.#waiters.splice(at, 0, waiter)
      if (waiter.isCustom) this.#custom.push(waiter)
      if (options?.signal !== undefined) this.#listen(waiter, options.signal)
    })
  }

  #listen(waiter: Waiter, signal: AbortSignal): void {
    const abort = (): void => waiter.reject(unknownOutcome(waiter, 'the wait was aborted', signal.reason))
    if (signal.aborted) {
      abort()
      return
    }
    signal.addEventListener('abort', abort, { once: true })
    waiter.release = () => signal.removeEventListener('abort', abort)
  }

  /** Hands on what was gathered, unless a sync is under way: then `flush` comes at its end. */
  flushIfIdle(): void {
    if (this.#isUrgent || this.#builder.isEmpty || !this.#options.isSyncing()) this.flush()
    else this.#flushScheduled = false
  }

  /** A sync has ended: what gathered meanwhile goes next, with what its commits bring about in this turn. */
  flushAfterSync(): void {
    if (this.#flushScheduled || this.#builder.isEmpty) return
    this.#flushScheduled = true
    this.#options.timers.soon(() => this.flushIfIdle())
  }

  /** Hands on what was gathered. */
  flush(): void {
    this.#flushScheduled = false
    this.#isUrgent = false
    const batch = this.#builder.cut()
    if (batch === undefined) return
    const exceptions = this.#exceptions
    if (exceptions.length > 0) this.#exceptions = []
    this.#options.onBatch(batch, exceptions)
  }

  /** Invariant: commits resolve in the order of their LSNs, and only here. */
  resolveTo(committedLsn: Lsn, acks: number, detached: readonly string[]): void {
    const waiters = this.#waiters
    let head = this.#head
    while (head < waiters.length) {
      const waiter = waiters[head] as Waiter
      if (waiter.lsn > committedLsn) break
      waiter.release?.()
      waiter.resolve(new Receipt(waiter.lsn, waiter.reign, acks, detached))
      head++
    }
    this.#head = head
    this.#compact()
  }

  #compact(): void {
    if (this.#head === this.#waiters.length) {
      this.#waiters.length = 0
      this.#head = 0
    } else if (this.#head > 8192) {
      this.#waiters = this.#waiters.slice(this.#head)
      this.#head = 0
    }
  }

  /** Rejects who has waited too long. Who is rejected stays in line, so that order is kept; settling twice is void. */
  expire(nowMs: number): void {
    for (let i = this.#head; i < this.#waiters.length; i++) {
      const waiter = this.#waiters[i] as Waiter
      if (waiter.isCustom) continue
      if (waiter.deadlineMs > nowMs) break
      expire(waiter)
    }
    if (this.#custom.length === 0) return
    const settledBefore = this.#waiters[this.#head]?.lsn ?? Number.MAX_SAFE_INTEGER
    this.#custom = this.#custom.filter((waiter) => {
      if (waiter.lsn < settledBefore) return false
      if (waiter.deadlineMs > nowMs) return true
      expire(waiter)
      return false
    })
  }

  /** Nothing more will be confirmed. */
  rejectAll(code: ErrorCode, why: string, cause?: unknown): void {
    for (let i = this.#head; i < this.#waiters.length; i++) {
      const waiter = this.#waiters[i] as Waiter
      waiter.release?.()
      waiter.reject(unknownOutcome(waiter, why, cause, code))
    }
    this.#waiters = []
    this.#head = 0
    this.#custom = []
  }
}

/** Once: making an error costs more than looking at a thousand waiters. */
function expire(waiter: Waiter): void {
  if (waiter.expired) return
  waiter.expired = true
  waiter.reject(unknownOutcome(waiter, 'the ack policy was not met in time', undefined))
}

function unknownOutcome(
  waiter: Waiter,
  why: string,
  cause: unknown,
  code: ErrorCode = 'OUTCOME_UNKNOWN',
): CoterieError {
  const token = makeToken({ ...waiter.reign, lsn: waiter.lsn })
  return new CoterieError(code, `the outcome of this commit is unknown: ${why}; ask outcome(token)`, {
    cause,
    details: { token, lsn: waiter.lsn, term: waiter.reign.term },
  })
}
