// The Base API used wrongly, in every state that a database can be in: an error that says which, and nothing is changed.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { isCoterieError, open, type ReplicationOptions } from '../../src/index.ts'
import { AppNet } from '../support/app-net.ts'
import { atEnd } from '../support/at-end.ts'
import { failsWith, openMemory, replicaOf, serveTcp } from '../support/sites.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

const send = (): void => undefined
const options: ReplicationOptions = { site: 'a', send, sites: 3 }

test('[B4] a database that is closed, serves, follows, or is run by a group has no Base API, and says so', async (t) => {
  const closed = await open(':memory:', { site: 'a' })
  await closed.close()
  await failsWith('CLOSED', closed.replication(options))

  const serving = await openMemory(t, { site: 'a' })
  const master = await serveTcp(serving, { sites: 2 })
  const served = await failsWith('INVALID_STATE', serving.replication(options))
  assert.match(served.message, /serv/)

  const { db: following } = await replicaOf(t, master, { path: ':memory:', site: 'b' })
  const attached = await failsWith('INVALID_STATE', following.replication({ ...options, site: 'b' }))
  assert.match(attached.message, /attach|replica/)

  const grouped = await openMemory(t, { site: 'a' })
  const group = await grouped.join({ listen: 'tcp://127.0.0.1:0' })
  await group.ready
  const joined = await failsWith('INVALID_STATE', grouped.replication(options))
  assert.match(joined.message, /group/)

  for (const db of [serving, grouped]) assert.equal((await db.put('k', 'v', { acks: 'none' })).term, 1)
})

test('[B4 B7] every parameter of the wrong type is refused by its name, and changes nothing', async (t) => {
  const db = await open(':memory:', { site: 'a' })
  atEnd(t, () => db.close())
  const wrong: Readonly<Record<string, unknown>> = {
    site: {},
    send: 'a function',
    sites: '3',
    priority: -1,
    acks: 'most',
    attest: 'seen',
    ackTimeoutMs: 0,
    heartbeatMs: 1,
    electionTimeoutMs: Number.NaN,
    silenceTimeoutMs: '1 s',
    rerequest: 40,
    limitBytes: 1.5,
    bulk: 'yes',
    delaySync: 0,
    autoInit: null,
    autoRewind: 1,
    leases: true,
    view: 7,
  }
  const good = { ...options, leases: { durationMs: 1000 } }
  for (const [name, value] of Object.entries(wrong)) {
    await assert.rejects(
      db.replication({ ...good, [name]: value } as never),
      (error) => {
        assert.ok(isCoterieError(error, 'OPTION_INVALID'), `${name}: ${error}`)
        assert.equal(error.details.option, name)
        return true
      },
      name,
    )
  }
  const rep = await db.replication(options)
  const before = rep.config
  const { site: _site, send: _send, leases: _leases, view: _view, ...settings } = wrong
  for (const [name, value] of Object.entries(settings)) {
    assert.throws(() => rep.configure({ sites: 5, [name]: value } as never), { code: 'OPTION_INVALID' }, name)
  }
  for (const name of ['site', 'send', 'leases', 'view', 'nsites']) {
    assert.throws(
      () => rep.configure({ [name]: good[name as 'site'] } as never),
      { code: 'OPTION_UNKNOWN' },
      name,
    )
  }
  assert.deepEqual(rep.config, before)
  await failsWith('OPTION_INVALID', rep.start('replica', { data: 'text' as never }))
  await failsWith('OPTION_INVALID', rep.start('replica', { data: new Uint8Array(1025) }))
  assert.equal(rep.role, 'none')
  assert.throws(() => rep.sync(), { code: 'INVALID_STATE' })
  await rep.start('replica')
  for (const elect of [{ sites: 0 }, { votes: 0 }, { sites: 3, votes: 4 }, { signal: 5 }]) {
    await failsWith('OPTION_INVALID', rep.elect(elect as never))
  }
  const control = Uint8Array.of(1)
  for (const from of ['', {}, null, true, Number.NaN]) {
    await assert.rejects(rep.processMessage(control, undefined, from as never), TypeError)
  }
})

test('[B6] an election that nothing decides any more ends when the replication is closed', async (t) => {
  const db = await open(':memory:', { site: 'a' })
  atEnd(t, () => db.close())
  const rep = await db.replication({ ...options, electionTimeoutMs: 60_000 })
  await rep.start('master')
  await rep.start('replica')
  const election = failsWith('CLOSED', rep.elect())
  await failsWith('INVALID_STATE', rep.elect())
  await rep.close()
  await election
})

test('[B7] every setting can be changed while it runs, and config says how they are', async (t) => {
  const net = new AppNet(t, 31)
  const { rep } = await net.site('a', { sites: 3 })
  const settings = {
    sites: 5,
    priority: 7,
    acks: 'all',
    attest: 'applied',
    ackTimeoutMs: 500,
    heartbeatMs: 20,
    electionTimeoutMs: 400,
    silenceTimeoutMs: 5000,
    rerequest: { minMs: 5, maxMs: 50 },
    limitBytes: 65_536,
    bulk: false,
    delaySync: true,
    autoInit: false,
    autoRewind: false,
  } as const
  await rep.start('master')
  rep.configure(settings)
  assert.deepEqual(rep.config, settings)
  rep.configure({ priority: 8 })
  assert.deepEqual(rep.config, { ...settings, priority: 8 })
})

for (const durability of ['written', 'memory'] as const) {
  test(`[B1] a permanent message that cannot be sent is synced here all the same, with durability ${durability}`, async (t) => {
    const path = join(withTempFolder(t), 'a')
    const net = new AppNet(t, 32)
    const a = await net.site('a', { sites: 2 }, { path, durability })
    const b = await net.site('b', { sites: 2 })
    await a.rep.start('master')
    await b.rep.start('replica')
    await waitUntil(() => b.rep.stats().synced, { what: 'b has all' })
    net.onSend = ({ flags }) => !flags.permanent
    const failed: number[] = []
    a.rep.on('sendFailed', ({ lsn, permanent }) => {
      if (permanent) failed.push(lsn)
    })
    const { lsn } = await a.db.put('x', '1', { acks: 'none' })
    await waitUntil(() => a.rep.stats().durableLsn >= lsn, { what: 'it is on the disk' })
    assert.ok(failed.includes(lsn))
    assert.equal(a.db.getSync('x'), '1', 'and is not taken back')
  })
}

test('[B8a] in memory: a site of the Base API needs no disk, and loses nothing that others have', async (t) => {
  const net = new AppNet(t, 33)
  const a = await net.site('a', { sites: 2 })
  await a.rep.start('master')
  const b = await net.site('b', { sites: 2 })
  await b.rep.start('replica')
  const { acks } = await a.db.put('x', '1')
  assert.equal(acks, 2)
  await b.db.close()
  const again = await net.site('b', { sites: 2 })
  await again.rep.start('replica')
  await waitUntil(() => again.db.getSync('x') === '1', { what: 'it has everything again' })
})

test('[B8a] nothing waits for a site that takes a snapshot: it reads what it had, and has all at once', async (t) => {
  const net = new AppNet(t, 34)
  const a = await net.site('a', { sites: 2, acks: 'none' })
  await a.rep.start('master')
  for (let i = 0; i < 500; i++) void a.db.put(`row ${i}`, 'x'.repeat(500), { acks: 'none' })
  await a.db.put('last', '1', { acks: 'none' })
  const b = await net.site('b', { sites: 2 })
  const seen = new Set<string>()
  b.rep.on('syncProgress', () => seen.add(`${b.db.getSync('row 0')?.length} ${b.db.getSync('last')}`))
  await b.rep.start('replica')
  await waitUntil(() => b.rep.stats().synced, { what: 'b has all' })
  await waitUntil(() => b.db.getSync('last') === '1', { what: 'and shows it' })
  for (const each of seen) assert.ok(['undefined undefined', '500 1'].includes(each), each)
  assert.equal(a.rep.role, 'master')
})
