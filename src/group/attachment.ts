// An attachment: the life of a replica under one master, from connecting to the reason why it ended (eXtremeDB's
// mco_HA_attach_master, which blocks for as long, as promises and events).
//
// It changes nothing on disk before the master has accepted it: a port that does not answer, another protocol or
// another database leave the local data, and the site's role, as they were.

import { assert } from '../base/assert.ts'
import { Emitter, EventQueue } from '../base/emitter.ts'
import { asError, CoterieError, isCoterieError } from '../base/errors.ts'
import { abortSignal, checkOptions, type OptionRules, objectOf, truth, wholeNumber } from '../base/options.ts'
import { parseAddress } from '../transport/address.ts'
import type { TransportRegistry } from '../transport/registry.ts'
import type { AttachmentEvents, StopResult, SyncResult } from './events.ts'
import type { Site } from './site.ts'

export interface AttachOptions {
  /** Stops at once when it aborts; `stopped` then says `cancelled`. */
  readonly signal?: AbortSignal
  /** How long the master may take to answer. Default 10,000; then CONNECT_TIMEOUT. */
  readonly connectTimeoutMs?: number
  /** How long the handshake may take. Default 60,000. */
  readonly initialTimeoutMs?: number
  /** The attachment ends when nothing is heard of the master for so long. Default: what the master says. */
  readonly silenceTimeoutMs?: number
  /** Sets local data of another history aside, where else the attach is refused. Nothing is deleted. */
  readonly replace?: boolean
  /** Commits of an asynchronous master wait for this replica too (eXtremeDB's FORCE_SYNC). */
  readonly sync?: boolean
  /** How received transactions are gathered into one change of the store. */
  readonly applyBatch?: { readonly transactions?: number; readonly bytes?: number; readonly delayMs?: number }
}

export const attachRules: OptionRules = {
  signal: abortSignal,
  connectTimeoutMs: wholeNumber(1),
  initialTimeoutMs: wholeNumber(1),
  silenceTimeoutMs: wholeNumber(10),
  replace: truth,
  sync: truth,
  applyBatch: objectOf({
    transactions: wholeNumber(1, 1_000_000),
    bytes: wholeNumber(1),
    delayMs: wholeNumber(0, 60_000),
  }),
}

/** What an attachment needs of the database that it attaches. */
export interface Attachable {
  readonly site: Site
  readonly transports: TransportRegistry
  beginAttachment(attachment: AnyAttachment, options: AttachOptions): void
  endAttachment(attachment: AnyAttachment): void
  close(): Promise<void>
}

/** An attachment of whatever database. */
export type AnyAttachment = Pick<Attachment<Attachable>, 'stop' | 'endForPromotion'>

const connectTimeoutMsDefault = 10_000
const eventsKeptMax = 10_000

/** One event with its name, as `events()` gives them out. */
export type AttachmentEvent = {
  readonly [Name in keyof AttachmentEvents]: { readonly type: Name; readonly detail: AttachmentEvents[Name] }
}[keyof AttachmentEvents]

export class Attachment<Db extends Attachable = Attachable>
  extends Emitter<AttachmentEvents>
  implements AsyncDisposable
{
  /**
   * Resolves when this site has all that the master had when it was accepted. Rejects if the attachment ends before:
   * CONNECT_TIMEOUT, CONNECT_FAILED, PROTOCOL_INCOMPATIBLE, FOREIGN_HISTORY, REWIND_REFUSED, TOO_MANY_REPLICAS,
   * DUPLICATE_SITE, NOT_MASTER, LOCKED, ABORTED ...
   */
  readonly synced: Promise<SyncResult>
  /** Resolves once, to why it ended. Never rejects. */
  readonly stopped: Promise<StopResult>
  #db: Db | undefined
  readonly #ownsDb: boolean
  readonly #signal: AbortSignal | undefined
  #resolveSynced: ((result: SyncResult) => void) | undefined
  #rejectSynced: ((error: CoterieError) => void) | undefined
  #resolveStopped: ((result: StopResult) => void) | undefined
  #offs: (() => void)[] = []
  #phase: 'opening' | 'connecting' | 'following' | 'ended' = 'opening'
  #leaving: 'stop' | 'cancel' | 'promote' | undefined
  readonly #connecting = new AbortController()
  /** The database knows of this attachment. */
  #isBegun = false
  #result: StopResult | undefined

  constructor(options: {
    readonly target: Db | (() => Promise<Db>)
    readonly address: string
    readonly attach: AttachOptions
  }) {
    super()
    this.synced = new Promise((resolve, reject) => {
      this.#resolveSynced = resolve
      this.#rejectSynced = reject
    })
    // Whoever only waits for `stopped` must not die of an unhandled rejection.
    this.synced.catch(() => undefined)
    this.stopped = new Promise((resolve) => {
      this.#resolveStopped = resolve
    })
    this.#ownsDb = typeof options.target === 'function'
    this.#signal = options.attach.signal
    this.#run(options).catch((error: unknown) => this.#endWith('handshake-refused', asCoterie(error)))
  }

  /** The replica's database; with `{ path }` it is there once `synced` has resolved. */
  get db(): Db {
    if (this.#db === undefined)
      throw new CoterieError('INVALID_STATE', 'the database is there once `synced` resolved')
    return this.#db
  }

  async #run(options: {
    readonly target: Db | (() => Promise<Db>)
    readonly address: string
    readonly attach: AttachOptions
  }): Promise<void> {
    const { target, attach } = options
    checkOptions('attachMaster', attach, attachRules)
    const address = parseAddress(options.address)
    const signal = attach.signal
    if (signal?.aborted === true) {
      this.#leaving = 'cancel'
      throw abortedBy(signal)
    }
    this.#listenTo(signal)
    const db = typeof target === 'function' ? await target() : target
    this.#db = db
    db.beginAttachment(this, attach)
    this.#isBegun = true
    const { site } = db
    const transport = db.transports.get(address.scheme)
    this.#phase = 'connecting'
    await site.abdicate()
    const resume = await site.resumable()
    const connection = await transport.connect({
      address,
      connectTimeoutMs: attach.connectTimeoutMs ?? connectTimeoutMsDefault,
      signal: this.#connecting.signal,
    })
    if (this.#isLeaving) {
      connection.destroy()
      throw new CoterieError('ABORTED', 'the attachment was ended while it connected')
    }
    this.#phase = 'following'
    this.emit('connected', { address: address.text })
    this.#watch(db, address.text)
    const { replace, sync, initialTimeoutMs, silenceTimeoutMs } = attach
    try {
      site.follow(connection, {
        address: address.text,
        ...(resume === undefined ? {} : { resume }),
        ...(replace === undefined ? {} : { replace }),
        ...(sync === undefined ? {} : { forceSync: sync }),
        timings: {
          ...(initialTimeoutMs === undefined ? {} : { initialTimeoutMs }),
          ...(silenceTimeoutMs === undefined ? {} : { silenceTimeoutMs }),
        },
      })
    } catch (error) {
      connection.destroy()
      throw error
    }
    // It may have been asked to leave before there was anything to leave.
    if (this.#isLeaving) this.#leaveMaster()
  }

  get #isLeaving(): boolean {
    return this.#leaving !== undefined
  }

  #leaveMaster(): void {
    this.db.site.leave(this.#leaving === 'cancel' ? 'cancel' : 'stop')
  }

  #listenTo(signal: AbortSignal | undefined): void {
    if (signal === undefined) return
    const abort = (): void => this.#leave('cancel')
    signal.addEventListener('abort', abort, { once: true })
    this.#offs.push(() => signal.removeEventListener('abort', abort))
  }

  #watch(db: Db, address: string): void {
    const { events } = db.site
    this.#offs.push(
      events.on('core', (event) => {
        switch (event.kind) {
          case 'newMaster':
            db.site.becomeReplica(address, event.sites).catch((error: unknown) => db.site.engine.fail(error))
            this.emit('newMaster', { site: event.site, term: event.term })
            return
          case 'syncBegin':
            this.emit('syncBegin', { kind: event.how, from: event.from, to: event.to })
            return
          case 'syncProgress': {
            const { unit, done, total, bytes } = event
            this.emit('syncProgress', { unit, done, total, bytes })
            return
          }
          case 'snapshotDone':
            this.emit('snapshotDone', { rows: event.rows, bytes: event.bytes, lsn: event.lsn })
            return
          case 'synced': {
            const { how, from, to, transactions, bytes, ms } = event
            const result = { kind: how, from, to, transactions, bytes, ms }
            this.emit('synced', result)
            this.#resolveSynced?.(result)
            return
          }
          default:
        }
      }),
      events.on('rewound', ({ to, lost }) => {
        this.emit('rewound', { to, transactions: lost?.transactions ?? 0, file: lost?.file })
      }),
      events.on('stopped', (stopped) => {
        const cause =
          stopped.code === undefined
            ? undefined
            : new CoterieError(stopped.code, stopped.message, {
                details: stopped.master === undefined ? {} : { master: stopped.master },
              })
        this.#endWith(stopped.reason, cause)
      }),
      events.on('failed', (cause) => {
        if (db.site.engine.failure !== undefined) this.#endWith('apply-failed', cause)
      }),
    )
  }

  /**
   * Ends the attachment after all that was received is durable and acknowledged; what of it the master has called
   * committed can be read. The database stays open, read-only.
   */
  async stop(): Promise<void> {
    this.#leave('stop')
    await this.stopped
  }

  /** Ends it because this site is about to become master itself. */
  async endForPromotion(): Promise<void> {
    this.#leave('promote')
    await this.stopped
  }

  #leave(how: 'stop' | 'cancel' | 'promote'): void {
    if (this.#phase === 'ended' || this.#leaving !== undefined) return
    this.#leaving = how
    if (this.#phase === 'following') this.#leaveMaster()
    else this.#connecting.abort(this.#signal?.reason)
  }

  #endWith(reason: StopResult['reason'], cause: CoterieError | undefined): void {
    if (this.#phase === 'ended') return
    const early = this.#phase !== 'following'
    this.#phase = 'ended'
    for (const off of this.#offs) off()
    this.#offs = []
    const left = this.#leaving
    const told =
      left === 'cancel'
        ? 'cancelled'
        : left === 'stop'
          ? 'stopped'
          : left === 'promote'
            ? 'became-master'
            : reason
    const db = this.#db
    const result: StopResult = {
      reason: early && left === undefined && isLost(cause) ? 'connection-lost' : told,
      ...(cause === undefined || (left !== undefined && told !== reason) ? {} : { cause }),
      lsn: db?.site.core.lastLsn ?? 0,
      term: db?.site.core.term ?? 0,
    }
    if (early && cause !== undefined && left === undefined) this.emit('connectFailed', { error: cause })
    this.#rejectSynced?.(
      cause ??
        new CoterieError('ABORTED', `the attachment ended before it was synchronised (${result.reason})`),
    )
    if (this.#isBegun) {
      db?.site.resumeReign()
      db?.endAttachment(this)
    }
    this.#closeUnused(db).then(
      () => this.#announce(result),
      (error: unknown) => this.#announce({ ...result, cause: asCoterie(error) }),
    )
  }

  /** A database that was opened for this attachment and never got any data is of no use to anyone. */
  async #closeUnused(db: Db | undefined): Promise<void> {
    if (this.#ownsDb && db !== undefined && !db.site.engine.hasData) await db.close()
  }

  #announce(result: StopResult): void {
    this.#result = result
    this.emit('stopped', result)
    assert(this.#resolveStopped !== undefined, 'an attachment ends once')
    this.#resolveStopped(result)
  }

  /** All events in order, from now to the end. Up to 10,000 wait for a slow reader; then the oldest are dropped. */
  events(): AsyncIterableIterator<AttachmentEvent> {
    const queue = new EventQueue<AttachmentEvent>({ bound: eventsKeptMax, onEnd: () => off() })
    const off = this.onAny((type, detail) => {
      queue.push({ type, detail } as AttachmentEvent)
      if (type === 'stopped') queue.end()
    })
    if (this.#result !== undefined) {
      queue.push({ type: 'stopped', detail: this.#result })
      queue.end()
    }
    return queue
  }

  /** Stops, and closes the database if it was opened for this attachment. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    if (this.#ownsDb) await this.#db?.close()
  }
}

function isLost(cause: CoterieError | undefined): boolean {
  return (
    cause !== undefined && ['CONNECT_FAILED', 'CONNECT_TIMEOUT', 'CONNECTION_CLOSED'].includes(cause.code)
  )
}

function abortedBy(signal: AbortSignal): CoterieError {
  return new CoterieError('ABORTED', 'the attachment was aborted', { cause: signal.reason })
}

function asCoterie(error: unknown): CoterieError {
  if (isCoterieError(error)) return error
  return new CoterieError('HANDSHAKE_FAILED', asError(error).message, { cause: error })
}
