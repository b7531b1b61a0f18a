// Bulk transfer: how many messages it takes to carry what is committed in one turn, and what a site has missed.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runSettling } from '../../src/sim/settle.ts'
import { BaseCluster, type BaseMessage, type BaseSite } from '../support/base-cluster.ts'

interface Pair {
  readonly cluster: BaseCluster
  readonly a: BaseSite
  readonly b: BaseSite
  /** The appends that were sent. */
  readonly appends: BaseMessage[]
}

function pair(seed: number, bulk: boolean | undefined): Pair {
  const cluster = new BaseCluster(seed)
  const options = { sites: 2, ...(bulk === undefined ? {} : { bulk }) }
  const a = cluster.site('a', options)
  const b = cluster.site('b', options)
  cluster.wait(a.rep?.start('master') ?? Promise.reject(new Error('a is up')))
  cluster.wait(b.rep?.start('replica') ?? Promise.reject(new Error('b is up')))
  cluster.run(1000)
  const appends: BaseMessage[] = []
  cluster.onSend = (message) => {
    if (message.type === 'append') appends.push(message)
    return undefined
  }
  return { cluster, a, b, appends }
}

/** So many commits in one turn. */
function putMany({ cluster, a }: Pair, count: number, what: string): void {
  const puts = Array.from({ length: count }, (_, i) => a.db?.put(`${what}${i}`, 'x'))
  cluster.wait(Promise.all(puts))
  cluster.run(1000)
}

for (const bulk of [undefined, true]) {
  test(`[B8b B15b] what is committed in one turn goes in one message, and so does what was missed (bulk: ${bulk})`, () =>
    runSettling(() => {
      const sites = pair(1, bulk)
      putMany(sites, 100, 'live')
      assert.equal(sites.appends.length, 1)
      assert.equal(sites.b.db?.getSync('live99'), 'x')
      sites.cluster.cut('b')
      const puts = Array.from({ length: 5 }, async (_, i) => {
        await sites.a.db?.put(`missed${i}`, 'x', { acks: 'none' })
      })
      sites.cluster.wait(Promise.all(puts))
      sites.cluster.run(30_000)
      sites.appends.length = 0
      sites.cluster.heal('b')
      sites.cluster.run(30_000)
      assert.equal(sites.b.db?.getSync('missed4'), 'x')
      assert.ok(sites.appends.length <= 2, `${sites.appends.length} messages`)
    }))
}

test('[B8b B15b] without bulk transfer each record is a message of its own, live and when it was missed', () =>
  runSettling(() => {
    const sites = pair(2, false)
    putMany(sites, 100, 'live')
    assert.equal(sites.appends.length, 100)
    const lsns = sites.appends.map(({ flags }) => flags.lsn)
    assert.deepEqual(
      lsns,
      Array.from({ length: 100 }, (_, i) => (lsns[0] ?? 0) + i),
      'in their order, each with its own LSN',
    )
    assert.equal(sites.b.db?.getSync('live99'), 'x')
    assert.equal(sites.a.rep?.config.bulk, false)
    sites.a.rep?.configure({ bulk: true })
    sites.appends.length = 0
    putMany(sites, 100, 'again')
    assert.equal(sites.appends.length, 1, 'it can be changed while it runs')
  }))
