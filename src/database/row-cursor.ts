// Iterators over a range, as all faces give them out: entries, keys or values of one store, decoded, from a view that
// does not change while they run. Rows are fetched in growing chunks, so a short range costs little and a long one
// is not paid for row by row. Nothing is read before the first row is asked for.

import { CoterieError } from '../base/errors.ts'
import type { Row, RowIterator, RowRange, StoreSnapshot } from '../store/store.ts'
import type { Codec } from './encoding.ts'
import type { KeySpace } from './key-space.ts'

/** A view to iterate over, and how to let go of it. */
export interface CursorSource {
  readonly rows: StoreSnapshot
  close(): Promise<void>
}

const firstChunkRows = 32
const chunkRowsMax = 2048

/** An async iterator that is also a collection of what is left. */
export class RowCursor<T> implements AsyncIterableIterator<T> {
  readonly #open: () => Promise<CursorSource>
  readonly #range: RowRange
  readonly #decode: (row: Row) => T
  #source: CursorSource | undefined
  #iterator: RowIterator | undefined
  #chunk: readonly Row[] = []
  #at = 0
  #chunkRows = firstChunkRows
  #state: 'new' | 'open' | 'ended' = 'new'
  /** The fetch under way: calls of `next` that do not wait for each other wait for it, in turn. */
  #fetching: Promise<void> | undefined

  constructor(options: { open: () => Promise<CursorSource>; range: RowRange; decode: (row: Row) => T }) {
    this.#open = options.open
    this.#range = options.range
    this.#decode = options.decode
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<IteratorResult<T, undefined>> {
    const row = this.#chunk[this.#at]
    if (row === undefined) return this.#nextOfNewChunk()
    this.#at++
    try {
      return Promise.resolve({ value: this.#decode(row), done: false })
    } catch (error) {
      return this.close().then(() => {
        throw error
      })
    }
  }

  async #nextOfNewChunk(): Promise<IteratorResult<T, undefined>> {
    while (this.#fetching !== undefined) await this.#fetching.catch(() => {})
    if (this.#at >= this.#chunk.length) await this.#fetch()
    if (this.#chunk.length === 0) {
      await this.close()
      return { value: undefined, done: true }
    }
    return await this.next()
  }

  #fetch(): Promise<void> {
    this.#fetching = this.#fetchNow().finally(() => {
      this.#fetching = undefined
    })
    return this.#fetching
  }

  async #fetchNow(): Promise<void> {
    this.#chunk = []
    this.#at = 0
    if (this.#state === 'ended') return
    try {
      const iterator = this.#iterator ?? (await this.#begin())
      const chunk = (await iterator?.next(this.#chunkRows)) ?? []
      if (!this.#hasEnded) this.#chunk = chunk
    } catch (error) {
      // Closed under its feet: the end, not a failure.
      if (this.#hasEnded) return
      await this.close()
      throw error
    }
    this.#chunkRows = Math.min(this.#chunkRows * 4, chunkRowsMax)
  }

  async #begin(): Promise<RowIterator | undefined> {
    this.#state = 'open'
    const source = await this.#open()
    if (this.#hasEnded) {
      await source.close()
      return undefined
    }
    this.#source = source
    this.#iterator = source.rows.iterate(this.#range)
    return this.#iterator
  }

  /** It may have been closed while something was awaited. */
  get #hasEnded(): boolean {
    return this.#state === 'ended'
  }

  /** All that is left. */
  async all(): Promise<T[]> {
    const rows: T[] = []
    try {
      for (;;) {
        for (; this.#at < this.#chunk.length; this.#at++)
          rows.push(this.#decode(this.#chunk[this.#at] as Row))
        await this.#fetch()
        if (this.#chunk.length === 0) return rows
      }
    } finally {
      await this.close()
    }
  }

  async return(): Promise<IteratorResult<T, undefined>> {
    await this.close()
    return { value: undefined, done: true }
  }

  /** Lets go of the view. May be called at any time, more than once. */
  async close(): Promise<void> {
    this.#state = 'ended'
    this.#chunk = []
    const iterator = this.#iterator
    const source = this.#source
    this.#iterator = undefined
    this.#source = undefined
    await iterator?.close()
    await source?.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

/** The three ways to see a row of a store. */
export interface RowDecoders<K, V> {
  entry(row: Row): [K, V]
  key(row: Row): K
  value(row: Row): V
}

export function rowDecoders<K, V>(keySpace: KeySpace, keyCodec: Codec, valueCodec: Codec): RowDecoders<K, V> {
  return {
    entry: ([key, value]) => [keyCodec.decode(keySpace.ownKey(key)) as K, valueCodec.decode(value) as V],
    key: ([key]) => keyCodec.decode(keySpace.ownKey(key)) as K,
    value: ([, value]) => valueCodec.decode(value) as V,
  }
}

/** VALUE_INVALID for null, undefined or too long. */
export function encodeValue(value: unknown, codec: Codec, bytesMax: number): Uint8Array {
  if (value === null || value === undefined) {
    throw new CoterieError('VALUE_INVALID', 'a value cannot be null or undefined')
  }
  const encoded = codec.encode(value)
  if (encoded.length > bytesMax) {
    throw new CoterieError(
      'VALUE_INVALID',
      `a value has at most ${bytesMax} bytes, this one ${encoded.length}`,
      {
        details: { bytes: encoded.length, bytesMax },
      },
    )
  }
  // A caller may change its own bytes later; ours are shared by log, overlay and cache.
  return encoded === value || (ArrayBuffer.isView(value) && encoded.buffer === value.buffer)
    ? new Uint8Array(encoded)
    : encoded
}
