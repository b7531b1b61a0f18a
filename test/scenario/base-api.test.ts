// Replication over an application's own network, as an application uses it.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { utf8Decode, utf8Encode } from '../../src/base/bytes.ts'
import { isCoterieError, open } from '../../src/index.ts'
import { AppNet, type AppSite } from '../support/app-net.ts'
import { atEnd } from '../support/at-end.ts'
import { waitUntil } from '../support/wait-until.ts'

const three = { sites: 3 }

async function group(net: AppNet, names: readonly string[] = ['a', 'b', 'c']): Promise<AppSite[]> {
  const sites = []
  for (const name of names) sites.push(await net.site(name, three))
  const [first, ...others] = sites as [AppSite, ...AppSite[]]
  await first.rep.start('master')
  for (const other of others) await other.rep.start('replica')
  await waitUntil(() => others.every((each) => each.rep.stats().synced), { what: 'the replicas have all' })
  return sites
}

test('[B1 B2 B5] a master and its replicas replicate over any network that carries bytes', async (t) => {
  const net = new AppNet(t, 1)
  const [a, b, c] = (await group(net)) as [AppSite, AppSite, AppSite]
  const receipt = await a.db.put('city', 'Jakarta')
  assert.ok(receipt.acks >= 1)
  await waitUntil(() => b.db.getSync('city') === 'Jakarta' && c.db.getSync('city') === 'Jakarta', {
    what: 'both read it',
  })
  assert.equal(b.rep.master, 'a')
  await assert.rejects(b.db.put('city', 'Bandung'), (error) => isCoterieError(error, 'NOT_MASTER'))
  const live = net.sent.filter(({ flags }) => flags.permanent && flags.lsn === receipt.lsn)
  assert.ok(live.length >= 2, 'the record went to both, as permanent')
  assert.ok(live.every(({ flags, rec }) => flags.noBuffer && rec.length > 0))
})

test('[B3] isPerm says what is durable here, newSite what a site says of itself', async (t) => {
  const net = new AppNet(t, 2)
  const a = await net.site('a', three)
  const b = await net.site('b', three)
  await a.rep.start('master')
  await b.rep.start('replica', { data: utf8Encode('rack 7') })
  await waitUntil(() => b.rep.stats().synced, { what: 'b has all' })
  await a.db.put('x', '1')
  await waitUntil(() => b.results.some(({ result }) => result.kind === 'isPerm' && result.lsn === 2), {
    what: 'isPerm',
  })
  for (const { result, durableLsn } of b.results) {
    if (result.kind === 'isPerm') assert.ok(result.lsn <= durableLsn, 'never before the sync')
  }
  const met = a.results.flatMap(({ result }) => (result.kind === 'newSite' ? [result] : []))
  assert.deepEqual(
    met.map(({ site, data }) => [site, utf8Decode(data)]),
    [['b', 'rack 7']],
  )
})

test('[B6] the application holds the elections: who wins begins its reign, and the others follow', async (t) => {
  const net = new AppNet(t, 3)
  const [a, b, c] = (await group(net)) as [AppSite, AppSite, AppSite]
  await a.db.put('x', '1')
  await waitUntil(() => [b, c].every(({ rep }) => rep.stats().lastLsn === 2), { what: 'both have it' })
  assert.deepEqual(await b.rep.elect(), { kind: 'other', master: 'a', term: 1 }, 'a master is heard')
  net.cut('a')
  await waitUntil(() => b.rep.master === undefined && c.rep.master === undefined, {
    what: 'nobody hears the master',
  })
  const [ofB, ofC] = await Promise.all([b.rep.elect(), c.rep.elect()])
  const winners = [ofB, ofC].filter(({ kind }) => kind === 'elected')
  assert.equal(winners.length, 1, JSON.stringify([ofB, ofC]))
  const [winner, other] = ofB.kind === 'elected' ? [b, c] : [c, b]
  await winner.rep.start('master')
  await winner.db.put('x', '2')
  await waitUntil(() => other.db.getSync('x') === '2', { what: 'the other one follows' })
  net.heal('a')
  await waitUntil(() => a.rep.role === 'replica' && a.db.getSync('x') === '2', {
    what: 'the old master comes back',
  })
  assert.ok(
    a.results.some(({ result }) => result.kind === 'dupMaster'),
    'and was told that it is master no more',
  )
})

test('[B6] an election that cannot be won says why', async (t) => {
  const net = new AppNet(t, 4)
  const [a, b, c] = (await group(net)) as [AppSite, AppSite, AppSite]
  net.cut('a')
  net.cut('c')
  await waitUntil(() => b.rep.master === undefined, { what: 'b is alone' })
  assert.deepEqual(await b.rep.elect(), { kind: 'unavailable', reason: 'no-majority', have: 1, need: 2 })
  await assert.rejects(b.rep.elect({ sites: 3, votes: 4 }), (error) =>
    isCoterieError(error, 'OPTION_INVALID'),
  )
  const aborting = new AbortController()
  const waiting = b.rep.elect({ signal: aborting.signal })
  await assert.rejects(b.rep.elect(), (error) => isCoterieError(error, 'INVALID_STATE'))
  aborting.abort()
  await assert.rejects(waiting, (error) => isCoterieError(error, 'ABORTED'))
  assert.equal(a.rep.role, 'master')
  await assert.rejects(a.rep.elect(), (error) => isCoterieError(error, 'INVALID_STATE'))
  assert.equal(c.rep.role, 'replica')
})

test('[B3 B6] another site that looks for a master asks for an election', async (t) => {
  const net = new AppNet(t, 5)
  const [, b, c] = (await group(net)) as [AppSite, AppSite, AppSite]
  net.cut('a')
  await waitUntil(() => b.rep.master === undefined && c.rep.master === undefined, {
    what: 'nobody hears the master',
  })
  const result = await b.rep.elect()
  assert.ok(c.results.some(({ result: each }) => each.kind === 'holdElection'))
  assert.ok(['elected', 'unavailable'].includes(result.kind))
})

test('[B8a B9 B15a] a replica that is told to wait follows a new master only after sync()', async (t) => {
  const net = new AppNet(t, 6)
  const a = await net.site('a', { sites: 2, acks: 'none' })
  const b = await net.site('b', { sites: 2, delaySync: true })
  const delayed: string[] = []
  b.rep.on('syncDelayed', ({ site }) => delayed.push(site))
  await a.rep.start('master')
  await b.rep.start('replica')
  await waitUntil(() => delayed.length > 0, { what: 'b waits' })
  await a.db.put('x', '1')
  assert.equal(b.rep.stats().lastLsn, 0)
  b.rep.sync()
  await waitUntil(() => b.db.getSync('x') === '1', { what: 'b follows' })
})

test('[B7 B8a] what the master lacks, or does not have any more, is refused where the settings say so', async (t) => {
  const net = new AppNet(t, 7)
  const a = await net.site('a', { sites: 2, acks: 'none' })
  const b = await net.site('b', { sites: 2, autoInit: false })
  const failures: string[] = []
  b.rep.on('joinFailed', ({ code }) => failures.push(code))
  await a.rep.start('master')
  await a.db.put('x', '1')
  await b.rep.start('replica')
  await waitUntil(
    () => b.results.some(({ result }) => result.kind === 'joinFailure' && result.code === 'SNAPSHOT_REFUSED'),
    { what: 'b does not take a snapshot' },
  )
  assert.equal(b.rep.stats().lastLsn, 0)
  b.rep.configure({ autoInit: true })
  assert.equal(b.rep.config.autoInit, true)
  b.rep.sync()
  await waitUntil(() => b.db.getSync('x') === '1', { what: 'now it does' })
})

test('[B8a] a tail that the new master does not have is kept where nothing may be undone', async (t) => {
  const net = new AppNet(t, 8)
  const [a, b, c] = (await group(net)) as [AppSite, AppSite, AppSite]
  a.rep.configure({ autoRewind: false })
  await a.db.put('x', '1')
  await waitUntil(() => [b, c].every(({ rep }) => rep.stats().lastLsn === 2), { what: 'both have it' })
  net.cut('a')
  const lost = a.db.put('x', 'of a alone', { acks: 'none' })
  await lost
  await waitUntil(() => b.rep.master === undefined && c.rep.master === undefined, {
    what: 'nobody hears the master',
  })
  const ofB = await b.rep.elect()
  const winner = ofB.kind === 'elected' ? b : c
  if (ofB.kind !== 'elected') assert.equal((await c.rep.elect()).kind, 'elected')
  await winner.rep.start('master')
  await winner.db.put('x', '2')
  net.heal('a')
  await waitUntil(() => a.results.some(({ result }) => result.kind === 'wouldRewind'), { what: 'a says so' })
  const would = a.results.find(({ result }) => result.kind === 'wouldRewind')?.result
  assert.deepEqual(would, { kind: 'wouldRewind', lsn: 2 })
  assert.equal(a.db.getSync('x'), 'of a alone')
  a.rep.configure({ autoRewind: true })
  a.rep.sync()
  await waitUntil(() => a.db.getSync('x') === '2', { what: 'and then it may' })
})

test('[B14] events say what happens, newMaster before synced', async (t) => {
  const net = new AppNet(t, 10)
  const a = await net.site('a', { sites: 2 })
  const b = await net.site('b', { sites: 2 })
  const told: string[] = []
  for (const { name, rep } of [a, b]) rep.onAny((event) => told.push(`${name} ${event}`))
  await a.rep.start('master')
  await b.rep.start('replica')
  await waitUntil(() => told.includes('b synced'), { what: 'b is in step' })
  const ofB = told.filter((each) => each.startsWith('b ') && !each.endsWith('syncProgress'))
  assert.deepEqual(ofB, [
    'b newSite',
    'b newMaster',
    'b replica',
    'b syncBegin',
    'b snapshotDone',
    'b synced',
  ])
  assert.deepEqual(
    told.filter((each) => /^a (newMaster|master)$/.test(each)),
    ['a newMaster', 'a master'],
  )
  await a.rep.close()
  await waitUntil(() => told.includes('a closed'), { what: 'it has closed' })
})

test('[B4] wrong use is an error that says which', async (t) => {
  const db = await open(':memory:', { site: 'a' })
  atEnd(t, () => db.close())
  const send = (): void => undefined
  const cases: readonly [string, object, RegExp][] = [
    ['no send', { site: 'a' }, /needs 'send'/],
    ['send is none', { site: 'a', send: 7 }, /'send' must be a function/],
    ['no site', { send }, /needs 'site'/],
    ['an unknown option', { site: 'a', send, nsites: 3 }, /no option 'nsites'/],
    ['sites', { site: 'a', send, sites: 0 }, /'sites' must be a whole number/],
    ['rerequest', { site: 'a', send, rerequest: { minMs: 9, maxMs: 8 } }, /'rerequest' must be/],
  ]
  for (const [what, options, message] of cases) {
    await assert.rejects(db.replication(options as never), { message }, what)
  }
  const rep = await db.replication({ site: 'a', send })
  await assert.rejects(db.replication({ site: 'a', send }), (error) => isCoterieError(error, 'INVALID_STATE'))
  await assert.rejects(db.serve({ listen: '127.0.0.1:0' }), (error) => isCoterieError(error, 'INVALID_STATE'))
  await assert.rejects(db.join({ listen: '127.0.0.1:0' }), (error) => isCoterieError(error, 'INVALID_STATE'))
  const message = Uint8Array.of(1)
  await assert.rejects(rep.processMessage(message, undefined, 'b'), /call start\(\) first/)
  await rep.start('replica')
  await assert.rejects(rep.processMessage(new Uint8Array(), undefined, 'b'), /control is empty/)
  await assert.rejects(rep.processMessage('x' as never, undefined, 'b'), /control is bytes/)
  await assert.rejects(rep.processMessage(message, 'x' as never, 'b'), /rec is bytes/)
  await assert.rejects(rep.processMessage(message, undefined, 'all'), /'all' is no site's address/)
  await assert.rejects(rep.processMessage(message, undefined, undefined as never), /from is the address/)
  assert.equal(
    (await rep.processMessage(message, undefined, 'b')).kind,
    'ignore',
    'what is no message harms nobody',
  )
  await assert.rejects(rep.elect(), /needs 'sites'/)
  await assert.rejects(rep.start('client' as never), /the role must be/)
  assert.throws(() => rep.configure({ send } as never), /no option 'send'/)
  await db.close()
  await assert.rejects(rep.processMessage(message, undefined, 'b'), (error) =>
    isCoterieError(error, 'CLOSED'),
  )
})

test('[B1 B11] what cannot be sent is counted and told, and the commit is durable here all the same', async (t) => {
  const net = new AppNet(t, 9)
  const [a, b] = (await group(net, ['a', 'b'])) as [AppSite, AppSite]
  const failed: number[] = []
  a.rep.on('sendFailed', ({ lsn, permanent }) => {
    if (permanent) failed.push(lsn)
  })
  net.onSend = (sent) => sent.from !== 'a' || !sent.flags.permanent
  const { lsn } = await a.db.put('x', '1', { acks: 'none' })
  assert.deepEqual(failed, [lsn])
  assert.ok(a.rep.stats().durableLsn >= lsn)
  assert.ok(a.rep.stats().counters.sendFailures > 0)
  net.onSend = undefined
  await waitUntil(() => b.db.getSync('x') === '1', { what: 'the core repairs it' })
  a.rep.stats({ reset: true })
  assert.equal(a.rep.stats().counters.sendFailures, 0)
})
