// A bad or narrow network between sites that speak UDP: it passes datagrams on, and loses, doubles, delays them as a
// seed says, or lets them wait for a link of so many bytes a second and loses what its queue has no room for.

import { createSocket, type Socket } from 'node:dgram'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import { atEnd } from './at-end.ts'

export interface UdpFaults {
  readonly dropChance?: number
  readonly duplicateChance?: number
  /** A late datagram comes after up to `delayMsMax` more, so that others overtake it. */
  readonly delayChance?: number
  readonly delayMsMax?: number
  /** What every datagram takes. */
  readonly latencyMs?: number
}

/** Each direction has one queue and one line, for all who go through the proxy. */
export interface UdpLine {
  readonly bytesPerSecond: number
  readonly queueBytes: number
}

export interface UdpProxy {
  /** Connect here instead. */
  readonly address: string
  readonly counts: { toServer: number; toClient: number; dropped: number; overflowed: number }
  /** What passes from now on. */
  faults: UdpFaults
  /** Sees every datagram before it is judged; false: it is lost. */
  onDatagram: ((datagram: Buffer, direction: 'toServer' | 'toClient') => boolean) | undefined
}

export interface UdpProxyOptions {
  readonly seed?: number
  readonly faults?: UdpFaults
  readonly line?: UdpLine
}

/** `target`: `udp://host:port`. Ends with the test. */
export async function startUdpProxy(
  t: TestContext,
  target: string,
  options: UdpProxyOptions = {},
): Promise<UdpProxy> {
  const { proxy, close } = await openUdpProxy(target, options)
  atEnd(t, async () => {
    // What still ends behind the test ends in order, and not by waiting for who is no longer there.
    proxy.faults = {}
    await whenQuiet(proxy)
    close()
  })
  return proxy
}

export async function openUdpProxy(
  target: string,
  options: UdpProxyOptions = {},
): Promise<{ readonly proxy: UdpProxy; readonly close: () => void }> {
  const port = Number(new URL(target.replace('udp:', 'http:')).port)
  const prng = new Prng(options.seed ?? 1)
  const sockets = new Set<Socket>()
  const timers = new Set<NodeJS.Timeout>()
  const later = (ms: number, work: () => void): void => {
    const timer = setTimeout(() => {
      timers.delete(timer)
      work()
    }, ms)
    timers.add(timer)
  }
  const proxy: UdpProxy & { faults: UdpFaults } = {
    address: '',
    counts: { toServer: 0, toClient: 0, dropped: 0, overflowed: 0 },
    faults: options.faults ?? {},
    onDatagram: undefined,
  }
  const lineOf = (): Line | undefined =>
    options.line === undefined ? undefined : new Line(options.line, later)
  const lines = { toServer: lineOf(), toClient: lineOf() }
  const pass = (datagram: Buffer, direction: 'toServer' | 'toClient', deliver: () => void): void => {
    proxy.counts[direction]++
    const {
      dropChance = 0,
      duplicateChance = 0,
      delayChance = 0,
      delayMsMax = 20,
      latencyMs = 0,
    } = proxy.faults
    if (proxy.onDatagram?.(datagram, direction) === false || prng.chance(dropChance)) {
      proxy.counts.dropped++
      return
    }
    for (let copy = prng.chance(duplicateChance) ? 2 : 1; copy > 0; copy--) {
      const ms = latencyMs + (prng.chance(delayChance) ? prng.between(1, delayMsMax) : 0)
      const go = ms === 0 ? deliver : (): void => later(ms, deliver)
      const line = lines[direction]
      if (line === undefined) go()
      else if (!line.take(datagram.length, go)) proxy.counts.overflowed++
    }
  }
  const front = await bound(sockets)
  const backs = new Map<number, Promise<Socket>>()
  const backFor = async (client: number): Promise<Socket> => {
    const back = await bound(sockets)
    back.on('message', (datagram) => {
      pass(datagram, 'toClient', () => {
        if (sockets.has(front)) front.send(datagram, client, '127.0.0.1')
      })
    })
    return back
  }
  front.on('message', (datagram, from) => {
    let back = backs.get(from.port)
    if (back === undefined) {
      back = backFor(from.port)
      backs.set(from.port, back)
    }
    void back.then((socket) =>
      pass(datagram, 'toServer', () => {
        if (sockets.has(socket)) socket.send(datagram, port, '127.0.0.1')
      }),
    )
  })
  const close = (): void => {
    for (const timer of timers) clearTimeout(timer)
    for (const socket of sockets) {
      sockets.delete(socket)
      socket.close()
    }
  }
  const address = `udp://127.0.0.1:${(front.address() as AddressInfo).port}`
  return { proxy: Object.assign(proxy, { address }), close }
}

/** Nothing passes for a while, or three seconds are over. */
async function whenQuiet({ counts }: UdpProxy): Promise<void> {
  for (let i = 0, before = -1; i < 20 && counts.toClient + counts.toServer !== before; i++) {
    before = counts.toClient + counts.toServer
    await new Promise((resolve) => setTimeout(resolve, 150))
  }
}

class Line {
  readonly #line: UdpLine
  readonly #later: (ms: number, work: () => void) => void
  readonly #waiting: { readonly bytes: number; readonly go: () => void }[] = []
  #queued = 0
  #credit = 0
  #lastMs = 0
  #running = false

  constructor(line: UdpLine, later: (ms: number, work: () => void) => void) {
    this.#line = line
    this.#later = later
  }

  /** False: the queue is full. */
  take(bytes: number, go: () => void): boolean {
    if (this.#queued + bytes > this.#line.queueBytes) return false
    this.#queued += bytes
    this.#waiting.push({ bytes, go })
    if (!this.#running) {
      this.#running = true
      this.#lastMs = performance.now()
      this.#credit = 0
      this.#later(1, () => this.#run())
    }
    return true
  }

  #run(): void {
    const now = performance.now()
    this.#credit += ((now - this.#lastMs) * this.#line.bytesPerSecond) / 1000
    this.#lastMs = now
    for (
      let next = this.#waiting[0];
      next !== undefined && next.bytes <= this.#credit;
      next = this.#waiting[0]
    ) {
      this.#waiting.shift()
      this.#credit -= next.bytes
      this.#queued -= next.bytes
      next.go()
    }
    this.#running = this.#waiting.length > 0
    if (this.#running) this.#later(1, () => this.#run())
  }
}

async function bound(sockets: Set<Socket>): Promise<Socket> {
  const socket = createSocket('udp4')
  socket.on('error', () => undefined)
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve))
  socket.setRecvBufferSize(4_194_304)
  sockets.add(socket)
  return socket
}
