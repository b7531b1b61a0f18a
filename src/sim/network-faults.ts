// What happens to the network between simulated sites: it is cut, whole or in part, one way or both; connections break;
// links are slow. What happens to single messages is drawn once for a run (faults.ts).

import type { FaultTools } from './fault-tools.ts'
import type { LinkFaults } from './network-link.ts'
import type { SimSite } from './site.ts'

export class NetworkFaults {
  readonly #tools: FaultTools

  constructor(tools: FaultTools) {
    this.#tools = tools
  }

  setLinks(faults: LinkFaults): void {
    const { network, sites } = this.#tools.world
    for (const a of sites) for (const b of sites) if (a !== b) network.link(a.name, b.name).faults = faults
  }

  #cutFor(ms: number, pairs: readonly (readonly [SimSite, SimSite])[]): void {
    const { network } = this.#tools.world
    const hold = this.#tools.prng.chance(0.4)
    for (const [from, to] of pairs) network.cut(from.name, to.name, { hold })
    this.#tools.later(ms, () => {
      for (const [from, to] of pairs) network.heal(from.name, to.name)
    })
  }

  /** Two parts; in one direction only, now and then. */
  partition(): boolean {
    const sites = this.#tools.world.livingSites
    const left = sites.filter(() => this.#tools.prng.chance(0.5))
    const right = sites.filter((site) => !left.includes(site))
    if (left.length === 0 || right.length === 0) return false
    const ms = this.#tools.duration()
    const oneWay = this.#tools.prng.chance(0.3)
    const pairs = left.flatMap((a) =>
      right.flatMap((b): (readonly [SimSite, SimSite])[] =>
        oneWay
          ? [[a, b]]
          : [
              [a, b],
              [b, a],
            ],
      ),
    )
    this.#tools.tell(
      `partition ${left.map((site) => site.name)} ${oneWay ? '->' : '|'} ${right.map((site) => site.name)} for ${Math.round(ms)} ms`,
    )
    this.#cutFor(ms, pairs)
    return true
  }

  isolate(): boolean {
    const site = this.#tools.someSite()
    if (site === undefined) return false
    const ms = this.#tools.duration()
    const others = this.#tools.world.livingSites.filter((each) => each !== site)
    const way = this.#tools.prng.pick(['both', 'both', 'in', 'out'] as const)
    this.#tools.tell(`isolate ${site.name} (${way}) for ${Math.round(ms)} ms`)
    this.#cutFor(
      ms,
      others.flatMap((other): (readonly [SimSite, SimSite])[] => {
        if (way === 'in') return [[other, site]]
        return way === 'out'
          ? [[site, other]]
          : [
              [other, site],
              [site, other],
            ]
      }),
    )
    return true
  }

  /** The master is cut off, with what it has not got to others; comes back as the next one is cut off in its turn. */
  flipFlop(): boolean {
    const { prng, world } = this.#tools
    const first = world.livingSites.find((site) => site.isAwake && site.isMaster)
    if (first === undefined) return false
    const { electionTimeoutMs } = world.settings
    const ms = electionTimeoutMs * (1.5 + 2.5 * prng.fraction())
    this.#tools.tell(`isolate ${first.name}, then whoever takes its place, for ${Math.round(ms)} ms each`)
    this.#isolateFor(ms, first)
    this.#tools.later(ms, () => {
      const next = world.livingSites.find((site) => site !== first && site.isAwake && site.isMaster)
      if (next === undefined) return
      if (prng.chance(0.5)) this.#tools.crashFor(next, 'kill', ms)
      else this.#isolateFor(ms, next)
    })
    return true
  }

  /**
   * The master is cut off, alone or with one other, and of the rest some are killed and at once started again: what they
   * promised the master they must know still, and a master that hears one site must not take it for many.
   */
  orphan(): boolean {
    const { prng, world } = this.#tools
    const master = world.livingSites.find((site) => site.isAwake && site.isMaster)
    if (master === undefined) return false
    const others = world.livingSites.filter((each) => each !== master)
    const friend = others.length > 2 && prng.chance(0.5) ? prng.pick(others) : undefined
    const ms = world.settings.electionTimeoutMs * (1.5 + 2.5 * prng.fraction())
    const inside = friend === undefined ? [master] : [master, friend]
    this.#tools.tell(`cut off ${inside.map((site) => site.name)} for ${Math.round(ms)} ms, kill others`)
    this.#isolateFor(ms, ...inside)
    for (const site of others) {
      if (site !== friend && site.host !== undefined && prng.chance(0.8))
        this.#tools.crashFor(site, 'kill', prng.between(1, 60))
    }
    return true
  }

  /**
   * The master is cut off with sites that are no members: what it writes comes to them, becomes permanent nowhere, and is
   * undone when another master is found.
   */
  strand(): boolean {
    const { prng, world } = this.#tools
    const master = world.livingSites.find((site) => site.isAwake && site.isMaster)
    if (master === undefined) return false
    const followers = world.livingSites.filter((site) => !site.isMember && prng.chance(0.8))
    const ms = world.settings.electionTimeoutMs * (1 + 3 * prng.fraction())
    const inside = [master, ...followers]
    this.#tools.tell(`strand ${inside.map((site) => site.name)} for ${Math.round(ms)} ms`)
    this.#isolateFor(ms, ...inside)
    return true
  }

  /** From all the others, not from each other. */
  #isolateFor(ms: number, ...inside: readonly SimSite[]): void {
    const outside = this.#tools.world.livingSites.filter((each) => !inside.includes(each))
    this.#cutFor(
      ms,
      inside.flatMap((site) =>
        outside.flatMap((other): (readonly [SimSite, SimSite])[] => [
          [other, site],
          [site, other],
        ]),
      ),
    )
  }

  /**
   * Two sites are apart for so long that both reign and take writes. Now and then one of them is started again meanwhile,
   * and knows no more of what it has promised and acknowledged than its disk does.
   */
  apart(): boolean {
    const { prng, world } = this.#tools
    const [one, other] = world.livingSites
    if (one === undefined || other === undefined) return false
    const ms = world.settings.electionTimeoutMs * prng.between(4, 16)
    this.#tools.tell(`${one.name} and ${other.name} are apart for ${Math.round(ms)} ms`)
    this.#isolateFor(ms, one)
    const site = prng.pick([one, other])
    if (prng.chance(0.3)) {
      const kind = prng.pick(['kill', 'power'] as const)
      this.#tools.later(ms * prng.fraction(), () => {
        if (site.host !== undefined) this.#tools.crashFor(site, kind, prng.between(1, 60))
      })
    }
    return true
  }

  cutLink(): boolean {
    const sites = this.#tools.world.livingSites
    const a = this.#tools.someSite()
    if (a === undefined || sites.length < 2) return false
    const b = this.#tools.prng.pick(sites.filter((site) => site !== a))
    const ms = this.#tools.duration()
    const oneWay = this.#tools.prng.chance(0.5)
    this.#tools.tell(`cut ${a.name} ${oneWay ? '->' : '|'} ${b.name} for ${Math.round(ms)} ms`)
    this.#cutFor(
      ms,
      oneWay
        ? [[a, b]]
        : [
            [a, b],
            [b, a],
          ],
    )
    return true
  }

  reset(): boolean {
    const sites = this.#tools.world.livingSites
    const a = this.#tools.someSite()
    if (a === undefined || sites.length < 2) return false
    const b = this.#tools.prng.pick(sites.filter((site) => site !== a))
    return this.#tools.world.network.reset(a.name, b.name) > 0
  }

  /** From one site to another; or to all, as a line that is too thin. */
  slowLink(): boolean {
    const { prng, world, usualLink } = this.#tools
    const from = this.#tools.someSite()
    const others = world.livingSites.filter((site) => site !== from)
    if (from === undefined || others.length === 0) return false
    const to = prng.chance(0.3) ? others : [prng.pick(others)]
    const ms = this.#tools.duration()
    const bytesPerMs = prng.pick([5, 20, 100])
    const latencyMs = prng.pick([1, 5, 50, 300])
    this.#tools.tell(
      `slow link ${from.name} -> ${to.map((site) => site.name)}: ${bytesPerMs} B/ms, ${latencyMs} ms, for ${Math.round(ms)} ms`,
    )
    const links = to.map((site) => world.network.link(from.name, site.name))
    for (const link of links) link.faults = { ...link.faults, bytesPerMs, latencyMs }
    this.#tools.later(ms, () => {
      for (const link of links) link.faults = usualLink
    })
    return true
  }
}
