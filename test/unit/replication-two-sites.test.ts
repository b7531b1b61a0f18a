// Two sites that go on alone while the other one is away (`TwoSites`), on a simulated clock and network: what each mode
// does, one by one, and random lives (test/support/pair-chaos.ts). `COTERIE_SEED=n` runs one of these alone, and
// COTERIE_SEEDS=n so many.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import {
  decodeMembers,
  encodeMembers,
  type TwoSites,
  withoutMember,
  withTwoSites,
} from '../../src/base/membership.ts'
import { CoreCluster } from '../support/core-cluster.ts'
import { CoreGroup } from '../support/core-group.ts'
import type { FakeSite } from '../support/fake-site.ts'
import { Lives } from '../support/lives.ts'
import { PairChaos } from '../support/pair-chaos.ts'

const timings = { heartbeatMs: 100, electionTimeoutMs: 300, initialTimeoutMs: 2_000, silenceTimeoutMs: 2_000 }

function pairOf(twoSites: TwoSites, options: { automatic?: boolean } = {}): CoreGroup {
  const cluster = new CoreCluster({ timings })
  const group = new CoreGroup(cluster, { twoSites, ...options })
  group.found('a')
  group.join('b')
  cluster.run(1_000)
  assert.equal(group.master?.core.membership?.members.length, 2)
  assert.equal(group.master?.name, 'a')
  return group
}

function siteOf(group: CoreGroup, name: string): FakeSite {
  return group.cluster.get(name)
}

function writes(site: FakeSite, text: string): boolean {
  site.write([text])
  const { lsn } = site.last
  return (site.world as CoreCluster).runUntil(3_000, () => site.core.committedLsn >= lsn)
}

describe('two sites', () => {
  test('[B8c C7a] strict: the one that is left is no master, and commits nothing', () => {
    const group = pairOf('strict')
    const b = siteOf(group, 'b')
    group.crash('a')
    group.cluster.run(10_000)
    assert.equal(b.core.role, 'none')
    assert.equal(b.core.term, 1, 'no term is used up')
  })

  test('[B8c C7a] available: the one that is left is master and commits alone, and the other one catches up', () => {
    const group = pairOf('available')
    const [a, b] = [siteOf(group, 'a'), siteOf(group, 'b')]
    assert.ok(writes(a, 'k=1'))
    group.crash('a')
    assert.ok(group.cluster.runUntil(3_000, () => b.core.role === 'master' && b.last.term === b.core.term))
    assert.ok(writes(b, 'k=2'))
    const { permanentLsn } = b.core
    assert.ok(permanentLsn < b.core.committedLsn, 'nothing is permanent that one alone has')
    group.restart('a')
    assert.ok(
      group.cluster.runUntil(3_000, () => a.store.get('k') === '2' && b.core.permanentLsn === b.last.lsn),
    )
    assert.equal(a.core.counters.rewinds, 0)
  })

  test('[B8c C7a] available: a master whose replica is gone commits on', () => {
    const group = pairOf('available')
    const a = siteOf(group, 'a')
    group.crash('b')
    assert.ok(writes(a, 'k=1'))
    group.cluster.run(5_000)
    assert.equal(a.core.role, 'master')
    assert.ok(writes(a, 'k=2'))
  })

  test('[B8c C7a] available: where both were master the later term counts, and the other one undoes its own', () => {
    const group = pairOf('available')
    const [a, b] = [siteOf(group, 'a'), siteOf(group, 'b')]
    group.cluster.part([a], [b])
    assert.ok(group.cluster.runUntil(3_000, () => b.core.role === 'master' && b.last.term === b.core.term))
    group.cluster.run(3_000)
    assert.ok(writes(a, 'k=a') && writes(b, 'k=b'))
    assert.equal(a.core.role, 'master')
    assert.notEqual(a.core.term, b.core.term)
    group.cluster.heal()
    assert.ok(group.cluster.runUntil(5_000, () => a.core.role === 'replica' && a.last.lsn === b.last.lsn))
    group.cluster.run(500)
    assert.deepEqual([a.store.get('k'), b.store.get('k')], ['b', 'b'])
    assert.equal(a.core.counters.rewinds, 1)
  })

  test('[B8c C7a] available: both that start alone reign in terms of their own', () => {
    const group = pairOf('available')
    const [a, b] = [siteOf(group, 'a'), siteOf(group, 'b')]
    group.crash('a')
    group.crash('b')
    group.cluster.part([a], [b])
    const terms = new Map<number, string>()
    group.onReign = (site) => {
      assert.equal(terms.get(site.core.term), undefined)
      terms.set(site.core.term, site.name)
    }
    for (let i = 0; i < 5; i++) {
      group.restart('a')
      group.restart('b')
      assert.ok(group.cluster.runUntil(5_000, () => a.core.role === 'master' && b.core.role === 'master'))
      group.cluster.run(200)
      group.crash('a')
      group.crash('b')
    }
    assert.ok(terms.size >= 10)
  })

  test('[B8c C7a] available: one that is heard is not gone, though it cannot be asked', () => {
    const group = pairOf('available')
    const [a, b] = [siteOf(group, 'a'), siteOf(group, 'b')]
    // The master hears everything, and its heartbeats are lost: it says so in answer to a canvass.
    group.cluster.drops = (from, _to, message) => from === a && message.type === 'heartbeat'
    group.cluster.run(10_000)
    assert.equal(b.core.counters.electionsWon, 0)
    assert.equal(a.core.role, 'master')
  })

  test('[B8c C7a] the preferred master takes the reign back when it has everything', () => {
    const group = pairOf({ preferredMaster: 'a' })
    const [a, b] = [siteOf(group, 'a'), siteOf(group, 'b')]
    group.crash('a')
    assert.ok(group.cluster.runUntil(3_000, () => b.core.role === 'master' && b.last.term === b.core.term))
    assert.ok(writes(b, 'k=b'))
    group.restart('a')
    assert.ok(group.cluster.runUntil(5_000, () => a.core.role === 'master' && a.last.term === a.core.term))
    group.cluster.run(1_000)
    assert.equal(b.core.role, 'replica')
    assert.deepEqual([a.store.get('k'), b.store.get('k')], ['b', 'b'])
    assert.equal(a.core.counters.rewinds + b.core.counters.rewinds, 0)
  })

  test('[B8c C7a] the preferred master keeps what it has committed, and the other one undoes its own', () => {
    const group = pairOf({ preferredMaster: 'a' })
    const [a, b] = [siteOf(group, 'a'), siteOf(group, 'b')]
    group.cluster.part([a], [b])
    assert.ok(group.cluster.runUntil(3_000, () => b.core.role === 'master' && b.last.term === b.core.term))
    group.cluster.run(3_000)
    assert.ok(writes(a, 'k=a') && writes(b, 'k=b'))
    group.cluster.heal()
    assert.ok(group.cluster.runUntil(5_000, () => b.core.role === 'replica' && a.last.lsn === b.last.lsn))
    group.cluster.run(1_000)
    assert.equal(a.core.role, 'master')
    assert.deepEqual([a.store.get('k'), b.store.get('k')], ['a', 'a'])
    assert.deepEqual([a.core.counters.rewinds, b.core.counters.rewinds], [0, 1])
  })

  test('[B8c C7a] one that is preferred by a record of which the other one does not know follows like anybody else', () => {
    const group = pairOf('available')
    const [a, b] = [siteOf(group, 'a'), siteOf(group, 'b')]
    group.cluster.part([a], [b])
    assert.ok(writes(a, 'k=a'))
    const { membership } = a.core
    assert.ok(membership)
    a.writeMembers(withTwoSites(membership, { preferredMaster: 'a' }))
    assert.ok(group.cluster.runUntil(3_000, () => b.core.role === 'master' && b.last.term === b.core.term))
    assert.ok(writes(b, 'k=b'))
    group.cluster.heal()
    assert.ok(group.cluster.runUntil(5_000, () => a.core.role === 'replica' && a.last.lsn === b.last.lsn))
    group.cluster.run(1_000)
    assert.equal(b.core.role, 'master')
    assert.deepEqual([a.store.get('k'), b.store.get('k')], ['b', 'b'])
  })

  test('[B8c C7a] a preferred master that may not be elected any more follows like anybody else', () => {
    const group = pairOf({ preferredMaster: 'a' })
    const [a, b] = [siteOf(group, 'a'), siteOf(group, 'b')]
    group.cluster.part([a], [b])
    assert.ok(group.cluster.runUntil(3_000, () => b.core.role === 'master' && b.last.term === b.core.term))
    assert.ok(writes(a, 'k=a') && writes(b, 'k=b'))
    a.step((core) => core.joinGroup({ address: 'a', priority: 0, automatic: true, now: group.cluster.now }))
    // Of two masters the one of the later term stays.
    if (a.core.term > b.core.term) group.restart('b')
    group.cluster.heal()
    assert.ok(group.cluster.runUntil(5_000, () => a.core.role === 'replica' && a.last.lsn === b.last.lsn))
    group.cluster.run(1_000)
    assert.deepEqual([a.store.get('k'), b.store.get('k')], ['b', 'b'])
  })

  test('[B8c C7a] the preferred master undoes a tail that nobody was told of', () => {
    const group = pairOf({ preferredMaster: 'a' })
    const [a, b] = [siteOf(group, 'a'), siteOf(group, 'b')]
    group.cluster.part([a], [b])
    a.write(['k=a'])
    group.cluster.run(50)
    group.crash('a')
    group.cluster.heal()
    assert.ok(group.cluster.runUntil(3_000, () => b.core.role === 'master' && b.last.term === b.core.term))
    assert.ok(writes(b, 'k=b'))
    group.restart('a')
    assert.ok(group.cluster.runUntil(8_000, () => a.core.role === 'master' && a.last.term === a.core.term))
    group.cluster.run(1_000)
    assert.deepEqual([a.store.get('k'), b.store.get('k')], ['b', 'b'])
  })

  test('[B8c C7a] a third one makes them strict before it is a member', () => {
    const group = pairOf('available')
    group.join('c')
    const lists: string[] = []
    group.cluster.onEffect = (site, effect) => {
      if (site.name !== 'a' || effect.kind !== 'event' || effect.event.kind !== 'membership') return
      const { members = [], twoSites = 'strict' } = effect.event.membership ?? {}
      lists.push(`${members.map((each) => each.site).join('')} ${twoSites}`)
    }
    group.cluster.run(3_000)
    assert.deepEqual(lists, ['ab strict', 'abc strict'])
  })

  test('[B8c C7a] the one that is left can take the other one off the list, for good', () => {
    const group = pairOf('available')
    const [a, b] = [siteOf(group, 'a'), siteOf(group, 'b')]
    group.crash('a')
    assert.ok(group.cluster.runUntil(3_000, () => b.core.role === 'master' && b.last.term === b.core.term))
    assert.equal(b.core.hasPermanentInReign, false)
    assert.ok(b.core.membership !== undefined)
    b.writeMembers(withoutMember(b.core.membership, 'a'))
    assert.ok(group.cluster.runUntil(1_000, () => b.core.permanentLsn === b.last.lsn))
    group.restart('a')
    assert.ok(group.cluster.runUntil(5_000, () => group.isOut('a')))
    assert.equal(a.core.role, 'none')
    assert.equal(b.core.role, 'master')
  })

  test('[B8c] without automatic elections nobody is elected before one is held, and a master waits for the other', () => {
    const group = pairOf('strict', { automatic: false })
    const [a, b] = [siteOf(group, 'a'), siteOf(group, 'b')]
    group.cluster.part([a], [b])
    group.cluster.run(10_000)
    assert.deepEqual([a.core.role, b.core.role], ['master', 'none'])
    group.cluster.heal()
    assert.ok(group.cluster.runUntil(5_000, () => b.core.role === 'replica'))
    group.crash('a')
    group.restart('a')
    group.cluster.run(10_000)
    assert.deepEqual([a.core.role, b.core.role], ['none', 'none'])
    b.step((core) => core.holdElection({ now: group.cluster.now }))
    assert.ok(group.cluster.runUntil(3_000, () => b.core.role === 'master'))
  })

  test('what two sites do is written down with the members', () => {
    const members = [{ site: 'a', address: 'x:1', incarnation: 'i' }]
    for (const twoSites of ['available', { preferredMaster: 'a' }] as const) {
      assert.deepEqual(decodeMembers(encodeMembers({ members, removed: [], twoSites })), {
        members,
        removed: [],
        twoSites,
      })
    }
    assert.deepEqual(decodeMembers(encodeMembers({ members, removed: [], twoSites: 'strict' })), {
      members,
      removed: [],
    })
    const written = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value))
    for (const twoSites of ['else', 7, {}, { preferredMaster: '' }, { preferredMaster: 'a', more: 1 }]) {
      assert.equal(
        decodeMembers(written({ members, removed: [], twoSites })),
        undefined,
        JSON.stringify(twoSites),
      )
    }
    const three = ['a', 'b', 'c'].map((site) => ({ site, address: 'x:1', incarnation: 'i' }))
    assert.equal(decodeMembers(written({ members: three, removed: [], twoSites: 'available' })), undefined)
  })
})

const lives = new Lives((seed) => new PairChaos(seed), { few: 25, many: 3_000 })

test('[B8c C7a] two that go on alone share no term, lose nothing that both have, and come to rest, whatever happens', () => {
  lives.liveAll()
})
