// Links over real datagrams on loopback: who is let in, how a link ends, and what comes through a bad network.

import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import type { CoterieError } from '../../src/base/errors.ts'
import { Prng } from '../../src/base/prng.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { parseAddress } from '../../src/transport/address.ts'
import type { LinkOptions, LinkSettings } from '../../src/transport/link-options.ts'
import type { Connection, Listener } from '../../src/transport/transport.ts'
import { udpTransport } from '../../src/transport/udp/udp-transport.ts'
import { Recorder } from '../conformance/transport-suite.ts'
import { atEnd } from '../support/at-end.ts'
import { failsWith } from '../support/sites.ts'
import { startUdpProxy } from '../support/udp-proxy.ts'
import { waitUntil } from '../support/wait-until.ts'

const host = nodeHost()
const transport = udpTransport(host)
const key = new Uint8Array(32).fill(3)

function settings(options: LinkOptions = {}): LinkSettings {
  return { ...options, identity: () => ({ site: 'test', databaseId: undefined }) }
}

interface Far {
  readonly connection: Connection
  readonly side: Recorder
}

async function listening(
  t: TestContext,
  options: LinkOptions = {},
): Promise<{ listener: Listener; far: Far[]; refused: CoterieError[] }> {
  const far: Far[] = []
  const refused: CoterieError[] = []
  const listener = await transport.listen({
    address: parseAddress('udp://127.0.0.1:0'),
    link: settings(options),
    onConnection(connection) {
      const side = new Recorder()
      connection.handlers = side
      connection.acceptFramesUpTo(33_000_000)
      far.push({ connection, side })
    },
    onRefused: (error) => refused.push(error),
  })
  atEnd(t, async () => {
    for (const { connection } of far) connection.destroy()
    await listener.close()
  })
  return { listener, far, refused }
}

async function connected(t: TestContext, address: string, options: LinkOptions = {}): Promise<Far> {
  const connection = await transport.connect({
    address: parseAddress(address),
    connectTimeoutMs: 10_000,
    link: settings(options),
  })
  const side = new Recorder()
  connection.handlers = side
  atEnd(t, () => connection.destroy())
  return { connection, side }
}

test('without a key only loopback is listened on and connected to, unless insecure is said', async () => {
  const listen = (address: string, options: LinkOptions = {}): Promise<Listener> =>
    transport.listen({
      address: parseAddress(address),
      link: settings(options),
      onConnection: (connection) => connection.destroy(),
    })
  const connect = (address: string, options: LinkOptions = {}): Promise<Connection> =>
    transport.connect({ address: parseAddress(address), connectTimeoutMs: 50, link: settings(options) })
  for (const address of ['udp://0.0.0.0:0', 'udp://192.0.2.1:5', 'udp://[::]:0']) {
    const error = await failsWith('OPTION_INVALID', listen(address))
    assert.equal(error.details.option, 'key')
  }
  await failsWith('OPTION_INVALID', connect('udp://192.0.2.1:5'))
  for (const option of ['secret', 'tls'] as const) {
    const link = { [option]: option === 'tls' ? { ca: 'x', cert: 'x', key: 'x' } : 'a secret of the group' }
    const error = await failsWith('OPTION_INVALID', listen('udp://127.0.0.1:0', link))
    assert.equal(error.details.option, option, 'what does not protect datagrams is not taken to')
  }
  for (const link of [{ insecure: true }, { key }]) await (await listen('udp://0.0.0.0:0', link)).close()
})

test('a wrong key, or none, is CONNECT_TIMEOUT to who connects, and HANDSHAKE_FAILED to who listens', async (t) => {
  const { listener, far, refused } = await listening(t, { key })
  const address = parseAddress(listener.address)
  for (const options of [{}, { key: new Uint8Array(32).fill(4) }]) {
    const connecting = transport.connect({ address, connectTimeoutMs: 150, link: settings(options) })
    const error = await failsWith('CONNECT_TIMEOUT', connecting)
    assert.match(error.message, /another key/)
  }
  assert.ok(refused.length >= 1)
  for (const error of refused) assert.equal(error.code, 'HANDSHAKE_FAILED')
  assert.equal(far.length, 0)
  const near = await connected(t, listener.address, { key })
  near.connection.send(Uint8Array.of(1))
  await waitUntil(() => far[0]?.side.messages.length === 1, { what: 'the message arrived' })
})

test('an address can be listened on again at once, while connections of before go on', async (t) => {
  const { listener, far } = await listening(t)
  const before = await connected(t, listener.address)
  before.connection.send(Uint8Array.of(1))
  await waitUntil(() => far[0]?.side.messages.length === 1, { what: 'they are connected' })
  for (let round = 0; round < 3; round++) {
    const again: Connection[] = []
    const second = await (async () => {
      if (round === 0) await listener.close()
      return transport.listen({
        address: parseAddress(listener.address),
        link: settings(round === 1 ? { key } : {}),
        onConnection(connection) {
          connection.handlers = new Recorder()
          again.push(connection)
        },
      })
    })()
    assert.equal(second.address, listener.address)
    const error = transport.listen({
      address: parseAddress(listener.address),
      onConnection: (c) => c.destroy(),
    })
    await failsWith('ADDRESS_IN_USE', error)
    const near = await connected(t, second.address, round === 1 ? { key } : {})
    await waitUntil(() => again.length === 1, { what: 'the new listener has a connection' })
    before.connection.send(Uint8Array.of(2))
    await waitUntil(() => far[0]?.side.messages.length === round + 2, { what: 'the old connection goes on' })
    near.connection.destroy()
    await second.close()
  }
  before.connection.destroy()
  await waitUntil(() => far[0]?.side.closes === 1, { what: 'the last connection has ended' })
  const free = await udpTransport(host).listen({
    address: parseAddress(listener.address),
    onConnection: (connection) => connection.destroy(),
  })
  await free.close()
})

test('with a key nothing that is sent can be read on the way', async (t) => {
  const { listener, far } = await listening(t, { key })
  const proxy = await startUdpProxy(t, listener.address)
  const seen: Buffer[] = []
  proxy.onDatagram = (datagram) => {
    seen.push(Buffer.from(datagram))
    return true
  }
  const near = await connected(t, proxy.address, { key })
  const words = Buffer.from('nobody may read these words')
  near.connection.send(words, new Uint8Array(Buffer.concat(Array(500).fill(words))))
  near.connection.send(words)
  await waitUntil(() => far[0]?.side.messages.length === 2, { what: 'both messages arrived' })
  assert.ok(seen.length > 10)
  for (const datagram of seen) assert.equal(datagram.includes(words.subarray(0, 12)), false)
})

test('no datagram is longer than 1,200 bytes', async (t) => {
  const { listener, far } = await listening(t, { key })
  const proxy = await startUdpProxy(t, listener.address)
  let longest = 0
  proxy.onDatagram = (datagram) => {
    longest = Math.max(longest, datagram.length)
    return true
  }
  const near = await connected(t, proxy.address, { key })
  near.connection.send(new Uint8Array(40_000), new Uint8Array(100_000))
  for (let i = 0; i < 2000; i += 13) near.connection.send(new Uint8Array(i))
  await waitUntil(() => far[0]?.side.messages.length === 155, { what: 'all messages arrived' })
  assert.equal(longest, 1200)
})

test('when the other process is gone the connection ends, though nobody said so', async (t) => {
  const { listener, far } = await listening(t)
  const proxy = await startUdpProxy(t, listener.address)
  const near = await connected(t, proxy.address)
  near.connection.send(Uint8Array.of(1))
  await waitUntil(() => far[0]?.side.messages.length === 1, { what: 'they are connected' })
  proxy.onDatagram = () => false
  await Promise.all(
    [near, far[0] as Far].map(({ side }) =>
      waitUntil(() => side.closes === 1, { what: 'silence has ended it', timeoutMs: 30_000 }),
    ),
  )
  for (const { side } of [near, far[0] as Far]) assert.equal(side.closedWith?.code, 'CONNECTION_CLOSED')
})

test('when the system says that nobody is there any more, a second is enough', async (t) => {
  const server = createSocket('udp4')
  await new Promise<void>((resolve) => server.bind(0, '127.0.0.1', resolve))
  const { listener } = await listening(t)
  const target = parseAddress(listener.address).port
  let client = 0
  server.on('message', (datagram, from) => {
    if (from.port !== target) client = from.port
    server.send(datagram, from.port === target ? client : target, '127.0.0.1')
  })
  const near = await connected(t, `udp://127.0.0.1:${(server.address() as AddressInfo).port}`)
  server.close()
  near.connection.send(Uint8Array.of(1))
  const start = performance.now()
  await waitUntil(() => near.side.closes === 1, { what: 'the refusal has ended it' })
  assert.equal(near.side.closedWith?.code, 'CONNECTION_CLOSED')
  assert.ok(performance.now() - start < 9000, 'it did not wait for the silence of 10 s')
})

test('it ends in order through 20 % of loss', async (t) => {
  const { listener, far } = await listening(t)
  const proxy = await startUdpProxy(t, listener.address, { seed: 5, faults: { dropChance: 0.2 } })
  for (let round = 0; round < 10; round++) {
    const near = await connected(t, proxy.address)
    near.connection.send(Uint8Array.of(1), new Uint8Array(20_000))
    await near.connection.end()
    const side = (far[round] as Far).side
    await waitUntil(() => side.closes === 1, { what: 'the other side has ended too' })
    assert.equal(near.side.closedWith, undefined)
    assert.equal(side.messages.length, 1)
  }
})

test('long messages arrive whole through loss, repetition and reordering, each once', async (t) => {
  const { listener, far } = await listening(t, { key })
  const proxy = await startUdpProxy(t, listener.address, {
    seed: 3,
    faults: { dropChance: 0.2, duplicateChance: 0.1, delayChance: 0.2, delayMsMax: 20 },
  })
  const near = await connected(t, proxy.address, { key })
  const prng = new Prng(6)
  const sent = Array.from({ length: 60 }, (_, i) => prng.bytes(2000 + i * 1500))
  for (const [i, payload] of sent.entries()) near.connection.send(Uint8Array.of(i), payload)
  const side = (): Recorder => (far[0] as Far).side
  await waitUntil(() => far[0] !== undefined && side().messages.length >= sent.length, {
    what: 'all messages arrived',
    timeoutMs: 60_000,
  })
  assert.equal(side().messages.length, sent.length)
  for (const { control, payload } of side().messages) {
    assert.equal(Buffer.compare(payload, sent[control[0] as number] as Uint8Array), 0)
  }
})
