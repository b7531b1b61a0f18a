// A database: what `open` gives to a program. The data is in NamedStore and Transaction; here is what concerns the
// database as a whole: its life, its roles, its maintenance, and what it says of itself.

import type { RecordPlace } from '../base/batch.ts'
import { Emitter, type Listener } from '../base/emitter.ts'
import { CoterieError, isCoterieError } from '../base/errors.ts'
import type { Lsn } from '../base/lsn.ts'
import { abortSignal, anything, checkOptions, type OptionRules, wholeNumber } from '../base/options.ts'
import { type BackupOptions, type BackupResult, writeBackup } from '../database/backup.ts'
import { type Change, type ChangesOptions, readChanges } from '../database/changes.ts'
import { type Encoding, encodingRules } from '../database/encoding.ts'
import type { Engine } from '../database/engine.ts'
import { KeySpace } from '../database/key-space.ts'
import { commitRules, NamedStore, type StoreEncodings } from '../database/named-store.ts'
import { type LogRecord, type RecordsOptions, readRecords } from '../database/records.ts'
import type { Retention } from '../database/retention.ts'
import { Snapshot } from '../database/snapshot.ts'
import { type StoreStat, storeStats } from '../database/store-stats.ts'
import { type Outcome, outcomeOf, parseToken } from '../database/token.ts'
import {
  runTransaction,
  Transaction,
  type TransactOptions,
  type TransactResult,
} from '../database/transaction.ts'
import type { Files } from '../env/host.ts'
import { type Digest, digestOf } from '../store/digest.ts'
import type { TransportRegistry } from '../transport/registry.ts'
import type { AttachOptions } from './attach-options.ts'
import type { AnyAttachment, Attachable } from './attachment.ts'
import type { DatabaseEvents } from './events.ts'
import { Group } from './group.ts'
import type { JoinOptions } from './join-options.ts'
import { Master, type MasterSetting } from './master.ts'
import { Replication } from './replication.ts'
import type { ReplicationOptions } from './replication-options.ts'
import { checkServe, type ServeOptions } from './serve-options.ts'
import type { Site } from './site.ts'
import { type DatabaseStatus, databaseStatus } from './status.ts'
import type { TakeOverOptions, TakeOverResult } from './taking-over.ts'
import { assertNoView } from './views.ts'
import { Witness } from './witness.ts'

export interface DatabaseParts {
  readonly location: string
  readonly engine: Engine
  readonly site: Site
  readonly transports: TransportRegistry
  readonly keyEncoding: Encoding
  readonly valueEncoding: Encoding
  readonly maxAttempts: number | undefined
  readonly retain: Retention
  /** Where backups go: the real files, where those of the database are in memory. */
  readonly outsideFiles: Files
}

export interface VerifyResult {
  readonly log: { readonly records: number; readonly bytes: number; readonly segments: number }
  readonly store: { readonly rows: number; readonly bytes: number; readonly digest: string }
}

export interface Progress {
  readonly done: number
  /** An estimate, where the size is not known beforehand. */
  readonly total?: number
}

const partialBackup = 'that does not keep every store has no backup: make it of another site'
const progressRules: OptionRules = { onProgress: anything }
const transactRules: OptionRules = { ...commitRules, maxAttempts: wholeNumber(1, 1_000_000) }

export class Database<K = string, V = string>
  extends NamedStore<K, V>
  implements Attachable, AsyncDisposable
{
  /** The folder, or `:memory:`. */
  readonly location: string
  /** The driver behind this handle. Internal: no part of the public contract. */
  readonly site: Site
  /** Internal. */
  readonly transports: TransportRegistry
  /** Internal. */
  readonly masterSetting: MasterSetting
  readonly #engine: Engine
  readonly #parts: DatabaseParts
  readonly #events = new Emitter<DatabaseEvents>()
  #attachment: AnyAttachment | undefined
  #master: Master | undefined
  #closing: Promise<void> | undefined
  /** `serve` is under way. */
  #isStarting = false
  #group: Group | undefined

  constructor(parts: DatabaseParts) {
    const { engine, keyEncoding, valueEncoding } = parts
    super({ engine, name: '', keyEncoding, valueEncoding })
    this.location = parts.location
    this.site = parts.site
    this.transports = parts.transports
    this.#engine = engine
    this.#parts = parts
    const witness = new Witness(engine.host.timers)
    const serving = (): Master | undefined => this.#master
    this.masterSetting = { site: this.site, transports: this.transports, witness, serving }
    const { events } = this.site
    events.on('role', (event) => this.#events.emit('role', event))
    events.on('failed', (error) => this.#events.emit('failed', error))
    events.on('damaged', (error) => this.#events.emit('damaged', error))
    events.on('stalled', (error) => this.#events.emit('stalled', error))
    events.on('resumed', () => this.#events.emit('resumed', undefined))
    events.on('rewound', ({ to, lost }) =>
      this.#events.emit('rewound', { to, transactions: lost?.transactions ?? 0, file: lost?.file }),
    )
  }

  /** The durable id of this site. */
  get siteId(): string {
    return this.site.site
  }

  /** The identity of the database, the same on every site; undefined on a replica that has no data yet. */
  get databaseId(): string | undefined {
    return this.#engine.folder.state?.databaseId
  }

  // ---- stores and transactions -------------------------------------------------------------------------------

  /** A named store. It needs no creation, and is gone when its last row is. */
  store<SK = string, SV = string>(name: string, encodings: StoreEncodings = {}): NamedStore<SK, SV> {
    checkOptions('store', encodings, encodingRules)
    if (typeof name !== 'string') throw new TypeError("a store's name is a string")
    return new NamedStore<SK, SV>({
      engine: this.#engine,
      name,
      keyEncoding: encodings.keyEncoding ?? this.#parts.keyEncoding,
      valueEncoding: encodings.valueEncoding ?? this.#parts.valueEncoding,
    })
  }

  /**
   * Runs a function whose reads and writes are one serialisable transaction. A synchronous one runs once, in one
   * turn. An async one may be run again when it conflicts with others, up to `maxAttempts` (10) times. If the
   * function throws, nothing is written and its error is passed on.
   *
   * Errors: CONFLICT, NOT_MASTER, NO_QUORUM, OUTCOME_UNKNOWN, LAG_EXCEEDED, DISK_FULL, LOG_POISONED,
   * TRANSACTION_TOO_LARGE, KEY_INVALID, VALUE_INVALID, CLOSED.
   */
  transact<R>(
    fn: (tx: Transaction<K, V>) => R | Promise<R>,
    options: TransactOptions = {},
  ): Promise<TransactResult<R>> {
    const { maxAttempts, keyEncoding, valueEncoding } = this.#parts
    try {
      if (typeof fn !== 'function') throw new TypeError('transact takes a function')
      checkOptions('transact', options, transactRules)
    } catch (error) {
      return Promise.reject(error as Error)
    }
    return runTransaction<R, K, V>({
      engine: this.#engine,
      fn,
      begin: (state) => new Transaction<K, V>(state, new KeySpace(''), { keyEncoding, valueEncoding }),
      commit: maxAttempts === undefined ? options : { maxAttempts, ...options },
    })
  }

  /** The whole database as it is now, for as long as the snapshot is held. Close it. */
  async snapshot(): Promise<Snapshot<K, V>> {
    const { keyEncoding, valueEncoding } = this.#parts
    return new Snapshot<K, V>(await this.#engine.snapshot(), { keyEncoding, valueEncoding })
  }

  /**
   * Committed transactions from an LSN on, and then live; on a partial view with the writes to all stores, as its log has
   * them. LOG_TRIMMED if the log does not reach back so far.
   */
  changes(options: ChangesOptions = {}): AsyncGenerator<Change, void, undefined> {
    return readChanges(this.#engine, options)
  }

  /** The records of the log as they stand, committed or not. */
  records(options: RecordsOptions = {}): AsyncGenerator<LogRecord, void, undefined> {
    return readRecords(this.#engine, options)
  }

  /**
   * What became of a commit, by its token, on any site of the group: applied here; not decided yet; or lost for
   * good. Waits up to `timeoutMs` (0) for a decision. TOKEN_INVALID for a token of another database.
   */
  async outcome(token: string, options: { readonly timeoutMs?: number } = {}): Promise<Outcome> {
    checkOptions('outcome', options, { timeoutMs: wholeNumber(0) })
    this.#engine.assertOpen()
    const { clock, timers } = this.#engine.host
    const deadline = clock.now() + (options.timeoutMs ?? 0)
    const parsed = parseToken(token, this.#engine.parts.log.databaseId)
    for (;;) {
      this.#engine.assertOpen()
      const { log, applier } = this.#engine.parts
      const { history, lastLsn } = log
      const { committedLsn, permanentLsn } = this.#engine
      // In a group a commit that asked for less than a majority may still be lost to the next master.
      const decidedLsn = this.site.inGroup && permanentLsn < committedLsn ? permanentLsn : committedLsn
      const outcome = outcomeOf(parsed, { history, lastLsn, committedLsn: decidedLsn })
      const readable = this.site.isWriter || applier.appliedLsn >= parsed.lsn
      if (outcome === 'lost' || (outcome === 'applied' && readable)) return outcome
      const left = deadline - clock.now()
      if (left <= 0) return 'pending'
      await new Promise<void>((resolve) => {
        timers.after(Math.min(left, 20), resolve)
      })
    }
  }

  // ---- roles -------------------------------------------------------------------------------------------------

  /**
   * Lets others attach (eXtremeDB's mco_HA_attach_replica; Berkeley DB's repmgr_start as master). A replica that is
   * not attached is promoted by it.
   *
   * A replica that is attached stays one and serves in its turn (eXtremeDB's cascade): it passes on what is permanent, and
   * keeps those who attach to it when it loses its master, until it has one again. They count for nothing with the master.
   * When it becomes master itself, it goes on serving at the same addresses. OPTION_INVALID for options that only a master
   * can keep: `sites`, `acks`, `attest`, `quorum`, `mode`, `maxLagBytes`, `onFull`, `window`, `ackTimeoutMs`,
   * `detachTimeoutMs`, `initialSync`, `allowTakeOver`, `handOverTimeoutMs`. An attachment may end at any moment, so a
   * program that means this says `inTurn: true`, which never promotes.
   *
   * ADDRESS_INVALID, ADDRESS_IN_USE, OPTION_UNKNOWN, OPTION_INVALID, INVALID_STATE while serving, in a group, on a view, or where `inTurn` does not fit
   * the role.
   */
  async serve(options: ServeOptions): Promise<Master> {
    this.#assertStaysOpen()
    this.#assertNoGroup()
    this.#assertOfNoGroup()
    assertNoView(this.site, 'serves nobody')
    await this.#whenBecomeMaster()
    if (this.#master !== undefined || this.#isStarting)
      throw new CoterieError('INVALID_STATE', 'this database is being served already')
    checkServe(options)
    const inTurn = this.#servesInTurn(options)
    this.#isStarting = true
    let master: Master
    try {
      master = await Master.start(this.masterSetting, options, { inTurn })
    } finally {
      this.#isStarting = false
    }
    if (this.#closing !== undefined) {
      await master.stop()
      throw new CoterieError('CLOSED', 'the database was closed while it began to serve')
    }
    this.adoptMaster(master)
    return master
  }

  #servesInTurn({ inTurn }: ServeOptions): boolean {
    const isAttached = this.#attachment !== undefined
    if (inTurn === true && !isAttached && this.site.role !== 'replica') {
      throw new CoterieError('INVALID_STATE', 'only a replica serves in its turn: attach this database first')
    }
    if (inTurn === false && isAttached) {
      throw new CoterieError('INVALID_STATE', 'an attached replica is no master: stop or promote it first')
    }
    return inTurn ?? isAttached
  }

  /** Who was given the mastership writes some moments before its attachment has ended. */
  async #whenBecomeMaster(): Promise<void> {
    const attachment = this.#attachment
    if (attachment?.isBecomingMaster !== true) return
    await attachment.stopped
    this.#assertStaysOpen()
  }

  /** INVALID_STATE while it is attached or served. */
  async #whenFree(): Promise<void> {
    await this.#whenBecomeMaster()
    if (this.#attachment === undefined && this.#master === undefined && !this.#isStarting) return
    throw new CoterieError('INVALID_STATE', 'this database is attached or served: end that first')
  }

  /** Internal: this database is served by it. */
  adoptMaster(master: Master): void {
    this.#master = master
    void master.stopped.then(() => {
      if (this.#master === master) this.#master = undefined
    })
  }

  /**
   * Takes part in a group that elects its own master (Berkeley DB's repmgr_start with elections). Resolves when this
   * site listens and takes part; `group.ready` says when it has the group's data. OPTION_UNKNOWN, OPTION_INVALID,
   * ADDRESS_INVALID, ADDRESS_IN_USE, ABORTED, INVALID_STATE while attached, serving or in a group already, or on a view.
   */
  async join(options: JoinOptions): Promise<Group> {
    this.#assertStaysOpen()
    this.#assertNoGroup()
    assertNoView(this.site, 'is no member of a group that elects')
    await this.#whenFree()
    this.#isStarting = true
    let group: Group
    try {
      await this.masterSetting.witness.end()
      group = await Group.join({ site: this.site, transports: this.transports }, options)
    } finally {
      this.#isStarting = false
    }
    if (this.#closing !== undefined) {
      await group.leave()
      throw new CoterieError('CLOSED', 'the database was closed while it joined')
    }
    this.#group = group
    void group.stopped.then(() => {
      if (this.#group === group) this.#group = undefined
    })
    return group
  }

  /**
   * Replicates over the application's own network, with elections that the application holds (Berkeley DB's Base API).
   * OPTION_UNKNOWN, OPTION_INVALID, VIEW_FILTER_FAILED, INVALID_STATE while attached, serving, in a group, or replicating
   * already, or where `view` is not what the database can be.
   */
  async replication(options: ReplicationOptions): Promise<Replication> {
    this.#assertStaysOpen()
    this.#assertNoGroup()
    this.#assertOfNoGroup()
    await this.#whenFree()
    this.#isStarting = true
    try {
      await this.masterSetting.witness.end()
      const replication = await Replication.open(this.site, options)
      this.#replication = replication
      replication.on('closed', () => {
        if (this.#replication === replication) this.#replication = undefined
      })
      return replication
    } finally {
      this.#isStarting = false
    }
  }

  #replication: Replication | undefined

  /** What `join` returned, until it has left. */
  get group(): Group | undefined {
    return this.#group
  }

  #assertNoGroup(): void {
    if (this.#replication !== undefined) {
      throw new CoterieError('INVALID_STATE', 'this database replicates by replication(): close that first')
    }
    if (this.#group === undefined) return
    throw new CoterieError('INVALID_STATE', 'this database is in a group: leave it first')
  }

  /** Whoever serves by hand beside a group that elects would be a second master. */
  #assertOfNoGroup(): void {
    if (!this.site.inGroup) return
    const message =
      'this site belongs to a group that elects its master: join() it, or go on alone by standalone()'
    throw new CoterieError('INVALID_STATE', message)
  }

  /** What `serve` returned, while it serves, as master or in its turn. */
  get master(): Master | undefined {
    return this.#master
  }

  get attachment(): AnyAttachment | undefined {
    return this.#attachment
  }

  /**
   * Makes this replica the master by the operator's hand, in a new term: the attachment, if there is one, ends with
   * `became-master`. Nobody else is asked; promote the site that has the most, and only when the old master is
   * gone. Then `serve()` lets the others attach; where it has served in its turn, it goes on. Without `sites` the group is
   * as large as its last master said; in one of a fixed size nothing becomes permanent before the others have it, so that a wrong choice can be undone.
   * On a site that is master already it changes nothing. INVALID_STATE on a view, which stays attached.
   */
  async promote(
    options: { readonly sites?: number } = {},
  ): Promise<{ readonly term: number; readonly lsn: number }> {
    checkOptions('promote', options, { sites: wholeNumber(1, 1000) })
    this.#assertStaysOpen()
    this.#assertNoGroup()
    this.#assertOfNoGroup()
    assertNoView(this.site, 'is never promoted')
    await this.#attachment?.endForPromotion()
    const { durability } = this.#engine
    const sites = options.sites ?? this.site.groupSites
    if (!this.site.isWriter) {
      const serving = this.#master?.asMaster
      await this.site.roles.reign('master', {
        ...serving,
        durability,
        ...(sites === undefined ? {} : { sites }),
      })
    }
    return { term: this.site.core.term, lsn: this.site.core.lastLsn }
  }

  /**
   * Asks the master that this replica is attached to, to hand over to it: see `Attachment.takeOver`, which says how it
   * can fail. The attachment ends with `became-master`. INVALID_STATE unless it is attached, and on a view. In a group it is
   * `group.takeOver`, which has the option `timeoutMs` alone.
   */
  async takeOver(options: TakeOverOptions = {}): Promise<TakeOverResult> {
    this.#assertStaysOpen()
    if (this.#group !== undefined) return await this.#group.takeOver(options)
    assertNoView(this.site, 'never becomes master')
    if (this.#attachment === undefined) {
      throw new CoterieError('INVALID_STATE', 'only an attached replica can take over; promote() asks nobody')
    }
    return await this.#attachment.takeOver(options)
  }

  /**
   * Goes on alone: a former replica, or the former master of a group, takes writes for itself. INVALID_STATE on a view: a
   * partial one would pass for a whole database; of a full one a backup can be restored, which is a site of its own.
   */
  async standalone(): Promise<void> {
    this.#assertStaysOpen()
    this.#assertNoGroup()
    assertNoView(this.site, 'takes no writes; restore a backup of a site that has every store')
    await this.#attachment?.endForPromotion()
    await this.#master?.stop()
    this.site.roles.forgetGroup()
    await this.site.roles.changeReign('standalone', { sites: 1, durability: this.#engine.durability })
    // Whoever goes on alone belongs to no group any more; without this it could never found one of its own.
    const members = this.#engine.membership?.members ?? []
    if (members.length > 0) await this.#engine.submitMembers({ members: [], removed: [] })
  }

  #assertStaysOpen(): void {
    this.#engine.assertOpen()
    if (this.#closing !== undefined) throw new CoterieError('CLOSED', 'the database is being closed')
  }

  /** Internal: an attachment takes hold of this database. */
  beginAttachment(attachment: AnyAttachment, options: AttachOptions): void {
    this.#assertStaysOpen()
    this.#assertNoGroup()
    if (this.#attachment !== undefined)
      throw new CoterieError('INVALID_STATE', 'this database is attached already')
    if (this.#master?.letsAttach === false || this.#isStarting) {
      throw new CoterieError(
        'INVALID_STATE',
        'a database that is being served cannot attach: stop serving first',
      )
    }
    this.#attachment = attachment
    this.#engine.applyBatch = options.applyBatch ?? {}
  }

  /** Internal. */
  endAttachment(attachment: AnyAttachment): void {
    if (this.#attachment !== attachment) return
    this.#attachment = undefined
    this.#engine.applyBatch = {}
  }

  // ---- maintenance -------------------------------------------------------------------------------------------

  /**
   * Writes a backup of now to a file, while reads and writes go on. ABORTED, DISK_FULL, IO_ERROR; INVALID_STATE on a partial
   * view, whose rows are not all.
   */
  async backup(file: string, options: BackupOptions = {}): Promise<BackupResult> {
    checkOptions('backup', options, { onProgress: anything, signal: abortSignal })
    this.#engine.assertOpen()
    if (this.site.view === 'partial') assertNoView(this.site, partialBackup)
    return await writeBackup(this.#engine, { files: this.#parts.outsideFiles, path: file, ...options })
  }

  /**
   * Reads all of the log and of the store, on a partial view of what it keeps, and checks every checksum. LOG_DAMAGED or
   * STORE_FAILED with the place.
   */
  async verify(options: { readonly onProgress?: (progress: Progress) => void } = {}): Promise<VerifyResult> {
    checkOptions('verify', options, progressRules)
    this.#engine.assertOpen()
    const { onProgress } = options
    const total = this.#engine.parts.log.lastLsn - this.#engine.parts.log.firstLsn + 1
    const log = await this.#engine.parts.log.verify((done) => onProgress?.({ done: done.records, total }))
    const { digest, rows, bytes } = await this.digest()
    return { log, store: { rows, bytes, digest } }
  }

  /**
   * A checksum over all rows, equal on sites with equal data, and the LSN that it holds for. That of a partial view is of
   * the rows that it keeps.
   */
  async digest(
    options: { readonly onProgress?: (progress: Progress) => void } = {},
  ): Promise<Digest & { readonly lsn: Lsn }> {
    checkOptions('digest', options, progressRules)
    const { onProgress } = options
    const snapshot = await this.#engine.snapshot()
    try {
      const digest = await digestOf(snapshot.rows, onProgress && (({ rows }) => onProgress({ done: rows })))
      return { ...digest, lsn: snapshot.lsn }
    } finally {
      await snapshot.close()
    }
  }

  /** Makes the store durable and removes log that neither it, nor a replica, nor the retention setting needs. */
  async checkpoint(): Promise<{ readonly lsn: number; readonly firstLsn: number }> {
    await this.#engine.checkpoint()
    return { lsn: this.#engine.checkpointLsn, firstLsn: this.#engine.parts.log.firstLsn }
  }

  /** As `checkpoint`, but keeps no log beyond what is needed now (Berkeley DB's db_archive -d). */
  async archive(): Promise<{ readonly removedSegments: number; readonly firstLsn: number }> {
    await this.#engine.checkpoint()
    return await this.#engine.trim({})
  }

  /** Names of the stores that have rows here; the unnamed one is the empty string. */
  async storeNames(): Promise<string[]> {
    return (await this.stat()).map((each) => each.name)
  }

  /** Rows and bytes of each store that has rows here. Reads all keys. */
  async stat(options: { readonly onProgress?: (progress: Progress) => void } = {}): Promise<StoreStat[]> {
    checkOptions('stat', options, progressRules)
    const snapshot = await this.#engine.snapshot()
    try {
      return await storeStats(snapshot.rows, (rows) => options.onProgress?.({ done: rows }))
    } finally {
      await snapshot.close()
    }
  }

  status(): DatabaseStatus {
    this.#engine.assertOpen()
    return databaseStatus(this.site, {
      attached: this.#attachment !== undefined,
      addresses: this.#master?.addresses ?? [],
      group: this.#group?.status(),
    })
  }

  // ---- events and the end ------------------------------------------------------------------------------------

  on<Name extends keyof DatabaseEvents>(name: Name, listener: Listener<DatabaseEvents[Name]>): () => void {
    return this.#events.on(name, listener)
  }

  off<Name extends keyof DatabaseEvents>(name: Name, listener: Listener<DatabaseEvents[Name]>): void {
    this.#events.off(name, listener)
  }

  /** Stops serving or following, makes everything durable, and lets go of the folder. May be called twice. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    const { folder } = this.#engine
    try {
      const last = await this.#end({ discard: false })
      if (last !== undefined && this.#engine.failure === undefined) await this.#markEnd(last)
    } finally {
      await folder.release()
    }
  }

  async #markEnd(last: RecordPlace): Promise<void> {
    const cleanEnd = { lsn: last.lsn, crc: last.crc }
    try {
      await this.#engine.folder.saveState((state) => {
        if (state === undefined) throw new CoterieError('INVALID_STATE', 'the state has gone')
        return { ...state, cleanEnd }
      })
    } catch (error) {
      // An unwritten mark of an orderly end costs nothing but a check at the next open.
      if (!isCoterieError(error, 'DISK_FULL') && !isCoterieError(error, 'IO_ERROR')) throw error
    }
  }

  /** Everything that moves has stopped when it resolves, or rejects; only the lock is still held. */
  async #end(options: { discard: boolean }): Promise<RecordPlace | undefined> {
    try {
      await this.#group?.leave()
      await this.#replication?.close()
      await this.#attachment?.stop()
      await this.#master?.stop()
      await this.masterSetting.witness.end()
      await this.site.close()
    } catch (error) {
      await this.#engine.close({ discard: true })
      throw error
    }
    return await this.#engine.close(options)
  }

  /** Closes the database and deletes it from the disk. CLOSED if it is closed: then the folder is not its own. */
  async destroy(): Promise<void> {
    if (this.#closing !== undefined) throw new CoterieError('CLOSED', 'the database is closed')
    const destroyed = this.#destroy()
    // Whoever closes it now waits for the same end; only `destroy` tells how it went.
    this.#closing = destroyed.catch(() => {})
    await destroyed
  }

  async #destroy(): Promise<void> {
    const { folder } = this.#engine
    try {
      await this.#end({ discard: true })
      await folder.destroy()
    } finally {
      await folder.release()
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
