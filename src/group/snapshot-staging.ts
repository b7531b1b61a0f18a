// The replica's side of a snapshot: rows go into a store folder of their own, beside the one in use. When all are
// there and durable, a log that begins behind them is made, and one replacement of the state file puts both to use.
//
// A crash before that leaves the old data, and the staged rows to be resumed; a crash after it leaves the new.

import type { RecordPlace } from '../base/batch.ts'
import { CoterieError } from '../base/errors.ts'
import { entryAt, type History } from '../base/history.ts'
import { type Lsn, lsnPlus } from '../base/lsn.ts'
import { decodeRows } from '../base/row-run.ts'
import type { Engine } from '../database/engine.ts'
import type { SiteState } from '../database/site-state.ts'
import { Log } from '../log/log.ts'
import type { MixedRows, SnapshotResume } from '../replication/core-options.ts'
import type { RowWrite, Store, StoreMeta } from '../store/store.ts'

/** Of the log that is copied at one time. */
const copyBytes = 1024 * 1024

export class SnapshotStaging {
  readonly #engine: Engine
  #generation: number | undefined
  #store: Store | undefined

  constructor(engine: Engine) {
    this.#engine = engine
  }

  /** What an earlier, broken snapshot has left, if it can be gone on with. */
  async resumable(): Promise<SnapshotResume | undefined> {
    const { folder, storeEngine } = this.#engine
    const generation = folder.state?.staging
    if (generation === undefined) return undefined
    if (this.#store === undefined) {
      if (!(await storeEngine.exists(folder.storePath(generation)))) return undefined
      this.#store = await storeEngine.open(folder.storePath(generation))
      this.#generation = generation
    }
    const { meta } = this.#store
    const afterKey = await lastKey(this.#store)
    if (meta === undefined || afterKey === undefined) return undefined
    const reign = entryAt(meta.history, meta.appliedLsn)
    const newest = entryAt(meta.history, meta.readableLsn)
    if (reign === undefined || newest === undefined) return undefined
    return {
      databaseId: meta.databaseId,
      base: { lsn: meta.appliedLsn, term: meta.appliedTerm, crc: meta.appliedCrc },
      reign,
      newest: { lsn: meta.readableLsn, reign: newest },
      afterKey,
    }
  }

  /** Makes the staging ready for rows; without `resume` whatever is in it goes. */
  async prepare(options: {
    databaseId: string
    base: RecordPlace
    history: History
    newest: MixedRows
    resume: boolean
  }): Promise<void> {
    const { databaseId, base, newest } = options
    // Only while rows are staged: of the reigns behind the base the one that wrote `newest` is all that has to be known.
    const { reign } = newest
    const isBehind = reign !== undefined && reign.firstLsn > base.lsn
    const history = isBehind ? [...options.history, reign] : options.history
    const meta = metaOf(databaseId, base, history, newest.lsn)
    if (options.resume && this.#store !== undefined) {
      // Before the rows, which the store keeps in order: none of them is ever there without it.
      await this.#store.write({ writes: [], meta })
      return
    }
    await this.discard()
    const { folder, storeEngine } = this.#engine
    const generation = folder.nextGeneration()
    await folder.saveState((state) => ({ ...(state as SiteState), staging: generation }))
    await storeEngine.destroy(folder.storePath(generation))
    this.#store = await storeEngine.open(folder.storePath(generation))
    this.#generation = generation
    await this.#store.write({ writes: [], meta })
  }

  /** Stores those that are kept of rows that came in order. SNAPSHOT_FAILED if the bytes are not whole rows. */
  async storeRows(chunks: readonly Uint8Array[]): Promise<void> {
    const { rowFilter } = this.#engine.keptStores
    const writes: RowWrite[] = []
    for (const bytes of chunks) {
      const rows = decodeRows(bytes)
      if (rows === undefined) throw new CoterieError('SNAPSHOT_FAILED', 'a chunk does not hold whole rows')
      for (const [key, value] of rows) {
        if (rowFilter === undefined || rowFilter.keeps(key)) writes.push({ key, value })
      }
    }
    await rowFilter?.settle()
    await (this.#store as Store).write({ writes })
  }

  /**
   * Completes rows and log, both durable. Then the generation that it returns may be put into the state. `kept`: records
   * of the log in use that go over.
   */
  async complete(options: {
    readonly databaseId: string
    readonly base: RecordPlace
    readonly history: History
    readonly readableLsn: Lsn
    readonly segmentBytes: number | undefined
    readonly kept?: { readonly from: Log; readonly to: Lsn } | undefined
  }): Promise<number> {
    const { base, history, databaseId, segmentBytes, kept } = options
    const store = this.#store as Store
    const generation = this.#generation as number
    await store.write({ writes: [], meta: metaOf(databaseId, base, history, options.readableLsn) })
    await store.flush()
    await store.close()
    this.#store = undefined
    const { folder, host } = this.#engine
    await folder.files.removeTree(folder.logPath(generation))
    const { log } = await Log.open({
      host,
      folder: folder.logPath(generation),
      databaseId,
      start: { place: base, history },
      ...(segmentBytes === undefined ? {} : { segmentBytes }),
    })
    try {
      if (kept !== undefined) await copyRecords(kept.from, log, kept.to)
    } finally {
      await log.close()
    }
    return generation
  }

  /** Lets go of the staged rows without removing them: a later attachment may go on. */
  async release(): Promise<void> {
    const store = this.#store
    this.#store = undefined
    await store?.close()
  }

  async discard(): Promise<void> {
    await this.release()
    const { folder, storeEngine } = this.#engine
    const generation = folder.state?.staging
    this.#generation = undefined
    if (generation === undefined) return
    await storeEngine.destroy(folder.storePath(generation))
    await folder.saveState((state) => ({ ...(state as SiteState), staging: undefined }))
  }
}

/** Behind what `log` has, up to `to`, durably. */
async function copyRecords(from: Log, log: Log, to: Lsn): Promise<void> {
  while (log.lastLsn < to) {
    log.append(await from.read({ from: lsnPlus(log.lastLsn, 1), to, bytesMax: copyBytes }))
    await log.whenDurable(log.lastLsn)
  }
}

function metaOf(databaseId: string, base: RecordPlace, history: History, readableLsn: Lsn): StoreMeta {
  return {
    databaseId,
    appliedLsn: base.lsn,
    appliedTerm: base.term,
    appliedCrc: base.crc,
    readableLsn,
    history,
  }
}

async function lastKey(store: Store): Promise<Uint8Array | undefined> {
  const snapshot = store.snapshot()
  try {
    const [last] = await snapshot.iterate({ reverse: true, limit: 1 }).next(1)
    return last?.[0]
  } finally {
    await snapshot.close()
  }
}
