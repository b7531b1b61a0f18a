// Compression of a connection: what two sides agree on, what it saves, and what hostile bytes can do with it.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import * as zlib from 'node:zlib'
import { concatBytes, emptyBytes, utf8Encode } from '../../src/base/bytes.ts'
import { Prng } from '../../src/base/prng.ts'
import type { CompressionFormat } from '../../src/env/host.ts'
import { nodeCompression } from '../../src/env/node/node-compression.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { VirtualClock } from '../../src/env/simulated/virtual-clock.ts'
import { parseAddress } from '../../src/transport/address.ts'
import { frameCrc, frameHeaderBytes, writeFrameHeader } from '../../src/transport/frame.ts'
import { bestOf, encodePreface, type PrefaceOffer, protocolRange } from '../../src/transport/preface.ts'
import { tcpTransport } from '../../src/transport/tcp-transport.ts'
import { connectPair, hasCode } from '../conformance/transport-suite.ts'
import { linked } from '../support/linked.ts'
import { opening, openSide, type Side } from '../support/openings.ts'
import { HeldStream } from '../support/stream-pair.ts'
import { waitUntil } from '../support/wait-until.ts'

const isLong = process.env.COTERIE_TEST_ALL === '1'
const anyPort = parseAddress('127.0.0.1:0')
const offer = (...compressions: CompressionFormat[]): PrefaceOffer => ({ demandsSecret: false, compressions })
const deflatePreface = encodePreface(protocolRange, offer('deflate'))

function frame(control: Uint8Array, payload: Uint8Array = emptyBytes): Uint8Array {
  const header = new Uint8Array(frameHeaderBytes)
  const crc = frameCrc(control, payload.length)
  writeFrameHeader(header, 0, { controlBytes: control.length, payloadBytes: payload.length, crc })
  return concatBytes([header, control, payload])
}

function flushed(bytes: Uint8Array): Uint8Array {
  return zlib.deflateRawSync(bytes, { finishFlush: zlib.constants.Z_SYNC_FLUSH })
}

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** Bytes of buffers that something still holds. */
function heldBytes(): number {
  collectGarbage()
  return process.memoryUsage().arrayBuffers
}

/** A listener that has agreed on deflate with a peer whose bytes the test makes up. */
function listenerOnDeflate(): { side: Side; stream: HeldStream } {
  const clock = new VirtualClock()
  const stream = new HeldStream(clock)
  const side = openSide(clock, stream, { role: 'listener', link: { compression: 'deflate' } })
  stream.receive(deflatePreface)
  assert.equal(side.connection?.compression, 'deflate')
  return { side, stream }
}

test('[A25] two sides agree on the best that both offer', () => {
  const both = [offer('deflate', 'zstd'), offer('deflate'), offer('zstd'), offer()] as const
  const [all, deflate, zstd, none] = both
  assert.equal(bestOf(all, all), 'zstd')
  assert.equal(bestOf(all, deflate), 'deflate')
  assert.equal(bestOf(deflate, all), 'deflate')
  assert.equal(bestOf(deflate, zstd), undefined)
  for (const each of both) assert.equal(bestOf(each, none), undefined)
})

test('[A25] who asks for zstd gets what this version of Node and the other side have', async () => {
  const hasZstd = nodeCompression.formats.includes('zstd')
  const cases = [
    ['zstd', 'zstd', hasZstd ? 'zstd' : 'deflate'],
    ['zstd', 'deflate', 'deflate'],
    ['deflate', 'zstd', 'deflate'],
    ['zstd', 'none', 'none'],
    ['none', 'deflate', 'none'],
  ] as const
  for (const [near, far, expected] of cases) {
    const both = opening({ near: { compression: near }, far: { compression: far } })
    await both.run()
    assert.equal(both.near.connection?.compression, expected)
    assert.equal(both.far.connection?.compression, expected)
  }
})

test('[A25] messages that are alike cost a fraction of their bytes, one by one', async (t) => {
  const transport = linked(tcpTransport(nodeHost()), { compression: 'deflate' })
  const { near, far, farSide } = await connectPair(t, transport, anyPort)
  const text = (i: number): Uint8Array =>
    utf8Encode(JSON.stringify({ id: i, name: `user number ${i}`, mail: `user.${i}@mail.example` }))
  let plainBytes = 0
  for (let i = 0; i < 500; i++) {
    plainBytes += frameHeaderBytes + text(i).length
    near.send(text(i))
    await farSide.until((side) => side.messages.length === i + 1, `message ${i}`)
  }
  assert.deepEqual(farSide.messages.at(-1)?.control, text(499))
  assert.ok(near.bytesOut < plainBytes * 0.6, `${near.bytesOut} of ${plainBytes} bytes went out`)
  assert.equal(near.bytesOut, far.bytesIn)
})

test('whoever clears an offer on the way gets an open connection without compression, unless there is a secret', async () => {
  const secret = 'a secret that both sides know'
  const clear = (bytes: Uint8Array): Uint8Array => {
    const changed = bytes.slice()
    if (changed[0] === 0x43) changed[13] = 0
    return changed
  }
  const plain = opening({ near: { compression: 'deflate' }, far: { compression: 'deflate' } })
  plain.near.stream.middle = clear
  plain.far.stream.middle = clear
  await plain.run()
  assert.equal(plain.near.connection?.compression, 'none')
  const both = { compression: 'deflate', secret } as const
  const proved = opening({ near: both, far: both })
  proved.near.stream.middle = clear
  proved.far.stream.middle = clear
  await proved.run()
  hasCode('AUTH_FAILED')(proved.near.refused)
  hasCode('AUTH_FAILED')(proved.far.refused)
})

test('bytes that are not of the format end the connection with FRAME_INVALID', async () => {
  const cases = [
    new Prng(5).bytes(1000),
    Uint8Array.of(0xff, 0xff, 0xff),
    // What comes behind the end of what was compressed.
    concatBytes([zlib.deflateRawSync(frame(Uint8Array.of(1))), new Prng(6).bytes(50)]),
  ]
  for (const bytes of cases) {
    const { side, stream } = listenerOnDeflate()
    stream.receive(bytes)
    await waitUntil(() => !stream.isOpen, { what: 'the connection is ended' })
    assert.ok(side.messages.length <= 1)
  }
})

test('a bomb is refused as soon as its frame claims too much, and unpacks nothing that nobody takes', async () => {
  const claim = frame(Uint8Array.of(1), new Uint8Array(64 * 1_048_576))
  const { stream } = listenerOnDeflate()
  const packed = flushed(claim)
  assert.ok(packed.length < 300_000)
  const before = heldBytes()
  stream.receive(packed)
  await waitUntil(() => !stream.isOpen, { what: 'the connection is ended' })
  assert.ok(heldBytes() - before < 2_000_000)
})

test('a receiver that pauses holds what came packed, however much it would be', async () => {
  const message = frame(Uint8Array.of(1), new Uint8Array(50_000))
  const packed = flushed(concatBytes(Array.from({ length: 1000 }, () => message)))
  assert.ok(packed.length < 200_000, `${packed.length}`)
  const { side, stream } = listenerOnDeflate()
  side.connection?.pause()
  const before = heldBytes()
  stream.receive(packed)
  // Long enough to unpack all of it, many times over.
  for (let i = 0; i < 20; i++) {
    await new Promise((resolve) => setTimeout(resolve, 50))
    const more = heldBytes() - before
    assert.ok(more < 2_000_000, `${more} bytes are held`)
  }
  assert.equal(side.messages.length, 0)
  side.connection?.resume()
  await waitUntil(() => side.messages.length === 1000, { what: 'all messages came' })
})

test('every truncation and every flip of a packed session ends it, or leaves a prefix of its messages', async () => {
  const controls = Array.from({ length: 12 }, (_, i) => new Prng(i).bytes(20 + i))
  const session = flushed(concatBytes(controls.map((control) => frame(control))))
  const outcomes: Promise<void>[] = []
  const check = async (bytes: Uint8Array, told: string): Promise<void> => {
    const { side, stream } = listenerOnDeflate()
    stream.receive(bytes)
    await new Promise((resolve) => setTimeout(resolve, 200))
    assert.ok(side.messages.length <= controls.length, told)
    for (const [i, control] of side.messages.entries()) assert.deepEqual(control, controls[i], told)
    side.connection?.destroy()
  }
  for (let length = 0; length < session.length; length += isLong ? 1 : 3) {
    outcomes.push(check(session.subarray(0, length), `cut at ${length}`))
  }
  for (let place = 0; place < session.length; place += isLong ? 1 : 2) {
    const damaged = session.slice()
    damaged[place] = (damaged[place] as number) ^ 0x20
    outcomes.push(check(damaged, `byte ${place}`))
  }
  await Promise.all(outcomes)
})
