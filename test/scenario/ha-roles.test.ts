// Who may write: a replica that is promoted, served or set alone; a master that is replaced, stops, or becomes a replica.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Database } from '../../src/index.ts'
import {
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
import { waitUntil } from '../support/wait-until.ts'

async function copyOf(
  t: Parameters<typeof openFolder>[0],
  options: { readonly sites?: number } = {},
): Promise<{ source: Database; copy: Database }> {
  const source = await openMemory(t)
  await source.put('a', '1')
  const master = await serveTcp(source, options)
  const copy = await openFolder(t)
  const { attachment } = await replicaOf(t, master, copy)
  await attachment.stop()
  await master.stop()
  return { source, copy }
}

test('[A19] a former replica stays read-only, also after it is opened again', async (t) => {
  const { copy } = await copyOf(t)
  await failsWith('NOT_MASTER', copy.put('b', '1'))
  assert.equal(copy.status().role, 'replica')
  assert.equal(copy.status().writable, false)
  await copy.close()
  const again = await openAt(t, copy.location)
  assert.equal(again.status().role, 'replica')
  const error = await failsWith('NOT_MASTER', again.put('b', '1'))
  assert.match(String(error.details.master), /^tcp:/)
  assert.equal(await again.get('a'), '1')
})

test('[A19] promote makes it a master in a new term; so it is after it is opened again', async (t) => {
  const { copy } = await copyOf(t)
  const roles: string[] = []
  copy.on('role', ({ role, term }) => roles.push(`${role} ${term}`))
  const { term, lsn } = await copy.promote()
  assert.deepEqual([term, lsn], [2, 3])
  assert.deepEqual(await copy.promote(), { term, lsn })
  assert.equal((await copy.put('b', '1')).term, 2)
  assert.deepEqual(roles, ['master 2'])
  await copy.close()
  const again = await openAt(t, copy.location)
  assert.equal(again.status().role, 'master')
  assert.equal((await again.put('c', '1')).term, 3)
  assert.deepEqual((await again.keys().all()).join(''), 'abc')
})

test('[A19] serve makes it a master', async (t) => {
  const { source, copy } = await copyOf(t)
  const master = await serveTcp(copy)
  await copy.put('b', '1')
  const { attachment } = await replicaOf(t, master, source)
  assert.equal((await attachment.synced).kind, 'incremental')
  await waitUntil(() => source.getSync('b') === '1', { what: 'the old master followed' })
  await failsWith('NOT_MASTER', source.put('c', '1'))
})

test('[A19] standalone makes it a database of its own', async (t) => {
  const { copy } = await copyOf(t, { sites: 2 })
  await copy.standalone()
  await copy.put('b', '1')
  assert.equal(copy.status().role, 'standalone')
  await copy.close()
  const again = await openAt(t, copy.location)
  await again.put('c', '1')
  assert.equal(again.status().role, 'standalone')
})

test('the master of a group of a fixed size takes no writes alone, before serve or standalone', async (t) => {
  const source = await openFolder(t)
  await source.put('a', '1')
  const master = await serveTcp(source, { sites: 3 })
  await master.stop()
  await failsWith('NOT_MASTER', source.put('b', '1'))
  await source.close()
  const again = await openAt(t, source.location)
  await failsWith('NOT_MASTER', again.put('b', '1'))
  assert.equal(await again.get('a'), '1')
  await again.standalone()
  await again.put('b', '1')
  await again.close()
  const third = await openAt(t, source.location)
  await third.put('c', '1')
  assert.equal((await third.keys().all()).join(''), 'abc')
})

test('what was acknowledged before an orderly end is read after it, also where only the group can say so', async (t) => {
  for (let round = 0; round < 10; round++) {
    const source = await openFolder(t)
    await putMany(source, 20)
    const master = await serveTcp(source, { sites: 3 })
    const { attachment } = await replicaOf(t, master)
    await source.put('last', String(round))
    await attachment.stop()
    await source.close()
    const again = await openAt(t, source.location)
    assert.equal(again.getSync('last'), String(round))
  }
})

test('a master that stops serving goes on alone, can serve again, and says how it ended', async (t) => {
  const source = await openMemory(t)
  const master = await serveTcp(source)
  const { db } = await replicaOf(t, master)
  const last = watched(source.put('under way', '1'))
  await master.stop()
  assert.equal(last.value.acks, 2, 'what was under way was confirmed first')
  assert.equal((await master.stopped).reason, 'stopped')
  assert.equal(master.replicas.length, 0)
  await source.put('alone', '1')
  const again = await serveTcp(source)
  const { attachment } = await replicaOf(t, again, db)
  assert.equal((await attachment.synced).kind, 'incremental')
  assert.equal(await digestOf(db), await digestOf(source))
  const controller = new AbortController()
  await again[Symbol.asyncDispose]()
  const third = await source.serve({ listen: 'tcp://127.0.0.1:0', signal: controller.signal })
  controller.abort()
  assert.equal((await third.stopped).reason, 'cancelled')
  const fourth = await source.serve({ listen: 'tcp://127.0.0.1:0', signal: AbortSignal.abort() })
  assert.equal((await fourth.stopped).reason, 'cancelled')
  await source.put('still', 'there')
})

test('serving begins as it was asked, also while a first write is beginning a reign of its own', async (t) => {
  const source = await openMemory(t)
  const put = watched(source.put('a', '1', { ackTimeoutMs: 50 }))
  const master = await serveTcp(source, { sites: 2, acks: 'all', quorum: 1 })
  await waitUntil(() => put.isSettled, { what: 'the write was answered' })
  assert.equal(source.site.core.settings?.sites, 2)
  await failsWith('NO_QUORUM', source.put('b', '1'))
  assert.equal(source.status().role, 'master')
  await failsWith('INVALID_STATE', serveTcp(source))
  await master.stop()
  const both = await Promise.allSettled([serveTcp(source), serveTcp(source)])
  assert.deepEqual(both.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
})

test('[A9b] a master that is replaced by one of a higher term ends with replaced, and refuses writes', async (t) => {
  const a = await openMemory(t, { site: 'a' })
  await a.put('a', '1')
  const old = await serveTcp(a)
  const { attachment, db: b } = await replicaOf(t, old, { path: ':memory:', site: 'b' })
  await a.put('b', '2')
  const roles: string[] = []
  a.on('role', ({ role, term }) => roles.push(`${role} ${term}`))
  await attachment.stop()
  await b.promote()
  const master = await serveTcp(b, { sites: 1 })
  const { attachment: cToB, db: c } = await replicaOf(t, master, { path: ':memory:', site: 'c' })
  await b.put('newer', 'reign')
  await cToB.stop()
  const underWay = watched(a.put('too', 'late', { acks: 'all' }))
  // Whoever has seen the new term tells the old master of it, by asking to join.
  const refused = attachTo(t, old, c)
  const end = await old.stopped
  assert.equal(end.reason, 'replaced')
  assert.equal(end.cause?.code, 'REPLACED')
  await refused.stopped
  await failsWith('NOT_MASTER', a.put('x', 'y'))
  await waitUntil(() => underWay.isSettled, { what: 'the commit under way was answered' })
  assert.equal(a.status().role, 'replica')
  assert.ok(roles.includes('replica 2'))
  const { attachment: back } = await replicaOf(t, master, a)
  assert.ok(['rewound', 'incremental'].includes((await back.synced).kind))
  assert.equal(await digestOf(a), await digestOf(b))
  assert.equal(await a.get('newer'), 'reign')
})

test('[A9b] commits that gather in the turn in which a master is unseated are answered, and never seen', async (t) => {
  const a = await openMemory(t, { site: 'a' })
  await putMany(a, 5)
  const old = await serveTcp(a, { sites: 3, acks: 'one', ackTimeoutMs: 60_000 })
  const { attachment, db: b } = await replicaOf(t, old, { path: ':memory:', site: 'b' })
  await a.put('shared', '1')
  await attachment.stop()
  await b.promote()
  const master = await serveTcp(b, { sites: 3, acks: 'none' })
  await b.put('of b', '1')
  const puts: { readonly isSettled: boolean; readonly value: unknown }[] = []
  let isUnseated = false
  void old.stopped.then(() => {
    isUnseated = true
  })
  const refused = attachTo(t, old, b)
  assert.equal((await refused.stopped).cause?.code, 'INVALID_STATE')
  await master.stop()
  const asked = attachTo(t, old, b)
  const begin = performance.now()
  while (!isUnseated) {
    assert.ok(performance.now() - begin < 60_000, 'the old master was unseated')
    for (let i = 0; i < 20; i++) puts.push(watched(a.put(`gathered${puts.length}`, '1')))
    await new Promise((resolve) => setImmediate(resolve))
  }
  await asked.stopped
  await waitUntil(() => puts.every((put) => put.isSettled), { what: 'all were answered' })
  assert.equal(a.status().failure, undefined)
  const again = await serveTcp(b, { sites: 3, acks: 'none' })
  await putMany(b, 50, 'of b')
  await replicaOf(t, again, a)
  await waitUntil(() => a.status().appliedLsn === b.status().lastLsn, { what: 'a followed' })
  assert.equal(await digestOf(a), await digestOf(b))
  for (let i = 0; i < puts.length; i++) assert.equal(a.getSync(`gathered${i}`), undefined)
})

test('[A9b] what a master had only gathered when it was unseated is not read under the LSNs of another', async (t) => {
  const a = await openMemory(t, { site: 'a' })
  await putMany(a, 5)
  const old = await serveTcp(a, { sites: 3, acks: 'one' })
  const { attachment, db: b } = await replicaOf(t, old, { path: ':memory:', site: 'b' })
  const { lsn } = await a.put('k', 'shared')
  await waitUntil(() => b.status().committedLsn === lsn, { what: 'b knew of it' })
  await attachment.stop()
  await b.promote({ sites: 3 })
  const { core } = a.site
  const processMessage = core.processMessage.bind(core)
  const gathered: { readonly isSettled: boolean }[] = []
  core.processMessage = (message) => {
    // In the very turn in which the message comes that unseats it.
    for (let i = 0; i < 5 && core.role === 'master'; i++) gathered.push(watched(a.put('k', `never ${i}`)))
    return processMessage(message)
  }
  await attachTo(t, old, b).stopped
  assert.equal((await old.stopped).reason, 'replaced')
  await waitUntil(() => gathered.every((put) => put.isSettled), { what: 'they were answered' })
  assert.ok(gathered.length >= 5)
  assert.equal(a.status().lastLsn, lsn, 'they never came into the log')
  const master = await serveTcp(b, { sites: 3, acks: 'one' })
  const { attachment: back } = await replicaOf(t, master, a)
  assert.equal((await back.synced).kind, 'incremental')
  for (let i = 0; i < 10; i++) {
    await b.put('other', String(i))
    assert.equal(a.getSync('k'), 'shared')
  }
})

test('a standalone database that attaches confirms what is under way, and refuses what comes', async (t) => {
  const source = await openMemory(t)
  await source.put('a', '1')
  const first = await serveTcp(source)
  const { attachment, db } = await replicaOf(t, first)
  await attachment.stop()
  // Each end of serving ends a reign: the master's term is above that of the copy that goes its own way.
  await first.stop()
  await source.put('b', '1')
  await (await serveTcp(source)).stop()
  await source.put('c', '1')
  const master = await serveTcp(source)
  await db.standalone()
  const { lsn } = await db.put('mine', '1')
  const under = watched(db.put('mine', '2'))
  const again = attachTo(t, master, db)
  await failsWith('NOT_MASTER', db.put('mine', '3'))
  await waitUntil(() => under.isSettled, { what: 'it was answered' })
  assert.equal(under.value.lsn, lsn + 1)
  assert.equal((await again.stopped).cause?.code, 'REWIND_REFUSED')
  assert.equal(await db.get('mine'), '2')
  await db.put('mine', '4')
})

test('a replica that never got data can be neither promoted nor served', async (t) => {
  const attachment = attachTo(t, 'tcp://127.0.0.1:1', { path: ':memory:' })
  await attachment.stopped
  const folder = await openFolder(t)
  await folder.destroy()
  await attachTo(t, 'tcp://127.0.0.1:1', { path: folder.location }).stopped
  const empty = await openAt(t, folder.location)
  assert.equal(empty.status().role, 'replica')
  await failsWith('INVALID_STATE', empty.get('a'))
  await failsWith('NOT_MASTER', empty.put('a', '1'))
  await failsWith('INVALID_STATE', empty.promote())
  await failsWith('INVALID_STATE', empty.standalone())
  await failsWith('INVALID_STATE', serveTcp(empty))
  const source = await openMemory(t)
  await source.put('a', '1')
  const { attachment: first } = await replicaOf(t, await serveTcp(source), empty)
  assert.equal((await first.synced).kind, 'snapshot')
  assert.equal(await empty.get('a'), '1')
})

test('[A8] serve, attach, stand alone and destroy, all on one handle that stays open', async (t) => {
  const other = await openMemory(t)
  await other.put('theirs', '1')
  const theirs = await serveTcp(other)
  const db = await openFolder(t)
  const own = await serveTcp(db)
  await db.put('mine', '1')
  const { attachment: guest } = await replicaOf(t, own)
  await failsWith('INVALID_STATE', attachTo(t, theirs, db).synced)
  await own.stop()
  assert.equal((await guest.stopped).reason, 'detached-by-master')
  const { attachment } = await replicaOf(t, theirs, db, { replace: true })
  assert.equal(await db.get('theirs'), '1')
  assert.equal(await db.get('mine'), undefined)
  await attachment.stop()
  await db.standalone()
  await db.put('mine', 'again')
  const last = await serveTcp(db)
  await last.stop()
  await db.destroy()
  await failsWith('CLOSED', db.get('mine'))
})

test('closing ends whatever is under way: serving, following, connecting', async (t) => {
  const source = await openMemory(t)
  await source.put('a', '1')
  const master = await serveTcp(source)
  const { attachment, db } = await replicaOf(t, master)
  const connecting = attachTo(t, 'tcp://127.0.0.1:1', await openMemory(t))
  await db.close()
  assert.equal((await attachment.stopped).reason, 'stopped')
  await waitUntil(() => master.replicas.length === 0, { what: 'the master noticed' })
  const second = await replicaOf(t, master)
  await source.close()
  assert.equal((await master.stopped).reason, 'stopped')
  assert.equal((await second.attachment.stopped).reason, 'detached-by-master')
  await connecting.stopped
  const third = await openMemory(t)
  const silent = attachTo(t, 'tcp://127.0.0.1:2', third)
  await third.close()
  assert.ok(['stopped', 'connection-lost'].includes((await silent.stopped).reason))
})
