// Several cores in one deterministic world: a clock by hand, a network that may lose, repeat, delay and part, and
// sites on fake disks (fake-site.ts). The same seed gives the same run.

import type { Term } from '../../src/base/lsn.ts'
import { Prng } from '../../src/base/prng.ts'
import type { FollowOptions, PeerId, ServeOptions } from '../../src/replication/core-options.ts'
import type { Effect, StepResult } from '../../src/replication/effects.ts'
import { decodeMessage, encodeMessage } from '../../src/replication/message-codec.ts'
import type { Message } from '../../src/replication/messages.ts'
import type { Timings } from '../../src/replication/timings.ts'
import { FakeSite, type World } from './fake-site.ts'

export interface Network {
  /** Probabilities, for each message. */
  loss: number
  duplication: number
  delayMinMs: number
  delayMaxMs: number
  /** False: messages of one connection keep their order, as in a stream. */
  reorders: boolean
}

export interface ClusterOptions {
  readonly seed?: number
  readonly network?: Partial<Network>
  readonly syncMs?: readonly [min: number, max: number]
  readonly timings?: Partial<Timings>
  /** Peers are addresses, not connections: nothing is told of a site that goes away. */
  readonly datagrams?: boolean
}

interface Link {
  readonly id: PeerId
  readonly a: FakeSite
  readonly b: FakeSite
  isOpen: boolean
  /** For each direction, when the last message arrives. */
  readonly arrival: Map<FakeSite, number>
}

interface Due {
  readonly at: number
  readonly order: number
  readonly run: () => void
}

/** A world with a network, disks and transport drawn by chance. */
export function randomCluster(
  prng: Prng,
  options: { readonly isHarsh: boolean; readonly timings: Partial<Timings> },
): CoreCluster {
  const { isHarsh, timings } = options
  return new CoreCluster({
    seed: prng.next(),
    network: {
      loss: isHarsh ? prng.fraction() * 0.2 : 0,
      duplication: isHarsh ? prng.fraction() * 0.2 : 0,
      delayMinMs: 1,
      delayMaxMs: prng.between(1, 30),
      reorders: isHarsh && prng.chance(0.7),
    },
    syncMs: [0.5, prng.pick([2, 10, 40])],
    datagrams: prng.chance(0.3),
    timings,
  })
}

export class CoreCluster implements World {
  now = 0
  readonly prng: Prng
  readonly sites: Map<string, FakeSite> = new Map()
  readonly network: Network
  /** Messages that were handed over, as `a>b` pairs that are cut. */
  readonly cut: Set<string> = new Set()
  onEffect: ((site: FakeSite, effect: Effect) => void) | undefined
  onMessage: ((from: FakeSite, to: FakeSite, message: Message) => void) | undefined
  onResult: ((site: FakeSite, message: Message, result: StepResult) => void) | undefined
  /** Those who act on effects beside the site itself. */
  readonly drivers: ((site: FakeSite, effect: Effect) => void)[] = []
  /** A connection has ended, for both. */
  onClosed: ((a: FakeSite, b: FakeSite, peer: PeerId) => void) | undefined
  onStep: ((site: FakeSite) => void) | undefined
  /** Says which messages the network takes away, beside the random loss. */
  drops: ((from: FakeSite, to: FakeSite, message: Message) => boolean) | undefined
  /** Messages as a lying network has them. */
  alter: ((message: Message) => Message) | undefined
  messages = 0
  /** The last message of each kind that was sent from one site to another, as `a>b append`. */
  readonly lastSent: Map<string, { control: Uint8Array; rec: Uint8Array | undefined }> = new Map()
  /** Of sites that are added from now on. */
  readonly timings: Partial<Timings>
  readonly #options: ClusterOptions
  readonly #syncMs: readonly [number, number]
  #due: Due[] = []
  #order = 0
  readonly #links = new Map<PeerId, Link>()
  #nextPeer = 1

  constructor(options: ClusterOptions = {}) {
    this.#options = options
    this.timings = { ...options.timings }
    this.prng = new Prng(options.seed ?? 1)
    this.network = {
      loss: 0,
      duplication: 0,
      delayMinMs: 1,
      delayMaxMs: 1,
      reorders: false,
      ...options.network,
    }
    this.#syncMs = options.syncMs ?? [1, 1]
  }

  add(name: string, options: { databaseId?: string } = {}): FakeSite {
    const site = new FakeSite(name, this, { ...options, timings: this.timings })
    this.sites.set(name, site)
    this.#tick(site)
    return site
  }

  get(name: string): FakeSite {
    const site = this.sites.get(name)
    if (site === undefined) throw new Error(`there is no site ${name}`)
    return site
  }

  #tick(site: FakeSite): void {
    this.after(site.core.timings.tickMs, () => {
      site.step((core) => core.tick(this.now))
      this.#tick(site)
    })
  }

  // ---- the world

  after(ms: number, run: () => void): void {
    const due = { at: this.now + ms, order: this.#order++, run }
    let index = this.#due.length
    this.#due.push(due)
    while (index > 0) {
      const parent = (index - 1) >>> 1
      if (!isBefore(due, this.#due[parent] as Due)) break
      this.#due[index] = this.#due[parent] as Due
      index = parent
    }
    this.#due[index] = due
  }

  #takeDue(): Due {
    const first = this.#due[0] as Due
    const last = this.#due.pop() as Due
    const { length } = this.#due
    if (length === 0) return first
    let index = 0
    for (;;) {
      let child = 2 * index + 1
      if (child >= length) break
      if (child + 1 < length && isBefore(this.#due[child + 1] as Due, this.#due[child] as Due)) child++
      if (!isBefore(this.#due[child] as Due, last)) break
      this.#due[index] = this.#due[child] as Due
      index = child
    }
    this.#due[index] = last
    return first
  }

  /** Lets time pass. */
  run(ms: number): void {
    const end = this.now + ms
    for (let next = this.#due[0]; next !== undefined && next.at <= end; next = this.#due[0]) {
      this.now = next.at
      this.#takeDue().run()
    }
    this.now = end
  }

  /** Lets time pass until something holds; false if it does not within `ms`. */
  runUntil(ms: number, holds: () => boolean): boolean {
    const end = this.now + ms
    while (!holds()) {
      const next = this.#due[0]
      if (next === undefined || next.at > end) {
        this.now = end
        return holds()
      }
      this.now = next.at
      this.#takeDue().run()
    }
    return true
  }

  random(): number {
    return this.prng.next()
  }

  workMs(site: FakeSite, kind: 'sync' | 'read' | 'apply' | 'persist'): number {
    const [min, max] = this.#syncMs
    if (kind === 'sync' || kind === 'persist')
      return site.slowness * (min + this.prng.fraction() * (max - min))
    return min / 2
  }

  report(site: FakeSite, effect: Effect): void {
    this.onEffect?.(site, effect)
    for (const driver of this.drivers) driver(site, effect)
  }

  afterStep(site: FakeSite): void {
    this.onStep?.(site)
  }

  // ---- connections

  connect(a: FakeSite, b: FakeSite): PeerId {
    if (this.#options.datagrams === true) {
      for (const link of this.#links.values()) {
        if (isBetween(link, a, b)) {
          link.isOpen = true
          return link.id
        }
      }
    }
    const id = this.#nextPeer++
    this.#links.set(id, { id, a, b, isOpen: true, arrival: new Map() })
    return id
  }

  send(site: FakeSite, effect: Extract<Effect, { kind: 'send' }>): void {
    const link = this.#links.get(effect.to)
    if (link === undefined || !link.isOpen) return
    const to = link.a === site ? link.b : link.a
    const { rec } = effect
    const decoded = decodeMessage(effect.control)
    if (!decoded.ok) throw new Error(`${site.name} sends what cannot be read: ${decoded.reason}`)
    const message = this.alter?.(decoded.message) ?? decoded.message
    const control = message === decoded.message ? effect.control : encodeMessage(message)
    this.messages++
    this.lastSent.set(`${site.name}>${to.name} ${message.type}`, { control, rec })
    this.onMessage?.(site, to, message)
    if (this.drops?.(site, to, message) === true) return
    const { loss, duplication } = this.network
    const copies = this.prng.chance(loss) ? 0 : this.prng.chance(duplication) ? 2 : 1
    for (let i = 0; i < copies; i++) this.#deliver({ link, from: site, to, control, rec, message })
  }

  #deliver(parcel: {
    link: Link
    from: FakeSite
    to: FakeSite
    control: Uint8Array
    rec: Uint8Array | undefined
    message: Message
  }): void {
    const { link, from, to, control, rec, message } = parcel
    const { delayMinMs, delayMaxMs, reorders } = this.network
    let at = this.now + delayMinMs + this.prng.fraction() * (delayMaxMs - delayMinMs)
    if (!reorders) at = Math.max(at, link.arrival.get(to) ?? 0)
    link.arrival.set(to, at)
    this.after(at - this.now, () => {
      if (!link.isOpen || !to.isUp || this.isCut(from, to)) return
      to.step((core) => {
        const result = core.processMessage({
          control,
          ...(rec === undefined ? {} : { rec }),
          from: link.id,
          now: this.now,
        })
        this.onResult?.(to, message, result)
      })
    })
  }

  isCut(from: FakeSite, to: FakeSite): boolean {
    return this.cut.has(`${from.name}>${to.name}`)
  }

  /** Cuts both ways between two groups of sites. */
  part(one: readonly FakeSite[], other: readonly FakeSite[]): void {
    for (const a of one) {
      for (const b of other) {
        this.cut.add(`${a.name}>${b.name}`)
        this.cut.add(`${b.name}>${a.name}`)
      }
    }
  }

  heal(): void {
    this.cut.clear()
  }

  /** Delivers again, on the present connection, the last message of a kind that one site sent to another. */
  replay(from: FakeSite, to: FakeSite, type: string): void {
    const sent = this.lastSent.get(`${from.name}>${to.name} ${type}`)
    const link = [...this.#links.values()].findLast((each) => each.isOpen && isBetween(each, from, to))
    if (sent === undefined || link === undefined) throw new Error(`there is no ${type} to replay`)
    const { control, rec } = sent
    const decoded = decodeMessage(control)
    if (!decoded.ok) throw new Error(decoded.reason)
    this.#deliver({ link, from, to, control, rec, message: decoded.message })
  }

  disconnect(_site: FakeSite, peer: PeerId): void {
    const link = this.#links.get(peer)
    if (link !== undefined && this.#options.datagrams !== true) this.#close(link, 1)
  }

  /** Both ends learn that the connection is gone. */
  #close(link: Link, ms: number): void {
    this.after(ms, () => {
      if (!link.isOpen) return
      link.isOpen = false
      this.#links.delete(link.id)
      this.onClosed?.(link.a, link.b, link.id)
      for (const site of [link.a, link.b]) {
        site.step((core) => core.disconnected({ peer: link.id, now: this.now }))
      }
    })
  }

  closeLinks(site: FakeSite): void {
    for (const link of this.#links.values()) {
      if (link.a === site || link.b === site) this.#close(link, 1)
    }
  }

  // ---- what tests do

  follow(replica: string, master: string, options: FollowOptions = {}): PeerId {
    const site = this.get(replica)
    const peer = this.connect(site, this.get(master))
    site.follow(peer, { address: master, ...options })
    return peer
  }

  serve(name: string, options: ServeOptions = {}, above?: Term): void {
    this.get(name).serve(options, above)
  }

  crash(name: string): void {
    const site = this.get(name)
    site.crash()
    if (this.#options.datagrams !== true) this.closeLinks(site)
  }

  restart(name: string): void {
    const site = this.get(name)
    site.restart()
  }
}

function isBetween(link: Link, a: FakeSite, b: FakeSite): boolean {
  return (link.a === a && link.b === b) || (link.a === b && link.b === a)
}

function isBefore(a: Due, b: Due): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}
