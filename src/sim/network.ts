// The network between simulated sites: a `Transport` for each process, under `sim://name`. What real networks do to
// messages happens here, drawn from one seed: they are late, lost, doubled, overtaken, or come again on a later
// connection; links are cut both ways, one way or for some pairs only; connections break, and sometimes only one of
// the two sides learns of it. A machine that loses power tells nobody.
//
// Bytes are not copied: a `Connection` promises that they do not change.

import { CoterieError } from '../base/errors.ts'
import type { Prng } from '../base/prng.ts'
import type { SimulatedHost } from '../env/simulated/simulated-host.ts'
import type { VirtualClock } from '../env/simulated/virtual-clock.ts'
import type {
  Connection,
  ConnectOptions,
  Listener,
  ListenOptions,
  Transport,
} from '../transport/transport.ts'
import { ConnectionSide } from './network-connection.ts'
import { Link, type Message, type NetworkCounts, type Wire } from './network-link.ts'

const pastMax = 32
/** At least so often a message of an opening is followed by one of an earlier opening, where there are replays at all. */
const openingReplayChance = 0.1

/** Sees what the network does, for the fingerprint and the story. */
export type NetworkWatcher = (
  what: 'deliver' | 'drop' | 'replay' | 'double',
  link: Link,
  message: Message,
) => void

/** Sees messages as sites give and take them. For judges. */
export interface MessageObserver {
  /** Before anything happens to it. */
  sent?(link: Link, message: Message, connection: number): void
  /** Before the site that it has come to looks at it. */
  delivered?(link: Link, message: Message, connection: number): void
}

export class SimulatedNetwork implements Wire {
  readonly clock: VirtualClock
  readonly prng: Prng
  readonly counts: NetworkCounts = {
    sent: 0,
    delivered: 0,
    dropped: 0,
    duplicated: 0,
    late: 0,
    replayed: 0,
    held: 0,
    connections: 0,
    resets: 0,
    halfOpen: 0,
  }
  /** The chance that the other side of a connection that ends does not learn of it. */
  halfOpenChance = 0
  watcher: NetworkWatcher | undefined
  readonly observers: MessageObserver[] = []
  readonly #links: Map<string, Map<string, Link>> = new Map()
  readonly #listeners: Map<string, { site: string; host: SimulatedHost; options: ListenOptions }> = new Map()
  readonly #siteOf: Map<string, string> = new Map()
  readonly #sides: Set<ConnectionSide> = new Set()
  readonly #up: Set<string> = new Set()

  readonly #copiesMessages: boolean

  constructor(options: {
    readonly clock: VirtualClock
    readonly prng: Prng
    /** Finds senders that change what they have sent. */
    readonly copiesMessages?: boolean
  }) {
    this.clock = options.clock
    this.prng = options.prng
    this.#copiesMessages = options.copiesMessages ?? false
  }

  /** What one process of a site speaks through; the machine is up from now on. */
  transport(site: string, host: SimulatedHost): Transport {
    this.#up.add(site)
    return {
      scheme: 'sim',
      listen: (options) => this.#listen(site, host, options),
      connect: (options) => this.#connect(site, host, options),
    }
  }

  link(from: string, to: string): Link {
    let links = this.#links.get(from)
    if (links === undefined) {
      links = new Map()
      this.#links.set(from, links)
    }
    let link = links.get(to)
    if (link === undefined) {
      link = new Link(from, to)
      links.set(to, link)
    }
    return link
  }

  cut(from: string, to: string, options: { readonly hold?: boolean } = {}): void {
    const link = this.link(from, to)
    link.isCut = true
    link.holdsWhileCut = options.hold ?? false
  }

  heal(from: string, to: string): void {
    const link = this.link(from, to)
    link.isCut = false
    link.heldBytes = 0
    for (const deliver of link.held.splice(0)) {
      this.clock.after(link.faults.latencyMs, deliver)
    }
  }

  /** Open sides, for faults and judges. */
  get sides(): ReadonlySet<ConnectionSide> {
    return this.#sides
  }

  /** Breaks the connections between two sites, as a router that restarts does. */
  reset(a: string, b: string): number {
    let count = 0
    for (const side of [...this.#sides]) {
      const { from, to } = side.link
      if (!((from === a && to === b) || (from === b && to === a))) continue
      // Where one side is not told, it sends into nothing until something tells it.
      if (this.prng.chance(this.halfOpenChance)) {
        this.counts.halfOpen++
        continue
      }
      count++
      this.counts.resets++
      side.breakOff()
    }
    return count
  }

  /** The process is gone; its system closes what it had open. */
  killed(host: SimulatedHost): void {
    for (const side of this.#endAll(host)) side.tellPeer(this.prng.chance(0.5) ? 'ended' : 'destroyed')
  }

  /** The machine is gone, and says nothing until it is up again. */
  crashed(site: string, host: SimulatedHost): void {
    this.#up.delete(site)
    this.#endAll(host)
  }

  isUp(site: string): boolean {
    return this.#up.has(site)
  }

  delivered(link: Link, connection: number, message: Message): void {
    this.watcher?.('deliver', link, message)
    for (const observer of this.observers) observer.delivered?.(link, message, connection)
  }

  closed(side: ConnectionSide): void {
    this.#sides.delete(side)
  }

  #endAll(host: SimulatedHost): ConnectionSide[] {
    for (const [address, listener] of this.#listeners) {
      if (listener.host === host) this.#listeners.delete(address)
    }
    const ended = [...this.#sides].filter((side) => side.host === host)
    for (const side of ended) this.#sides.delete(side)
    return ended
  }

  async #listen(site: string, host: SimulatedHost, options: ListenOptions): Promise<Listener> {
    const { text } = options.address
    if (this.#listeners.has(text)) {
      throw new CoterieError('ADDRESS_IN_USE', `somebody listens on ${text} already`, {
        details: { address: text },
      })
    }
    const listener = { site, host, options }
    this.#listeners.set(text, listener)
    this.#siteOf.set(text, site)
    const close = async (): Promise<void> => {
      if (this.#listeners.get(text) === listener) this.#listeners.delete(text)
    }
    return { address: text, close }
  }

  #connect(site: string, host: SimulatedHost, options: ConnectOptions): Promise<Connection> {
    const { address, connectTimeoutMs, signal } = options
    return new Promise((resolve, reject) => {
      const fail = (code: 'ABORTED' | 'CONNECT_FAILED' | 'CONNECT_TIMEOUT', why: string): void => {
        settle()
        reject(new CoterieError(code, why, { details: { address: address.text } }))
      }
      const aborted = (): void => fail('ABORTED', 'the connect was aborted')
      let settled = false
      const settle = (): void => {
        settled = true
        timer.cancel()
        signal?.removeEventListener('abort', aborted)
      }
      const timer = host.timers.after(connectTimeoutMs, () =>
        fail('CONNECT_TIMEOUT', `${address.text} did not answer within ${connectTimeoutMs} ms`),
      )
      if (signal?.aborted === true) {
        aborted()
        return
      }
      signal?.addEventListener('abort', aborted, { once: true })
      const to = this.#siteOf.get(address.text)
      if (to === undefined) {
        host.deliver(0.1, () => {
          if (!settled) fail('CONNECT_FAILED', `there is no ${address.text}`)
        })
        return
      }
      const there = this.link(site, to)
      const back = this.link(to, site)
      this.carry(there, () => {
        const listener = this.#listeners.get(address.text)
        if (listener === undefined) {
          this.carry(back, () => {
            host.run(() => {
              if (!settled) fail('CONNECT_FAILED', `nobody listens on ${address.text}`)
            })
          })
          return
        }
        listener.host.run(() => {
          const number = ++this.counts.connections
          const near = new ConnectionSide(this, {
            host,
            link: there,
            back,
            number,
            remote: address.text,
            local: undefined,
            frameBytesMax: options.frameBytesMax,
          })
          const far = new ConnectionSide(this, {
            host: listener.host,
            link: back,
            back: there,
            number,
            remote: `${address.text}#${number}`,
            local: address.text,
            frameBytesMax: listener.options.frameBytesMax,
          })
          near.peer = far
          far.peer = near
          this.#sides.add(far)
          listener.options.onConnection(far)
          this.carry(back, () => {
            host.run(() => {
              if (settled) {
                near.tellPeer('destroyed')
                return
              }
              settle()
              this.#sides.add(near)
              resolve(near)
            })
          })
        })
      })
    })
  }

  carry(link: Link, arrive: () => void): void {
    if (link.isCut) {
      this.#strand(link, arrive)
      return
    }
    this.clock.after(this.#orderedDelay(link), () => {
      if (link.isCut) this.#strand(link, arrive)
      else arrive()
    })
  }

  /** Sends a message on its way; `arrive` is called for every copy that gets there. */
  transmit(link: Link, connection: number, sent: Message, arrive: (message: Message) => void): void {
    const { counts, prng } = this
    const message = this.#copiesMessages ? copyOf(sent) : sent
    const { faults } = link
    counts.sent++
    for (const observer of this.observers) observer.sent?.(link, message, connection)
    if (link.isCut && !link.holdsWhileCut) {
      counts.dropped++
      this.watcher?.('drop', link, message)
      return
    }
    if (faults.replayChance > 0) this.#replay(link, connection, message, arrive)
    if (faults.dropChance > 0 && prng.chance(faults.dropChance)) {
      counts.dropped++
      this.watcher?.('drop', link, message)
      return
    }
    this.#copy(link, message, arrive)
    if (faults.duplicateChance > 0 && prng.chance(faults.duplicateChance)) {
      counts.duplicated++
      this.watcher?.('double', link, message)
      this.#copy(link, message, arrive)
    }
  }

  #copy(link: Link, message: Message, arrive: (message: Message) => void): void {
    const { faults } = link
    let delayMs: number
    if (faults.lateChance > 0 && this.prng.chance(faults.lateChance)) {
      this.counts.late++
      delayMs = faults.latencyMs + this.prng.fraction() * faults.lateMsMax
    } else {
      delayMs = this.#orderedDelay(link, message.bytes)
    }
    const arrived = (): void => {
      if (link.isCut) {
        this.#strand(link, arrived, message.bytes)
        return
      }
      this.counts.delivered++
      arrive(message)
    }
    if (link.isCut) this.#strand(link, arrived, message.bytes)
    else this.clock.after(delayMs, arrived)
  }

  #strand(link: Link, arrive: () => void, bytes = 0): void {
    if (link.holdsWhileCut) {
      this.counts.held++
      link.heldBytes += bytes
      link.held.push(arrive)
    } else {
      this.counts.dropped++
    }
  }

  #replay(link: Link, connection: number, message: Message, arrive: (message: Message) => void): void {
    const { replayChance } = link.faults
    // The first words of a connection are what the first words of an earlier one are most easily taken for.
    const isOpening = link.isOpening(connection)
    const past = isOpening ? link.openings : link.past
    if (this.prng.chance(isOpening ? Math.max(replayChance, openingReplayChance) : replayChance)) {
      const old = past.filter((each) => each.connection !== connection)
      if (old.length > 0) {
        this.counts.replayed++
        const again = this.prng.pick(old).message
        this.watcher?.('replay', link, again)
        this.#copy(link, again, arrive)
      }
    }
    const entry = { connection, message }
    // Those of connections that are gone stay longer than those of a busy one that is not.
    if (past.length < pastMax) past.push(entry)
    else if (this.prng.chance(isOpening ? 0.5 : 0.1)) past[this.prng.below(pastMax)] = entry
  }

  #orderedDelay(link: Link, bytes = 0): number {
    const { faults } = link
    const now = this.clock.now()
    let leavesAt = now
    if (faults.bytesPerMs > 0) {
      leavesAt = Math.max(now, link.lastDepartureMs) + bytes / faults.bytesPerMs
      link.lastDepartureMs = leavesAt
    }
    const arrivesAt = Math.max(
      link.lastArrivalMs,
      leavesAt + faults.latencyMs + this.prng.fraction() * faults.jitterMs,
    )
    link.lastArrivalMs = arrivesAt
    return arrivesAt - now
  }
}

function copyOf({ control, payload, bytes }: Message): Message {
  return { control: new Uint8Array(control), payload: new Uint8Array(payload), bytes }
}
