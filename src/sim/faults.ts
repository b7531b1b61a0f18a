// The faults of one run. From the seed: which kinds strike at all (a random subset, so that some runs have room for
// what others would drown), how often each does, and what it hits. After the safety phase everything that a majority
// needs is made well again.

import type { Prng } from '../base/prng.ts'
import { usualDiskSpeed } from '../env/simulated/simulated-machine.ts'
import { BelowFaults } from './below-faults.ts'
import { DiskFaults } from './disk-faults.ts'
import { FaultTools } from './fault-tools.ts'
import { NetworkFaults } from './network-faults.ts'
import { goodLink, type LinkFaults } from './network-link.ts'
import { Operator } from './operator.ts'
import type { SimSite } from './site.ts'
import { SiteFaults } from './site-faults.ts'
import type { RunKind } from './stage.ts'
import type { World } from './world.ts'

interface Kind {
  readonly name: string
  /** Between two strikes, on the average; drawn between these for each run. */
  readonly gapMsMin: number
  readonly gapMsMax: number
  /** How probable it is that a run has it. */
  readonly chance: number
  /** Strikes once; false: there was nothing to strike. */
  readonly strike: (faults: Faults) => boolean
}

const kinds: readonly Kind[] = [
  { name: 'kill', gapMsMin: 2000, gapMsMax: 30_000, chance: 0.5, strike: (f) => f.sites.crash('kill') },
  { name: 'power', gapMsMin: 3000, gapMsMax: 40_000, chance: 0.5, strike: (f) => f.sites.crash('power') },
  { name: 'powerAll', gapMsMin: 15_000, gapMsMax: 60_000, chance: 0.15, strike: (f) => f.sites.powerAll() },
  { name: 'crashLoop', gapMsMin: 8000, gapMsMax: 40_000, chance: 0.25, strike: (f) => f.sites.crashLoop() },
  { name: 'stop', gapMsMin: 8000, gapMsMax: 40_000, chance: 0.25, strike: (f) => f.sites.stopOrderly() },
  { name: 'move', gapMsMin: 3000, gapMsMax: 30_000, chance: 0.25, strike: (f) => f.sites.move() },
  { name: 'pause', gapMsMin: 1500, gapMsMax: 20_000, chance: 0.4, strike: (f) => f.sites.pause() },
  { name: 'partition', gapMsMin: 3000, gapMsMax: 30_000, chance: 0.45, strike: (f) => f.network.partition() },
  { name: 'isolate', gapMsMin: 2000, gapMsMax: 30_000, chance: 0.45, strike: (f) => f.network.isolate() },
  { name: 'flipFlop', gapMsMin: 3000, gapMsMax: 30_000, chance: 0.3, strike: (f) => f.network.flipFlop() },
  { name: 'cutLink', gapMsMin: 1500, gapMsMax: 20_000, chance: 0.4, strike: (f) => f.network.cutLink() },
  { name: 'reset', gapMsMin: 1000, gapMsMax: 20_000, chance: 0.35, strike: (f) => f.network.reset() },
  { name: 'slowLink', gapMsMin: 4000, gapMsMax: 30_000, chance: 0.25, strike: (f) => f.network.slowLink() },
  { name: 'slowDisk', gapMsMin: 4000, gapMsMax: 30_000, chance: 0.3, strike: (f) => f.disks.slowDisk() },
  { name: 'failSync', gapMsMin: 5000, gapMsMax: 40_000, chance: 0.3, strike: (f) => f.disks.failSync() },
  { name: 'failWrite', gapMsMin: 5000, gapMsMax: 40_000, chance: 0.25, strike: (f) => f.disks.failWrite() },
  { name: 'diskFull', gapMsMin: 5000, gapMsMax: 40_000, chance: 0.25, strike: (f) => f.disks.fillDisk() },
  {
    name: 'storeFails',
    gapMsMin: 10_000,
    gapMsMax: 60_000,
    chance: 0.15,
    strike: (f) => f.disks.failStore(),
  },
  { name: 'wallJump', gapMsMin: 3000, gapMsMax: 30_000, chance: 0.3, strike: (f) => f.sites.shiftWall() },
  { name: 'transfer', gapMsMin: 1000, gapMsMax: 20_000, chance: 0.4, strike: (f) => f.operator.transfer() },
  { name: 'stepDown', gapMsMin: 5000, gapMsMax: 40_000, chance: 0.2, strike: (f) => f.operator.stepDown() },
  { name: 'bitRot', gapMsMin: 10_000, gapMsMax: 60_000, chance: 0.2, strike: (f) => f.disks.damage('bits') },
  {
    name: 'zeroedSector',
    gapMsMin: 15_000,
    gapMsMax: 60_000,
    chance: 0.12,
    strike: (f) => f.disks.damage('zeros'),
  },
  {
    name: 'staleSector',
    gapMsMin: 15_000,
    gapMsMax: 60_000,
    chance: 0.12,
    strike: (f) => f.disks.damage('stale'),
  },
  { name: 'storeRot', gapMsMin: 15_000, gapMsMax: 60_000, chance: 0.1, strike: (f) => f.disks.damageStore() },
  { name: 'orphan', gapMsMin: 3000, gapMsMax: 30_000, chance: 0.3, strike: (f) => f.network.orphan() },
  { name: 'wipe', gapMsMin: 20_000, gapMsMax: 90_000, chance: 0.15, strike: (f) => f.disks.wipe() },
]

/** Beside them, where sites follow by hand. */
const kindsBelow: readonly Kind[] = [
  { name: 'reattach', gapMsMin: 1000, gapMsMax: 20_000, chance: 0.6, strike: (f) => f.below.reattach() },
  { name: 'strand', gapMsMin: 2000, gapMsMax: 20_000, chance: 0.6, strike: (f) => f.network.strand() },
  { name: 'unserve', gapMsMin: 3000, gapMsMax: 30_000, chance: 0.3, strike: (f) => f.below.stopServing() },
  { name: 'takeOver', gapMsMin: 1000, gapMsMax: 20_000, chance: 0.7, strike: (f) => f.below.takeOver() },
  { name: 'tooMuch', gapMsMin: 2000, gapMsMax: 20_000, chance: 0.4, strike: (f) => f.below.askTooMuch() },
]

/** Beside them, where two sites may go on alone. */
const kindsOfPair: readonly Kind[] = [
  {
    name: 'twoSites',
    gapMsMin: 2000,
    gapMsMax: 30_000,
    chance: 0.6,
    strike: (f) => f.operator.setTwoSites(),
  },
  { name: 'apart', gapMsMin: 2000, gapMsMax: 20_000, chance: 0.6, strike: (f) => f.network.apart() },
]

const kindsOf: Readonly<Record<RunKind, readonly Kind[]>> = {
  group: kinds,
  below: [...kinds, ...kindsBelow.filter(({ name }) => name !== 'takeOver')],
  served: [...kinds, ...kindsBelow],
  pair: [...kinds, ...kindsOfPair],
}

export interface FaultOptions {
  /** Members whose disks may ever be damaged or lost. */
  readonly suspectsMax: number
  /** Kinds to turn on whatever is drawn, and none but these; for tests. */
  readonly only?: readonly string[]
}

export class Faults {
  readonly sites: SiteFaults
  readonly network: NetworkFaults
  readonly disks: DiskFaults
  readonly operator: Operator
  readonly below: BelowFaults
  /** The kinds that this run has. */
  readonly names: string[] = []
  readonly #prng: Prng
  readonly #options: FaultOptions
  readonly #tools: FaultTools

  constructor(world: World, options: FaultOptions) {
    const prng = world.prng.fork()
    this.#prng = prng
    this.#options = options
    const masterBias = prng.pick([0, 0.3, 0.7])
    const usualLink = this.#drawLink()
    if (options.only === undefined || options.only.includes('halfOpen')) {
      world.network.halfOpenChance = prng.chance(0.3) ? prng.pick([0.1, 0.5, 1]) : 0
    }
    this.#tools = new FaultTools({ world, prng, usualLink, masterBias })
    this.sites = new SiteFaults(this.#tools)
    this.network = new NetworkFaults(this.#tools)
    this.disks = new DiskFaults(this.#tools, { suspectsMax: options.suspectsMax })
    this.operator = new Operator(this.#tools)
    this.below = new BelowFaults(this.#tools)
  }

  #drawLink(): LinkFaults {
    const prng = this.#prng
    const { only } = this.#options
    const on = (name: string, chance: number): boolean => {
      const drawn = prng.chance(chance)
      const isOn = only === undefined ? drawn : only.includes(name)
      if (isOn) this.names.push(name)
      return isOn
    }
    return {
      latencyMs: prng.pick([0.1, 0.2, 1, 5]),
      jitterMs: prng.pick([0.1, 0.5, 3]),
      dropChance: on('drop', 0.4) ? prng.pick([0.001, 0.01, 0.05, 0.2]) : 0,
      duplicateChance: on('duplicate', 0.3) ? prng.pick([0.001, 0.02, 0.2]) : 0,
      lateChance: on('late', 0.35) ? prng.pick([0.002, 0.02, 0.2]) : 0,
      lateMsMax: prng.pick([5, 50, 500]),
      replayChance: on('replay', 0.3) ? prng.pick([0.001, 0.01, 0.1]) : 0,
      bytesPerMs: 0,
    }
  }

  start(): void {
    this.network.setLinks(this.#tools.usualLink)
    for (const kind of kindsOf[this.#tools.world.settings.kind]) {
      const drawn = this.#prng.chance(kind.chance)
      const low = Math.log(kind.gapMsMin)
      const gapMs = Math.exp(low + this.#prng.fraction() * (Math.log(kind.gapMsMax) - low))
      const { only } = this.#options
      if (!(only === undefined ? drawn : only.includes(kind.name))) continue
      this.names.push(kind.name)
      this.#scheduleStrike(kind, gapMs)
    }
    this.#tools.world.tell('faults', this.names.join(' '))
  }

  #scheduleStrike(kind: Kind, gapMs: number): void {
    this.#tools.later(-Math.log(1 - this.#prng.fraction()) * gapMs, () => {
      if (kind.strike(this)) this.#tools.world.countFault(kind.name)
      this.#scheduleStrike(kind, gapMs)
    })
  }

  /** Ends all faults; what a majority needs is well from now on. `left` stays as it is. */
  heal(left: ReadonlySet<SimSite>): void {
    this.#tools.end()
    const { network, sites } = this.#tools.world
    network.halfOpenChance = 0
    this.network.setLinks(goodLink)
    const well = sites.filter((site) => !left.has(site))
    for (const a of sites) {
      for (const b of sites) {
        if (a === b) continue
        if (left.has(a) || left.has(b)) network.cut(a.name, b.name)
        else network.heal(a.name, b.name)
      }
    }
    for (const site of well) {
      site.machine.speed = usualDiskSpeed
      site.machine.disk.full = false
      site.host?.resume()
      site.restarts = true
      site.start()
    }
  }
}
