// The applier between a log made by hand and real stores: what it applies, in what batches, what it keeps to take
// back, and what it refuses.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import fc from 'fast-check'
import type { RecordBatch, RecordPlace } from '../../src/base/batch.ts'
import { utf8Encode } from '../../src/base/bytes.ts'
import { CoterieError, isCoterieError } from '../../src/base/errors.ts'
import type { HistoryEntry } from '../../src/base/history.ts'
import { type Lsn, lsnPlus, toLsn, toTerm } from '../../src/base/lsn.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { BatchBuilder } from '../../src/log/batch-builder.ts'
import { joinBatches, takeRecords } from '../../src/log/batch-slice.ts'
import { placeBeforeAll, recordKind } from '../../src/log/record-format.ts'
import { Applier, type ApplierOptions } from '../../src/store/applier.ts'
import { classicLevelEngine } from '../../src/store/classic-level-engine.ts'
import { digestOf } from '../../src/store/digest.ts'
import { memoryEngine } from '../../src/store/memory-engine.ts'
import { RowCache } from '../../src/store/row-cache.ts'
import type { RowFilter } from '../../src/store/row-filter.ts'
import type { Store, StoreBatch, StoreEngine } from '../../src/store/store.ts'
import { databaseId, ManualTimers } from '../support/log-fixture.ts'
import { waitUntil } from '../support/wait-until.ts'

type Writes = readonly (readonly [key: string, value: string | undefined])[]
/** A commit, or the site whose reign begins. */
type RecordSpec = Writes | string

/** A log in memory: one batch a record, so that it can be cut and read anywhere. */
class TestLog {
  batches: RecordBatch[] = []
  history: HistoryEntry[] = []
  reads: { from: Lsn; bytesMax: number }[] = []
  #builder = new BatchBuilder({ databaseId, previous: placeBeforeAll })
  #term = 0

  get lastLsn(): Lsn {
    return toLsn(this.batches.length)
  }

  place(lsn: number): RecordPlace {
    return lsn === 0 ? placeBeforeAll : (this.batches[lsn - 1] as RecordBatch).last
  }

  historyAt(lsn: number): HistoryEntry[] {
    return this.history.filter(({ firstLsn }) => firstLsn <= lsn)
  }

  add(...specs: RecordSpec[]): RecordBatch[] {
    return specs.map((spec) => {
      const isTerm = typeof spec === 'string'
      if (isTerm) {
        this.#term++
        this.history.push({ term: toTerm(this.#term), firstLsn: lsnPlus(this.lastLsn, 1), site: spec })
      }
      const kind = isTerm ? recordKind.term : recordKind.commit
      this.#builder.begin({ term: toTerm(this.#term), wallMs: 1, kind })
      if (isTerm) this.#builder.payload(utf8Encode(spec))
      else {
        for (const [key, value] of spec) {
          if (value === undefined) this.#builder.del(row(key))
          else this.#builder.put(row(key), utf8Encode(value))
        }
      }
      this.#builder.end()
      const batch = this.#builder.cut() as RecordBatch
      this.batches.push(batch)
      return batch
    })
  }

  truncate(lsn: number): void {
    this.batches.length = lsn
    this.history = this.historyAt(lsn)
    this.#builder = new BatchBuilder({ databaseId, previous: this.place(lsn) })
    this.#term = this.place(lsn).term
  }

  async read(from: Lsn, bytesMax: number): Promise<RecordBatch> {
    this.reads.push({ from, bytesMax })
    const all = this.batches.slice(from - 1)
    assert.ok(all.length > 0, `the log is read from ${from}, beyond its end`)
    const to = this.lastLsn
    return takeRecords(joinBatches(all), { from, to, bytesMax }) ?? (all[0] as RecordBatch)
  }
}

const row = (key: string): Uint8Array => Uint8Array.of(1, ...utf8Encode(key))

/** A store in memory that remembers batches, and fails or waits on demand. */
class WatchedStore {
  readonly batches: StoreBatch[] = []
  failure: Error | undefined
  hold: Promise<void> | undefined
  readonly store: Store

  constructor(store: Store) {
    this.store = new Proxy(store, {
      get: (target, name) => {
        if (name === 'write') return (batch: StoreBatch) => this.#write(target, batch)
        const member = Reflect.get(target, name, target) as unknown
        return typeof member === 'function' ? member.bind(target) : member
      },
    })
  }

  async #write(target: Store, batch: StoreBatch): Promise<void> {
    this.batches.push(batch)
    await this.hold
    if (this.failure !== undefined) throw this.failure
    await target.write(batch)
  }
}

interface Bench {
  readonly log: TestLog
  readonly watched: WatchedStore
  readonly store: Store
  readonly applier: Applier
  readonly applied: number[]
  readonly failures: CoterieError[]
  /** Adds records, offers them, lets them be applied, and waits for it. */
  run(...specs: RecordSpec[]): Promise<void>
  get(key: string): string | undefined
  rows(): Promise<string>
}

const { timers } = nodeHost()

async function bench(
  options: Partial<ApplierOptions> & { log?: TestLog; store?: Store } = {},
): Promise<Bench> {
  const log = options.log ?? new TestLog()
  const watched = new WatchedStore(options.store ?? (await memoryEngine().open('store')))
  const applied: number[] = []
  const failures: CoterieError[] = []
  const { store } = watched
  const applier = new Applier({
    databaseId,
    timers,
    source: (from, bytesMax) => log.read(from, bytesMax),
    onApplied: (lsn) => {
      assert.equal(store.meta?.appliedLsn, lsn, 'the store shows it in the same turn')
      applied.push(lsn)
    },
    onFailed: (error) => {
      failures.push(error)
    },
    ...options,
    store,
  })
  return {
    log,
    watched,
    store,
    applier,
    applied,
    failures,
    run: async (...specs) => {
      for (const batch of log.add(...specs)) applier.offer(batch)
      applier.advance({ to: log.lastLsn, permanentLsn: log.lastLsn })
      await applier.whenApplied(log.lastLsn)
    },
    get: (key) => {
      const value = store.getSync(row(key))
      return value === undefined ? undefined : Buffer.from(value).toString()
    },
    rows: () => rowsOf(store),
  }
}

/** All that a store holds, and its meta, as one text. */
async function rowsOf(store: Store): Promise<string> {
  const snapshot = store.snapshot()
  const { digest } = await digestOf(snapshot)
  const { meta } = snapshot
  await snapshot.close()
  return JSON.stringify({ digest, meta })
}

test('applies what is committed and no more, with the place and the history of the log', async () => {
  const { log, applier, store, get, applied } = await bench()
  for (const batch of log.add(
    'first',
    [['a', '1']],
    [['a', '2']],
    'second',
    [['b', '1']],
    [['a', undefined]],
  )) {
    applier.offer(batch)
  }
  applier.advance({ to: toLsn(5), permanentLsn: toLsn(5) })
  await applier.whenApplied(toLsn(5))
  assert.deepEqual([get('a'), get('b')], ['2', '1'])
  assert.deepEqual(store.meta, {
    databaseId,
    appliedLsn: 5,
    appliedTerm: 2,
    appliedCrc: log.place(5).crc,
    readableLsn: 0,
    history: log.history,
  })
  applier.advance({ to: toLsn(6), permanentLsn: toLsn(6) })
  await applier.whenApplied(toLsn(6))
  assert.equal(get('a'), undefined)
  assert.deepEqual(applied, [5, 6])
  assert.equal(log.reads.length, 0, 'what was offered is not read again')
  assert.deepEqual(applier.lag, { records: 0, queuedBytes: 0 })
})

test('a batch has each key once, ends with a record, and is no bigger than asked for by more than one', async () => {
  const { log, applier, watched, applied } = await bench({ batchWritesMax: 10 })
  const spec = (n: number): Writes => [0, 1, 2, 3].map((i) => [`k${(n + i) % 6}`, `v${n}`] as const)
  for (const batch of log.add('a', ...Array.from({ length: 10 }, (_, n) => spec(n)))) applier.offer(batch)
  applier.advance({ to: toLsn(11), permanentLsn: toLsn(11) })
  await applier.whenApplied(toLsn(11))
  assert.deepEqual(applied, [4, 7, 10, 11])
  for (const { writes } of watched.batches) {
    const keys = writes.map(({ key }) => Buffer.from(key).toString('hex'))
    assert.equal(new Set(keys).size, keys.length)
  }
  assert.equal(watched.batches[0]?.writes.length, 6)
})

test('what there was no room to keep is read from the log, in long stretches', async () => {
  const { log, applier, get, applied } = await bench({ queueBytesMax: 500, batchWritesMax: 50 })
  const specs = Array.from({ length: 400 }, (_, n): Writes => [[`k${n}`, `v${n}`]])
  for (const batch of log.add('a', ...specs)) applier.offer(batch)
  assert.ok(applier.lag.queuedBytes <= 500)
  applier.advance({ to: toLsn(401), permanentLsn: toLsn(401) })
  await applier.whenApplied(toLsn(401))
  assert.equal(get('k399'), 'v399')
  assert.equal(log.reads.length, 1)
  assert.ok(applied.length >= 8)
})

test('after a restart it goes on where the store is, from the log', async () => {
  const engine = memoryEngine()
  const log = new TestLog()
  const first = await bench({ log, store: await engine.open('s') })
  await first.run('a', [['x', '1']], [['y', '1']])
  await first.applier.close()
  await first.store.close()
  log.add([['x', '2']], 'b', [['z', '1']])
  const second = await bench({ log, store: await engine.open('s') })
  assert.equal(second.applier.appliedLsn, 3)
  second.applier.advance({ to: toLsn(6), permanentLsn: toLsn(6) })
  await second.applier.whenApplied(toLsn(6))
  assert.deepEqual(
    log.reads.map(({ from }) => from),
    [4],
  )
  assert.deepEqual(['x', 'y', 'z'].map(second.get), ['2', '1', '1'])
  assert.deepEqual(second.store.meta?.history, log.history)
})

test('records that may yet be taken back carry what they found, also what one batch overwrote itself', async () => {
  const { log, applier, store, run } = await bench()
  await run('a', [
    ['x', 'old'],
    ['y', 'old'],
  ])
  const specs: RecordSpec[] = [
    [['x', '3']],
    [
      ['x', '4'],
      ['new', '4'],
    ],
    'b',
    [
      ['x', undefined],
      ['new', undefined],
      ['x', '6'],
    ],
    [['y', '7']],
  ]
  for (const batch of log.add(...specs)) applier.offer(batch)
  applier.advance({ to: toLsn(7), permanentLsn: toLsn(3) })
  await applier.whenApplied(toLsn(7))
  const undo = await store.undoAfter(toLsn(0))
  const shown = undo.map(({ lsn, entries }) => [
    lsn,
    entries.map(({ key, before }) => [
      Buffer.from(key.subarray(1)).toString(),
      before === undefined ? undefined : Buffer.from(before).toString(),
    ]),
  ])
  assert.deepEqual(shown, [
    [7, [['y', 'old']]],
    [
      6,
      [
        ['x', '4'],
        ['new', '4'],
      ],
    ],
    [5, []],
    [
      4,
      [
        ['x', '3'],
        ['new', undefined],
      ],
    ],
  ])
})

/** Keeps rows whose key begins with k, and notes when it was asked to make that durable. */
function keepingK(steps: string[] = []): RowFilter {
  return {
    keeps: (key) => String.fromCharCode(key[1] as number) === 'k',
    settle: async () => {
      steps.push('settled')
    },
  }
}

test('[B10] writes of rows that are not kept are passed over, in the store and in the undo; no record is', async () => {
  const steps: string[] = []
  const filter = keepingK(steps)
  const { log, applier, store, get, watched, run } = await bench({ rowFilter: () => filter })
  await run('a', [
    ['k1', 'old'],
    ['x1', 'old'],
  ])
  assert.deepEqual([get('k1'), get('x1'), steps.length], ['old', undefined, 1])
  const agreed = log.lastLsn
  for (const batch of log.add(
    [
      ['x1', 'lost'],
      ['k1', 'lost'],
    ],
    [['x2', 'lost']],
    [['k2', 'lost']],
  )) {
    applier.offer(batch)
  }
  applier.advance({ to: log.lastLsn, permanentLsn: agreed })
  await applier.whenApplied(log.lastLsn)
  const undo = await store.undoAfter(agreed)
  assert.deepEqual(
    undo.map(({ lsn, entries }) => [lsn, entries.map(({ key }) => Buffer.from(key.subarray(1)).toString())]),
    [
      [5, ['k2']],
      [4, []],
      [3, ['k1']],
    ],
  )
  await applier.pause()
  await applier.rewind({ to: log.place(agreed), history: log.historyAt(agreed) })
  assert.deepEqual([get('k1'), get('k2'), store.meta?.appliedLsn], ['old', undefined, agreed])
  assert.ok(watched.batches.length >= 3)
})

test('[B10] records of nothing but rows that are not kept end a batch as any others do', async () => {
  const { log, applier, applied, get } = await bench({ batchWritesMax: 10, rowFilter: () => keepingK() })
  const specs = Array.from({ length: 40 }, (_, n): Writes => [[`x${n}`, 'v']])
  for (const batch of log.add('a', ...specs, [['k', 'v']])) applier.offer(batch)
  applier.advance({ to: log.lastLsn, permanentLsn: log.lastLsn })
  await applier.whenApplied(log.lastLsn)
  assert.ok(applied.length >= 4, `in ${applied.length} batches`)
  assert.equal(get('k'), 'v')
})

test('[B10] not a row is written before the filter has settled, and nothing where it cannot say', async () => {
  const order: string[] = []
  let settle: () => void = () => {}
  const filter: RowFilter = {
    keeps: (key) => {
      if (key[1] === '?'.charCodeAt(0)) throw new CoterieError('INVALID_STATE', 'who knows')
      return true
    },
    settle: () =>
      new Promise((resolve) => {
        settle = () => {
          order.push('settled')
          resolve()
        }
      }),
  }
  const { log, applier, watched, failures, get } = await bench({ rowFilter: () => filter })
  for (const batch of log.add('a', [['x', '1']])) applier.offer(batch)
  applier.advance({ to: log.lastLsn, permanentLsn: log.lastLsn })
  await waitUntil(() => String(settle).includes('settled'), { what: 'it is asked to settle' })
  assert.equal(watched.batches.length, 0)
  settle()
  await applier.whenApplied(log.lastLsn)
  assert.deepEqual([order, get('x')], [['settled'], '1'])
  for (const batch of log.add([
    ['x', '2'],
    ['?', '2'],
  ])) {
    applier.offer(batch)
  }
  applier.advance({ to: log.lastLsn, permanentLsn: log.lastLsn })
  await waitUntil(() => failures.length > 0, { what: 'it has failed' })
  assert.deepEqual([failures[0]?.code, get('x'), applier.appliedLsn], ['INVALID_STATE', '1', 2])
})

test('undo is forgotten with the next batch, or alone after a while', async () => {
  const manual = new ManualTimers()
  const { log, applier, store, watched } = await bench({ timers: manual })
  const offer = (spec: RecordSpec): void => {
    for (const batch of log.add(spec)) applier.offer(batch)
  }
  const kept = async (): Promise<number[]> => (await store.undoAfter(toLsn(0))).map(({ lsn }) => lsn)
  offer('a')
  offer([['x', '1']])
  offer([['x', '2']])
  applier.advance({ to: toLsn(3), permanentLsn: toLsn(0) })
  await applier.whenApplied(toLsn(3))
  assert.deepEqual(await kept(), [3, 2, 1])
  offer([['x', '3']])
  applier.advance({ to: toLsn(4), permanentLsn: toLsn(2) })
  await applier.whenApplied(toLsn(4))
  assert.deepEqual(await kept(), [4, 3])
  assert.equal(watched.batches.length, 2)
  applier.advance({ to: toLsn(4), permanentLsn: toLsn(4) })
  await applier.pause()
  assert.deepEqual(await kept(), [4, 3], 'not at once')
  applier.resume()
  assert.equal(manual.fire(1000), 1)
  await applier.pause()
  assert.deepEqual(await kept(), [])
  applier.resume()
  assert.equal(manual.fire(1000), 0, 'there is nothing left to forget')
})

const folder = mkdtempSync(join(tmpdir(), 'coterie-applier-'))
after(() => rmSync(folder, { recursive: true, force: true }))

const engines: StoreEngine[] = [memoryEngine(), classicLevelEngine({ files: nodeHost().files, timers })]

const recordArbitrary: fc.Arbitrary<RecordSpec> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.array(
      fc.tuple(
        fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'),
        fc.option(fc.string({ maxLength: 3 }), { nil: undefined }),
      ),
      { maxLength: 5 },
    ),
  },
  { weight: 1, arbitrary: fc.constantFrom('site 1', 'site 2') },
)

for (const engine of engines) {
  test(`${engine.name}: a rewind restores exactly the earlier state, and other records can follow`, async () => {
    let count = 0
    await fc.assert(
      fc.asyncProperty(
        fc.array(recordArbitrary, { minLength: 1, maxLength: 25 }),
        fc.array(recordArbitrary, { minLength: 1, maxLength: 5 }),
        fc.array(fc.tuple(fc.nat(100), fc.nat(100)), { maxLength: 5 }),
        fc.nat(100),
        fc.boolean(),
        async (specs, later, steps, back, restart) => {
          const at = join(folder, `${engine.name}-${++count}`)
          const cache = new RowCache()
          const options = { cache, batchWritesMax: 6 }
          let site = await bench({ ...options, store: await engine.open(at) })
          const { log } = site
          log.add('first', ...specs)
          for (const batch of log.batches) site.applier.offer(batch)
          let permanent = 0
          let to = 0
          for (const [forward, certain] of [...steps, [100, 0] as const]) {
            to += Math.ceil(((log.lastLsn - to) * forward) / 100)
            permanent += Math.floor(((to - permanent) * certain) / 100)
            site.applier.advance({ to: toLsn(to), permanentLsn: toLsn(permanent) })
            await site.applier.whenApplied(toLsn(to))
          }
          if (restart) {
            await site.applier.close()
            await site.store.close()
            site = await bench({ ...options, log, store: await engine.open(at) })
          }
          for (const key of 'abcdef') fillCache(cache, site.store, key)
          const target = permanent + Math.floor(((to - permanent) * back) / 100)
          await site.applier.pause()
          await site.applier.rewind({ to: log.place(target), history: log.historyAt(target) })
          log.truncate(target)
          site.applier.resume()
          assert.equal(site.applier.appliedLsn, target)
          const same = await bench({ log })
          if (target > 0) {
            same.applier.advance({ to: toLsn(target), permanentLsn: toLsn(target) })
            await same.applier.whenApplied(toLsn(target))
            assert.equal(await site.rows(), await same.rows())
          }
          assertCacheIsRight(cache, site.store)
          await site.run('other', ...later)
          for (const batch of log.batches.slice(target)) same.applier.offer(batch)
          same.applier.advance({ to: log.lastLsn, permanentLsn: log.lastLsn })
          await same.applier.whenApplied(log.lastLsn)
          assert.equal(await site.rows(), await same.rows())
          assertCacheIsRight(cache, site.store)
          await site.applier.close()
          await site.store.close()
          await engine.destroy(at)
        },
      ),
      { numRuns: (engine.name === 'memory' ? 60 : 15) * (process.env.COTERIE_TEST_ALL === '1' ? 10 : 1) },
    )
  })
}

function fillCache(cache: RowCache, store: Store, key: string): void {
  cache.fill(Buffer.from(row(key)).toString('latin1'), store.getSync(row(key)), cache.ticket())
}

function assertCacheIsRight(cache: RowCache, store: Store): void {
  for (const key of 'abcdef') {
    const cached = cache.get(Buffer.from(row(key)).toString('latin1'))
    assert.ok(cached !== undefined)
    const value = store.getSync(row(key))
    assert.equal(cached.value === undefined, value === undefined)
    assert.deepEqual(Buffer.from(cached.value ?? []), Buffer.from(value ?? []))
  }
}

test('a rewind that the undo does not cover is refused and changes nothing', async () => {
  const { log, applier, store, rows, run } = await bench()
  await run('a', [['x', '1']], [['x', '2']])
  for (const batch of log.add([['x', '3']], [['x', '4']])) applier.offer(batch)
  applier.advance({ to: toLsn(5), permanentLsn: toLsn(3) })
  await applier.whenApplied(toLsn(5))
  const before = await rows()
  await applier.pause()
  const refused = (error: unknown): boolean => isCoterieError(error, 'REWIND_REFUSED')
  await assert.rejects(applier.rewind({ to: log.place(2), history: log.history }), refused)
  assert.equal(await rows(), before)
  // A store whose reads are consistent only from LSN 5 on cannot show LSN 4.
  if (store.meta !== undefined)
    await store.write({ writes: [], meta: { ...store.meta, readableLsn: toLsn(5) } })
  await assert.rejects(applier.rewind({ to: log.place(4), history: log.history }), refused)
  assert.equal(applier.appliedLsn, 5)
})

test('records that the log has taken back are never applied, though they were queued', async () => {
  const { log, applier, get, run, failures } = await bench()
  await run('a', [['x', '1']])
  for (const batch of log.add([['x', 'lost']], [['y', 'lost']], [['z', 'lost']])) applier.offer(batch)
  log.truncate(3)
  for (const batch of log.add('b', [['x', 'kept']], [['u', 'kept']])) applier.offer(batch)
  applier.advance({ to: toLsn(6), permanentLsn: toLsn(3) })
  await applier.whenApplied(toLsn(6))
  assert.deepEqual(['x', 'y', 'z', 'u'].map(get), ['kept', undefined, undefined, 'kept'])

  for (const batch of log.add([['x', 'lost']])) applier.offer(batch)
  await applier.pause()
  await applier.rewind({ to: log.place(6), history: log.history })
  log.truncate(6)
  applier.resume()
  assert.equal(applier.lag.queuedBytes, 0)
  assert.deepEqual(failures, [])
})

test('a record that does not follow the one applied stops the applier before anything is written', async () => {
  const { log, applier, store, failures, run } = await bench()
  await run('a', [['x', '1']])
  const other = new TestLog()
  other.add('a', [['x', 'other']], [['x', 'foreign']])
  log.batches.push(other.batches[2] as RecordBatch)
  applier.advance({ to: toLsn(3), permanentLsn: toLsn(3) })
  await assert.rejects(applier.whenApplied(toLsn(3)), (error) => isCoterieError(error, 'STORE_FAILED'))
  assert.match(failures[0]?.message ?? '', /chains/)
  assert.equal(store.meta?.appliedLsn, 2)
})

test('a store that fails stops it for good: told once, waiters rejected, nothing more written', async () => {
  const { log, applier, watched, failures, applied, run } = await bench()
  await run('a')
  watched.failure = new CoterieError('STORE_FAILED', 'made by the test')
  for (const batch of log.add([['x', '1']], [['x', '2']])) applier.offer(batch)
  const waiting = assert.rejects(applier.whenApplied(toLsn(3)), (error) => error === watched.failure)
  applier.advance({ to: toLsn(2), permanentLsn: toLsn(2) })
  await waiting
  const tried = watched.batches.length
  watched.failure = undefined
  applier.advance({ to: toLsn(3), permanentLsn: toLsn(3) })
  applier.resume()
  await assert.rejects(applier.whenApplied(toLsn(3)), (error) => isCoterieError(error, 'STORE_FAILED'))
  await applier.pause()
  await assert.rejects(applier.rewind({ to: log.place(0), history: [] }))
  assert.equal(watched.batches.length, tried)
  assert.equal(failures.length, 1)
  assert.deepEqual(applied, [1])
  await applier.close()
})

test('a log that cannot be read stops it with the reason', async () => {
  const trimmed = new CoterieError('LOG_TRIMMED', 'made by the test')
  const { log, applier, failures } = await bench({ source: () => Promise.reject(trimmed) })
  log.add('a')
  applier.advance({ to: toLsn(1), permanentLsn: toLsn(1) })
  await assert.rejects(applier.whenApplied(toLsn(1)), (error) => error === trimmed)
  assert.deepEqual(failures, [trimmed])
})

test('waiting ends with the record, with the signal, or with the applier', async () => {
  const { applier, run } = await bench()
  await run('a')
  await applier.whenApplied(toLsn(1))
  const abort = new AbortController()
  const aborted = applier.whenApplied(toLsn(9), abort.signal)
  abort.abort(new Error('enough'))
  await assert.rejects(aborted, (error) => isCoterieError(error, 'ABORTED'))
  await assert.rejects(applier.whenApplied(toLsn(9), abort.signal), (error) =>
    isCoterieError(error, 'ABORTED'),
  )
  const closed = assert.rejects(applier.whenApplied(toLsn(9)), (error) => isCoterieError(error, 'CLOSED'))
  await applier.close()
  await closed
  await assert.rejects(applier.whenApplied(toLsn(9)), (error) => isCoterieError(error, 'CLOSED'))
})

test('pause and close let the batch under way end and begin no other', async () => {
  for (const end of ['pause', 'close'] as const) {
    const { log, applier, watched, applied } = await bench({ batchWritesMax: 1 })
    let release = (): void => {}
    watched.hold = new Promise((resolve) => {
      release = resolve
    })
    for (const batch of log.add('a', [['x', '1']], [['x', '2']])) applier.offer(batch)
    applier.advance({ to: toLsn(3), permanentLsn: toLsn(3) })
    await waitUntil(() => watched.batches.length === 1, { what: 'a batch is under way' })
    const ended = applier[end]()
    release()
    await ended
    assert.equal(applied.length, 1)
    if (end === 'close') continue
    applier.resume()
    await applier.whenApplied(toLsn(3))
    assert.deepEqual(applied.slice(-1), [3])
  }
})

test('with a delay a batch waits for more, unless it is full or somebody waits for it', async () => {
  const manual = new ManualTimers()
  const { log, applier, watched } = await bench({ timers: manual, delayMs: 50, batchWritesMax: 4 })
  const commit = (): void => {
    for (const batch of log.add([['x', `${log.lastLsn}`]])) applier.offer(batch)
    applier.advance({ to: log.lastLsn, permanentLsn: log.lastLsn })
  }
  log.add('a')
  commit()
  commit()
  await applier.pause()
  assert.equal(watched.batches.length, 0)
  applier.resume()
  assert.equal(manual.fire(50), 1)
  await applier.pause()
  applier.resume()
  assert.equal(applier.appliedLsn, 3)
  assert.equal(watched.batches.length, 1)
  for (let i = 0; i < 4; i++) commit()
  await waitUntil(() => applier.appliedLsn === 7, { what: 'a full batch is applied' })
  commit()
  await applier.whenApplied(toLsn(8))
  assert.equal(manual.fire(50), 0)
})

test('no read that began before a batch was visible can leave a stale row in the cache', async () => {
  const cache = new RowCache()
  const { store, run } = await bench({ cache })
  await run('a', [['x', 'old']])
  const ticket = cache.ticket()
  const stale = await store.get(row('x'))
  await run([['x', 'new']])
  cache.fill(Buffer.from(row('x')).toString('latin1'), stale, ticket)
  assert.equal(cache.get(Buffer.from(row('x')).toString('latin1')), undefined)
})

test('a huge record, and very many small ones, are decoded with turns for others in between', async () => {
  let turns = 0
  const counting = {
    ...timers,
    soon: (callback: () => void) => {
      turns++
      timers.soon(callback)
    },
  }
  const { run, get, watched } = await bench({ timers: counting, batchWritesMax: 100_000 })
  await run(
    'a',
    Array.from({ length: 40_000 }, (_, n) => [`k${n}`, n % 3 === 0 ? undefined : `v${n}`] as const),
  )
  assert.ok(turns >= 15, `${turns} turns`)
  assert.equal(watched.batches.length, 1, 'one record is one batch')
  assert.equal(get('k39998'), 'v39998')
  const commits = (value: string) => Array.from({ length: 20_000 }, (_, n): Writes => [[`k${n}`, value]])
  turns = 0
  await run(...commits('again'))
  assert.ok(turns >= 8, `${turns} turns`)
  assert.equal(get('k0'), 'again')
  const small = await bench({ timers: counting, batchWritesMax: 500 })
  turns = 0
  await small.run('a', ...commits('in small batches'))
  assert.ok(turns >= 39, `${turns} turns`)
})

test('a store of another database is a defect of the caller', async () => {
  const { store, run } = await bench()
  await run('a')
  await assert.rejects(bench({ store, databaseId: 'other' }), /of this database/)
})
