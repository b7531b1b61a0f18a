// Transactions. A synchronous function runs in one turn of the event loop: nothing can come between its reads and
// its commit, so it is serialisable without locks. An async function reads the state of the moment it began; at
// its end it is validated against all that was written since, ranges included, and run again if it lost.
//
// An async transaction never sees a state that did not exist: a row that has been written since is not read but
// ends the attempt at once, and a range is checked before its first row is handed out.

import { compareBytes } from '../base/bytes.ts'
import { CoterieError } from '../base/errors.ts'
import { limits } from '../base/limits.ts'
import type { Lsn } from '../base/lsn.ts'
import { checkOptions } from '../base/options.ts'
import type { Row, RowIterator, RowRange, StoreSnapshot } from '../store/store.ts'
import { aborted } from './aborted.ts'
import type { CommitOptions } from './commit-queue.ts'
import { type Codec, codecOf, type Encoding, encodingRules } from './encoding.ts'
import type { Engine } from './engine.ts'
import {
  inRange,
  type KeyRange,
  KeySpace,
  latin1,
  type TextRange,
  textRange,
  type WholeKey,
} from './key-space.ts'
import type { Reign } from './receipt.ts'
import { encodeValue, RowCursor, rowDecoders } from './row-cursor.ts'
import { WriteSet } from './write-set.ts'

/** Options of `transact`. */
export interface TransactOptions extends CommitOptions {
  /** How often an async function is run before CONFLICT. Default 10. */
  readonly maxAttempts?: number
}

/** What `transact` resolves to: what the function returned, and the receipt of its commit. */
export interface TransactResult<R> {
  readonly result: R
  readonly lsn: number
  readonly term: number
  readonly token: string
  readonly acks: number
  readonly detached: readonly string[]
}

const maxAttemptsDefault = 10

/** Ends an attempt that can no longer be validated; the function's own handlers cannot undo that. */
class Beaten extends Error {}

/** The state of one attempt to run a transaction's function. */
export class TransactionState {
  readonly engine: Engine
  readonly writes: WriteSet = new WriteSet()
  /** The state that is read: everything up to here, and nothing after. */
  readonly readLsn: Lsn
  readonly #reign: Reign | undefined
  readonly #keysRead = new Set<string>()
  readonly #rangesRead: TextRange[] = []
  #phase: 'sync' | 'async' | 'ended' = 'sync'
  #beaten = false

  constructor(engine: Engine) {
    this.engine = engine
    this.readLsn = engine.lastLsn
    this.#reign = engine.reign
    engine.recentWrites.beginTurn(this.readLsn)
  }

  /** The function turned out to be async: from now on others may write between its steps. */
  goOn(): void {
    this.#phase = 'async'
    const { recentWrites } = this.engine
    recentWrites.watch(this, this.readLsn)
    recentWrites.endTurn()
  }

  end(): void {
    const { recentWrites } = this.engine
    if (this.#phase === 'async') recentWrites.unwatch(this)
    else if (this.#phase === 'sync') recentWrites.endTurn()
    this.#phase = 'ended'
  }

  get beaten(): boolean {
    return this.#beaten
  }

  assertRunning(): void {
    if (this.#phase === 'ended') {
      throw new CoterieError(
        'TRANSACTION_ENDED',
        'a transaction cannot be used after its function has returned',
      )
    }
    if (this.#beaten) throw new Beaten('this attempt has been overtaken by another commit')
  }

  #beat(): never {
    this.#beaten = true
    throw new Beaten('this attempt has been overtaken by another commit')
  }

  read(key: WholeKey): Uint8Array | undefined {
    this.assertRunning()
    const own = this.writes.get(key.text)
    if (own !== undefined) return own.value
    this.#keysRead.add(key.text)
    const { engine, readLsn } = this
    if (engine.lastLsn !== readLsn && engine.recentWrites.writtenSince(key.text, readLsn)) this.#beat()
    return this.engine.readLatestSync(key)
  }

  write(key: WholeKey, value: Uint8Array | undefined): void {
    this.assertRunning()
    this.writes.set(key, value)
  }

  /** A view of a range at `readLsn`, with this transaction's own writes in it. */
  async openRange(range: RowRange): Promise<{ rows: StoreSnapshot; close(): Promise<void> }> {
    this.assertRunning()
    const bounds = textRange(range)
    this.#rangesRead.push(bounds)
    const snapshot = await this.engine.snapshot(this.readLsn)
    try {
      this.assertRunning()
      if (snapshot.lsn < this.readLsn) {
        throw new CoterieError('NOT_MASTER', 'this site ceased to be master while the transaction ran')
      }
      if (this.engine.recentWrites.rangeWrittenSince(bounds, this.readLsn, snapshot.lsn)) this.#beat()
    } catch (error) {
      await snapshot.close()
      throw error
    }
    return {
      rows: withOwnWrites(snapshot.rows, this.writes, bounds),
      close: () => snapshot.close(),
    }
  }

  /** Whether nothing that was read has been written since. Call in the turn that commits. */
  validate(): boolean {
    const { recentWrites, lastLsn, reign } = this.engine
    if (lastLsn === this.readLsn && reign === this.#reign) return !this.#beaten
    // What another site wrote in between is not among the recent writes.
    if (this.#beaten || reign !== this.#reign) return false
    for (const key of this.#keysRead) if (recentWrites.writtenSince(key, this.readLsn)) return false
    for (const range of this.#rangesRead) {
      if (recentWrites.rangeWrittenSince(range, this.readLsn, lastLsn)) return false
    }
    return true
  }
}

/** The rows of one store within a transaction. */
export class TransactionStore<K = string, V = string> {
  readonly #state: TransactionState
  readonly #keySpace: KeySpace
  readonly #keyCodec: Codec
  readonly #valueCodec: Codec

  constructor(state: TransactionState, keySpace: KeySpace, keyCodec: Codec, valueCodec: Codec) {
    this.#state = state
    this.#keySpace = keySpace
    this.#keyCodec = keyCodec
    this.#valueCodec = valueCodec
  }

  /** The value, this transaction's own writes included; undefined if there is none. */
  get(key: K): V | undefined {
    const value = this.#state.read(this.#keySpace.wholeKey(key, this.#keyCodec))
    return value === undefined ? undefined : (this.#valueCodec.decode(value) as V)
  }

  getMany(keys: readonly K[]): (V | undefined)[] {
    return keys.map((key) => this.get(key))
  }

  has(key: K): boolean {
    return this.#state.read(this.#keySpace.wholeKey(key, this.#keyCodec)) !== undefined
  }

  put(key: K, value: V): void {
    const wholeKey = this.#keySpace.wholeKey(key, this.#keyCodec)
    this.#state.write(wholeKey, encodeValue(value, this.#valueCodec, limits.valueBytesMax))
  }

  del(key: K): void {
    this.#state.write(this.#keySpace.wholeKey(key, this.#keyCodec), undefined)
  }

  /** Rows of a range, own writes made before the first row included. For async functions. */
  entries(range: KeyRange<K> = {}): RowCursor<[K, V]> {
    return this.#cursor(range, rowDecoders<K, V>(this.#keySpace, this.#keyCodec, this.#valueCodec).entry)
  }

  keys(range: KeyRange<K> = {}): RowCursor<K> {
    return this.#cursor(range, rowDecoders<K, V>(this.#keySpace, this.#keyCodec, this.#valueCodec).key)
  }

  values(range: KeyRange<K> = {}): RowCursor<V> {
    return this.#cursor(range, rowDecoders<K, V>(this.#keySpace, this.#keyCodec, this.#valueCodec).value)
  }

  /** Deletes the rows of a range. For async functions. Resolves to how many there were. */
  async clear(range: KeyRange<K> = {}): Promise<number> {
    const cursor = this.#cursor(range, (row) => row[0])
    let count = 0
    for (const bytes of await cursor.all()) {
      this.#state.write({ bytes, text: latin1(bytes) }, undefined)
      count++
    }
    return count
  }

  #cursor<T>(range: KeyRange<K>, decode: (row: Row) => T): RowCursor<T> {
    this.#state.assertRunning()
    const rowRange = this.#keySpace.rowRange(range, this.#keyCodec)
    return new RowCursor({ open: () => this.#state.openRange(rowRange), range: rowRange, decode })
  }
}

/** What a transaction's function is given: the unnamed store, and the named ones through `store`. */
export class Transaction<K = string, V = string> extends TransactionStore<K, V> {
  readonly #state: TransactionState
  readonly #defaults: { readonly keyEncoding: Encoding; readonly valueEncoding: Encoding }

  constructor(
    state: TransactionState,
    keySpace: KeySpace,
    defaults: { readonly keyEncoding: Encoding; readonly valueEncoding: Encoding },
  ) {
    super(state, keySpace, codecOf(defaults.keyEncoding), codecOf(defaults.valueEncoding))
    this.#state = state
    this.#defaults = defaults
  }

  /** A named store within this transaction; encodings default to those of the database. */
  store<SK = K, SV = V>(
    name: string,
    encodings: { readonly keyEncoding?: Encoding; readonly valueEncoding?: Encoding } = {},
  ): TransactionStore<SK, SV> {
    checkOptions('store', encodings, encodingRules)
    return new TransactionStore<SK, SV>(
      this.#state,
      new KeySpace(name),
      codecOf(encodings.keyEncoding ?? this.#defaults.keyEncoding),
      codecOf(encodings.valueEncoding ?? this.#defaults.valueEncoding),
    )
  }
}

/** Runs `fn` in a transaction and commits what it wrote. */
export async function runTransaction<R, K, V>(options: {
  readonly engine: Engine
  readonly fn: (tx: Transaction<K, V>) => R | Promise<R>
  readonly begin: (state: TransactionState) => Transaction<K, V>
  readonly commit: TransactOptions
}): Promise<TransactResult<R>> {
  const { engine, fn, begin, commit } = options
  const attempts = commit.maxAttempts ?? maxAttemptsDefault
  for (let attempt = 1; attempt <= attempts; attempt++) {
    await admitted(engine, commit.signal)
    const state = new TransactionState(engine)
    const done = await runOnce(state, fn, begin, commit)
    if (done !== undefined) return done
  }
  throw new CoterieError('CONFLICT', `the transaction was overtaken by other commits ${attempts} times`, {
    details: { attempts },
  })
}

/** Waits until a write may be taken. Resolves in the turn in which it may. ABORTED: nothing was written. */
export async function admitted(engine: Engine, signal?: AbortSignal): Promise<void> {
  for (let wait = engine.admit(); wait !== undefined; wait = engine.admit()) await aborted(wait, signal)
}

/** One attempt: undefined if it was overtaken. */
function runOnce<R, K, V>(
  state: TransactionState,
  fn: (tx: Transaction<K, V>) => R | Promise<R>,
  begin: (state: TransactionState) => Transaction<K, V>,
  commit: TransactOptions,
): Promise<TransactResult<R> | undefined> | Promise<TransactResult<R>> {
  let returned: R | Promise<R>
  try {
    returned = fn(begin(state))
  } catch (error) {
    state.end()
    return Promise.reject(state.beaten ? writtenPast() : (error as Error))
  }
  if (isThenable(returned)) {
    state.goOn()
    return finishAsync(state, returned, commit)
  }
  if (!state.validate()) {
    state.end()
    return Promise.reject(writtenPast())
  }
  return finish(state, returned, commit)
}

/** Nobody can come between the steps of a synchronous function, except itself, past its transaction. */
function writtenPast(): CoterieError {
  return new CoterieError(
    'INVALID_STATE',
    "a transaction's function wrote past its transaction what the transaction depends on",
  )
}

function isThenable(value: unknown): value is Promise<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}

async function finishAsync<R>(
  state: TransactionState,
  returned: Promise<R>,
  commit: TransactOptions,
): Promise<TransactResult<R> | undefined> {
  try {
    let result: R
    try {
      result = await returned
    } catch (error) {
      if (state.beaten) return undefined
      throw error
    }
    if (state.beaten) return undefined
    // One that only read has read one state, and stands in the order where that state does.
    if (state.writes.size > 0) {
      await admitted(state.engine, commit.signal)
      if (!state.validate()) return undefined
    }
    return await finish(state, result, commit)
  } finally {
    state.end()
  }
}

function finish<R>(state: TransactionState, result: R, commit: TransactOptions): Promise<TransactResult<R>> {
  state.end()
  const { engine, writes, readLsn } = state
  // Without writes the receipt is of the state that was read, once that is confirmed.
  const receipt = writes.size > 0 ? engine.submit(writes, commit) : engine.confirm(readLsn, commit)
  return receipt.then((confirmed) => ({ result, ...confirmed.toJSON() }))
}

/** The rows of a snapshot as a transaction sees them. Own writes are those made by now. */
function withOwnWrites(rows: StoreSnapshot, writes: WriteSet, bounds: TextRange): StoreSnapshot {
  const own: Row[] = []
  const hidden = new Set<string>()
  for (const write of writes.writes) {
    if (!inRange(write.text, bounds)) continue
    hidden.add(write.text)
    if (write.value !== undefined) own.push([write.key, write.value])
  }
  if (hidden.size === 0) return rows
  return {
    meta: rows.meta,
    getSync: (key) => rows.getSync(key),
    get: (key) => rows.get(key),
    getMany: (keys) => rows.getMany(keys),
    iterate: (range) => mergedIterator(rows, range, own, hidden),
    close: () => rows.close(),
  }
}

function mergedIterator(rows: StoreSnapshot, range: RowRange, own: Row[], hidden: Set<string>): RowIterator {
  const direction = range.reverse === true ? -1 : 1
  const mine = [...own].sort((a, b) => direction * compareBytes(a[0], b[0]))
  const { limit, ...unlimited } = range
  const theirs = rows.iterate(unlimited)
  let left = limit ?? Number.MAX_SAFE_INTEGER
  let at = 0
  let buffered: Row[] = []
  let ended = false
  const next = async (count: number): Promise<Row[]> => {
    const out: Row[] = []
    while (out.length < count && left > 0) {
      if (buffered.length === 0 && !ended) {
        const chunk = await theirs.next(count)
        ended = chunk.length === 0
        buffered = chunk.filter(([key]) => !hidden.has(latin1(key)))
        if (!ended && buffered.length === 0) continue
      }
      const a = mine[at]
      const b = buffered[0]
      if (a === undefined && b === undefined) break
      if (b === undefined || (a !== undefined && direction * compareBytes(a[0], b[0]) < 0)) {
        out.push(a as Row)
        at++
      } else {
        out.push(b)
        buffered.shift()
      }
      left--
    }
    return out
  }
  return { next, close: () => theirs.close() }
}
