// An attachment: the life of a replica under one master, from connecting to the reason why it ended (eXtremeDB's
// mco_HA_attach_master, which blocks for as long, as promises and events).
//
// It changes nothing on disk before the master has accepted it: a port that does not answer, another protocol or
// another database leave the local data, and the site's role, as they were.
//
// It outlives a change of master in two ways. Where the master has handed over to another site, the attachment goes on
// there. Where it has handed over to this site, asked for (taking-over.ts) or not, this site reigns before `stopped`
// resolves. A connection that breaks while the answer to a takeover is due is made again, because only the old master
// knows the answer: it lets this site in, and nothing has changed; or it repeats what it said.

import { assert } from '../base/assert.ts'
import { Emitter, EventQueue } from '../base/emitter.ts'
import { asError, CoterieError, type ErrorCode, isCoterieError } from '../base/errors.ts'
import type { CoreEvent } from '../replication/effects.ts'
import { parseAddress } from '../transport/address.ts'
import { linkOptionsOf } from '../transport/link-options.ts'
import type { TransportRegistry } from '../transport/registry.ts'
import { type AttachOptions, checkAttach } from './attach-options.ts'
import { type Leaving, nextAttach, type ReattachReason, type Stopped, stopCause } from './attachment-end.ts'
import type { AttachmentEvents, StopResult, SyncResult } from './events.ts'
import { Links } from './links.ts'
import type { Master, MasterSetting } from './master.ts'
import type { Site } from './site.ts'
import { tellSync } from './sync-events.ts'
import {
  checkTakeOver,
  reignAsGiven,
  type TakeOverOptions,
  type TakeOverResult,
  TakingOver,
  takeOverEnd,
} from './taking-over.ts'
import { assertNoView, type BecameView, becomeView, unbecomeView } from './views.ts'

/** What an attachment needs of the database that it attaches. */
export interface Attachable {
  readonly site: Site
  readonly transports: TransportRegistry
  readonly masterSetting: MasterSetting
  adoptMaster(master: Master): void
  beginAttachment(attachment: AnyAttachment, options: AttachOptions): void
  endAttachment(attachment: AnyAttachment): void
  close(): Promise<void>
}

/** An attachment of whatever database. */
export type AnyAttachment = Pick<
  Attachment<Attachable>,
  'stop' | 'stopped' | 'endForPromotion' | 'takeOver' | 'isBecomingMaster'
>

const connectTimeoutMsDefault = 10_000
const eventsKeptMax = 10_000
/** Between two tries to reach a master that was named, or the one that owes an answer. */
const retryMs = 50
/** Attaching again by itself, and for how long. */
interface Reattaching {
  readonly why: ReattachReason
  readonly until: number
}

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
  readonly #attach: AttachOptions
  #links: Links | undefined
  #resolveSynced: ((result: SyncResult) => void) | undefined
  #rejectSynced: ((error: CoterieError) => void) | undefined
  #resolveStopped: ((result: StopResult) => void) | undefined
  #offs: (() => void)[] = []
  #phase: 'opening' | 'connecting' | 'following' | 'reigning' | 'ended' = 'opening'
  #address = ''
  #isSynced = false
  #reattaching: Reattaching | undefined
  #taking: TakingOver | undefined
  #leaving: Leaving | undefined
  readonly #connecting = new AbortController()
  /** The database knows of this attachment. */
  #isBegun = false
  /** This attachment has made the site a view: what it was, until a master has let it in. */
  #wasBefore: BecameView | undefined
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
    this.#attach = options.attach
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
  }): Promise<void> {
    const { target } = options
    checkAttach(this.#attach)
    const { signal, takeOver, view } = this.#attach
    if (takeOver !== undefined && takeOver !== true) checkTakeOver('attachMaster', takeOver)
    this.#address = parseAddress(options.address).text
    if (signal?.aborted === true) {
      this.#leaving = 'cancel'
      throw abortedBy(signal)
    }
    this.#listenTo(signal)
    const db = typeof target === 'function' ? await target() : target
    this.#db = db
    db.beginAttachment(this, this.#attach)
    this.#isBegun = true
    this.#links = new Links({ site: db.site, transports: db.transports, link: linkOptionsOf(this.#attach) })
    this.#links.checkUse(this.#address)
    this.#phase = 'connecting'
    await db.site.roles.abdicate()
    this.#wasBefore = await becomeView(db.site, view)
    if (takeOver !== undefined) assertNoView(db.site, 'never becomes master')
    this.#watch(db)
    await this.#follow(this.#connectTimeoutMs)
  }

  get #connectTimeoutMs(): number {
    return this.#attach.connectTimeoutMs ?? connectTimeoutMsDefault
  }

  /** Connects and asks to be let in. */
  async #follow(connectTimeoutMs: number): Promise<void> {
    const { site } = this.db
    const address = this.#address
    this.#phase = 'connecting'
    const resume = await site.resumable()
    const connection = await (this.#links as Links).connect({
      address,
      connectTimeoutMs: Math.max(1, Math.round(connectTimeoutMs)),
      signal: this.#connecting.signal,
    })
    if (this.#isLeaving || site.engine.failure !== undefined) {
      connection.destroy()
      throw site.engine.failure ?? new CoterieError('ABORTED', 'the attachment was ended while it connected')
    }
    this.#phase = 'following'
    this.emit('connected', { address })
    const { replace, sync, initialTimeoutMs, silenceTimeoutMs } = this.#attach
    try {
      site.follow(connection, {
        address,
        ...(resume === undefined ? {} : { resume }),
        // What was set aside once must not be again because another master was named.
        ...(replace === undefined || this.#isSynced ? {} : { replace }),
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

  #watch(db: Db): void {
    const { events } = db.site
    this.#offs.push(
      events.on('core', (event) => this.#heard(db, event)),
      events.on('rewound', ({ to, lost }) => {
        this.emit('rewound', { to, transactions: lost?.transactions ?? 0, file: lost?.file })
      }),
      events.on('stopped', (stopped) => this.#stoppedFollowing(stopped)),
      events.on('elected', () => void this.#reign(db)),
      events.on('failed', (cause) => {
        if (db.site.engine.failure !== undefined) this.#endWith('apply-failed', cause)
      }),
    )
  }

  #heard(db: Db, event: CoreEvent): void {
    switch (event.kind) {
      case 'newMaster':
        this.#wasBefore = undefined
        this.#letIn()
        db.site.roles
          .becomeReplica(event.address ?? this.#address, event.sites)
          .catch((error: unknown) => db.site.engine.fail(error))
        this.emit('newMaster', { site: event.site, term: event.term })
        return
      case 'synced': {
        const { how, from, to, transactions, bytes, ms } = event
        const result = { kind: how, from, to, transactions, bytes, ms }
        const isFirst = !this.#isSynced
        this.#isSynced = true
        this.emit('synced', result)
        this.#resolveSynced?.(result)
        if (isFirst) this.#takeOverAsAsked()
        return
      }
      case 'handOverFailed':
        if (event.site === db.site.site) this.#failTakeOver(refusalOf(event, db.site.masterAddress))
        return
      default:
        tellSync(this, event)
    }
  }

  // ---- other masters -----------------------------------------------------------------------------------------

  /** A master has accepted this site. */
  #letIn(): void {
    const why = this.#reattaching?.why
    this.#reattaching = undefined
    if (why !== 'takeOver') return
    const message = 'the connection was lost before the master had handed over; it goes on as before'
    this.#failTakeOver(new CoterieError('TRANSFER_FAILED', message))
  }

  #stoppedFollowing(stopped: Stopped): void {
    if (stopped.reason === 'became-master') {
      // The effect `elected` follows as soon as the term is on disk.
      this.#phase = 'reigning'
      return
    }
    if (!this.#isLeaving && this.#goesOn(stopped)) return
    const { code, message, master } = stopped
    const details = master === undefined || master === '' ? {} : { master }
    const cause = code === undefined ? undefined : new CoterieError(code, message, { details })
    this.#endWith(code === 'REPLACED' ? 'replaced' : stopped.reason, cause)
  }

  /** Whether the attachment attaches again by itself. */
  #goesOn(stopped: Stopped): boolean {
    const next = nextAttach(stopped, {
      address: this.#address,
      isReattaching: this.#reattaching !== undefined,
      isTakeOverAsked: this.#taking?.isAsked === true,
    })
    if (next === undefined) return false
    if (next.address !== undefined) this.#moveTo(next.address)
    if (next.how === 'retry') this.#tryAgain(next.cause)
    else this.#reattach(next.how)
    return true
  }

  #moveTo(address: string): void {
    this.#address = address
    this.#failTakeOver(new CoterieError('TRANSFER_FAILED', `another site has taken over, at ${address}`))
  }

  #reattach(why: ReattachReason): void {
    this.#reattaching = { why, until: this.db.site.now() + this.#connectTimeoutMs }
    this.#attempt()
  }

  #attempt(): void {
    const left = (this.#reattaching?.until ?? 0) - this.db.site.now()
    this.#follow(left).catch((error: unknown) => this.#tryAgain(asCoterie(error)))
  }

  #tryAgain(cause: CoterieError): void {
    if (this.#phase === 'ended') return
    const { site } = this.db
    const until = this.#reattaching?.until ?? 0
    this.#phase = 'connecting'
    if (this.#isLeaving || site.engine.failure !== undefined || site.now() >= until) {
      this.#endWith('connection-lost', cause)
      return
    }
    const again = (): void => {
      if (this.#phase !== 'connecting') return
      if (this.#isLeaving) this.#endWith('connection-lost', cause)
      else this.#attempt()
    }
    // Between two tries there is no socket that would keep a program going which waits for `stopped` alone.
    site.engine.host.timers.after(retryMs, again, { keepsAlive: true })
  }

  // ---- becoming master ---------------------------------------------------------------------------------------

  /**
   * Asks the master to hand over to this site (eXtremeDB's FORCE_MASTER): commits under way resolve there, those that
   * come wait, and this site goes on at the very next LSN in a new term. Resolves when it takes writes; then
   * `stopped` says `became-master`.
   *
   * TRANSFER_FAILED: the master has refused, or could not hand over in time; nothing has changed and the attachment
   * goes on. NOT_MASTER, naming the master: so it is where this site is attached to a replica that serves in its turn.
   * CONNECTION_CLOSED: the connection broke while the answer was due and the master was not reached again
   * in `connectTimeoutMs`, so that it is unknown whether it has given up; the attachment has ended, and `promote` makes
   * this site the master if the old one is none any more. INVALID_STATE, ADDRESS_IN_USE, ABORTED.
   */
  takeOver(options: TakeOverOptions = {}): Promise<TakeOverResult> {
    return this.#takeOver('takeOver', options)
  }

  async #takeOver(call: string, options: TakeOverOptions): Promise<TakeOverResult> {
    checkTakeOver(call, options)
    if (this.#db !== undefined) assertNoView(this.#db.site, 'never becomes master')
    if (this.#taking !== undefined) throw new CoterieError('INVALID_STATE', 'a takeover is under way')
    if (this.#isLeaving || this.#phase === 'ended' || this.#phase === 'reigning') {
      throw new CoterieError('INVALID_STATE', 'the attachment is ending')
    }
    await this.synced
    if (this.#taking !== undefined) throw new CoterieError('INVALID_STATE', 'a takeover is under way')
    // Whoever was let in with a proof asks for one as master, too, unless it is told otherwise.
    const taking = new TakingOver(this.db.masterSetting, { ...linkOptionsOf(this.#attach), ...options })
    this.#taking = taking
    try {
      await taking.listen()
      // The core may have ended the attachment, and its word of it may wait for the disk.
      const isAttached = this.#phase === 'following' && this.db.site.core.role === 'replica'
      if (!isAttached || this.#isLeaving || this.#reattaching !== undefined) {
        throw new CoterieError('TRANSFER_FAILED', 'this site follows no master at the moment')
      }
      // A master that does not answer may have given up: that is settled as a lost connection is.
      taking.ask(() => this.#loseMaster())
    } catch (error) {
      taking.fail(error)
    }
    try {
      return await taking.done
    } finally {
      if (this.#taking === taking) this.#taking = undefined
    }
  }

  #loseMaster(): void {
    if (this.#phase === 'following' && this.#reattaching === undefined) this.db.site.leave('cancel')
  }

  #failTakeOver(error: CoterieError): void {
    this.#taking?.fail(error)
  }

  #takeOverAsAsked(): void {
    const { takeOver } = this.#attach
    if (takeOver === undefined) return
    this.#takeOver('attachMaster', takeOver === true ? {} : takeOver).catch((error: unknown) =>
      this.emit('takeOverFailed', { error: asCoterie(error) }),
    )
  }

  /** Internal: the reign begins, and then the attachment ends. */
  get isBecomingMaster(): boolean {
    return this.#phase === 'reigning'
  }

  /** The old master has given its place to this site, asked or not. */
  async #reign(db: Db): Promise<void> {
    if (this.#phase !== 'reigning') return
    try {
      if (this.#taking === undefined) await reignAsGiven(db.masterSetting, {}, '')
      else await this.#taking.reign((master) => db.adoptMaster(master))
      this.#endWith('became-master', undefined)
    } catch (thrown) {
      // The old master has given up: it does not go on, whatever this is.
      const error = asCoterie(thrown)
      this.#failTakeOver(error)
      this.#endWith(db.site.engine.failure === undefined ? 'replaced' : 'apply-failed', error)
    }
  }

  // ---- the end -----------------------------------------------------------------------------------------------

  /**
   * Ends the attachment after all that was received is durable and acknowledged; what of it the master has called
   * committed can be read. The database stays open, read-only.
   */
  async stop(): Promise<void> {
    // Whether this site is to be master is not left open, where the answer is only a moment away.
    if (this.#taking?.isAsked === true && this.#reattaching === undefined) {
      await this.#taking.done.catch(() => undefined)
    }
    this.#leave('stop')
    await this.stopped
  }

  /** Ends it because this site is about to become master itself. */
  async endForPromotion(): Promise<void> {
    this.#leave('promote')
    await this.stopped
  }

  #leave(how: Leaving): void {
    if (this.#phase === 'ended' || this.#phase === 'reigning' || this.#leaving !== undefined) return
    this.#leaving = how
    if (this.#phase === 'following') this.#leaveMaster()
    else this.#connecting.abort(this.#attach.signal?.reason)
  }

  #endWith(reason: StopResult['reason'], cause: CoterieError | undefined): void {
    if (this.#phase === 'ended') return
    const early = this.#phase !== 'following' && this.#phase !== 'reigning'
    this.#phase = 'ended'
    for (const off of this.#offs) off()
    this.#offs = []
    this.#reattaching = undefined
    const left = reason === 'became-master' ? undefined : this.#leaving
    const before = this.#wasBefore
    if (before === undefined) {
      this.#finish(reason, { cause, left, early })
      return
    }
    // Nobody else attaches, or writes, before the site is again what it was.
    unbecomeView(this.db.site, before).then(
      () => this.#finish(reason, { cause, left, early }),
      (error: unknown) => this.#finish(reason, { cause: asCoterie(error), left, early }),
    )
  }

  #finish(
    reason: StopResult['reason'],
    end: {
      readonly cause: CoterieError | undefined
      readonly left: Leaving | undefined
      readonly early: boolean
    },
  ): void {
    const { cause, left, early } = end
    const db = this.#db
    const result: StopResult = {
      ...stopCause(reason, end),
      lsn: db?.site.core.lastLsn ?? 0,
      term: db?.site.core.term ?? 0,
    }
    if (early && cause !== undefined && left === undefined) this.emit('connectFailed', { error: cause })
    this.#rejectSynced?.(
      cause ??
        new CoterieError('ABORTED', `the attachment ended before it was synchronised (${result.reason})`),
    )
    this.#failTakeOver(takeOverEnd(result))
    if (this.#isBegun) {
      db?.site.roles.resumeReign()
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

/** Of a takeover; whoever is no master itself is not the one to ask. */
function refusalOf(
  { code, message }: { readonly code: ErrorCode; readonly message: string },
  master: string | undefined,
): CoterieError {
  const details = code === 'NOT_MASTER' && master !== undefined ? { master } : {}
  return new CoterieError(code, message, { details })
}

function abortedBy(signal: AbortSignal): CoterieError {
  return new CoterieError('ABORTED', 'the attachment was aborted', { cause: signal.reason })
}

function asCoterie(error: unknown): CoterieError {
  if (isCoterieError(error)) return error
  return new CoterieError('HANDSHAKE_FAILED', asError(error).message, { cause: error })
}
