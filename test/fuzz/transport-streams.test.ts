// Any bytes at a listener: they are frames, or the connection ends with FRAME_INVALID or PROTOCOL_INCOMPATIBLE, or it
// waits for more. Nothing else happens, and memory stays near what was really received. The connection runs on a
// stream that the test holds in its hand, so thousands of sessions take a second.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { concatBytes, emptyBytes } from '../../src/base/bytes.ts'
import type { CoterieError, ErrorCode } from '../../src/base/errors.ts'
import { Prng } from '../../src/base/prng.ts'
import type { Stream, StreamHandlers } from '../../src/env/host.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { VirtualClock } from '../../src/env/simulated/virtual-clock.ts'
import { parseAddress } from '../../src/transport/address.ts'
import { ByteQueue } from '../../src/transport/byte-queue.ts'
import { FrameReader, frameCrc, frameHeaderBytes, writeFrameHeader } from '../../src/transport/frame.ts'
import { encodePreface, protocolRange } from '../../src/transport/preface.ts'
import { StreamOpening } from '../../src/transport/stream-opening.ts'
import { tcpTransport } from '../../src/transport/tcp-transport.ts'

interface Message {
  readonly control: Uint8Array
  readonly payload: Uint8Array
}

/** What a peer made of a session: its messages, and how it ended (undefined: it waits for more). */
interface Outcome {
  readonly messages: Message[]
  readonly ended: boolean
  readonly error: CoterieError | undefined
}

const boundBytes = 100_000
const expectedCodes: ReadonlySet<ErrorCode> = new Set([
  'FRAME_INVALID',
  'PROTOCOL_INCOMPATIBLE',
  'AUTH_FAILED',
  'TLS_FAILED',
  'HANDSHAKE_FAILED',
])
const preface = encodePreface(protocolRange)

function frame(control: Uint8Array, payload: Uint8Array): Uint8Array {
  const header = new Uint8Array(frameHeaderBytes)
  const crc = frameCrc(control, payload.length)
  writeFrameHeader(header, 0, { controlBytes: control.length, payloadBytes: payload.length, crc })
  return concatBytes([header, control, payload])
}

/** Plays `chunks` to a connection, one after the other. */
async function play(chunks: readonly Uint8Array[]): Promise<Outcome> {
  const clock = new VirtualClock()
  let handlers: StreamHandlers | undefined
  let isPaused = false
  let isOpen = true
  const close = (): void => {
    if (isOpen) clock.soon(() => handlers?.closed(undefined))
    isOpen = false
  }
  const stream: Stream = {
    remote: 'test',
    bufferedBytes: 0,
    write: () => true,
    set handlers(given: StreamHandlers) {
      handlers = given
    },
    get handlers(): StreamHandlers {
      return handlers as StreamHandlers
    },
    pause: () => {
      isPaused = true
    },
    resume: () => {
      isPaused = false
    },
    end: close,
    destroy: close,
  }
  const messages: Message[] = []
  let ended = false
  let error: CoterieError | undefined
  new StreamOpening({
    stream,
    role: 'listener',
    host: { ...nodeHost(), clock, timers: clock },
    remote: 'test',
    local: undefined,
    protocol: protocolRange,
    frameBytesMax: boundBytes,
    onOpen(connection) {
      connection.handlers = {
        message: (control, payload) => void messages.push({ control, payload }),
        drain: () => undefined,
        closed: (cause) => {
          ended = true
          error = cause
        },
      }
    },
    onRefused(cause) {
      ended = true
      error = cause
    },
  })
  for (const chunk of chunks) {
    assert.equal(isPaused, false, 'the connection reads on')
    if (!isOpen) break
    handlers?.data(chunk)
    await Promise.resolve()
    clock.runSoon()
  }
  return { messages, ended, error }
}

function sameMessages(a: readonly Message[], b: readonly Message[]): boolean {
  return (
    a.length === b.length &&
    a.every((message, i) => {
      const other = b[i] as Message
      return (
        Buffer.compare(message.control, other.control) === 0 &&
        Buffer.compare(message.payload, other.payload) === 0
      )
    })
  )
}

function isPrefixOf(a: readonly Message[], b: readonly Message[]): boolean {
  return sameMessages(a, b.slice(0, a.length))
}

function assertExpected(outcome: Outcome): void {
  if (!outcome.ended) return
  const code = outcome.error?.code
  assert.ok(code !== undefined && expectedCodes.has(code), `it ended with ${String(outcome.error)}`)
}

const prng = new Prng(42)
const recordedMessages: Message[] = [
  { control: prng.bytes(20), payload: emptyBytes },
  { control: emptyBytes, payload: prng.bytes(30) },
  { control: prng.bytes(70), payload: prng.bytes(100) },
  { control: emptyBytes, payload: emptyBytes },
  { control: prng.bytes(5), payload: prng.bytes(300) },
]
const recorded = concatBytes([
  preface,
  ...recordedMessages.map(({ control, payload }) => frame(control, payload)),
])

const bytesArbitrary = (maxLength: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ maxLength })

test('any messages, cut into any chunks, come out as they went in', async () => {
  const messageArbitrary = fc.record({ control: bytesArbitrary(200), payload: bytesArbitrary(3000) })
  const property = fc.asyncProperty(
    fc.array(messageArbitrary, { maxLength: 8 }),
    fc.array(fc.integer({ min: 1, max: 2500 }), { minLength: 1, maxLength: 10 }),
    async (messages, cuts) => {
      const bytes = concatBytes([preface, ...messages.map(({ control, payload }) => frame(control, payload))])
      const chunks: Uint8Array[] = []
      for (let at = 0, i = 0; at < bytes.length; i++) {
        const length = cuts[i % cuts.length] as number
        chunks.push(bytes.slice(at, at + length))
        at += length
      }
      const outcome = await play(chunks)
      assert.equal(outcome.ended, false)
      assert.ok(sameMessages(outcome.messages, messages))
    },
  )
  await fc.assert(property, { numRuns: 300 })
})

test('a queue of bytes gives back what was put in, whatever the pieces', () => {
  const property = fc.property(
    fc.array(fc.integer({ min: 1, max: 3000 }), { maxLength: 40 }),
    fc.array(fc.integer({ min: 0, max: 5000 }), { maxLength: 40 }),
    fc.integer(),
    (pushes, takes, seed) => {
      const random = new Prng(seed)
      const queue = new ByteQueue()
      let model = emptyBytes
      while (pushes.length > 0 || takes.length > 0) {
        const push = random.chance(0.6) ? pushes.shift() : undefined
        if (push !== undefined) {
          const bytes = random.bytes(random.chance(0.5) ? push : 1 + (push % 20))
          queue.push(bytes)
          model = concatBytes([model, bytes])
        }
        const take = random.chance(0.5) ? takes.shift() : undefined
        if (take !== undefined && take <= model.length) {
          assert.equal(Buffer.compare(queue.take(take), model.subarray(0, take)), 0)
          model = model.slice(take)
        }
        assert.equal(queue.length, model.length)
      }
      assert.equal(Buffer.compare(queue.take(model.length), model), 0)
    },
  )
  fc.assert(property, { numRuns: 500 })
})

test('random bytes end the connection or wait, from the start and behind a preface', async () => {
  const property = fc.asyncProperty(
    fc.array(bytesArbitrary(300), { maxLength: 6 }),
    fc.boolean(),
    async (chunks, withPreface) => {
      const outcome = await play(withPreface ? [preface, ...chunks] : chunks)
      assertExpected(outcome)
      // An empty frame has a checksum too, so bytes of chance are no messages.
      assert.equal(outcome.messages.length, 0)
    },
  )
  await fc.assert(property, { numRuns: 1000 })
})

test('every truncation of a session waits, with the messages that are whole', async () => {
  for (let length = 0; length < recorded.length; length++) {
    const outcome = await play([recorded.slice(0, length)])
    assert.equal(outcome.ended, false, `cut at ${length}`)
    assert.ok(isPrefixOf(outcome.messages, recordedMessages), `cut at ${length}`)
  }
  assert.ok(sameMessages((await play([recorded])).messages, recordedMessages))
})

test('every flip of a byte is found, or lies where only a payload or a reserved field can have it', async () => {
  const payloadAt = new Set<number>()
  let at = preface.length
  for (const { control, payload } of recordedMessages) {
    at += frameHeaderBytes + control.length
    for (let i = 0; i < payload.length; i++) payloadAt.add(at + i)
    at += payload.length
  }
  for (let place = 0; place < recorded.length; place++) {
    for (const mask of [0x01, 0x80, 0xff]) {
      const damaged = recorded.slice()
      damaged[place] = (damaged[place] as number) ^ mask
      const outcome = await play([damaged])
      assertExpected(outcome)
      // What a preface demands and offers; the last byte means nothing.
      const isOffer = place >= 12 && place < 15
      const isHarmless = payloadAt.has(place) || place === 15
      if (isOffer) assert.ok(outcome.ended || sameMessages(outcome.messages, recordedMessages))
      else if (isHarmless) assert.equal(outcome.messages.length, recordedMessages.length, `byte ${place}`)
      else if (place >= preface.length) {
        assert.ok(isPrefixOf(outcome.messages, recordedMessages), `byte ${place}`)
        assert.ok(outcome.messages.length < recordedMessages.length, `byte ${place}`)
      } else if (place < 8) assert.equal(outcome.error?.code, 'PROTOCOL_INCOMPATIBLE', `byte ${place}`)
    }
  }
})

test('sizes that are claimed are refused at once above the bound, and cost nothing below it', async () => {
  const sizes = [0, 1, boundBytes - 1, boundBytes, boundBytes + 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]
  for (const controlBytes of sizes) {
    for (const payloadBytes of sizes) {
      const header = new Uint8Array(frameHeaderBytes)
      writeFrameHeader(header, 0, { controlBytes, payloadBytes, crc: 1 })
      const outcome = await play([preface, header])
      const isTooLong = controlBytes + payloadBytes > boundBytes
      const isKnownWrong = isTooLong || controlBytes === 0
      assert.equal(outcome.error?.code, isKnownWrong ? 'FRAME_INVALID' : undefined)
    }
  }
})

test('ten thousand frames that claim 30 MB each and never come hold no memory', () => {
  const header = new Uint8Array(frameHeaderBytes)
  const control = new Uint8Array(4)
  const payloadBytes = 30_000_000
  writeFrameHeader(header, 0, { controlBytes: 4, payloadBytes, crc: frameCrc(control, payloadBytes) })
  const before = process.memoryUsage().arrayBuffers
  const readers: FrameReader[] = []
  for (let i = 0; i < 10_000; i++) {
    const reader = new FrameReader({ boundBytes: 34_000_000 })
    reader.push(concatBytes([header, control]))
    assert.equal(reader.next(), 'more')
    readers.push(reader)
  }
  const heldBytes = process.memoryUsage().arrayBuffers - before
  assert.equal(readers.filter((reader) => reader.isInsideFrame).length, 10_000)
  assert.ok(heldBytes < 20_000_000, `${heldBytes} bytes are held`)
})

test('a message that comes byte by byte is held in not much more than its bytes', () => {
  const total = 400_000
  const message = frame(new Uint8Array(10), new Uint8Array(total))
  const reader = new FrameReader({ boundBytes: 1_000_000 })
  let found = 'more'
  const before = process.memoryUsage()
  for (let i = 0; i < message.length - 1; i++) {
    reader.push(message.slice(i, i + 1))
    found = reader.next()
    if (found !== 'more') break
  }
  assert.equal(found, 'more')
  const heldBytes = process.memoryUsage().arrayBuffers - before.arrayBuffers
  assert.ok(heldBytes < 2 * total + 100_000, `${heldBytes} bytes are held`)
  reader.push(message.subarray(message.length - 1))
  assert.equal(reader.next(), 'frame')
  assert.equal(Buffer.compare(reader.payload, new Uint8Array(total)), 0)
})

test('a real listener goes on after all of it', async (t) => {
  const host = nodeHost()
  const transport = tcpTransport(host)
  let received: Message | undefined
  let done: () => void = () => undefined
  const gotIt = new Promise<void>((resolve) => {
    done = resolve
  })
  const listener = await transport.listen({
    address: parseAddress('127.0.0.1:0'),
    connectTimeoutMs: 60_000,
    onConnection(connection) {
      connection.handlers = {
        message(control, payload) {
          received = { control, payload }
          done()
        },
        drain: () => undefined,
        closed: () => undefined,
      }
    },
  })
  t.after(() => listener.close())
  const address = parseAddress(listener.address)
  const random = new Prng(77)
  const strangers: Promise<void>[] = []
  for (let i = 0; i < 200; i++) {
    const stream = await host.streams.connect({ host: address.host, port: address.port })
    strangers.push(
      new Promise((resolve) => {
        stream.handlers = { data: () => undefined, drain: () => undefined, closed: () => resolve() }
      }),
    )
    stream.write([...(random.chance(0.5) ? [preface] : []), random.bytes(random.below(2000))])
    if (random.chance(0.5)) stream.end()
    else host.timers.soon(() => stream.destroy())
  }
  await Promise.all(strangers)
  const near = await transport.connect({ address, connectTimeoutMs: 5000 })
  near.send(Uint8Array.of(1), Uint8Array.of(2, 3))
  await gotIt
  near.destroy()
  assert.deepEqual(received, { control: Uint8Array.of(1), payload: Uint8Array.of(2, 3) })
})
