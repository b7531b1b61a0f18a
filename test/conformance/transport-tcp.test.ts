// The TCP transport: the common suite, and what only a byte stream can meet: strangers, other versions, silence.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import * as http from 'node:http'
import * as net from 'node:net'
import { describe, type TestContext, test } from 'node:test'
import { type CoterieError, isCoterieError } from '../../src/base/errors.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { parseAddress } from '../../src/transport/address.ts'
import { encodePreface, protocolRange } from '../../src/transport/preface.ts'
import { tcpTransport } from '../../src/transport/tcp-transport.ts'
import type { Listener, ListenOptions } from '../../src/transport/transport.ts'
import { hasCode, transportConformance } from './transport-suite.ts'

const host = nodeHost()
const transport = tcpTransport(host)
const anyPort = parseAddress('tcp://127.0.0.1:0')

transportConformance({
  name: 'tcp',
  transport,
  freshAddress: () => anyPort,
  deadAddress: async () => {
    const listener = await transport.listen({ address: anyPort, onConnection: (c) => c.destroy() })
    await listener.close()
    return parseAddress(listener.address)
  },
})

async function rawServer(t: TestContext, onSocket: (socket: net.Socket) => void): Promise<string> {
  const sockets = new Set<net.Socket>()
  const server = net.createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    onSocket(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return `tcp://127.0.0.1:${(server.address() as net.AddressInfo).port}`
}

async function refusingListener(
  t: TestContext,
  options: Partial<ListenOptions> = {},
): Promise<{ listener: Listener; port: number; refused: CoterieError[]; refusal: () => Promise<void> }> {
  const refused: CoterieError[] = []
  let wake: () => void = () => undefined
  const listener = await transport.listen({
    address: anyPort,
    ...options,
    onConnection: (connection) => connection.destroy(),
    onRefused(error) {
      refused.push(error)
      wake()
    },
  })
  t.after(() => listener.close())
  const refusal = (): Promise<void> =>
    new Promise((resolve) => {
      wake = resolve
    })
  return { listener, port: parseAddress(listener.address).port, refused, refusal }
}

async function endOf(socket: net.Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  socket.on('error', () => undefined)
  socket.on('data', (chunk: Buffer) => void chunks.push(chunk))
  await once(socket, 'close')
  return Buffer.concat(chunks)
}

describe('transport tcp: strangers', () => {
  test('a server that never answers is CONNECT_TIMEOUT', async (t) => {
    const address = parseAddress(await rawServer(t, () => undefined))
    await assert.rejects(transport.connect({ address, connectTimeoutMs: 50 }), (error) => {
      assert.ok(isCoterieError(error, 'CONNECT_TIMEOUT'))
      assert.deepEqual(error.details, { address: address.text, connectTimeoutMs: 50 })
      return true
    })
  })

  test('a server that closes without a word is CONNECT_FAILED', async (t) => {
    const address = parseAddress(await rawServer(t, (socket) => socket.end()))
    await assert.rejects(transport.connect({ address, connectTimeoutMs: 5000 }), hasCode('CONNECT_FAILED'))
  })

  test('an HTTP server is PROTOCOL_INCOMPATIBLE', async (t) => {
    const server = http.createServer((_, response) => response.end('hello'))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.after(() => server.close())
    const address = parseAddress(`127.0.0.1:${(server.address() as net.AddressInfo).port}`)
    await assert.rejects(
      transport.connect({ address, connectTimeoutMs: 5000 }),
      hasCode('PROTOCOL_INCOMPATIBLE'),
    )
  })

  test('one wrong byte is enough to tell a stranger, without waiting for the rest', async (t) => {
    for (const start of ['H', 'COTERIA', 'COTERIE!']) {
      const address = parseAddress(await rawServer(t, (socket) => socket.write(start)))
      await assert.rejects(
        transport.connect({ address, connectTimeoutMs: 60_000 }),
        hasCode('PROTOCOL_INCOMPATIBLE'),
      )
    }
  })

  test('an HTTP client gets our preface and the end, and the listener says why', async (t) => {
    const { port, refused } = await refusingListener(t)
    const socket = net.connect(port, '127.0.0.1')
    socket.write('GET / HTTP/1.1\r\n\r\n')
    const received = await endOf(socket)
    assert.deepEqual(received, Buffer.from(encodePreface(protocolRange)))
    assert.equal(refused.length, 1)
    hasCode('PROTOCOL_INCOMPATIBLE')(refused[0])
  })

  test('sites of other versions are PROTOCOL_INCOMPATIBLE on both sides, with both ranges', async (t) => {
    const { listener, refused, refusal } = await refusingListener(t)
    const newer = tcpTransport(host, { protocol: { oldest: 2, newest: 3 } })
    const refusing = refusal()
    await assert.rejects(
      newer.connect({ address: parseAddress(listener.address), connectTimeoutMs: 5000 }),
      (error) => {
        assert.ok(isCoterieError(error, 'PROTOCOL_INCOMPATIBLE'))
        assert.deepEqual(error.details, { ours: { oldest: 2, newest: 3 }, theirs: { oldest: 1, newest: 1 } })
        return true
      },
    )
    await refusing
    hasCode('PROTOCOL_INCOMPATIBLE')(refused[0])
    assert.deepEqual(refused[0]?.details, {
      ours: { oldest: 1, newest: 1 },
      theirs: { oldest: 2, newest: 3 },
    })
  })

  test('sites whose versions overlap speak the newest of both', async (t) => {
    const { listener } = await refusingListener(t)
    const newer = tcpTransport(host, { protocol: { oldest: 1, newest: 9 } })
    const near = await newer.connect({ address: parseAddress(listener.address), connectTimeoutMs: 5000 })
    assert.equal(near.protocolVersion, 1)
    near.destroy()
  })

  test('a preface that comes byte by byte, with a frame at its heels, is understood', async (t) => {
    const received: Uint8Array[] = []
    let done: () => void = () => undefined
    const gotIt = new Promise<void>((resolve) => {
      done = resolve
    })
    const listener = await transport.listen({
      address: anyPort,
      onConnection(connection) {
        connection.handlers = {
          message(control) {
            received.push(control)
            connection.destroy()
            done()
          },
          drain: () => undefined,
          closed: () => undefined,
        }
      },
    })
    t.after(() => listener.close())
    const socket = net.connect(parseAddress(listener.address).port, '127.0.0.1')
    socket.on('error', () => undefined)
    socket.setNoDelay(true)
    // An empty frame: no control, no payload, and the CRC-32 of eight zero bytes.
    const bytes = Buffer.concat([
      encodePreface(protocolRange),
      Buffer.alloc(8),
      Buffer.from('69df2265', 'hex'),
    ])
    for (const byte of bytes) {
      socket.write(Uint8Array.of(byte))
      await new Promise((resolve) => setImmediate(resolve))
    }
    await gotIt
    assert.deepEqual(received, [new Uint8Array(0)])
  })

  test('peers that say nothing are dropped in time', async (t) => {
    const { port, refused } = await refusingListener(t, { connectTimeoutMs: 50 })
    const socket = net.connect(port, '127.0.0.1')
    await endOf(socket)
    hasCode('CONNECT_TIMEOUT')(refused[0])
  })

  test('of too many peers that say nothing the oldest is dropped', async (t) => {
    const { listener, port, refused } = await refusingListener(t, { halfOpenMax: 3 })
    const ends: number[] = []
    const closes: Promise<unknown>[] = []
    for (let i = 0; i < 5; i++) {
      const socket = net.connect(port, '127.0.0.1')
      closes.push(endOf(socket).then(() => ends.push(i)))
      // Its preface shows that the listener has accepted it.
      await once(socket, 'data')
    }
    await Promise.all(closes.slice(0, 2))
    assert.deepEqual(ends, [0, 1])
    assert.equal(refused.length, 2)
    hasCode('CONNECTION_CLOSED')(refused[0])
    const near = await transport.connect({ address: parseAddress(listener.address), connectTimeoutMs: 5000 })
    near.destroy()
    await listener.close()
    await Promise.all(closes)
  })

  test('a connection that is reset, or ends inside a message, is CONNECTION_CLOSED', async (t) => {
    for (const how of ['reset', 'half'] as const) {
      const address = await rawServer(t, (socket) => {
        socket.write(encodePreface(protocolRange))
        socket.once('data', () => {
          if (how === 'reset') socket.resetAndDestroy()
          else socket.end(Buffer.alloc(5))
        })
      })
      const connection = await transport.connect({ address: parseAddress(address), connectTimeoutMs: 5000 })
      const closing = new Promise<CoterieError | undefined>((resolve) => {
        connection.handlers = { message: () => undefined, drain: () => undefined, closed: resolve }
      })
      connection.send(Uint8Array.of(1))
      hasCode('CONNECTION_CLOSED')(await closing)
    }
  })

  test('addresses that cannot be are ADDRESS_INVALID', async () => {
    const listening = transport.listen({
      address: parseAddress('192.0.2.1:0'),
      onConnection: (connection) => connection.destroy(),
    })
    await assert.rejects(listening, hasCode('ADDRESS_INVALID'))
    await assert.rejects(
      transport.connect({ address: anyPort, connectTimeoutMs: 1000 }),
      hasCode('ADDRESS_INVALID'),
    )
  })
})
