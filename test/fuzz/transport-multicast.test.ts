// Any datagrams at a multicast group: those who listen to it are given what the listener has sent there, each message
// once and unaltered, or nothing. Strangers can be heard by everybody in such a group, and are by nobody.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import { parseAddress } from '../../src/transport/address.ts'
import type { LinkOptions } from '../../src/transport/link-options.ts'
import type { Connection, Listener } from '../../src/transport/transport.ts'
import { udpBounds } from '../../src/transport/udp/bounds.ts'
import { udpTransport } from '../../src/transport/udp/udp-transport.ts'
import { DatagramNet, type SeenDatagram } from '../support/memory-datagrams.ts'
import { type Got, isAmong, key, server } from './udp-sessions.ts'

const isLong = process.env.COTERIE_TEST_ALL === '1'
const prng = new Prng(23)
const group = { host: '239.1.2.3', port: 4712 }
const messages: Got[] = [
  { control: prng.bytes(20), payload: new Uint8Array(0) },
  { control: prng.bytes(5), payload: prng.bytes(300) },
  { control: prng.bytes(40), payload: prng.bytes(5000) },
]

interface Hearer {
  readonly near: Connection
  readonly shared: Got[]
  readonly ends: unknown[]
}

interface Session {
  readonly net: DatagramNet
  readonly listener: Listener
  readonly far: Connection[]
  readonly hearers: Hearer[]
}

function isToGroup({ to }: SeenDatagram): boolean {
  return to.host === group.host
}

/** A listener and two that hear its group. */
async function startSession(keyed: boolean, seed = 1): Promise<Session> {
  const net = new DatagramNet(seed)
  const options: LinkOptions = { multicast: `${group.host}:${group.port}`, ...(keyed ? { key } : {}) }
  const link = { ...options, identity: () => ({ site: 'test', databaseId: undefined }) }
  const far: Connection[] = []
  const address = parseAddress(`udp://${server.host}:${server.port}`)
  const listener = await udpTransport(net.host()).listen({
    address,
    link,
    onConnection(connection) {
      connection.handlers = { message: () => undefined, drain: () => undefined, closed: () => undefined }
      far.push(connection)
    },
  })
  const hearers: Hearer[] = []
  for (let i = 0; i < 2; i++) {
    const connecting = udpTransport(net.host()).connect({ address, link, connectTimeoutMs: 5000 })
    await net.run(100)
    const near = await connecting
    const hearer: Hearer = { near, shared: [], ends: [] }
    near.handlers = {
      message: () => undefined,
      channelMessage: (control, payload) => void hearer.shared.push({ control, payload }),
      drain: () => undefined,
      closed: (error) => hearer.ends.push(error),
    }
    near.send(Uint8Array.of(1))
    hearers.push(hearer)
  }
  await net.run(2 * udpBounds.channelProbeMs)
  assert.equal(far[0]?.channel?.hearers, 2, 'both hear the group')
  return { net, listener, far, hearers }
}

function sendShared({ far }: Session, each: Got): void {
  assert.equal(far[0]?.channel?.send(each.control, each.payload), true)
}

/** All messages once at each, and no other; the connections go on. */
function assertOnce({ hearers }: Session, told: string): void {
  for (const { shared, ends } of hearers) {
    for (const each of shared) assert.ok(isAmong(each, messages), told)
    assert.equal(shared.length, messages.length, told)
    assert.deepEqual(ends, [])
  }
}

async function assertStillGood(session: Session): Promise<void> {
  const counts = session.hearers.map(({ shared }) => shared.length)
  await session.net.run(2 * udpBounds.channelProbeMs)
  sendShared(session, messages[0] as Got)
  await session.net.run(100)
  assert.deepEqual(
    session.hearers.map(({ shared }) => shared.length),
    counts.map((count) => count + 1),
    'what is sent is heard',
  )
  for (const { ends } of session.hearers) assert.deepEqual(ends, [])
}

for (const { name, keyed } of [
  { name: 'with a key', keyed: true },
  { name: 'without', keyed: false },
]) {
  test(`[A24] every truncation and every flip of what goes to a group changes no message: ${name}`, async () => {
    const session = await startSession(keyed)
    const { net } = session
    let changed = 0
    net.onDatagram = (datagram) => {
      const { bytes, from, to } = datagram
      if (!isToGroup(datagram)) return bytes
      const places = [...bytes.keys()].filter((place) => isLong || place < 130 || place % 17 === 0)
      for (const place of places) {
        net.inject(bytes.slice(0, place), from, to)
        const flipped = bytes.slice()
        flipped[place] = (flipped[place] as number) ^ prng.pick([1, 0x80, 0xff])
        net.inject(flipped, from, to)
        changed++
      }
      return bytes
    }
    for (const each of messages) sendShared(session, each)
    await net.run(100)
    assert.ok(changed > 500, `${changed} changes`)
    assertOnce(session, name)
    net.onDatagram = undefined
    await assertStillGood(session)
  })

  test(`[A24] what went to a group is taken once, whoever sends it again and wherever: ${name}`, async () => {
    const session = await startSession(keyed)
    const { net } = session
    for (const each of messages) sendShared(session, each)
    await net.run(100)
    const seen = [...net.seen]
    const stranger = { host: '10.9.9.9', port: 99 }
    for (let round = 0; round < 3; round++) {
      for (const { bytes, from, to } of seen) {
        net.inject(bytes, stranger, group)
        // To the group what went to one of them, and to each of them what went to the group.
        if (to.host !== group.host) net.inject(bytes, from, group)
        else for (const { to: each } of seen) if (each.host !== group.host) net.inject(bytes, from, each)
      }
      await net.run(50)
    }
    assertOnce(session, name)
    await assertStillGood(session)
  })

  test(`[A24] what strangers send to a group is heard by nobody, and keeps nothing: ${name}`, async () => {
    const session = await startSession(keyed)
    const { net } = session
    sendShared(session, messages[2] as Got)
    await net.run(100)
    const like = net.seen.filter(isToGroup).map(({ bytes }) => bytes)
    const heldBefore = process.memoryUsage().arrayBuffers
    for (let i = 0; i < (isLong ? 100_000 : 5000); i++) {
      const bytes = prng.bytes(prng.below(1300))
      const good = prng.pick(like)
      if (prng.chance(0.8)) bytes.set(good.subarray(0, Math.min(prng.below(30), bytes.length, good.length)))
      net.inject(bytes, { host: '10.9.9.9', port: prng.between(1, 60_000) }, group)
    }
    await net.run(100)
    globalThis.gc?.()
    const held = process.memoryUsage().arrayBuffers - heldBefore
    assert.ok(held < 30_000_000, `${held} bytes`)
    for (const { shared } of session.hearers) assert.equal(shared.length, 1)
    await assertStillGood(session)
  })
}

test('[A24] a channel of another listener, of another key or group, is not listened to', async () => {
  const session = await startSession(true)
  const other = await startSession(true, 2)
  for (const each of messages) sendShared(other, each)
  await other.net.run(100)
  for (const { bytes, from } of other.net.seen.filter(isToGroup)) session.net.inject(bytes, from, group)
  await session.net.run(100)
  for (const { shared } of session.hearers) assert.equal(shared.length, 0)
  await assertStillGood(session)
})
