// The bad network of the tests: on virtual time, with a seed, so that each count below is exact.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { utf8Decode, utf8Encode } from '../../src/base/bytes.ts'
import { type CoterieError, isCoterieError } from '../../src/base/errors.ts'
import { Prng } from '../../src/base/prng.ts'
import { VirtualClock } from '../../src/env/simulated/virtual-clock.ts'
import { parseAddress } from '../../src/transport/address.ts'
import { type LossyFaults, LossyNetwork } from '../../src/transport/lossy.ts'
import { MemoryNetwork, memoryTransport } from '../../src/transport/memory-transport.ts'
import type { Connection, ConnectionHandlers, Transport } from '../../src/transport/transport.ts'

interface Side {
  connection: Connection
  readonly texts: string[]
  readonly closes: (CoterieError | undefined)[]
}

class World {
  readonly clock: VirtualClock = new VirtualClock()
  readonly network: LossyNetwork
  readonly a: Transport
  readonly b: Transport

  constructor(seed: number, faults: LossyFaults = {}) {
    this.network = new LossyNetwork({ prng: new Prng(seed), timers: this.clock, faults })
    const memory = memoryTransport(
      { clock: this.clock, timers: this.clock },
      { network: new MemoryNetwork() },
    )
    this.a = this.network.wrap(memory, 'a')
    this.b = this.network.wrap(memory, 'b')
  }

  async connect(): Promise<{ near: Side; far: Side }> {
    let far: Side | undefined
    await this.b.listen({
      address: parseAddress('memory://b'),
      onConnection: (connection) => {
        far = side(connection)
      },
    })
    const near = side(
      await this.run(this.a.connect({ address: parseAddress('memory://b'), connectTimeoutMs: 500 })),
    )
    this.clock.advance(0)
    assert.ok(far !== undefined)
    return { near, far }
  }

  /** Lets time pass until the promise has settled. */
  async run<T>(promise: Promise<T>): Promise<T> {
    let settled = false
    const done = (): void => {
      settled = true
    }
    promise.then(done, done)
    for (let round = 0; round < 1000 && !settled; round++) {
      await Promise.resolve()
      this.clock.advance(1)
    }
    return promise
  }
}

function side(connection: Connection): Side {
  const texts: string[] = []
  const closes: (CoterieError | undefined)[] = []
  const handlers: ConnectionHandlers = {
    message: (control) => void texts.push(utf8Decode(control)),
    drain: () => undefined,
    closed: (error) => void closes.push(error),
  }
  connection.handlers = handlers
  return { connection, texts, closes }
}

function sendNumbers(connection: Connection, count: number): string[] {
  const texts = Array.from({ length: count }, (_, i) => String(i))
  for (const text of texts) connection.send(utf8Encode(text))
  return texts
}

test('without faults everything arrives once, in order', async () => {
  const world = new World(1)
  const { near, far } = await world.connect()
  const sent = sendNumbers(near.connection, 100)
  far.connection.send(utf8Encode('back'))
  world.clock.advance(0)
  assert.deepEqual(far.texts, sent)
  assert.deepEqual(near.texts, ['back'])
})

test('losses, doubles and delays happen about as often as asked, and the same with the same seed', async () => {
  const faults = { dropChance: 0.2, duplicateChance: 0.1, delayChance: 0.3, delayMsMax: 50 }
  const runs: string[][] = []
  for (const seed of [5, 5, 6]) {
    const world = new World(seed, faults)
    const { near, far } = await world.connect()
    const sent = sendNumbers(near.connection, 1000)
    world.clock.advance(0)
    const early = far.texts.length
    world.clock.advance(50)
    runs.push(far.texts)
    const { dropped, duplicated, delayed } = world.network.counts
    assert.ok(dropped > 150 && dropped < 250, `${dropped} dropped`)
    assert.ok(duplicated > 50 && duplicated < 110, `${duplicated} doubled`)
    assert.ok(delayed > 200 && delayed < 330, `${delayed} late`)
    assert.equal(far.texts.length, 1000 - dropped + duplicated)
    assert.equal(early, far.texts.length - delayed)
    assert.ok(far.texts.every((text) => sent.includes(text)))
    assert.notDeepEqual(
      far.texts,
      [...far.texts].sort((x, y) => Number(x) - Number(y)),
    )
  }
  assert.deepEqual(runs[0], runs[1])
  assert.notDeepEqual(runs[0], runs[2])
})

test('latency alone keeps the order, and the end waits for what is under way', async () => {
  const world = new World(1, { latencyMs: 10 })
  const { near, far } = await world.connect()
  const sent = sendNumbers(near.connection, 10)
  const ended = near.connection.end()
  assert.equal(near.connection.send(utf8Encode('late')), false)
  world.clock.advance(9)
  assert.deepEqual(far.texts, [])
  assert.ok(near.connection.bufferedBytes > 0)
  await world.run(ended)
  assert.deepEqual(far.texts, sent)
  assert.deepEqual(far.closes, [undefined])
})

test('a link that is cut in one direction loses that direction only, until it is healed', async () => {
  const world = new World(1, { latencyMs: 10 })
  const { near, far } = await world.connect()
  near.connection.send(utf8Encode('on its way when the link is cut'))
  world.network.cut({ from: 'a', to: 'b' })
  near.connection.send(utf8Encode('lost'))
  far.connection.send(utf8Encode('through'))
  world.clock.advance(20)
  assert.deepEqual(far.texts, [])
  assert.deepEqual(near.texts, ['through'])
  world.network.heal({ from: 'a', to: 'b' })
  near.connection.send(utf8Encode('again'))
  world.clock.advance(20)
  assert.deepEqual(far.texts, ['again'])
  assert.equal(world.network.counts.dropped, 2)
})

test('over a cut link a connect is CONNECT_TIMEOUT after its time, or ABORTED before', async () => {
  const world = new World(1)
  await world.connect()
  world.network.isolate(['a'], ['b'])
  const address = parseAddress('memory://b')
  const start = world.clock.now()
  await assert.rejects(world.run(world.a.connect({ address, connectTimeoutMs: 300 })), (error) =>
    isCoterieError(error, 'CONNECT_TIMEOUT'),
  )
  assert.ok(world.clock.now() - start >= 300)
  const controller = new AbortController()
  const connecting = world.a.connect({ address, connectTimeoutMs: 300, signal: controller.signal })
  controller.abort()
  await assert.rejects(connecting, (error) => isCoterieError(error, 'ABORTED'))
  world.network.heal()
  const again = await world.run(world.a.connect({ address, connectTimeoutMs: 300 }))
  assert.equal(again.remote, 'memory://b')
})

test('connections of a link can be broken', async () => {
  const world = new World(1)
  const { near, far } = await world.connect()
  world.network.breakConnections({ from: 'b', to: 'a' })
  world.clock.advance(0)
  assert.equal(near.closes.length, 1)
  assert.equal(far.closes.length, 1)
  world.network.breakConnections({ from: 'b', to: 'a' })
})
