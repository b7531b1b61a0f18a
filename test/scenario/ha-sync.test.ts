// How a replica comes into step: equal, incremental, by snapshot, by rewind; and when it is refused instead.

import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { memoryHost } from '../../src/env/memory/memory-host.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { openIn } from '../../src/group/open.ts'
import { type Database, open, restore } from '../../src/index.ts'
import { memoryEngine } from '../../src/store/memory-engine.ts'
import { atEnd } from '../support/at-end.ts'
import { overridden } from '../support/held-host.ts'
import {
  addressOf,
  attachTo,
  collect,
  digestOf,
  failsWith,
  keepAlive,
  openAt,
  openFolder,
  openMemory,
  putMany,
  replicaOf,
  serveTcp,
  watched,
} from '../support/sites.ts'
import { startProxy } from '../support/tcp-proxy.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

function storesIn(db: Database): string {
  return readdirSync(db.location)
    .filter((name) => name.startsWith('store-'))
    .join()
}

/** Waits until both have the same LSN applied, and holds their digests against each other. */
async function assertEqualSoon(a: Database, b: Database): Promise<void> {
  const { lastLsn } = a.status()
  await waitUntil(() => b.status().appliedLsn >= lastLsn, { what: `LSN ${lastLsn} was applied` })
  assert.equal(await digestOf(b), await digestOf(a))
}

test('[A5a] a replica that has everything is in step at once: equal', async (t) => {
  const source = await openMemory(t)
  await putMany(source, 20)
  const master = await serveTcp(source)
  const { attachment, db } = await replicaOf(t, master)
  await attachment.stop()
  const again = attachTo(t, master, db)
  const synced = await again.synced
  assert.equal(synced.kind, 'equal')
  assert.deepEqual([synced.from, synced.to, synced.transactions, synced.bytes], [21, 21, 0, 0])
  assert.ok(synced.ms >= 0)
})

test('[A5a A18c] a replica that was away gets what it lacks from the log: incremental', async (t) => {
  const source = await openFolder(t)
  await putMany(source, 20)
  const master = await serveTcp(source)
  const copy = await openFolder(t)
  const { attachment } = await replicaOf(t, master, copy)
  await attachment.stop()
  await putMany(source, 500, 'later')
  await source.del('row0001')
  const again = attachTo(t, master, copy)
  const synced = await again.synced
  assert.equal(synced.kind, 'incremental')
  assert.deepEqual([synced.from, synced.to, synced.transactions], [21, 522, 501])
  assert.ok(synced.bytes > 501 * 40)
  await assertEqualSoon(source, copy)
  await again.stop()
  await copy.close()
  await source.put('once more', '1')
  const reopened = await replicaOf(t, master, { path: copy.location })
  assert.equal((await reopened.attachment.synced).transactions, 1)
  await assertEqualSoon(source, reopened.db)
})

test('[A5b A18c] where the log no longer reaches back, a snapshot: of all rows, in place of the old ones', async (t) => {
  const source = await openFolder(t, { segmentBytes: 65_536, retain: { bytes: 0 } })
  await putMany(source, 50)
  const master = await serveTcp(source)
  const copy = await openFolder(t)
  const { attachment } = await replicaOf(t, master, copy)
  await attachment.stop()
  const value = 'x'.repeat(2000)
  for (let i = 0; i < 100; i++) await source.put(`big${i}`, value)
  await source.clear({ gte: 'row', lt: 'row0040' })
  assert.equal((await source.archive()).firstLsn, 1, 'what the replica lacks can still be taken back')
  master.detach(copy.siteId)
  const { firstLsn } = await source.archive()
  assert.ok(firstLsn > 52)
  const again = attachTo(t, master, copy)
  const synced = await again.synced
  assert.equal(synced.kind, 'snapshot')
  assert.ok(synced.bytes > 200_000)
  await assertEqualSoon(source, copy)
  assert.equal(await copy.get('row0001'), undefined)
  assert.deepEqual(await copy.store('nothing').keys().all(), [])
  await waitUntil(() => storesIn(copy) === 'store-3', { what: 'the old rows were gone from the disk' })
  await again.stop()
  await copy.close()
  const reopened = await openAt(t, copy.location)
  assert.equal(await digestOf(reopened), await digestOf(source))
})

test('[A18a] the master writes on while a snapshot goes out, in chunks of the size that was asked for', async (t) => {
  const source = await openMemory(t)
  await putMany(source, 600)
  const master = await serveTcp(source, { chunkRecords: 10, chunkBytes: 2048, chunkDelayMs: 1, sites: 1 })
  let isWriting = true
  let written = 0
  const write = async (): Promise<void> => {
    for (; isWriting; written++) {
      await source.put(`row${String(written % 700).padStart(4, '0')}`, `new ${written}`)
    }
  }
  const writing = write()
  const before = written
  const attachment = attachTo(t, master)
  const chunks: number[] = []
  attachment.on('syncProgress', ({ unit, done }) => {
    if (unit === 'rows') chunks.push(done)
  })
  const synced = await attachment.synced
  const during = written - before
  isWriting = false
  await writing
  assert.equal(synced.kind, 'snapshot')
  assert.ok(during > 10, `${during} writes went on`)
  assert.ok((source.status().counters.snapshotChunks ?? 0) >= 60)
  assert.ok(chunks.every((done, i) => i === 0 || done >= (chunks[i - 1] as number)))
  await assertEqualSoon(source, attachment.db)
})

test('[A18b] with initialSync blocking, writes wait while a replica takes its snapshot', async (t) => {
  const source = await openMemory(t)
  await putMany(source, 100)
  const master = await serveTcp(source, { initialSync: 'blocking', chunkRecords: 10, chunkDelayMs: 10 })
  await source.put('open', '1')
  const attachment = attachTo(t, master)
  await new Promise<void>((resolve) => {
    attachment.on('syncBegin', () => resolve())
  })
  const { lastLsn } = source.status()
  const put = watched(source.put('waits', '1'))
  await waitUntil(() => (master.replicas[0]?.snapshot?.rows ?? 0) > 30, {
    what: 'the snapshot was under way',
  })
  assert.equal(put.isSettled, false)
  assert.equal(source.status().lastLsn, lastLsn)
  assert.equal(await source.get('open'), '1')
  await attachment.synced
  await waitUntil(() => put.isSettled, { what: 'the write went on' })
  assert.ok(put.value.lsn > lastLsn)
  await assertEqualSoon(source, attachment.db)
})

test('[A3] readers of a replica keep their snapshots while another one is installed over its rows', async (t) => {
  for (const openCopy of [openMemory, openFolder]) {
    const source = await openMemory(t, { segmentBytes: 65_536, retain: { bytes: 0 } })
    await putMany(source, 3000)
    const master = await serveTcp(source)
    const copy: Database = await openCopy(t)
    const { attachment } = await replicaOf(t, master, copy)
    await attachment.stop()
    const snapshot = await copy.snapshot()
    const cursor = copy.keys()
    assert.equal((await cursor.next()).value, 'row0000')
    await source.clear()
    await source.put('all new', 'x'.repeat(100_000))
    for (let i = 0; i < 5; i++) await source.put('again', 'x'.repeat(60_000))
    master.detach(copy.siteId)
    await source.archive()
    const again = attachTo(t, master, copy)
    let isSynced = false
    const reading = (async (): Promise<number> => {
      let reads = 0
      for (; !isSynced; reads++) {
        const [old, fresh] = await Promise.all([copy.get('row0100'), copy.get('all new')])
        assert.ok(old === '100' || fresh?.length === 100_000)
        const keys = await copy.keys().all()
        assert.ok(keys.length === 3000 || keys.join() === 'again,all new', `${keys.length} keys`)
        await new Promise((resolve) => setImmediate(resolve))
      }
      return reads
    })()
    assert.equal((await again.synced).kind, 'snapshot')
    isSynced = true
    assert.ok((await reading) > 0)
    assert.equal(await snapshot.get('row0100'), '100')
    assert.equal((await snapshot.keys().all()).length, 3000)
    assert.equal((await cursor.all()).length, 2999)
    assert.deepEqual(await copy.keys().all(), ['again', 'all new'])
    await assertEqualSoon(source, copy)
    if (openCopy === openMemory) {
      await snapshot.close()
      continue
    }
    // A reader that never lets go holds nothing beyond the database's own life.
    await copy.close()
    await failsWith('CLOSED', snapshot.get('row0100'))
    const reopened = await openAt(t, copy.location)
    assert.equal(await digestOf(reopened), await digestOf(source))
    assert.equal(storesIn(reopened).split(',').length, 1)
  }
})

test('a snapshot that broke off goes on where it was, in a new attachment', async (t) => {
  const source = await openMemory(t)
  const value = 'x'.repeat(2000)
  await source.batch(
    Array.from({ length: 1000 }, (_, i) => ({ type: 'put', key: `k${String(i).padStart(4, '0')}`, value })),
  )
  const master = await serveTcp(source, { chunkRecords: 10, chunkBytes: 40_000, chunkDelayMs: 1, sites: 1 })
  const proxy = await startProxy(t, addressOf(master))
  const path = join(withTempFolder(t), 'copy')
  const broken = attachTo(t, proxy.address, { path, site: 'copy' })
  broken.on('syncProgress', ({ done }) => {
    if (done >= 400) proxy.cut()
  })
  assert.equal((await broken.stopped).reason, 'connection-lost')
  assert.ok(proxy.bytesBack > 800_000)
  await waitUntil(() => master.replicas.length === 0, { what: 'the master noticed' })
  await source.put('k0001', 'newer')
  const again = await startProxy(t, addressOf(master))
  const { attachment, db } = await replicaOf(t, again.address, { path, site: 'copy' })
  assert.equal((await attachment.synced).kind, 'snapshot')
  assert.ok(again.bytesBack < 1_500_000, `${again.bytesBack} of 2,000,000 bytes came the second time`)
  await assertEqualSoon(source, db)
})

test('[A5c E2] a tail that the new master does not have is undone, and kept in a file that can be read', async (t) => {
  const a = await openFolder(t, { site: 'a' })
  await putMany(a, 5)
  const old = await serveTcp(a, { sites: 3, acks: 'none' })
  const { attachment, db: b } = await replicaOf(t, old, { path: ':memory:', site: 'b' })
  await a.put('shared', 'by all')
  await waitUntil(() => b.status().appliedLsn === a.status().lastLsn, { what: 'b had everything' })
  await attachment.stop()
  const agreed = a.status().lastLsn
  const { token } = await a.put('lost', 'value 1')
  await a.batch([
    { type: 'put', key: 'shared', value: 'overwritten' },
    { type: 'del', key: 'row0001' },
    { type: 'put', key: 'bytes', value: 'x', store: 'other' },
  ])
  assert.equal(await a.get('shared'), 'overwritten')
  await waitUntil(() => a.status().appliedLsn === a.status().lastLsn, { what: 'they stood in the store' })
  assert.equal(a.status().permanentLsn, agreed)
  await a.close()
  await b.promote()
  const master = await serveTcp(b, { sites: 3, acks: 'none' })
  await b.put('new', 'reign')
  const again = attachTo(t, master, { path: a.location })
  const rewound: unknown[] = []
  again.on('rewound', (event) => rewound.push(event))
  const synced = await again.synced
  assert.equal(synced.kind, 'rewound')
  assert.equal(synced.from, agreed)
  const { db } = again
  await assertEqualSoon(b, db)
  assert.equal(await db.get('lost'), undefined)
  assert.equal(await db.get('shared'), 'by all')
  assert.equal(await db.get('row0001'), '1')
  assert.equal(await db.store('other').get('bytes'), undefined)
  assert.equal(await db.outcome(token, { timeoutMs: 5000 }), 'lost')
  assert.equal(await b.outcome(token, { timeoutMs: 5000 }), 'lost')
  const [name] = readdirSync(join(a.location, 'lost'))
  const file = join(a.location, 'lost', String(name))
  assert.deepEqual(rewound, [{ to: agreed, transactions: 2, file }])
  const lines = readFileSync(file, 'utf8').trim().split('\n')
  assert.deepEqual(
    lines.map((line) => {
      const { lsn, type, store, key, value } = JSON.parse(line)
      return [lsn - agreed, type, store, key, value]
    }),
    [
      [1, 'put', undefined, 'lost', 'value 1'],
      [2, 'put', undefined, 'shared', 'overwritten'],
      [2, 'del', undefined, 'row0001', undefined],
      [2, 'put', 'other', 'bytes', 'x'],
    ],
  )
  assert.deepEqual(db.status().lost, [name])
  await again.stop()
  await db.close()
  const reopened = await openAt(t, a.location)
  assert.equal(await digestOf(reopened), await digestOf(b))
  assert.deepEqual(reopened.status().lost, [name])
})

test('a log that turns out to be damaged where it has to be undone stops the site, and nothing is cut', async (t) => {
  const a = await openFolder(t, { site: 'a' })
  const old = await serveTcp(a, { sites: 3, acks: 'none' })
  const { attachment, db: b } = await replicaOf(t, old, { path: ':memory:', site: 'b' })
  await a.put('shared', 'by all')
  await waitUntil(() => b.status().appliedLsn === a.status().lastLsn, { what: 'b had everything' })
  await attachment.stop()
  await a.put('lost', 'value 1')
  const { lastLsn } = a.status()
  await a.close()
  await b.promote()
  const master = await serveTcp(b, { sites: 3, acks: 'none' })
  await b.put('new', 'reign')
  // Opened while all was well.
  const back = await openAt(t, a.location)
  const folder = readdirSync(a.location).find((name) => name.startsWith('log-')) as string
  const [segment] = readdirSync(join(a.location, folder)).filter((name) => name.endsWith('.seg'))
  const path = join(a.location, folder, segment as string)
  const bytes = readFileSync(path)
  const at = bytes.indexOf('by all')
  bytes[at] = (bytes[at] as number) ^ 1
  writeFileSync(path, bytes)
  const failed = new Promise((resolve) => back.on('failed', resolve))
  attachTo(t, master, back)
  assert.equal(((await failed) as { code: string }).code, 'LOG_DAMAGED')
  assert.equal(back.status().lastLsn, lastLsn)
  assert.deepEqual(readFileSync(path), bytes)
  await back.close().catch(() => undefined)
  await failsWith('LOG_DAMAGED', open(a.location))
})

test('[A5c] a master that never closed rewinds too, and goes on as a replica', async (t) => {
  const a = await openMemory(t)
  await putMany(a, 5)
  const old = await serveTcp(a, { sites: 3, acks: 'none' })
  const { db: b } = await replicaOf(t, old)
  await waitUntil(() => b.status().appliedLsn === a.status().lastLsn, { what: 'b had everything' })
  await b.promote()
  await a.put('lost', '1')
  await a.put('row0000', 'lost too')
  const changes = a.changes({ from: 1 })
  const seen = [await changes.next()]
  while (seen.at(-1)?.value?.lsn !== a.status().lastLsn) seen.push(await changes.next())
  // A consumer of changes must not be left in the belief that what it was given still stands, whether it waits or not.
  const idle = a.changes({ from: a.status().lastLsn })
  assert.equal((await idle.next()).value?.lsn, a.status().lastLsn)
  const stream = failsWith('INVALID_STATE', changes.next())
  const master = await serveTcp(b, { sites: 3, acks: 'none' })
  await putMany(b, 10, 'new')
  await old.stop()
  const { attachment } = await replicaOf(t, master, a)
  assert.equal((await attachment.synced).kind, 'rewound')
  await assertEqualSoon(b, a)
  assert.equal(await a.get('lost'), undefined)
  assert.equal(await a.get('row0000'), '0')
  await stream
  await failsWith('INVALID_STATE', idle.next())
})

test('[A5c] the old master of a group of no fixed size rewinds what nobody else had', async (t) => {
  const a = await openFolder(t)
  await putMany(a, 5)
  const old = await serveTcp(a)
  const { attachment, db: b } = await replicaOf(t, old)
  await a.put('shared', '1')
  await waitUntil(() => b.status().appliedLsn === a.status().lastLsn, { what: 'b had everything' })
  await attachment.stop()
  await waitUntil(() => old.replicas.length === 0, { what: 'b had gone' })
  await a.put('alone', '1')
  await a.close()
  await b.promote()
  const master = await serveTcp(b)
  const { attachment: back, db } = await replicaOf(t, master, { path: a.location })
  assert.equal((await back.synced).kind, 'rewound')
  assert.equal(await db.get('alone'), undefined)
  await assertEqualSoon(b, db)
})

test('what a quorum had made permanent is never undone: REWIND_REFUSED, and nothing is changed', async (t) => {
  const a = await openFolder(t)
  await putMany(a, 5)
  const old = await serveTcp(a, { sites: 3 })
  const c = await replicaOf(t, old, { path: ':memory:', site: 'c' })
  await c.attachment.stop()
  const b = await replicaOf(t, old, { path: ':memory:', site: 'b' })
  const { lsn } = await a.put('permanent', '1')
  await waitUntil(() => b.db.status().permanentLsn === lsn, { what: 'b knew that it was permanent' })
  await b.attachment.stop()
  await old.stop()
  const digest = await digestOf(a)
  await c.db.promote()
  const wrong = await serveTcp(c.db, { sites: 3, acks: 'none' })
  const stopped = await attachTo(t, wrong, a).stopped
  assert.equal(stopped.reason, 'handshake-refused')
  assert.equal(stopped.cause?.code, 'REWIND_REFUSED')
  assert.equal(await digestOf(a), digest)
  const other = await attachTo(t, wrong, b.db).stopped
  assert.equal(other.cause?.code, 'REWIND_REFUSED')
  assert.equal(await b.db.get('permanent'), '1')
})

test('data of another history is refused, untouched; with replace it is set aside, not deleted', async (t) => {
  const source = await openMemory(t)
  await source.put('theirs', '1')
  const master = await serveTcp(source)
  const mine = await openFolder(t)
  for (let i = 0; i < 3; i++) {
    // A few reigns: the local term is above the master's.
    await mine.put('mine', String(i))
    await (await serveTcp(mine)).stop()
  }
  await mine.put('mine', 'last')
  assert.ok(mine.status().term > source.status().term)
  await putMany(mine, 20)
  const digest = await digestOf(mine)
  const stopped = await attachTo(t, master, mine).stopped
  assert.equal(stopped.cause?.code, 'FOREIGN_HISTORY')
  assert.equal(await digestOf(mine), digest)
  await mine.put('still', 'writable')
  await mine.close()
  const refused = attachTo(t, master, { path: mine.location })
  assert.equal((await refused.stopped).cause?.code, 'FOREIGN_HISTORY')
  await refused.db.close()
  const { attachment, db } = await replicaOf(t, master, { path: mine.location }, { replace: true })
  assert.equal((await attachment.synced).kind, 'snapshot')
  await assertEqualSoon(source, db)
  assert.equal(db.databaseId, source.databaseId)
  const names = readdirSync(mine.location)
  for (const name of ['store-1', 'log-1', 'store-2', 'log-2']) assert.ok(names.includes(name), name)
  await source.put('more', '1')
  await assertEqualSoon(source, db)
  await attachment.stop()
  await db.promote()
  await db.put('a new', 'reign')
  await db.close()
  const reopened = await openAt(t, mine.location)
  assert.equal(await reopened.get('theirs'), '1')
  assert.equal(await reopened.get('mine'), undefined)
  assert.ok(existsSync(join(mine.location, 'store-1')), 'it is kept at later opens too')
})

test('a fresh database without a record attaches as an empty folder does', async (t) => {
  const source = await openMemory(t)
  await source.put('a', '1')
  const master = await serveTcp(source)
  const fresh = await openFolder(t)
  const { attachment } = await replicaOf(t, master, fresh)
  assert.equal((await attachment.synced).kind, 'snapshot')
  await waitUntil(() => storesIn(fresh) === 'store-2', { what: 'the empty store was gone' })
})

test('a store that was made anew from the log shows nothing before it shows all that it had shown', async (t) => {
  const other = await openFolder(t, { site: 'other' })
  await putMany(other, 100)
  const old = await serveTcp(other, { sites: 2, acks: 'none' })
  await replicaOf(t, old, { path: ':memory:', site: 'b' })
  await other.close()
  writeFileSync(join(other.location, 'store-1', 'CURRENT'), 'MANIFEST-gone\n')
  const again = await openAt(t, other.location)
  assert.equal(again.status().rebuilt, true)
  assert.equal(again.status().role, 'master')
  await failsWith('SYNCING', () => again.getSync('row0001'))
  const read = watched(again.get('row0001'))
  const range = watched(again.keys().all())
  await new Promise((resolve) => setTimeout(resolve, 20))
  assert.deepEqual([read.isSettled, range.isSettled], [false, false])
  await again.standalone()
  await waitUntil(() => read.isSettled && range.isSettled, { what: 'it could be read' })
  assert.equal(read.value, '1')
  assert.equal(range.value.length, 100)
})

const appendType = 4
const ackType = 5

/** A replica on disk that began with a snapshot, whose store is lost while it is closed. */
async function withoutRows(t: TestContext, master: string, options: { path: string }): Promise<void> {
  const { path } = options
  const { attachment, db } = await replicaOf(t, master, { path })
  await attachment.stop()
  await db.close()
  loseStore(path)
}

function loseStore(path: string): void {
  const [store = ''] = readdirSync(path).filter((name) => name.startsWith('store-'))
  rmSync(join(path, store), { recursive: true })
}

test('[B15c] a replica that has lost its rows gets them again, as the site that it was', async (t) => {
  const path = join(withTempFolder(t), 'copy')
  const source = await openMemory(t)
  await putMany(source, 100)
  const master = await serveTcp(source)
  await withoutRows(t, addressOf(master), { path })
  const db = await openAt(t, path)
  const { siteId } = db
  const { incarnation } = db.site.engine.folder.state ?? {}
  assert.equal(db.status().rebuilt, true)
  await failsWith('SYNCING', () => db.getSync('row0001'))
  await failsWith('SYNCING', db.promote())
  const read = db.get('row0001')
  const { attachment } = await replicaOf(t, master, db)
  assert.equal((await attachment.synced).kind, 'snapshot')
  assert.equal(await read, '1')
  assert.equal(db.siteId, siteId)
  assert.equal(db.site.engine.folder.state?.incarnation, incarnation)
  await assertEqualSoon(source, db)
})

test('[B15c] of the records that it may have acknowledged none is lost with the rows', async (t) => {
  const path = join(withTempFolder(t), 'copy')
  const source = await openMemory(t, { site: 'a' })
  await putMany(source, 100)
  const master = await serveTcp(source, { sites: 2, acks: 'quorum' })
  // Its acks do not come through: what it has on disk is not committed at the master, and in none of its snapshots.
  let isMute = false
  const proxy = await startProxy(t, addressOf(master), {
    onMessage: ({ from, type }) => (isMute && from === 'client' && type === ackType ? 'drop' : 'pass'),
  })
  const { attachment, db } = await replicaOf(t, proxy.address, { path, site: 'b' })
  await waitUntil(() => master.replicas[0]?.state === 'live', { what: 'the master knows that it follows' })
  isMute = true
  const commit = source.put('last', 'one')
  const { lastLsn } = source.status()
  await waitUntil(() => db.status().durableLsn === lastLsn, { what: 'it is on the disk of the replica' })
  await attachment.stop()
  await db.close()
  loseStore(path)
  // Nor do records come now: what is there and acknowledged is from the own log.
  const oneWay = await startProxy(t, addressOf(master), {
    onMessage: ({ from, type }) => (from === 'server' && type === appendType ? 'drop' : 'pass'),
  })
  const { attachment: again, db: back } = await replicaOf(t, oneWay.address, { path })
  assert.equal((await again.synced).kind, 'snapshot')
  assert.equal((await commit).acks, 2)
  await assertEqualSoon(source, back)
})

test('[D7f] a restored backup attaches to a master of its database and catches up from the log', async (t) => {
  const folder = withTempFolder(t)
  const source = await openMemory(t)
  await putMany(source, 100)
  await source.backup(join(folder, 'b'))
  await putMany(source, 50, 'later')
  const master = await serveTcp(source)
  await restore(join(folder, 'b'), join(folder, 'copy'))
  const { attachment, db } = await replicaOf(t, master, { path: join(folder, 'copy') })
  const synced = await attachment.synced
  assert.equal(synced.kind, 'incremental')
  assert.equal(synced.transactions, 50)
  await assertEqualSoon(source, db)
})

test('[A22] applyBatch: how many transactions become one change of the replica’s store', async (t) => {
  const source = await openMemory(t)
  const master = await serveTcp(source, { sites: 1 })
  keepAlive(t)
  const follow = async (applyBatch: { transactions?: number; delayMs?: number }): Promise<number[]> => {
    const lsns: number[] = []
    const engine = memoryEngine()
    const storeEngine = overridden(engine, {
      open: async (location) => {
        const store = await engine.open(location)
        return overridden(store, {
          write: (batch) => {
            if (batch.meta !== undefined) lsns.push(batch.meta.appliedLsn)
            return store.write(batch)
          },
        })
      },
    })
    const host = memoryHost({ base: nodeHost() })
    const environment = { location: 'watched', path: '/db', host, storeEngine, inMemory: true }
    const db: Database = await openIn(environment, {}, { asReplica: true })
    atEnd(t, () => db.close())
    const { attachment: first } = await replicaOf(t, master, db)
    await first.stop()
    await source.put('between', '1')
    // Its applier is there already, and takes the new setting.
    const { attachment } = await replicaOf(t, master, db, { applyBatch })
    lsns.length = 0
    await putMany(source, 60)
    await waitUntil(() => db.status().appliedLsn === source.status().lastLsn, { what: 'all was applied' })
    await attachment.stop()
    return lsns
  }
  const single = await follow({ transactions: 1 })
  assert.equal(single.length, 60, 'each in a change of its own')
  const pairs = await follow({ transactions: 20, delayMs: 30 })
  assert.ok(pairs.length >= 3 && pairs.length <= 12, `${pairs.length} changes of at most 20`)
  const steps = pairs.map((lsn, i) => lsn - (pairs[i - 1] ?? (pairs[0] as number) - 20))
  assert.ok(steps.every((step) => step <= 20))
  const all = await follow({ delayMs: 200 })
  assert.ok(all.length <= 3, `${all.length} changes`)
})

test('[A29] a replica gives out the changes that it has, under the same LSNs', async (t) => {
  const source = await openMemory(t)
  const master = await serveTcp(source)
  const { db } = await replicaOf(t, master)
  const stream = db.changes({ from: 2 })
  await putMany(source, 20)
  const lsns: number[] = []
  for await (const { lsn, term } of stream) {
    assert.equal(term, 1)
    lsns.push(lsn)
    if (lsns.length === 20) break
  }
  assert.deepEqual(
    lsns,
    (await collect(source.changes({ from: 1, live: false }))).map(({ lsn }) => lsn),
  )
})
