// The handshake with a shared secret, between two sides on a stream that the test holds: who comes in, who does not, and
// what a man in the middle can do about it.

import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { projectFolder } from '../../scripts/files.ts'
import { concatBytes, utf8Encode } from '../../src/base/bytes.ts'
import type { ErrorCode } from '../../src/base/errors.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { VirtualClock } from '../../src/env/simulated/virtual-clock.ts'
import { parseAddress } from '../../src/transport/address.ts'
import { checkLink, linkFor } from '../../src/transport/link-check.ts'
import type { LinkSettings } from '../../src/transport/link-options.ts'
import { memoryTransport } from '../../src/transport/memory-transport.ts'
import { encodePreface, prefaceBytes, protocolRange } from '../../src/transport/preface.ts'
import { tcpTransport } from '../../src/transport/tcp-transport.ts'
import { hasCode } from '../conformance/transport-suite.ts'
import { type Opening, opening, openSide } from '../support/openings.ts'
import { HeldStream, streamPair } from '../support/stream-pair.ts'

const secret = 'a secret of the group, long enough'

function assertRefused({ near, far }: Opening, nearCode: ErrorCode, farCode: ErrorCode = nearCode): void {
  hasCode(nearCode)(near.refused)
  hasCode(farCode)(far.refused)
  assert.equal(near.connection ?? far.connection, undefined)
}

test('[A25] two sides with the same secret open, and messages flow', async () => {
  const both = opening({ near: { secret }, far: { secret: utf8Encode(secret) } })
  await both.run()
  both.near.connection?.send(utf8Encode('hello'))
  both.far.connection?.send(utf8Encode('hello back'))
  await both.run()
  assert.deepEqual(both.far.messages, [utf8Encode('hello')])
  assert.deepEqual(both.near.messages, [utf8Encode('hello back')])
  const wire = Buffer.concat([...both.near.stream.sent, ...both.far.stream.sent])
  assert.equal(wire.includes(secret), false)
})

test('different secrets, and a secret on one side only, are AUTH_FAILED on both sides', async () => {
  const cases = [
    { near: { secret }, far: { secret: `${secret}!` } },
    { near: { secret }, far: {} },
    { near: {}, far: { secret } },
  ]
  for (const links of cases) {
    const both = opening(links)
    await both.run()
    assertRefused(both, 'AUTH_FAILED')
  }
})

test('the message of a refusal says whose fault it is', async () => {
  const differ = opening({ near: { secret }, far: { secret: `${secret}!` } })
  await differ.run()
  assert.match(String(differ.far.refused?.message), /proof of the other side is wrong/)
  assert.match(String(differ.near.refused?.message), /says that our proof is wrong/)
  const lacking = opening({ near: {}, far: { secret } })
  await lacking.run()
  assert.match(String(lacking.near.refused?.message), /demands a secret, and this side has none/)
  assert.match(String(lacking.far.refused?.message), /demands a secret, and the other side has none/)
})

test('a listener proves nothing to who has not proved himself', async () => {
  const both = opening({ near: { secret: `${secret}!` }, far: { secret } })
  await both.run()
  // Preface, challenge, and the refusal of three bytes.
  assert.deepEqual(
    both.far.stream.sent.map((bytes) => bytes[0]),
    [0x43, 1, 3],
  )
})

test('a message in front of the proof is none', async () => {
  const clock = new VirtualClock()
  const stream = new HeldStream(clock)
  const side = openSide(clock, stream, { role: 'listener', link: { secret } })
  const frame = Buffer.from('000000000000000069df2265', 'hex')
  stream.receive(
    concatBytes([encodePreface(protocolRange, { demandsSecret: true, compressions: [] }), frame]),
  )
  hasCode('HANDSHAKE_FAILED')(side.refused)
  assert.equal(side.connection, undefined)
})

test('demands that are cleared on the way are seen, on one side or on both', async () => {
  const clear = (bytes: Uint8Array): Uint8Array => {
    const changed = bytes.slice()
    if (bytes.length === prefaceBytes) changed[12] = 0
    return changed
  }
  for (const victims of [['near'], ['far'], ['near', 'far']] as const) {
    const both = opening({ near: { secret }, far: { secret } })
    for (const victim of victims) both[victim].stream.middle = clear
    await both.run()
    assert.equal(both.near.connection ?? both.far.connection, undefined)
    assert.ok(both.near.refused !== undefined && both.far.refused !== undefined)
  }
})

test('whatever byte of an opening is flipped on the way, a side that opens has been proved to', async () => {
  const clean = opening({ near: { secret }, far: { secret } })
  await clean.run()
  for (const who of ['near', 'far'] as const) {
    const lengths = clean[who].stream.sent.map((bytes) => bytes.length)
    for (const [index, length] of lengths.entries()) {
      for (let place = 0; place < length; place++) {
        const both = opening({ near: { secret }, far: { secret } })
        let chunk = 0
        both[who].stream.middle = (bytes) => {
          if (chunk++ !== index) return bytes
          const changed = bytes.slice()
          changed[place] = (changed[place] as number) ^ 0x41
          return changed
        }
        await both.run()
        const told = `${who}, chunk ${index}, byte ${place}`
        // Only the very last message, of the listener to the connector, may leave the listener open and alone.
        const isLast = who === 'far' && index === lengths.length - 1
        assert.equal(both.near.connection, undefined, told)
        if (!isLast) assert.equal(both.far.connection, undefined, told)
      }
    }
  }
})

test('every truncation of an opening waits', async () => {
  const clean = opening({ near: { secret }, far: { secret } })
  await clean.run()
  const sent = concatBytes(clean.near.stream.sent)
  for (let length = 0; length < sent.length; length++) {
    const clock = new VirtualClock()
    const stream = new HeldStream(clock)
    const side = openSide(clock, stream, { role: 'listener', link: { secret } })
    stream.receive(sent.subarray(0, length))
    assert.equal(side.connection ?? side.refused, undefined, `cut at ${length}`)
  }
})

test('a recorded opening that is played again is AUTH_FAILED, to either role', async () => {
  const clean = opening({ near: { secret }, far: { secret } })
  await clean.run()
  for (const role of ['connector', 'listener'] as const) {
    const recorded = role === 'listener' ? clean.near.stream.sent : clean.far.stream.sent
    const clock = new VirtualClock()
    const stream = new HeldStream(clock)
    const side = openSide(clock, stream, { role, link: { secret } })
    for (const bytes of recorded) stream.receive(bytes)
    hasCode('AUTH_FAILED')(side.refused)
    assert.equal(side.connection, undefined)
  }
})

test('a side that gets back what it sends does not open, in either role', async () => {
  for (const role of ['connector', 'listener'] as const) {
    const clock = new VirtualClock()
    const mirror = new HeldStream(clock)
    mirror.other = mirror
    const side = openSide(clock, mirror, { role, link: { secret } })
    clock.runSoon()
    clock.runSoon()
    hasCode('AUTH_FAILED')(side.refused)
    assert.match(String(side.refused), /our own challenge came back/)
  }
})

test('the proof of one connection is worth nothing on another that is open at the same time', async () => {
  // The man in the middle speaks to the listener on two connections, and lets the first one answer the second.
  const first = opening({ near: { secret }, far: { secret } })
  const clock = new VirtualClock()
  const stream = new HeldStream(clock)
  const second = openSide(clock, stream, { role: 'listener', link: { secret } })
  first.near.stream.middle = (bytes) => {
    stream.receive(bytes)
    return bytes
  }
  await first.run()
  assert.ok(first.far.connection !== undefined)
  hasCode('AUTH_FAILED')(second.refused)
})

test('a handshake is bounded: what claims to be longer ends it, and bytes are not gathered', () => {
  for (const length of [167, 256, 65_535]) {
    const clock = new VirtualClock()
    const stream = new HeldStream(clock)
    const side = openSide(clock, stream, { role: 'listener', link: { secret } })
    stream.receive(encodePreface(protocolRange, { demandsSecret: true, compressions: [] }))
    stream.receive(Uint8Array.of(1, length & 255, length >> 8))
    hasCode('HANDSHAKE_FAILED')(side.refused)
  }
})

test('a secret of less than 16 bytes is OPTION_INVALID', async () => {
  const transport = tcpTransport(nodeHost())
  const link: LinkSettings = { secret: 'too short', identity: () => ({ site: 'a', databaseId: undefined }) }
  const address = parseAddress('127.0.0.1:0')
  await assert.rejects(
    transport.listen({ address, link, onConnection: (connection) => connection.destroy() }),
    hasCode('OPTION_INVALID'),
  )
})

test('a transport refuses protection that it cannot give', async () => {
  const memory = memoryTransport(nodeHost())
  const link: LinkSettings = { secret, identity: () => ({ site: 'a', databaseId: undefined }) }
  const address = parseAddress('memory://protected')
  const listening = memory.listen({ address, link, onConnection: (connection) => connection.destroy() })
  await assert.rejects(listening, hasCode('OPTION_INVALID'))
  await assert.rejects(memory.connect({ address, link, connectTimeoutMs: 100 }), hasCode('OPTION_INVALID'))
  const tcp = { scheme: 'tcp', takes: ['secret', 'compression'] } as const
  assert.throws(() => checkLink({ key: new Uint8Array(32) }, tcp), hasCode('OPTION_INVALID'))
  checkLink({ key: new Uint8Array(32), secret }, tcp)
  checkLink({ compression: 'zstd' }, { scheme: 'memory', takes: [] })
})

test('of several addresses that are listened on, each takes the protection that is for it', () => {
  const takes = [['secret'], []] as const
  assert.deepEqual(linkFor({ secret }, takes[1], takes), {})
  assert.deepEqual(linkFor({ secret }, takes[0], takes), { secret })
  assert.deepEqual(linkFor({ secret }, [], [[]]), { secret })
  assert.deepEqual(linkFor({ secret }, undefined, takes), { secret })
})

test('the worked example of docs/protocol.md is what goes over the wire, and its proofs are what it says they are', () => {
  const clock = new VirtualClock()
  const { near, far } = streamPair(clock)
  const lines: string[] = []
  for (const [stream, who] of [
    [near, 'C'],
    [far, 'L'],
  ] as const) {
    stream.middle = (bytes) => {
      lines.push(`${who} ${Buffer.from(bytes).toString('hex')}`)
      return bytes
    }
  }
  const key = 'an example of a secret'
  const link = { secret: key, compression: 'deflate' } as const
  openSide(clock, near, {
    role: 'connector',
    link,
    identity: { site: 'b', databaseId: undefined },
    nonce: 0x11,
  })
  openSide(clock, far, { role: 'listener', link, identity: { site: 'a', databaseId: 'db-1' }, nonce: 0x22 })
  clock.runSoon()
  const page = readFileSync(join(projectFolder, 'docs/protocol.md'), 'utf8')
  assert.ok(page.includes(`\`\`\`\n${lines.join('\n')}\n\`\`\``), lines.join('\n'))
  const sent = (line: number): Buffer => Buffer.from((lines[line] ?? '').slice(2), 'hex')
  const [prefaceC, prefaceL, challengeL, challengeC, proofC, proofL] = [0, 1, 2, 3, 4, 5].map(sent)
  const said = Buffer.concat([prefaceC, prefaceL, challengeC, challengeL] as Buffer[])
  const proofOf = (role: string): Buffer =>
    createHmac('sha256', key).update(`coterie secret 1, ${role}\0`).update(said).digest()
  assert.deepEqual(proofC?.subarray(3), proofOf('connector'))
  assert.deepEqual(proofL?.subarray(3), proofOf('listener'))
})
