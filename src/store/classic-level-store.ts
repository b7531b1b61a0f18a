// The store on disk, over `classic-level` (LevelDB). The files have been checked before (level-check.ts).
//
// Writes go one after the other: two at once could change places in the thread pool. A batch becomes visible when
// LevelDB has it: then a new view replaces the old one, together with the meta. Nothing is synced but by `flush`;
// after a crash LevelDB holds a prefix of the batches, and the log has the rest.
//
// Any failure of LevelDB, and any row that does not match its check, poisons the store: all that works then is
// `close`. The caller discards it and rebuilds it from a snapshot and the log.

import { assert } from '../base/assert.ts'
import { CoterieError } from '../base/errors.ts'
import type { Lsn } from '../base/lsn.ts'
import type { Files, OpenFile, Timers } from '../env/host.ts'
import { type Level, type LevelRowIterator, LevelView, type ViewOwner } from './classic-level-view.ts'
import { storeFailed } from './level-errors.ts'
import {
  decodeHistory,
  decodeMeta,
  decodeUndo,
  encodeHistory,
  encodeMeta,
  encodeUndo,
  historyKey,
  isDataKey,
  lsnOfUndoKey,
  metaKey,
  undoKey,
} from './own-rows.ts'
import { checkBytes, RowSealer, unsealRow } from './row-check.ts'
import type {
  RowIterator,
  RowRange,
  Store,
  StoreBatch,
  StoreMeta,
  StoreSnapshot,
  UndoEntry,
} from './store.ts'
import { UndoLsns } from './undo-lsns.ts'

export interface ClassicLevelStoreOptions {
  readonly level: Level
  readonly location: string
  readonly files: Files
  readonly timers: Timers | undefined
  /** Called last when it is closed. `healthy`: nothing has failed. */
  onClosed(end: { readonly healthy: boolean }): Promise<void>
}

/** Puts are handed to the binding in slices, about 2 ms each, so that a big batch does not hold up the loop. */
const sliceWrites = 4096
const sliceBytes = 4_194_304

export class ClassicLevelStore implements Store, ViewOwner {
  readonly batchWritesWanted = 4096
  readonly level: Level
  readonly #location: string
  readonly #files: Files
  readonly #timers: Timers | undefined
  readonly #onClosed: ClassicLevelStoreOptions['onClosed']
  #view: LevelView
  readonly #undoLsns: UndoLsns
  #failure: CoterieError | undefined
  #closing: Promise<void> | undefined
  /** Settles (never rejects) when the last write handed in is done. */
  #writing: Promise<unknown> = Promise.resolve()

  private constructor(
    options: ClassicLevelStoreOptions,
    own: { readonly meta: StoreMeta | undefined; readonly undoLsns: UndoLsns },
  ) {
    this.level = options.level
    this.#location = options.location
    this.#files = options.files
    this.#timers = options.timers
    this.#onClosed = (end) => options.onClosed(end)
    this.#undoLsns = own.undoLsns
    this.#view = new LevelView(this, own.meta)
  }

  /** `level` is open; on failure the caller closes it. */
  static async over(options: ClassicLevelStoreOptions): Promise<ClassicLevelStore> {
    const { level } = options
    const [sealedMeta, sealedHistory] = await level.getMany([metaKey, historyKey])
    let meta: StoreMeta | undefined
    if (sealedMeta !== undefined && sealedHistory !== undefined) {
      const metaBytes = unsealRow(metaKey, sealedMeta)
      const historyBytes = unsealRow(historyKey, sealedHistory)
      if (metaBytes === undefined || historyBytes === undefined) throw new Error('the meta is damaged')
      meta = decodeMeta(metaBytes, decodeHistory(historyBytes))
    }
    const undoKeys = await level.keys({ gt: undoKey(0 as Lsn), lt: Uint8Array.of(0xff) }).all()
    return new ClassicLevelStore(options, { meta, undoLsns: new UndoLsns(undoKeys.map(lsnOfUndoKey)) })
  }

  get meta(): StoreMeta | undefined {
    return this.#view.meta
  }

  get oldestUndoLsn(): Lsn | undefined {
    return this.#undoLsns.oldest
  }

  assertUsable(): void {
    if (this.#closing !== undefined) throw new CoterieError('CLOSED', 'the store is closed')
    if (this.#failure !== undefined) throw this.#failure
  }

  fail(cause: unknown): CoterieError {
    if (this.#closing !== undefined) return new CoterieError('CLOSED', 'the store is closed', { cause })
    this.#failure ??= storeFailed(this.#location, cause)
    return this.#failure
  }

  getSync(key: Uint8Array): Uint8Array | undefined {
    this.assertUsable()
    return this.#view.getSync(key)
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    this.assertUsable()
    return await this.#view.get(key)
  }

  async getMany(keys: readonly Uint8Array[]): Promise<(Uint8Array | undefined)[]> {
    this.assertUsable()
    return await this.#view.getMany(keys)
  }

  snapshot(): StoreSnapshot {
    this.assertUsable()
    return new LevelSnapshot(this, this.#view.share())
  }

  async write(batch: StoreBatch): Promise<void> {
    this.assertUsable()
    const done = this.#writing.then(() => this.#writeNow(batch))
    // Whoever waits for this one gets the error; those behind it find the store poisoned.
    this.#writing = done.catch(() => undefined)
    return await done
  }

  async undoAfter(lsn: Lsn): Promise<{ lsn: Lsn; entries: UndoEntry[] }[]> {
    this.assertUsable()
    const lsns = this.#undoLsns.after(lsn)
    const values = lsns.length === 0 ? [] : await this.#view.getMany(lsns.map(undoKey))
    return values.map((value, i) => {
      if (value === undefined) throw this.fail(new Error('an undo row is missing'))
      return { lsn: lsns[i] as Lsn, entries: decodeUndo(value) }
    })
  }

  /**
   * Syncs LevelDB's logs, all of them: a sync write would cover the newest only, and the one before may not yet be
   * in a table. Tables and the manifest are synced by LevelDB before it deletes what they replace.
   */
  async flush(): Promise<void> {
    this.assertUsable()
    await this.#writing
    this.assertUsable()
    try {
      for (const name of (await this.#files.list(this.#location)) ?? []) {
        if (/^\d+\.log$/.test(name)) await this.#syncLog(this.#files.join(this.#location, name))
      }
      await this.#files.syncFolder(this.#location)
    } catch (error) {
      throw this.fail(error)
    }
  }

  async approximateBytes(): Promise<number> {
    this.assertUsable()
    let bytes = 0
    for (const name of (await this.#files.list(this.#location)) ?? []) {
      bytes += (await this.#files.size(this.#files.join(this.#location, name))) ?? 0
    }
    return bytes
  }

  close(): Promise<void> {
    this.#closing ??= this.#closeNow()
    return this.#closing
  }

  async #closeNow(): Promise<void> {
    await this.#writing
    try {
      await this.#view.release()
      await this.level.close()
      await this.#onClosed({ healthy: this.#failure === undefined })
    } catch (error) {
      throw storeFailed(this.#location, error)
    }
  }

  async #writeNow(batch: StoreBatch): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    const meta = batch.meta ?? this.#view.meta
    let before: LevelView
    try {
      await this.#writeLevel(batch)
      before = this.#view
      this.#view = new LevelView(this, meta)
    } catch (error) {
      this.#failure ??= storeFailed(this.#location, error)
      throw this.#failure
    }
    this.#undoLsns.apply(batch)
    batch.onVisible?.()
    await before.release()
  }

  async #writeLevel(batch: StoreBatch): Promise<void> {
    const native = this.level.batch()
    let slice = { writes: 0, bytes: 0 }
    for (let at = 0; at < batch.writes.length; ) {
      const start = at
      let bytes = 0
      for (; at < batch.writes.length && at - start < sliceWrites && bytes < sliceBytes; at++) {
        bytes += (batch.writes[at]?.value?.length ?? 0) + checkBytes
      }
      if (slice.writes > 0 && this.#timers !== undefined) await turnOf(this.#timers)
      const sealer = new RowSealer(bytes)
      for (let i = start; i < at; i++) {
        const { key, value } = batch.writes[i] as { key: Uint8Array; value: Uint8Array | undefined }
        assert(isDataKey(key), 'a data key does not begin with a byte of the own rows')
        if (value === undefined) native.del(key)
        else native.put(key, sealer.seal(key, value))
      }
      slice = { writes: at - start, bytes }
    }
    this.#writeOwnRows(batch, (key, value) => {
      if (value === undefined) native.del(key)
      else native.put(key, new RowSealer(value.length + checkBytes).seal(key, value))
    })
    await native.write()
  }

  #writeOwnRows(batch: StoreBatch, put: (key: Uint8Array, value: Uint8Array | undefined) => void): void {
    const { meta } = batch
    for (const lsn of this.#undoLsns.forgottenBy(batch)) put(undoKey(lsn), undefined)
    for (const { lsn, entries } of batch.undo ?? []) put(undoKey(lsn), encodeUndo(entries))
    if (meta === undefined) return
    put(metaKey, encodeMeta(meta))
    if (meta.history !== this.#view.meta?.history) put(historyKey, encodeHistory(meta.history))
  }

  async #syncLog(path: string): Promise<void> {
    let file: OpenFile
    try {
      file = await this.#files.open(path, 'write')
    } catch (error) {
      // Deleted since it was listed: what it held is in a table, which has been synced.
      if ((await this.#files.size(path)) === undefined) return
      throw error
    }
    try {
      await new Promise<void>((resolve, reject) => {
        file.sync((error) => (error === null ? resolve() : reject(error)))
      })
    } finally {
      await file.close()
    }
  }
}

class LevelSnapshot implements StoreSnapshot {
  readonly #store: ClassicLevelStore
  readonly #view: LevelView
  readonly #iterators = new Set<LevelRowIterator>()
  #closing: Promise<void> | undefined

  constructor(store: ClassicLevelStore, view: LevelView) {
    this.#store = store
    this.#view = view
  }

  get meta(): StoreMeta | undefined {
    return this.#view.meta
  }

  getSync(key: Uint8Array): Uint8Array | undefined {
    this.#assertUsable()
    return this.#view.getSync(key)
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    this.#assertUsable()
    return await this.#view.get(key)
  }

  async getMany(keys: readonly Uint8Array[]): Promise<(Uint8Array | undefined)[]> {
    this.#assertUsable()
    return await this.#view.getMany(keys)
  }

  iterate(range: RowRange): RowIterator {
    this.#assertUsable()
    const iterator = this.#view.iterate(range)
    this.#iterators.add(iterator)
    return {
      next: (count) => iterator.next(count),
      close: async () => {
        this.#iterators.delete(iterator)
        await iterator.close()
      },
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#closeNow()
    return this.#closing
  }

  async #closeNow(): Promise<void> {
    await Promise.all([...this.#iterators].map((iterator) => iterator.close()))
    await this.#view.release()
  }

  #assertUsable(): void {
    if (this.#closing !== undefined) throw new CoterieError('CLOSED', 'the snapshot is closed')
    this.#store.assertUsable()
  }
}

function turnOf(timers: Timers): Promise<void> {
  return new Promise((resolve) => timers.soon(resolve))
}
