// A store on a simulated disk, which behaves over a crash as classic-level does: of the batches written since the last
// flush a machine that loses power keeps the first few, how many is drawn; a process that is killed loses none.
// Rows, meta and undo of a batch stand or fall together.
//
// The disk outlives processes: `SimulatedStores` belongs to a machine, and each process gets an engine of its own.
// A state of the rows is shared until one side writes, so that a snapshot and a flush cost nothing.

import { assert } from '../base/assert.ts'
import { CoterieError } from '../base/errors.ts'
import type { Lsn } from '../base/lsn.ts'
import type { Prng } from '../base/prng.ts'
import { keyBytes, keyText } from '../store/key-text.ts'
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
} from '../store/store.ts'
import { UndoLsns } from '../store/undo-lsns.ts'

/** Runs something later on the site that owns the store; what a killed site asked for never runs. */
export type Later = (callback: () => void) => void

/** One state of all that a store holds. Not changed once it is shared. */
class State {
  rows: Map<string, Uint8Array> = new Map()
  undo: Map<Lsn, UndoEntry[]> = new Map()
  meta: StoreMeta | undefined
  shared: boolean = false
  #keys: string[] | undefined

  /** The keys in order; made when first asked for. */
  get keys(): readonly string[] {
    this.#keys ??= [...this.rows.keys()].sort((a, b) => (a < b ? -1 : 1))
    return this.#keys
  }

  copy(): State {
    const copy = new State()
    copy.rows = new Map(this.rows)
    copy.undo = new Map(this.undo)
    copy.meta = this.meta
    return copy
  }

  /** The batch has bytes of its own. */
  apply(batch: StoreBatch): void {
    for (const { key, value } of batch.writes) {
      assert(key.length > 0, 'a key is not empty')
      const text = keyText(key)
      const known = this.rows.has(text)
      if (value === undefined) this.rows.delete(text)
      else this.rows.set(text, value)
      if (known !== (value !== undefined)) this.#keys = undefined
    }
    const { forgetUndoTo, forgetUndoAfter } = batch
    if (forgetUndoTo !== undefined || forgetUndoAfter !== undefined) {
      const lsns = new UndoLsns([...this.undo.keys()].sort((a, b) => a - b))
      for (const lsn of lsns.forgottenBy(batch)) this.undo.delete(lsn)
    }
    for (const { lsn, entries } of batch.undo ?? []) this.undo.set(lsn, [...entries])
    if (batch.meta !== undefined) this.meta = batch.meta
  }
}

interface Content {
  state: State
  /** What a crash cannot take any more. */
  durable: State
  /** The batches since then, those under way included. */
  readonly journal: StoreBatch[]
  /** How many of `journal` are in `state`. */
  visible: number
  /** Batches that have left `journal`: gives every batch a number for good. */
  settled: number
  damaged: boolean
  /** The next write fails, and with it the open store. */
  failing: boolean
  /** The process that has it open. */
  openFor: object | undefined
}

export class SimulatedStores {
  readonly #prng: Prng
  readonly #contents: Map<string, Content> = new Map()

  constructor(options: { readonly prng: Prng }) {
    this.#prng = options.prng
  }

  /** The engine for one process. */
  engine(later: Later): StoreEngine {
    return new SimulatedStoreEngine(this.#contents, later)
  }

  get locations(): string[] {
    return [...this.#contents.keys()].sort()
  }

  /** The process is gone: what it was writing arrives or not, what it had written stays. */
  kill(): void {
    for (const content of this.#contents.values()) {
      this.#keepOf(content, content.visible + this.#prng.below(content.journal.length - content.visible + 1))
      content.openFor = undefined
    }
  }

  /** The machine loses power. */
  crash(): void {
    for (const content of this.#contents.values()) {
      const { length } = content.journal
      this.#keepOf(content, this.#prng.pick([0, length, this.#prng.below(length + 1)]))
      content.durable = content.state
      content.state.shared = true
      content.settled += content.journal.length
      content.journal.length = 0
      content.visible = 0
      content.openFor = undefined
    }
  }

  /** What readers of a store see; for judges. */
  contentOf(
    location: string,
  ): { readonly rows: ReadonlyMap<string, Uint8Array>; readonly meta: StoreMeta | undefined } | undefined {
    return this.#contents.get(location)?.state
  }

  /** A closed store that does not open any more. */
  damage(location: string): void {
    const content = this.#contents.get(location)
    if (content !== undefined) content.damaged = true
  }

  /** The next write of a store is reported as failed; whether it is on the disk is in doubt. */
  failWrite(location: string): void {
    const content = this.#contents.get(location)
    if (content !== undefined) content.failing = true
  }

  wipe(): void {
    this.#contents.clear()
  }

  #keepOf(content: Content, count: number): void {
    const { journal } = content
    journal.length = count
    if (content.visible === count) return
    const state = content.durable.copy()
    for (const batch of journal) state.apply(batch)
    content.state = state
    content.visible = count
  }
}

class SimulatedStoreEngine implements StoreEngine {
  /** What it stands for. */
  readonly name = 'classic-level'
  readonly #contents: Map<string, Content>
  readonly #later: Later

  constructor(contents: Map<string, Content>, later: Later) {
    this.#contents = contents
    this.#later = later
  }

  async open(location: string): Promise<Store> {
    await this.#turn()
    let content = this.#contents.get(location)
    if (content === undefined) {
      const state = new State()
      state.shared = true
      content = {
        state,
        durable: state,
        journal: [],
        visible: 0,
        settled: 0,
        damaged: false,
        failing: false,
        openFor: undefined,
      }
      this.#contents.set(location, content)
    }
    assertClosed(content, location)
    if (content.damaged) throw new CoterieError('STORE_FAILED', `the store ${location} is damaged`)
    content.openFor = this
    return new SimulatedStore(content, this.#later)
  }

  async exists(location: string): Promise<boolean> {
    return this.#contents.has(location)
  }

  async move(from: string, to: string): Promise<void> {
    await this.#turn()
    const content = this.#contents.get(from)
    if (content === undefined) throw new CoterieError('IO_ERROR', `there is no store ${from}`)
    if (this.#contents.has(to)) throw new CoterieError('IO_ERROR', `there is a store ${to} already`)
    assertClosed(content, from)
    this.#contents.delete(from)
    this.#contents.set(to, content)
  }

  async destroy(location: string): Promise<void> {
    await this.#turn()
    const content = this.#contents.get(location)
    if (content !== undefined) assertClosed(content, location)
    this.#contents.delete(location)
  }

  #turn(): Promise<void> {
    return new Promise((resolve) => this.#later(resolve))
  }
}

function assertClosed(content: Content, location: string): void {
  if (content.openFor !== undefined) throw new CoterieError('STORE_FAILED', `the store ${location} is open`)
}

class SimulatedStore implements Store {
  /** Small, so that a crash finds stores in more states. */
  readonly batchWritesWanted = 16
  readonly #content: Content
  readonly #later: Later
  #closed: boolean = false
  #failed: boolean = false
  #writing: Promise<void> | undefined

  constructor(content: Content, later: Later) {
    this.#content = content
    this.#later = later
  }

  get meta(): StoreMeta | undefined {
    return this.#content.state.meta
  }

  get oldestUndoLsn(): Lsn | undefined {
    let oldest: Lsn | undefined
    for (const lsn of this.#content.state.undo.keys()) if (oldest === undefined || lsn < oldest) oldest = lsn
    return oldest
  }

  getSync(key: Uint8Array): Uint8Array | undefined {
    this.#assertOpen()
    return this.#content.state.rows.get(keyText(key))
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    return this.getSync(key)
  }

  async getMany(keys: readonly Uint8Array[]): Promise<(Uint8Array | undefined)[]> {
    return keys.map((key) => this.getSync(key))
  }

  /** What a crash may keep of it is settled here; readers see it in a later turn. */
  async write(batch: StoreBatch): Promise<void> {
    this.#assertOpen()
    while (this.#writing !== undefined) await this.#writing
    this.#assertOpen()
    const content = this.#content
    const held = heldBatch(batch)
    content.journal.push(held)
    this.#writing = new Promise((resolve) => this.#later(resolve))
    await this.#writing
    this.#writing = undefined
    if (content.failing) {
      content.failing = false
      this.#failed = true
      throw failure()
    }
    if (content.state.shared) content.state = content.state.copy()
    content.state.apply(held)
    content.visible++
    batch.onVisible?.()
  }

  snapshot(): StoreSnapshot {
    this.#assertOpen()
    const { state } = this.#content
    state.shared = true
    return new SimulatedSnapshot(state)
  }

  async undoAfter(lsn: Lsn): Promise<{ lsn: Lsn; entries: UndoEntry[] }[]> {
    this.#assertOpen()
    return [...this.#content.state.undo]
      .filter(([kept]) => kept > lsn)
      .sort(([a], [b]) => b - a)
      .map(([kept, entries]) => ({ lsn: kept, entries }))
  }

  async flush(): Promise<void> {
    this.#assertOpen()
    const content = this.#content
    const { state } = content
    state.shared = true
    const upTo = content.settled + content.visible
    await new Promise<void>((resolve) => this.#later(resolve))
    const count = upTo - content.settled
    // Another flush may have made as much durable already.
    if (count <= 0) return
    content.durable = state
    content.journal.splice(0, count)
    content.settled += count
    content.visible -= count
  }

  async approximateBytes(): Promise<number> {
    this.#assertOpen()
    let bytes = 0
    for (const [key, value] of this.#content.state.rows) bytes += key.length + value.length
    return bytes
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    while (this.#writing !== undefined) await this.#writing
    this.#content.openFor = undefined
  }

  #assertOpen(): void {
    if (this.#closed) throw new CoterieError('CLOSED', 'the store is closed')
    if (this.#failed) throw failure()
  }
}

function failure(): CoterieError {
  return new CoterieError('STORE_FAILED', 'the store could not be written')
}

class SimulatedSnapshot implements StoreSnapshot {
  readonly meta: StoreMeta | undefined
  /** Undefined once closed. */
  #state: State | undefined

  constructor(state: State) {
    this.#state = state
    this.meta = state.meta
  }

  getSync(key: Uint8Array): Uint8Array | undefined {
    return this.#open().rows.get(keyText(key))
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    return this.getSync(key)
  }

  async getMany(keys: readonly Uint8Array[]): Promise<(Uint8Array | undefined)[]> {
    return keys.map((key) => this.getSync(key))
  }

  iterate(range: RowRange): RowIterator {
    const state = this.#open()
    const keys = keysOf(state, range)
    let at = 0
    let closed = false
    return {
      next: async (count) => {
        this.#open()
        if (closed) throw new CoterieError('CLOSED', 'the iterator is closed')
        const found: Row[] = []
        while (found.length < count && at < keys.length) {
          const key = keys[at++] as string
          found.push([keyBytes(key), state.rows.get(key) as Uint8Array])
        }
        return found
      },
      close: async () => {
        closed = true
      },
    }
  }

  async close(): Promise<void> {
    this.#state = undefined
  }

  #open(): State {
    if (this.#state === undefined) throw new CoterieError('CLOSED', 'the snapshot is closed')
    return this.#state
  }
}

function keysOf(state: State, range: RowRange): readonly string[] {
  const { keys } = state
  let from = 0
  let to = keys.length
  if (range.gte !== undefined) from = Math.max(from, firstAtLeast(keys, keyText(range.gte), false))
  if (range.gt !== undefined) from = Math.max(from, firstAtLeast(keys, keyText(range.gt), true))
  if (range.lte !== undefined) to = Math.min(to, firstAtLeast(keys, keyText(range.lte), true))
  if (range.lt !== undefined) to = Math.min(to, firstAtLeast(keys, keyText(range.lt), false))
  const found = from >= to ? [] : keys.slice(from, to)
  if (range.reverse === true) found.reverse()
  return range.limit === undefined || range.limit < 0 ? found : found.slice(0, range.limit)
}

/** The index of the first key that is not less than `bound`, or, with `beyond`, that is greater. */
function firstAtLeast(keys: readonly string[], bound: string, beyond: boolean): number {
  let low = 0
  let high = keys.length
  while (low < high) {
    const middle = (low + high) >>> 1
    const key = keys[middle] as string
    if (key < bound || (beyond && key === bound)) low = middle + 1
    else high = middle
  }
  return low
}

/** Without what concerns only this process; with bytes of its own, because a crash may need them much later. */
function heldBatch(batch: StoreBatch): StoreBatch {
  const { onVisible, ...held } = batch
  const writes = held.writes.map(({ key, value }) => ({
    key: new Uint8Array(key),
    value: value === undefined ? undefined : new Uint8Array(value),
  }))
  if (held.undo === undefined) return { ...held, writes }
  const undo = held.undo.map(({ lsn, entries }) => ({ lsn, entries: entries.map(copyUndoEntry) }))
  return { ...held, writes, undo }
}

function copyUndoEntry({ key, before }: UndoEntry): UndoEntry {
  return { key: new Uint8Array(key), before: before === undefined ? undefined : new Uint8Array(before) }
}
