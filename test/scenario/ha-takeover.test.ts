// A replica takes over from its master, asked for by the one or by the other: what was under way is confirmed there,
// what comes next goes on here, and nobody is master twice. Failures are in ha-takeover-faults.test.ts.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { attachMaster } from '../../src/index.ts'
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
import { TwoWriters } from '../support/two-writers.ts'
import { waitUntil } from '../support/wait-until.ts'

const listen = 'tcp://127.0.0.1:0'

test('[A9a] db.takeOver: commits under way resolve at the old master, the next LSN is the new one’s, nothing is lost', async (t) => {
  const a = await openFolder(t, { site: 'a' })
  await putMany(a, 50)
  const old = await serveTcp(a)
  const { attachment, db: b } = await replicaOf(t, old, await openFolder(t, { site: 'b' }))
  const writers = new TwoWriters(t, [a, b], 64)
  await writers.acknowledged(500)
  const roles: string[] = []
  b.on('role', ({ role, term }) => roles.push(`${role} ${term}`))
  const result = await b.takeOver({ listen })
  assert.equal(result.term, 2)
  assert.ok(result.pausedMs !== undefined && result.pausedMs > 0)
  assert.equal(result.master, b.master)
  assert.ok(b.master !== undefined)
  const end = await old.stopped
  assert.deepEqual(
    [end.reason, end.by, end.lsn, end.master],
    ['replaced', 'b', result.lsn, addressOf(b.master)],
  )
  const stopped = await attachment.stopped
  assert.deepEqual([stopped.reason, stopped.term, stopped.cause], ['became-master', 2, undefined])
  const error = await failsWith('NOT_MASTER', a.put('x', 'y'))
  assert.equal(error.details.master, addressOf(b.master))
  assert.ok(a.master === undefined && a.status().role === 'replica')
  await writers.acknowledgedBy(b, 500)
  const { receipts, unknown } = await writers.stop()
  assert.equal(unknown, 0, 'no commit under way was left in doubt')
  for (const { db, lsn, term } of receipts) {
    assert.equal(db === a, lsn <= result.lsn, `LSN ${lsn} was acknowledged by the one who was master then`)
    assert.equal(term, db === a ? 1 : 2)
  }
  assert.deepEqual(roles, ['master 2'])
  const { attachment: back } = await replicaOf(t, b.master, a)
  assert.equal((await back.synced).kind, 'incremental')
  await writers.check([a, b])
})

test('[A9a] the old master is a replica on disk too, and the new one a master', async (t) => {
  const a = await openFolder(t, { site: 'a' })
  await a.put('k', '1')
  const old = await serveTcp(a)
  const { db: b } = await replicaOf(t, old, await openFolder(t, { site: 'b' }))
  const { master } = await b.takeOver({ listen })
  assert.ok(master !== undefined)
  await old.stopped
  await Promise.all([a.close(), b.close()])
  const again = await openAt(t, a.location)
  assert.deepEqual([again.status().role, again.status().master], ['replica', addressOf(master)])
  const error = await failsWith('NOT_MASTER', again.put('k', '2'))
  assert.equal(error.details.master, addressOf(master))
  const heir = await openAt(t, b.location)
  assert.equal(heir.status().role, 'master')
  assert.equal((await heir.put('k', '3')).term, 3)
})

test('[A9a] attachMaster with takeOver: master as soon as it is synchronised; with listen it serves', async (t) => {
  const a = await openMemory(t, { site: 'a' })
  await putMany(a, 100)
  const old = await serveTcp(a)
  const attachment = attachTo(t, old, { path: ':memory:', site: 'b' }, { takeOver: { listen, acks: 'all' } })
  assert.equal((await attachment.synced).kind, 'snapshot')
  assert.equal((await attachment.stopped).reason, 'became-master')
  const b = attachment.db
  assert.ok(b.master !== undefined)
  assert.equal(b.site.core.settings?.acks, 'all')
  await b.put('of b', '1')
  await replicaOf(t, b.master, a)
  assert.equal((await b.put('of both', '1')).acks, 2)
})

test('[A9a] without listen it takes writes and nobody can attach, until it serves', async (t) => {
  const a = await openMemory(t, { site: 'a' })
  await a.put('k', '1')
  const old = await serveTcp(a)
  const { attachment: other } = await replicaOf(t, old, { path: ':memory:', site: 'c' })
  const attachment = attachTo(t, old, { path: ':memory:', site: 'b' }, { takeOver: true })
  assert.equal((await attachment.stopped).reason, 'became-master')
  assert.deepEqual([(await old.stopped).by, (await old.stopped).master], ['b', undefined])
  const stopped = await other.stopped
  assert.deepEqual([stopped.reason, stopped.cause?.code], ['replaced', 'REPLACED'])
  const b = attachment.db
  assert.equal((await b.put('k', '2')).term, 2)
  assert.equal(b.master, undefined)
  const error = await failsWith('NOT_MASTER', a.put('k', '3'))
  assert.deepEqual(error.details, {})
  const master = await serveTcp(b)
  await replicaOf(t, master, a)
  assert.equal(await digestOf(a), await digestOf(b))
})

test('[A9a] master.transfer: the same from the other side', async (t) => {
  const a = await openMemory(t, { site: 'a' })
  const old = await serveTcp(a)
  await a.put('k', '1')
  const { attachment, db: b } = await replicaOf(t, old, { path: ':memory:', site: 'b' })
  const underWay = watched(a.put('k', '2'))
  const { site, term, lsn } = await old.transfer('b')
  assert.deepEqual([site, term, lsn], ['b', 2, underWay.value.lsn])
  assert.equal((await old.stopped).reason, 'replaced')
  assert.equal((await attachment.stopped).reason, 'became-master')
  assert.equal((await b.put('k', '3')).lsn, lsn + 2)
  await failsWith('NOT_MASTER', old.transfer('b'))
})

test('[A9a] who was given the mastership serves as soon as it says that it is master', async (t) => {
  const a = await openMemory(t, { site: 'a' })
  const old = await serveTcp(a)
  const { db: b } = await replicaOf(t, old, { path: ':memory:', site: 'b' })
  const served = new Promise<boolean>((resolve, reject) => {
    const off = b.on('role', ({ role }) => {
      if (role !== 'master') return
      off()
      const isAttached = b.attachment !== undefined
      b.serve({ listen }).then(() => resolve(isAttached), reject)
    })
  })
  await old.transfer('b')
  assert.equal(await served, true, 'the attachment had not ended yet')
  assert.equal(b.attachment, undefined)
})

test('[A9a] other replicas move over by themselves, in the same attachment', async (t) => {
  const a = await openMemory(t, { site: 'a' })
  await putMany(a, 20)
  const old = await serveTcp(a)
  const { db: b } = await replicaOf(t, old, { path: ':memory:', site: 'b' })
  const { attachment, db: c } = await replicaOf(t, old, { path: ':memory:', site: 'c' })
  const events: string[] = []
  attachment.onAny((name) => events.push(name))
  const first = await attachment.synced
  const { master } = await b.takeOver({ listen })
  assert.ok(master !== undefined)
  await b.put('of b', '1')
  await waitUntil(() => c.getSync('of b') === '1', { what: 'c followed b' })
  assert.equal(await attachment.synced, first)
  assert.equal(c.attachment, attachment)
  assert.equal(c.status().master, addressOf(master))
  for (const name of ['connected', 'newMaster', 'syncBegin']) assert.ok(events.includes(name), name)
  await waitUntil(() => events.at(-1) === 'synced', { what: 'it was synchronised' })
  assert.ok(!events.includes('stopped'))
  // And over again: to a third, and with it the one that has just been master.
  const { attachment: ofA } = await replicaOf(t, master, a)
  const { master: third } = await c.takeOver({ listen })
  assert.ok(third !== undefined)
  await c.put('of c', '1')
  await waitUntil(() => a.getSync('of c') === '1', { what: 'a followed c' })
  assert.equal(a.status().term, 3)
  await ofA.stop()
  assert.equal((await ofA.stopped).reason, 'stopped')
})

test('[A9a] back and forth under load: every commit is acknowledged by one of them, in order', async (t) => {
  const a = await openFolder(t, { site: 'a' })
  const b = await openFolder(t, { site: 'b' })
  await a.put('k', '1')
  // The same two addresses each time: who has handed over gives its own back when it is to serve again.
  let master = await serveTcp(a)
  const places = [addressOf(master), listen]
  await replicaOf(t, master, b)
  // b has its own data by now, and writers that try while it follows.
  const writers = new TwoWriters(t, [a, b], 16)
  for (let round = 0; round < 6; round++) {
    const [from, to] = round % 2 === 0 ? [a, b] : [b, a]
    await writers.acknowledgedBy(from, 100)
    const place = places[(round + 1) % 2] as string
    const result = await to.takeOver({ listen: place })
    assert.ok(result.master !== undefined)
    await master.stopped
    master = result.master
    places[(round + 1) % 2] = addressOf(master)
    assert.equal(result.term, round + 2)
    const { attachment } = await replicaOf(t, master, from)
    assert.notEqual((await attachment.synced).kind, 'rewound')
  }
  const { unknown } = await writers.stop()
  assert.equal(unknown, 0)
  await waitUntil(() => b.status().appliedLsn === a.status().lastLsn, { what: 'b followed' })
  await writers.check([a, b])
})

test('[A9a] a transaction that waits while the mastership goes is refused, and can be run at the new master', async (t) => {
  const a = await openMemory(t, { site: 'a' })
  await a.put('n', '1')
  const old = await serveTcp(a)
  const { db: b } = await replicaOf(t, old, { path: ':memory:', site: 'b' })
  let goOn = (): void => undefined
  const reading = watched(
    a.transact(async (tx) => {
      const n = await tx.get('n')
      await new Promise<void>((resolve) => {
        goOn = resolve
      })
      tx.put('n', `${n}!`)
    }),
  )
  const { lsn } = await b.takeOver()
  goOn()
  await waitUntil(() => reading.isSettled, { what: 'the transaction was answered' })
  assert.equal(reading.error.code, 'NOT_MASTER')
  assert.equal(a.status().lastLsn, lsn)
  await b.transact((tx) => tx.put('n', `${tx.get('n')}!`))
  assert.equal(await b.get('n'), '1!')
})

test('[A9a] two replicas that ask at once: one becomes master, the other goes over to it', async (t) => {
  const a = await openMemory(t, { site: 'a' })
  await putMany(a, 20)
  const old = await serveTcp(a)
  const { db: b } = await replicaOf(t, old, { path: ':memory:', site: 'b' })
  const { db: c } = await replicaOf(t, old, { path: ':memory:', site: 'c' })
  const asked = await Promise.allSettled([b.takeOver({ listen }), c.takeOver({ listen })])
  const won = asked.findIndex(({ status }) => status === 'fulfilled')
  const lost = asked[1 - won]
  assert.ok(lost?.status === 'rejected')
  assert.equal((lost.reason as { code: string }).code, 'TRANSFER_FAILED')
  const [heir, other] = won === 0 ? [b, c] : [c, b]
  await heir.put('k', '1')
  await waitUntil(() => other.getSync('k') === '1', { what: 'the other one followed' })
  // It can still have its turn.
  const { term } = await other.takeOver()
  assert.equal(term, 3)
  assert.equal((await other.put('k', '2')).term, 3)
  await failsWith('NOT_MASTER', heir.put('k', '3'))
})

test('[A9a] what is asked wrongly is refused, and the attachment goes on', async (t) => {
  const a = await openMemory(t, { site: 'a' })
  await a.put('k', '1')
  const old = await serveTcp(a)
  await failsWith('INVALID_STATE', a.takeOver())
  const { attachment, db: b } = await replicaOf(t, old, { path: ':memory:', site: 'b' })
  await failsWith('OPTION_UNKNOWN', b.takeOver({ lisen: listen } as object))
  await failsWith('OPTION_INVALID', b.takeOver({ timeoutMs: 0 }))
  await failsWith('ADDRESS_INVALID', b.takeOver({ listen: 'nowhere' }))
  await failsWith('OPTION_INVALID', b.takeOver({ listen: 'tcp://0.0.0.0:0' }))
  await failsWith('ADDRESS_IN_USE', b.takeOver({ listen: addressOf(old) }))
  const wrong = attachMaster(b, addressOf(old), { takeOver: { listen: 'nowhere' } })
  assert.equal((await wrong.stopped).cause?.code, 'ADDRESS_INVALID')
  assert.equal(b.attachment, attachment)
  await a.put('k', '2')
  await waitUntil(() => b.getSync('k') === '2', { what: 'b still follows' })
})

test('[A9a] a wildcard address is told as it is advertised', async (t) => {
  const a = await openMemory(t, { site: 'a' })
  await a.put('k', '1')
  const old = await serveTcp(a)
  const { db: b } = await replicaOf(t, old, { path: ':memory:', site: 'b' })
  await b.takeOver({ listen: 'tcp://0.0.0.0:0', advertise: 'b.example:10000' })
  assert.equal((await old.stopped).master, 'tcp://b.example:10000')
})

test('[A9a] closing a database in the middle of a takeover settles it first', async (t) => {
  const a = await openMemory(t, { site: 'a' })
  await a.put('k', '1')
  const old = await serveTcp(a)
  const b = await openFolder(t, { site: 'b' })
  const { attachment } = await replicaOf(t, old, b)
  const taken = watched(b.takeOver({ listen }))
  await new Promise((resolve) => setImmediate(resolve))
  await b.close()
  await waitUntil(() => taken.isSettled, { what: 'the takeover was answered' })
  assert.equal(taken.value.term, 2)
  assert.equal((await attachment.stopped).reason, 'became-master')
  assert.equal((await old.stopped).reason, 'replaced')
  const again = await openAt(t, b.location)
  assert.equal(again.status().role, 'master')
  await again.put('k', '2')
})
