// A bad network around any transport, for tests and the simulator: messages are lost, doubled, late and out of order,
// and links can be cut, in one direction too. All of it is drawn from a seeded generator, so a run can be repeated.
//
// Each site wraps its own transport under its name. The first message on every connection says who connects, and is
// never lost; the users of the wrapped transport do not see it. Faults happen to messages on their way out; a message
// that is late finds the link as it is when its time has come.

import { assert } from '../base/assert.ts'
import { emptyBytes, utf8Decode, utf8Encode } from '../base/bytes.ts'
import { CoterieError } from '../base/errors.ts'
import type { Prng } from '../base/prng.ts'
import type { Timers } from '../env/host.ts'
import type {
  Connection,
  ConnectionHandlers,
  ConnectOptions,
  Listener,
  ListenOptions,
  Transport,
} from './transport.ts'

/** What happens to messages. Chances are between 0 and 1; everything is off by default. */
export interface LossyFaults {
  readonly dropChance?: number
  readonly duplicateChance?: number
  /** A late message comes after up to `delayMsMax` more, so others overtake it. */
  readonly delayChance?: number
  readonly delayMsMax?: number
  /** What every message takes; order is kept. */
  readonly latencyMs?: number
}

/** A direction between two sites. */
export interface Link {
  readonly from: string
  readonly to: string
}

export class LossyNetwork {
  faults: LossyFaults
  /** What was done to messages so far. */
  readonly counts: { sent: number; dropped: number; duplicated: number; delayed: number } = {
    sent: 0,
    dropped: 0,
    duplicated: 0,
    delayed: 0,
  }
  readonly timers: Timers
  readonly #prng: Prng
  readonly #cut: Set<string> = new Set()
  readonly #siteOf: Map<string, string> = new Map()
  readonly #connections: Set<LossyConnection> = new Set()

  constructor(options: { readonly prng: Prng; readonly timers: Timers; readonly faults?: LossyFaults }) {
    this.#prng = options.prng
    this.timers = options.timers
    this.faults = options.faults ?? {}
  }

  /** The transport as `site` uses it. */
  wrap(transport: Transport, site: string): Transport {
    return new LossyTransport(this, transport, site)
  }

  /** From now on messages in this direction are lost, and connects in either direction time out. */
  cut(link: Link): void {
    this.#cut.add(nameOf(link))
  }

  heal(link?: Link): void {
    if (link === undefined) this.#cut.clear()
    else this.#cut.delete(nameOf(link))
  }

  /** Cuts both directions between every one of `sites` and every one of `others`. */
  isolate(sites: readonly string[], others: readonly string[]): void {
    for (const from of sites) {
      for (const to of others) {
        this.cut({ from, to })
        this.cut({ from: to, to: from })
      }
    }
  }

  isCut(link: Link): boolean {
    return this.#cut.has(nameOf(link))
  }

  /** Breaks the open connections between two sites, as a router that restarts does. */
  breakConnections(link: Link): void {
    for (const connection of [...this.#connections]) {
      const { from, to } = connection.link
      if ((from === link.from && to === link.to) || (from === link.to && to === link.from))
        connection.destroy()
    }
  }

  siteAt(address: string): string | undefined {
    return this.#siteOf.get(address)
  }

  addListener(address: string, site: string): void {
    this.#siteOf.set(address, site)
  }

  addConnection(connection: LossyConnection): void {
    this.#connections.add(connection)
  }

  removeConnection(connection: LossyConnection): void {
    this.#connections.delete(connection)
  }

  /** After how many milliseconds each copy of a message sets out; none: it is lost. */
  drawDelays(link: Link): number[] {
    const {
      dropChance = 0,
      duplicateChance = 0,
      delayChance = 0,
      delayMsMax = 100,
      latencyMs = 0,
    } = this.faults
    this.counts.sent++
    if (this.isCut(link) || this.#prng.chance(dropChance)) {
      this.counts.dropped++
      return []
    }
    const copies = this.#prng.chance(duplicateChance) ? 2 : 1
    if (copies === 2) this.counts.duplicated++
    const delays: number[] = []
    for (let copy = 0; copy < copies; copy++) {
      const isLate = this.#prng.chance(delayChance)
      if (isLate) this.counts.delayed++
      delays.push(latencyMs + (isLate ? this.#prng.between(1, delayMsMax) : 0))
    }
    return delays
  }
}

class LossyTransport implements Transport {
  readonly scheme: string
  readonly #network: LossyNetwork
  readonly #inner: Transport
  readonly #site: string

  constructor(network: LossyNetwork, inner: Transport, site: string) {
    this.#network = network
    this.#inner = inner
    this.#site = site
    this.scheme = inner.scheme
  }

  async listen(options: ListenOptions): Promise<Listener> {
    const listener = await this.#inner.listen({
      ...options,
      onConnection: (inner) => this.#greet(inner, options),
    })
    this.#network.addListener(listener.address, this.#site)
    return listener
  }

  async connect(options: ConnectOptions): Promise<Connection> {
    const { address, connectTimeoutMs, signal } = options
    const to = this.#network.siteAt(address.text)
    if (to === undefined) return this.#inner.connect(options)
    const link = { from: this.#site, to }
    if (this.#network.isCut(link) || this.#network.isCut({ from: to, to: this.#site })) {
      await silence(this.#network.timers, connectTimeoutMs, signal)
      throw new CoterieError(
        'CONNECT_TIMEOUT',
        `${address.text} did not answer within ${connectTimeoutMs} ms`,
      )
    }
    const inner = await this.#inner.connect(options)
    inner.send(utf8Encode(this.#site))
    return new LossyConnection(this.#network, inner, link)
  }

  /** Waits for the message that says who connects. */
  #greet(inner: Connection, options: ListenOptions): void {
    inner.handlers = {
      message: (control) => {
        const from = utf8Decode(control)
        options.onConnection(new LossyConnection(this.#network, inner, { from: this.#site, to: from }))
      },
      drain: () => undefined,
      closed: (error) => {
        if (error !== undefined) options.onRefused?.(error)
      },
    }
  }
}

class LossyConnection implements Connection {
  /** As seen from here: `from` is this site. */
  readonly link: Link
  readonly #network: LossyNetwork
  readonly #inner: Connection
  #delayedBytes = 0
  #delayed = 0
  #ending: boolean = false
  #waitingForDelayed: (() => void)[] = []

  constructor(network: LossyNetwork, inner: Connection, link: Link) {
    this.#network = network
    this.#inner = inner
    this.link = link
    network.addConnection(this)
  }

  get remote(): string {
    return this.#inner.remote
  }

  get local(): string | undefined {
    return this.#inner.local
  }

  get protocolVersion(): number {
    return this.#inner.protocolVersion
  }

  get bufferedBytes(): number {
    return this.#delayedBytes + this.#inner.bufferedBytes
  }

  get bytesIn(): number {
    return this.#inner.bytesIn
  }

  get bytesOut(): number {
    return this.#inner.bytesOut
  }

  get lastHeardMs(): number {
    return this.#inner.lastHeardMs
  }

  get handlers(): ConnectionHandlers {
    return this.#inner.handlers
  }

  set handlers(handlers: ConnectionHandlers) {
    this.#inner.handlers = {
      message: (control, payload) => handlers.message(control, payload),
      drain: () => handlers.drain(),
      closed: (error) => {
        this.#network.removeConnection(this)
        handlers.closed(error)
      },
    }
  }

  send(control: Uint8Array, payload: Uint8Array = emptyBytes): boolean {
    if (this.#ending) return false
    let hasRoom = true
    for (const delayMs of this.#network.drawDelays(this.link)) {
      if (delayMs === 0) hasRoom = this.#inner.send(control, payload)
      else this.#sendLater(delayMs, control, payload)
    }
    return hasRoom
  }

  acceptFramesUpTo(bytes: number): void {
    this.#inner.acceptFramesUpTo(bytes)
  }

  pause(): void {
    this.#inner.pause()
  }

  resume(): void {
    this.#inner.resume()
  }

  async end(): Promise<void> {
    this.#ending = true
    if (this.#delayed > 0) await new Promise<void>((resolve) => this.#waitingForDelayed.push(resolve))
    await this.#inner.end()
  }

  destroy(error?: Error): void {
    this.#inner.destroy(error)
  }

  #sendLater(delayMs: number, control: Uint8Array, payload: Uint8Array): void {
    const bytes = control.length + payload.length
    this.#delayedBytes += bytes
    this.#delayed++
    this.#network.timers.after(delayMs, () => {
      this.#delayedBytes -= bytes
      this.#delayed--
      assert(this.#delayed >= 0, 'a late message is sent once')
      if (this.#network.isCut(this.link)) this.#network.counts.dropped++
      else this.#inner.send(control, payload)
      if (this.#delayed > 0) return
      const waiting = this.#waitingForDelayed
      this.#waitingForDelayed = []
      for (const resolve of waiting) resolve()
    })
  }
}

function silence(timers: Timers, ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const aborted = (): void => {
      timer.cancel()
      reject(new CoterieError('ABORTED', 'the connect was aborted', { cause: signal?.reason }))
    }
    const timer = timers.after(ms, () => {
      signal?.removeEventListener('abort', aborted)
      resolve()
    })
    signal?.addEventListener('abort', aborted, { once: true })
    if (signal?.aborted === true) aborted()
  })
}

function nameOf(link: Link): string {
  return `${link.from} > ${link.to}`
}
