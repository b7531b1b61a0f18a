// What the applier gathers from log records for one change of the store: of each key the last write, and for
// records that the group may yet take back the values from before.
//
// Invariant: undo of a record restores exactly what the record found, so a key that two records of one batch write
// has the first one's value in the undo of the second.

import type { RecordPlace } from '../base/batch.ts'
import type { HistoryEntry } from '../base/history.ts'
import { limits } from '../base/limits.ts'
import type { Lsn } from '../base/lsn.ts'
import { keyText } from './key-text.ts'
import type { RowCache } from './row-cache.ts'
import type { RowWrite, Store, UndoEntry } from './store.ts'

interface GatheredWrite extends RowWrite {
  value: Uint8Array | undefined
  /** The record that wrote it last. */
  lsn: Lsn
}

interface GatheredUndo extends UndoEntry {
  before: Uint8Array | undefined
}

/** Old values that only the store knows are read so many at a time. */
const readsPerCall = 1000

export class ApplyBatch {
  /** By the text of the key, in the order of first writes. */
  readonly writes: Map<string, GatheredWrite> = new Map()
  readonly rows: RowWrite[] = []
  readonly undo: { readonly lsn: Lsn; readonly entries: GatheredUndo[] }[] = []
  history: readonly HistoryEntry[]
  /** The last record gathered. */
  last: RecordPlace
  /** Writes and bytes decoded, overwritten ones and those passed over included. */
  decodedWrites = 0
  decodedBytes = 0
  readonly #unread: { readonly text: string; readonly entry: GatheredUndo }[] = []
  #entries: GatheredUndo[] | undefined

  constructor(start: { readonly last: RecordPlace; readonly history: readonly HistoryEntry[] }) {
    this.last = start.last
    this.history = start.history
  }

  /** `withUndo`: the record is not permanent yet. Every such record has undo, if only an empty one. */
  beginRecord(place: RecordPlace, options: { readonly bytes: number; readonly withUndo: boolean }): void {
    this.last = place
    this.decodedBytes += options.bytes
    this.#entries = undefined
    if (!options.withUndo) return
    this.#entries = []
    this.undo.push({ lsn: place.lsn, entries: this.#entries })
  }

  write(key: Uint8Array, value: Uint8Array | undefined): void {
    this.decodedWrites++
    const text = keyText(key)
    const { lsn } = this.last
    const known = this.writes.get(text)
    if (known === undefined) {
      const write: GatheredWrite = { key, value, lsn }
      this.writes.set(text, write)
      this.rows.push(write)
      if (this.#entries === undefined) return
      const entry: GatheredUndo = { key, before: undefined }
      this.#entries.push(entry)
      this.#unread.push({ text, entry })
      return
    }
    if (this.#entries !== undefined && known.lsn !== lsn) this.#entries.push({ key, before: known.value })
    known.value = value
    known.lsn = lsn
  }

  /** A write that this site does not keep: neither stored nor undone, but it was work to decode. */
  passOver(): void {
    this.decodedWrites++
  }

  term(site: string): void {
    const entry: HistoryEntry = { term: this.last.term, firstLsn: this.last.lsn, site }
    this.history = [...this.history, entry].slice(-limits.historyEntriesMax)
  }

  /** Reads the old values that came before the batch. */
  async readUndo(store: Store, cache: RowCache | undefined): Promise<void> {
    const misses = this.#unread.filter(({ text, entry }) => {
      const cached = cache?.get(text)
      if (cached !== undefined) entry.before = cached.value
      return cached === undefined
    })
    for (let at = 0; at < misses.length; at += readsPerCall) {
      const part = misses.slice(at, at + readsPerCall)
      const values = await store.getMany(part.map(({ entry }) => entry.key))
      for (const [i, { entry }] of part.entries()) entry.before = values[i]
    }
  }
}
