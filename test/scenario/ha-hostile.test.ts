// Bytes from strangers on a serving port: garbage, cut off, oversized, replayed. Their connection ends; the site goes
// on, its replicas too, and its memory stays bounded.

import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import { limits, type Master } from '../../src/index.ts'
import { frameCrc, frameHeaderBytes, writeFrameHeader } from '../../src/transport/frame.ts'
import { encodePreface } from '../../src/transport/preface.ts'
import { atEnd } from '../support/at-end.ts'
import { addressOf, openMemory, putMany, replicaOf, serveTcp, watched } from '../support/sites.ts'
import { waitUntil } from '../support/wait-until.ts'

const preface = encodePreface({ oldest: 1, newest: 1 })

function frame(control: Uint8Array, payload: Uint8Array = new Uint8Array(0)): Uint8Array {
  const header = new Uint8Array(frameHeaderBytes)
  const crc = frameCrc(control, payload.length)
  writeFrameHeader(header, 0, { controlBytes: control.length, payloadBytes: payload.length, crc })
  return Buffer.concat([header, control, payload])
}

interface Stranger {
  readonly socket: Socket
  readonly isClosed: boolean
}

async function stranger(t: TestContext, master: Master): Promise<Stranger> {
  const { hostname, port } = new URL(addressOf(master).replace('tcp:', 'http:'))
  const socket = connect(Number(port), hostname)
  atEnd(t, () => {
    socket.destroy()
  })
  const state = { socket, isClosed: false }
  socket.on('error', () => {})
  socket.on('close', () => {
    state.isClosed = true
  })
  socket.resume()
  await new Promise((resolve) => socket.once('connect', resolve))
  return state
}

/** Whether the master and a replica still do their work. */
async function assertWell(master: Master, work: () => Promise<{ acks: number }>): Promise<void> {
  assert.equal(master.replicas.length, 1)
  assert.equal((await work()).acks, 2)
}

test('garbage, wrong prefaces and damaged frames end their connection, and nothing else', async (t) => {
  const source = await openMemory(t)
  const master = await serveTcp(source, { sites: 2 })
  const { db } = await replicaOf(t, master)
  const prng = new Prng(7)
  const badCrc = frame(Uint8Array.of(1, 2, 3))
  badCrc[9] = (badCrc[9] as number) ^ 1
  const tooLong = new Uint8Array(frameHeaderBytes)
  writeFrameHeader(tooLong, 0, { controlBytes: 10, payloadBytes: 0xffff_ffff, crc: 0 })
  const overHandshake = new Uint8Array(frameHeaderBytes)
  writeFrameHeader(overHandshake, 0, {
    controlBytes: 16,
    payloadBytes: limits.handshakeFrameBytesMax,
    crc: frameCrc(new Uint8Array(16), limits.handshakeFrameBytesMax),
  })
  const cases: readonly [string, Uint8Array][] = [
    ['text', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')],
    ['noise', prng.bytes(5000)],
    ['another version', encodePreface({ oldest: 9, newest: 12 })],
    ['noise behind the preface', Buffer.concat([preface, prng.bytes(5000)])],
    ['a frame with a wrong checksum', Buffer.concat([preface, badCrc])],
    ['a frame that claims four gigabytes', Buffer.concat([preface, tooLong])],
    ['a frame above the bound before the handshake', Buffer.concat([preface, overHandshake])],
    ['an empty message', Buffer.concat([preface, frame(new Uint8Array(0))])],
    ['a message of an unknown kind', Buffer.concat([preface, frame(Uint8Array.of(0xee, 1, 2, 3))])],
    [
      'a message with a bulk it must not have',
      Buffer.concat([preface, frame(prng.bytes(40), prng.bytes(40))]),
    ],
  ]
  for (const [name, bytes] of cases) {
    const { socket } = await stranger(t, master)
    const closed = watched(new Promise<void>((resolve) => socket.once('close', () => resolve())))
    socket.write(bytes)
    // Long before those are sent away who say nothing.
    await waitUntil(() => closed.isSettled, { what: `the connection ended: ${name}`, timeoutMs: 5000 })
    await assertWell(master, () => source.put('after', name))
  }
  await waitUntil(() => db.getSync('after') === cases.at(-1)?.[0], { what: 'the replica had it all' })
  assert.equal(source.status().failure, undefined)
  assert.ok((source.status().counters.messagesInvalid ?? 0) >= 3)
})

test('random messages that are well framed never stop a site or change its data', async (t) => {
  const rounds = process.env.COTERIE_TEST_ALL === undefined ? 40 : 1000
  const source = await openMemory(t)
  await putMany(source, 10)
  const master = await serveTcp(source, { sites: 2 })
  await replicaOf(t, master)
  const { digest } = await source.digest()
  const prng = new Prng(11)
  for (let round = 0; round < rounds; round++) {
    const { socket } = await stranger(t, master)
    socket.write(preface)
    for (let i = 0; i < 20 && !socket.destroyed; i++) {
      const control = prng.bytes(prng.between(1, 120))
      // Known versions and kinds get deeper than noise does.
      control[0] = prng.below(3)
      if (control.length > 1) control[1] = prng.below(16)
      socket.write(frame(control, prng.bytes(prng.chance(0.2) ? prng.below(300) : 0)))
    }
    socket.destroy()
  }
  await assertWell(master, () => source.put('after', '1'))
  await source.del('after')
  assert.equal((await source.digest()).digest, digest)
  assert.equal(source.status().failure, undefined)
  assert.equal(source.status().term, 1)
})

test('strangers who say nothing are bounded in number, and big claims allocate nothing', async (t) => {
  const source = await openMemory(t)
  const master = await serveTcp(source, { sites: 2 })
  await replicaOf(t, master)
  const before = process.memoryUsage()
  const strangers: Stranger[] = []
  const claim = new Uint8Array(frameHeaderBytes)
  const payloadBytes = limits.handshakeFrameBytesMax - 100
  writeFrameHeader(claim, 0, {
    controlBytes: 50,
    payloadBytes,
    crc: frameCrc(new Uint8Array(50), payloadBytes),
  })
  for (let i = 0; i < 300; i++) {
    const each = await stranger(t, master)
    each.socket.write(
      i % 2 === 0 ? preface.subarray(0, 5) : Buffer.concat([preface, claim, new Uint8Array(20)]),
    )
    strangers.push(each)
  }
  await assertWell(master, () => source.put('after', '1'))
  const after = process.memoryUsage()
  const grown = after.arrayBuffers + after.external - before.arrayBuffers - before.external
  assert.ok(grown < 30 * 1024 * 1024, `${grown} bytes more`)
  for (let i = 0; i < 300; i++) {
    const each = await stranger(t, master)
    each.socket.write(preface)
    strangers.push(each)
  }
  await waitUntil(() => strangers.filter((each) => each.isClosed).length >= 40, {
    what: 'the oldest strangers were dropped',
  })
  await assertWell(master, () => source.put('after', '2'))
})
