// A narrow line between sites that speak UDP, in virtual time: what goes to the server shares a queue, what comes back
// has its latency alone. The same seed gives the same run, however busy the machine is. The event loop can be made as
// late as that of a busy machine, and all that shares it is late together, as in a process that has both ends.

import assert from 'node:assert/strict'
import { Prng } from '../../src/base/prng.ts'
import type { Timer, Timers } from '../../src/env/host.ts'
import { parseAddress } from '../../src/transport/address.ts'
import type { Connection } from '../../src/transport/transport.ts'
import type { DatagramHost } from '../../src/transport/udp/udp-transport.ts'
import { udpTransport } from '../../src/transport/udp/udp-transport.ts'
import { DatagramNet } from './memory-datagrams.ts'

export interface LineOptions {
  readonly bytesPerSecond: number
  readonly queueBytes: number
  /** Of each direction. */
  readonly latencyMs: number
  readonly lossChance?: number
  /** Of the losses and of the late turns. Default 5. */
  readonly seed?: number
  /** The event loop stands still for up to so long, at random, a tenth of the time. Default 0: it is never late. */
  readonly stallMsMax?: number
  /** What a socket holds. Default 212,992; a large one does not hold the start back. */
  readonly receiveBufferBytes?: number
}

const serverPort = 900
/** Timers of an event loop keep to whole milliseconds, and are late. */
const turnMs = 1.25

/** Turns of an event loop that take long: what is due meanwhile runs at their end. */
class Stalls {
  readonly #prng: Prng
  readonly #msMax: number
  #fromMs = 0
  #toMs = 0

  constructor(prng: Prng, msMax: number) {
    this.#prng = prng
    this.#msMax = msMax
  }

  /** The turn in which a timer would be seen if none were long. */
  turnOf(atMs: number): number {
    return this.#msMax === 0 ? atMs : Math.ceil(atMs / turnMs) * turnMs
  }

  /** How long what is due now has to wait. The time never goes back. */
  leftMs(nowMs: number): number {
    if (this.#msMax === 0) return 0
    while (nowMs >= this.#toMs) {
      this.#fromMs = this.#toMs + this.#prng.fraction() * this.#msMax * 9
      this.#toMs = this.#fromMs + this.#prng.fraction() * this.#msMax
    }
    return nowMs < this.#fromMs ? 0 : this.#toMs - nowMs
  }
}

export interface Flow {
  readonly near: Connection
  bytes: number
  startMs: number
  doneMs: number | undefined
}

/** What became of two that had the same to send. */
export interface PairOutcome {
  readonly times: readonly [number, number]
  /** How much longer the slower took: 0.4 is 40 %. */
  readonly apart: number
  /** Of what came through while both were sending, the part of the one that got less. 0.5 is fair. */
  readonly lesserShare: number
  readonly overflowShare: number
}

/** Connections that share a line. */
export class LineFlows {
  readonly net: DatagramNet
  readonly flows: Flow[] = []
  /** Of messages that say when they were sent. */
  readonly lateMs: number[] = []
  readonly counts: { sent: number; overflowed: number } = { sent: 0, overflowed: 0 }
  readonly #line: LineOptions
  readonly #stalls: Stalls
  readonly #accepted: Flow[] = []

  constructor(line: LineOptions) {
    this.#line = line
    const prng = new Prng(line.seed ?? 5)
    this.#stalls = new Stalls(prng.fork(), line.stallMsMax ?? 0)
    this.net = new DatagramNet(line.seed ?? 1)
    this.net.receiveBufferBytes = line.receiveBufferBytes ?? 212_992
    this.#lay(prng)
  }

  /** What goes to the server waits for the line; whatever goes may be lost. */
  #lay(prng: Prng): void {
    const { bytesPerSecond, queueBytes, latencyMs, lossChance = 0 } = this.#line
    const { net, counts } = this
    let freeAtMs = 0
    net.onDatagram = ({ bytes, from, to }) => {
      // Nobody looks at them again, and there are many.
      net.seen.length = 0
      const now = net.clock.now()
      let atMs = now
      if (to.port === serverPort) {
        counts.sent++
        freeAtMs = Math.max(freeAtMs, now)
        if (((freeAtMs - now) * bytesPerSecond) / 1000 + bytes.length > queueBytes) {
          counts.overflowed++
          return undefined
        }
        freeAtMs += (bytes.length * 1000) / bytesPerSecond
        atMs = freeAtMs
      }
      if (prng.chance(lossChance)) return undefined
      this.#after(atMs - now + latencyMs, () => net.inject(bytes, from, to))
      return undefined
    }
  }

  /** As the clock does it, or later. */
  #after(ms: number, callback: () => void): Timer {
    const { clock } = this.net
    let timer = clock.after(this.#stalls.turnOf(clock.now() + ms) - clock.now(), () => {
      const leftMs = this.#stalls.leftMs(clock.now())
      if (leftMs === 0) callback()
      else timer = clock.after(leftMs, callback)
    })
    return { cancel: () => timer.cancel() }
  }

  #host(): DatagramHost {
    const timers: Timers = {
      after: (ms, callback) => this.#after(ms, callback),
      soon: (callback) => this.net.clock.soon(callback),
    }
    return { ...this.net.host(), timers }
  }

  async listen(): Promise<void> {
    await udpTransport(this.#host()).listen({
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
    const connecting = udpTransport(this.#host()).connect({ address, connectTimeoutMs: 60_000 })
    let near: Connection | undefined
    void connecting.then((connection) => {
      near = connection
    })
    for (let i = 0; i < 1000 && this.#accepted.length <= this.flows.length; i++) await this.net.run(10)
    assert.ok(near !== undefined)
    const flow: Flow = { near, bytes: 0, startMs: 0, doneMs: undefined }
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
    flow.startMs = this.net.clock.now()
    sendOn()
  }

  /** Until all have `bytes`; returns how long each took. `onTurn` looks on every 10 ms. */
  async finish(bytes: number, onTurn?: () => void): Promise<number[]> {
    const { clock } = this.net
    const fromMs = clock.now()
    while (this.flows.some((flow) => flow.doneMs === undefined)) {
      assert.ok(clock.now() - fromMs < 120_000, 'it comes to its end in two minutes')
      await this.net.run(10)
      onTurn?.()
      for (const flow of this.flows) if (flow.bytes >= bytes) flow.doneMs ??= clock.now() - flow.startMs
    }
    return this.flows.map((flow) => flow.doneMs as number)
  }
}

/** Two that are connected send `bytes` each, the second from `offsetMs` on. */
export async function pairOnLine(
  line: LineOptions,
  { bytes, offsetMs }: { readonly bytes: number; readonly offsetMs: number },
): Promise<PairOutcome> {
  const flows = new LineFlows(line)
  await flows.listen()
  const first = await flows.connect()
  const second = await flows.connect()
  flows.begin(first, bytes)
  await flows.net.run(offsetMs)
  const before = first.bytes
  flows.begin(second, bytes)
  let meanwhile: readonly [number, number] | undefined
  const [a = 0, b = 0] = await flows.finish(bytes, () => {
    if (first.bytes >= bytes || second.bytes >= bytes) meanwhile ??= [first.bytes - before, second.bytes]
  })
  const [fromFirst, fromSecond] = meanwhile ?? [0, 0]
  return {
    times: [a, b],
    apart: Math.max(a, b) / Math.min(a, b) - 1,
    lesserShare: Math.min(fromFirst, fromSecond) / (fromFirst + fromSecond),
    overflowShare: flows.counts.overflowed / flows.counts.sent,
  }
}
