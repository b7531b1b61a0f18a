// Groups of two that go on alone while one of them is away, and groups whose elections are asked for: real sockets.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import {
  crash,
  eventsOf,
  type GroupSite,
  groupOf,
  joinSite,
  type SiteOptions,
  settledMaster,
  whenEqual,
} from '../support/groups.ts'
import { failsWith } from '../support/sites.ts'
import { waitUntil } from '../support/wait-until.ts'

type Pair = readonly [GroupSite, GroupSite]

async function pairOf(t: TestContext, options: SiteOptions & { folders?: boolean } = {}): Promise<Pair> {
  const sites = (await groupOf(t, ['a', 'b'], options)) as unknown as Pair
  await whenBothKnow(sites)
  return sites
}

async function again(
  t: Parameters<typeof joinSite>[0],
  site: GroupSite,
  other: GroupSite,
): Promise<GroupSite> {
  const back = await joinSite(t, site.id, { location: site.location, seeds: [other.group.address] })
  await back.group.ready
  return back
}

/** Only then may one go on without the other. */
async function whenBothKnow(sites: readonly GroupSite[]): Promise<void> {
  const isCertain = ({ db }: GroupSite): boolean => {
    const { permanentLsn, membership } = db.site.core
    return membership?.members.length === 2 && permanentLsn >= membership.lsn
  }
  await waitUntil(() => sites.every(isCertain), { what: 'both know that both know the members' })
}

async function whenMaster(site: GroupSite): Promise<void> {
  await waitUntil(() => site.group.role === 'master', { what: `${site.id} is master` })
}

test('[B8c C7a] two sites are strict unless they are told otherwise: without the other one nobody is master', async (t) => {
  const [a, b] = await pairOf(t)
  assert.equal(a.group.twoSites, 'strict')
  await crash(a)
  await waitUntil(() => eventsOf(b, 'electionFailed').some(({ reason }) => reason === 'no-majority'), {
    what: 'an election has failed',
  })
  await failsWith('NO_MASTER', b.db.put('k', 'v'))
  assert.equal(b.group.status().majority, 2)
})

test('[B8c C7a] available: the one that is left goes on, and the one that comes back has everything', async (t) => {
  const [a, b] = await pairOf(t, { twoSites: 'available', folders: true, ackTimeoutMs: 1000 })
  await a.db.put('both', '1')
  assert.equal(a.group.status().canLoseText, 'can lose: 1 site, 0 commits')
  await crash(a)
  await whenMaster(b)
  const receipt = await b.db.put('alone', '2')
  assert.equal(receipt.acks, 1)
  const { majority, twoSites, canLose } = b.group.status()
  assert.deepEqual([majority, twoSites, canLose.sites], [1, 'available', 0])
  // Whether this is the newest nobody can say without the other one.
  await failsWith('NO_QUORUM', b.db.get('alone', { consistency: 'linearizable' }))
  const back = await again(t, a, b)
  assert.deepEqual([await back.db.get('both'), await back.db.get('alone')], ['1', '2'])
  await whenEqual([b, back])
})

test('[B8c C7a] available: what the earlier of two masters committed meanwhile is undone, told, and kept', async (t) => {
  const [a, b] = await pairOf(t, { twoSites: 'available', folders: true })
  await a.db.put('k', 'both')
  a.net.cut()
  b.net.cut()
  await whenMaster(b)
  await Promise.all([a.db.put('k', 'a'), b.db.put('k', 'b')])
  assert.deepEqual([a.group.role, b.group.role], ['master', 'master'])
  a.net.heal()
  b.net.heal()
  await waitUntil(() => eventsOf(a, 'rewound').length > 0, { what: 'a has undone its commit' })
  await whenEqual([a, b])
  assert.equal(await a.db.get('k'), 'b')
  const [rewound] = eventsOf(a, 'rewound')
  assert.equal(rewound?.transactions, 1)
  assert.ok(rewound?.file !== undefined)
  assert.equal((await settledMaster([a, b])).id, 'b')
})

test('[B8c C7a] available: after both were down, one that starts alone goes on', async (t) => {
  const [a, b] = await pairOf(t, { twoSites: 'available', folders: true })
  await a.db.put('k', 'v')
  await whenEqual([a, b])
  await crash(a)
  await crash(b)
  const back = await joinSite(t, 'b', { location: b.location })
  await whenMaster(back)
  assert.equal(await back.db.get('k'), 'v')
  await back.db.put('k', 'w')
})

test('[B8c C7a] the preferred master reigns again when it is back, and has what was committed without it', async (t) => {
  const twoSites = { preferredMaster: 'a' }
  const [a, b] = await pairOf(t, { twoSites, folders: true })
  assert.deepEqual(b.group.twoSites, twoSites)
  await crash(a)
  await whenMaster(b)
  await b.db.put('k', 'b')
  const back = await again(t, a, b)
  await whenMaster(back)
  assert.equal(await back.db.get('k'), 'b')
  await back.db.put('k', 'a')
  await whenEqual([back, b])
})

test('[B8c C7a] the preferred master keeps what it committed alone; the other one undoes its own', async (t) => {
  const twoSites = { preferredMaster: 'a' }
  const [a, b] = await pairOf(t, { twoSites, folders: true })
  a.net.cut()
  b.net.cut()
  await whenMaster(b)
  await Promise.all([a.db.put('k', 'a'), b.db.put('k', 'b')])
  a.net.heal()
  b.net.heal()
  await waitUntil(() => eventsOf(b, 'rewound').length > 0, { what: 'b has undone its commit' })
  await waitUntil(() => a.group.role === 'master', { what: 'a is master' })
  await whenEqual([a, b])
  assert.equal(await b.db.get('k'), 'a')
  assert.equal(eventsOf(a, 'rewound').length, 0)
  assert.equal(eventsOf(a, 'refused').length, 0)
})

test('[B8c C7a] setTwoSites changes it at run time, on both; a third member makes them strict', async (t) => {
  const [a, b] = await pairOf(t)
  await failsWith('INVALID_STATE', b.group.setTwoSites('available'))
  await failsWith('OPTION_INVALID', a.group.setTwoSites('else' as never))
  await a.group.setTwoSites('available')
  await waitUntil(() => b.group.twoSites === 'available', { what: 'b knows' })
  assert.deepEqual(eventsOf(b, 'twoSites'), [{ twoSites: 'available' }])
  const c = await joinSite(t, 'c', { seeds: [a.group.address] })
  await waitUntil(() => c.group.members.length === 3, { what: 'c is a member' })
  assert.equal(c.group.twoSites, 'strict')
  await failsWith('INVALID_STATE', a.group.setTwoSites('available'))
})

test('[B8c C7a] the one that is left takes the other one off the list, and another one in its place', async (t) => {
  const [a, b] = await pairOf(t, { twoSites: 'available', folders: true })
  await crash(a)
  await whenMaster(b)
  await b.group.removeMember('a')
  assert.deepEqual(
    b.group.members.map(({ site }) => site),
    ['b'],
  )
  const c = await joinSite(t, 'c', { seeds: [b.group.address] })
  await waitUntil(() => c.group.members.length === 2, { what: 'c is a member' })
  assert.equal(c.group.twoSites, 'available')
  const back = await joinSite(t, 'a', { location: a.location, seeds: [b.group.address] })
  assert.equal((await back.group.stopped).reason, 'removed')
})

test('[B8c] without automatic elections nobody reigns before one is held; elect says how it ended', async (t) => {
  const [a, b, c] = (await groupOf(t, ['a', 'b', 'c'], { elections: false, folders: true })) as unknown as [
    GroupSite,
    GroupSite,
    GroupSite,
  ]
  await failsWith('INVALID_STATE', a.group.elect())
  assert.deepEqual(await b.group.elect(), { kind: 'other', master: 'a', term: a.group.term })
  await crash(a)
  await waitUntil(() => b.group.role === 'candidate' && c.group.role === 'candidate', { what: 'a is missed' })
  const result = await b.group.elect()
  assert.notEqual(result.kind, 'unavailable')
  const master = await settledMaster([b, c])
  assert.equal((await master.db.put('k', 'v')).acks, 2)
  await crash(master)
  const last = master === b ? c : b
  await waitUntil(() => last.group.role === 'candidate', { what: 'the second one is missed' })
  assert.deepEqual(await last.group.elect(), { kind: 'unavailable', reason: 'no-majority', have: 1, need: 2 })
})

for (const how of ['leave', 'close'] as const) {
  test(`[B8c] an election that nothing decides any more ends when the group is left (${how})`, async (t) => {
    const sites = await groupOf(t, ['a', 'b'], { elections: false, folders: true })
    const [a, b] = sites as unknown as Pair
    await crash(a)
    await waitUntil(() => b.group.role === 'candidate', { what: 'a is missed' })
    const election = failsWith('CLOSED', b.group.elect())
    await failsWith('INVALID_STATE', b.group.elect())
    if (how === 'leave') await b.group.leave()
    else await b.db.close()
    await election
  })
}

test('[B8c C7a] options of groups of two that make no sense are refused by name', async (t) => {
  for (const twoSites of ['else', {}, { preferredMaster: '' }, 1]) {
    await failsWith('OPTION_INVALID', joinSite(t, 'x', { twoSites: twoSites as never }))
  }
  await failsWith('OPTION_INVALID', joinSite(t, 'x', { elections: 'no' as never }))
})
