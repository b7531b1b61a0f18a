// A replica's way to its master and away from it: addresses, refusals, time-outs, and every reason why it ends.

import assert from 'node:assert/strict'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { memoryHost } from '../../src/env/memory/memory-host.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { openIn } from '../../src/group/open.ts'
import {
  type Attachment,
  type AttachmentEvent,
  attachMaster,
  CoterieError,
  type Database,
  type StopResult,
} from '../../src/index.ts'
import { memoryEngine } from '../../src/store/memory-engine.ts'
import { encodePreface } from '../../src/transport/preface.ts'
import { atEnd } from '../support/at-end.ts'
import { overridden } from '../support/held-host.ts'
import {
  addressOf,
  attachTo,
  digestOf,
  failsWith,
  keepAlive,
  openFolder,
  openMemory,
  putMany,
  replicaOf,
  serveTcp,
} from '../support/sites.ts'
import { startProxy } from '../support/tcp-proxy.ts'
import { waitUntil } from '../support/wait-until.ts'

/** Whatever it does with its connections; closed at the end. Returns its address. */
async function listenOn(t: TestContext, server: Server): Promise<string> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => sockets.add(socket))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  atEnd(t, async () => {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  })
  return `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** Why an attachment to this address ends before it has begun. */
async function refusedBy(
  t: TestContext,
  address: string,
  options: { connectTimeoutMs?: number; initialTimeoutMs?: number } = {},
): Promise<StopResult> {
  const attachment = attachTo(t, address, { path: ':memory:' }, options)
  const stopped = await attachment.stopped
  await assert.rejects(attachment.synced, (error) => error === stopped.cause)
  return stopped
}

test('[A1 A26a A23c] an open database attaches over TCP, follows, and takes no writes of its own', async (t) => {
  const source = await openMemory(t, { site: 'a' })
  await source.put('before', '1')
  const master = await serveTcp(source, { sites: 2 })
  const db = await openMemory(t, { site: 'b' })
  const controller = new AbortController()
  const attachment = attachMaster(db, addressOf(master), {
    signal: controller.signal,
    connectTimeoutMs: 5000,
  })
  atEnd(t, () => attachment.stop())
  const synced = await attachment.synced
  assert.equal(synced.kind, 'snapshot')
  assert.equal(attachment.db, db)
  assert.equal(db.databaseId, source.databaseId)
  const { token, acks } = await source.put('after', '2')
  assert.equal(acks, 2)
  assert.equal(await db.get('after', { after: token }), '2')
  assert.equal(await digestOf(db), await digestOf(source))
  const error = await failsWith('NOT_MASTER', db.put('mine', '1'))
  assert.equal(error.details.master, addressOf(master))
  await failsWith(
    'NOT_MASTER',
    db.transact((tx) => tx.put('mine', '1')),
  )
  await failsWith('INVALID_STATE', db.serve({ listen: '127.0.0.1:0', inTurn: false }))
  await failsWith('INVALID_STATE', attachTo(t, master, db).synced)
  controller.abort()
  assert.equal((await attachment.stopped).reason, 'cancelled')
})

test('[A2] a path attaches: a folder or memory, created by the master’s snapshot, opened the next time', async (t) => {
  const source = await openMemory(t)
  await source.put('a', '1')
  const master = await serveTcp(source)
  const { db: copy } = await replicaOf(t, master, { path: ':memory:' })
  assert.equal(await copy.get('a'), '1')
  const folder = await openFolder(t)
  await folder.destroy()
  const first = attachMaster({ path: folder.location, site: 'copy' }, addressOf(master))
  assert.throws(() => first.db, { code: 'INVALID_STATE' })
  assert.equal((await first.synced).kind, 'snapshot')
  assert.equal(first.db.siteId, 'copy')
  await failsWith('LOCKED', attachTo(t, master, { path: folder.location }).synced)
  await first[Symbol.asyncDispose]()
  await source.put('b', '2')
  const { attachment, db } = await replicaOf(t, master, { path: folder.location })
  assert.equal((await attachment.synced).kind, 'incremental')
  assert.equal(await db.get('b'), '2')
})

test('[A4a A23a] a bare host:port, tcp:// and other transports, several addresses at once', async (t) => {
  const source = await openMemory(t)
  await source.put('a', '1')
  const name = `memory://several-${process.pid}`
  const master = await source.serve({ listen: ['127.0.0.1:0', 'tcp://localhost:0', name], sites: 1 })
  assert.equal(master.addresses.length, 3)
  const [bare, local, memory] = master.addresses as [string, string, string]
  assert.match(bare, /^tcp:\/\/127\.0\.0\.1:[0-9]+$/)
  assert.equal(memory, name)
  for (const address of [bare, bare.replace('tcp://', ''), local, memory]) {
    const { attachment, db } = await replicaOf(t, address)
    assert.equal(await db.get('a'), '1')
    await attachment.stop()
  }
  await master.stop()
  for (const address of [bare, memory]) {
    assert.equal((await refusedBy(t, address)).cause?.code, 'CONNECT_FAILED')
  }
})

test('[A11] a bad address is refused by code, where it is served and where it is attached to', async (t) => {
  const db = await openMemory(t)
  await db.put('a', '1')
  for (const address of [
    'nonsense',
    'tcp://nowhere',
    'tcp://h:99999',
    '::1:80',
    'smoke://signal:1',
    'h:1/x',
  ]) {
    await failsWith('ADDRESS_INVALID', db.serve({ listen: address }))
    const stopped = await attachTo(t, address, db).stopped
    assert.equal(stopped.reason, 'handshake-refused')
    assert.equal(stopped.cause?.code, 'ADDRESS_INVALID', address)
  }
  const first = await serveTcp(db)
  const second = await openMemory(t)
  await second.put('b', '1')
  await failsWith('ADDRESS_IN_USE', second.serve({ listen: first.addresses }))
  assert.equal(second.status().role, 'standalone')
  await second.put('c', '1')
  await failsWith('INVALID_STATE', serveTcp(db))
  await failsWith('OPTION_UNKNOWN', second.serve({ listen: '127.0.0.1:0', port: 1 } as never))
  await failsWith('OPTION_INVALID', second.serve({} as never))
  await failsWith('OPTION_INVALID', second.serve({ listen: '127.0.0.1:0', acks: 'most' as never }))
  await failsWith('OPTION_UNKNOWN', attachTo(t, first, second, { retry: true } as never).synced)
  await failsWith('OPTION_INVALID', attachTo(t, first, second, { connectTimeoutMs: 0 }).synced)
  assert.throws(() => attachMaster('./folder' as never, addressOf(first)), TypeError)
  assert.equal(await second.get('c'), '1')
})

test('[A11 A7a] who does not answer, does not listen, or hangs up is told apart; local data is untouched', async (t) => {
  const silent = await listenOn(
    t,
    createServer((socket) => socket.on('error', () => {})),
  )
  const timeout = await refusedBy(t, silent, { connectTimeoutMs: 80 })
  assert.equal(timeout.reason, 'connection-lost')
  assert.equal(timeout.cause?.code, 'CONNECT_TIMEOUT')
  const rude = await listenOn(
    t,
    createServer((socket) => socket.on('error', () => {}).destroy()),
  )
  assert.equal((await refusedBy(t, rude)).cause?.code, 'CONNECT_FAILED')
  const mute = await listenOn(
    t,
    createServer((socket) => {
      socket.on('error', () => {})
      socket.write(encodePreface({ oldest: 1, newest: 1 }))
    }),
  )
  const unanswered = await refusedBy(t, mute, { initialTimeoutMs: 80 })
  assert.equal(unanswered.reason, 'connection-lost')
  assert.equal(unanswered.cause?.code, 'CONNECT_TIMEOUT')
  const db = await openMemory(t)
  await putMany(db, 20)
  const digest = await digestOf(db)
  const attachment = attachTo(t, silent, db, { connectTimeoutMs: 50 })
  await failsWith('NOT_MASTER', db.put('meanwhile', '1'))
  await attachment.stopped
  assert.equal(await digestOf(db), digest)
  assert.equal(db.status().role, 'standalone')
  await db.put('afterwards', '1')
})

test('[A11 D8a] an HTTP server, garbage and another version are PROTOCOL_INCOMPATIBLE', async (t) => {
  const http = await listenOn(
    t,
    createHttpServer((_, response) => response.end('hello')),
  )
  const spoken = await refusedBy(t, http)
  assert.equal(spoken.reason, 'handshake-refused')
  assert.equal(spoken.cause?.code, 'PROTOCOL_INCOMPATIBLE')
  const garbage = await listenOn(
    t,
    createServer((socket) => socket.on('error', () => {}).write('220 mail ready\r\n')),
  )
  assert.equal((await refusedBy(t, garbage)).cause?.code, 'PROTOCOL_INCOMPATIBLE')
  const future = await listenOn(
    t,
    createServer((socket) => socket.on('error', () => {}).write(encodePreface({ oldest: 7, newest: 9 }))),
  )
  const { cause } = await refusedBy(t, future)
  assert.equal(cause?.code, 'PROTOCOL_INCOMPATIBLE')
  assert.deepEqual(cause?.details.theirs, { oldest: 7, newest: 9 })
})

test('[A13] more replicas than maxReplicas are refused, and the master tells of it', async (t) => {
  const source = await openMemory(t)
  await source.put('a', '1')
  const master = await serveTcp(source, { maxReplicas: 1 })
  const refused: unknown[] = []
  master.on('refused', (event) => refused.push(event))
  const { attachment } = await replicaOf(t, master)
  const second = await refusedBy(t, addressOf(master))
  assert.equal(second.reason, 'handshake-refused')
  assert.equal(second.cause?.code, 'TOO_MANY_REPLICAS')
  assert.equal(refused.length, 1)
  await attachment.stop()
  await replicaOf(t, master)
})

test('a second site of the same id is refused with DUPLICATE_SITE, also one of the master’s own', async (t) => {
  const source = await openMemory(t, { site: 'a' })
  await source.put('a', '1')
  const master = await serveTcp(source)
  await replicaOf(t, master, { path: ':memory:', site: 'b' })
  for (const site of ['a', 'b']) {
    const attachment = attachTo(t, master, { path: ':memory:', site })
    assert.equal((await attachment.stopped).cause?.code, 'DUPLICATE_SITE')
  }
  assert.equal(master.replicas.length, 1)
})

// ---- A6: why it ended ----------------------------------------------------------------------------------------------

test('[A6 A7c] stop finishes what was received: reason stopped', async (t) => {
  const source = await openMemory(t)
  const master = await serveTcp(source, { sites: 2, acks: 'all' })
  const { attachment, db } = await replicaOf(t, master)
  await putMany(source, 300)
  await attachment.stop()
  const stopped = await attachment.stopped
  assert.deepEqual(stopped, { reason: 'stopped', lsn: 301, term: 1 })
  assert.equal(db.status().durableLsn, 301)
  await attachment.stop()
  await failsWith('NOT_MASTER', db.put('a', '1'))
  await master.stop()
  await db.standalone()
  await db.put('last', '1')
  assert.equal((await db.keys().all()).length, 301)
})

test('[A6 A7d] an aborted signal stops at once, at every stage: reason cancelled', async (t) => {
  const source = await openMemory(t)
  await putMany(source, 10)
  const master = await serveTcp(source)
  const address = addressOf(master)
  const before = attachTo(t, master, { path: ':memory:' }, { signal: AbortSignal.abort() })
  assert.equal((await before.stopped).reason, 'cancelled')
  await failsWith('ABORTED', before.synced)
  const silent = await listenOn(
    t,
    createServer((socket) => socket.on('error', () => {})),
  )
  for (const [target, moment] of [
    [silent, 'connecting'],
    [address, 'connected'],
    [address, 'newMaster'],
    [address, 'synced'],
  ] as const) {
    const controller = new AbortController()
    const attachment = attachTo(t, target, { path: ':memory:' }, { signal: controller.signal })
    if (moment === 'connecting') setTimeout(() => controller.abort(), 30)
    else attachment.on(moment, () => controller.abort())
    const stopped = await attachment.stopped
    assert.equal(stopped.reason, 'cancelled', moment)
    assert.equal(stopped.cause, undefined)
  }
  await waitUntil(() => master.replicas.length === 0, { what: 'the master noticed' })
})

test('[A6 A7b A21] the master detaches a replica: detached-by-master on one side, an event on the other', async (t) => {
  const source = await openMemory(t)
  await source.put('a', '1')
  const master = await serveTcp(source)
  const detached: { site: string; code: string }[] = []
  master.on('detached', (event) => detached.push(event))
  const { attachment, db } = await replicaOf(t, master, { path: ':memory:', site: 'b' })
  await failsWith('INVALID_STATE', () => master.detach('nobody'))
  master.detach('b')
  const stopped = await attachment.stopped
  assert.equal(stopped.reason, 'detached-by-master')
  assert.equal(stopped.cause?.code, 'DETACHED')
  assert.deepEqual(
    detached.map(({ site, code }) => [site, code]),
    [['b', 'DETACHED']],
  )
  assert.equal(await db.get('a'), '1')
  const again = await replicaOf(t, master, db)
  assert.equal((await again.attachment.synced).kind, 'equal')
  await master.stop()
  assert.equal((await again.attachment.stopped).reason, 'detached-by-master')
})

test('an attachment that has ended leaves no connection behind', async (t) => {
  const source = await openMemory(t)
  await source.put('a', '1')
  const master = await serveTcp(source)
  const proxy = await startProxy(t, addressOf(master))
  const { attachment } = await replicaOf(t, proxy.address)
  assert.equal(proxy.connections, 1)
  await attachment.stop()
  await waitUntil(() => proxy.connections === 0, { what: 'the connection was closed' })
  const refused = attachTo(t, proxy.address, { path: ':memory:', site: source.siteId })
  assert.equal((await refused.stopped).cause?.code, 'DUPLICATE_SITE')
  await waitUntil(() => proxy.connections === 0, { what: 'that one was closed too' })
})

test('[A6] a broken connection: reason connection-lost, and it attaches again where it was', async (t) => {
  const source = await openMemory(t)
  await source.put('a', '1')
  const master = await serveTcp(source)
  const proxy = await startProxy(t, addressOf(master))
  const { attachment, db } = await replicaOf(t, proxy.address)
  proxy.cut()
  const stopped = await attachment.stopped
  assert.equal(stopped.reason, 'connection-lost')
  assert.equal(stopped.cause?.code, 'CONNECTION_CLOSED')
  await waitUntil(() => master.replicas.length === 0, { what: 'the master noticed' })
  await source.put('b', '2')
  const again = await replicaOf(t, proxy.address, db)
  assert.equal((await again.attachment.synced).kind, 'incremental')
  assert.equal(await db.get('b'), '2')
})

test('[A6 A19] a replica that is promoted while attached: reason became-master', async (t) => {
  const source = await openMemory(t)
  await source.put('a', '1')
  const master = await serveTcp(source)
  const { attachment, db } = await replicaOf(t, master)
  const { term } = await db.promote()
  assert.equal((await attachment.stopped).reason, 'became-master')
  assert.equal(term, 2)
  await db.put('b', '2')
  assert.equal(db.status().role, 'master')
})

test('[A6] a replica whose store fails: reason apply-failed, with the cause', async (t) => {
  const source = await openMemory(t)
  await source.put('a', '1')
  const master = await serveTcp(source, { sites: 1 })
  keepAlive(t)
  const engine = memoryEngine()
  let failing = false
  const storeEngine = overridden(engine, {
    open: async (location) => {
      const store = await engine.open(location)
      return overridden(store, {
        write: (batch) =>
          failing ? Promise.reject(new CoterieError('STORE_FAILED', 'out of order')) : store.write(batch),
      })
    },
  })
  const host = memoryHost({ base: nodeHost() })
  const environment = { location: 'failing', path: '/db', host, storeEngine, inMemory: true }
  const db: Database = await openIn(environment, {}, { asReplica: true })
  atEnd(t, () => db.close())
  const { attachment } = await replicaOf(t, master, db)
  failing = true
  await source.put('b', '2')
  const stopped = await attachment.stopped
  assert.equal(stopped.reason, 'apply-failed')
  assert.equal(stopped.cause?.code, 'STORE_FAILED')
  await waitUntil(() => master.replicas.length === 0, { what: 'the master noticed' })
  await source.put('c', '3')
})

test('[A6] a refused handshake: reason handshake-refused, and the role is what it was', async (t) => {
  const source = await openMemory(t)
  await source.put('a', '1')
  const master = await serveTcp(source)
  const stranger = await openMemory(t)
  await stranger.put('mine', '1')
  const stopped = await attachTo(t, master, stranger).stopped
  assert.equal(stopped.reason, 'handshake-refused')
  assert.equal(stopped.cause?.code, 'FOREIGN_HISTORY')
  assert.equal(stranger.status().role, 'standalone')
  assert.equal(stranger.status().attached, false)
  await stranger.put('mine', '2')
})

// ---- events and time -----------------------------------------------------------------------------------------------

test('[A20] one typed stream of events, in order, by listeners and by iteration', async (t) => {
  const source = await openMemory(t)
  await putMany(source, 5)
  const master = await serveTcp(source)
  const attachment = attachTo(t, master)
  const heard: string[] = []
  attachment.onAny((name) => heard.push(name))
  const iterated: AttachmentEvent[] = []
  const reading = (async (): Promise<void> => {
    for await (const event of attachment.events()) iterated.push(event)
  })()
  await attachment.synced
  await attachment.stop()
  await reading
  const names = iterated.map(({ type }) => type)
  assert.deepEqual(names, heard)
  const expected = ['connected', 'newMaster', 'syncBegin', 'snapshotDone', 'synced', 'stopped']
  assert.deepEqual(
    names.filter((name) => name !== 'syncProgress'),
    expected,
  )
  const synced = iterated.find((event) => event.type === 'synced')
  assert.deepEqual(synced?.detail, await attachment.synced)
  const late: AttachmentEvent[] = []
  for await (const event of attachment.events()) late.push(event)
  assert.deepEqual(
    late.map(({ type }) => type),
    ['stopped'],
  )
})

test('[A20] a refusal is an event too', async (t) => {
  const attachment: Attachment<Database> = attachTo(t, 'tcp://127.0.0.1:1')
  const failed: string[] = []
  attachment.on('connectFailed', ({ error }) => failed.push(error.code))
  await attachment.stopped
  assert.deepEqual(failed, ['CONNECT_FAILED'])
})

test('[A14] keep-alives are automatic: nobody is given up for having nothing to say', async (t) => {
  const source = await openMemory(t)
  await source.put('a', '1')
  const master = await serveTcp(source, { heartbeatMs: 10, silenceTimeoutMs: 2000 })
  const { attachment } = await replicaOf(t, master)
  const before = source.status().counters.heartbeats ?? 0
  // More than silenceTimeoutMs long, at the most that the timers can have fired.
  await waitUntil(() => (source.status().counters.heartbeats ?? 0) > before + 120, {
    what: 'heartbeats went by',
  })
  assert.equal(master.replicas.length, 1)
  assert.ok((master.replicas[0]?.roundTripMs ?? -1) >= 0)
  await attachment.stop()
})

test('[A14] one that falls silent is given up by both sides after silenceTimeoutMs', async (t) => {
  const source = await openMemory(t)
  await source.put('a', '1')
  const master = await serveTcp(source, { heartbeatMs: 20, silenceTimeoutMs: 2000 })
  const detached: string[] = []
  master.on('detached', ({ code }) => detached.push(code))
  const proxy = await startProxy(t, addressOf(master))
  const { attachment } = await replicaOf(t, proxy.address)
  proxy.freeze()
  const stopped = await attachment.stopped
  assert.equal(stopped.reason, 'connection-lost')
  assert.equal(stopped.cause?.code, 'SILENCE_TIMEOUT')
  await waitUntil(() => detached.length > 0, { what: 'the master gave it up' })
  assert.deepEqual(detached, ['SILENCE_TIMEOUT'])
})

test('[A27a] the master shows each replica: state, positions, lag, traffic and round trip', async (t) => {
  const source = await openMemory(t)
  await putMany(source, 50)
  const master = await serveTcp(source, { sites: 2, acks: 'all', heartbeatMs: 20 })
  await replicaOf(t, master, { path: ':memory:', site: 'b' })
  await source.put('last', '1')
  await waitUntil(() => (master.replicas[0]?.roundTripMs ?? -1) >= 0, { what: 'a round trip was measured' })
  await waitUntil(() => master.replicas[0]?.appliedLsn === source.status().lastLsn, {
    what: 'it was applied',
  })
  const [replica] = master.replicas
  assert.ok(replica)
  assert.equal(replica.site, 'b')
  assert.equal(replica.state, 'live')
  assert.match(String(replica.address), /^tcp:\/\/127\.0\.0\.1:/)
  assert.equal(replica.receivedLsn, source.status().lastLsn)
  assert.equal(replica.durableLsn, source.status().lastLsn)
  assert.deepEqual([replica.lagRecords, replica.lagBytes, replica.lagMs], [0, 0, 0])
  assert.ok(replica.bytesIn > 0 && replica.bytesOut > 500)
  assert.equal(replica.snapshot, undefined)
  assert.deepEqual(source.status().replicas[0]?.site, 'b')
  assert.equal(source.status().canLose, 'can lose: 1 site, 0 commits')
})
