// What happens to the processes and machines of simulated sites: they are killed, lose power, stop, stand still, and
// their wall clocks jump.

import type { FaultTools } from './fault-tools.ts'

export class SiteFaults {
  readonly #tools: FaultTools

  constructor(tools: FaultTools) {
    this.#tools = tools
  }

  crash(kind: 'kill' | 'power'): boolean {
    const site = this.#tools.someSite((each) => each.host !== undefined)
    if (site === undefined) return false
    this.#tools.crashFor(site, kind, this.#tools.duration())
    return true
  }

  /** The power of the house. */
  powerAll(): boolean {
    this.#tools.tell('power cut everywhere')
    for (const site of this.#tools.world.livingSites) {
      site.restarts = false
      site.crash('power')
      this.#tools.world.clock.after(this.#tools.duration(), () => {
        site.restarts = true
        site.start()
      })
    }
    return true
  }

  /** Crashes a site and then its recoveries, at any point of them. */
  crashLoop(): boolean {
    const site = this.#tools.someSite((each) => each.host !== undefined)
    if (site === undefined) return false
    const again = (left: number): void => {
      this.#tools.crashFor(
        site,
        this.#tools.prng.pick(['kill', 'power'] as const),
        this.#tools.prng.between(1, 50),
      )
      if (left > 0)
        this.#tools.later(this.#tools.prng.between(51, 51 + this.#tools.prng.pick([3, 30, 300])), () =>
          again(left - 1),
        )
    }
    again(this.#tools.prng.between(1, 4))
    return true
  }

  /** Starts again at another address, as whoever is scheduled onto another machine does. */
  move(): boolean {
    const site = this.#tools.someSite((each) => each.host !== undefined)
    if (site === undefined) return false
    this.#tools.crashFor(site, 'kill', this.#tools.duration())
    site.move()
    this.#tools.tell(`${site.name} moves to ${site.address}`)
    return true
  }

  stopOrderly(): boolean {
    const site = this.#tools.someSite((each) => each.state === 'up')
    if (site === undefined) return false
    const ms = this.#tools.duration()
    this.#tools.tell(`stop ${site.name} in order for ${Math.round(ms)} ms`)
    site.restarts = false
    site.stop()
    this.#tools.world.clock.after(ms, () => {
      site.restarts = true
      // One that could not end in time is killed, as a supervisor does it.
      if (site.state === 'stopping') site.crash('kill')
      site.start()
    })
    return true
  }

  pause(): boolean {
    const site = this.#tools.someSite((each) => each.isAwake)
    if (site === undefined) return false
    const { host } = site
    const ms = this.#tools.duration()
    this.#tools.tell(`pause ${site.name} for ${Math.round(ms)} ms`)
    host?.pause()
    this.#tools.world.clock.after(ms, () => {
      this.#tools.tell(`resume ${site.name}`)
      host?.resume()
    })
    return true
  }

  shiftWall(): boolean {
    const site = this.#tools.someSite()
    if (site === undefined) return false
    const scale = this.#tools.prng.pick([1000, 60_000, 86_400_000, 315_360_000_000])
    site.machine.shiftWall(Math.round((this.#tools.prng.fraction() * 2 - 1) * scale))
    return true
  }
}
