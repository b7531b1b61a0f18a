// What the simulated network does to messages and connections: every fault, seen from the two sides.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { emptyBytes, utf8Decode, utf8Encode } from '../../src/base/bytes.ts'
import { type CoterieError, isCoterieError } from '../../src/base/errors.ts'
import { Prng } from '../../src/base/prng.ts'
import type { SimulatedHost } from '../../src/env/simulated/simulated-host.ts'
import { SimulatedMachine } from '../../src/env/simulated/simulated-machine.ts'
import { VirtualClock } from '../../src/env/simulated/virtual-clock.ts'
import { SimulatedNetwork } from '../../src/sim/network.ts'
import { goodLink, type LinkFaults } from '../../src/sim/network-link.ts'
import { parseAddress } from '../../src/transport/address.ts'
import type { Connection, ConnectionHandlers, Transport } from '../../src/transport/transport.ts'

class Side implements ConnectionHandlers {
  readonly texts: string[] = []
  drains = 0
  end: { readonly error: CoterieError | undefined } | undefined
  connection: Connection | undefined

  message(control: Uint8Array): void {
    this.texts.push(utf8Decode(control))
  }

  drain(): void {
    this.drains++
  }

  closed(error: CoterieError | undefined): void {
    assert.equal(this.end, undefined, 'closed is told once')
    this.end = { error }
  }

  get isEnded(): boolean {
    return this.end !== undefined
  }

  send(text: string): boolean {
    return (this.connection as Connection).send(utf8Encode(text))
  }
}

class Net {
  readonly clock = new VirtualClock()
  readonly prng: Prng
  readonly network: SimulatedNetwork
  readonly hosts = new Map<string, SimulatedHost>()
  readonly machines = new Map<string, SimulatedMachine>()
  readonly transports = new Map<string, Transport>()
  /** What those who listen got, newest last. */
  readonly accepted: Side[] = []

  constructor(seed = 1) {
    this.prng = new Prng(seed)
    this.network = new SimulatedNetwork({ clock: this.clock, prng: this.prng.fork() })
    for (const name of ['a', 'b']) {
      this.machines.set(name, new SimulatedMachine({ clock: this.clock, prng: this.prng.fork() }))
      this.boot(name)
    }
  }

  boot(name: string): void {
    const host = (this.machines.get(name) as SimulatedMachine).boot()
    this.hosts.set(name, host)
    this.transports.set(name, this.network.transport(name, host))
  }

  host(name: string): SimulatedHost {
    return this.hosts.get(name) as SimulatedHost
  }

  async listen(name = 'b'): Promise<void> {
    await this.transports.get(name)?.listen({
      address: parseAddress(`sim://${name}`),
      onConnection: (connection) => {
        const side = new Side()
        side.connection = connection
        connection.handlers = side
        this.accepted.push(side)
      },
    })
  }

  /** Moves time on, and lets promises settle between any two events. */
  async pass(ms: number): Promise<void> {
    const endMs = this.clock.now() + ms
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve))
      const { nextDueMs } = this.clock
      if (nextDueMs === undefined || nextDueMs > endMs) break
      this.clock.runNext()
    }
    this.clock.advance(endMs - this.clock.now())
  }

  async connect(from = 'a', to = 'b', connectTimeoutMs = 500): Promise<Side> {
    const connecting = (this.transports.get(from) as Transport).connect({
      address: parseAddress(`sim://${to}`),
      connectTimeoutMs,
    })
    const side = new Side()
    const ready = connecting.then((connection) => {
      side.connection = connection
      connection.handlers = side
    })
    ready.catch(() => undefined)
    await this.pass(connectTimeoutMs + 10)
    await ready
    return side
  }

  /** Connected, with the other side's view. */
  async pair(): Promise<[Side, Side]> {
    await this.listen()
    const near = await this.connect()
    return [near, this.accepted.at(-1) as Side]
  }

  faults(faults: Partial<LinkFaults>): void {
    this.network.link('a', 'b').faults = { ...goodLink, ...faults }
  }
}

const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `m${i}`)

test('messages come in order, in both directions, and not within send', async () => {
  const net = new Net()
  const [near, far] = await net.pair()
  for (const name of names(20)) near.send(name)
  far.send('back')
  assert.deepEqual(far.texts, [])
  await net.pass(10)
  assert.deepEqual(far.texts, names(20))
  assert.deepEqual(near.texts, ['back'])
})

test('nobody listening, nobody there, a cut link: three ways in which a connect fails', async () => {
  const net = new Net()
  await assert.rejects(net.connect(), (error) => isCoterieError(error, 'CONNECT_FAILED'))
  await net.listen()
  net.network.cut('b', 'a')
  await assert.rejects(net.connect(), (error) => isCoterieError(error, 'CONNECT_TIMEOUT'))
  net.network.heal('b', 'a')
  assert.ok((await net.connect()).connection)
})

test('loss, doubles, overtaking: each is seen, and counted', async () => {
  const net = new Net()
  const [near, far] = await net.pair()
  net.faults({ dropChance: 0.3 })
  for (const name of names(100)) near.send(name)
  await net.pass(100)
  assert.ok(far.texts.length > 40 && far.texts.length < 100, `${far.texts.length} came`)
  assert.equal(net.network.counts.dropped, 100 - far.texts.length)
  far.texts.length = 0
  net.faults({ duplicateChance: 0.3 })
  for (const name of names(100)) near.send(name)
  await net.pass(100)
  assert.ok(far.texts.length > 110, `${far.texts.length} came`)
  assert.deepEqual([...new Set(far.texts)], names(100))
  far.texts.length = 0
  net.faults({ lateChance: 0.2, lateMsMax: 50 })
  for (const name of names(100)) near.send(name)
  await net.pass(100)
  assert.notDeepEqual(far.texts, names(100))
  assert.deepEqual(new Set(far.texts), new Set(names(100)))
})

test('messages of a connection that is gone come again on the next one', async () => {
  const net = new Net()
  net.faults({ replayChance: 0.5 })
  const [near] = await net.pair()
  for (const name of names(20)) near.send(name)
  await net.pass(20)
  near.connection?.destroy()
  await net.pass(20)
  const again = await net.connect()
  for (let i = 0; i < 20; i++) again.send('new')
  await net.pass(20)
  const far = net.accepted.at(-1) as Side
  assert.ok(
    far.texts.some((text) => text.startsWith('m')),
    'old ones came',
  )
  assert.equal(far.texts.filter((text) => text === 'new').length, 20)
})

test('a cut link loses messages one way, or holds them until it heals', async () => {
  const net = new Net()
  const [near, far] = await net.pair()
  net.network.cut('a', 'b')
  near.send('lost')
  far.send('through')
  await net.pass(10)
  assert.deepEqual(far.texts, [])
  assert.deepEqual(near.texts, ['through'])
  net.network.heal('a', 'b')
  net.network.cut('a', 'b', { hold: true })
  near.send('held')
  await net.pass(100)
  assert.deepEqual(far.texts, [])
  net.network.heal('a', 'b')
  await net.pass(10)
  assert.deepEqual(far.texts, ['held'])
})

test('a reset tells both sides; a half-open one tells a side only when it sends', async () => {
  const net = new Net()
  const [near, far] = await net.pair()
  net.network.reset('a', 'b')
  await net.pass(10)
  assert.equal(near.end?.error?.code, 'CONNECTION_CLOSED')
  assert.equal(far.end?.error?.code, 'CONNECTION_CLOSED')
  const next = await net.connect()
  const other = net.accepted.at(-1) as Side
  net.network.halfOpenChance = 1
  other.connection?.destroy()
  await net.pass(1000)
  assert.ok(other.end)
  assert.equal(next.end, undefined, 'nobody told it')
  next.send('are you there?')
  await net.pass(10)
  assert.equal(next.end !== undefined, true)
})

test('an orderly end delivers what was sent before; both sides learn without an error', async () => {
  const net = new Net()
  const [near, far] = await net.pair()
  near.send('last')
  const ended = near.connection?.end()
  await net.pass(10)
  await ended
  assert.deepEqual(far.texts, ['last'])
  assert.deepEqual([near.end, far.end], [{ error: undefined }, { error: undefined }])
})

test('a killed process is noticed; a machine without power is not, until it is up again and hears of it', async () => {
  const net = new Net()
  const [near, far] = await net.pair()
  net.network.killed(net.host('b'))
  net.machines.get('b')?.kill()
  await net.pass(10)
  assert.ok(near.end)
  net.boot('b')
  await net.listen()
  const next = await net.connect()
  net.network.crashed('b', net.host('b'))
  net.machines.get('b')?.crash()
  next.send('into the dark')
  await net.pass(1000)
  assert.ok(!next.isEnded)
  net.boot('b')
  next.send('and now?')
  await net.pass(10)
  assert.ok(next.isEnded)
  assert.deepEqual(far.texts, [])
})

test('a slow link and a stalled reader push back, and drain follows', async () => {
  const net = new Net()
  const [near, far] = await net.pair()
  net.faults({ bytesPerMs: 100 })
  assert.equal(near.send('x'.repeat(100_000)), false)
  assert.ok((near.connection?.bufferedBytes ?? 0) > 65_536)
  await net.pass(500)
  assert.equal(near.drains, 0)
  await net.pass(1000)
  assert.equal(near.drains, 1)
  net.faults({})
  far.connection?.pause()
  near.send('y'.repeat(50_000))
  await net.pass(10)
  assert.equal(near.send('z'.repeat(50_000)), true, 'the second is still on its way')
  await net.pass(10)
  assert.equal(near.send('!'), false)
  far.connection?.resume()
  await net.pass(20)
  assert.equal(near.drains, 2)
  assert.equal(far.texts.length, 4)
})

test('what comes while a site is paused waits for its end', async () => {
  const net = new Net()
  const [near, far] = await net.pair()
  net.host('b').pause()
  for (const name of names(3)) near.send(name)
  await net.pass(1000)
  assert.deepEqual(far.texts, [])
  net.host('b').resume()
  await net.pass(1)
  assert.deepEqual(far.texts, names(3))
})

test('a message above the bound ends the connection', async () => {
  const net = new Net()
  const [near, far] = await net.pair()
  far.connection?.acceptFramesUpTo(100)
  near.connection?.send(new Uint8Array(101), emptyBytes)
  await net.pass(10)
  assert.equal(far.end?.error?.code, 'FRAME_INVALID')
  assert.ok(near.end)
})

test('where messages are copied, a sender that changes what it sent is not seen to', async () => {
  const net = new Net()
  const copying = new SimulatedNetwork({ clock: net.clock, prng: new Prng(1), copiesMessages: true })
  const taken: Uint8Array[] = []
  const control = utf8Encode('before')
  copying.transmit(copying.link('a', 'b'), 1, { control, payload: emptyBytes, bytes: 6 }, (message) =>
    taken.push(message.control),
  )
  control.fill(0)
  await net.pass(10)
  assert.deepEqual(taken.map(utf8Decode), ['before'])
})
