// What a program sees of the past and of what comes: snapshots, the change stream, receipts, tokens and outcomes.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Change, Database } from '../../src/index.ts'
import { atEnd } from '../support/at-end.ts'
import { heldHost } from '../support/held-host.ts'
import { collect, failsWith, kinds, openFolder, openMemory, putMany, watched } from '../support/sites.ts'
import { waitUntil } from '../support/wait-until.ts'

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('utf8')

function described(change: Change): string {
  const writes = change.writes.map((write) =>
    write.type === 'put'
      ? `${write.store}/${text(write.key)}=${text(write.value)}`
      : `${write.store}/${text(write.key)} deleted`,
  )
  return `${change.lsn}: ${writes.join(', ')}`
}

for (const { kind, openOne } of kinds) {
  test(`[D5] ${kind}: a snapshot stays as it was, in all stores, whatever is written after it`, async (t) => {
    const db = await openOne(t)
    await db.put('a', '1')
    await db.store('other').put('x', '1')
    const { lastLsn } = db.status()
    await using snapshot = await db.snapshot()
    assert.equal(snapshot.lsn, lastLsn)
    await db.batch([
      { type: 'put', key: 'a', value: '2' },
      { type: 'put', key: 'b', value: '2' },
      { type: 'del', key: 'x', store: 'other' },
    ])
    await putMany(db, 200)
    await db.checkpoint()
    assert.equal(await snapshot.get('a'), '1')
    assert.equal(snapshot.getSync('a'), '1')
    assert.equal(await snapshot.has('b'), false)
    assert.deepEqual(await snapshot.getMany(['a', 'b']), ['1', undefined])
    assert.deepEqual(await snapshot.entries().all(), [['a', '1']])
    assert.deepEqual(await snapshot.keys({ reverse: true }).all(), ['a'])
    assert.deepEqual(await snapshot.store('other').values().all(), ['1'])
    assert.equal(await db.get('a'), '2')
    assert.equal(await db.store('other').get('x'), undefined)
  })

  test(`[D5] ${kind}: a snapshot holds all that was acknowledged before it, and is of no use once closed`, async (t) => {
    const db = await openOne(t)
    for (let i = 0; i < 20; i++) {
      await db.put('n', String(i))
      const snapshot = await db.snapshot()
      assert.equal(await snapshot.get('n'), String(i))
      const cursor = snapshot.keys()
      await snapshot.close()
      await snapshot.close()
      await failsWith('CLOSED', snapshot.get('n'))
      await failsWith('CLOSED', () => snapshot.getSync('n'))
      await failsWith('CLOSED', () => snapshot.keys())
      await failsWith('CLOSED', cursor.next())
    }
  })
}

test('[A29] the change stream gives out each committed transaction, from any LSN, and can be resumed', async (t) => {
  const db = await openMemory(t)
  await db.put('a', '1')
  await db.batch([
    { type: 'put', key: 'a', value: '2' },
    { type: 'put', key: 'b', value: '2', store: 'other' },
  ])
  await db.del('a')
  const all = await collect(db.changes({ from: 1, live: false }))
  assert.deepEqual(all.map(described), ['2: /a=1', '3: /a=2, other/b=2', '4: /a deleted'])
  assert.ok(all.every((change) => change.term === 1 && Math.abs(change.time - Date.now()) < 60_000))
  const resumed: string[] = []
  for await (const change of db.changes({ from: 1, live: false })) {
    resumed.push(described(change))
    if (change.lsn === 3) break
  }
  for await (const change of db.changes({ from: 4, live: false })) resumed.push(described(change))
  assert.deepEqual(resumed, all.map(described))
  assert.deepEqual(await collect(db.changes({ live: false })), [])
  assert.deepEqual(await collect(db.changes({ from: 5, live: false })), [])
})

test('[A29] a live change stream waits for what comes, and misses nothing between its reads', async (t) => {
  const db = await openFolder(t)
  await db.put('before', '0')
  const stream = db.changes()
  const first = watched(stream.next())
  await new Promise((resolve) => setTimeout(resolve, 20))
  assert.equal(first.isSettled, false)
  await putMany(db, 300)
  await waitUntil(() => first.isSettled, { what: 'the first change came' })
  const lsns = [(first.value.value as Change).lsn]
  for await (const change of stream) {
    lsns.push(change.lsn)
    if (lsns.length === 300) break
  }
  assert.deepEqual(
    lsns,
    Array.from({ length: 300 }, (_, i) => 3 + i),
  )
})

test('[A29] a slow reader holds up nobody and is not buffered for', async (t) => {
  const db = await openMemory(t, { segmentBytes: 65_536, retain: { bytes: 65_536 }, checkpointBytes: 65_536 })
  await db.put('start', '0')
  const stream = db.changes({ from: 2 })
  assert.equal((await stream.next()).value?.lsn, 2)
  const value = 'x'.repeat(10_000)
  for (let i = 0; i < 100; i++) await db.put('big', value)
  await db.archive()
  const error = await failsWith('LOG_TRIMMED', async () => {
    for await (const change of stream) assert.ok(change.lsn > 2)
  })
  assert.equal(error.details.firstLsn, db.status().firstLsn)
  await failsWith('LOG_TRIMMED', db.changes({ from: 1 }).next())
})

test('[A29] an aborted change stream ends at once, and so does one whose database is closed', async (t) => {
  const db = await openMemory(t)
  await db.put('a', '1')
  const controller = new AbortController()
  const aborted = db.changes({ signal: controller.signal }).next()
  const closed = db.changes().next()
  controller.abort(new Error('enough'))
  const error = await failsWith('ABORTED', aborted)
  assert.equal((error.cause as Error).message, 'enough')
  await failsWith('ABORTED', db.changes({ from: 1, signal: controller.signal }).next())
  const outcome = failsWith('CLOSED', closed)
  await db.close()
  await outcome
})

test('the records of the log are shown as they are, reigns included', async (t) => {
  const db = await openMemory(t, { site: 'me' })
  await db.put('a', '1')
  await db.del('a')
  const records = await collect(db.records())
  assert.deepEqual(
    records.map(({ lsn, term, kind, site, committed, writes }) => [
      lsn,
      term,
      kind,
      site,
      committed,
      writes.length,
    ]),
    [
      [1, 1, 'term', 'me', true, 0],
      [2, 1, 'commit', undefined, true, 1],
      [3, 1, 'commit', undefined, true, 1],
    ],
  )
  assert.deepEqual(
    (await collect(db.records({ from: 2, limit: 1 }))).map(({ lsn }) => lsn),
    [2],
  )
  assert.deepEqual(
    (await collect(db.records({ to: 2 }))).map(({ lsn }) => lsn),
    [1, 2],
  )
  assert.deepEqual(await collect(db.records({ from: 9 })), [])
})

test('[B12] the token of a receipt names its commit: its outcome, and reads that include it', async (t) => {
  const db = await openMemory(t)
  const receipt = await db.put('a', '1')
  assert.equal(receipt.term, 1)
  assert.deepEqual(JSON.parse(JSON.stringify(receipt)), {
    lsn: 2,
    term: 1,
    token: receipt.token,
    acks: 1,
    detached: [],
  })
  assert.equal(await db.outcome(receipt.token), 'applied')
  assert.equal(await db.get('a', { after: receipt.token }), '1')
  assert.deepEqual(await db.getMany(['a'], { after: receipt.token }), ['1'])
  assert.equal(await db.has('a', { after: receipt.token }), true)
  const other = await openMemory(t)
  await failsWith('TOKEN_INVALID', other.outcome(receipt.token))
  for (const bad of ['', 'x', `${receipt.token}-1`, receipt.token.slice(1), `${receipt.token}g`]) {
    await failsWith('TOKEN_INVALID', db.outcome(bad))
  }
})

test('[B12] a token of what has not been written yet is pending, and a wait for it can be aborted', async (t) => {
  const db = await openMemory(t)
  const { token } = await db.put('a', '1')
  const [database, , term, site] = token.split('-')
  const future = `${database}-5-${term}-${site}`
  assert.equal(await db.outcome(future), 'pending')
  assert.equal(await db.outcome(future, { timeoutMs: 30 }), 'pending')
  await failsWith('ABORTED', db.get('a', { after: future, signal: AbortSignal.timeout(30) }))
  const read = watched(db.get('a', { after: future }))
  await db.put('a', '2')
  assert.equal(read.isSettled, false)
  await db.put('a', '3')
  await db.put('a', '4')
  await waitUntil(() => read.isSettled, { what: 'the read went on' })
  assert.equal(read.value, '4')
})

test('[B12] the token of a commit that lost its place is lost, wherever it is asked about', async (t) => {
  const db = await openMemory(t)
  const { token } = await db.put('a', '1')
  const [database, lsn, term] = token.split('-')
  const elsewhere = `${database}-${lsn}-${term}-1`
  assert.equal(await db.outcome(elsewhere), 'lost')
  const error = await failsWith('TOKEN_INVALID', db.get('a', { after: elsewhere }))
  assert.equal(error.details.outcome, 'lost')
})

test('[D4b] each commit waits for the durability that it asks for', async (t) => {
  const host = heldHost()
  const db = await openFolder(t, { host: host.host })
  atEnd(t, host.release)
  await db.put('warm', 'up')
  host.hold()
  const durable = watched(db.put('a', 'durable'))
  const later = watched(db.put('b', 'durable', { durability: 'sync' }))
  await turnsOf(10)
  assert.equal(durable.isSettled, false)
  assert.ok(db.status().durableLsn < db.status().lastLsn)
  host.release()
  await waitUntil(() => later.isSettled, { what: 'the sync came' })
  assert.ok(durable.value)
  host.hold()
  const quick = await db.put('c', 'in memory', { durability: 'memory' })
  assert.ok(db.status().durableLsn < quick.lsn, 'it did not wait for the sync')
  assert.equal(await db.get('c'), 'in memory')
  // Its write stands behind the sync that is held, and is not waited for with it.
  const written = watched(db.put('d', 'written', { durability: 'written' }))
  await turnsOf(10)
  assert.equal(written.isSettled, false)
  host.release()
  await waitUntil(() => written.isSettled && db.status().durableLsn === written.value.lsn, {
    what: 'the sync came',
  })
  host.hold()
  const handedOver = await db.put('d', 'again', { durability: 'written' })
  assert.ok(db.status().durableLsn < handedOver.lsn, 'it waited for the write, and not for the sync')
  // In order: what asks for more holds back what comes after it.
  const third = watched(db.put('e', 'durable'))
  const behind = watched(db.put('f', 'in memory', { durability: 'memory' }))
  await turnsOf(10)
  assert.equal(third.isSettled, false)
  assert.equal(behind.isSettled, false)
  host.release()
  await waitUntil(() => behind.isSettled, { what: 'the last commit resolved' })
  assert.ok(third.value)
})

test('[D4b] the durability of a database is the default of its commits', async (t) => {
  const host = heldHost()
  const db = await openFolder(t, { host: host.host, durability: 'memory' })
  atEnd(t, host.release)
  await db.put('warm', 'up')
  host.hold()
  const { lsn } = await db.put('a', '1')
  assert.ok(db.status().durableLsn < lsn)
  const durable = watched(db.put('b', '1', { durability: 'sync' }))
  await turnsOf(10)
  assert.equal(durable.isSettled, false)
  host.release()
  await waitUntil(() => durable.isSettled, { what: 'the sync came' })
})

async function turnsOf(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
}

test('the status tells the positions, and what could be lost now', async (t) => {
  const db: Database = await openMemory(t, { site: 'alone' })
  const fresh = db.status()
  assert.equal(fresh.role, 'standalone')
  assert.equal(fresh.writable, true)
  assert.equal(fresh.site, 'alone')
  assert.equal(fresh.lastLsn, 0)
  await db.put('a', '1')
  const status = db.status()
  assert.equal(status.term, 1)
  assert.deepEqual(
    [status.firstLsn, status.lastLsn, status.durableLsn, status.committedLsn, status.permanentLsn],
    [1, 2, 2, 2, 2],
  )
  await waitUntil(() => db.status().appliedLsn === 2, { what: 'the record was applied' })
  assert.equal(status.waitingCommits, 0)
  assert.equal(status.canLose, 'can lose: 0 sites; no replica is attached')
  assert.equal(status.failure, undefined)
  assert.equal(status.stall, undefined)
  assert.deepEqual(status.lost, [])
  assert.deepEqual(status.replicas, [])
})

test('[D7g] stat counts rows and bytes of each store', async (t) => {
  const db = await openMemory(t)
  await db.put('ab', 'cde')
  await db.store('s').put('k', 'vv')
  await db.store('s').put('l', '')
  const seen: number[] = []
  assert.deepEqual(await db.stat({ onProgress: ({ done }) => seen.push(done) }), [
    { name: '', rows: 1, bytes: 5 },
    { name: 's', rows: 2, bytes: 4 },
  ])
  assert.deepEqual(seen, [3])
})
