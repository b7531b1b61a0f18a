// The bytes of datagrams: what is written is read back, and nothing else is; cookies, secrets and the handshake, as
// what follows from each datagram, without a socket.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isCoterieError } from '../../src/base/errors.ts'
import { Prng } from '../../src/base/prng.ts'
import { nodeCiphers } from '../../src/env/node/node-ciphers.ts'
import { udpBounds } from '../../src/transport/udp/bounds.ts'
import { Cookies } from '../../src/transport/udp/cookie.ts'
import { type Frame, frameBytes, readFrames, writeFrame } from '../../src/transport/udp/frames.ts'
import { ClientHandshake, ServerHandshake, type Session } from '../../src/transport/udp/handshake.ts'
import { decodeHello, helloBytes } from '../../src/transport/udp/packet.ts'
import { Secrets } from '../../src/transport/udp/secrets.ts'
import { readU48, u48Max, writeU48 } from '../../src/transport/udp/wire.ts'

const from = { host: '127.0.0.1', port: 4711 }
const versions = { oldest: 1, newest: 1 }
const key = new Uint8Array(32).fill(9)

function randomOf(seed: number): { bytes(length: number): Uint8Array } {
  const prng = new Prng(seed)
  return { bytes: (length) => prng.bytes(length) }
}

interface Ends {
  readonly client: ClientHandshake
  readonly server: ServerHandshake
}

function endsOf(
  options: {
    readonly clientKey?: Uint8Array
    readonly serverKey?: Uint8Array
    readonly clientVersions?: { readonly oldest: number; readonly newest: number }
  } = {},
): Ends {
  const { clientKey, serverKey, clientVersions = versions } = options
  const cookies = new Cookies(nodeCiphers, randomOf(1).bytes(32))
  const clientSecrets = new Secrets(nodeCiphers, clientKey)
  const serverSecrets = new Secrets(nodeCiphers, serverKey)
  return {
    client: new ClientHandshake({ secrets: clientSecrets, random: randomOf(2), protocol: clientVersions }),
    server: new ServerHandshake({ secrets: serverSecrets, cookies, protocol: versions }),
  }
}

/** Both sessions of a handshake that is let in. */
function shakeHands({ client, server }: Ends): { near: Session; far: Session; answers: Uint8Array[] } {
  const first = server.received(client.hello, from, 0)
  assert.equal(first.kind, 'answer')
  const cookie = first.kind === 'answer' ? first.datagram : client.hello
  assert.equal(client.received(cookie).kind, 'again')
  const second = server.received(client.hello, from, 0)
  assert.ok(second.kind === 'hello')
  const { session: far, datagram } = server.accept(second.hello, second.version, randomOf(3))
  const last = client.received(datagram)
  assert.ok(last.kind === 'accepted')
  return { near: last.session, far, answers: [cookie, datagram] }
}

function datagramOf(session: Session, number: number, body: Uint8Array): Uint8Array {
  const datagram = new Uint8Array(14 + body.length + 16)
  datagram.set(body, 14)
  session.outgoing.seal(number, datagram, 14)
  return datagram
}

test('numbers of 48 bits are read as they were written', () => {
  const bytes = new Uint8Array(8)
  for (const value of [0, 1, 0xffff_ffff, 0x1_0000_0000, u48Max]) {
    writeU48(bytes, 1, value)
    assert.equal(readU48(bytes, 1), value)
  }
  assert.equal(bytes[7], 0)
})

test('frames are read as they were written, several in a datagram', () => {
  const frames: Frame[] = [
    { kind: 'message', control: Uint8Array.of(1, 2), payload: Uint8Array.of(3) },
    {
      kind: 'fragment',
      message: 7,
      controlBytes: 10,
      payloadBytes: 200,
      unit: 100,
      index: 2,
      bytes: new Uint8Array(10).fill(5),
    },
    { kind: 'report', highest: 2 ** 40, echoed: 5, heldMs: 1.5, room: 9999, bitmap: Uint8Array.of(255, 1) },
    { kind: 'ping' },
    { kind: 'bye', broken: true },
    { kind: 'byeAck' },
    { kind: 'channel', bytes: Uint8Array.of(1) },
  ]
  const body = new Uint8Array(frames.reduce((sum, frame) => sum + frameBytes(frame), 0))
  let at = 0
  for (const frame of frames) at = writeFrame(body, at, frame)
  assert.equal(at, body.length)
  assert.deepEqual(readFrames(body), frames)
})

test('what is cut short, longer or of no known kind is no frames at all', () => {
  const body = new Uint8Array(frameBytes({ kind: 'ping' }) + 8)
  const end = writeFrame(body, 0, { kind: 'message', control: Uint8Array.of(1), payload: Uint8Array.of(2) })
  for (let length = 1; length < end; length++) assert.equal(readFrames(body.subarray(0, length)), undefined)
  assert.equal(readFrames(body.subarray(0, end))?.length, 1)
  assert.equal(readFrames(body.subarray(0, end + 1)), undefined)
  assert.equal(readFrames(new Uint8Array(0)), undefined)
  assert.equal(readFrames(Uint8Array.of(99)), undefined)
})

test('a hello is longer than every answer to it', () => {
  const { answers } = shakeHands(endsOf())
  for (const answer of answers) assert.ok(answer.length < helloBytes, `${answer.length} bytes`)
  const { client, server } = endsOf({ clientVersions: { oldest: 5, newest: 6 } })
  const step = server.received(client.hello, from, 0)
  client.received(step.kind === 'answer' ? step.datagram : client.hello)
  const refused = server.received(client.hello, from, 0)
  assert.ok(refused.kind === 'refuse' && refused.datagram.length < helloBytes)
})

test('a cookie is good for its hello, its address and its time only', () => {
  const { client, server } = endsOf()
  const step = server.received(client.hello, from, 1000)
  assert.ok(step.kind === 'answer')
  client.received(step.datagram)
  const kindAt = (nowMs: number, address = from): string => server.received(client.hello, address, nowMs).kind
  assert.equal(kindAt(1000), 'hello')
  assert.equal(kindAt(1000 + udpBounds.cookieSlotMs), 'hello')
  assert.equal(kindAt(1000 + 2 * udpBounds.cookieSlotMs), 'answer')
  assert.equal(kindAt(1000, { host: '127.0.0.1', port: 4712 }), 'answer')
  assert.equal(kindAt(1000, { host: '127.0.0.2', port: 4711 }), 'answer')
  const restarted = new ServerHandshake({
    secrets: new Secrets(nodeCiphers, undefined),
    cookies: new Cookies(nodeCiphers, randomOf(99).bytes(32)),
    protocol: versions,
  })
  assert.equal(restarted.received(client.hello, from, 1000).kind, 'answer')
})

test('both ends of a handshake have the keys of both directions, with a key and without', () => {
  for (const ends of [endsOf(), endsOf({ clientKey: key, serverKey: key })]) {
    const { near, far } = shakeHands(ends)
    assert.equal(near.ownId, far.peerId)
    assert.equal(near.peerId, far.ownId)
    const body = Uint8Array.of(1, 2, 3)
    assert.deepEqual(far.incoming.open(5, datagramOf(near, 5, body), 14), body)
    assert.deepEqual(near.incoming.open(5, datagramOf(far, 5, body), 14), body)
    assert.equal(near.incoming.open(5, datagramOf(near, 5, body), 14), undefined, 'what was reflected')
  }
})

test('with a key nothing is readable, and a datagram under another number or of another connection is none', () => {
  const first = shakeHands(endsOf({ clientKey: key, serverKey: key }))
  const body = new Uint8Array(64).fill(0x61)
  const sealed = datagramOf(first.near, 8, body)
  assert.equal(Buffer.from(sealed).includes(Buffer.from(body.subarray(0, 8))), false)
  assert.equal(first.far.incoming.open(9, sealed.slice(), 14), undefined)
  assert.deepEqual(first.far.incoming.open(8, sealed.slice(), 14), body)
  const ends = endsOf({ clientKey: key, serverKey: key })
  const step = ends.server.received(ends.client.hello, from, 0)
  ends.client.received(step.kind === 'answer' ? step.datagram : sealed)
  const hello = decodeHello(ends.client.hello)
  assert.ok(hello !== undefined)
  // The same client, let in a second time: other nonces, other keys.
  const again = ends.server.accept(hello, 1, randomOf(77))
  assert.equal(again.session.incoming.open(8, sealed.slice(), 14), undefined)
})

test('a hello by another key, or by none, gets no answer, and the listener knows why', () => {
  const other = new Uint8Array(32).fill(8)
  for (const [ends, words] of [
    [endsOf({ clientKey: other, serverKey: key }), 'another key'],
    [endsOf({ serverKey: key }), 'uses no key'],
    [endsOf({ clientKey: key }), 'uses a key, and this side does not'],
  ] as const) {
    const step = ends.server.received(ends.client.hello, from, 0)
    assert.ok(step.kind === 'suspect')
    assert.ok(isCoterieError(step.error, 'HANDSHAKE_FAILED'))
    assert.ok(step.error.message.includes(words), step.error.message)
  }
})

test('answers to an earlier hello, or by another key, are ignored', () => {
  const { answers } = shakeHands(endsOf({ clientKey: key, serverKey: key }))
  const later = new ClientHandshake({
    secrets: new Secrets(nodeCiphers, key),
    random: randomOf(12),
    protocol: versions,
  })
  for (const answer of answers) assert.equal(later.received(answer).kind, 'ignored')
  const keyless = new ClientHandshake({
    secrets: new Secrets(nodeCiphers, undefined),
    random: randomOf(2),
    protocol: versions,
  })
  for (const answer of answers) assert.equal(keyless.received(answer).kind, 'ignored')
})

test('a handshake datagram that is sent back to its sender does nothing', () => {
  const ends = endsOf({ clientKey: key, serverKey: key })
  assert.equal(ends.client.received(ends.client.hello).kind, 'ignored')
  const { answers } = shakeHands(ends)
  for (const answer of answers) assert.equal(ends.server.received(answer, from, 0).kind, 'ignored')
})

test('other versions are refused after the cookie, on both sides, with both ranges', () => {
  const { client, server } = endsOf({
    clientKey: key,
    serverKey: key,
    clientVersions: { oldest: 4, newest: 5 },
  })
  const step = server.received(client.hello, from, 0)
  assert.ok(step.kind === 'answer')
  client.received(step.datagram)
  const refused = server.received(client.hello, from, 0)
  assert.ok(refused.kind === 'refuse' && isCoterieError(refused.error, 'PROTOCOL_INCOMPATIBLE'))
  const end = client.received(refused.datagram)
  assert.ok(end.kind === 'refused' && isCoterieError(end.error, 'PROTOCOL_INCOMPATIBLE'))
  assert.deepEqual(end.error.details, { ours: { oldest: 4, newest: 5 }, theirs: versions })
})

test('a key of another length is OPTION_INVALID', () => {
  for (const length of [0, 16, 31, 33]) {
    assert.throws(
      () => new Secrets(nodeCiphers, new Uint8Array(length)),
      (error) => isCoterieError(error, 'OPTION_INVALID') && error.details.option === 'key',
    )
  }
})
