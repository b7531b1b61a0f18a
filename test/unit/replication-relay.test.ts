// A replica that serves in its turn, by itself: what is lost on the way, how long a way may be, and that nobody below has
// a say above. Whole stories are in test/scenario/core-relay.txt, random lives in replication-relay-lives.test.ts.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Term } from '../../src/base/lsn.ts'
import type { Message } from '../../src/replication/messages.ts'
import { CoreCluster } from '../support/core-cluster.ts'
import type { FakeSite } from '../support/fake-site.ts'

/** a is master; b follows it and serves c, c serves d; e is another replica of a. */
function chainOf(
  options: { network?: { duplication: number; reorders: boolean; delayMaxMs: number } } = {},
): {
  cluster: CoreCluster
  site: (name: string) => FakeSite
} {
  const cluster = new CoreCluster({
    seed: 7,
    network: options.network ?? {},
    timings: { inflightBytesMax: 400, recentBytesMax: 100 },
  })
  for (const name of ['a', 'b', 'c', 'd', 'e']) cluster.add(name, name === 'a' ? { databaseId: 'db' } : {})
  cluster.serve('a', { sites: 3 })
  cluster.follow('b', 'a')
  cluster.follow('e', 'a')
  assert.ok(cluster.runUntil(2_000, () => cluster.get('b').core.isSynced && cluster.get('e').core.isSynced))
  cluster.get('b').serveInTurn({ chunkRecords: 2 })
  return { cluster, site: (name) => cluster.get(name) }
}

interface Told {
  readonly messages: number
  readonly kinds: ReadonlySet<string>
}

/** Those below come into step, the master dies, another one is promoted, and what it writes goes down the whole way. */
function tell(options: { lost: (number: number) => boolean; repeated?: boolean }): Told {
  const isRepeated = options.repeated === true
  const { cluster, site } = chainOf(
    isRepeated ? { network: { duplication: 1, reorders: true, delayMaxMs: 20 } } : {},
  )
  site('a').write(['k1=a', 'k2=b', 'k3=c'])
  cluster.run(300)
  let messages = 0
  const kinds = new Set<string>()
  cluster.drops = (_from, _to, message) => {
    kinds.add(message.type)
    return options.lost(messages++)
  }
  const ended: string[] = []
  cluster.onEffect = (each, effect) => {
    if (effect.kind === 'stopped' && ['c', 'd'].includes(each.name))
      ended.push(`${each.name} ${effect.message}`)
  }
  cluster.follow('c', 'b')
  site('c').serveInTurn({ chunkRecords: 2 })
  cluster.follow('d', 'c')
  for (let i = 0; i < 12; i++) {
    cluster.run(15)
    site('a').write([`k${i % 5}=${i}`, `m${i}=${i}`])
  }
  cluster.runUntil(3_000, () => site('e').core.permanentLsn === site('a').last.lsn)
  for (const name of ['b', 'e']) site(name).step((core) => core.leave({ now: cluster.now, kind: 'cancel' }))
  cluster.crash('a')
  cluster.run(20)
  cluster.serve('e', { sites: 3 })
  cluster.follow('b', 'e')
  site('e').write(['n=1', 'o=2'])
  const { lsn, crc } = site('e').last
  const below = ['b', 'c', 'd'].map(site)
  const isDone = cluster.runUntil(6_000, () =>
    below.every(({ core }) => core.appliedLsn === lsn && core.term === site('e').core.term),
  )
  assert.deepEqual(ended, [], 'no attachment below ends')
  assert.ok(isDone, 'all come into step')
  for (const each of below) {
    assert.equal(each.last.crc, crc)
    assert.equal(each.storeText(), site('e').storeText())
    assert.deepEqual([each.core.termMaster, each.core.knownMaster?.site], ['e', 'e'])
  }
  return { messages, kinds }
}

const whole = tell({ lost: () => false })

test('[A26c] the story of a chain has every message of an attachment in it', () => {
  const kinds = ['join', 'accept', 'ack', 'append', 'heartbeat', 'snapshotBegin', 'snapshotRows']
  for (const kind of [...kinds, 'snapshotAck', 'snapshotEnd']) assert.ok(whole.kinds.has(kind), kind)
})

test('[A26c] the loss of any one message on the way down only delays, also where the master changes', () => {
  for (let lost = 0; lost < whole.messages; lost++) {
    try {
      tell({ lost: (number) => number === lost })
    } catch (error) {
      throw new Error(`message ${lost} is lost`, { cause: error })
    }
  }
})

test('[A26c] nor does it matter that each comes twice, in any order', () => {
  tell({ lost: () => false, repeated: true })
})

test('[A26c] a way leads over 16 sites at most', () => {
  const cluster = new CoreCluster({ seed: 3 })
  cluster.add('s0', { databaseId: 'db' })
  cluster.serve('s0')
  for (let i = 1; i <= 17; i++) {
    const site = cluster.add(`s${i}`)
    cluster.follow(site.name, `s${i - 1}`)
    assert.ok(
      cluster.runUntil(5_000, () => site.core.isSynced),
      `s${i} is in step`,
    )
    site.serveInTurn()
  }
  const beyond = cluster.add('s18')
  cluster.follow('s18', 's17')
  cluster.run(500)
  assert.equal(beyond.lastStop?.code, 'ATTACH_LOOP')
  cluster.get('s0').write(['k=1'])
  assert.ok(cluster.runUntil(5_000, () => cluster.get('s17').core.appliedLsn === cluster.get('s0').last.lsn))
})

test('[A26c] a higher term from below unseats nobody above', () => {
  const { cluster, site } = chainOf()
  cluster.follow('c', 'b')
  cluster.run(500)
  assert.ok(site('c').core.isSynced)
  const { now } = cluster
  const refusals: Message[] = []
  cluster.onMessage = (_from, to, message) => {
    if (to.name === 'c' && (message.type === 'refuse' || message.type === 'detach')) refusals.push(message)
  }
  // While it is attached: its master's messages are stale to it, and it says so.
  site('c').step((core) => core.adoptTerm({ term: 9 as Term, master: 'x', now }))
  cluster.run(2_000)
  assert.equal(site('c').lastStop?.code, 'NOT_MASTER')
  // And when it asks to be let in.
  cluster.follow('c', 'b')
  cluster.run(6_000)
  assert.deepEqual(
    refusals.map((each) => (each.type === 'refuse' || each.type === 'detach' ? each.code : '')),
    ['NOT_MASTER', 'NOT_MASTER'],
  )
  for (const name of ['a', 'b']) assert.equal(site(name).core.term, 1)
  assert.equal(site('a').core.role, 'master')
})

test('an heir that has not heard of it is told again also by an old master that serves in its turn', () => {
  const { cluster, site } = chainOf()
  site('a').write(['k=1'])
  cluster.run(300)
  const given: string[] = []
  cluster.onEffect = (each, effect) => {
    if (effect.kind === 'elected') given.push(`${each.name} ${effect.term}`)
  }
  cluster.drops = (_from, _to, message) => message.type === 'handover'
  const { now } = cluster
  site('a').step((core) => core.handOver({ site: 'e', now }))
  assert.ok(cluster.runUntil(3_000, () => site('a').core.role === 'none'))
  cluster.drops = undefined
  site('a').serveInTurn()
  site('e').step((core) => core.leave({ now: cluster.now, kind: 'cancel' }))
  cluster.run(50)
  assert.deepEqual(given, [])
  cluster.follow('e', 'a')
  cluster.run(500)
  assert.deepEqual(given, ['e 2'])
})

test('an heir that hears from a site below whose the term is takes it when it is told itself', () => {
  const { cluster, site } = chainOf()
  site('a').write(['k=1'])
  cluster.run(300)
  const given: string[] = []
  cluster.onEffect = (each, effect) => {
    if (effect.kind === 'elected') given.push(`${each.name} ${effect.term}`)
  }
  cluster.drops = (_from, _to, message) => message.type === 'handover'
  site('a').step((core) => core.handOver({ site: 'e', now: cluster.now }))
  assert.ok(cluster.runUntil(3_000, () => site('a').core.role === 'none'))
  cluster.drops = undefined
  site('a').serveInTurn()
  for (const name of ['b', 'e']) site(name).step((core) => core.leave({ now: cluster.now, kind: 'cancel' }))
  cluster.run(50)
  cluster.follow('e', 'b')
  cluster.run(50)
  cluster.follow('b', 'a')
  assert.ok(cluster.runUntil(3_000, () => site('e').core.term === 2))
  assert.deepEqual([given, site('e').core.termMaster], [[], 'e'])
  site('e').step((core) => core.leave({ now: cluster.now, kind: 'cancel' }))
  cluster.run(50)
  cluster.follow('e', 'a')
  cluster.run(500)
  assert.deepEqual(given, ['e 2'])
  assert.ok(site('e').reign({ databaseId: 'db', sites: 3 }))
})
