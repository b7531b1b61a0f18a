// Each decoder of the datagram transport against bytes of chance, and against good bytes with some of them changed: it
// says undefined, or what it read is written as the same bytes again.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { concatBytes, equalBytes } from '../../src/base/bytes.ts'
import { Arrivals } from '../../src/transport/udp/arrivals.ts'
import { decodeChannelWord, encodeChannelWord } from '../../src/transport/udp/channel-wire.ts'
import { Departures } from '../../src/transport/udp/departures.ts'
import { type Frame, frameBytes, readFrames, writeFrame } from '../../src/transport/udp/frames.ts'
import {
  decodeAccept,
  decodeCookie,
  decodeDataHeader,
  decodeHello,
  decodeRefuse,
  encodeAccept,
  encodeCookie,
  encodeHello,
  encodeRefuse,
  helloBytes,
  signedPart,
} from '../../src/transport/udp/packet.ts'
import { Reassembly } from '../../src/transport/udp/reassembly.ts'

const sign = (): Uint8Array => new Uint8Array(32)
const protocol = { oldest: 1, newest: 1 }
const nonce = new Uint8Array(32).fill(1)
const good = [
  encodeHello({ keyed: true, protocol, id: 5, nonce, cookie: new Uint8Array(20) }, sign),
  encodeCookie({ keyed: false, id: 5, cookie: new Uint8Array(20) }, sign),
  encodeAccept({ keyed: true, version: 1, id: 5, serverId: 6, nonce }, sign),
  encodeRefuse({ keyed: false, protocol, id: 5 }, sign),
]
const frames: Frame[] = [
  { kind: 'message', control: new Uint8Array(3), payload: new Uint8Array(4) },
  {
    kind: 'fragment',
    message: 1,
    controlBytes: 0,
    payloadBytes: 300,
    unit: 100,
    index: 1,
    bytes: new Uint8Array(100),
  },
  { kind: 'report', highest: 9, echoed: 8, heldMs: 1, room: 5, bitmap: new Uint8Array(4) },
  { kind: 'bye', broken: false },
  { kind: 'channel', bytes: new Uint8Array(9) },
]
const goodBodies = frames.map((frame) => {
  const body = new Uint8Array(frameBytes(frame))
  writeFrame(body, 0, frame)
  return body
})
const offer = encodeChannelWord({
  kind: 'offer',
  id: 3,
  group: { host: '239.1.1.1', port: 5 },
  key: new Uint8Array(32),
})

/** Bytes of chance, or good ones with some of them changed, cut or joined. */
function bytesLike(examples: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  const changed = fc
    .tuple(
      fc.constantFrom(...examples),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
      fc.constantFrom(...examples),
      fc.nat(3),
    )
    .map(([example, changes, more, how]) => {
      const bytes = how === 0 ? concatBytes([example, more]) : example.slice()
      for (const [place, value] of changes) if (bytes.length > 0) bytes[place % bytes.length] = value
      return how === 1 ? bytes.subarray(0, Math.max(0, bytes.length - (changes[0]?.[0] ?? 1))) : bytes
    })
  return fc.oneof(
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 1300 }) },
    { weight: 4, arbitrary: changed },
  )
}

/** `runs` inputs for each decoder. */
export function fuzzDecoders(runs: number): void {
  const options = { numRuns: runs }
  const check = (examples: readonly Uint8Array[], judge: (bytes: Uint8Array) => void): void =>
    fc.assert(fc.property(bytesLike(examples), judge), options)
  // The signature is not the decoder's to judge: it is copied for the comparison.
  const again = (bytes: Uint8Array) => () => {
    const { mac } = signedPart(bytes)
    return concatBytes([mac, new Uint8Array(16)])
  }
  check(good, (bytes) => {
    const hello = decodeHello(bytes)
    if (hello === undefined) return
    assert.equal(bytes.length, helloBytes)
    assert.ok(equalBytes(encodeHello(hello, again(bytes)), bytes))
  })
  check(good, (bytes) => {
    const cookie = decodeCookie(bytes)
    if (cookie !== undefined) assert.ok(equalBytes(encodeCookie(cookie, again(bytes)), bytes))
  })
  check(good, (bytes) => {
    const accept = decodeAccept(bytes)
    if (accept !== undefined) assert.ok(equalBytes(encodeAccept(accept, again(bytes)), bytes))
  })
  check(good, (bytes) => {
    const refuse = decodeRefuse(bytes)
    if (refuse !== undefined) assert.ok(equalBytes(encodeRefuse(refuse, again(bytes)), bytes))
  })
  check([...good, Uint8Array.of(5, 0)], (bytes) => {
    const header = decodeDataHeader(bytes)
    if (header !== undefined) assert.ok(bytes[0] === 5 && bytes.length >= 30)
  })
  check([offer, Uint8Array.of(2, 1, 2, 3, 4, 5, 6)], (bytes) => {
    const word = decodeChannelWord(bytes)
    if (word !== undefined) assert.ok(equalBytes(encodeChannelWord(word), bytes))
  })
  check(goodBodies, (body) => {
    const read = readFrames(body)
    if (read === undefined) return
    const written = new Uint8Array(body.length)
    let at = 0
    for (const frame of read) at = writeFrame(written, at, frame)
    assert.equal(at, body.length)
    assert.ok(equalBytes(written, body))
  })
  fuzzState(options, goodBodies)
}

/** Frames of chance, one after the other, at the state that they reach: bounded, and nothing is thrown. */
function fuzzState(options: { readonly numRuns: number }, examples: readonly Uint8Array[]): void {
  const reassembly = new Reassembly({ messageBytesMax: 10_000 })
  const departures = new Departures<number>()
  const arrivals = new Arrivals()
  const bodies = bytesLike(examples)
  let now = 0
  fc.assert(
    fc.property(bodies, fc.nat(50), (body, number) => {
      now++
      const sent = departures.nextNumber()
      departures.sent({ number: sent, bytes: 10, sentMs: now, cargo: [sent] })
      if (arrivals.isNew(arrivals.highest + number - 25)) arrivals.add(arrivals.highest + number - 25)
      for (const frame of readFrames(body) ?? []) {
        if (frame.kind === 'fragment') reassembly.add(frame, now)
        else if (frame.kind === 'report') departures.reported(frame, now, 1)
      }
      assert.ok(reassembly.heldBytes <= 20_000 + 4_194_304)
      assert.equal(departures.bytesUnderWay, departures.underWay * 10)
    }),
    options,
  )
}
