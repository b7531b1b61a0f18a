// Any datagrams at both ends of a session: what comes out are the messages that went in, each once and unaltered, or
// nothing; nobody is let in, no session ends, and nothing is kept for those who are not connected. It all runs on a
// network that the test holds in its hand.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import { nodeCiphers } from '../../src/env/node/node-ciphers.ts'
import { udpBounds } from '../../src/transport/udp/bounds.ts'
import { writeFrame } from '../../src/transport/udp/frames.ts'
import { ClientHandshake } from '../../src/transport/udp/handshake.ts'
import { helloBytes } from '../../src/transport/udp/packet.ts'
import { Secrets } from '../../src/transport/udp/secrets.ts'
import { DatagramNet, type SeenDatagram } from '../support/memory-datagrams.ts'
import { fuzzDecoders } from './udp-decoders.ts'
import { type Got, isAmong, key, type Session, server, startSession, talk } from './udp-sessions.ts'

const isLong = process.env.COTERIE_TEST_ALL === '1'
const prng = new Prng(17)
const messages: Got[] = [
  { control: prng.bytes(20), payload: new Uint8Array(0) },
  { control: prng.bytes(5), payload: prng.bytes(300) },
  { control: prng.bytes(40), payload: prng.bytes(5000) },
  { control: prng.bytes(40), payload: prng.bytes(20_000) },
]
const kinds = [
  { name: 'with a key', keyed: true },
  { name: 'without', keyed: false },
]

/** All that a session sends, from the first hello on, by a run of its own. */
async function recordedSession(keyed: boolean): Promise<SeenDatagram[]> {
  const session = await startSession({ keyed })
  talk(session, messages)
  await session.net.run(100)
  assert.equal(session.atServer[0]?.messages.length, messages.length)
  return session.net.seen
}

async function assertStillGood(session: Session): Promise<void> {
  const { near, atServer, net, ends } = session
  const before = atServer[0]?.messages.length ?? 0
  near.send(Uint8Array.of(250))
  await net.run(400)
  assert.equal(atServer[0]?.messages.length, before + 1, 'the session goes on')
  assert.deepEqual(ends, [])
  assert.equal(atServer.length, 1, 'nobody else was let in')
}

for (const { name, keyed } of kinds) {
  test(`random datagrams, also such as begin like ours, do nothing: ${name}`, async () => {
    const session = await startSession({ keyed })
    const { net, atServer } = session
    const client = net.seen[0]?.from
    assert.ok(client !== undefined)
    const recorded = net.seen.map(({ bytes }) => bytes)
    for (let i = 0; i < 3000; i++) {
      const like = prng.pick(recorded)
      const bytes = prng.bytes(prng.below(1300))
      if (prng.chance(0.7)) bytes.set(like.subarray(0, Math.min(prng.below(24), bytes.length)))
      const stranger = { host: '127.0.0.1', port: prng.between(2000, 60_000) }
      net.inject(bytes, prng.chance(0.5) ? client : stranger, server)
      net.inject(bytes, server, client)
    }
    await net.run(100)
    assert.equal(atServer[0]?.messages.length, 0)
    assert.equal(session.listener.halfOpen, 0)
    await assertStillGood(session)
  })

  test(`every truncation and every flip of a recorded session changes no message: ${name}`, async () => {
    const recorded = await recordedSession(keyed)
    for (const [index, { bytes, to }] of recorded.entries()) {
      if (index > 40 && !isLong) break
      const places = [...bytes.keys()].filter((place) => isLong || place < 130 || place % 97 === 0)
      const changes = [
        ...places.map((place) => bytes.slice(0, place)),
        ...places.map((place) => {
          const flipped = bytes.slice()
          flipped[place] = (flipped[place] as number) ^ prng.pick([1, 0x80, 0xff])
          return flipped
        }),
      ]
      // The same session again, up to this datagram, and then all that could have become of it.
      const net = new DatagramNet()
      let count = -1
      net.onDatagram = (datagram) => {
        count++
        if (count !== index) return datagram.bytes
        for (const change of changes) net.inject(change, datagram.from, datagram.to)
        return datagram.bytes
      }
      const session = await startSession({ keyed, net })
      talk(session, messages)
      await net.run(400)
      const got = [...(session.atServer[0]?.messages ?? []), ...session.atClient]
      for (const each of got) assert.ok(isAmong(each, messages), `datagram ${index} to ${to.port}`)
      assert.equal(got.length, 2 * messages.length, `datagram ${index} to ${to.port}`)
      assert.deepEqual(session.ends, [])
      assert.equal(session.atServer.length, 1)
    }
  })

  test(`a session that is played again, in whole or in part, is no session and adds nothing: ${name}`, async () => {
    const session = await startSession({ keyed })
    talk(session, messages)
    await session.net.run(100)
    const seen = [...session.net.seen]
    for (let round = 0; round < 3; round++) {
      for (const { bytes, from, to } of seen) session.net.inject(bytes, from, to)
      await session.net.run(50)
    }
    assert.equal(session.atServer[0]?.messages.length, messages.length)
    assert.equal(session.atClient.length, messages.length)
    // Behind the window, too: what is older than it is dropped unread.
    for (let i = 0; i < udpBounds.replayWindow + 10; i++) {
      session.near.send(Uint8Array.of(1))
      session.net.clock.advance(2)
    }
    await session.net.run(2000)
    const count = session.atServer[0]?.messages.length
    assert.ok(count !== undefined && count > udpBounds.replayWindow)
    for (const { bytes, from, to } of seen) session.net.inject(bytes, from, to)
    await session.net.run(50)
    assert.equal(session.atServer[0]?.messages.length, count)
    await assertStillGood(session)
    // And at a listener that was started anew, which draws another key for its cookies and other ids.
    const other = await startSession({ keyed, net: new DatagramNet(99) })
    for (const { bytes, from, to } of seen) if (to.port === server.port) other.net.inject(bytes, from, to)
    await other.net.run(50)
    assert.equal(other.atServer[0]?.messages.length, 0)
    await assertStillGood(other)
  })

  test(`datagrams that are sent back to their sender do nothing: ${name}`, async () => {
    const session = await startSession({ keyed })
    talk(session, messages)
    await session.net.run(100)
    for (const { bytes, from, to } of [...session.net.seen]) session.net.inject(bytes, to, from)
    await session.net.run(50)
    assert.equal(session.atServer[0]?.messages.length, messages.length)
    assert.equal(session.atClient.length, messages.length)
    await assertStillGood(session)
  })

  test(`the id of a connection is worth nothing at another address: ${name}`, async () => {
    const session = await startSession({ keyed })
    const { net, near, atServer } = session
    net.onDatagram = ({ bytes, to }) => {
      if (to.port !== server.port) return bytes
      net.inject(bytes, { host: '127.0.0.1', port: 5555 }, server)
      net.inject(bytes, { host: '127.0.0.9', port: 1001 }, server)
      return undefined
    }
    near.send(Uint8Array.of(1), new Uint8Array(100))
    await net.run(300)
    assert.equal(atServer[0]?.messages.length, 0)
    net.onDatagram = undefined
    await assertStillGood(session)
  })

  test(`nor is that of a connection that has yet to begin: ${name}`, async () => {
    const net = new DatagramNet()
    let strayed = 0
    net.onDatagram = ({ bytes, to }) => {
      if (to.port !== server.port || bytes[0] !== 5 || strayed === 3) return bytes
      strayed++
      net.inject(bytes, { host: '127.0.0.1', port: 5555 }, server)
      return undefined
    }
    const session = await startSession({ keyed, net })
    assert.ok(strayed > 0)
    if (strayed < 3) assert.equal(session.atServer.length, 0)
    await net.run(1000)
    assert.equal(strayed, 3)
    await assertStillGood(session)
  })

  test(`ten thousand spoofed hellos keep nothing, and get less than they sent: ${name}`, async () => {
    const session = await startSession({ keyed })
    const { net, listener } = session
    const secrets = new Secrets(nodeCiphers, keyed ? key : undefined)
    net.seen.length = 0
    const heldBefore = process.memoryUsage().arrayBuffers
    for (let i = 0; i < 10_000; i++) {
      const hello = new ClientHandshake({ secrets, random: prng, protocol: { oldest: 1, newest: 1 } }).hello
      net.inject(hello, { host: `10.0.${i >> 8}.${i & 255}`, port: 1024 + i }, server)
    }
    assert.equal(listener.halfOpen, 0)
    assert.equal(net.seen.length, 10_000)
    for (const { bytes } of net.seen) assert.ok(bytes.length < helloBytes)
    net.seen.length = 0
    await net.run(10)
    globalThis.gc?.()
    const held = process.memoryUsage().arrayBuffers - heldBefore
    assert.ok(held < 20_000_000, `${held} bytes`)
    await assertStillGood(session)
  })

  test(`hellos with good cookies are half-open within a bound, and end by themselves: ${name}`, async () => {
    const session = await startSession({ keyed, halfOpenMax: 16 })
    const { net, listener, refused } = session
    const secrets = new Secrets(nodeCiphers, keyed ? key : undefined)
    for (let i = 0; i < 100; i++) {
      const client = new ClientHandshake({ secrets, random: prng, protocol: { oldest: 1, newest: 1 } })
      const from = { host: '10.1.1.1', port: 2000 + i }
      net.onDatagram = ({ bytes, to }) => {
        if (to.port === from.port) client.received(bytes)
        return bytes
      }
      net.inject(client.hello, from, server)
      net.inject(client.hello, from, server)
      assert.ok(listener.halfOpen > 0 && listener.halfOpen <= 16)
    }
    net.onDatagram = undefined
    assert.equal(refused.filter(({ code }) => code === 'CONNECTION_CLOSED').length, 84)
    await net.run(udpBounds.halfOpenMs + 100)
    assert.equal(listener.halfOpen, 0)
    assert.equal(refused.filter(({ code }) => code === 'CONNECT_TIMEOUT').length, 16)
    assert.equal(session.atServer.length, 1)
  })
}

test('fragments that claim up to 2^32 bytes end the connection with FRAME_INVALID, or hold nothing', async () => {
  for (const claimed of [100_001, 2 ** 31, 2 ** 32 - 1]) {
    for (const part of ['controlBytes', 'payloadBytes'] as const) {
      const session = await startSession({ keyed: false })
      const { net, atServer } = session
      const frame = {
        kind: 'fragment',
        message: 5,
        controlBytes: 0,
        payloadBytes: 0,
        [part]: claimed,
        unit: 1000,
        index: 0,
        bytes: new Uint8Array(1000),
      } as const
      // Instead of what the client sends next; resealed by hand, because it is in the test's hand here.
      const sealed = await resealed(session, (body) => body.subarray(0, writeFrame(body, 0, frame)))
      net.inject(sealed.bytes, sealed.from, server)
      await net.run(20)
      assert.equal(atServer[0]?.closed, true)
      assert.equal(session.ends.length, 1)
    }
  }
})

/** A datagram of the client with another body, that the server takes to be good: nobody without a key is kept out. */
async function resealed(
  session: Session,
  write: (body: Uint8Array) => Uint8Array,
): Promise<{ bytes: Uint8Array; from: SeenDatagram['from'] }> {
  const { net } = session
  const accept = net.seen.find(({ bytes }) => bytes[0] === 3)?.bytes
  const hello = net.seen.find(({ bytes }) => bytes[0] === 1)
  const data = net.seen.find(({ bytes, to }) => bytes[0] === 5 && to.port === server.port)
  assert.ok(accept !== undefined && hello !== undefined && data !== undefined)
  const nonces = { client: hello.bytes.subarray(20, 52), server: accept.subarray(24, 56) }
  const { toServer } = new Secrets(nodeCiphers, undefined).directionKeys(nonces)
  const body = write(new Uint8Array(1150))
  const datagram = new Uint8Array(14 + body.length + 16)
  datagram.set(data.bytes.subarray(0, 14))
  datagram[2] = 200
  datagram.set(body, 14)
  toServer.seal(200, datagram, 14)
  return { bytes: datagram, from: hello.from }
}

test('decoders of datagrams refuse or read back whatever bytes come', () => {
  fuzzDecoders(1000)
})
