// Whoever has not proved himself changes nothing and costs little, over every kind of stream; and what is done to the
// bytes of a session on their way ends it or shows as a shorter one.

import assert from 'node:assert/strict'
import * as net from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { utf8Decode, utf8Encode } from '../../src/base/bytes.ts'
import type { CoterieError } from '../../src/base/errors.ts'
import { Prng } from '../../src/base/prng.ts'
import type { Stream } from '../../src/env/host.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { VirtualClock } from '../../src/env/simulated/virtual-clock.ts'
import { parseAddress } from '../../src/transport/address.ts'
import type { LinkOptions } from '../../src/transport/link-options.ts'
import { encodePreface, protocolRange } from '../../src/transport/preface.ts'
import { StreamTransport } from '../../src/transport/stream-transport.ts'
import { atEnd } from '../support/at-end.ts'
import { Authority } from '../support/certificates.ts'
import { opening } from '../support/openings.ts'
import { openMemory, putMany, replicaOf } from '../support/sites.ts'
import { HeldStream } from '../support/stream-pair.ts'
import { withTempFolder } from '../support/temp-folder.ts'

const secret = 'a secret that strangers do not know'
const authority = new Authority()
const tlsOf = (name: string): NonNullable<LinkOptions['tls']> => ({
  ca: authority.cert,
  ...authority.issue({ name }),
})
const texts = ['one', 'two', 'three', 'four', 'five']
const seed = Number(process.env.COTERIE_SEED ?? 1)

/** What one side was told of what the other one has sent. */
function assertPrefix(messages: readonly Uint8Array[], told: string): void {
  const received = messages.map(utf8Decode)
  assert.deepEqual(received, texts.slice(0, received.length), told)
}

/** A whole session, with messages both ways; `change` sees every byte on its way, by direction and place. */
async function session(
  link: LinkOptions,
  change: (who: 'near' | 'far', place: number, byte: number) => number | undefined,
): Promise<{ readonly bytes: { near: number; far: number }; readonly both: ReturnType<typeof opening> }> {
  const both = opening({ near: link, far: link })
  const bytes = { near: 0, far: 0 }
  for (const who of ['near', 'far'] as const) {
    let place = 0
    both[who].stream.middle = (chunk) => {
      const out: number[] = []
      for (const byte of chunk) {
        const changed = change(who, place++, byte)
        if (changed === undefined) break
        out.push(changed)
      }
      bytes[who] = place
      return out.length === 0 ? undefined : Uint8Array.from(out)
    }
  }
  await both.run()
  for (const text of texts) {
    both.near.connection?.send(utf8Encode(text))
    both.far.connection?.send(utf8Encode(text))
  }
  await both.run()
  return { bytes, both }
}

for (const link of [{}, { secret }] as const) {
  const kind = 'secret' in link ? 'with a secret' : 'without a secret'
  test(`every flip and every truncation of a session ${kind}, in either direction, leaves prefixes`, async () => {
    const whole = await session(link, (_, __, byte) => byte)
    assert.deepEqual(whole.both.near.messages.map(utf8Decode), texts)
    assert.deepEqual(whole.both.far.messages.map(utf8Decode), texts)
    for (const victim of ['near', 'far'] as const) {
      for (let at = 0; at < whole.bytes[victim]; at++) {
        const flip = at % 2 === 0 ? 0x01 : 0xff
        const flipped = await session(link, (who, place, byte) =>
          who === victim && place === at ? byte ^ flip : byte,
        )
        const cut = await session(link, (who, place, byte) =>
          who === victim && place >= at ? undefined : byte,
        )
        for (const { both } of [flipped, cut]) {
          assertPrefix(both.near.messages, `${victim}, byte ${at}`)
          assertPrefix(both.far.messages, `${victim}, byte ${at}`)
        }
        const receiver = victim === 'near' ? 'far' : 'near'
        assert.ok(cut.both[receiver].messages.length < texts.length, `${victim} cut at ${at}`)
      }
    }
  })
}

for (const isTls of [false, true]) {
  test(`of ten thousand peers that say nothing ${isTls ? 'in TLS ' : ''}256 are held`, async () => {
    const clock = new VirtualClock()
    let accept: (stream: Stream) => void = () => undefined
    const transport = new StreamTransport(
      {
        scheme: 'held',
        takes: ['tls', 'secret'],
        isTls,
        place: ({ host, port }) => ({ host, port }),
        addressOf: () => 'held://a',
        remoteOf: () => 'held://b',
      },
      {
        ...nodeHost(),
        clock,
        timers: clock,
        streams: {
          listen: async (_, onStream) => {
            accept = onStream
            return { host: 'a', port: 1, close: async () => undefined }
          },
          connect: () => Promise.reject(new Error('nobody connects')),
        },
      },
    )
    const refused: CoterieError[] = []
    const listener = await transport.listen({
      address: parseAddress('held://a'),
      link: { tls: tlsOf('a'), secret, identity: () => ({ site: 'a', databaseId: undefined }) },
      onConnection: () => assert.fail('nobody said anything'),
      onRefused: (error) => void refused.push(error),
    })
    const streams: HeldStream[] = []
    for (let i = 0; i < 10_000; i++) {
      const stream = new HeldStream(clock)
      streams.push(stream)
      accept(stream)
      // Some say a little.
      if (!isTls && i % 3 === 0) {
        stream.receive(encodePreface(protocolRange, { demandsSecret: true, compressions: [] }))
      }
    }
    clock.runSoon()
    assert.equal(streams.filter((stream) => stream.isOpen).length, 256)
    assert.ok(streams.slice(-256).every((stream) => stream.isOpen))
    assert.equal(refused.length, 10_000 - 256)
    clock.advance(10_000)
    assert.equal(streams.filter((stream) => stream.isOpen).length, 0)
    assert.ok(refused.slice(-256).every((error) => error.code === 'CONNECT_TIMEOUT'))
    assert.equal(clock.pending.timers, 0)
    await listener.close()
  })
}

/** Connects, says `bytes`, and waits for the end. */
function strangerSays(place: net.NetConnectOpts, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    const socket = net.connect(place)
    socket.on('error', () => undefined)
    socket.on('data', () => undefined)
    socket.on('close', () => resolve())
    socket.end(bytes)
  })
}

test('nothing that strangers say reaches a site, over TCP, a pipe or TLS; its replicas notice nothing', async (t) => {
  const path = join(withTempFolder(t), 's')
  const source = await openMemory(t, { site: 'a' })
  await putMany(source, 10)
  const master = await source.serve({
    listen: ['tcp://127.0.0.1:0', path, 'tls://127.0.0.1:0'],
    sites: 2,
    secret,
    tls: tlsOf('a'),
  })
  atEnd(t, () => master.stop())
  const [tcp = '', , tls = ''] = master.addresses
  const places: readonly net.NetConnectOpts[] = [
    { host: '127.0.0.1', port: parseAddress(tcp).port },
    { path },
    { host: '127.0.0.1', port: parseAddress(tls).port },
  ]
  const before = source.status()
  const prng = new Prng(seed)
  const demanding = encodePreface(protocolRange, { demandsSecret: true, compressions: [] })
  const plain = encodePreface(protocolRange)
  const starts = [
    new Uint8Array(0),
    demanding,
    plain,
    Uint8Array.of(22, 3, 1),
    Uint8Array.of(22, 3, 1, 2, 0, 1),
  ]
  for (let round = 0; round < 40; round++) {
    await Promise.all(
      places.map((place) =>
        strangerSays(place, Buffer.concat([prng.pick(starts), prng.bytes(prng.below(400))])),
      ),
    )
  }
  const after = source.status()
  const { strangersRefused, ...others } = after.counters
  assert.ok((strangersRefused ?? 0) >= 100, `${strangersRefused} were refused`)
  assert.deepEqual({ ...others, strangersRefused: 0 }, before.counters, `seed ${seed}`)
  assert.equal(after.term, before.term)
  assert.equal(master.replicas.length, 0)
  const { db } = await replicaOf(t, tcp, { path: ':memory:', site: 'b' }, { secret })
  const { token } = await source.put('after', '1')
  assert.equal(await db.get('after', { after: token }), '1')
})
