// What groups do when part of them is cut off, and when somebody comes who does not belong: typed errors and events,
// reads that go on, and nothing changed on disk.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { CoterieError } from '../../src/index.ts'
import {
  crash,
  eventsOf,
  type GroupSite,
  groupOf,
  joinSite,
  settledMaster,
  whenEqual,
  whenMembers,
  writeAnywhere,
} from '../support/groups.ts'
import { collect, failsWith, openAt, openMemory, watched } from '../support/sites.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

function others(sites: readonly GroupSite[], not: GroupSite): GroupSite[] {
  return sites.filter((site) => site !== not)
}

test('[E2] a master that is cut off steps down; its commits in doubt are lost, kept in a file, and their tokens say so on every site', async (t) => {
  const sites = await groupOf(t, ['a', 'b', 'c'], { folders: true, electionTimeoutMs: 800, heartbeatMs: 100 })
  const old = await settledMaster(sites)
  await old.db.put('before', 'the cut')
  await whenEqual(sites)
  old.net.cut()
  const inDoubt = Array.from({ length: 5 }, (_, i) => watched(old.db.put(`doubt${i}`, 'x')))
  await waitUntil(() => inDoubt.every((each) => each.isSettled), { what: 'the old master gives up' })
  const tokens = inDoubt.map(({ error }) => {
    assert.equal(error.code, 'OUTCOME_UNKNOWN')
    return (error.details as { token: string }).token
  })
  assert.equal(old.group.role, 'candidate')
  assert.deepEqual(
    eventsOf(old, 'steppedDown').map((event) => event.reason),
    ['no-majority'],
  )
  assert.equal(await old.db.outcome(tokens[0] as string), 'pending', 'alone it cannot know')
  assert.equal(await old.db.get('before'), 'the cut', 'reads go on')
  const left = others(sites, old)
  await writeAnywhere(left, 'after', 'the cut')
  await waitUntil(() => eventsOf(old, 'electionFailed').length > 0, { what: 'it has asked for an election' })
  const refused = await failsWith('NO_MASTER', old.db.put('k', 'v'))
  assert.deepEqual([refused.details.have, refused.details.need], [1, 2])
  old.net.heal()
  const master = await settledMaster(sites)
  assert.notEqual(master, old)
  await whenEqual([master, ...others(sites, master)])
  for (const site of sites) {
    for (const token of tokens) assert.equal(await site.db.outcome(token, { timeoutMs: 5000 }), 'lost')
  }
  const [rewound] = eventsOf(old, 'rewound')
  assert.equal(rewound?.transactions, 5)
  const kept = readFileSync(rewound?.file as string, 'utf8')
  for (let i = 0; i < 5; i++) assert.match(kept, new RegExp(`"doubt${i}"`))
})

test('commits in doubt that reached a replica are applied, and their tokens say so on every site', async (t) => {
  const sites = await groupOf(t, ['a', 'b', 'c'])
  const old = await settledMaster(sites)
  const left = others(sites, old)
  // The replicas get the records, and their acks do not come back: the master may not call them committed.
  const held = old.db.put('k', 'v', { acks: 5, ackTimeoutMs: 60_000 })
  const doubt = watched(held)
  await waitUntil(() => left.every(({ db }) => db.status().durableLsn === old.db.status().lastLsn), {
    what: 'both replicas have the record',
  })
  old.net.cut()
  await waitUntil(() => doubt.isSettled, { what: 'the old master gives up' })
  const { token } = doubt.error.details as { token: string }
  await writeAnywhere(left, 'after', 'the cut')
  old.net.heal()
  await settledMaster(sites)
  for (const { db } of sites) {
    assert.equal(await db.outcome(token, { timeoutMs: 5000 }), 'applied')
    assert.equal(await db.get('k'), 'v')
  }
})

test('a replica that is cut off and comes back disturbs nobody', async (t) => {
  // A busy machine must not look like a dead master: only who is cut off is quick to miss it.
  const patient = { electionTimeoutMs: 20_000, silenceTimeoutMs: 30_000, heartbeatMs: 50 }
  const [master, other] = (await groupOf(t, ['a', 'b'], patient)) as [GroupSite, GroupSite]
  const quick = { electionTimeoutMs: 200, heartbeatMs: 50 }
  const cut = await joinSite(t, 'c', { seeds: [master.group.address], ...quick })
  await whenMembers([master, other, cut], ['a', 'b', 'c'])
  const { term } = master.group
  cut.net.cut()
  await waitUntil(() => eventsOf(cut, 'electionFailed').length >= 3, { what: 'it has tried again and again' })
  assert.equal(cut.group.role, 'candidate')
  await master.db.put('k', 'v')
  cut.net.heal()
  await waitUntil(() => cut.group.role === 'replica', { what: 'it follows again' })
  await whenEqual([master, cut])
  assert.equal(master.group.term, term)
  assert.equal(eventsOf(master, 'steppedDown').length, 0)
})

test('[C3] acks decide what a commit waits for, in a group too', async (t) => {
  const sites = await groupOf(t, ['a', 'b', 'c'], { electionTimeoutMs: 1000 })
  const master = await settledMaster(sites)
  const [cut] = others(sites, master)
  const all = await master.db.put('k', 'v', { acks: 'all' })
  assert.equal(all.acks, 3)
  cut?.net.cut()
  const quorum = await master.db.put('k', 'w')
  assert.equal(quorum.acks, 2)
  const none = await master.db.put('k', 'x', { acks: 'none' })
  assert.ok(none.acks >= 1)
  await failsWith('OUTCOME_UNKNOWN', master.db.put('k', 'y', { acks: 'all', ackTimeoutMs: 100 }))
})

test('[C4] a group with long timeouts sits still; one with short ones elects soon', async (t) => {
  const slow = await groupOf(t, ['a', 'b', 'c'], { electionTimeoutMs: 60_000, silenceTimeoutMs: 60_000 })
  const calm = await settledMaster(slow)
  calm.net.cut()
  const fast = await groupOf(t, ['d', 'e', 'f'], { heartbeatMs: 20, electionTimeoutMs: 60 })
  const first = await settledMaster(fast)
  first.net.cut()
  await writeAnywhere(others(fast, first), 'k', 'v')
  assert.equal(calm.group.role, 'master', 'nobody has missed it yet')
  calm.net.heal()
})

test('[C4] timeouts that contradict each other, unknown options and bad addresses are refused by name', async (t) => {
  const db = await openMemory(t, { site: 'a' })
  await db.put('k', 'a record makes the id final')
  const listen = 'tcp://127.0.0.1:0'
  await failsWith('OPTION_INVALID', db.join({ listen, heartbeatMs: 200, electionTimeoutMs: 300 }))
  await failsWith('OPTION_INVALID', db.join({ listen, electionTimeoutMs: 300, silenceTimeoutMs: 200 }))
  await failsWith('OPTION_INVALID', db.join({ listen, priority: -1 }))
  await failsWith('OPTION_INVALID', db.join({ listen, site: 'b' }))
  await failsWith('OPTION_INVALID', db.join({ listen: 'tcp://0.0.0.0:0' }))
  await failsWith('OPTION_UNKNOWN', db.join({ listen, sites: 3 } as never))
  await failsWith('ADDRESS_INVALID', db.join({ listen: 'not an address' }))
  await failsWith('ADDRESS_INVALID', db.join({ listen, seeds: ['tcp://no-port'] }))
  await failsWith('ABORTED', db.join({ listen, signal: AbortSignal.abort() }))
  const other = await joinSite(t, 'b')
  await failsWith('ADDRESS_IN_USE', db.join({ listen: other.group.address }))
  assert.equal(db.status().role, 'standalone')
  assert.equal((await db.put('k', 'v')).acks, 1, 'nothing has changed')
})

test('one database is in one group at a time, and neither serves nor attaches meanwhile', async (t) => {
  const { db, group } = await joinSite(t, 'a')
  await failsWith('INVALID_STATE', db.join({ listen: 'tcp://127.0.0.1:0' }))
  await failsWith('INVALID_STATE', db.serve({ listen: 'tcp://127.0.0.1:0' }))
  await failsWith('INVALID_STATE', db.promote())
  await failsWith('INVALID_STATE', db.standalone())
  assert.equal(db.group, group)
  await group.leave()
  assert.equal(db.group, undefined)
})

test('[C8] a seed that does not resolve, or does not answer, is an event, and is tried again', async (t) => {
  const dead = await joinSite(t, 'probe')
  const { address } = dead.group
  await dead.db.close()
  const site = await joinSite(t, 'b', { seeds: ['tcp://no-such-host.invalid:1', address] })
  await waitUntil(() => new Set(eventsOf(site, 'seedFailed').map((each) => each.address)).size === 2, {
    what: 'both seeds have failed',
  })
  for (const { error } of eventsOf(site, 'seedFailed')) assert.equal(error.code, 'CONNECT_FAILED')
  assert.equal(site.group.role, 'candidate')
  await failsWith('NO_MASTER', site.db.put('k', 'v'))
  const a = await joinSite(t, 'a', { listen: address })
  await site.group.ready
  assert.equal(site.group.master?.site, a.id)
})

test('who never found its group and leaves is again what it was', async (t) => {
  const location = join(withTempFolder(t), 'a')
  const db = await openAt(t, location, { site: 'a' })
  await db.put('k', 'v')
  const group = await db.join({ listen: 'tcp://127.0.0.1:0', seeds: ['tcp://no-such-host.invalid:1'] })
  await failsWith('NO_MASTER', db.put('k', 'w'))
  await group.leave()
  await failsWith('ABORTED', group.ready)
  await db.put('k', 'w')
  await db.close()
  assert.equal(await (await openAt(t, location)).get('k'), 'w')
})

test('[C2] a site of another database is refused for good, and nothing of it is changed', async (t) => {
  const sites = await groupOf(t, ['a', 'b'])
  const master = await settledMaster(sites)
  const location = join(withTempFolder(t), 'x')
  const db = await openAt(t, location, { site: 'x' })
  await db.put('mine', 'own')
  const { lastLsn, databaseId } = db.status()
  const group = await db.join({ listen: 'tcp://127.0.0.1:0', seeds: [master.group.address] })
  await failsWith('FOREIGN_HISTORY', group.ready)
  const end = await group.stopped
  assert.equal(end.reason, 'refused')
  assert.equal(end.cause?.code, 'FOREIGN_HISTORY')
  assert.deepEqual([db.status().lastLsn, db.status().databaseId], [lastLsn, databaseId])
  assert.ok(eventsOf(master, 'siteRefused').some((event) => event.code === 'FOREIGN_HISTORY'))
  await db.put('mine', 'still')
  const group2 = await db.join({
    listen: 'tcp://127.0.0.1:0',
    seeds: [master.group.address],
    replace: true,
  })
  await group2.ready
  assert.equal(await db.get('mine'), undefined, 'on request it is set aside')
  assert.ok(db.status().aside.length > 0)
})

test('[C2] a member of another group is refused, and both groups go on', async (t) => {
  const [here] = await groupOf(t, ['a', 'b'])
  const [there] = await groupOf(t, ['c', 'd'])
  assert.ok(here !== undefined && there !== undefined)
  const { location, db } = there
  assert.equal(location, ':memory:')
  await there.group.leave()
  const again = await db.join({ listen: 'tcp://127.0.0.1:0', seeds: [here.group.address] })
  await waitUntil(() => here.events.some((event) => event.type === 'siteRefused'), {
    what: 'it was turned away',
  })
  await here.db.put('k', 'v')
  assert.equal(here.group.role, 'master')
  await again.leave()
})

test('[C2] two sites with one id: the second is told, and the first is not disturbed', async (t) => {
  const sites = await groupOf(t, ['a', 'b'])
  const master = await settledMaster(sites)
  const twin = await joinSite(t, 'b', { seeds: [master.group.address] })
  const error = await failsWith('SITE_WIPED', twin.group.ready)
  assert.match(error.message, /two sites have its id/)
  assert.equal((await twin.group.stopped).reason, 'refused')
  await twin.db.put('k', 'of its own')
  assert.equal((await master.db.put('k', 'v', { acks: 'all' })).acks, 2, 'the first b is still there')
  const rival = await joinSite(t, 'a', { seeds: [master.group.address] })
  const duplicate = await waitForRefusal(rival)
  assert.ok(['DUPLICATE_SITE', 'SITE_WIPED'].includes(duplicate.code), duplicate.code)
})

async function waitForRefusal(site: GroupSite): Promise<CoterieError> {
  await waitUntil(() => eventsOf(site, 'refused').length > 0, { what: `${site.id} was refused` })
  return eventsOf(site, 'refused')[0] as CoterieError
}

test('[C2] a site that lost its disk does not come back under its old id', async (t) => {
  const folder = withTempFolder(t)
  const sites = await groupOf(t, ['a', 'b', 'c'])
  const master = await settledMaster(sites)
  const [gone] = others(sites, master)
  assert.ok(gone !== undefined)
  await gone.db.close()
  const location = join(folder, 'new')
  const wiped = await joinSite(t, gone.id, { location, seeds: [master.group.address] })
  await failsWith('SITE_WIPED', wiped.group.ready)
  await wiped.db.close()
  const fresh = await joinSite(t, 'z', { seeds: [master.group.address] })
  await fresh.group.ready
  await whenMembers([master, fresh], ['a', 'b', 'c', 'z'])
})

test('[C2] a member that is removed is told, stops trying, stays readable, and does not come back', async (t) => {
  const sites = await groupOf(t, ['a', 'b', 'c'])
  const master = await settledMaster(sites)
  const [one, two] = others(sites, master)
  assert.ok(one !== undefined && two !== undefined)
  await master.db.put('k', 'v')
  await failsWith('INVALID_STATE', master.group.removeMember(master.id))
  await failsWith('INVALID_STATE', master.group.removeMember('nobody'))
  await failsWith('INVALID_STATE', one.group.removeMember(two.id))
  await master.group.removeMember(one.id)
  const end = await one.group.stopped
  assert.equal(end.reason, 'removed')
  assert.equal(end.cause?.code, 'MEMBER_REMOVED')
  assert.equal(eventsOf(one, 'removed').length, 1)
  assert.equal(await one.db.get('k'), 'v')
  await failsWith('MEMBER_REMOVED', one.db.put('k', 'w'))
  await whenMembers([master, two], [master.id, two.id])
  assert.deepEqual(
    eventsOf(two, 'memberRemoved').map((event) => event.site),
    [one.id],
  )
  const again = await one.db.join({ listen: 'tcp://127.0.0.1:0', seeds: [master.group.address] })
  await failsWith('MEMBER_REMOVED', again.ready)
  assert.equal((await again.stopped).reason, 'removed')
})

test('[C2] a member that was removed while it was away is told when it comes back', async (t) => {
  const sites = await groupOf(t, ['a', 'b', 'c'], { folders: true })
  const master = await settledMaster(sites)
  const [away, stays] = others(sites, master)
  assert.ok(away !== undefined && stays !== undefined)
  await away.db.close()
  await master.group.removeMember(away.id)
  const back = await joinSite(t, away.id, { location: away.location, seeds: [master.group.address] })
  await failsWith('MEMBER_REMOVED', back.group.ready)
  assert.equal((await back.group.stopped).reason, 'removed')
})

test('[C2] members are data of the database: they survive, and a new address is noted', async (t) => {
  const sites = await groupOf(t, ['a', 'b', 'c'], { folders: true })
  const addresses = new Map(sites.map((site) => [site.id, site.group.address]))
  for (const site of sites) await site.db.close()
  const back: GroupSite[] = []
  // Only one of them has kept its address: the others find each other through it.
  const seed = addresses.get('a') as string
  for (const { id, location } of sites) {
    const listen = id === 'a' ? seed : 'tcp://127.0.0.1:0'
    back.push(await joinSite(t, id, { location, listen, seeds: [seed] }))
  }
  await settledMaster(back)
  await waitUntil(
    () =>
      back.every((site) =>
        back.every(({ id, group }) =>
          site.group.members.some((member) => member.site === id && member.address === group.address),
        ),
      ),
    { what: 'all know the new addresses' },
  )
})

test('[C2] a change of members that only its master has logged is done or undone, never half', async (t) => {
  const sites = await groupOf(t, ['a', 'b', 'c'], { electionTimeoutMs: 800, heartbeatMs: 100 })
  const old = await settledMaster(sites)
  const left = others(sites, old)
  await whenEqual(sites)
  old.net.cut()
  const removed = watched(old.group.removeMember(left[0]?.id as string))
  await waitUntil(() => removed.isSettled, { what: 'the old master gives up' })
  assert.equal(removed.error.code, 'OUTCOME_UNKNOWN')
  assert.equal(old.group.members.length, 2, 'in force as soon as it is in the log')
  await writeAnywhere(left, 'after', 'the cut')
  old.net.heal()
  await settledMaster(sites)
  await whenMembers(sites, ['a', 'b', 'c'])
})

test('[C2] a site that was added by a master alone gives its vote, though it does not know that it is a member', async (t) => {
  const a = await joinSite(t, 'a', { electionTimeoutMs: 800, heartbeatMs: 100 })
  const b = await joinSite(t, 'b', {
    seeds: [a.group.address],
    electionTimeoutMs: 800,
    heartbeatMs: 100,
  })
  await waitUntil(() => a.db.site.replicas.some((replica) => replica.inStep), { what: 'b is in step' })
  // Whether the record of it has reached b by now is a matter of chance; both must end well.
  b.net.cut()
  await waitUntil(() => a.group.members.length === 2, { what: 'a has logged b as a member' })
  await waitUntil(() => a.group.role === 'candidate', { what: 'a cannot go on alone' })
  b.net.heal()
  await writeAnywhere([a, b], 'k', 'v')
  await whenMembers([a, b], ['a', 'b'])
})

test('without a majority nobody is elected: reads go on, writes say why not, and it ends with the second site', async (t) => {
  const sites = await groupOf(t, ['a', 'b', 'c'], { folders: true })
  const master = await settledMaster(sites)
  await master.db.put('k', 'v')
  const [second, third] = others(sites, master)
  assert.ok(second !== undefined && third !== undefined)
  await whenEqual(sites)
  await crash(second)
  await crash(third)
  await waitUntil(() => eventsOf(master, 'electionFailed').length > 0, { what: 'an election has failed' })
  const [failed] = eventsOf(master, 'electionFailed')
  assert.deepEqual(failed, { reason: 'no-majority', have: 1, need: 2 })
  const error = await failsWith('NO_MASTER', master.db.put('k', 'w'))
  assert.match(error.message, /1 of its members are reached, 2 are needed/)
  assert.equal(await master.db.get('k'), 'v')
  const back = await joinSite(t, second.id, { location: second.location, seeds: [master.group.address] })
  await writeAnywhere([master, back], 'k', 'w')
})

test('a group in which nobody may become master says so', async (t) => {
  const sites = await groupOf(t, ['a', 'b', 'c'], { priority: 0, folders: true })
  const master = await settledMaster(sites)
  assert.equal(master.id, 'a', 'who founds a group reigns, whatever its priority')
  await crash(master)
  const left = others(sites, master)
  await waitUntil(
    () =>
      left.some((site) =>
        eventsOf(site, 'electionFailed').some((each) => each.reason === 'nobody-electable'),
      ),
    { what: 'an election has failed because nobody may be elected' },
  )
  for (const site of left) {
    await waitUntil(() => site.group.role === 'candidate', { what: 'it knows no master' })
    const error = await failsWith('NO_MASTER', site.db.put('k', 'v'))
    assert.equal(error.retryable, true)
  }
  for (const { db } of left) assert.equal((await collect(db.keys())).length, 0, 'reads go on')
})

test('the highest priority among equals is elected', async (t) => {
  const a = await joinSite(t, 'a')
  const rest: GroupSite[] = []
  for (const [id, priority] of [
    ['b', 10],
    ['c', 200],
  ] as const) {
    rest.push(await joinSite(t, id, { seeds: [a.group.address], priority }))
  }
  await whenMembers([a, ...rest], ['a', 'b', 'c'])
  await whenEqual([a, ...rest])
  await crash(a)
  assert.equal((await settledMaster(rest)).id, 'c')
})

test('[E1 C8] any site shows the whole group, and how many sites could be lost', async (t) => {
  const sites = await groupOf(t, ['a', 'b', 'c'])
  const master = await settledMaster(sites)
  for (let i = 0; i < 20; i++) await master.db.put(`k${i}`, 'v')
  await whenEqual(sites)
  for (const { db, id } of sites) {
    await waitUntil(() => db.status().canLose === 'can lose: 1 site, 0 commits', {
      what: `site ${id} says what can be lost`,
    })
    const status = db.status().group
    assert.ok(status !== undefined)
    assert.deepEqual(status.canLose, { sites: 1, commits: 0 })
    assert.deepEqual(
      status.sites.map((each) => each.site),
      ['a', 'b', 'c'],
    )
    await waitUntil(
      () => (db.status().group?.sites ?? []).every((each) => each.lastLsn === master.db.status().lastLsn),
      { what: `site ${id} has heard how far all are` },
    )
    for (const each of db.status().group?.sites ?? []) {
      assert.equal(each.state, each.site === master.id ? 'master' : 'replica')
      assert.equal(each.lagRecords, 0)
      assert.ok(each.isMember && each.linked && (each.heardMs ?? -1) >= 0)
    }
  }
  assert.ok((master.group.sites.find((each) => each.isSelf)?.ackMs ?? 0) > 0, 'commits were measured')
  const [lost, stays] = others(sites, master)
  assert.ok(lost !== undefined && stays !== undefined)
  await crash(lost)
  for (const { db } of [master, stays]) {
    await waitUntil(
      () => db.status().canLose === 'can lose: 0 sites; 2 of 3 members are heard, 2 are needed',
      { what: 'the group is at its last' },
    )
    assert.equal(db.status().group?.sites.find((each) => each.site === lost.id)?.state, 'away')
  }
  assert.ok(eventsOf(master, 'siteLost').some((event) => event.site === lost.id))
})
