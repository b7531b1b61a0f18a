// Groups that look after themselves: how they come about, who is master, and what happens when the master goes.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Host } from '../../src/env/host.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { CoterieError, isCoterieError, restore } from '../../src/index.ts'
import { atEnd } from '../support/at-end.ts'
import {
  anyPort,
  crash,
  eventsOf,
  freeAddresses,
  groupOf,
  joinSite,
  patient,
  settledMaster,
  whenEqual,
  whenMembers,
  whenReady,
  writeAnywhere,
} from '../support/groups.ts'
import { failsWith, openAt, openMemory } from '../support/sites.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

test('[C1] a site without seeds founds a group, and is its master and only member at once', async (t) => {
  const { db, group } = await joinSite(t, 'a')
  assert.equal(group.role, 'master')
  assert.deepEqual(
    group.members.map((member) => [member.site, member.address]),
    [['a', group.address]],
  )
  await whenReady(group)
  assert.equal((await db.put('k', 'v')).term, group.term)
  assert.equal(db.status().group?.role, 'master')
})

test('[C1] an existing database founds a group and keeps its rows, which the others get', async (t) => {
  const db = await openMemory(t, { site: 'old' })
  await db.put('before', 'the group')
  const group = await db.join({ ...patient, listen: anyPort })
  const other = await joinSite(t, 'new', { ...patient, seeds: [group.address] })
  await whenReady(other.group)
  assert.equal(await other.db.get('before'), 'the group')
})

test('[C1] sites that all name each other found one group: the smallest id founds', async (t) => {
  // Their addresses must be known beforehand, as in a file of settings.
  const ports = await freeAddresses(3)
  const sites = await Promise.all(
    ['c', 'b', 'a'].map((id, i) => joinSite(t, id, { ...patient, listen: ports[i] as string, seeds: ports })),
  )
  await whenMembers(sites, ['a', 'b', 'c'])
  await whenReady(...sites.map((site) => site.group))
  assert.equal((await settledMaster(sites)).id, 'a')
})

test('[C1] of sites that name each other the one that has data founds', async (t) => {
  const ports = await freeAddresses(2)
  const b = await openMemory(t, { site: 'b' })
  await b.put('k', 'of b')
  const groupB = await b.join({ ...patient, listen: ports[1] as string, seeds: ports })
  const a = await joinSite(t, 'a', { ...patient, listen: ports[0] as string, seeds: ports })
  await whenReady(a.group)
  assert.equal(a.group.master?.site, 'b')
  assert.equal(await a.db.get('k'), 'of b')
  await whenReady(groupB)
})

test('[C1] a seed that has dialled before it was dialled has answered, too: the one that has data founds', async (t) => {
  const ports = await freeAddresses(2)
  const real = nodeHost()
  let mayDial = false
  const host: Host = {
    ...real,
    streams: {
      listen: (options, onStream) => real.streams.listen(options, onStream),
      connect: async (options) => {
        if (!mayDial) throw new CoterieError('CONNECT_FAILED', 'nothing goes out yet')
        return await real.streams.connect(options)
      },
    },
  }
  const b = await openMemory(t, { site: 'b', host })
  await b.put('k', 'of b')
  const groupB = await b.join({ ...patient, listen: ports[1] as string, seeds: ports })
  const a = await joinSite(t, 'a', { ...patient, listen: ports[0] as string, seeds: ports })
  await waitUntil(() => groupB.sites.some((site) => site.site === 'a' && site.linked), {
    what: 'a has dialled b',
  })
  // Of two links one would be given up, so b never dials a now.
  mayDial = true
  await whenReady(a.group, groupB)
  assert.equal(a.group.master?.site, 'b')
})

test('[C1] start: replica never founds and is never elected; start: master founds although it has seeds', async (t) => {
  const ports = await freeAddresses(2)
  const a = await joinSite(t, 'a', { ...patient, listen: ports[0] as string, seeds: ports, start: 'replica' })
  const b = await joinSite(t, 'b', { ...patient, listen: ports[1] as string, seeds: ports, start: 'master' })
  await whenReady(b.group, a.group)
  await whenMembers([a, b], ['a', 'b'])
  assert.equal(b.group.role, 'master')
  assert.equal(a.group.priority, 0)
  await failsWith('TRANSFER_FAILED', b.group.transfer('a'))
  await failsWith('INVALID_STATE', a.group.takeOver())
})

test('[C1 C2] a crash between the first reign and the first list of members ends as if nothing had begun', async (t) => {
  const location = join(withTempFolder(t), 'a')
  const { db, group } = await joinSite(t, 'a', { location })
  await db.put('k', 'v')
  await group.leave()
  await db.close()
  // As such a crash leaves it: a term record of a site that runs in a group, and no members.
  const other = join(withTempFolder(t), 'b')
  const half = await openAt(t, other, { site: 'b' })
  await half.site.roles.joinGroup({ address: 'tcp://127.0.0.1:1' })
  await half.site.roles.reign('master', { elections: true })
  await half.close()
  const again = await joinSite(t, 'b', { location: other })
  assert.equal(again.group.role, 'master')
  assert.deepEqual(
    again.group.members.map((member) => member.site),
    ['b'],
  )
})

test('[C1] a database that has no record yet takes the id that it joins with, for ever', async (t) => {
  const location = join(withTempFolder(t), 'x')
  const db = await openAt(t, location)
  const group = await db.join({ site: 'x', listen: anyPort })
  assert.equal(db.siteId, 'x')
  assert.equal(group.master?.site, 'x')
  await db.put('k', 'v')
  await group.leave()
  await failsWith('OPTION_INVALID', db.join({ site: 'y', listen: anyPort }))
  await db.close()
  const again = await openAt(t, location)
  assert.equal(again.siteId, 'x')
})

test('[C1] who was alone in its group reigns again when it comes back', async (t) => {
  const location = join(withTempFolder(t), 'a')
  const first = await joinSite(t, 'a', { location })
  await first.db.put('k', 'v')
  const { term } = first.group
  await first.db.close()
  const reads = await openAt(t, location)
  assert.equal(await reads.get('k'), 'v')
  await failsWith('NO_MASTER', reads.put('k', 'w'))
  await failsWith('INVALID_STATE', reads.serve({ listen: anyPort }))
  await failsWith('INVALID_STATE', reads.promote())
  await reads.close()
  const again = await joinSite(t, 'a', { location })
  await whenReady(again.group)
  assert.equal(again.group.role, 'master')
  assert.ok(again.group.term > term)
  assert.equal(await again.db.get('k'), 'v')
})

test('when the master is gone another is elected, and everything acknowledged is there', async (t) => {
  const sites = await groupOf(t, ['a', 'b', 'c'], { ...patient, folders: true })
  const old = await settledMaster(sites)
  for (let i = 0; i < 50; i++) await old.db.put(`k${i}`, `${i}`)
  await crash(old)
  const left = sites.filter((site) => site !== old)
  const receipt = await writeAnywhere(left, 'after', 'the crash')
  const master = await settledMaster(left)
  assert.equal(receipt.term, master.group.term)
  for (let i = 0; i < 50; i++) assert.equal(await master.db.get(`k${i}`), `${i}`)
  const back = await joinSite(t, old.id, {
    ...patient,
    location: old.location,
    seeds: left.map((site) => site.group.address),
  })
  await whenReady(back.group)
  assert.equal(back.group.role, 'replica')
  await whenEqual([master, back])
})

test('[C8] a new master is told before it is synchronised with, on every site', async (t) => {
  const sites = await groupOf(t, ['a', 'b', 'c'], patient)
  for (let turn = 0; turn < 3; turn++) {
    const master = await settledMaster(sites)
    const heir = sites.find((site) => site !== master)
    await master.group.transfer(heir?.id as string)
    await settledMaster(sites)
  }
  for (const site of sites) {
    const order = site.events.map((event) => event.type).filter((type) => /^(newMaster|synced)$/.test(type))
    order.forEach((type, i) => {
      if (type === 'synced') assert.equal(order[i - 1], 'newMaster', order.join(' '))
    })
    const terms = eventsOf(site, 'newMaster').map((event) => event.term)
    assert.deepEqual(
      terms,
      [...terms].sort((x, y) => x - y),
      'terms only grow',
    )
  }
})

test('a transfer hands over at an exact LSN while writers go on, and no commit is lost or in doubt', async (t) => {
  const sites = await groupOf(t, ['a', 'b', 'c'], patient)
  const old = await settledMaster(sites)
  let isWriting = true
  // Else they would go on for ever where the transfer fails, and the process with them.
  atEnd(t, () => {
    isWriting = false
  })
  const receipts: { readonly key: string; readonly lsn: number; readonly term: number }[] = []
  const problems: string[] = []
  const writers = Array.from({ length: 8 }, async (_, writer) => {
    for (let i = 0; isWriting; i++) {
      const key = `w${writer}.${i}`
      try {
        const { lsn, term } = await old.db.put(key, key)
        receipts.push({ key, lsn, term })
      } catch (error) {
        assert.ok(isCoterieError(error), String(error))
        problems.push(error.code)
        await new Promise((resolve) => setTimeout(resolve, 2))
      }
    }
  })
  await waitUntil(() => receipts.length > 50, { what: 'writers are at work' })
  const heir = sites.find((site) => site !== old)
  const done = await old.group.transfer(heir?.id as string)
  isWriting = false
  await Promise.all(writers)
  assert.equal(done.site, heir?.id)
  assert.ok(receipts.every(({ lsn, term }) => term < done.term && lsn <= done.lsn))
  assert.deepEqual(
    new Set(problems.filter((code) => code !== 'NO_MASTER')),
    new Set(problems.includes('NOT_MASTER') ? ['NOT_MASTER'] : []),
  )
  await whenEqual([heir ?? old, ...sites.filter((site) => site !== heir)])
  for (const { key } of receipts) assert.equal(await heir?.db.get(key), key)
})

test('a takeover is asked for on a replica; the old master follows', async (t) => {
  const sites = await groupOf(t, ['a', 'b', 'c'], patient)
  const old = await settledMaster(sites)
  const heir = sites.find((site) => site !== old)
  assert.ok(heir !== undefined)
  await old.db.put('k', 'v')
  const result = await heir.db.takeOver()
  assert.equal(heir.group.role, 'master')
  assert.equal(result.lsn, old.db.status().lastLsn)
  assert.equal(await heir.db.get('k'), 'v')
  assert.equal((await settledMaster(sites)).id, heir.id)
  await failsWith('INVALID_STATE', heir.group.takeOver())
  await failsWith('INVALID_STATE', old.group.transfer(heir.id))
  await failsWith('INVALID_STATE', heir.group.transfer(heir.id))
  await failsWith('TRANSFER_FAILED', heir.group.transfer('nobody'))
  assert.equal(heir.group.role, 'master', 'a transfer that fails changes nothing')
})

test('a master that gives up lets the others elect', async (t) => {
  const sites = await groupOf(t, ['a', 'b', 'c'], patient)
  const old = await settledMaster(sites)
  const { term } = old.group
  old.group.stepDown()
  await waitUntil(() => sites.some((site) => site.group.role === 'master' && site.group.term > term), {
    what: 'another term has its master',
  })
  const master = await settledMaster(sites)
  assert.deepEqual(
    eventsOf(old, 'steppedDown').map((event) => event.reason),
    ['asked'],
  )
  await master.db.put('k', 'v')
})

test('a master that leaves, or is closed, hands over first', async (t) => {
  const sites = await groupOf(t, ['a', 'b', 'c'], patient)
  const first = await settledMaster(sites)
  await first.db.put('k', 'v')
  await first.group.leave()
  assert.deepEqual((await first.group.stopped).reason, 'left')
  assert.equal(eventsOf(first, 'handedOver').length, 1)
  assert.equal(await first.db.get('k'), 'v', 'the database stays open')
  await failsWith('NO_MASTER', first.db.put('k', 'w'))
  const left = sites.filter((site) => site !== first)
  const second = await settledMaster(left)
  await second.db.put('k', 'x')
  await second.db.close()
  assert.equal(eventsOf(second, 'handedOver').length, 1)
})

test('who has left can join again, or go on alone', async (t) => {
  const sites = await groupOf(t, ['a', 'b', 'c'], patient)
  const master = await settledMaster(sites)
  const one = sites.find((site) => site !== master)
  assert.ok(one !== undefined)
  await one.group.leave()
  await master.db.put('k', 'v')
  const again = await one.db.join({ ...patient, listen: anyPort, seeds: [master.group.address] })
  await whenReady(again)
  await waitUntil(async () => (await one.db.get('k')) === 'v', { what: 'it has what it missed' })
  await failsWith('INVALID_STATE', one.db.standalone())
  await again.leave()
  await one.db.standalone()
  await one.db.put('k', 'alone')
  const anew = await one.db.join({ listen: anyPort })
  assert.equal(anew.role, 'master', 'what is left of a group can begin a new one')
  assert.deepEqual(
    anew.members.map((member) => member.site),
    [one.id],
  )
  assert.equal(await one.db.get('k'), 'alone')
})

test('[C1] a backup of a group that is restored elsewhere founds a group of its own', async (t) => {
  const [master] = await groupOf(t, ['a', 'b'], patient)
  assert.ok(master !== undefined)
  await master.db.put('k', 'v')
  const folder = withTempFolder(t)
  await master.db.backup(join(folder, 'backup'))
  await restore(join(folder, 'backup'), join(folder, 'r'), { site: 'r' })
  const restored = await joinSite(t, 'r', { location: join(folder, 'r') })
  assert.equal(restored.group.role, 'master')
  assert.deepEqual(
    restored.group.members.map((member) => member.site),
    ['r'],
  )
  assert.equal(await restored.db.get('k'), 'v')
})

test('[C8] a writer on a replica learns where the master is', async (t) => {
  const sites = await groupOf(t, ['a', 'b'], patient)
  const master = await settledMaster(sites)
  const replica = sites.find((site) => site !== master)
  const error = await failsWith('NOT_MASTER', replica?.db.put('k', 'v') as Promise<unknown>)
  assert.deepEqual(error.details, { master: master.group.address, site: master.id })
})

test('[C8] whenMaster waits, gives up in time, and can be aborted', async (t) => {
  const [seed = ''] = await freeAddresses(1)
  const { group } = await joinSite(t, 'b', { seeds: [seed], start: 'replica' })
  assert.equal(group.role, 'candidate')
  await failsWith('NO_MASTER', group.whenMaster({ timeoutMs: 30 }))
  const stop = new AbortController()
  const waiting = group.whenMaster({ signal: stop.signal })
  stop.abort()
  await failsWith('ABORTED', waiting)
  const found = group.whenMaster()
  const a = await joinSite(t, 'a', { listen: seed })
  assert.deepEqual(await found, { site: 'a', term: a.group.term, address: a.group.address })
})
