// Rows: reading, writing, ranges, named stores, encodings and their limits, on both kinds of database.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Database, type KeyRange, limits } from '../../src/index.ts'
import { collect, failsWith, kinds, openMemory } from '../support/sites.ts'

const letters = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']

async function withLetters(db: Database): Promise<Database> {
  await db.batch(letters.map((key) => ({ type: 'put', key, value: key.toUpperCase() })))
  return db
}

for (const { kind, openOne } of kinds) {
  test(`[D1a] ${kind}: what is put is read in every way, and gone when it is deleted`, async (t) => {
    const db = await openOne(t)
    const receipt = await db.put('city:1', 'Jakarta')
    assert.equal(receipt.acks, 1)
    assert.equal(await db.get('city:1'), 'Jakarta')
    assert.equal(db.getSync('city:1'), 'Jakarta')
    assert.equal(await db.has('city:1'), true)
    assert.deepEqual(await db.getMany(['city:1', 'city:2']), ['Jakarta', undefined])
    await db.put('city:1', 'Batavia')
    assert.equal(await db.get('city:1'), 'Batavia')
    await db.del('city:1')
    await db.del('never there')
    assert.equal(await db.get('city:1'), undefined)
    assert.equal(db.getSync('city:1'), undefined)
    assert.equal(await db.has('city:1'), false)
  })

  test(`[D1a] ${kind}: a batch writes all of its rows, in one transaction, to several stores`, async (t) => {
    const db = await openOne(t)
    await db.put('old', '1')
    const { lsn } = await db.batch([
      { type: 'put', key: 'a', value: '1' },
      { type: 'put', key: 'a', value: '2' },
      { type: 'del', key: 'old' },
      { type: 'put', key: 'a', value: '3', store: 'other' },
    ])
    assert.deepEqual(await db.entries().all(), [['a', '2']])
    assert.equal(await db.store('other').get('a'), '3')
    const changes = await collect(db.changes({ from: lsn, live: false }))
    assert.equal(changes.length, 1)
    assert.equal(changes[0]?.writes.length, 3)
  })

  test(`[D1b] ${kind}: ranges obey their bounds, their direction and their limit`, async (t) => {
    const db = await withLetters(await openOne(t))
    const cases: readonly [KeyRange<string>, string][] = [
      [{}, 'abcdefgh'],
      [{ gt: 'c' }, 'defgh'],
      [{ gte: 'c' }, 'cdefgh'],
      [{ lt: 'c' }, 'ab'],
      [{ lte: 'c' }, 'abc'],
      [{ gt: 'b', lt: 'e' }, 'cd'],
      [{ gte: 'b', lte: 'e' }, 'bcde'],
      [{ gte: 'b', lte: 'e', reverse: true }, 'edcb'],
      [{ reverse: true }, 'hgfedcba'],
      [{ limit: 3 }, 'abc'],
      [{ limit: 3, reverse: true }, 'hgf'],
      [{ limit: 0 }, ''],
      [{ limit: -1 }, 'abcdefgh'],
      [{ gt: 'h' }, ''],
      [{ lt: 'a' }, ''],
      [{ gt: 'e', lt: 'b' }, ''],
      [{ gte: 'c', lte: 'c' }, 'c'],
      [{ gt: 'bb', limit: 2 }, 'cd'],
    ]
    for (const [range, expected] of cases) {
      const keys = await db.keys(range).all()
      assert.equal(keys.join(''), expected, `keys of ${JSON.stringify(range)}`)
      const values = await db.values(range).all()
      assert.equal(values.join(''), expected.toUpperCase(), `values of ${JSON.stringify(range)}`)
      const entries = await collect(db.entries(range))
      assert.deepEqual(
        entries,
        [...expected].map((key) => [key, key.toUpperCase()]),
      )
    }
  })

  test(`[D1b] ${kind}: clear deletes the rows of a range and says how many`, async (t) => {
    const db = await withLetters(await openOne(t))
    await db.store('other').put('c', 'kept')
    assert.equal(await db.clear({ gt: 'b', lte: 'd' }), 2)
    assert.equal((await db.keys().all()).join(''), 'abefgh')
    assert.equal(await db.clear({ reverse: true, limit: 2 }), 2)
    assert.equal((await db.keys().all()).join(''), 'abef')
    assert.equal(await db.clear(), 4)
    assert.equal(await db.clear(), 0)
    assert.equal(await db.store('other').get('c'), 'kept')
  })

  test(`${kind}: a range shows one state, whatever is written while it is read`, async (t) => {
    const db = await withLetters(await openOne(t))
    const cursor = db.keys()
    const first = await cursor.next()
    assert.equal(first.value, 'a')
    await db.batch([
      { type: 'del', key: 'd' },
      { type: 'put', key: 'dd', value: 'new' },
    ])
    assert.equal((await cursor.all()).join(''), 'bcdefgh')
  })

  test(`${kind}: a cursor hands out each row once when next is not waited for, and ends early`, async (t) => {
    const db = await withLetters(await openOne(t))
    const cursor = db.keys()
    const results = await Promise.all(Array.from({ length: 10 }, () => cursor.next()))
    assert.equal(results.map((result) => result.value ?? '-').join(''), 'abcdefgh--')
    const early = db.keys()
    const [one] = await Promise.all([early.next(), early.close()])
    assert.equal(one.done, true)
    assert.deepEqual(await early.next(), { value: undefined, done: true })
    for await (const key of db.keys()) if (key === 'b') break
    assert.equal(await db.get('a'), 'A')
  })

  test(`[D2] ${kind}: named stores are apart from each other, with encodings of their own`, async (t) => {
    const db = await openOne(t)
    const cities = db.store<string, { n: number }>('cities', { valueEncoding: 'json' })
    const names = db.store<Uint8Array, Uint8Array>('c', { keyEncoding: 'view', valueEncoding: 'view' })
    await db.put('1', 'plain')
    await cities.put('1', { n: 7 })
    await names.put(Uint8Array.of(0), Uint8Array.of(255, 254))
    await names.put(Uint8Array.of(255, 255), Uint8Array.of(1))
    assert.equal(await db.get('1'), 'plain')
    assert.deepEqual(await cities.get('1'), { n: 7 })
    assert.deepEqual(await cities.entries().all(), [['1', { n: 7 }]])
    assert.deepEqual(
      (await names.keys({ reverse: true }).all()).map((key) => [...key]),
      [[255, 255], [0]],
    )
    assert.deepEqual(await db.keys().all(), ['1'])
    assert.deepEqual(await db.storeNames(), ['', 'c', 'cities'])
    assert.equal(db.store('').name, '')
    assert.equal(await db.store('').get('1'), 'plain')
    assert.equal(await names.clear(), 2)
    assert.deepEqual(await db.storeNames(), ['', 'cities'])
  })

  test(`${kind}: a long range comes whole, in order, whatever the chunks`, async (t) => {
    const db = await openOne(t)
    const keys = Array.from({ length: 5000 }, (_, i) => String(i).padStart(5, '0'))
    await db.batch(keys.map((key) => ({ type: 'put', key, value: key })))
    assert.deepEqual(await db.keys().all(), keys)
    assert.deepEqual(await db.keys({ reverse: true, limit: 3000 }).all(), keys.toReversed().slice(0, 3000))
    assert.equal(await db.clear({ gte: '00010' }), 4990)
    assert.deepEqual(await db.keys().all(), keys.slice(0, 10))
  })

  test(`${kind}: the bounds on keys, values and transactions are refused by code, and nothing is written`, async (t) => {
    const db = await openOne<string | Uint8Array, string | Uint8Array>(t)
    const longKey = 'k'.repeat(limits.keyBytesMax)
    await db.put(longKey, 'fits')
    assert.equal(await db.get(longKey), 'fits')
    const { lastLsn } = db.status()
    await failsWith('KEY_INVALID', db.put(`${longKey}k`, ''))
    await failsWith('KEY_INVALID', db.put('é'.repeat(limits.keyBytesMax / 2 + 1), ''))
    await failsWith('KEY_INVALID', db.put('', 'empty'))
    await failsWith('KEY_INVALID', db.get(''))
    await failsWith('KEY_INVALID', () => db.getSync(''))
    await failsWith('KEY_INVALID', db.getMany(['a', '']))
    await failsWith('KEY_INVALID', db.has(null as unknown as string))
    await failsWith('KEY_INVALID', db.del(undefined as unknown as string))
    await failsWith('VALUE_INVALID', db.put('a', undefined as unknown as string))
    await failsWith('VALUE_INVALID', db.put('a', null as unknown as string))
    await failsWith('VALUE_INVALID', db.put('a', new Uint8Array(limits.valueBytesMax + 1)))
    const batch = [
      { type: 'put', key: 'first', value: 'of the batch' },
      { type: 'put', key: '', value: 'second' },
    ] as const
    await failsWith('KEY_INVALID', db.batch(batch))
    const halves = [1, 2, 3].map((i) => ({
      type: 'put' as const,
      key: `half${i}`,
      value: new Uint8Array(limits.valueBytesMax - 1000),
    }))
    await failsWith('TRANSACTION_TOO_LARGE', db.batch(halves))
    assert.equal(db.status().lastLsn, lastLsn)
    assert.deepEqual(await db.keys().all(), [longKey])
    await db.batch(halves.slice(0, 2))
    assert.equal((await db.keys().all()).length, 3)
  })

  test(`${kind}: unknown options, bad values and bad ranges are refused before anything is written`, async (t) => {
    const db = await openOne(t)
    await db.put('a', '1')
    const { lastLsn } = db.status()
    const any = (value: unknown): never => value as never
    await failsWith('OPTION_UNKNOWN', db.put('a', '2', any({ sync: true })))
    await failsWith('OPTION_INVALID', db.put('a', '2', any({ durability: 'perhaps' })))
    await failsWith('OPTION_INVALID', db.put('a', '2', any({ acks: -1 })))
    await failsWith('OPTION_INVALID', db.put('a', '2', any({ acks: 'most' })))
    await failsWith('OPTION_INVALID', db.del('a', any({ ackTimeoutMs: 0 })))
    await failsWith('OPTION_UNKNOWN', db.batch([{ type: 'del', key: 'a' }], any({ flush: 1 })))
    await failsWith('OPTION_INVALID', db.batch(any([{ type: 'get', key: 'a' }])))
    await failsWith('OPTION_INVALID', db.batch([]))
    await failsWith('OPTION_UNKNOWN', db.get('a', any({ fillCache: true })))
    await failsWith('OPTION_UNKNOWN', db.clear({}, any({ now: true })))
    await failsWith('OPTION_UNKNOWN', () => db.keys(any({ from: 'a' })))
    await failsWith('RANGE_INVALID', () => db.keys({ gt: 'a', gte: 'a' }))
    await failsWith('RANGE_INVALID', () => db.values({ lt: 'a', lte: 'a' }))
    await failsWith('RANGE_INVALID', () => db.entries({ limit: 1.5 }))
    await failsWith('RANGE_INVALID', () => db.entries({ limit: -2 }))
    await failsWith('RANGE_INVALID', () => db.entries({ gt: any(null) }))
    await failsWith('RANGE_INVALID', () => db.entries({ reverse: any('yes') }))
    await failsWith('RANGE_INVALID', db.clear({ gt: 'a', gte: 'a' }))
    await failsWith('OPTION_UNKNOWN', () => db.store('x', any({ encoding: 'utf8' })))
    await failsWith('OPTION_INVALID', () => db.store('x', { valueEncoding: 'utf7' }))
    await failsWith('OPTION_INVALID', () => db.store('x'.repeat(limits.storeNameBytesMax + 1)))
    await failsWith(
      'OPTION_UNKNOWN',
      db.transact(() => 1, any({ retries: 3 })),
    )
    await failsWith(
      'OPTION_INVALID',
      db.transact(() => 1, { maxAttempts: 0 }),
    )
    await assert.rejects(db.transact(any('not a function')), TypeError)
    await failsWith('OPTION_UNKNOWN', () => db.changes(any({ since: 1 })).next())
    await failsWith('OPTION_INVALID', () => db.changes({ from: 0 }).next())
    await failsWith('OPTION_UNKNOWN', () => db.records(any({ since: 1 })).next())
    await failsWith('OPTION_UNKNOWN', db.outcome('x', any({ wait: 1 })))
    await failsWith('OPTION_UNKNOWN', db.backup('/nowhere/at/all', any({ compress: true })))
    await failsWith('OPTION_UNKNOWN', db.verify(any({ deep: true })))
    await failsWith('OPTION_UNKNOWN', db.digest(any({ deep: true })))
    await failsWith('OPTION_UNKNOWN', db.stat(any({ deep: true })))
    await failsWith('TOKEN_INVALID', db.get('a', { after: 'no token' }))
    assert.equal(db.status().lastLsn, lastLsn)
    assert.deepEqual(await db.entries().all(), [['a', '1']])
  })

  test(`${kind}: every call on a closed database is refused with CLOSED`, async (t) => {
    const db = await openOne(t)
    await db.put('a', '1')
    const store = db.store('other')
    const snapshot = await db.snapshot()
    const cursor = db.keys()
    await db.close()
    await db.close()
    await failsWith('CLOSED', db.put('a', '2'))
    await failsWith('CLOSED', db.del('a'))
    await failsWith('CLOSED', db.batch([{ type: 'del', key: 'a' }]))
    await failsWith('CLOSED', db.get('a'))
    await failsWith('CLOSED', () => db.getSync('a'))
    await failsWith('CLOSED', db.getMany(['a']))
    await failsWith('CLOSED', db.has('a'))
    await failsWith('CLOSED', () => db.entries())
    await failsWith('CLOSED', cursor.next())
    await failsWith('CLOSED', db.clear())
    await failsWith('CLOSED', store.get('a'))
    await failsWith('CLOSED', snapshot.get('a'))
    await failsWith(
      'CLOSED',
      db.transact(() => 1),
    )
    await failsWith('CLOSED', db.snapshot())
    await failsWith('CLOSED', () => db.changes().next())
    await failsWith('CLOSED', () => db.records().next())
    await failsWith('CLOSED', db.outcome('00000000-1-1-1'))
    await failsWith('CLOSED', db.backup('/nowhere/at/all'))
    await failsWith('CLOSED', db.verify())
    await failsWith('CLOSED', db.digest())
    await failsWith('CLOSED', async () => db.checkpoint())
    await failsWith('CLOSED', db.archive())
    await failsWith('CLOSED', db.stat())
    await failsWith('CLOSED', () => db.status())
    await failsWith('CLOSED', db.serve({ listen: '127.0.0.1:0' }))
    await failsWith('CLOSED', db.promote())
    await failsWith('CLOSED', db.standalone())
    await failsWith('CLOSED', db.destroy())
    await snapshot.close()
  })

  test(`${kind}: bytes that the caller changes after a put are not changed in the database`, async (t) => {
    const db = await openOne<Uint8Array, Uint8Array>(t, { keyEncoding: 'view', valueEncoding: 'buffer' })
    const key = Uint8Array.of(1, 2)
    const value = Uint8Array.of(3, 4)
    const put = db.put(key, value)
    key[0] = 9
    value[0] = 9
    await put
    assert.deepEqual([...((await db.get(Uint8Array.of(1, 2))) as Uint8Array)], [3, 4])
    const [change] = await collect(db.changes({ from: 1, live: false }))
    assert.deepEqual(
      change?.writes.map((write) => [...write.key]),
      [[1, 2]],
    )
  })
}

test('bytes that a read gave out are the caller’s own: changing them changes nothing else', async (t) => {
  for (const encoding of ['view', 'buffer']) {
    const db = await openMemory<string, Uint8Array>(t, { valueEncoding: encoding })
    await db.put('a', Uint8Array.of(1, 2, 3))
    for (let i = 0; i < 3; i++) {
      const read = [
        await db.get('a'),
        db.getSync('a'),
        ...(await db.values().all()),
        (await db.transact((tx) => tx.get('a'))).result,
      ]
      for (const bytes of read) {
        assert.ok(bytes !== undefined)
        assert.deepEqual([...bytes], [1, 2, 3])
        bytes.fill(9)
      }
      await db.store<string, Uint8Array>('other', { valueEncoding: encoding }).put('b', Uint8Array.of(i))
    }
  }
})

test('[D2] every encoding of the Level ecosystem, and one of the caller, gives back what was put', async (t) => {
  const db = await openMemory(t)
  const bytes = Uint8Array.of(0, 127, 128, 255)
  const upsideDown = {
    name: 'upside-down',
    format: 'utf8' as const,
    encode: (text: string) => [...text].reverse().join(''),
    decode: (text: string) => [...text].reverse().join(''),
  }
  const cases: readonly [string, unknown, unknown][] = [
    ['utf8', 'çay ☕ 𝄞', 'utf8'],
    ['json', { list: [1, null, 'x'], nested: { yes: true } }, 'json'],
    ['view', bytes, 'view'],
    ['buffer', Buffer.from(bytes), 'buffer'],
    ['hex', '00ff10', 'hex'],
    ['base64', 'AP8Q', 'base64'],
    ['custom', 'abc', upsideDown],
  ]
  for (const [name, value, encoding] of cases) {
    const store = db.store<unknown, unknown>(name, {
      keyEncoding: encoding as string,
      valueEncoding: encoding as string,
    })
    await store.put(value, value)
    const found = await store.get(value)
    assert.deepEqual(
      name === 'view' ? [...(found as Uint8Array)] : found,
      name === 'view' ? [...bytes] : value,
    )
    const [[key] = []] = await store.entries().all()
    assert.deepEqual(name === 'view' ? [...(key as Uint8Array)] : key, name === 'view' ? [...bytes] : value)
  }
  assert.equal(await db.store('custom').get('cba'), 'cba')
})

test('a value that cannot be encoded is refused as its encoding refuses it, and nothing is written', async (t) => {
  const db = await openMemory<string, unknown>(t, { valueEncoding: 'json' })
  await assert.rejects(db.put('a', 1n), TypeError)
  await assert.rejects(
    db.batch([
      { type: 'put', key: 'b', value: 1 },
      { type: 'put', key: 'c', value: 1n },
    ]),
    TypeError,
  )
  assert.deepEqual(await db.keys().all(), [])
})

test('[D6] a database in memory is new each time, and leaves nothing behind', async (t) => {
  const first = await openMemory(t)
  await first.put('a', '1')
  const second = await openMemory(t)
  assert.equal(await second.get('a'), undefined)
  assert.notEqual(first.databaseId, second.databaseId)
  assert.equal(first.location, ':memory:')
  await first.close()
  const third = await openMemory(t)
  assert.deepEqual(await third.keys().all(), [])
})

test('keys that are not ASCII are ordered by their bytes, in stores whose names are not ASCII either', async (t) => {
  const db = await openMemory(t)
  const store = db.store('størr€')
  const keys = ['a', 'z', '~', '\u0080', 'é', 'ÿ', '☕', '\u{1d11e}']
  await store.batch(keys.toReversed().map((key) => ({ type: 'put', key, value: key })))
  assert.deepEqual(await store.keys().all(), keys)
  assert.deepEqual(await store.keys({ gt: '~', lt: '☕' }).all(), ['\u0080', 'é', 'ÿ'])
  assert.equal(await store.get('é'), 'é')
  assert.deepEqual(await db.storeNames(), ['størr€'])
})

test('commits of one turn resolve in the order of their LSNs, and reads see what is committed only', async (t) => {
  const db = await openMemory(t)
  await db.put('n', '0')
  const order: number[] = []
  const puts = [1, 2, 3].map((n) =>
    db.put('n', String(n)).then((receipt) => {
      order.push(n)
      return receipt.lsn
    }),
  )
  assert.equal(db.getSync('n'), '0')
  const lsns = await Promise.all(puts)
  assert.deepEqual(order, [1, 2, 3])
  assert.deepEqual(lsns, [3, 4, 5])
  assert.equal(db.getSync('n'), '3')
})

test('clear goes on in further transactions where its keys are too many or too long for one', async (t) => {
  const db = await openMemory(t)
  const long = (i: number): string => `${String(i).padStart(4, '0')}${'x'.repeat(30_000)}`
  for (let at = 0; at < 1200; at += 400) {
    await db.batch(Array.from({ length: 400 }, (_, i) => ({ type: 'put', key: long(at + i), value: '' })))
  }
  const { lastLsn } = db.status()
  assert.equal(await db.clear(), 1200)
  assert.ok(db.status().lastLsn > lastLsn + 1)
  assert.deepEqual(await db.keys().all(), [])
})
