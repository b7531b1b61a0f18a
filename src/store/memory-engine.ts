// The engine in memory: a B-tree of keys as strings (key-text.ts). For in-memory databases, tests and the simulator;
// nothing outlives the engine object, which keeps the content of closed stores so that they can be opened again. A
// snapshot is a clone of the tree, which costs nothing until either side is written.
//
// Small values are strings, too: a third of the memory of byte arrays, and nothing for the garbage collector to
// look into. Every read makes the bytes anew. V8's heap bounds such a database: `node --max-old-space-size`.

import BTreeModule from 'sorted-btree'
import { assert } from '../base/assert.ts'
import { CoterieError } from '../base/errors.ts'
import type { Lsn } from '../base/lsn.ts'
import { keyBytes, keyText } from './key-text.ts'
import type {
  Row,
  RowIterator,
  RowRange,
  Store,
  StoreBatch,
  StoreEngine,
  StoreMeta,
  StoreSnapshot,
  UndoEntry,
} from './store.ts'
import { UndoLsns } from './undo-lsns.ts'

/** Values up to this size are held as strings. */
const textBytesMax = 1024

type Tree = BTreeModule.default<string, string | Uint8Array>

interface Content {
  tree: Tree
  meta: StoreMeta | undefined
  readonly undo: Map<Lsn, UndoEntry[]>
  readonly undoLsns: UndoLsns
  /** Of all rows ever put: their mean size stands for that of the rows there are. */
  written: { rows: number; bytes: number }
  open: boolean
}

/** What a row costs beside its bytes, roughly. */
const rowOverheadBytes = 150

export function memoryEngine(): StoreEngine {
  return new MemoryEngine()
}

class MemoryEngine implements StoreEngine {
  readonly name = 'memory'
  readonly #contents = new Map<string, Content>()

  async open(location: string): Promise<Store> {
    let content = this.#contents.get(location)
    if (content === undefined) {
      content = {
        tree: new BTreeModule.default<string, string | Uint8Array>(undefined, compareText, 64),
        meta: undefined,
        undo: new Map(),
        undoLsns: new UndoLsns(),
        written: { rows: 0, bytes: 0 },
        open: false,
      }
      this.#contents.set(location, content)
    }
    assertClosed(content, location)
    content.open = true
    return new MemoryStore(content)
  }

  async exists(location: string): Promise<boolean> {
    return this.#contents.has(location)
  }

  async move(from: string, to: string): Promise<void> {
    const content = this.#contents.get(from)
    if (content === undefined) throw new CoterieError('IO_ERROR', `there is no store ${from}`)
    if (this.#contents.has(to)) throw new CoterieError('IO_ERROR', `there is a store ${to} already`)
    assertClosed(content, from)
    this.#contents.delete(from)
    this.#contents.set(to, content)
  }

  async destroy(location: string): Promise<void> {
    const content = this.#contents.get(location)
    if (content !== undefined) assertClosed(content, location)
    this.#contents.delete(location)
  }
}

function assertClosed(content: Content, location: string): void {
  if (content.open) throw new CoterieError('STORE_FAILED', `the store ${location} is open`)
}

function compareText(a: string, b: string): number {
  if (a < b) return -1
  return a > b ? 1 : 0
}

class MemoryStore implements Store {
  /** About 4 ms with a million rows. */
  readonly batchWritesWanted = 1024
  readonly #content: Content
  #closed = false

  constructor(content: Content) {
    this.#content = content
  }

  get meta(): StoreMeta | undefined {
    return this.#content.meta
  }

  get oldestUndoLsn(): Lsn | undefined {
    return this.#content.undoLsns.oldest
  }

  getSync(key: Uint8Array): Uint8Array | undefined {
    this.#assertOpen()
    return bytesOf(this.#content.tree.get(keyText(key)))
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    return this.getSync(key)
  }

  async getMany(keys: readonly Uint8Array[]): Promise<(Uint8Array | undefined)[]> {
    return keys.map((key) => this.getSync(key))
  }

  async write(batch: StoreBatch): Promise<void> {
    this.#assertOpen()
    const content = this.#content
    const { tree, undo, undoLsns, written } = content
    for (const { key, value } of batch.writes) {
      assert(key.length > 0, 'a key is not empty')
      if (value === undefined) tree.delete(keyText(key))
      else tree.set(keyText(key), heldForm(value))
      written.rows++
      written.bytes += key.length + (value?.length ?? 0)
    }
    for (const lsn of undoLsns.forgottenBy(batch)) undo.delete(lsn)
    undoLsns.apply(batch)
    for (const { lsn, entries } of batch.undo ?? []) undo.set(lsn, entries.map(copyUndoEntry))
    if (batch.meta !== undefined) content.meta = batch.meta
    batch.onVisible?.()
  }

  snapshot(): StoreSnapshot {
    this.#assertOpen()
    return new MemorySnapshot(this.#content.tree.clone(), this.#content.meta)
  }

  async undoAfter(lsn: Lsn): Promise<{ lsn: Lsn; entries: UndoEntry[] }[]> {
    this.#assertOpen()
    const { undo, undoLsns } = this.#content
    return undoLsns.after(lsn).map((kept) => ({ lsn: kept, entries: undo.get(kept) as UndoEntry[] }))
  }

  async flush(): Promise<void> {
    this.#assertOpen()
  }

  async approximateBytes(): Promise<number> {
    this.#assertOpen()
    const { tree, written } = this.#content
    const meanBytes = written.rows === 0 ? 0 : written.bytes / written.rows
    return Math.round(tree.size * (meanBytes + rowOverheadBytes))
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#content.open = false
  }

  #assertOpen(): void {
    if (this.#closed) throw new CoterieError('CLOSED', 'the store is closed')
  }
}

class MemorySnapshot implements StoreSnapshot {
  readonly meta: StoreMeta | undefined
  /** Undefined once closed. */
  #tree: Tree | undefined

  constructor(tree: Tree, meta: StoreMeta | undefined) {
    this.#tree = tree
    this.meta = meta
  }

  getSync(key: Uint8Array): Uint8Array | undefined {
    return bytesOf(this.#open().get(keyText(key)))
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    return this.getSync(key)
  }

  async getMany(keys: readonly Uint8Array[]): Promise<(Uint8Array | undefined)[]> {
    return keys.map((key) => this.getSync(key))
  }

  iterate(range: RowRange): RowIterator {
    const rows = rowsOf(this.#open(), range)
    let closed = false
    return {
      next: async (count) => {
        this.#open()
        if (closed) throw new CoterieError('CLOSED', 'the iterator is closed')
        const found: Row[] = []
        while (found.length < count) {
          const { value, done } = rows.next()
          if (done === true) break
          found.push(value)
        }
        return found
      },
      close: async () => {
        closed = true
      },
    }
  }

  async close(): Promise<void> {
    this.#tree = undefined
  }

  #open(): Tree {
    if (this.#tree === undefined) throw new CoterieError('CLOSED', 'the snapshot is closed')
    return this.#tree
  }
}

function* rowsOf(tree: Tree, range: RowRange): Generator<Row, void, undefined> {
  const { reverse = false, limit = Number.POSITIVE_INFINITY } = range
  const [from, fromIncluded, to, toIncluded] = reverse
    ? [range.lt ?? range.lte, range.lt === undefined, range.gt ?? range.gte, range.gt === undefined]
    : [range.gt ?? range.gte, range.gt === undefined, range.lt ?? range.lte, range.lt === undefined]
  const first = from === undefined ? undefined : keyText(from)
  const last = to === undefined ? undefined : keyText(to)
  const entries = reverse ? tree.entriesReversed(first, []) : tree.entries(first, [])
  let left = limit
  for (const [key, value] of entries) {
    if (left <= 0) return
    if (!fromIncluded && key === first) continue
    if (last !== undefined) {
      const beyond = reverse ? key < last : key > last
      if (beyond || (!toIncluded && key === last)) return
    }
    left--
    yield [keyBytes(key), bytesOf(value) as Uint8Array]
  }
}

function heldForm(value: Uint8Array): string | Uint8Array {
  return value.length <= textBytesMax ? keyText(value) : new Uint8Array(value)
}

function bytesOf(held: string | Uint8Array | undefined): Uint8Array | undefined {
  return typeof held === 'string' ? keyBytes(held) : held
}

/** Not by `slice`, which copies nothing where the bytes are a Buffer. */
function copyUndoEntry({ key, before }: UndoEntry): UndoEntry {
  return { key: new Uint8Array(key), before: before === undefined ? undefined : new Uint8Array(before) }
}
