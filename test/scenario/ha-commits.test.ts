// What a commit waits for in a group: ack policies, time-outs, the quorum gate, windows, and the asynchronous mode.
// A replica whose log is held acknowledges nothing, for as long as a test wants.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { AckPolicy, Attachment, AttachOptions, Database, Master } from '../../src/index.ts'
import { atEnd } from '../support/at-end.ts'
import { type HeldHost, heldHost } from '../support/held-host.ts'
import {
  failsWith,
  folderFor,
  openAt,
  openFolder,
  openMemory,
  replicaOf,
  serveTcp,
  watched,
} from '../support/sites.ts'
import { waitUntil } from '../support/wait-until.ts'

interface HeldReplica {
  readonly db: Database
  readonly attachment: Attachment<Database>
  readonly held: HeldHost
}

/** A replica in step, on disk, whose syncs can be held. */
async function heldReplica(
  t: TestContext,
  master: Master,
  options: { readonly site: string; readonly attach?: AttachOptions },
): Promise<HeldReplica> {
  const held = heldHost()
  const db = await openFolder(t, { site: options.site, host: held.host })
  const { attachment } = await replicaOf(t, master, db, options.attach)
  // Before the attachment is ended, which waits for what was received.
  atEnd(t, () => held.release())
  await waitUntil(
    () => master.replicas.some(({ site, state }) => site === options.site && state === 'live'),
    {
      what: `${options.site} was live`,
    },
  )
  return { db, attachment, held }
}

async function turns(count = 10): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
}

test('[A15a A17] each policy waits for the sites that it names, and the receipt says how many had it', async (t) => {
  const source = await openMemory(t, { site: 'a' })
  await source.put('first', '1')
  const master = await serveTcp(source, { sites: 3, acks: 'none' })
  const b = await heldReplica(t, master, { site: 'b' })
  const c = await heldReplica(t, master, { site: 'c' })
  const settles = async (acks: AckPolicy): Promise<boolean> => {
    const put = watched(source.put('x', 'y', { acks, ackTimeoutMs: 60_000 }))
    await turns(20)
    await new Promise((resolve) => setTimeout(resolve, 30))
    return put.isSettled
  }
  const all: AckPolicy[] = ['none', 'one', 'onePeer', 'quorum', 'allPeers', 'allAvailable', 'all', 0, 1, 2]
  for (const acks of all) {
    const { acks: had } = await source.put('x', 'y', { acks })
    const need = { none: 1, one: 2, onePeer: 2, quorum: 2, allPeers: 3, allAvailable: 3, all: 3 }
    assert.ok(had >= (typeof acks === 'number' ? acks + 1 : need[acks]), `${acks}: ${had}`)
  }
  b.held.hold()
  for (const acks of ['none', 'one', 'onePeer', 'quorum', 0, 1] as const) {
    await source.put('x', 'y', { acks })
  }
  assert.equal(await settles('all'), false)
  b.held.release()
  await source.put('x', 'y', { acks: 'all' })
  b.held.hold()
  c.held.hold()
  await source.put('x', 'y', { acks: 'none' })
  assert.equal(await settles('one'), false)
  b.held.release()
  c.held.release()
  const { acks, detached } = await source.put('x', 'y', { acks: 2 })
  assert.equal(acks, 3)
  assert.deepEqual(detached, [])
})

test('[A15a] the policy of the group is the default: with quorum of three, one replica is enough', async (t) => {
  const source = await openMemory(t)
  const master = await serveTcp(source, { sites: 3 })
  const early = watched(source.put('a', '1'))
  await turns()
  assert.equal(early.isSettled, false)
  const b = await heldReplica(t, master, { site: 'b' })
  await waitUntil(() => early.isSettled, { what: 'the first replica was there' })
  assert.equal(early.value.acks, 2)
  b.held.hold()
  const waiting = watched(source.put('b', '1'))
  await turns(20)
  assert.equal(waiting.isSettled, false)
  assert.equal(source.getSync('b'), undefined, 'nobody sees what is not committed')
  assert.equal(source.status().waitingCommits, 1)
  b.held.release()
  await waitUntil(() => waiting.isSettled, { what: 'b acknowledged' })
  assert.equal(source.getSync('b'), '1')
})

test('[A16b B12] acks not met in time: OUTCOME_UNKNOWN with a token, and the outcome later on any site', async (t) => {
  const source = await openMemory(t)
  const master = await serveTcp(source, { sites: 2, ackTimeoutMs: 100 })
  const b = await heldReplica(t, master, { site: 'b' })
  b.held.hold()
  const error = await failsWith('OUTCOME_UNKNOWN', source.put('a', '1'))
  assert.equal(error.retryable, false)
  const token = String(error.details.token)
  assert.equal(await source.outcome(token), 'pending')
  assert.equal(await source.get('a'), undefined)
  const read = watched(source.get('a', { after: token }))
  await turns()
  assert.equal(read.isSettled, false)
  b.held.release()
  assert.equal(await source.outcome(token, { timeoutMs: 10_000 }), 'applied')
  assert.equal(await b.db.outcome(token, { timeoutMs: 10_000 }), 'applied')
  await waitUntil(() => read.isSettled, { what: 'the read went on' })
  assert.equal(read.value, '1')
  assert.equal(await b.db.get('a', { after: token }), '1')
  assert.equal(master.replicas.length, 1, 'with a fixed number of sites nobody is detached for it')
})

test('each commit has its own time, and one that waits long does not hold up the time-outs behind it', async (t) => {
  const source = await openMemory(t)
  const master = await serveTcp(source, { sites: 2, ackTimeoutMs: 80 })
  const b = await heldReplica(t, master, { site: 'b' })
  b.held.hold()
  const patient = watched(source.put('patient', '1', { ackTimeoutMs: 60_000 }))
  const hasty = watched(source.put('hasty', '1', { ackTimeoutMs: 20 }))
  const usual = watched(source.put('usual', '1'))
  await waitUntil(() => usual.isSettled && hasty.isSettled, { what: 'the others gave up' })
  assert.equal(usual.error.code, 'OUTCOME_UNKNOWN')
  assert.equal(hasty.error.code, 'OUTCOME_UNKNOWN')
  assert.equal(patient.isSettled, false)
  b.held.release()
  await waitUntil(() => patient.isSettled, { what: 'b acknowledged' })
  assert.equal(patient.value.acks, 2)
})

test('a transaction that only reads waits for what it has read, and its wait ends as a commit’s does', async (t) => {
  const source = await openMemory(t)
  const master = await serveTcp(source, { sites: 2, ackTimeoutMs: 60_000 })
  const b = await heldReplica(t, master, { site: 'b' })
  b.held.hold()
  const put = watched(source.put('a', '1'))
  const read = watched(source.transact((tx) => tx.get('a')))
  const hasty = watched(source.transact((tx) => tx.get('a'), { ackTimeoutMs: 50 }))
  await waitUntil(() => hasty.isSettled, { what: 'the hasty one gave up' })
  assert.equal(hasty.error.code, 'OUTCOME_UNKNOWN')
  assert.equal(read.isSettled, false)
  b.held.release()
  await waitUntil(() => read.isSettled && put.isSettled, { what: 'b acknowledged' })
  assert.equal(read.value.result, '1')
  assert.equal(read.value.lsn, put.value.lsn)
})

test('[A14 A17] where the number of sites is open, one that acknowledges nothing is detached, and receipts say so', async (t) => {
  const source = await openMemory(t)
  const master = await serveTcp(source, { acks: 'all', ackTimeoutMs: 150 })
  const detached: string[] = []
  master.on('detached', ({ site, code }) => detached.push(`${site} ${code}`))
  const b = await heldReplica(t, master, { site: 'b' })
  b.held.hold()
  const receipt = await source.put('a', '1', { ackTimeoutMs: 30_000 })
  assert.deepEqual(receipt.detached, ['b'])
  assert.equal(receipt.acks, 1)
  assert.deepEqual(detached, ['b ACK_TIMEOUT'])
  assert.deepEqual((await source.put('b', '1')).detached, [])
  b.held.release()
  const stopped = await b.attachment.stopped
  assert.equal(stopped.reason, 'detached-by-master')
  assert.equal(stopped.cause?.code, 'ACK_TIMEOUT')
})

test('[A14] a replica that takes nothing for sendTimeoutMs is detached whatever the policy', async (t) => {
  const source = await openMemory(t)
  const master = await serveTcp(source, { sites: 3, acks: 'none', sendTimeoutMs: 150 })
  const b = await heldReplica(t, master, { site: 'b' })
  b.held.hold()
  await source.put('a', '1')
  await waitUntil(() => master.replicas.length === 0, { what: 'b was detached' })
  b.held.release()
  assert.equal((await b.attachment.stopped).cause?.code, 'ACK_TIMEOUT')
})

test('what an ack attests: received does not wait for the disk, durable and applied do', async (t) => {
  for (const attest of ['received', 'durable', 'applied'] as const) {
    const source = await openMemory(t)
    const master = await serveTcp(source, { sites: 2, attest })
    const b = await heldReplica(t, master, { site: 'b' })
    await source.put('a', '1')
    b.held.hold()
    const put = watched(source.put('a', '2'))
    await new Promise((resolve) => setTimeout(resolve, 40))
    assert.equal(put.isSettled, attest === 'received', attest)
    b.held.release()
    await waitUntil(() => put.isSettled, { what: 'b acknowledged' })
    if (attest === 'applied') assert.equal(b.db.getSync('a'), '2')
  }
})

test('[A16a] the gate: with fewer replicas than quorum writes are refused, and it can be changed while it runs', async (t) => {
  const source = await openMemory(t)
  await source.put('before', '1')
  const master = await serveTcp(source, { quorum: 1 })
  const events: string[] = []
  master.on('quorumGained', ({ have, need }) => events.push(`gained ${have}/${need}`))
  master.on('quorumLost', ({ have, need }) => events.push(`lost ${have}/${need}`))
  const { lastLsn } = source.status()
  const error = await failsWith('NO_QUORUM', source.put('a', '1'))
  assert.deepEqual([error.details.have, error.details.need, error.retryable], [0, 1, true])
  await failsWith(
    'NO_QUORUM',
    source.transact((tx) => tx.put('a', '1')),
  )
  assert.equal(source.status().lastLsn, lastLsn, 'nothing was written')
  assert.equal(await source.get('before'), '1')
  const { attachment } = await replicaOf(t, master)
  await waitUntil(() => events.length === 1, { what: 'the quorum was there' })
  await source.put('a', '1')
  master.setQuorum(2)
  assert.equal((await failsWith('NO_QUORUM', source.put('b', '1'))).details.have, 1)
  await failsWith('OPTION_INVALID', () => master.setQuorum(-1))
  master.setQuorum(1)
  await source.put('b', '1')
  await attachment.stop()
  await waitUntil(() => events.at(-1) === 'lost 0/1', { what: 'the loss was noticed' })
  await failsWith('NO_QUORUM', source.put('c', '1'))
  master.setQuorum(0)
  await source.put('c', '1')
  assert.equal(events[0], 'gained 1/1')
})

test('[A15c] with a window of n one ack serves n commits; flushWindow asks for it at once', async (t) => {
  const source = await openMemory(t)
  const master = await serveTcp(source, { sites: 2, acks: 'all', window: 5, ackTimeoutMs: 60_000 })
  const b = await heldReplica(t, master, { site: 'b' })
  await source.put('first', '1')
  await master.flushWindow()
  await waitUntil(() => master.replicas[0]?.durableLsn === source.status().lastLsn, { what: 'b had it all' })
  b.held.hold()
  // Up to four may stand without their ack; the fifth waits for the first.
  const puts = [1, 2, 3, 4, 5].map((n) => watched(source.put(`k${n}`, '1')))
  await waitUntil(() => puts.slice(0, 4).every((put) => put.isSettled), { what: 'four resolved' })
  await turns(20)
  assert.equal(puts[4]?.isSettled, false)
  const flushed = watched(master.flushWindow())
  await turns()
  assert.equal(flushed.isSettled, false)
  b.held.release()
  await waitUntil(() => flushed.isSettled && puts[4]?.isSettled === true, { what: 'b acknowledged' })
  assert.equal(master.replicas[0]?.durableLsn, source.status().lastLsn)
})

test('[A15b] asynchronous: commits do not wait, and a replica may lag by so much; then the write waits', async (t) => {
  const source = await openMemory(t)
  const master = await serveTcp(source, { mode: 'async', maxLagBytes: 20_000, onFull: 'wait', sites: 2 })
  const b = await heldReplica(t, master, { site: 'b' })
  b.held.hold()
  const value = 'x'.repeat(1000)
  const puts: { readonly isSettled: boolean }[] = []
  await waitUntil(
    async () => {
      const put = watched(source.put('k', value))
      puts.push(put)
      await turns(2)
      return !put.isSettled && puts.length > 10
    },
    { what: 'a write waited' },
  )
  assert.ok(puts.length >= 18 && puts.length < 60, `${puts.length} writes`)
  const { lastLsn } = source.status()
  const late = watched(source.put('late', '1'))
  await turns(20)
  assert.equal(late.isSettled, false)
  assert.equal(source.status().lastLsn, lastLsn)
  assert.ok((master.replicas[0]?.lagBytes ?? 0) > 20_000)
  b.held.release()
  await waitUntil(() => late.isSettled, { what: 'b caught up' })
  assert.ok(late.value.lsn > lastLsn)
})

test('[A15b] asynchronous: beyond maxLagBytes the write is refused, or the replica goes', async (t) => {
  const value = 'x'.repeat(1000)
  const refusing = await openMemory(t)
  const strict = await serveTcp(refusing, { mode: 'async', maxLagBytes: 20_000, onFull: 'reject', sites: 2 })
  const b = await heldReplica(t, strict, { site: 'b' })
  b.held.hold()
  const error = await failsWith('LAG_EXCEEDED', async () => {
    for (let i = 0; i < 100; i++) await refusing.put('k', value)
  })
  assert.equal(error.retryable, true)
  assert.ok(Number(error.details.have) > 20_000)
  b.held.release()
  await waitUntil(() => strict.replicas[0]?.lagBytes === 0, { what: 'b caught up' })
  await refusing.put('k', value)
  const source = await openMemory(t)
  const master = await serveTcp(source, { mode: 'async', maxLagBytes: 20_000, onFull: 'detach' })
  const detached: string[] = []
  master.on('detached', ({ code }) => detached.push(code))
  const c = await heldReplica(t, master, { site: 'c' })
  c.held.hold()
  for (let i = 0; i < 100; i++) await source.put('k', value)
  assert.deepEqual(detached, ['LAG_DETACHED'])
  c.held.release()
  assert.equal((await c.attachment.stopped).cause?.code, 'LAG_DETACHED')
})

test('[A15d] a replica that asks to be synchronous is waited for, under an asynchronous master', async (t) => {
  const source = await openMemory(t)
  const master = await serveTcp(source, { mode: 'async', sites: 3 })
  const b = await heldReplica(t, master, { site: 'b', attach: { sync: true } })
  const c = await heldReplica(t, master, { site: 'c' })
  c.held.hold()
  assert.ok((await source.put('a', '1')).acks >= 2, 'c is not waited for, b is')
  b.held.hold()
  const put = watched(source.put('a', '2'))
  await new Promise((resolve) => setTimeout(resolve, 40))
  assert.equal(put.isSettled, false)
  b.held.release()
  await waitUntil(() => put.isSettled, { what: 'b acknowledged' })
})

test('the memory of a master is bounded while its commits are not confirmed: writers wait', async (t) => {
  const source = await openMemory(t)
  const master = await serveTcp(source, { sites: 2, ackTimeoutMs: 60_000 })
  const b = await heldReplica(t, master, { site: 'b' })
  b.held.hold()
  const batch = Array.from({ length: 1000 }, (_, i) => ({ type: 'put' as const, key: `k${i}`, value: 'v' }))
  const writes = Array.from({ length: 120 }, () => watched(source.batch(batch)))
  await turns(50)
  const { lastLsn } = source.status()
  assert.ok(lastLsn < 90, `${lastLsn} transactions were taken`)
  assert.equal(writes.filter((write) => write.isSettled).length, 0)
  b.held.release()
  await waitUntil(() => writes.every((write) => write.isSettled), { what: 'all were confirmed' })
  for (const write of writes) assert.equal(write.value.acks, 2)
})

test('who waits to be let in gives up when told to, and nothing of it is written', async (t) => {
  const source = await openMemory(t)
  const master = await serveTcp(source, { mode: 'async', maxLagBytes: 1000, onFull: 'wait', sites: 2 })
  const b = await heldReplica(t, master, { site: 'b' })
  b.held.hold()
  await source.put('fills', 'x'.repeat(2000))
  const controller = new AbortController()
  const { signal } = controller
  const waits = [
    watched(source.put('waits', '1', { signal })),
    watched(source.transact((tx) => tx.put('waits', '2'), { signal })),
    watched(source.transact(async (tx) => tx.put('waits', '3'), { signal })),
    watched(source.clear({}, { signal })),
  ]
  await turns()
  controller.abort()
  await waitUntil(() => waits.every((wait) => wait.isSettled), { what: 'the waits ended' })
  for (const wait of waits) assert.equal(wait.error.code, 'ABORTED')
  b.held.release()
  await source.put('after', '1')
  assert.deepEqual(await source.keys().all(), ['after', 'fills'])
})

test('a master that comes back reads nothing as the newest before its replicas have confirmed what it has', async (t) => {
  const folder = folderFor(t, 'a')
  const before = await openAt(t, folder, { site: 'a' })
  await before.put('k', '1')
  await before.close()
  const a = await openAt(t, folder, { site: 'a' })
  const master = await serveTcp(a, { sites: 3, ackTimeoutMs: 100 })
  // Two of three had acknowledged it, for all that this site knows, and readers do not see that yet.
  await failsWith('NO_QUORUM', a.get('k', { consistency: 'linearizable' }))
  await replicaOf(t, master, await openMemory(t, { site: 'b' }))
  await waitUntil(() => a.status().committedLsn === a.status().lastLsn, { what: 'two of three have it' })
  assert.equal(await a.get('k', { consistency: 'linearizable' }), '1')
})
