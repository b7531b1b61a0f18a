// What every store engine must do, whatever it is made of. One function; a test file runs it on each engine.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import fc from 'fast-check'
import { compareBytes } from '../../src/base/bytes.ts'
import { CoterieError, type ErrorCode } from '../../src/base/errors.ts'
import { type Lsn, toLsn, toTerm } from '../../src/base/lsn.ts'
import { digestOf } from '../../src/store/digest.ts'
import type {
  Row,
  RowRange,
  RowWrite,
  Store,
  StoreEngine,
  StoreMeta,
  StoreSnapshot,
  UndoEntry,
} from '../../src/store/store.ts'

export interface EngineUnderTest {
  readonly engine: StoreEngine
  /** A place for a store that nobody has used yet. */
  location(): string
  cleanup(): Promise<void>
}

export function bytes(...values: (number | string)[]): Uint8Array {
  return Uint8Array.from(values.flatMap((v) => (typeof v === 'number' ? [v] : [...Buffer.from(v, 'utf8')])))
}

export function metaAt(lsn: number, more: Partial<StoreMeta> = {}): StoreMeta {
  return {
    databaseId: 'db-1',
    appliedLsn: toLsn(lsn),
    appliedTerm: toTerm(1),
    appliedCrc: (lsn * 7919) >>> 0,
    readableLsn: toLsn(0),
    history: [{ term: toTerm(1), firstLsn: toLsn(1), site: 'a' }],
    ...more,
  }
}

export const put = (key: Uint8Array, value: Uint8Array): RowWrite => ({ key, value })
export const del = (key: Uint8Array): RowWrite => ({ key, value: undefined })

export async function allRows(snapshot: StoreSnapshot, range: RowRange = {}, count = 7): Promise<Row[]> {
  const iterator = snapshot.iterate(range)
  const rows: Row[] = []
  for (let part = await iterator.next(count); part.length > 0; part = await iterator.next(count)) {
    assert.ok(part.length <= count, 'no more rows than asked for')
    rows.push(...part)
  }
  assert.deepEqual(await iterator.next(count), [], 'the end stays the end')
  await iterator.close()
  return rows
}

export async function rowsNow(store: Store, range: RowRange = {}): Promise<string[]> {
  const snapshot = store.snapshot()
  const rows = await allRows(snapshot, range)
  await snapshot.close()
  return rows.map(showRow)
}

const showRow = ([key, value]: Row): string =>
  `${Buffer.from(key).toString('hex')}=${Buffer.from(value).toString('hex')}`

const show = (value: Uint8Array | undefined): string | undefined =>
  value === undefined ? undefined : Buffer.from(value).toString('hex')

const showUndo = ({ key, before }: UndoEntry): string => `${show(key)} had ${show(before) ?? 'none'}`

export function hasCode(code: ErrorCode): (error: unknown) => boolean {
  return (error) => error instanceof CoterieError && error.code === code
}

/** Rows in order, and what a range selects of them: what the engines are held against. */
class Model {
  rows = new Map<string, Row>()

  apply(writes: readonly RowWrite[]): void {
    for (const { key, value } of writes) {
      const text = Buffer.from(key).toString('latin1')
      if (value === undefined) this.rows.delete(text)
      else this.rows.set(text, [key, value])
    }
  }

  copy(): Model {
    const copy = new Model()
    copy.rows = new Map(this.rows)
    return copy
  }

  select(range: RowRange): string[] {
    const { gt, gte, lt, lte, reverse = false, limit = Number.POSITIVE_INFINITY } = range
    const rows = [...this.rows.values()]
      .sort(([a], [b]) => compareBytes(a, b))
      .filter(([key]) => gt === undefined || compareBytes(key, gt) > 0)
      .filter(([key]) => gte === undefined || compareBytes(key, gte) >= 0)
      .filter(([key]) => lt === undefined || compareBytes(key, lt) < 0)
      .filter(([key]) => lte === undefined || compareBytes(key, lte) <= 0)
    if (reverse) rows.reverse()
    return rows.slice(0, limit).map(showRow)
  }
}

// Few different bytes, so that keys meet, are prefixes of each other and hit the bounds; 0xc8 is the highest that
// a data key begins with.
const keyByte = fc.constantFrom(0, 1, 0x7f, 0x80, 0xc7, 0xff)
const keyArbitrary = fc
  .tuple(fc.constantFrom(0, 1, 0x80, 0xc8), fc.array(keyByte, { maxLength: 3 }))
  .map(([first, rest]) => Uint8Array.from([first, ...rest]))
const valueArbitrary = fc.uint8Array({ maxLength: 12 })
const boundArbitrary = fc.oneof(
  keyArbitrary,
  fc.constantFrom(bytes(), bytes(0xfe), bytes(0xff, 1), bytes(0xff, 0xff)),
)

const rangeArbitrary: fc.Arbitrary<RowRange> = fc
  .record({
    lower: fc.constantFrom('gt', 'gte', undefined),
    upper: fc.constantFrom('lt', 'lte', undefined),
    from: boundArbitrary,
    to: boundArbitrary,
    reverse: fc.boolean(),
    limit: fc.option(fc.nat(6), { nil: undefined }),
  })
  .map(({ lower, upper, from, to, reverse, limit }) => ({
    ...(lower === undefined ? {} : { [lower]: from }),
    ...(upper === undefined ? {} : { [upper]: to }),
    reverse,
    ...(limit === undefined ? {} : { limit }),
  }))

type Step =
  | { readonly kind: 'write'; readonly writes: readonly RowWrite[] }
  | { readonly kind: 'snapshot' }
  | { readonly kind: 'read'; readonly range: RowRange }
  | { readonly kind: 'reopen' }

const stepArbitrary: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .uniqueArray(fc.tuple(keyArbitrary, fc.option(valueArbitrary, { nil: undefined })), {
        maxLength: 12,
        selector: ([key]) => Buffer.from(key).toString('latin1'),
      })
      .map((rows): Step => ({ kind: 'write', writes: rows.map(([key, value]) => ({ key, value })) })),
  },
  { weight: 2, arbitrary: fc.constant<Step>({ kind: 'snapshot' }) },
  { weight: 5, arbitrary: rangeArbitrary.map((range): Step => ({ kind: 'read', range })) },
  { weight: 1, arbitrary: fc.constant<Step>({ kind: 'reopen' }) },
)

export function storeSuite(name: string, make: () => Promise<EngineUnderTest>): void {
  let made: Promise<EngineUnderTest> | undefined
  const under = (): Promise<EngineUnderTest> => {
    made ??= make()
    return made
  }
  after(async () => (await made)?.cleanup())

  const withStore = (title: string, run: (store: Store, place: EngineUnderTest) => Promise<void>): void => {
    test(`${name}: ${title}`, async () => {
      const place = await under()
      const store = await place.engine.open(place.location())
      try {
        await run(store, place)
      } finally {
        await store.close()
      }
    })
  }

  withStore('a new store has no rows and no meta', async (store) => {
    assert.equal(store.meta, undefined)
    assert.deepEqual(await rowsNow(store), [])
    assert.equal(store.getSync(bytes(1)), undefined)
    assert.deepEqual(await store.undoAfter(toLsn(0)), [])
    assert.equal(store.oldestUndoLsn, undefined)
  })

  withStore('get, getSync and getMany find what was written, and only that', async (store) => {
    await store.write({ writes: [put(bytes(1, 'a'), bytes('A')), put(bytes(1, 'b'), bytes())] })
    assert.equal(show(store.getSync(bytes(1, 'a'))), show(bytes('A')))
    assert.equal(show(await store.get(bytes(1, 'b'))), '', 'an empty value is a value')
    assert.equal(store.getSync(bytes(1)), undefined, 'a prefix of a key is not the key')
    const several = await store.getMany([bytes(1, 'b'), bytes(1, 'c'), bytes(1, 'a')])
    assert.deepEqual(several.map(show), ['', undefined, show(bytes('A'))])
    assert.deepEqual(await store.getMany([]), [])
    await store.write({ writes: [del(bytes(1, 'a')), put(bytes(1, 'b'), bytes('B'))] })
    const gets = await Promise.all([bytes(1, 'a'), bytes(1, 'b')].map((key) => store.get(key)))
    assert.deepEqual(gets.map(show), [undefined, show(bytes('B'))])
  })

  withStore('keys order by their bytes, every byte from 0 to 255, prefixes first', async (store) => {
    const keys = [bytes(5)]
    for (let byte = 0; byte < 256; byte++) keys.push(bytes(5, byte), bytes(5, byte, 0), bytes(5, byte, 0xff))
    const shuffled = [...keys].sort((a, b) => (a[1] ?? 0) * 73 - (b[1] ?? 0) * 73 || 1)
    await store.write({ writes: shuffled.map((key) => put(key, key)) })
    const expected = keys.sort(compareBytes).map((key) => `${show(key)}=${show(key)}`)
    assert.deepEqual(await rowsNow(store), expected)
    assert.deepEqual(await rowsNow(store, { reverse: true }), expected.reverse())
  })

  withStore(
    'iterates with every combination of bounds, both ways, with and without a limit',
    async (store) => {
      const model = new Model()
      const writes = ['b', 'd', 'dd', 'f', 'h'].map((key) => put(bytes(1, key), bytes(key)))
      await store.write({ writes })
      model.apply(writes)
      const snapshot = store.snapshot()
      const bounds = [
        undefined,
        bytes(0),
        bytes(1, 'b'),
        bytes(1, 'c'),
        bytes(1, 'd'),
        bytes(1, 'f'),
        bytes(9),
        bytes(0xff),
      ]
      for (const lower of ['gt', 'gte'] as const) {
        for (const upper of ['lt', 'lte'] as const) {
          for (const from of bounds) {
            for (const to of bounds) {
              for (const reverse of [false, true]) {
                for (const limit of [undefined, 0, 2]) {
                  const range: RowRange = {
                    ...(from === undefined ? {} : { [lower]: from }),
                    ...(to === undefined ? {} : { [upper]: to }),
                    reverse,
                    ...(limit === undefined ? {} : { limit }),
                  }
                  const found = (await allRows(snapshot, range, 3)).map(showRow)
                  assert.deepEqual(found, model.select(range), JSON.stringify(range))
                }
              }
            }
          }
        }
      }
      await snapshot.close()
    },
  )

  withStore('a snapshot stays as it is while the store goes on', async (store) => {
    const key = (n: number): Uint8Array => bytes(1, n >> 8, n & 255)
    const rows = (value: string): RowWrite[] =>
      Array.from({ length: 2000 }, (_, n) => put(key(n), bytes(value)))
    await store.write({ writes: rows('one'), meta: metaAt(1) })
    const snapshot = store.snapshot()
    const iterator = snapshot.iterate({})
    const found = await iterator.next(10)
    await store.write({ writes: rows('two'), meta: metaAt(2) })
    await store.write({ writes: rows('').map(({ key }) => del(key)), meta: metaAt(3) })
    for (let part = await iterator.next(300); part.length > 0; part = await iterator.next(300))
      found.push(...part)
    assert.equal(found.length, 2000)
    assert.ok(found.every(([, value]) => show(value) === show(bytes('one'))))
    assert.equal(show(snapshot.getSync(key(7))), show(bytes('one')))
    assert.equal(show(await snapshot.get(key(7))), show(bytes('one')))
    assert.deepEqual((await snapshot.getMany([key(7)])).map(show), [show(bytes('one'))])
    assert.equal(snapshot.meta?.appliedLsn, 1)
    assert.equal(store.meta?.appliedLsn, 3)
    assert.equal(store.getSync(key(7)), undefined)
    await iterator.close()
    await snapshot.close()
  })

  withStore('a batch becomes visible at once and whole, rows and meta together', async (store) => {
    const writesOf = (n: number): RowWrite[] =>
      Array.from({ length: 500 }, (_, i) => put(bytes(1, i & 255, i >> 8), bytes(n)))
    await store.write({ writes: writesOf(0), meta: metaAt(100) })
    let writing = true
    let visible = 0
    const writer = (async () => {
      for (let n = 1; n <= 30; n++) {
        await store.write({
          writes: writesOf(n),
          meta: metaAt(100 + n),
          onVisible: () => {
            assert.equal(store.meta?.appliedLsn, 100 + n)
            assert.equal(store.getSync(bytes(1, 0, 0))?.[0], n)
            visible++
          },
        })
      }
    })().finally(() => {
      writing = false
    })
    let looks = 0
    while (writing) {
      const snapshot = store.snapshot()
      const n = (snapshot.meta?.appliedLsn ?? 0) - 100
      assert.equal((store.meta?.appliedLsn ?? 0) - 100, n)
      assert.equal(store.getSync(bytes(1, 243, 1))?.[0], n, 'a plain read sees what the meta says')
      for (const [, value] of await allRows(snapshot, {}, 100)) assert.equal(value[0], n)
      await snapshot.close()
      looks++
    }
    await writer
    assert.equal(visible, 30)
    assert.ok(looks > 0)
  })

  withStore(
    'writes take effect in the order of the calls, a big one before a small one too',
    async (store) => {
      const many = Array.from({ length: 20_000 }, (_, n) => put(bytes(3, n >> 8, n & 255), bytes(n & 255)))
      const seen: number[] = []
      const write = (n: number, more: RowWrite[]): Promise<void> =>
        store.write({
          writes: [...more, put(bytes(1), bytes(n)), put(bytes(2, n), bytes(n))],
          meta: metaAt(n + 1),
          onVisible: () => {
            seen.push(n)
          },
        })
      await Promise.all([write(0, many), ...Array.from({ length: 39 }, (_, n) => write(n + 1, []))])
      assert.deepEqual(
        seen,
        Array.from({ length: 40 }, (_, n) => n),
      )
      assert.equal(store.getSync(bytes(1))?.[0], 39)
      assert.equal(store.meta?.appliedLsn, 40)
    },
  )

  withStore('what the caller does with its bytes afterwards changes nothing', async (store) => {
    // Buffers: their `slice` does not copy.
    const key = Buffer.from(bytes(1, 'k'))
    const value = Buffer.from('value')
    const before = Buffer.from('before')
    const large = Buffer.alloc(5000, 1)
    await store.write({
      writes: [put(key, value), put(bytes(2), large)],
      meta: metaAt(1),
      undo: [{ lsn: toLsn(1), entries: [{ key, before }] }],
    })
    key.fill(9)
    value.fill(9)
    before.fill(9)
    large.fill(9)
    assert.equal(show(store.getSync(bytes(2))), '01'.repeat(5000))
    assert.equal(show(store.getSync(bytes(1, 'k'))), show(bytes('value')))
    const [undo] = await store.undoAfter(toLsn(0))
    assert.deepEqual(undo?.entries.map(showUndo), [`${show(bytes(1, 'k'))} had ${show(bytes('before'))}`])
  })

  withStore('undo is kept by LSN, given newest first, and forgotten from either end', async (store) => {
    const lsns = [5, 6, 7, 8, 300, 70_000, 5_000_000_000].map(toLsn)
    const undoOf = (lsn: Lsn) => ({
      lsn,
      entries: [
        { key: bytes(1, 'gone'), before: undefined },
        { key: bytes(1, 'was', lsn & 255), before: bytes('old', lsn & 255) },
        { key: bytes(1, 'empty'), before: bytes() },
      ],
    })
    await store.write({
      writes: [put(bytes(1), bytes(1))],
      meta: metaAt(6),
      undo: lsns.slice(0, 2).map(undoOf),
    })
    await store.write({ writes: [], meta: metaAt(70_000), undo: lsns.slice(2).map(undoOf) })
    const kept = async (lsn: number): Promise<number[]> =>
      (await store.undoAfter(toLsn(lsn))).map((undo) => undo.lsn)
    assert.deepEqual(await kept(0), [5_000_000_000, 70_000, 300, 8, 7, 6, 5])
    assert.equal(store.oldestUndoLsn, 5)
    assert.deepEqual(await kept(7), [5_000_000_000, 70_000, 300, 8])
    const [newest] = await store.undoAfter(toLsn(0))
    assert.deepEqual(newest?.entries.map(showUndo), undoOf(toLsn(5_000_000_000)).entries.map(showUndo))
    await store.write({ writes: [], forgetUndoTo: toLsn(6) })
    assert.deepEqual(await kept(0), [5_000_000_000, 70_000, 300, 8, 7])
    assert.equal(store.oldestUndoLsn, 7)
    await store.write({ writes: [], forgetUndoAfter: toLsn(300) })
    assert.deepEqual(await kept(0), [300, 8, 7])
    assert.equal(store.meta?.appliedLsn, 70_000, 'a batch without meta leaves the meta')
    await store.write({ writes: [], forgetUndoTo: toLsn(8), undo: [undoOf(toLsn(9))] })
    assert.deepEqual(await kept(0), [300, 9])
    assert.deepEqual(await rowsNow(store), [`${show(bytes(1))}=${show(bytes(1))}`], 'undo is no row')
  })

  test(`${name}: rows, meta and undo survive close and open`, async () => {
    const { engine, location } = await under()
    const at = location()
    const meta = metaAt(42, {
      readableLsn: toLsn(50),
      appliedTerm: toTerm(4_000_000_000),
      appliedCrc: 0xffff_ffff,
      history: [
        { term: toTerm(1), firstLsn: toLsn(1), site: 'a' },
        { term: toTerm(9), firstLsn: toLsn(17), site: 'Käse 🧀' },
      ],
    })
    const first = await engine.open(at)
    await first.write({
      writes: [put(bytes(1, 'x'), bytes('y'))],
      meta,
      undo: [{ lsn: toLsn(42), entries: [{ key: bytes(1, 'x'), before: undefined }] }],
    })
    await first.close()
    const second = await engine.open(at)
    assert.deepEqual(second.meta, meta)
    assert.deepEqual(await rowsNow(second), [`${show(bytes(1, 'x'))}=${show(bytes('y'))}`])
    const [undo] = await second.undoAfter(toLsn(41))
    assert.equal(undo?.lsn, 42)
    assert.deepEqual(undo.entries.map(showUndo), [`${show(bytes(1, 'x'))} had none`])
    const later = metaAt(43, { history: meta.history })
    await second.write({ writes: [], meta: later })
    await second.close()
    const third = await engine.open(at)
    assert.deepEqual(third.meta, later)
    await third.close()
  })

  withStore('values and keys of the largest size go through', async (store) => {
    const value = new Uint8Array(16_777_216)
    for (let i = 0; i < value.length; i += 997) value[i] = i % 251
    const key = new Uint8Array(32_768).fill(7)
    await store.write({ writes: [put(key, value), put(bytes(1), bytes('small'))] })
    assert.ok(Buffer.from((await store.get(key)) ?? bytes()).equals(value))
    const snapshot = store.snapshot()
    const rows = await allRows(snapshot)
    assert.equal(rows.length, 2)
    assert.ok(Buffer.from(rows[1]?.[1] ?? bytes()).equals(value))
    await snapshot.close()
  })

  test(`${name}: a closed store refuses everything but close`, async () => {
    const { engine, location } = await under()
    const store = await engine.open(location())
    await store.write({ writes: [put(bytes(1), bytes(1))] })
    const snapshot = store.snapshot()
    const iterator = snapshot.iterate({})
    await snapshot.close()
    await snapshot.close()
    assert.throws(() => snapshot.getSync(bytes(1)), hasCode('CLOSED'))
    await assert.rejects(async () => snapshot.get(bytes(1)), hasCode('CLOSED'))
    assert.throws(() => snapshot.iterate({}), hasCode('CLOSED'))
    await assert.rejects(iterator.next(1), hasCode('CLOSED'))
    await store.close()
    await store.close()
    assert.throws(() => store.getSync(bytes(1)), hasCode('CLOSED'))
    assert.throws(() => store.snapshot(), hasCode('CLOSED'))
    const calls: (() => Promise<unknown>)[] = [
      () => store.get(bytes(1)),
      () => store.getMany([bytes(1)]),
      () => store.write({ writes: [] }),
      () => store.undoAfter(toLsn(0)),
      () => store.flush(),
      () => store.approximateBytes(),
    ]
    for (const call of calls) await assert.rejects(call, hasCode('CLOSED'))
  })

  test(`${name}: close waits for the writes before it, with snapshots and iterators left open`, async () => {
    const { engine, location } = await under()
    const at = location()
    const store = await engine.open(at)
    await store.write({ writes: [put(bytes(1), bytes(0))], meta: metaAt(1) })
    const snapshot = store.snapshot()
    const reading = snapshot.iterate({}).next(10)
    const writes = [2, 3, 4].map((n) => store.write({ writes: [put(bytes(1), bytes(n))], meta: metaAt(n) }))
    await store.close()
    await Promise.allSettled([...writes, reading])
    const again = await engine.open(at)
    assert.equal(
      again.getSync(bytes(1))?.[0],
      (again.meta?.appliedLsn ?? 0) === 1 ? 0 : again.meta?.appliedLsn,
    )
    await again.close()
  })

  test(`${name}: a store can be set aside under another name, and deleted`, async () => {
    const { engine, location } = await under()
    const [from, to] = [location(), location()]
    assert.equal(await engine.exists(from), false)
    const store = await engine.open(from)
    await store.write({ writes: [put(bytes(1), bytes('kept'))], meta: metaAt(3) })
    await store.close()
    assert.equal(await engine.exists(from), true)
    await engine.move(from, to)
    assert.equal(await engine.exists(from), false)
    assert.equal(await engine.exists(to), true)
    const moved = await engine.open(to)
    assert.equal(show(moved.getSync(bytes(1))), show(bytes('kept')))
    assert.equal(moved.meta?.appliedLsn, 3)
    await moved.close()
    const fresh = await engine.open(from)
    assert.equal(fresh.meta, undefined)
    await fresh.close()
    await engine.destroy(to)
    assert.equal(await engine.exists(to), false)
    await engine.destroy(to)
  })

  withStore('flush and approximateBytes answer', async (store) => {
    const before = await store.approximateBytes()
    const writes = Array.from({ length: 3000 }, (_, n) => put(bytes(1, n >> 8, n & 255), new Uint8Array(100)))
    await store.write({ writes, meta: metaAt(1) })
    await store.flush()
    assert.ok((await store.approximateBytes()) > before + 100_000)
  })

  withStore('the digest depends on rows alone', async (store, { engine, location }) => {
    const rows = Array.from({ length: 5000 }, (_, n) => put(bytes(1, n >> 8, n & 255), bytes(`value ${n}`)))
    await store.write({ writes: [...rows, put(bytes(2), bytes('extra'))], meta: metaAt(1) })
    const digestNow = async (of: Store): Promise<string> => {
      const snapshot = of.snapshot()
      const { digest } = await digestOf(snapshot)
      await snapshot.close()
      return digest
    }
    const withExtra = await digestNow(store)
    await store.write({ writes: [del(bytes(2))], meta: metaAt(2) })
    const other = await engine.open(location())
    for (let at = rows.length; at > 0; at -= 500) await other.write({ writes: rows.slice(at - 500, at) })
    assert.equal(await digestNow(other), await digestNow(store))
    assert.equal(await digestNow(other), digestOfSuiteRows, 'it is the same for every engine')
    assert.notEqual(await digestNow(other), withExtra)
    await other.write({ writes: [put(bytes(1, 0, 3), bytes('value 4'))] })
    assert.notEqual(await digestNow(other), await digestNow(store))
    await other.close()
  })

  test(`${name}: agrees with a sorted list of rows, whatever is written, read and reopened`, async () => {
    const { engine, location } = await under()
    await fc.assert(
      fc.asyncProperty(fc.array(stepArbitrary, { maxLength: 25 }), async (steps) => {
        const at = location()
        let store = await engine.open(at)
        const model = new Model()
        const held: { snapshot: StoreSnapshot; model: Model }[] = []
        let lsn = 0
        for (const step of steps) {
          if (step.kind === 'write') {
            await store.write({ writes: step.writes, meta: metaAt(++lsn) })
            model.apply(step.writes)
            const keys = [...step.writes.map(({ key }) => key), bytes(1)]
            const expected = keys.map((key) => show(model.rows.get(Buffer.from(key).toString('latin1'))?.[1]))
            assert.deepEqual(keys.map((key) => store.getSync(key)).map(show), expected)
            assert.deepEqual((await store.getMany(keys)).map(show), expected)
          } else if (step.kind === 'snapshot') held.push({ snapshot: store.snapshot(), model: model.copy() })
          else if (step.kind === 'read') {
            assert.deepEqual(await rowsNow(store, step.range), model.select(step.range))
            for (const { snapshot, model: then } of held) {
              assert.deepEqual((await allRows(snapshot, step.range)).map(showRow), then.select(step.range))
            }
          } else {
            for (const { snapshot } of held.splice(0)) await snapshot.close()
            await store.close()
            store = await engine.open(at)
            assert.equal(store.meta?.appliedLsn, lsn === 0 ? undefined : lsn)
          }
        }
        for (const { snapshot } of held) await snapshot.close()
        await store.close()
        await engine.destroy(at)
      }),
      { numRuns: 40 },
    )
  })
}

/** Of the rows in the test of the digest: changes only if the digest's definition does. */
const digestOfSuiteRows = 'c50eef9dfe058044-5000'
