// The master's side of a snapshot: one consistent view of the store for one replica, read in chunks at the pace that
// the core sets. The view costs nothing to others; it is held until the replica has all of it or has gone.

import { assert } from '../base/assert.ts'
import type { RecordPlace } from '../base/batch.ts'
import type { History } from '../base/history.ts'
import { encodeRows, rowHeaderBytes } from '../base/row-run.ts'
import type { Engine, EngineSnapshot } from '../database/engine.ts'
import { placeBeforeAll } from '../log/record-format.ts'
import type { Row, RowIterator } from '../store/store.ts'

export interface SnapshotChunk {
  /** Rows in the format of base/row-run.ts. */
  readonly bytes: Uint8Array
  readonly count: number
  readonly lastKey: Uint8Array | undefined
  /** No row comes after these. */
  readonly done: boolean
}

/** So many rows are fetched from the store at once, whatever the size of a chunk. */
const fetchRows = 2000

export class SnapshotSource {
  readonly place: RecordPlace
  readonly history: History
  readonly #snapshot: EngineSnapshot
  readonly #iterator: RowIterator
  #fetched: Row[] = []
  #at = 0
  #ended = false

  private constructor(snapshot: EngineSnapshot, iterator: RowIterator, place: RecordPlace, history: History) {
    this.#snapshot = snapshot
    this.#iterator = iterator
    this.place = place
    this.history = history
  }

  /** Opens a view of now; with `afterKey` only the rows behind it are read. */
  static async open(engine: Engine, afterKey: Uint8Array | undefined): Promise<SnapshotSource> {
    assert(!engine.keptStores.isPartial, 'a partial view gives no rows to others')
    const snapshot = await engine.snapshot()
    const { meta } = snapshot.rows
    // A new group commits nothing before its replicas are there: the first of them start from the empty state.
    const place =
      meta === undefined
        ? placeBeforeAll
        : { lsn: meta.appliedLsn, term: meta.appliedTerm, crc: meta.appliedCrc }
    const iterator = snapshot.rows.iterate(afterKey === undefined ? {} : { gt: afterKey })
    return new SnapshotSource(snapshot, iterator, place, meta?.history ?? [])
  }

  async read(options: { recordsMax: number; bytesMax: number }): Promise<SnapshotChunk> {
    const rows: Row[] = []
    let bytes = 0
    while (rows.length < options.recordsMax && (bytes < options.bytesMax || rows.length === 0)) {
      const row = await this.#next()
      if (row === undefined) break
      const size = row[0].length + row[1].length + rowHeaderBytes
      if (rows.length > 0 && bytes + size > options.bytesMax) {
        this.#at--
        break
      }
      rows.push(row)
      bytes += size
    }
    const done = this.#at >= this.#fetched.length && (this.#ended || (await this.#fetch()) === 0)
    return { bytes: encodeRows(rows), count: rows.length, lastKey: rows.at(-1)?.[0], done }
  }

  async #next(): Promise<Row | undefined> {
    if (this.#at >= this.#fetched.length && (this.#ended || (await this.#fetch()) === 0)) return undefined
    return this.#fetched[this.#at++]
  }

  async #fetch(): Promise<number> {
    this.#fetched = await this.#iterator.next(fetchRows)
    this.#at = 0
    if (this.#fetched.length === 0) this.#ended = true
    return this.#fetched.length
  }

  async close(): Promise<void> {
    await this.#iterator.close()
    await this.#snapshot.close()
  }
}
