// Takeovers that go wrong: cut at each message, unanswered, refused, too late, and with nobody left to ask. Whatever
// happens there are never two who write, and nothing that was acknowledged is lost.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CoterieError, Database } from '../../src/index.ts'
import {
  addressOf,
  attachTo,
  failsWith,
  keepAlive,
  openFolder,
  openMemory,
  putMany,
  replicaOf,
  serveTcp,
  watched,
} from '../support/sites.ts'
import { type PassingMessage, startProxy } from '../support/tcp-proxy.ts'
import { TwoWriters } from '../support/two-writers.ts'
import { waitUntil } from '../support/wait-until.ts'

const listen = 'tcp://127.0.0.1:0'
const messages = { append: 4, ack: 5, heartbeat: 6, handover: 18, takeOver: 19 } as const

/** The first message of a type, from a moment on. */
interface Point {
  readonly from: PassingMessage['from']
  readonly type: number
  readonly cut: 'cutBefore' | 'cutAfter'
}

const points: readonly (readonly [string, Point, 'taken' | 'failed' | 'either'])[] = [
  ['the ask, lost', { from: 'client', type: messages.takeOver, cut: 'cutBefore' }, 'failed'],
  ['the ask, heard', { from: 'client', type: messages.takeOver, cut: 'cutAfter' }, 'either'],
  ['records, lost', { from: 'server', type: messages.append, cut: 'cutBefore' }, 'either'],
  ['records, heard', { from: 'server', type: messages.append, cut: 'cutAfter' }, 'either'],
  ['a heartbeat, lost', { from: 'server', type: messages.heartbeat, cut: 'cutBefore' }, 'either'],
  ['a heartbeat, heard', { from: 'server', type: messages.heartbeat, cut: 'cutAfter' }, 'either'],
  ['an ack, lost', { from: 'client', type: messages.ack, cut: 'cutBefore' }, 'either'],
  ['an ack, heard', { from: 'client', type: messages.ack, cut: 'cutAfter' }, 'either'],
  ['the hand-over, lost', { from: 'server', type: messages.handover, cut: 'cutBefore' }, 'taken'],
  ['the hand-over, heard', { from: 'server', type: messages.handover, cut: 'cutAfter' }, 'taken'],
]

for (const [name, point, expected] of points) {
  test(`[A9a] the connection is cut at ${name}: one writer, nothing lost`, async (t) => {
    keepAlive(t)
    const a = await openMemory(t, { site: 'a' })
    const b = await openMemory(t, { site: 'b' })
    await putMany(a, 20)
    const old = await serveTcp(a)
    let isArmed = false
    let cuts = 0
    const proxy = await startProxy(t, addressOf(old), {
      onMessage: ({ from, type }) => {
        if (!isArmed || from !== point.from || type !== point.type) return 'pass'
        isArmed = false
        cuts++
        return point.cut
      },
    })
    const { attachment } = await replicaOf(t, proxy.address, b)
    const writers = new TwoWriters(t, [a, b], 16)
    await writers.acknowledged(200)
    isArmed = true
    // The last thing that is sent before the takeover may be its own ask: then no record would follow, and no ack.
    const last = watched(a.put('the last before', 'the cut'))
    const [outcome] = await Promise.allSettled([b.takeOver({ listen })])
    await waitUntil(() => cuts === 1 && last.isSettled, {
      what: () => {
        const how = outcome.status === 'rejected' ? String(outcome.reason) : 'taken'
        const sites = [a, b].map((db) => JSON.stringify(db.status())).join(' ')
        return `the connection was cut: ${cuts} cuts, the last put settled: ${last.isSettled}, ${how}; ${sites}`
      },
    })
    assertOneWriter(a, b)
    const how = outcome.status === 'fulfilled' ? 'taken' : 'failed'
    if (expected !== 'either') assert.equal(how, expected)
    if (outcome.status === 'rejected') {
      assert.equal((outcome.reason as CoterieError).code, 'TRANSFER_FAILED', String(outcome.reason))
      // Nothing has changed, and what was cut is attached again: it can be asked anew.
      await writers.acknowledgedBy(a, 100)
      assert.equal(b.attachment, attachment)
      await b.takeOver({ listen })
    }
    assert.equal((await old.stopped).by, 'b')
    assert.equal((await attachment.stopped).reason, 'became-master')
    await writers.acknowledgedBy(b, 200)
    const { unknown } = await writers.stop()
    assert.equal(unknown, 0)
    assert.ok(b.master !== undefined)
    await replicaOf(t, b.master, a)
    await waitUntil(() => a.status().appliedLsn === b.status().lastLsn, { what: 'a followed b' })
    await writers.check([a, b])
  })
}

function assertOneWriter(...databases: readonly Database[]): void {
  const writers = databases.filter((db) => db.status().writable)
  assert.ok(writers.length <= 1, `${writers.map((db) => db.siteId).join(' and ')} would write`)
}

test('[A9a] an answer that never comes is asked for again: the old master says it once more', async (t) => {
  keepAlive(t)
  const a = await openMemory(t, { site: 'a' })
  const b = await openMemory(t, { site: 'b' })
  await putMany(a, 20)
  const old = await serveTcp(a)
  let isLost = false
  const proxy = await startProxy(t, addressOf(old), {
    onMessage: ({ type }) => {
      if (type !== messages.handover || isLost) return 'pass'
      isLost = true
      proxy.freeze()
      return 'drop'
    },
  })
  await replicaOf(t, proxy.address, b)
  const taken = watched(b.takeOver({ listen, timeoutMs: 300 }))
  await waitUntil(() => isLost, { what: 'the hand-over was lost' })
  await failsWith('NOT_MASTER', a.put('k', '1'))
  assert.equal(b.status().writable, false)
  proxy.thaw()
  await waitUntil(() => taken.isSettled, { what: 'it was asked again' })
  assert.equal(taken.value.term, 2)
  await b.put('k', '2')
})

test('[A9a] nobody is left to ask: the outcome is unknown and says so, and promote makes an end of it', async (t) => {
  keepAlive(t)
  const a = await openMemory(t, { site: 'a' })
  const b = await openMemory(t, { site: 'b' })
  await putMany(a, 20)
  const old = await serveTcp(a)
  const proxy = await startProxy(t, addressOf(old), {
    onMessage: ({ type }) => {
      if (type !== messages.handover) return 'pass'
      proxy.close()
      return 'drop'
    },
  })
  const attachment = attachTo(t, proxy.address, b, { connectTimeoutMs: 400 })
  await attachment.synced
  const error = await failsWith('CONNECTION_CLOSED', b.takeOver({ listen }))
  assert.match(error.message, /before it said whether/)
  assert.equal((await attachment.stopped).reason, 'connection-lost')
  assert.equal((await old.stopped).by, 'b')
  await failsWith('NOT_MASTER', b.put('k', '1'))
  const error2 = await failsWith('NOT_MASTER', a.put('k', '1'))
  const { term, lsn } = await b.promote()
  assert.equal(term, 2)
  assert.equal((await b.put('k', '2')).lsn, lsn + 1)
  // The address was free again.
  const master = await b.serve({ listen: String(error2.details.master) })
  await replicaOf(t, master, a)
  assert.equal(await a.get('k'), '2')
})

test('[A9a] a replica that cannot catch up in time: the master goes on, and so do those who waited', async (t) => {
  keepAlive(t)
  const a = await openMemory(t, { site: 'a' })
  await putMany(a, 20)
  const old = await serveTcp(a, { acks: 'none', handOverTimeoutMs: 150 })
  let isDropping = false
  const proxy = await startProxy(t, addressOf(old), {
    onMessage: ({ type }) => (isDropping && type === messages.append ? 'drop' : 'pass'),
  })
  const { attachment, db: b } = await replicaOf(t, proxy.address, { path: ':memory:', site: 'b' })
  const failures: string[] = []
  old.on('handOverFailed', ({ site, code }) => failures.push(`${site} ${code}`))
  isDropping = true
  await a.put('not there', 'yet')
  const taken = watched(b.takeOver({ listen }))
  await waitUntil(() => a.site.core.gate().open === false, { what: 'writes waited' })
  const waiting = watched(a.put('waited', '1'))
  const before = a.status().lastLsn
  await waitUntil(() => taken.isSettled, { what: 'it was given up' })
  assert.equal(taken.error.code, 'TRANSFER_FAILED')
  assert.match(taken.error.message, /did not catch up/)
  await waitUntil(() => waiting.isSettled, { what: 'who waited went on' })
  assert.deepEqual([waiting.value.lsn, waiting.value.term], [before + 1, 1])
  assert.deepEqual(failures, ['b TRANSFER_FAILED'])
  assert.equal(a.master, old)
  isDropping = false
  await waitUntil(() => b.getSync('waited') === '1', { what: 'the attachment went on' })
  assert.equal(b.attachment, attachment)
  assert.equal(b.master, undefined)
  const { term } = await b.takeOver({ listen })
  assert.equal(term, 2)
})

test('[A9a] master.transfer fails where the replica is not there, too slow or goes; nothing has changed', async (t) => {
  keepAlive(t)
  const a = await openMemory(t, { site: 'a' })
  await putMany(a, 20)
  const old = await serveTcp(a, { acks: 'none' })
  await failsWith('TRANSFER_FAILED', old.transfer('b'))
  const proxy = await startProxy(t, addressOf(old), {
    onMessage: ({ type }) => (isDropping && type === messages.append ? 'drop' : 'pass'),
  })
  let isDropping = false
  const { attachment } = await replicaOf(t, proxy.address, { path: ':memory:', site: 'b' })
  isDropping = true
  await a.put('not there', 'yet')
  const failures: string[] = []
  old.on('handOverFailed', ({ site, message }) => failures.push(`${site}: ${message}`))
  await failsWith('OPTION_INVALID', old.transfer('b', { timeoutMs: 0 }))
  await failsWith('TRANSFER_FAILED', old.transfer('b', { timeoutMs: 50 }))
  assert.deepEqual(failures, ['b: site b did not catch up within 50 ms'])
  const going = watched(old.transfer('b'))
  await waitUntil(() => a.site.core.gate().open === false, { what: 'writes waited' })
  await failsWith('INVALID_STATE', old.transfer('b'))
  proxy.cut()
  await waitUntil(() => going.isSettled, { what: 'it was noticed' })
  assert.equal(going.error.code, 'TRANSFER_FAILED')
  // It was not this replica that had asked: its attachment has ended like any other whose connection is lost.
  assert.equal((await attachment.stopped).reason, 'connection-lost')
  assert.equal((await a.put('k', '1')).term, 1)
})

test('[A9a] stopping the master in the middle of a transfer ends that first', async (t) => {
  keepAlive(t)
  const a = await openMemory(t, { site: 'a' })
  await a.put('k', '1')
  const old = await serveTcp(a, { acks: 'none', detachTimeoutMs: 100 })
  let isDropping = false
  const proxy = await startProxy(t, addressOf(old), {
    onMessage: ({ type }) => (isDropping && type === messages.append ? 'drop' : 'pass'),
  })
  const { db: b } = await replicaOf(t, proxy.address, { path: ':memory:', site: 'b' })
  isDropping = true
  await a.put('k', '2')
  const taken = watched(b.takeOver())
  await waitUntil(() => a.site.core.gate().open === false, { what: 'writes waited' })
  await old.stop()
  assert.equal((await old.stopped).reason, 'stopped')
  await waitUntil(() => taken.isSettled, { what: 'the replica was told' })
  assert.equal(taken.error.code, 'TRANSFER_FAILED')
  // It goes on alone, as after any `stop`.
  assert.equal((await a.put('k', '3')).term, 2)
  await failsWith('NOT_MASTER', b.put('k', '4'))
})

test('[A9a] a master may refuse: allowTakeOver false', async (t) => {
  const a = await openMemory(t, { site: 'a' })
  await a.put('k', '1')
  const old = await serveTcp(a, { allowTakeOver: false })
  const heard: string[] = []
  old.on('takeOverAsked', ({ site }) => heard.push(`asked ${site}`))
  old.on('handOverFailed', ({ site, code }) => heard.push(`failed ${site} ${code}`))
  const { attachment, db: b } = await replicaOf(t, old, { path: ':memory:', site: 'b' })
  const error = await failsWith('TRANSFER_FAILED', b.takeOver({ listen }))
  assert.match(error.message, /does not let replicas take over/)
  assert.deepEqual(heard, ['asked b', 'failed b TRANSFER_FAILED'])
  assert.equal((await a.put('k', '2')).term, 1)
  assert.equal(b.attachment, attachment)
  const failed: string[] = []
  const other = attachTo(t, old, { path: ':memory:', site: 'c' }, { takeOver: true })
  other.on('takeOverFailed', ({ error: why }) => failed.push(why.code))
  await waitUntil(() => failed.length > 0, { what: 'it was refused' })
  assert.deepEqual(failed, ['TRANSFER_FAILED'])
  await a.put('k', '3')
  await waitUntil(() => other.db.getSync('k') === '3', { what: 'it still follows' })
  // The master itself may hand over all the same.
  assert.equal((await old.transfer('b')).term, 2)
})

test('[A9a] a replica that cannot reach the new master ends with connection-lost, after connectTimeoutMs', async (t) => {
  const a = await openMemory(t, { site: 'a' })
  await a.put('k', '1')
  const old = await serveTcp(a)
  const { db: b } = await replicaOf(t, old, { path: ':memory:', site: 'b' })
  const { attachment } = await replicaOf(t, old, { path: ':memory:', site: 'c' }, { connectTimeoutMs: 300 })
  const elsewhere = await serveTcp(await openMemory(t))
  await elsewhere.stop()
  const startedAt = performance.now()
  await b.takeOver({ listen, advertise: addressOf(elsewhere) })
  const stopped = await attachment.stopped
  assert.deepEqual([stopped.reason, stopped.cause?.code], ['connection-lost', 'CONNECT_FAILED'])
  assert.ok(performance.now() - startedAt >= 250, 'it tried for a while')
})

test('[A9a] a replica on its way to the new master can be stopped', async (t) => {
  const a = await openMemory(t, { site: 'a' })
  await a.put('k', '1')
  const old = await serveTcp(a)
  const { db: b } = await replicaOf(t, old, { path: ':memory:', site: 'b' })
  const { attachment, db: c } = await replicaOf(t, old, { path: ':memory:', site: 'c' })
  const elsewhere = await serveTcp(await openMemory(t))
  await elsewhere.stop()
  await b.takeOver({ listen, advertise: addressOf(elsewhere) })
  await failsWith('TRANSFER_FAILED', async () => {
    await waitUntil(() => c.status().attached && !c.site.isFollowing, { what: 'it was on its way' })
    await c.takeOver()
  })
  await attachment.stop()
  assert.equal((await attachment.stopped).reason, 'stopped')
  await failsWith('NOT_MASTER', c.put('k', '2'))
})

test('[A9a] a commit that cannot be decided holds up the hand-over until that is given up', async (t) => {
  const a = await openFolder(t, { site: 'a' })
  await a.put('k', '1')
  const old = await serveTcp(a, { handOverTimeoutMs: 200, acks: 'all', ackTimeoutMs: 5000 })
  const { db: b } = await replicaOf(t, old, { path: ':memory:', site: 'b' })
  const { attachment: third } = await replicaOf(t, old, { path: ':memory:', site: 'c' })
  // A commit that asks for more sites than there are stays undecided.
  const undecided = watched(a.put('k', '2', { acks: 5, ackTimeoutMs: 10_000 }))
  await failsWith('TRANSFER_FAILED', b.takeOver())
  assert.equal(undecided.isSettled, false)
  assert.equal(a.master, old)
  await third.stop()
})
