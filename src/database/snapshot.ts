// A snapshot as users see it: the whole database, all its stores, as it was at one LSN, for as long as it is held. On a
// partial view it has the stores that are kept there.

import { CoterieError } from '../base/errors.ts'
import type { Lsn } from '../base/lsn.ts'
import { checkOptions } from '../base/options.ts'
import type { Row, StoreSnapshot } from '../store/store.ts'
import { type Codec, codecOf, type Encoding, encodingRules } from './encoding.ts'
import type { EngineSnapshot } from './engine.ts'
import { type KeyRange, KeySpace } from './key-space.ts'
import type { StoreEncodings } from './named-store.ts'
import { type CursorSource, RowCursor, type RowDecoders, rowDecoders } from './row-cursor.ts'

/** One store of a snapshot. */
export class SnapshotStore<K = string, V = string> {
  readonly #held: HeldSnapshot
  readonly #keySpace: KeySpace
  readonly #keyCodec: Codec
  readonly #valueCodec: Codec
  readonly #decoders: RowDecoders<K, V>

  constructor(held: HeldSnapshot, name: string, keyCodec: Codec, valueCodec: Codec) {
    this.#held = held
    this.#keySpace = new KeySpace(name)
    this.#keyCodec = keyCodec
    this.#valueCodec = valueCodec
    this.#decoders = rowDecoders(this.#keySpace, keyCodec, valueCodec)
  }

  async get(key: K): Promise<V | undefined> {
    const value = await this.#rows().get(this.#keySpace.wholeKey(key, this.#keyCodec).bytes)
    return value === undefined ? undefined : (this.#valueCodec.decode(value) as V)
  }

  getSync(key: K): V | undefined {
    const value = this.#rows().getSync(this.#keySpace.wholeKey(key, this.#keyCodec).bytes)
    return value === undefined ? undefined : (this.#valueCodec.decode(value) as V)
  }

  async getMany(keys: readonly K[]): Promise<(V | undefined)[]> {
    const wholeKeys = keys.map((key) => this.#keySpace.wholeKey(key, this.#keyCodec).bytes)
    const values = await this.#rows().getMany(wholeKeys)
    return values.map((value) => (value === undefined ? undefined : (this.#valueCodec.decode(value) as V)))
  }

  async has(key: K): Promise<boolean> {
    return (await this.#rows().get(this.#keySpace.wholeKey(key, this.#keyCodec).bytes)) !== undefined
  }

  entries(range: KeyRange<K> = {}): RowCursor<[K, V]> {
    return this.#cursor(range, this.#decoders.entry)
  }

  keys(range: KeyRange<K> = {}): RowCursor<K> {
    return this.#cursor(range, this.#decoders.key)
  }

  values(range: KeyRange<K> = {}): RowCursor<V> {
    return this.#cursor(range, this.#decoders.value)
  }

  /** STORE_NOT_KEPT on a partial view that does not keep this store. */
  #rows(): StoreSnapshot {
    const held = this.#held.rows()
    held.assertKept(this.#keySpace.storeName)
    return held.rows
  }

  #cursor<T>(range: KeyRange<K>, decode: (row: Row) => T): RowCursor<T> {
    this.#rows()
    const rowRange = this.#keySpace.rowRange(range, this.#keyCodec)
    const open = async (): Promise<CursorSource> => ({
      rows: this.#rows(),
      // The snapshot is its holder's to close.
      close: async () => {},
    })
    return new RowCursor({ open, range: rowRange, decode })
  }
}

interface HeldSnapshot {
  rows(): EngineSnapshot
}

/** The database at one LSN. Must be closed: `await using`, or `close()`. */
export class Snapshot<K = string, V = string> extends SnapshotStore<K, V> {
  readonly lsn: Lsn
  readonly #held: { rows(): EngineSnapshot; close(): Promise<void> }
  readonly #defaults: Required<StoreEncodings>

  constructor(snapshot: EngineSnapshot, defaults: { keyEncoding: Encoding; valueEncoding: Encoding }) {
    let closed = false
    const held = {
      rows: (): EngineSnapshot => {
        if (closed) throw new CoterieError('CLOSED', 'the snapshot is closed')
        snapshot.assertOpen()
        return snapshot
      },
      close: async (): Promise<void> => {
        if (closed) return
        closed = true
        await snapshot.close()
      },
    }
    super(held, '', codecOf(defaults.keyEncoding), codecOf(defaults.valueEncoding))
    this.lsn = snapshot.lsn
    this.#held = held
    this.#defaults = defaults
  }

  store<SK = K, SV = V>(name: string, encodings: StoreEncodings = {}): SnapshotStore<SK, SV> {
    checkOptions('store', encodings, encodingRules)
    return new SnapshotStore<SK, SV>(
      this.#held,
      name,
      codecOf(encodings.keyEncoding ?? this.#defaults.keyEncoding),
      codecOf(encodings.valueEncoding ?? this.#defaults.valueEncoding),
    )
  }

  close(): Promise<void> {
    return this.#held.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
