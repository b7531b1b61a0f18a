// Whole connections over a narrow line, in virtual time: how much of it bulk uses, how it is shared, what overflows, and
// what short messages wait beside it. The same seed gives the same run, however busy the machine is.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import { parseAddress } from '../../src/transport/address.ts'
import type { Connection } from '../../src/transport/transport.ts'
import { udpTransport } from '../../src/transport/udp/udp-transport.ts'
import { DatagramNet } from '../support/memory-datagrams.ts'

interface LineOptions {
  readonly bytesPerSecond: number
  readonly queueBytes: number
  readonly latencyMs: number
  readonly lossChance?: number
}

const serverPort = 900

/** What goes to the server shares a line; what comes back has only its latency, and the same loss. */
function lay(net: DatagramNet, line: LineOptions): { sent: number; overflowed: number } {
  const prng = new Prng(5)
  const counts = { sent: 0, overflowed: 0 }
  let freeAtMs = 0
  net.onDatagram = ({ bytes, from, to }) => {
    const now = net.clock.now()
    let atMs = now
    if (to.port === serverPort) {
      counts.sent++
      freeAtMs = Math.max(freeAtMs, now)
      if (((freeAtMs - now) * line.bytesPerSecond) / 1000 + bytes.length > line.queueBytes) {
        counts.overflowed++
        return undefined
      }
      freeAtMs += (bytes.length * 1000) / line.bytesPerSecond
      atMs = freeAtMs
    }
    if (prng.chance(line.lossChance ?? 0)) return undefined
    net.clock.after(atMs - now + line.latencyMs, () => net.inject(bytes, from, to))
    return undefined
  }
  return counts
}

interface Flow {
  readonly near: Connection
  bytes: number
  doneMs: number | undefined
}

/** Connects, and sends `bytes` from `startMs` on. */
class Flows {
  readonly net = new DatagramNet()
  readonly flows: Flow[] = []
  readonly lateMs: number[] = []
  readonly #accepted: Flow[] = []

  async listen(): Promise<void> {
    await udpTransport(this.net.host()).listen({
      address: parseAddress(`udp://127.0.0.1:${serverPort}`),
      onConnection: (connection) => {
        const at = this.#accepted.length
        this.#accepted.push({} as Flow)
        connection.handlers = {
          message: (control, payload) => {
            if (control.length === 8) {
              const sentMs = new DataView(control.buffer, control.byteOffset).getFloat64(0)
              this.lateMs.push(this.net.clock.now() - sentMs)
            }
            const flow = this.flows[at]
            if (flow !== undefined) flow.bytes += payload.length
          },
          drain: () => undefined,
          closed: () => undefined,
        }
      },
    })
  }

  async connect(): Promise<Flow> {
    const address = parseAddress(`udp://127.0.0.1:${serverPort}`)
    const connecting = udpTransport(this.net.host()).connect({ address, connectTimeoutMs: 60_000 })
    let near: Connection | undefined
    void connecting.then((connection) => {
      near = connection
    })
    for (let i = 0; i < 1000 && this.#accepted.length <= this.flows.length; i++) await this.net.run(10)
    assert.ok(near !== undefined)
    const flow: Flow = { near, bytes: 0, doneMs: undefined }
    this.flows.push(flow)
    return flow
  }

  /** Sends on a flow until `bytes` have been given to it. */
  begin(flow: Flow, bytes: number): void {
    const chunk = new Uint8Array(32_768)
    let sent = 0
    const sendOn = (): void => {
      for (let room = true; room && sent < bytes; sent += chunk.length)
        room = flow.near.send(Uint8Array.of(1), chunk)
    }
    flow.near.handlers = { message: () => undefined, drain: sendOn, closed: () => undefined }
    sendOn()
  }

  /** Until all have `bytes`; returns how long each took. */
  async finish(bytes: number, fromMs: number): Promise<number[]> {
    const { clock } = this.net
    while (this.flows.some((flow) => flow.doneMs === undefined)) {
      assert.ok(clock.now() - fromMs < 120_000, 'it comes to its end in two minutes')
      await this.net.run(10)
      for (const flow of this.flows) if (flow.bytes >= bytes) flow.doneMs ??= clock.now() - fromMs
    }
    return this.flows.map((flow) => flow.doneMs as number)
  }
}

async function share(
  t: TestContext,
  line: LineOptions,
  options: { readonly flows: number; readonly bytes: number },
): Promise<{ times: number[]; overflowShare: number }> {
  const all = new Flows()
  await all.listen()
  const counts = lay(all.net, line)
  for (let i = 0; i < options.flows; i++) await all.connect()
  const startMs = all.net.clock.now()
  for (const flow of all.flows) all.begin(flow, options.bytes)
  const times = await all.finish(options.bytes, startMs)
  const overflowShare = counts.overflowed / counts.sent
  t.diagnostic(`${times.map(Math.round).join(' and ')} ms, ${(overflowShare * 100).toFixed(1)} % overflowed`)
  return { times, overflowShare }
}

const narrow: LineOptions = { bytesPerSecond: 2_000_000, queueBytes: 65_536, latencyMs: 2 }

test('one fills the line, and its queue hardly overflows', async (t) => {
  const { times, overflowShare } = await share(t, narrow, { flows: 1, bytes: 6_000_000 })
  assert.ok((times[0] as number) < 1.25 * 3000)
  assert.ok(overflowShare < 0.03)
})

test('one fills three quarters of a line that loses a fifth', async (t) => {
  const { times } = await share(t, { ...narrow, lossChance: 0.2 }, { flows: 1, bytes: 6_000_000 })
  assert.ok((times[0] as number) < 3000 / 0.8 / 0.75)
})

for (const [name, line] of [
  ['a round trip of 4 ms', narrow],
  ['a round trip of 4 ms and 20 % of loss', { ...narrow, lossChance: 0.2 }],
  ['a round trip of 40 ms', { ...narrow, latencyMs: 20 }],
] as const) {
  test(`two share a line and end within 40 % of each other: ${name}`, async (t) => {
    const { times, overflowShare } = await share(t, line, { flows: 2, bytes: 6_000_000 })
    const [first, last] = [Math.min(...times), Math.max(...times)]
    assert.ok(last < 1.4 * first, `${first} and ${last} ms`)
    assert.ok(overflowShare < 0.08, `${overflowShare} of the datagrams overflowed`)
  })
}

for (const [name, line] of [
  ['2 MB/s', narrow],
  ['0.2 MB/s', { ...narrow, bytesPerSecond: 200_000, queueBytes: 20_000 }],
  ['20 MB/s', { ...narrow, bytesPerSecond: 20_000_000, queueBytes: 500_000 }],
] as const) {
  test(`who comes later to a line of ${name} gets its share of it`, async (t) => {
    const all = new Flows()
    await all.listen()
    lay(all.net, line)
    const first = await all.connect()
    all.begin(first, 60 * line.bytesPerSecond)
    await all.net.run(3000)
    const second = await all.connect()
    all.begin(second, 60 * line.bytesPerSecond)
    await all.net.run(4000)
    const before = [first.bytes, second.bytes] as const
    await all.net.run(8000)
    const [a, b] = [first.bytes - before[0], second.bytes - before[1]]
    const used = (a + b) / (8 * line.bytesPerSecond)
    t.diagnostic(
      `${(a / (a + b)).toFixed(2)} and ${(b / (a + b)).toFixed(2)} of what went, ${used.toFixed(2)} of the line`,
    )
    assert.ok(Math.min(a, b) > 0.3 * (a + b))
    assert.ok(used > 0.75)
  })
}

test('short messages beside bulk wait for the queue of the line, and not for the bulk', async (t) => {
  const all = new Flows()
  await all.listen()
  lay(all.net, narrow)
  const flow = await all.connect()
  all.begin(flow, 8_000_000)
  for (let i = 0; i < 300; i++) {
    const control = new Uint8Array(8)
    new DataView(control.buffer).setFloat64(0, all.net.clock.now())
    flow.near.send(control)
    await all.net.run(10)
  }
  const late = all.lateMs.sort((a, b) => a - b)
  const [median, worst] = [late[late.length >> 1] as number, late.at(-1) as number]
  t.diagnostic(`${late.length} of 300, ${median.toFixed(1)} ms at the median, ${worst.toFixed(1)} ms at most`)
  assert.ok(late.length >= 285)
  // 2 MB of bulk would take a second.
  assert.ok(median < 40 && worst < 100)
})
