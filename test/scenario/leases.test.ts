// Master leases: what a master may answer without asking, and what its voters owe it meanwhile. On a virtual clock, with
// the real code, over the Base API; then in a group over TCP.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isCoterieError } from '../../src/index.ts'
import { runSettling } from '../../src/sim/settle.ts'
import { BaseCluster, type BaseSite } from '../support/base-cluster.ts'
import { groupOf, settledMaster, whenEqual, writeAnywhere } from '../support/groups.ts'
import { failsWith, openMemory } from '../support/sites.ts'

const newest = { consistency: 'linearizable' } as const
const leased = { sites: 3, leases: { durationMs: 4000, clockSkew: 1.1 }, ackTimeoutMs: 1000 }

interface Three {
  readonly cluster: BaseCluster
  readonly a: BaseSite
  readonly b: BaseSite
  readonly c: BaseSite
}

/** `a` is master and has written `x`; all have it. */
function three(seed: number, options: Partial<BaseSite['options']> = leased): Three {
  const cluster = new BaseCluster(seed)
  const [a, b, c] = ['a', 'b', 'c'].map((name) => cluster.site(name, options)) as [
    BaseSite,
    BaseSite,
    BaseSite,
  ]
  cluster.wait(repOf(a).start('master'))
  cluster.wait(repOf(b).start('replica'))
  cluster.wait(repOf(c).start('replica'))
  cluster.run(2000)
  cluster.wait(dbOf(a).put('x', '1'))
  cluster.run(1000)
  return { cluster, a, b, c }
}

function repOf(site: BaseSite): NonNullable<BaseSite['rep']> {
  assert.ok(site.rep !== undefined, `${site.name} is up`)
  return site.rep
}

function dbOf(site: BaseSite): NonNullable<BaseSite['db']> {
  assert.ok(site.db !== undefined, `${site.name} is up`)
  return site.db
}

/** The messages that are sent while it runs. */
function sentIn(cluster: BaseCluster, run: () => void): string[] {
  const types: string[] = []
  cluster.onSend = (message) => {
    types.push(message.type)
    return undefined
  }
  run()
  cluster.onSend = undefined
  return types
}

test('[B8b B13] a master whose lease holds reads the newest without asking anybody; without leases it asks', () =>
  runSettling(() => {
    const { cluster, a } = three(1)
    const ofLease = sentIn(cluster, () => {
      assert.equal(cluster.wait(dbOf(a).get('x', newest)), '1')
      assert.deepEqual(cluster.wait(dbOf(a).getMany(['x', 'y'], newest)), ['1', undefined])
      assert.equal(cluster.wait(dbOf(a).has('x', newest)), true)
      assert.equal(cluster.wait(dbOf(a).transact((tx) => tx.get('x'))).result, '1')
    })
    assert.deepEqual(ofLease, [])
    const asking = three(1, { sites: 3 })
    const ofAll = sentIn(asking.cluster, () => {
      assert.equal(asking.cluster.wait(dbOf(asking.a).get('x', newest)), '1')
    })
    assert.ok(ofAll.includes('heartbeat') && ofAll.includes('ack'), ofAll.join(' '))
  }))

test('[B13] nobody is elected while the lease of a master may hold, and what it reads after that is an error', () =>
  runSettling(() => {
    const { cluster, a, b, c } = three(2)
    cluster.cut('a')
    const cutAt = cluster.clock.now()
    cluster.run(2500)
    assert.equal(cluster.wait(dbOf(a).get('x', newest)), '1', 'it has been cut off, and its lease holds')
    for (const site of [b, c]) {
      assert.equal(repOf(site).master, undefined, 'nobody is heard any more')
      const result = cluster.wait(repOf(site).elect())
      assert.equal(result.kind === 'unavailable' && result.reason, 'leased', JSON.stringify(result))
    }
    const elected = electSomebody(cluster, [b, c])
    const waitedMs = cluster.clock.now() - cutAt
    assert.ok(waitedMs >= 4000 && waitedMs < 15_000, `elected after ${waitedMs} ms`)
    cluster.wait(repOf(elected).start('master'))
    const error = failure(() => cluster.wait(dbOf(a).get('x', newest)))
    assert.ok(isCoterieError(error, 'LEASE_EXPIRED'), String(error))
    assert.equal(error.retryable, true)
    assert.equal(cluster.wait(dbOf(a).get('x')), '1', 'other reads go on')
    cluster.wait(dbOf(elected).put('x', '2'))
    assert.equal(cluster.wait(dbOf(elected).get('x', newest)), '2')
    cluster.heal('a')
    cluster.run(5000)
    assert.ok(
      isCoterieError(
        failure(() => cluster.wait(dbOf(a).get('x', newest))),
        'NOT_MASTER',
      ),
    )
  }))

test('[B13] a voter that was started again votes for nobody until what it may have promised is over', () =>
  runSettling(() => {
    const { cluster, b, c } = three(3)
    cluster.crash(b)
    cluster.cut('a')
    cluster.boot(b)
    const startedAt = cluster.clock.now()
    cluster.wait(repOf(b).start('replica'))
    cluster.run(100)
    const result = cluster.wait(repOf(b).elect())
    assert.equal(result.kind === 'unavailable' && result.reason, 'leased', JSON.stringify(result))
    electSomebody(cluster, [b, c])
    assert.ok(cluster.clock.now() - startedAt >= 4400, 'so long by its own clock, and a tenth more')
  }))

test('[B13] with leases only who was elected reigns, and only by more than half', () =>
  runSettling(() => {
    const { cluster, a, b } = three(4)
    const refused = failure(() => cluster.wait(repOf(b).start('master')))
    assert.ok(isCoterieError(refused, 'INVALID_STATE'), String(refused))
    const tooFew = failure(() => cluster.wait(repOf(b).elect({ sites: 3, votes: 1 })))
    assert.ok(isCoterieError(tooFew, 'OPTION_INVALID'), String(tooFew))
    assert.equal(repOf(a).role, 'master')
  }))

test('[B13] a replica does not answer for the newest', () =>
  runSettling(() => {
    const { cluster, b } = three(5)
    assert.ok(
      isCoterieError(
        failure(() => cluster.wait(dbOf(b).get('x', newest))),
        'NOT_MASTER',
      ),
    )
  }))

test('[B13] a database alone has the newest', async (t) => {
  const alone = await openMemory(t)
  assert.equal(await alone.get('x', newest), undefined, 'nobody else can have written it')
  await alone.put('x', '1')
  assert.equal(await alone.get('x', newest), '1')
  await failsWith('OPTION_INVALID', alone.get('x', { consistency: 'eventual' as 'local' }))
})

test('[B8b] leases that make no sense are refused by name', async (t) => {
  const db = await openMemory(t)
  const send = (): boolean => true
  const bad = [
    { leases: {} },
    { sites: 3, leases: { durationMs: 10 } },
    { sites: 3, leases: { clockSkew: 0.9 } },
    { sites: 3, leases: { duration: 5 } },
    { sites: 3, heartbeatMs: 500, leases: { durationMs: 900 } },
  ]
  for (const options of bad) {
    await failsWith('OPTION_INVALID', db.replication({ site: 's', send, ...(options as { sites: 3 }) }))
  }
  await failsWith('OPTION_INVALID', db.join({ listen: 'tcp://127.0.0.1:0', leases: { durationMs: 100 } }))
})

test('[B13] a group with leases: the newest is read at its master, whoever that is', async (t) => {
  const leases = { durationMs: 400 }
  const sites = await groupOf(t, ['a', 'b', 'c'], { leases, electionTimeoutMs: 200, heartbeatMs: 50 })
  const old = await settledMaster(sites)
  await old.db.put('x', '1')
  assert.equal(await old.db.get('x', newest), '1')
  await whenEqual(sites)
  old.net.cut()
  const left = sites.filter((site) => site !== old)
  await writeAnywhere(left, 'x', '2')
  const stale = await old.db.get('x', newest).then(
    (value) => `read ${value}`,
    (error: unknown) => (isCoterieError(error) ? error.code : String(error)),
  )
  assert.ok(['NO_MASTER', 'NOT_MASTER', 'LEASE_EXPIRED'].includes(stale), stale)
  old.net.heal()
  const master = await settledMaster(sites)
  assert.equal(await master.db.get('x', newest), '2')
})

/** The two of them try, as applications do, until one is elected. */
function electSomebody(cluster: BaseCluster, sites: readonly BaseSite[]): BaseSite {
  for (let i = 0; i < 100; i++) {
    for (const site of sites) {
      const { kind } = cluster.wait(repOf(site).elect())
      if (kind === 'elected') return site
    }
    cluster.run(100)
  }
  throw new Error('nobody was elected')
}

function failure(run: () => unknown): unknown {
  try {
    return `no error, but ${String(run())}`
  } catch (error) {
    return error
  }
}
