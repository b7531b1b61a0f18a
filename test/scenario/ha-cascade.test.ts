// A replica serves in its turn: others attach to it over real sockets, get what is permanent, and count for nothing. What
// the core does message by message is told in core-relay.txt.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Attachment, Database, Master } from '../../src/index.ts'
import { groupOf } from '../support/groups.ts'
import {
  addressOf,
  attachTo,
  digestOf,
  failsWith,
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

interface Chain {
  readonly a: Database
  readonly b: Database
  readonly c: Database
  readonly master: Master
  readonly relay: Master
  readonly middle: Attachment<Database>
  readonly leaf: Attachment<Database>
}

/** Master a, b in the middle, c below. */
async function chain(t: TestContext, sites?: number): Promise<Chain> {
  const a = await openFolder(t, { site: 'a' })
  await a.put('first', '1')
  const master = await serveTcp(a, sites === undefined ? {} : { sites })
  const { db: b, attachment: middle } = await replicaOf(t, master, await openFolder(t, { site: 'b' }))
  const relay = await serveTcp(b, { inTurn: true })
  const { db: c, attachment: leaf } = await replicaOf(t, relay, await openFolder(t, { site: 'c' }))
  return { a, b, c, master, relay, middle, leaf }
}

async function sameData(...databases: Database[]): Promise<void> {
  const [first] = databases
  assert.ok(first !== undefined)
  for (const db of databases) {
    await waitUntil(() => db.status().appliedLsn === first.status().lastLsn, {
      what: `site ${db.siteId} has all that site ${first.siteId} has`,
    })
  }
  const digests = await Promise.all(databases.map(digestOf))
  assert.equal(new Set(digests).size, 1, 'all have the same rows')
}

test('[A26c] a replica serves in its turn: those below it have what the master has', async (t) => {
  const { a, b, c, master, relay, leaf } = await chain(t)
  assert.equal((await leaf.synced).kind, 'snapshot')
  await putMany(a, 500)
  await a.transact((tx) => {
    tx.del('first')
    tx.put('last', 'x')
  })
  await sameData(a, b, c)
  assert.deepEqual(
    [b.status().role, b.status().attached, b.status().addresses],
    ['replica', true, relay.addresses],
  )
  assert.deepEqual([relay.isInTurn, master.isInTurn], [true, false])
  assert.equal(b.master, relay)
  // The status of each one says who is attached there, and only there.
  assert.deepEqual(
    [master, relay].map((each) => each.replicas.map(({ site }) => site)),
    [['b'], ['c']],
  )
  assert.deepEqual(
    b.status().replicas.map(({ site, state }) => [site, state]),
    [['c', 'live']],
  )
  assert.equal(c.status().term, a.status().term)
})

test('[A26c] writes below are refused, naming the master; so are a takeover and what only a master does', async (t) => {
  const { b, c, master, relay } = await chain(t)
  const at = addressOf(master)
  for (const db of [b, c]) assert.equal((await failsWith('NOT_MASTER', db.put('x', '1'))).details.master, at)
  assert.equal(c.status().master, at)
  const refused = await failsWith('NOT_MASTER', c.takeOver())
  assert.equal(refused.details.master, at)
  assert.match(refused.message, /the master is a at tcp:/)
  assert.equal(c.status().attached, true, 'the attachment goes on')
  await failsWith('NOT_MASTER', () => relay.setQuorum(1))
  await failsWith('NOT_MASTER', relay.flushWindow())
  await failsWith('NOT_MASTER', relay.transfer('c'))
})

test('[A26c] those below count for nothing: no ack, no quorum, no vote', async (t) => {
  const a = await openMemory(t, { site: 'a' })
  const master = await serveTcp(a, { sites: 3, ackTimeoutMs: 300 })
  const { db: b, attachment } = await replicaOf(t, master, await openMemory(t, { site: 'b' }))
  const relay = await serveTcp(b, { inTurn: true })
  const { db: c } = await replicaOf(t, relay, await openMemory(t, { site: 'c' }))
  // Two of three: the one in the middle is needed, and the one below cannot stand in for it.
  assert.equal((await a.put('k', '1')).acks, 2)
  await failsWith('OUTCOME_UNKNOWN', a.put('k', '2', { acks: 2 }))
  assert.deepEqual(
    master.replicas.map(({ site }) => site),
    ['b'],
  )
  master.setQuorum(2)
  assert.deepEqual((await failsWith('NO_QUORUM', a.put('k', '3'))).details, { have: 1, need: 2 })
  master.setQuorum(0)
  await attachment.stop()
  await failsWith('OUTCOME_UNKNOWN', a.put('k', '4'))
  assert.notEqual(await c.get('k'), '4')
})

test('[A26c] nobody below has more than is permanent', async (t) => {
  const a = await openMemory(t, { site: 'a' })
  const master = await serveTcp(a, { sites: 5, acks: 'one' })
  const { db: b } = await replicaOf(t, master, await openMemory(t, { site: 'b' }))
  const relay = await serveTcp(b, { inTurn: true })
  await putMany(a, 20)
  await waitUntil(() => b.status().appliedLsn === a.status().lastLsn, { what: 'the middle has applied it' })
  // One of five beside the master: committed, read in the middle, and permanent nowhere.
  const { attachment, db: c } = await (async () => {
    const attaching = attachTo(t, relay, await openMemory(t, { site: 'c' }))
    const joined = new Promise<void>((resolve) => relay.on('attached', () => resolve()))
    await joined
    return { attachment: attaching, db: attaching.db }
  })()
  assert.equal(a.status().permanentLsn, 0)
  assert.equal(c.status().lastLsn, 0)
  await replicaOf(t, master, await openMemory(t, { site: 'd' }))
  await a.put('z', '1')
  await attachment.synced
  await sameData(a, b, c)
  assert.ok(c.status().lastLsn <= a.status().permanentLsn)
})

test('[A26c] sync-up through the middle: equal and incremental', async (t) => {
  const { a, b, c, relay, leaf } = await chain(t)
  await putMany(a, 50)
  await sameData(a, b, c)
  await leaf.stop()
  const again = await replicaOf(t, relay, c)
  assert.equal((await again.attachment.synced).kind, 'equal')
  await again.attachment.stop()
  await putMany(a, 50, 'more')
  await sameData(a, b)
  const third = await replicaOf(t, relay, c)
  assert.equal((await third.attachment.synced).kind, 'incremental')
  await sameData(a, b, c)
})

test('[A26c] sync-up through the middle: what no later master has is undone, and kept in a file', async (t) => {
  const a = await openFolder(t, { site: 'a' })
  const master = await serveTcp(a, { sites: 5, acks: 'one' })
  const [b, c, d] = await Promise.all(['b', 'c', 'd'].map((site) => openFolder(t, { site })))
  assert.ok(b !== undefined && c !== undefined && d !== undefined)
  for (const db of [b, c, d]) await replicaOf(t, master, db)
  await putMany(a, 20)
  await sameData(a, b, c, d)
  for (const db of [b, d]) await db.attachment?.stop()
  await a.put('lost', '1')
  await waitUntil(() => c.getSync('lost') === '1', { what: 'one has what the others lack' })
  await c.attachment?.stop()
  await a.close()
  await d.promote({ sites: 3 })
  const next = await serveTcp(d, { sites: 3 })
  await replicaOf(t, next, b)
  const relay = await serveTcp(b, { inTurn: true })
  await d.put('kept', '1')
  const { attachment } = await replicaOf(t, relay, c)
  assert.equal((await attachment.synced).kind, 'rewound')
  await sameData(d, b, c)
  assert.deepEqual([await c.get('lost'), c.status().lost.length], [undefined, 1])
})

test('[A26c] a chain of four, and a leaf that catches up from the log of the one above', async (t) => {
  const { a, b, c } = await chain(t)
  const next = await serveTcp(c, { inTurn: true })
  const { db: d, attachment } = await replicaOf(t, next, await openFolder(t, { site: 'd' }))
  await putMany(a, 100)
  await sameData(a, b, c, d)
  await attachment.stop()
  await putMany(a, 300, 'away')
  await sameData(a, b, c)
  const back = await replicaOf(t, next, d)
  assert.equal((await back.attachment.synced).kind, 'incremental')
  await sameData(a, b, c, d)
})

test('[A26c] the middle is closed and comes back: those below attach again and miss nothing', async (t) => {
  const { a, b, c, master, leaf } = await chain(t)
  const stopped = watched(leaf.stopped)
  await b.close()
  await waitUntil(() => stopped.isSettled, { what: 'the one below knows' })
  assert.deepEqual(
    [stopped.value.reason, stopped.value.cause?.code],
    ['detached-by-master', 'MASTER_STOPPED'],
  )
  await putMany(a, 50)
  const again = await openAt(t, b.location)
  await replicaOf(t, master, again)
  const relay = await serveTcp(again, { inTurn: true })
  await replicaOf(t, relay, c)
  await sameData(a, again, c)
})

test('[A26c] the middle loses its master, keeps those below, and goes on with the next one in a new term', async (t) => {
  const { a, b, c, leaf, middle, relay } = await chain(t, 3)
  const { db: d } = await replicaOf(t, addressOf(a.master as Master), await openFolder(t, { site: 'd' }))
  await putMany(a, 20)
  await sameData(a, b, c, d)
  const lost: string[] = []
  relay.on('detached', ({ code }) => lost.push(code))
  await a.close()
  await middle.stopped
  assert.deepEqual([b.status().attached, b.status().role], [false, 'replica'])
  await d.attachment?.stop()
  const { term } = await d.promote({ sites: 2 })
  const next = await serveTcp(d, { sites: 2 })
  await replicaOf(t, next, b)
  await d.put('new', '1')
  await sameData(d, b, c)
  assert.deepEqual([c.status().term, c.status().master], [term, addressOf(next)])
  assert.deepEqual([lost, c.status().attached], [[], true], 'nobody below had to attach again')
  // It has chosen the master of the term: so it may go to that one itself.
  await leaf.stop()
  await replicaOf(t, next, c)
})

test('[A26c] the middle is promoted and goes on serving: those below are its replicas', async (t) => {
  const { a, b, c, relay } = await chain(t)
  await putMany(a, 30)
  await sameData(a, b, c)
  await a.close()
  await b.promote({ sites: 2 })
  assert.deepEqual([relay.isInTurn, b.master], [false, relay])
  assert.equal((await b.put('k', '1')).acks, 2, 'the one below counts now')
  await sameData(b, c)
  assert.deepEqual([c.status().attached, c.status().term], [true, b.status().term])
  assert.deepEqual(
    relay.replicas.map(({ site }) => site),
    ['c'],
  )
})

test('[A26c] the middle takes over from its master and goes on serving where it did', async (t) => {
  const { a, b, c, relay, middle } = await chain(t)
  await putMany(a, 30)
  await failsWith('INVALID_STATE', b.takeOver({ listen: 'tcp://127.0.0.1:0' }))
  const { master, term } = await b.takeOver()
  assert.equal(master, relay)
  assert.equal((await middle.stopped).reason, 'became-master')
  const { master: where } = (await failsWith('NOT_MASTER', a.put('x', '1'))).details
  assert.equal(where, addressOf(relay))
  await b.put('k', '1')
  await sameData(b, c)
  await replicaOf(t, relay, a)
  await sameData(b, a, c)
  assert.equal(c.status().term, term)
})

test('[A26c] serving in turn ends: those below are told, and the middle stays attached', async (t) => {
  const { a, b, relay, leaf, middle } = await chain(t)
  await relay.stop()
  assert.deepEqual([(await relay.stopped).reason, b.master, b.status().addresses], ['stopped', undefined, []])
  const { reason, cause } = await leaf.stopped
  assert.deepEqual([reason, cause?.code], ['detached-by-master', 'MASTER_STOPPED'])
  assert.equal(watched(middle.stopped).isSettled, false)
  await a.put('k', '1')
  await sameData(a, b)
  const again = await serveTcp(b, { inTurn: true })
  await again.stop()
})

test('[A26c] two sites that would follow each other are refused', async (t) => {
  const { a, b, c, relay, master, leaf, middle } = await chain(t)
  const below = await serveTcp(c, { inTurn: true })
  await sameData(a, b, c)
  await middle.stop()
  const looped = attachTo(t, below, b)
  await failsWith('ATTACH_LOOP', looped.synced)
  assert.equal((await looped.stopped).reason, 'handshake-refused')
  await failsWith('DUPLICATE_SITE', attachTo(t, relay, b).synced)
  assert.equal(watched(leaf.stopped).isSettled, false, 'the one below stays')
  await replicaOf(t, master, b)
  await a.put('k', '1')
  await sameData(a, b, c)
})

test('[A26c] options that only a master can keep are refused by name; limits hold', async (t) => {
  const { b, relay } = await chain(t)
  await relay.stop()
  const wrong = {
    sites: 3,
    acks: 'all',
    attest: 'applied',
    quorum: 1,
    mode: 'async',
    maxLagBytes: 1,
    onFull: 'wait',
    window: 2,
    ackTimeoutMs: 1,
    detachTimeoutMs: 1,
    initialSync: 'live',
    allowTakeOver: false,
    handOverTimeoutMs: 1,
  } as const
  for (const [option, value] of Object.entries(wrong)) {
    const error = await failsWith('OPTION_INVALID', serveTcp(b, { inTurn: true, [option]: value }))
    assert.equal(error.details.option, option)
  }
  await failsWith('INVALID_STATE', serveTcp(b, { inTurn: false }))
  const limited = await serveTcp(b, {
    maxReplicas: 1,
    chunkRecords: 1,
    heartbeatMs: 50,
    silenceTimeoutMs: 5000,
  })
  assert.equal(limited.isInTurn, true, 'an attached replica serves in its turn unless it is told otherwise')
  await replicaOf(t, limited)
  await failsWith('TOO_MANY_REPLICAS', attachTo(t, limited).synced)
  const alone = await openMemory(t)
  await failsWith('INVALID_STATE', serveTcp(alone, { inTurn: true }))
})

test('[A26c] the middle takes a snapshot itself: those below come again by themselves', async (t) => {
  const a = await openFolder(t, { site: 'a', segmentBytes: 65_536, retain: { transactions: 1 } })
  await a.put('first', '1')
  const master = await serveTcp(a, { sites: 1 })
  const b = await openAt(t, join(withTempFolder(t), 'b'), { site: 'b' })
  const { attachment } = await replicaOf(t, master, b)
  const relay = await serveTcp(b, { inTurn: true })
  const { db: c } = await replicaOf(t, relay, await openFolder(t, { site: 'c' }))
  await attachment.stop()
  for (let i = 0; i < 40; i++) await a.put('big', 'x'.repeat(16_000) + i)
  await a.archive()
  const back = await replicaOf(t, master, b)
  assert.equal((await back.attachment.synced).kind, 'snapshot')
  await a.put('k', '1')
  await sameData(a, b, c)
  assert.equal(c.status().attached, true)
})

test('[A26c] a slow one below catches up from the log, which is kept for it; nothing is buffered', async (t) => {
  const options = { segmentBytes: 65_536, retain: { transactions: 1 } }
  const a = await openFolder(t, { site: 'a' })
  await a.put('first', '1')
  const master = await serveTcp(a)
  const { db: b } = await replicaOf(t, master, await openFolder(t, { site: 'b', ...options }))
  // On two addresses, as a master may.
  const silenceTimeoutMs = 60_000
  const listen = ['tcp://127.0.0.1:0', 'tcp://127.0.0.1:0']
  const relay = await b.serve({ listen, inTurn: true, silenceTimeoutMs })
  const [, second = ''] = relay.addresses
  const proxy = await startProxy(t, second)
  const target = await openFolder(t, { site: 'c' })
  const { db: c, attachment } = await replicaOf(t, proxy.address, target, { silenceTimeoutMs })
  await waitUntil(() => relay.replicas[0]?.state === 'live', { what: 'it takes what comes' })
  const before = c.status().lastLsn
  proxy.freeze()
  const value = 'x'.repeat(100_000)
  // In batches, of which its window takes only the first.
  for (let round = 0; round < 10; round++) {
    await Promise.all(Array.from({ length: 20 }, (_, i) => a.put(`big${round}-${i}`, value)))
  }
  await waitUntil(() => b.status().appliedLsn === a.status().lastLsn, { what: 'the middle has all of it' })
  await waitUntil(() => relay.replicas.some(({ state }) => state === 'catchUp'), {
    what: 'the one below has dropped out of the live stream',
  })
  await b.archive()
  assert.ok(b.status().firstLsn <= before + 1, 'the log that it needs is kept')
  proxy.thaw()
  await sameData(a, b, c)
  assert.equal(c.status().attached, true)
  await attachment.stop()
  await waitUntil(async () => (await b.archive()).firstLsn > before + 1, { what: 'nobody needs it any more' })
})

test('[A26c] below a group that elects: its master changes, and nobody below has to attach again', async (t) => {
  const [x, y] = await groupOf(t, ['x', 'y'])
  assert.ok(x !== undefined && y !== undefined)
  await x.db.put('k', '1')
  const { db: b, attachment: middle } = await replicaOf(
    t,
    x.group.address,
    await openMemory(t, { site: 'b' }),
  )
  const relay = await serveTcp(b, { inTurn: true })
  const { db: c, attachment: leaf } = await replicaOf(t, relay, await openMemory(t, { site: 'c' }))
  await failsWith('INVALID_STATE', serveTcp(y.db, { inTurn: true }))
  await x.group.transfer('y')
  await waitUntil(() => y.group.role === 'master', { what: 'the other one is master' })
  await y.db.put('k', '2')
  await waitUntil(() => c.getSync('k') === '2', { what: 'it has come down' })
  assert.deepEqual(
    [b, c].map((db) => db.status().master),
    [y.group.address, y.group.address],
  )
  assert.equal(c.status().term, y.db.status().term)
  assert.deepEqual(
    [middle, leaf].map(({ stopped }) => watched(stopped).isSettled),
    [false, false],
  )
  assert.deepEqual(x.group.members.map(({ site }) => site).sort(), ['x', 'y'])
})

test('a site that is ceasing to serve in its turn is attached all the same', async (t) => {
  const { b, master, relay, middle } = await chain(t)
  await middle.stop()
  let again: Attachment<Database> | undefined
  // It passes nothing on any more, and the connection of the one below is still to be ended.
  b.site.events.on('core', (event) => {
    if (event.kind === 'replicaDetached') again = attachTo(t, master, b)
  })
  await relay.stop()
  assert.ok(again !== undefined, 'the one below was sent away')
  await again.synced
  assert.equal(b.master, undefined)
})
