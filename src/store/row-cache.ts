// A bounded cache of rows as the store has them, in front of it: a hit costs a fiftieth of a read of LevelDB and
// copies nothing. It knows absent rows, too.
//
// Two generations: what is used moves to the young one; when the young one has half of the bytes, the old one is
// dropped whole and they change places. That is nearly as good as least-recently-used, with no list to keep.
//
// No stale row can get in: whoever reads the store takes a ticket first, and `fill` refuses the row if any batch
// has become visible since. Values are shared: nobody changes them.

import type { RowWrite } from './store.ts'
import { ValueCopier } from './value-copier.ts'

export interface CachedRow {
  /** Undefined: there is no such row. */
  readonly value: Uint8Array | undefined
}

export interface RowCacheOptions {
  /** Default 32 MiB, with what the cache itself needs for a row. 0: nothing is kept. */
  readonly bytesMax?: number
}

declare const ticketBrand: unique symbol
/** Says which state of the store a read began with. */
export type CacheTicket = number & { readonly [ticketBrand]: true }

const bytesMaxDefault = 33_554_432
/** What a row costs beside its bytes: the entry, the key's string, the view of the value. Measured, rounded. */
const rowOverheadBytes = 200
/** Rows larger than this part of the cache would push out too much. */
const rowShare = 16

export class RowCache {
  readonly #halfBytes: number
  readonly #rowBytesMax: number
  readonly #copier = new ValueCopier()
  #young = new Map<string, CachedRow>()
  #old = new Map<string, CachedRow>()
  #youngBytes = 0
  #oldBytes = 0
  #ticket = 0
  /** Lookups that found a row (or its absence) and that did not, since the start. */
  hits = 0
  misses = 0

  constructor(options: RowCacheOptions = {}) {
    const bytesMax = options.bytesMax ?? bytesMaxDefault
    this.#halfBytes = bytesMax / 2
    this.#rowBytesMax = bytesMax / rowShare
  }

  get count(): number {
    return this.#young.size + this.#old.size
  }

  /** About; never more than `bytesMax`. */
  get bytes(): number {
    return this.#youngBytes + this.#oldBytes
  }

  /** `key` is the text of a key (key-text.ts). Undefined: not cached. */
  get(key: string): CachedRow | undefined {
    const young = this.#young.get(key)
    if (young !== undefined) {
      this.hits++
      return young
    }
    const old = this.#old.get(key)
    if (old === undefined) {
      this.misses++
      return undefined
    }
    this.hits++
    this.#take(this.#old, key, old)
    this.#put(key, old)
    return old
  }

  /** Take it before reading the store. */
  ticket(): CacheTicket {
    return this.#ticket as CacheTicket
  }

  /** A row as it was read from the store; left out if the store has changed since the ticket. */
  fill(key: string, value: Uint8Array | undefined, ticket: CacheTicket): void {
    if (ticket === this.#ticket) this.#set(key, value)
  }

  /** A batch has become visible in the store: cached rows follow, and reads that are under way are not let in. */
  applied(writes: Iterable<readonly [key: string, write: RowWrite]>): void {
    this.#ticket++
    if (this.#young.size === 0 && this.#old.size === 0) return
    for (const [key, { value }] of writes) {
      if (!this.#young.has(key) && !this.#old.has(key)) continue
      this.#set(key, value === undefined ? undefined : this.#copier.copy(value))
    }
  }

  delete(key: string): void {
    this.#ticket++
    this.#remove(key)
  }

  clear(): void {
    this.#ticket++
    this.#young = new Map()
    this.#old = new Map()
    this.#youngBytes = 0
    this.#oldBytes = 0
  }

  #set(key: string, value: Uint8Array | undefined): void {
    this.#remove(key)
    const row: CachedRow = { value }
    if (bytesOf(key, row) <= this.#rowBytesMax) this.#put(key, row)
  }

  #put(key: string, row: CachedRow): void {
    const bytes = bytesOf(key, row)
    if (this.#youngBytes + bytes > this.#halfBytes) {
      this.#old = this.#young
      this.#oldBytes = this.#youngBytes
      this.#young = new Map()
      this.#youngBytes = 0
    }
    this.#young.set(key, row)
    this.#youngBytes += bytes
  }

  #remove(key: string): void {
    const young = this.#young.get(key)
    if (young !== undefined) this.#take(this.#young, key, young)
    const old = this.#old.get(key)
    if (old !== undefined) this.#take(this.#old, key, old)
  }

  #take(from: Map<string, CachedRow>, key: string, row: CachedRow): void {
    from.delete(key)
    if (from === this.#young) this.#youngBytes -= bytesOf(key, row)
    else this.#oldBytes -= bytesOf(key, row)
  }
}

function bytesOf(key: string, row: CachedRow): number {
  return rowOverheadBytes + key.length + (row.value === undefined ? 0 : row.value.length)
}
