// The real datagrams and ciphers behind their interfaces.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { DatagramSocket, Datagrams } from '../../src/env/datagrams.ts'
import { nodeCiphers } from '../../src/env/node/node-ciphers.ts'
import { NodeDatagrams } from '../../src/env/node/node-datagrams.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { parseAddress } from '../../src/transport/address.ts'
import { udpTransport } from '../../src/transport/udp/udp-transport.ts'
import { atEnd } from '../support/at-end.ts'
import { failsWith } from '../support/sites.ts'
import { waitUntil } from '../support/wait-until.ts'

const datagrams: Datagrams = new NodeDatagrams()

interface Heard {
  readonly messages: { readonly text: string; readonly port: number }[]
  readonly errors: Error[]
}

function listenTo(t: TestContext, socket: DatagramSocket): Heard {
  const heard: Heard = { messages: [], errors: [] }
  socket.handlers = {
    message: (bytes, _host, port) => heard.messages.push({ text: Buffer.from(bytes).toString(), port }),
    failed: (error) => heard.errors.push(error),
  }
  atEnd(t, () => socket.close())
  return heard
}

test('a bound socket hears everybody and answers; a connected one hears its other side only', async (t) => {
  const server = await datagrams.bind({ host: 'localhost', port: 0 })
  const client = await datagrams.connect({ host: server.host, port: server.port })
  const stranger = await datagrams.bind({ host: '127.0.0.1', port: 0 })
  const [atServer, atClient] = [listenTo(t, server), listenTo(t, client)]
  listenTo(t, stranger)
  assert.ok(server.receiveBufferBytes > 100_000)
  client.send(Buffer.from('question'))
  await waitUntil(() => atServer.messages.length === 1, { what: 'the question came' })
  assert.deepEqual(atServer.messages, [{ text: 'question', port: client.port }])
  stranger.send(Buffer.from('no answer'), { host: client.host, port: client.port })
  server.send(Buffer.from('answer'), { host: client.host, port: client.port })
  await waitUntil(() => atClient.messages.length === 1, { what: 'the answer came' })
  assert.deepEqual(atClient.messages, [{ text: 'answer', port: server.port }])
})

test('an address that is taken, or cannot be, is refused with its code', async (t) => {
  const first = await datagrams.bind({ host: '127.0.0.1', port: 0 })
  listenTo(t, first)
  await failsWith('ADDRESS_IN_USE', datagrams.bind({ host: '127.0.0.1', port: first.port }))
  await failsWith('ADDRESS_INVALID', datagrams.bind({ host: '192.0.2.1', port: 0 }))
  await failsWith('CONNECT_FAILED', datagrams.connect({ host: 'no.such.host.invalid', port: 5 }))
  await failsWith(
    'IO_ERROR',
    datagrams.join({ group: { host: '239.1.1.1', port: 0 }, interfaceHost: '192.0.2.1' }),
  )
})

test('a connected socket learns that nobody is there, and a closed one says nothing more', async (t) => {
  const gone = await datagrams.bind({ host: '127.0.0.1', port: 0 })
  const client = await datagrams.connect({ host: gone.host, port: gone.port })
  const heard = listenTo(t, client)
  gone.close()
  gone.close()
  gone.send(Buffer.from('x'), { host: '127.0.0.1', port: 9 })
  await waitUntil(
    () => {
      client.send(Buffer.from('anybody?'))
      return heard.errors.length > 0
    },
    { what: 'the refusal came' },
  )
  assert.equal((heard.errors[0] as NodeJS.ErrnoException).code, 'ECONNREFUSED')
})

test('several sockets of one machine hear what is sent to a group once', async (t) => {
  const sender = await datagrams.bind({ host: '127.0.0.1', port: 0, sendsToGroups: true })
  listenTo(t, sender)
  const group = { host: '239.77.3.4', port: sender.port }
  const heard: Heard[] = []
  for (let i = 0; i < 3; i++)
    heard.push(listenTo(t, await datagrams.join({ group, interfaceHost: '127.0.0.1' })))
  sender.send(Buffer.from('to all'), group)
  await waitUntil(() => heard.every(({ messages }) => messages.length === 1), { what: 'all heard it' })
  for (const { messages } of heard) assert.deepEqual(messages, [{ text: 'to all', port: sender.port }])
})

test('codes and derived keys are those of RFC 4231 and RFC 5869', () => {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
  const code = nodeCiphers.mac(Buffer.from('Jefe'), Buffer.from('what do ya want for nothing?'))
  assert.equal(hex(code), '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843')
  const ikm = new Uint8Array(22).fill(0x0b)
  const derived = nodeCiphers.derive({ key: ikm, salt: new Uint8Array(0), info: '', bytes: 42 })
  assert.equal(
    hex(derived),
    '8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8',
  )
  assert.equal(nodeCiphers.same(code, code.slice()), true)
  assert.equal(nodeCiphers.same(code, code.subarray(1)), false)
})

test('a sealed datagram opens under its key and number only, and not when any byte of it has changed', () => {
  const nonce = new Uint8Array(12).fill(3)
  const sealed = new Uint8Array(14 + 40 + 16).map((_, i) => i)
  const body = sealed.slice(14, 54)
  const sealer = nodeCiphers.sealer(new Uint8Array(32).fill(1))
  sealer.seal(nonce, sealed, 14)
  assert.deepEqual(sealer.open(nonce, sealed, 14), body)
  assert.equal(sealer.open(new Uint8Array(12), sealed, 14), undefined)
  assert.equal(nodeCiphers.sealer(new Uint8Array(32)).open(nonce, sealed, 14), undefined)
  for (let place = 0; place < sealed.length; place++) {
    const changed = sealed.slice()
    changed[place] = (changed[place] as number) ^ 1
    assert.equal(sealer.open(nonce, changed, 14), undefined, `byte ${place}`)
  }
  for (let length = 0; length < sealed.length; length++) {
    assert.equal(sealer.open(nonce, sealed.subarray(0, length), 14), undefined)
  }
})

test('a host without datagrams has no udp://', async () => {
  const transport = udpTransport({ ...nodeHost(), datagrams: undefined })
  const address = parseAddress('udp://127.0.0.1:5')
  await failsWith('ADDRESS_INVALID', transport.connect({ address, connectTimeoutMs: 100 }))
  await failsWith('ADDRESS_INVALID', transport.listen({ address, onConnection: (each) => each.destroy() }))
  assert.throws(() => udpTransport(nodeHost(), { datagramBytes: 100 }), TypeError)
})
