// What one generation of a database consists of: its log, the store that the log has been applied to, the applier
// between them, and in front of the store the row cache and the overlay of what is logged but not yet applied.
//
// A snapshot that is installed brings a new generation. The old one is closed once its last reader has gone.

import type { RecordBatch } from '../base/batch.ts'
import { CoterieError, isCoterieError } from '../base/errors.ts'
import { historyUpTo } from '../base/history.ts'
import { type Lsn, lsnMax, lsnPlus, noLsn } from '../base/lsn.ts'
import { decodeMembers, type Membership } from '../base/membership.ts'
import type { Host } from '../env/host.ts'
import { Log } from '../log/log.ts'
import type { RecoveryReport } from '../log/recovery.ts'
import { Applier } from '../store/applier.ts'
import { Overlay } from '../store/overlay.ts'
import { RowCache } from '../store/row-cache.ts'
import type { Store, StoreEngine } from '../store/store.ts'
import type { DatabaseFolder } from './database-folder.ts'
import type { KeptStores } from './kept-stores.ts'
import { membersKey } from './system-keys.ts'

export interface PartsOptions {
  readonly host: Host
  readonly folder: DatabaseFolder
  readonly storeEngine: StoreEngine
  readonly databaseId: string
  readonly generation: number
  /** What is known to have been durable; a log that ends before it is damaged, not torn. */
  readonly durableAtLeast: Lsn
  readonly segmentBytes: number | undefined
  readonly cacheBytes: number | undefined
  readonly applyBatch: ApplyBatch
  readonly keptStores: KeptStores
  /** A master can give the rows again: where they are lost, and the log does not have them, the database opens without. */
  readonly mayLackRows: boolean
  readonly onApplied: (appliedLsn: Lsn) => void
  readonly onFailed: (error: CoterieError) => void
}

/** How the applier gathers records into one change of the store (eXtremeDB's batch commit). */
export interface ApplyBatch {
  /** At most so many. */
  readonly transactions?: number
  /** At most so many bytes. */
  readonly bytes?: number
  /** How long to wait for more, in ms. Default 0: not at all. */
  readonly delayMs?: number
}

/**
 * Nobody waits for the store but readers, who end the delay; and a batch for each group commit would cost more than
 * the commits (measured: half of all processor time at 16 committers).
 */
const applyDelayMs = 2

export class Parts {
  readonly generation: number
  readonly log: Log
  readonly store: Store
  readonly applier: Applier
  readonly overlay: Overlay
  readonly cache: RowCache
  readonly recovery: RecoveryReport
  /** The store was damaged and has been made anew from the log. */
  readonly rebuilt: boolean
  /** Nothing up to here can be taken back: the store has no undo for it. */
  readonly permanentLsn: Lsn
  /** Of the members' row in the store, where the log has no members record. */
  #storedMembership: Membership | undefined
  #readers = 0
  #retired: (() => void) | undefined

  private constructor(parts: {
    generation: number
    log: Log
    store: Store
    applier: Applier
    overlay: Overlay
    cache: RowCache
    recovery: RecoveryReport
    rebuilt: boolean
    permanentLsn: Lsn
  }) {
    this.generation = parts.generation
    this.log = parts.log
    this.store = parts.store
    this.applier = parts.applier
    this.overlay = parts.overlay
    this.cache = parts.cache
    this.recovery = parts.recovery
    this.rebuilt = parts.rebuilt
    this.permanentLsn = parts.permanentLsn
  }

  /**
   * LOG_DAMAGED; STORE_FAILED if the store is damaged, and the log does not reach back far enough to rebuild it, and no
   * master is there to ask.
   */
  static async open(options: PartsOptions): Promise<Parts> {
    const { host, folder, generation, databaseId } = options
    let store = await openStore(options)
    const durableAtLeast = Math.max(options.durableAtLeast, store?.meta?.appliedLsn ?? 0) as Lsn
    let log: Log
    let recovery: RecoveryReport
    try {
      ;({ log, recovery } = await Log.open({
        host,
        folder: folder.logPath(generation),
        databaseId,
        durableAtLeast,
        ...(options.segmentBytes === undefined ? {} : { segmentBytes: options.segmentBytes }),
      }))
    } catch (error) {
      await store?.close()
      throw error
    }
    let rebuilt = false
    let permanentLsn: Lsn
    try {
      if (store === undefined || !(await fits(store, log))) {
        rebuilt = true
        const damaged = store
        store = undefined
        await damaged?.close()
        store = await emptyStore(options, log)
      }
      const { oldestUndoLsn, meta } = store
      permanentLsn = oldestUndoLsn === undefined ? (meta?.appliedLsn ?? noLsn) : lsnPlus(oldestUndoLsn, -1)
    } catch (error) {
      await store?.close()
      await log.close()
      throw error
    }
    const cache = new RowCache(options.cacheBytes === undefined ? {} : { bytesMax: options.cacheBytes })
    const applier = new Applier({
      store,
      databaseId,
      timers: host.timers,
      cache,
      rowFilter: () => options.keptStores.rowFilter,
      source: (from, bytesMax): Promise<RecordBatch> => log.read({ from, bytesMax }),
      onApplied: options.onApplied,
      onFailed: options.onFailed,
    })
    const overlay = new Overlay()
    const all = { generation, log, store, applier, overlay, cache, recovery, rebuilt, permanentLsn }
    const parts = new Parts(all)
    parts.applyBy(options.applyBatch)
    try {
      await parts.readStoredMembership()
    } catch (error) {
      await parts.close({ waitForReaders: false })
      throw error
    }
    return parts
  }

  /**
   * Who belongs to the group: what the last members record in the log says, whether or not it is applied. Where the
   * log has none, the row of the store: its record is older than the log, and `lsn` is the latest that it can have.
   */
  get membership(): Membership | undefined {
    return this.log.membership ?? this.#storedMembership
  }

  /** Looks at the members' row again: the applier has gone back. FORMAT_UNSUPPORTED if it cannot be read. */
  async readStoredMembership(): Promise<void> {
    const value = await this.store.get(membersKey.bytes)
    const members = value === undefined ? undefined : decodeMembers(value)
    // The store verifies its rows, and only members records that could be read have been applied.
    if (value !== undefined && members === undefined) {
      throw new CoterieError('FORMAT_UNSUPPORTED', 'the members in the store are of a later version')
    }
    this.#storedMembership = members && { ...members, lsn: lsnPlus(this.log.firstLsn, -1) }
  }

  get appliedLsn(): Lsn {
    return this.applier.appliedLsn
  }

  /** How the applier gathers records from now on. */
  applyBy({ transactions, bytes, delayMs = applyDelayMs }: ApplyBatch): void {
    this.applier.gatherBy({ recordsMax: transactions, bytesMax: bytes, delayMs })
  }

  /** Reads are consistent: a snapshot that was resumed has been caught up by the log. */
  get readable(): boolean {
    return this.appliedLsn >= (this.store.meta?.readableLsn ?? noLsn)
  }

  /** A reader keeps the store open until it lets go. */
  lease(): () => void {
    this.#readers++
    let held = true
    return () => {
      if (!held) return
      held = false
      if (this.#readers === 0) return
      this.#readers--
      if (this.#readers === 0) this.#retired?.()
    }
  }

  /** The database is being closed: `close` waits for no reader any more. */
  dropReaders(): void {
    this.#readers = 0
    this.#retired?.()
  }

  /** Ends the writing side at once; the store is closed when its last reader has gone. */
  async close(options: { waitForReaders: boolean }): Promise<void> {
    await this.applier.close()
    try {
      await this.log.close()
    } finally {
      if (options.waitForReaders && this.#readers > 0) {
        await new Promise<void>((resolve) => {
          this.#retired = resolve
        })
      }
      await this.store.close()
    }
  }
}

/**
 * In place of a damaged one: the log has all that goes into it, or a snapshot will bring it. What it showed before is
 * shown again or not at all.
 */
async function emptyStore(options: PartsOptions, log: Log): Promise<Store> {
  const { storeEngine, folder, generation, databaseId, mayLackRows } = options
  const path = folder.storePath(generation)
  const isLost = log.firstLsn > 1
  if (isLost && !mayLackRows) {
    throw new CoterieError(
      'STORE_FAILED',
      `the store ${path} is damaged and the log does not reach back to its beginning: restore a backup, or attach an empty folder to a master`,
      { details: { path, firstLsn: log.firstLsn } },
    )
  }
  await storeEngine.destroy(path)
  const store = await storeEngine.open(path)
  try {
    const place = await log.placeOf(lsnPlus(log.firstLsn, -1))
    const begin = {
      appliedLsn: place.lsn,
      appliedTerm: place.term,
      appliedCrc: place.crc,
      history: historyUpTo(log.history, place.lsn),
    }
    const readableLsn = isLost ? lsnMax : log.lastLsn
    await store.write({ writes: [], meta: { databaseId, ...begin, readableLsn } })
  } catch (error) {
    await store.close()
    throw error
  }
  return store
}

async function openStore(options: PartsOptions): Promise<Store | undefined> {
  try {
    return await options.storeEngine.open(options.folder.storePath(options.generation))
  } catch (error) {
    if (isCoterieError(error, 'STORE_FAILED')) return undefined
    throw error
  }
}

/** Whether the store is a state that this log has been through. */
async function fits(store: Store | undefined, log: Log): Promise<boolean> {
  if (store === undefined) return false
  const { meta } = store
  if (meta === undefined) return log.firstLsn <= 1
  if (meta.databaseId !== log.databaseId) return false
  if (meta.appliedLsn > log.lastLsn || meta.appliedLsn < log.firstLsn - 1) return false
  const place = await log.placeOf(meta.appliedLsn)
  return place.crc === meta.appliedCrc
}
