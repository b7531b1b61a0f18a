// A database on a disk that fails: what was acknowledged is never lost, what is in doubt is said to be, reads go on,
// and a full disk passes. The disk is in memory and its faults are drawn from seeds (env/memory/faulty-disk.ts).

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import { FaultyMemoryFiles } from '../../src/env/memory/faulty-memory-files.ts'
import { memoryHost } from '../../src/env/memory/memory-host.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { openIn } from '../../src/group/open.ts'
import { CoterieError, type Database, type OpenOptions } from '../../src/index.ts'
import { memoryEngine } from '../../src/store/memory-engine.ts'
import type { Store, StoreEngine } from '../../src/store/store.ts'
import { atEnd } from '../support/at-end.ts'
import { failsWith, keepAlive, serveTcp, watched } from '../support/sites.ts'
import { waitUntil } from '../support/wait-until.ts'

function faultyFiles(seed: number): FaultyMemoryFiles {
  return new FaultyMemoryFiles({ timers: nodeHost().timers, prng: new Prng(seed) })
}

/** A database over these files. The store is made anew at each open, as if its files had not survived. */
async function openOn(
  t: TestContext,
  files: FaultyMemoryFiles,
  options: OpenOptions & { readonly storeEngine?: StoreEngine } = {},
): Promise<Database> {
  keepAlive(t)
  const { storeEngine = memoryEngine(), ...openOptions } = options
  const host = memoryHost({ base: nodeHost(), files })
  const environment = { location: 'faulty', path: '/db', host, storeEngine, inMemory: false }
  const db = await openIn<string, string>(environment, openOptions, { asReplica: false })
  atEnd(t, () => db.close().catch(() => {}))
  return db
}

const inLog = (path: string): boolean => path.includes('/log-')

test('a failed sync poisons: what waits is unknown, writes are refused, reads go on, a reopen settles it', async (t) => {
  const files = faultyFiles(1)
  const db = await openOn(t, files)
  await db.put('safe', '1')
  const failures: CoterieError[] = []
  db.on('failed', (error) => failures.push(error))
  files.failSync({ nth: 1, where: inLog })
  const doubtful = watched(db.put('doubtful', '1'))
  const behind = watched(db.put('behind', '1', { durability: 'memory' }))
  await waitUntil(() => doubtful.isSettled, { what: 'the commit learnt of the failure' })
  assert.equal(doubtful.error.code, 'OUTCOME_UNKNOWN')
  assert.equal((doubtful.error.cause as CoterieError).code, 'LOG_POISONED')
  await failsWith('LOG_POISONED', db.put('more', '1'))
  await failsWith(
    'LOG_POISONED',
    db.transact((tx) => tx.put('more', '1')),
  )
  await failsWith('LOG_POISONED', db.clear())
  assert.equal(failures.length, 1)
  assert.equal(db.status().failure?.code, 'LOG_POISONED')
  assert.equal(db.status().writable, false)
  assert.equal(await db.get('safe'), '1')
  assert.equal(db.getSync('safe'), '1')
  assert.ok((await db.keys().all()).includes('safe'))
  assert.equal((await db.snapshot()).lsn >= 2, true)
  assert.ok(behind.isSettled)
  await db.close()
  const again = await openOn(t, files.kill())
  assert.equal(await again.get('safe'), '1')
  const outcome = await again.outcome(String(doubtful.error.details.token))
  const found = await again.get('doubtful')
  assert.equal(outcome, found === undefined ? 'pending' : 'applied')
  await again.put('more', '2')
  const settled = await again.outcome(String(doubtful.error.details.token))
  assert.equal(settled, found === undefined ? 'lost' : 'applied')
})

test('a failed write poisons as a failed sync does', async (t) => {
  const files = faultyFiles(2)
  const db = await openOn(t, files)
  await db.put('safe', '1')
  files.failWrite({ nth: 1, where: inLog })
  await failsWith('OUTCOME_UNKNOWN', db.put('doubtful', '1'))
  await failsWith('LOG_POISONED', db.put('more', '1'))
  await db.close()
  const again = await openOn(t, files.crash())
  assert.equal(await again.get('safe'), '1')
})

test('commits that gather while the log is failing are told so, and nothing is thrown past them', async (t) => {
  const files = faultyFiles(3)
  const db = await openOn(t, files)
  await db.put('safe', '1')
  const puts: { readonly error: CoterieError }[] = []
  files.failSync({ nth: 1, where: inLog })
  const first = watched(db.put('first', '1'))
  for (let i = 0; !first.isSettled; i++) {
    // Some of them wait for no sync, and go to the log at the end of their turn.
    if (i % 3 === 0) puts.push(watched(db.put(`k${i}`, '1', i % 2 === 0 ? { durability: 'memory' } : {})))
    await Promise.resolve()
    if (i % 10 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  await new Promise((resolve) => setTimeout(resolve, 20))
  for (const put of puts) assert.ok(['OUTCOME_UNKNOWN', 'LOG_POISONED'].includes(put.error.code))
})

test('a site whose log fails stops serving, and says why', async (t) => {
  const files = faultyFiles(4)
  const db = await openOn(t, files)
  const master = await serveTcp(db)
  files.failSync({ nth: 1, where: inLog })
  await failsWith('OUTCOME_UNKNOWN', db.put('a', '1'))
  const end = await master.stopped
  assert.equal(end.reason, 'failed')
  assert.equal(end.cause?.code, 'LOG_POISONED')
})

test('a full disk: writes are refused by code, reads go on, and it recovers by itself', async (t) => {
  const files = faultyFiles(5)
  const db = await openOn(t, files, { segmentBytes: 65_536 })
  await db.put('a', '1')
  const events: string[] = []
  db.on('stalled', (error) => events.push(error.code))
  db.on('resumed', () => events.push('resumed'))
  files.full = true
  const value = 'x'.repeat(2000)
  const queued = Array.from({ length: 50 }, (_, i) => watched(db.put(`k${i}`, value)))
  await waitUntil(() => db.status().stall !== undefined, { what: 'the log found no space' })
  const refused = await failsWith('DISK_FULL', db.put('b', '1'))
  assert.equal(refused.retryable, true)
  await failsWith(
    'DISK_FULL',
    db.transact((tx) => tx.put('b', '1')),
  )
  assert.equal(db.status().stall?.code, 'DISK_FULL')
  assert.equal(await db.get('a'), '1')
  assert.deepEqual((await db.keys({ lt: 'b' }).all()).slice(0, 1), ['a'])
  assert.ok(queued.some((put) => !put.isSettled))
  files.full = false
  await waitUntil(() => queued.every((put) => put.isSettled), { what: 'the queue moved again' })
  for (const put of queued) assert.ok(put.value.lsn > 0)
  await db.put('b', '2')
  assert.equal(await db.get('b'), '2')
  assert.deepEqual(events, ['DISK_FULL', 'resumed'])
  assert.equal(db.status().stall, undefined)
  await db.close()
  const again = await openOn(t, files.crash({ survival: 'none' }))
  assert.equal((await again.keys().all()).length, 52)
})

test('a disk that is full when the first write comes is no failure for good', async (t) => {
  const files = faultyFiles(6)
  const first = await openOn(t, files)
  await first.put('a', '1')
  await first.close()
  const db = await openOn(t, files)
  files.full = true
  await failsWith('DISK_FULL', db.put('b', '1'))
  await failsWith('DISK_FULL', db.put('b', '1'))
  assert.equal(await db.get('a'), '1')
  assert.equal(db.status().failure, undefined)
  files.full = false
  await waitUntil(() => db.status().stall === undefined, { what: 'the term could be written' })
  await db.put('b', '2')
  assert.equal(await db.get('b'), '2')
})

test('a database that is closed while its disk is full says so, and can be opened again', async (t) => {
  const files = faultyFiles(7)
  const db = await openOn(t, files, { segmentBytes: 65_536 })
  await db.put('a', '1')
  files.full = true
  const value = 'x'.repeat(20_000)
  const queued = Array.from({ length: 10 }, (_, i) => watched(db.put(`k${i}`, value)))
  await waitUntil(() => db.status().stall !== undefined, { what: 'the log found no space' })
  await failsWith('DISK_FULL', db.close())
  await waitUntil(() => queued.every((put) => put.isSettled), { what: 'the commits were told' })
  const kept = queued.filter((put) => {
    try {
      return put.value.lsn > 0
    } catch {
      assert.equal(put.error.code, 'OUTCOME_UNKNOWN')
      return false
    }
  })
  assert.ok(kept.length < 10)
  files.full = false
  const again = await openOn(t, files)
  assert.ok((await again.keys().all()).length >= 1 + kept.length)
  await again.put('b', '1')
})

test('an open that fails lets go of the folder', async (t) => {
  const files = faultyFiles(8)
  const first = await openOn(t, files)
  await first.put('a', '1')
  await first.close()
  files.failWrite({ nth: 1 })
  await assert.rejects(openOn(t, files))
  files.failSync({ nth: 1 })
  await assert.rejects(openOn(t, files))
  const db = await openOn(t, files)
  assert.equal(await db.get('a'), '1')
})

/** An engine whose stores fail at their `nth` write. */
function failingEngine(nth: number): StoreEngine {
  const engine = memoryEngine()
  let left = nth
  const failing = (store: Store): Store =>
    new Proxy(store, {
      get(target, name) {
        const member: unknown = Reflect.get(target, name, target)
        if (typeof member !== 'function') return member
        if (name !== 'write') return member.bind(target)
        return (...batch: unknown[]) => {
          left--
          if (left > 0) return member.apply(target, batch)
          return Promise.reject(new CoterieError('STORE_FAILED', 'the store is out of order'))
        }
      },
    })
  return {
    name: engine.name,
    open: async (location) => failing(await engine.open(location)),
    exists: (location) => engine.exists(location),
    move: (from, to) => engine.move(from, to),
    destroy: (location) => engine.destroy(location),
  }
}

test('a store that fails stops the site; the log has everything, and the next open makes the store anew', async (t) => {
  const files = faultyFiles(9)
  const db = await openOn(t, files, { storeEngine: failingEngine(5) })
  const acknowledged: string[] = []
  const error = await writeUntilItFails(db, acknowledged)
  assert.ok(['STORE_FAILED', 'OUTCOME_UNKNOWN'].includes(error.code))
  await failsWith('STORE_FAILED', db.put('more', '1'))
  assert.equal(db.status().failure?.code, 'STORE_FAILED')
  await db.close()
  const again = await openOn(t, files)
  const keys = await again.keys().all()
  for (const key of acknowledged) assert.ok(keys.includes(key), `${key} was acknowledged`)
})

async function writeUntilItFails(db: Database, acknowledged: string[]): Promise<CoterieError> {
  for (let i = 0; i < 10_000; i++) {
    try {
      await db.put(`k${i}`, String(i))
      acknowledged.push(`k${i}`)
    } catch (error) {
      assert.ok(error instanceof CoterieError)
      return error
    }
  }
  throw new Error('it did not fail')
}

test('whichever sync or write fails, no acknowledged commit is lost and nothing is half there', async (t) => {
  const rounds = process.env.COTERIE_TEST_ALL === undefined ? 24 : 300
  for (let seed = 0; seed < rounds; seed++) {
    const files = faultyFiles(1000 + seed)
    const prng = new Prng(seed)
    const db = await openOn(t, files, { segmentBytes: 65_536 })
    const acknowledged = new Map<string, string>()
    const call = { nth: prng.between(1, 20) }
    if (prng.chance(0.5)) files.failSync(call)
    else files.failWrite(call)
    let failed = false
    for (let i = 0; i < 40 && !failed; i++) {
      const value = `${i} ${'x'.repeat(prng.below(3000))}`
      const rows = [`left${i % 5}`, `right${i % 5}`].map((key) => ({ type: 'put' as const, key, value }))
      await db.batch(rows).then(
        () => {
          for (const { key } of rows) acknowledged.set(key, value)
        },
        () => {
          failed = true
        },
      )
    }
    await db.close().catch(() => {})
    const after = await openOn(t, prng.chance(0.5) ? files.crash() : files.kill())
    for (const [key, value] of acknowledged) {
      const found = await after.get(key)
      const isNewer = found !== undefined && Number(found.split(' ')[0]) >= Number(value.split(' ')[0])
      assert.ok(
        isNewer,
        `seed ${seed}: ${key} is ${found?.slice(0, 5)}, acknowledged was ${value.slice(0, 5)}`,
      )
    }
    for (let i = 0; i < 5; i++) assert.equal(await after.get(`left${i}`), await after.get(`right${i}`))
    await after.verify()
    await after.close()
  }
})

test('whenever the power fails, what was acknowledged as durable is there', async (t) => {
  const rounds = process.env.COTERIE_TEST_ALL === undefined ? 16 : 300
  for (let seed = 0; seed < rounds; seed++) {
    let files = faultyFiles(2000 + seed)
    const prng = new Prng(seed)
    const acknowledged = new Map<string, number>()
    for (let life = 0; life < 3; life++) {
      const db = await openOn(t, files, { segmentBytes: 65_536, checkpointBytes: 65_536 })
      for (const [key, n] of acknowledged) {
        assert.ok(Number((await db.get(key))?.split(' ')[0]) >= n, `seed ${seed}, life ${life}: ${key}`)
      }
      const commits = prng.between(1, 60)
      const puts: Promise<void>[] = []
      for (let i = 0; i < commits; i++) {
        const key = `k${prng.below(10)}`
        const n = life * 1000 + i
        const put = db.put(key, `${n} ${'x'.repeat(prng.below(2000))}`)
        puts.push(
          put.then(
            () => void acknowledged.set(key, n),
            () => {},
          ),
        )
        if (prng.chance(0.3)) await Promise.race([put.catch(() => {}), new Promise((go) => setImmediate(go))])
      }
      // The plug is pulled while commits are under way.
      const known = new Map(acknowledged)
      files = files.crash()
      await Promise.all(puts)
      acknowledged.clear()
      for (const [key, n] of known) acknowledged.set(key, n)
      await db.close().catch(() => {})
    }
  }
})
