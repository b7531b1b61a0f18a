// What all faults of a run share: which site they hit, how long they last, and the end of them all.

import type { Prng } from '../base/prng.ts'
import type { LinkFaults } from './network-link.ts'
import type { SimSite } from './site.ts'
import type { World } from './world.ts'

export class FaultTools {
  readonly world: World
  readonly prng: Prng
  /** How a site that is well has its links. */
  readonly usualLink: LinkFaults
  /** How likely a strike seeks the master. */
  readonly #masterBias: number
  #on: boolean = true

  constructor(options: {
    readonly world: World
    readonly prng: Prng
    readonly usualLink: LinkFaults
    readonly masterBias: number
  }) {
    this.world = options.world
    this.prng = options.prng
    this.usualLink = options.usualLink
    this.#masterBias = options.masterBias
  }

  /** Nothing strikes any more, and nothing that lasts is ended: whoever heals does that. */
  end(): void {
    this.#on = false
  }

  /** Runs while faults are on. */
  later(ms: number, run: () => void): void {
    this.world.clock.after(ms, () => {
      if (this.#on) run()
    })
  }

  tell(what: string): void {
    this.world.tell('fault', what)
  }

  someSite(where: (site: SimSite) => boolean = () => true): SimSite | undefined {
    const sites = this.world.livingSites.filter(where)
    if (sites.length === 0) return undefined
    const masters = sites.filter((site) => site.isMaster)
    if (masters.length > 0 && this.prng.chance(this.#masterBias)) return this.prng.pick(masters)
    return this.prng.pick(sites)
  }

  /** How long something lasts: often about as long as an election takes, sometimes much longer. */
  duration(): number {
    const { electionTimeoutMs } = this.world.settings
    const { prng } = this
    if (prng.chance(0.4)) return electionTimeoutMs * (0.5 + prng.fraction())
    return prng.chance(0.7) ? prng.between(10, 3000) : prng.between(3000, 15_000)
  }

  crashFor(site: SimSite, kind: 'kill' | 'power', ms: number): void {
    this.tell(`${kind} ${site.name} for ${Math.round(ms)} ms`)
    site.restarts = false
    site.crash(kind)
    this.world.clock.after(ms, () => {
      site.restarts = true
      site.start()
    })
  }
}
