// The store: ordered state, a materialisation of the log up to `appliedLsn`. Two engines stand behind this
// interface (`classic-level` on disk, a B-tree in memory) and one conformance suite runs against both.
//
// Only the applier writes. The store is never trusted over the log: an engine that fails is closed and rebuilt.
// Bytes that a read returns may be shared with the engine and with other readers: nobody changes them.

import type { HistoryEntry } from '../base/history.ts'
import type { Lsn, Term } from '../base/lsn.ts'

/** A row as the store has it. The key includes its store prefix (database/key-space.ts). */
export type Row = readonly [key: Uint8Array, value: Uint8Array]

/** Half open on neither side by itself: each bound says whether it is included. Keys as in the store. */
export interface RowRange {
  readonly gt?: Uint8Array
  readonly gte?: Uint8Array
  readonly lt?: Uint8Array
  readonly lte?: Uint8Array
  readonly reverse?: boolean
  /** At most so many rows; default: all. */
  readonly limit?: number
}

/** One write: a put, or a delete where `value` is undefined. */
export interface RowWrite {
  readonly key: Uint8Array
  readonly value: Uint8Array | undefined
}

/** The old value of a row that a not yet permanent record overwrote; undefined: there was no row. */
export interface UndoEntry {
  readonly key: Uint8Array
  readonly before: Uint8Array | undefined
}

/** What the store says of itself; written in the same atomic batch as the rows it speaks of. */
export interface StoreMeta {
  readonly databaseId: string
  /** Every record up to here is in the store, and none after. */
  readonly appliedLsn: Lsn
  /** Term and checksum of the record at `appliedLsn`, so that a log can be told from a foreign one. */
  readonly appliedTerm: Term
  readonly appliedCrc: number
  /** Reads are consistent only once `appliedLsn` has reached this (a snapshot that was resumed; else 0). */
  readonly readableLsn: Lsn
  readonly history: readonly HistoryEntry[]
}

/** One atomic change of the store. */
export interface StoreBatch {
  /** No key twice. Sorted by key where the applier found that cheaper. */
  readonly writes: readonly RowWrite[]
  /** Replaces the meta. */
  readonly meta?: StoreMeta
  /** Old values to keep under `lsn`, for records that the group may yet take back. */
  readonly undo?: readonly { readonly lsn: Lsn; readonly entries: readonly UndoEntry[] }[]
  /** Forgets undo of records up to and with this LSN: they are permanent now. */
  readonly forgetUndoTo?: Lsn
  /** Forgets undo of records after this LSN: they have been taken back. */
  readonly forgetUndoAfter?: Lsn
  /**
   * Called once, in the very turn in which reads and new snapshots begin to see the batch: what stands in front of
   * the store (row cache, overlay) changes with it, and no reader sees one without the other. Must not throw.
   */
  readonly onVisible?: () => void
}

/** Reads see exactly the batches whose `write` has become visible: `meta` and rows never disagree. */
export interface Store {
  /** Undefined until the first batch that carries a meta. */
  readonly meta: StoreMeta | undefined
  getSync(key: Uint8Array): Uint8Array | undefined
  get(key: Uint8Array): Promise<Uint8Array | undefined>
  getMany(keys: readonly Uint8Array[]): Promise<(Uint8Array | undefined)[]>
  /** How many writes a batch should have: more would hold up the event loop, fewer cost more for each. */
  readonly batchWritesWanted: number
  /** Atomic with respect to crashes and to snapshots. Rejects with STORE_FAILED; after that only `close` works. */
  write(batch: StoreBatch): Promise<void>
  /** A consistent view of now; taken synchronously. Must be closed. */
  snapshot(): StoreSnapshot
  /** The first record that there is undo for. */
  readonly oldestUndoLsn: Lsn | undefined
  /** Undo of records after `lsn`, newest first. */
  undoAfter(lsn: Lsn): Promise<{ lsn: Lsn; entries: UndoEntry[] }[]>
  /** Makes everything written so far survive a power cut (a checkpoint). */
  flush(): Promise<void>
  /** Rough bytes on disk or in memory. */
  approximateBytes(): Promise<number>
  close(): Promise<void>
}

export interface StoreSnapshot {
  readonly meta: StoreMeta | undefined
  getSync(key: Uint8Array): Uint8Array | undefined
  get(key: Uint8Array): Promise<Uint8Array | undefined>
  getMany(keys: readonly Uint8Array[]): Promise<(Uint8Array | undefined)[]>
  iterate(range: RowRange): RowIterator
  /** Closes its iterators too. */
  close(): Promise<void>
}

export interface RowIterator {
  /** Up to `count` rows; an empty array at the end. One call at a time. */
  next(count: number): Promise<Row[]>
  close(): Promise<void>
}

/** How a site gets its store: opens it, sets it aside, swaps in another. */
export interface StoreEngine {
  readonly name: 'classic-level' | 'memory'
  /** Opens or creates. Rejects with STORE_FAILED when the files are damaged. */
  open(location: string): Promise<Store>
  exists(location: string): Promise<boolean>
  /** Renames a closed store; atomic and durable. */
  move(from: string, to: string): Promise<void>
  /** Deletes a closed store. */
  destroy(location: string): Promise<void>
}
