// A named store: ordered keys and values within a database. The database itself is the unnamed one.
// Every method checks what it is given before anything is written.

import { CoterieError } from '../base/errors.ts'
import { limits } from '../base/limits.ts'
import { lsnPlus } from '../base/lsn.ts'
import {
  abortSignal,
  checkOptions,
  eitherOf,
  type OptionRules,
  oneOf,
  text,
  wholeNumber,
} from '../base/options.ts'
import type { Row } from '../store/store.ts'
import { aborted } from './aborted.ts'
import type { CommitOptions } from './commit-queue.ts'
import { type Codec, codecOf, type Encoding } from './encoding.ts'
import type { Engine } from './engine.ts'
import { type KeyRange, KeySpace, type WholeKey } from './key-space.ts'
import type { Receipt } from './receipt.ts'
import { encodeValue, RowCursor, type RowDecoders, rowDecoders } from './row-cursor.ts'
import { outcomeOf, parseToken } from './token.ts'
import { admitted } from './transaction.ts'
import { WriteSet } from './write-set.ts'

export interface StoreEncodings {
  /** Default `utf8`. */
  readonly keyEncoding?: Encoding
  /** Default `utf8`. */
  readonly valueEncoding?: Encoding
}

export interface GetOptions {
  /** Wait until the commit that this token names can be read here. */
  readonly after?: string
  /**
   * `local` (default): what is committed here, as far as this site knows. `linearizable`: nothing older than what was
   * committed anywhere when the read began. Only the master can say; it asks a majority, unless it holds a lease.
   */
  readonly consistency?: 'local' | 'linearizable'
  readonly signal?: AbortSignal
}

/** One write of a batch. `store` names another store, with this one's encodings. */
export type BatchOperation<K, V> =
  | { readonly type: 'put'; readonly key: K; readonly value: V; readonly store?: string }
  | { readonly type: 'del'; readonly key: K; readonly store?: string }

export const commitRules: OptionRules = {
  durability: oneOf('sync', 'written', 'memory'),
  acks: eitherOf(
    oneOf('none', 'one', 'onePeer', 'quorum', 'allPeers', 'allAvailable', 'all'),
    wholeNumber(0, 1000),
  ),
  ackTimeoutMs: wholeNumber(1),
  signal: abortSignal,
}

const getRules: OptionRules = {
  after: text,
  consistency: oneOf('local', 'linearizable'),
  signal: abortSignal,
}

/** How many rows `clear` deletes in one transaction. */
const clearRowsMax = 10_000
/** ... and how many bytes of keys. */
const clearBytesMax = 4 * 1024 * 1024

export class NamedStore<K = string, V = string> {
  /** The empty string for the database's own, unnamed store. */
  readonly name: string
  readonly #engine: Engine
  readonly #keySpace: KeySpace
  readonly #keyCodec: Codec
  readonly #valueCodec: Codec
  readonly #decoders: RowDecoders<K, V>

  constructor(options: { engine: Engine; name: string; keyEncoding: Encoding; valueEncoding: Encoding }) {
    this.name = options.name
    this.#engine = options.engine
    this.#keySpace = new KeySpace(options.name)
    this.#keyCodec = codecOf(options.keyEncoding)
    this.#valueCodec = codecOf(options.valueEncoding)
    this.#decoders = rowDecoders(this.#keySpace, this.#keyCodec, this.#valueCodec)
  }

  // ---- reading -----------------------------------------------------------------------------------------------

  /**
   * The committed value of a key; undefined if there is none. With `after`, the state read includes that commit:
   * read-your-writes on any site. Errors: KEY_INVALID, CLOSED, TOKEN_INVALID (also for a commit that was lost). With
   * `consistency: 'linearizable'` also NOT_MASTER, NO_MASTER, and LEASE_EXPIRED or NO_QUORUM where no majority of the
   * sites has answered within the `ackTimeoutMs` of the group. (Berkeley DB: reads under master leases.)
   * STORE_NOT_KEPT, as of every call that reads, on a partial view that does not keep this store.
   */
  async get(key: K, options?: GetOptions): Promise<V | undefined> {
    this.#assertKept()
    const wholeKey = this.#keySpace.wholeKey(key, this.#keyCodec)
    if (options !== undefined) await this.#prepareRead(options)
    const value = await this.#engine.read(wholeKey)
    return value === undefined ? undefined : (this.#valueCodec.decode(value) as V)
  }

  /** As `get`, in this turn: from memory where it can, else it blocks on the store (microseconds if cached). */
  getSync(key: K): V | undefined {
    this.#assertKept()
    const value = this.#engine.readSync(this.#keySpace.wholeKey(key, this.#keyCodec))
    return value === undefined ? undefined : (this.#valueCodec.decode(value) as V)
  }

  /** The values of several keys, in their order. */
  async getMany(keys: readonly K[], options?: GetOptions): Promise<(V | undefined)[]> {
    this.#assertKept()
    const wholeKeys = keys.map((key) => this.#keySpace.wholeKey(key, this.#keyCodec))
    if (options !== undefined) await this.#prepareRead(options)
    const values = await Promise.all(wholeKeys.map((key) => this.#engine.read(key)))
    return values.map((value) => (value === undefined ? undefined : (this.#valueCodec.decode(value) as V)))
  }

  async has(key: K, options?: GetOptions): Promise<boolean> {
    this.#assertKept()
    const wholeKey = this.#keySpace.wholeKey(key, this.#keyCodec)
    if (options !== undefined) await this.#prepareRead(options)
    return (await this.#engine.read(wholeKey)) !== undefined
  }

  /** Keys with their values, in order, from one consistent view. RANGE_INVALID for a bad range. */
  entries(range: KeyRange<K> = {}): RowCursor<[K, V]> {
    return this.#cursor(range, this.#decoders.entry)
  }

  keys(range: KeyRange<K> = {}): RowCursor<K> {
    return this.#cursor(range, this.#decoders.key)
  }

  values(range: KeyRange<K> = {}): RowCursor<V> {
    return this.#cursor(range, this.#decoders.value)
  }

  #cursor<T>(range: KeyRange<K>, decode: (row: Row) => T): RowCursor<T> {
    this.#engine.assertOpen()
    this.#assertKept()
    const rowRange = this.#keySpace.rowRange(range, this.#keyCodec)
    return new RowCursor({ open: () => this.#engine.snapshot(), range: rowRange, decode })
  }

  #assertKept(): void {
    this.#engine.keptStores.assertKept(this.name)
  }

  async #prepareRead(options: GetOptions): Promise<void> {
    checkOptions('get', options, getRules)
    options.signal?.throwIfAborted()
    const { after, consistency, signal } = options
    if (after !== undefined) await readableAfter(this.#engine, after, signal)
    if (consistency === 'linearizable') await this.#engine.whenNewest(signal)
  }

  // ---- writing -----------------------------------------------------------------------------------------------

  /** Writes one row as a transaction of its own. Errors: as `transact`. */
  put(key: K, value: V, options?: CommitOptions): Promise<Receipt> {
    return this.#commit(options, (writes) => {
      writes.set(this.#wholeKey(key), encodeValue(value, this.#valueCodec, limits.valueBytesMax))
    })
  }

  /** Deletes one row; it need not exist. */
  del(key: K, options?: CommitOptions): Promise<Receipt> {
    return this.#commit(options, (writes) => writes.set(this.#wholeKey(key), undefined))
  }

  /** Writes all of these, or none. */
  batch(operations: readonly BatchOperation<K, V>[], options?: CommitOptions): Promise<Receipt> {
    return this.#commit(options, (writes) => {
      const spaces = new Map<string, KeySpace>()
      for (const operation of operations) {
        const keySpace = this.#spaceOf(operation.store, spaces)
        const key = keySpace.wholeKey(operation.key, this.#keyCodec)
        if (operation.type === 'put') {
          writes.set(key, encodeValue(operation.value, this.#valueCodec, limits.valueBytesMax))
        } else if (operation.type === 'del') {
          writes.set(key, undefined)
        } else {
          throw new CoterieError('OPTION_INVALID', "an operation's type is 'put' or 'del'")
        }
      }
      if (writes.size === 0) throw new CoterieError('OPTION_INVALID', 'a batch has at least one operation')
    })
  }

  /**
   * Deletes the rows of a range: all, or in transactions of 10,000 rows each where there are more. Resolves to how
   * many there were.
   */
  async clear(range: KeyRange<K> = {}, options?: CommitOptions): Promise<number> {
    if (options !== undefined) checkOptions('clear', options, commitRules)
    const cursor = this.#cursor(range, ([key]) => key)
    let count = 0
    let writes = new WriteSet()
    const commit = async (): Promise<void> => {
      if (writes.size === 0) return
      await admitted(this.#engine, options?.signal)
      await this.#engine.submit(writes, options)
      count += writes.size
      writes = new WriteSet()
    }
    for await (const bytes of cursor) {
      writes.set({ bytes, text: Buffer.from(bytes).toString('latin1') }, undefined)
      if (writes.size >= clearRowsMax || writes.bytes >= clearBytesMax) await commit()
    }
    await commit()
    return count
  }

  #wholeKey(key: K): WholeKey {
    return this.#keySpace.wholeKey(key, this.#keyCodec)
  }

  #spaceOf(name: string | undefined, spaces: Map<string, KeySpace>): KeySpace {
    if (name === undefined) return this.#keySpace
    let space = spaces.get(name)
    if (space === undefined) {
      space = new KeySpace(name)
      spaces.set(name, space)
    }
    return space
  }

  #commit(options: CommitOptions | undefined, fill: (writes: WriteSet) => void): Promise<Receipt> {
    try {
      if (options !== undefined) checkOptions('commit', options, commitRules)
      const writes = new WriteSet()
      fill(writes)
      const wait = this.#engine.admit()
      if (wait === undefined) return this.#engine.submit(writes, options)
      return this.#commitAfter(wait, writes, options)
    } catch (error) {
      return Promise.reject(error as Error)
    }
  }

  async #commitAfter(
    wait: Promise<void>,
    writes: WriteSet,
    options: CommitOptions | undefined,
  ): Promise<Receipt> {
    await aborted(wait, options?.signal)
    await admitted(this.#engine, options?.signal)
    return await this.#engine.submit(writes, options)
  }
}

/** Waits until the token's commit can be read here. */
export async function readableAfter(engine: Engine, token: string, signal?: AbortSignal): Promise<void> {
  const parsed = parseToken(token, engine.parts.log.databaseId)
  for (;;) {
    engine.assertOpen()
    // Looked up each time: a snapshot of the master brings another generation.
    const { parts, committedLsn } = engine
    const { history, lastLsn } = parts.log
    const outcome = outcomeOf(parsed, { history, lastLsn, committedLsn })
    if (outcome === 'lost') throw lostToken(token)
    if (outcome === 'applied') {
      if (engine.reign !== undefined || parts.appliedLsn >= parsed.lsn) return
      await parts.applier.whenApplied(parsed.lsn, signal).catch((error: unknown) => {
        if (parts === engine.partsInUse) throw error
      })
    } else {
      if (engine.failure !== undefined) throw engine.failure
      // Any commit may decide it: one of a later reign can mean that it is lost.
      await engine.whenCommitted(lsnPlus(committedLsn, 1), signal)
    }
  }
}

function lostToken(token: string): CoterieError {
  return new CoterieError('TOKEN_INVALID', 'the commit that this token names was rolled back', {
    details: { token, outcome: 'lost' },
  })
}
