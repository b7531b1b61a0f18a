// A master and its replicas over every kind of link, and those who may not come in.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { TlsOptions } from '../../src/transport/link-options.ts'
import { atEnd } from '../support/at-end.ts'
import { Authority } from '../support/certificates.ts'
import {
  eventsOf,
  joinSite,
  losesItsMaster,
  type SiteOptions,
  settledMaster,
  whenEqual,
  whenMembers,
} from '../support/groups.ts'
import {
  addressOf,
  attachTo,
  digestOf,
  failsWith,
  openMemory,
  putMany,
  replicaOf,
  serveTcp,
} from '../support/sites.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

const secret = 'a secret of the master and its replicas'
const authority = new Authority()

/** What a site of this certificate is given. */
function tlsOf(name: string): TlsOptions {
  return { ca: authority.cert, ...authority.issue({ name }) }
}

test('[A25] a replica that knows the secret attaches; one that does not, or has none, is told why', async (t) => {
  const source = await openMemory(t, { site: 'a' })
  await putMany(source, 20)
  const master = await serveTcp(source, { sites: 2, secret })
  const { db } = await replicaOf(t, addressOf(master), { path: ':memory:', site: 'b' }, { secret })
  const { token } = await source.put('after', '1')
  await db.get('after', { after: token })
  assert.equal(await digestOf(db), await digestOf(source))
  const refused: string[] = []
  master.on('refused', ({ site, code, message }) => void refused.push(`${site}|${code}|${message}`))
  for (const options of [{ secret: `${secret}?` }, {}]) {
    const attachment = attachTo(t, addressOf(master), { path: ':memory:', site: 'c' }, options)
    const { reason, cause } = await attachment.stopped
    assert.equal(reason, 'handshake-refused')
    await failsWith('AUTH_FAILED', Promise.reject(cause))
  }
  await waitUntil(() => source.status().counters.strangersRefused === 2, {
    what: 'the master has counted both',
  })
  // Of those who knock in quick succession the first is told of.
  assert.ok(refused.length >= 1)
  assert.match(
    refused[0] ?? '',
    /^\|AUTH_FAILED\|the proof of the other side is wrong.* \(from tcp:\/\/127\.0\.0\.1\)$/,
  )
  assert.equal(master.replicas.length, 1)
})

test('[A4b A23d] a replica attaches over a pipe, by its path alone', async (t) => {
  const path = join(withTempFolder(t), 'db.sock')
  const source = await openMemory(t, { site: 'a' })
  await putMany(source, 20)
  const master = await source.serve({ listen: path, sites: 2, secret })
  atEnd(t, () => master.stop())
  assert.deepEqual(master.addresses, [`pipe:${path}`])
  const { db } = await replicaOf(t, path, { path: ':memory:', site: 'b' }, { secret })
  const { token } = await source.put('after', '1')
  await db.get('after', { after: token })
  assert.equal(await digestOf(db), await digestOf(source))
})

test('[A23a A26b] a master listens over four transports at once, each protected as it can be', async (t) => {
  const source = await openMemory(t, { site: 'a' })
  await putMany(source, 20)
  const pipe = join(withTempFolder(t), 's')
  const master = await source.serve({
    listen: ['tcp://127.0.0.1:0', `pipe:${pipe}`, 'tls://127.0.0.1:0', 'memory://four-at-once'],
    sites: 5,
    acks: 'all',
    secret,
    tls: tlsOf('a'),
    compression: 'deflate',
  })
  atEnd(t, () => master.stop())
  const [tcp = '', , tls = '', memory = ''] = master.addresses
  const replicas = [
    await replicaOf(t, tcp, { path: ':memory:', site: 'over-tcp' }, { secret, compression: 'deflate' }),
    await replicaOf(t, pipe, { path: ':memory:', site: 'over-a-pipe' }, { secret }),
    await replicaOf(t, tls, { path: ':memory:', site: 'over-tls' }, { secret, tls: tlsOf('over-tls') }),
    await replicaOf(t, memory, { path: ':memory:', site: 'in-memory' }),
  ]
  const { token, acks } = await source.put('after', '1')
  assert.equal(acks, 5)
  for (const { db } of replicas) {
    await db.get('after', { after: token })
    assert.equal(await digestOf(db), await digestOf(source))
  }
  for (const { site, bytesIn, bytesOut } of master.replicas) assert.ok(bytesIn > 0 && bytesOut > 0, site)
  const naked = attachTo(t, tcp, { path: ':memory:', site: 'naked' })
  await failsWith('AUTH_FAILED', naked.synced)
})

test('protection that an address has no use for is refused, by name', async (t) => {
  const source = await openMemory(t, { site: 'a' })
  const error = await failsWith('OPTION_INVALID', source.serve({ listen: 'memory://links', secret }))
  assert.equal(error.details.option, 'secret')
  const attachment = attachTo(t, 'memory://links', { path: ':memory:', site: 'b' }, { secret })
  await failsWith('OPTION_INVALID', attachment.synced)
})

test('[A25 C10a A4b] a replica attaches over TLS under the id that its certificate names', async (t) => {
  const source = await openMemory(t, { site: 'a' })
  await putMany(source, 20)
  const master = await source.serve({ listen: 'tls://127.0.0.1:0', sites: 2, tls: tlsOf('a') })
  const { db } = await replicaOf(t, addressOf(master), { path: ':memory:', site: 'b' }, { tls: tlsOf('b') })
  const { token } = await source.put('after', '1')
  await db.get('after', { after: token })
  assert.equal(await digestOf(db), await digestOf(source))
  assert.equal(master.replicas[0]?.site, 'b')
})

test('[C10a] a site that uses an id of which its certificate says nothing is refused, and both sides know', async (t) => {
  const source = await openMemory(t, { site: 'a' })
  const master = await source.serve({ listen: 'tls://127.0.0.1:0', sites: 2, tls: tlsOf('a') })
  const { db } = await replicaOf(t, addressOf(master), { path: ':memory:', site: 'b' }, { tls: tlsOf('b') })
  const refused: { site: string; code: string }[] = []
  master.on('refused', ({ site, code }) => void refused.push({ site, code }))
  const term = source.status().term
  for (const site of ['b', 'a', 'c']) {
    const thief = attachTo(t, addressOf(master), { path: ':memory:', site }, { tls: tlsOf('x') })
    const { reason, cause } = await thief.stopped
    assert.equal(reason, 'handshake-refused')
    await failsWith('AUTH_FAILED', Promise.reject(cause))
    assert.match(String(cause), new RegExp(`calls itself '${site}' bears x`))
    await waitUntil(() => refused.some((each) => each.site === site), { what: 'the master has told of it' })
  }
  assert.deepEqual(
    refused.map(({ code }) => code),
    ['AUTH_FAILED', 'AUTH_FAILED', 'AUTH_FAILED'],
  )
  assert.equal(source.status().counters.claimsRefused, 3)
  assert.equal(source.status().term, term)
  assert.deepEqual(
    master.replicas.map(({ site }) => site),
    ['b'],
  )
  const { token } = await source.put('after', '1')
  assert.equal(await db.get('after', { after: token }), '1')
})

test('[C10a] a master that uses an id of which its certificate says nothing gets no replica', async (t) => {
  const source = await openMemory(t, { site: 'a' })
  const master = await source.serve({ listen: 'tls://127.0.0.1:0', sites: 2, tls: tlsOf('x') })
  const db = await openMemory(t, { site: 'b' })
  const attachment = attachTo(t, addressOf(master), db, { tls: tlsOf('b') })
  const { reason, cause } = await attachment.stopped
  assert.equal(reason, 'handshake-refused')
  await failsWith('AUTH_FAILED', Promise.reject(cause))
  assert.match(String(cause), /calls itself 'a' bears x/)
  assert.notEqual(db.databaseId, source.databaseId)
  await waitUntil(() => master.replicas.length === 0, { what: 'the master has let go of it' })
  const free = { ...tlsOf('b'), bindSite: false }
  await replicaOf(t, addressOf(master), { path: ':memory:', site: 'b' }, { tls: free })
})

test('[C10a] a replica takes over from its master over TLS, and the old master follows it there', async (t) => {
  const first = await openMemory(t, { site: 'a' })
  await putMany(first, 10)
  const [tlsA, tlsB] = [tlsOf('a'), tlsOf('b')]
  const master = await first.serve({ listen: 'tls://127.0.0.1:0', sites: 2, tls: tlsA, secret })
  const second = await openMemory(t, { site: 'b' })
  const taking = attachTo(t, addressOf(master), second, {
    tls: tlsB,
    secret,
    takeOver: { listen: 'tls://127.0.0.1:0' },
  })
  assert.equal((await taking.stopped).reason, 'became-master')
  const [address = ''] = second.master?.addresses ?? []
  assert.match(address, /^tls:/)
  atEnd(t, async () => await second.master?.stop())
  await master.stopped
  const { db } = await replicaOf(t, address, first, { tls: tlsA, secret })
  const { token } = await second.put('after', '1')
  assert.equal(await db.get('after', { after: token }), '1')
})

test('[C10a] a group runs itself over TLS, and one whose certificate bears another name stays outside', async (t) => {
  const overTls = (name: string, seeds: readonly string[]): SiteOptions => ({
    listen: 'tls://127.0.0.1:0',
    seeds,
    tls: tlsOf(name),
  })
  const a = await joinSite(t, 'a', overTls('a', []))
  const b = await joinSite(t, 'b', overTls('b', [a.group.address]))
  const c = await joinSite(t, 'c', overTls('c', [a.group.address]))
  const sites = [a, b, c]
  await whenMembers(sites, ['a', 'b', 'c'])
  const master = await settledMaster(sites)
  await master.db.put('k', 'v')
  await whenEqual(sites)
  const thief = joinSite(t, 'd', overTls('x', [a.group.address]))
  thief.catch(() => undefined)
  const isRefused = ({ site, code }: { site: string; code: string }): boolean =>
    site === 'd' && code === 'AUTH_FAILED'
  await waitUntil(() => sites.some((site) => eventsOf(site, 'siteRefused').some(isRefused)), {
    what: 'the thief is turned away',
  })
  assert.deepEqual(master.group.members.map(({ site }) => site).sort(), ['a', 'b', 'c'])
})

const kinds: Readonly<Record<string, (t: TestContext, site: string) => SiteOptions>> = {
  'pipes, with a secret': (t, site) => ({ listen: join(withTempFolder(t), site), secret }),
  'TLS, with a secret and compression': (_, site) => ({
    listen: 'tls://127.0.0.1:0',
    tls: tlsOf(site),
    secret,
    compression: 'zstd',
  }),
}

for (const [kind, optionsOf] of Object.entries(kinds)) {
  test(`[A23d A25] over ${kind}, a group loses its master without a word, elects another, and takes it back`, async (t) => {
    await losesItsMaster(t, (id) => optionsOf(t, id))
  })
}
