// A frozen view of a LevelDB store: one native snapshot, shared by all who read at that moment and closed when the
// last of them is done. Every read of the store goes through a view, so that no read sees half a batch or a batch
// whose meta is not in force yet; with a snapshot a read costs the same as without (measured).
//
// Any failure of a read poisons the store (`ViewOwner.fail`).

import type { ClassicLevel, Iterator as NativeIterator, ReadOptions, Snapshot } from 'classic-level'
import { CoterieError } from '../base/errors.ts'
import { isDataKey, ownKeysFrom } from './own-rows.ts'
import { unsealRow } from './row-check.ts'
import type { Row, RowIterator, RowRange, StoreMeta } from './store.ts'

export type Level = ClassicLevel<Uint8Array, Uint8Array>

/** What a view needs of its store. */
export interface ViewOwner {
  readonly level: Level
  /** Throws unless the store is open and healthy. */
  assertUsable(): void
  /** Poisons the store; returns the error to throw. */
  fail(cause: unknown): CoterieError
}

interface PendingGet {
  readonly key: Uint8Array
  readonly resolve: (value: Uint8Array | undefined) => void
  readonly reject: (error: unknown) => void
}

type LevelReadOptions = ReadOptions & {
  readonly keyEncoding: 'view'
  readonly valueEncoding: 'view'
  readonly snapshot: Snapshot
}

/** Reads by key in one job of the thread pool: more makes a read wait for its neighbours. */
const getsPerJob = 128
/** Enough for the fastest scans (1000 rows a call or more), little enough for rows of megabytes. */
const iteratorBytesMax = 1_048_576
/** The binding takes an i32. */
const nativeLimitMax = 0x7fff_ffff

export class LevelView {
  readonly meta: StoreMeta | undefined
  readonly #owner: ViewOwner
  readonly #native: Snapshot
  readonly #options: LevelReadOptions
  #users = 1
  #gets: PendingGet[] = []

  constructor(owner: ViewOwner, meta: StoreMeta | undefined) {
    this.meta = meta
    this.#owner = owner
    this.#native = owner.level.snapshot()
    this.#options = { keyEncoding: 'view', valueEncoding: 'view', snapshot: this.#native }
  }

  /** Adds a user; each calls `release` once. */
  share(): this {
    this.#users++
    return this
  }

  async release(): Promise<void> {
    this.#users--
    if (this.#users === 0) await this.#native.close()
  }

  getSync(key: Uint8Array): Uint8Array | undefined {
    let sealed: Uint8Array | undefined
    try {
      sealed = this.#owner.level.getSync<Uint8Array, Uint8Array>(key, this.#options)
    } catch (error) {
      throw this.#owner.fail(error)
    }
    return sealed === undefined ? undefined : this.#unseal(key, sealed)
  }

  /** Calls of one turn are put together: one job in the thread pool costs as much as ten reads. */
  get(key: Uint8Array): Promise<Uint8Array | undefined> {
    return new Promise((resolve, reject) => {
      if (this.#gets.length === 0) queueMicrotask(() => this.#sendGets())
      this.#gets.push({ key, resolve, reject })
    })
  }

  async getMany(keys: readonly Uint8Array[]): Promise<(Uint8Array | undefined)[]> {
    this.share()
    try {
      const values = await this.#owner.level
        .getMany<Uint8Array, Uint8Array>(keys as Uint8Array[], this.#options)
        .catch((error: unknown) => {
          throw this.#owner.fail(error)
        })
      return values.map((sealed, i) =>
        sealed === undefined ? undefined : this.#unseal(keys[i] as Uint8Array, sealed),
      )
    } finally {
      await this.release()
    }
  }

  iterate(range: RowRange): LevelRowIterator {
    return new LevelRowIterator(this.#owner, range, this.#native)
  }

  #unseal(key: Uint8Array, sealed: Uint8Array): Uint8Array {
    return unsealRow(key, sealed) ?? throwDamaged(this.#owner)
  }

  #sendGets(): void {
    const gets = this.#gets
    this.#gets = []
    for (let at = 0; at < gets.length; at += getsPerJob) {
      const part = gets.slice(at, at + getsPerJob)
      this.getMany(part.map((get) => get.key)).then(
        (values) => {
          for (const [i, get] of part.entries()) get.resolve(values[i])
        },
        (error: unknown) => {
          for (const get of part) get.reject(error)
        },
      )
    }
  }
}

function throwDamaged(owner: ViewOwner): never {
  throw owner.fail(new Error('a row does not match its check'))
}

export class LevelRowIterator implements RowIterator {
  readonly #owner: ViewOwner
  /** Undefined for a range that no data row can be in. */
  readonly #native: NativeIterator<Level, Uint8Array, Uint8Array> | undefined
  #left: number
  #closed = false

  constructor(owner: ViewOwner, range: RowRange, snapshot: Snapshot) {
    this.#owner = owner
    this.#left = range.limit ?? Number.POSITIVE_INFINITY
    const lower = range.gt ?? range.gte
    if (this.#left <= 0 || (lower !== undefined && isOwn(lower))) return
    const { reverse = false } = range
    this.#native = owner.level.iterator<Uint8Array, Uint8Array>({
      keyEncoding: 'view',
      valueEncoding: 'view',
      snapshot,
      reverse,
      fillCache: false,
      highWaterMarkBytes: iteratorBytesMax,
      ...(range.gt === undefined ? {} : { gt: range.gt }),
      ...(range.gte === undefined ? {} : { gte: range.gte }),
      ...upperBound(range),
      ...(this.#left <= nativeLimitMax ? { limit: this.#left } : {}),
    })
  }

  async next(count: number): Promise<Row[]> {
    if (this.#closed) throw new CoterieError('CLOSED', 'the iterator is closed')
    this.#owner.assertUsable()
    const size = Math.min(count, this.#left)
    if (this.#native === undefined || size <= 0) return []
    let rows: [Uint8Array, Uint8Array][]
    try {
      rows = await this.#native.nextv(size)
    } catch (error) {
      if (this.#closed) throw new CoterieError('CLOSED', 'the iterator is closed', { cause: error })
      throw this.#owner.fail(error)
    }
    for (const row of rows) row[1] = unsealRow(row[0], row[1]) ?? throwDamaged(this.#owner)
    this.#left -= rows.length
    return rows
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#native?.close()
  }
}

function isOwn(key: Uint8Array): boolean {
  return key.length > 0 && !isDataKey(key)
}

/** The range's own bound, or the one that keeps the engine's rows out. */
function upperBound({ lt, lte }: RowRange): { readonly lt?: Uint8Array; readonly lte?: Uint8Array } {
  if (lt !== undefined && !isOwn(lt)) return { lt }
  if (lte !== undefined && !isOwn(lte)) return { lte }
  return { lt: ownKeysFrom }
}
