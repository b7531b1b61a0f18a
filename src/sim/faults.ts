// The faults of one run. From the seed: which kinds strike at all (a random subset, so that some runs have room for
// what others would drown), how often each does, and what it hits. After the safety phase everything that a majority
// needs is made well again.
//
// What the model excludes is kept out here: at most a minority of sites ever has a disk that is damaged or lost.

import { isCoterieError } from '../base/errors.ts'
import type { Prng } from '../base/prng.ts'
import { usualDiskSpeed } from '../env/simulated/simulated-machine.ts'
import type { Group } from '../group/group.ts'
import { goodLink, type LinkFaults } from './network-link.ts'
import type { SimSite } from './site.ts'
import type { World } from './world.ts'

/** Strikes once; false: there was nothing to strike. */
type Strike = (faults: Faults) => boolean

interface Kind {
  readonly name: string
  /** Between two strikes, on the average; drawn between these for each run. */
  readonly gapMsMin: number
  readonly gapMsMax: number
  /** How probable it is that a run has it. */
  readonly chance: number
  readonly strike: Strike
}

const kinds: readonly Kind[] = [
  { name: 'kill', gapMsMin: 2000, gapMsMax: 30_000, chance: 0.5, strike: (f) => f.crash('kill') },
  { name: 'power', gapMsMin: 3000, gapMsMax: 40_000, chance: 0.5, strike: (f) => f.crash('power') },
  { name: 'powerAll', gapMsMin: 15_000, gapMsMax: 60_000, chance: 0.15, strike: (f) => f.powerAll() },
  { name: 'crashLoop', gapMsMin: 8000, gapMsMax: 40_000, chance: 0.25, strike: (f) => f.crashLoop() },
  { name: 'stop', gapMsMin: 8000, gapMsMax: 40_000, chance: 0.25, strike: (f) => f.stopOrderly() },
  { name: 'pause', gapMsMin: 1500, gapMsMax: 20_000, chance: 0.4, strike: (f) => f.pause() },
  { name: 'partition', gapMsMin: 3000, gapMsMax: 30_000, chance: 0.45, strike: (f) => f.partition() },
  { name: 'isolate', gapMsMin: 2000, gapMsMax: 30_000, chance: 0.45, strike: (f) => f.isolate() },
  { name: 'cutLink', gapMsMin: 1500, gapMsMax: 20_000, chance: 0.4, strike: (f) => f.cutLink() },
  { name: 'reset', gapMsMin: 1000, gapMsMax: 20_000, chance: 0.35, strike: (f) => f.reset() },
  { name: 'slowLink', gapMsMin: 4000, gapMsMax: 30_000, chance: 0.25, strike: (f) => f.slowLink() },
  { name: 'slowDisk', gapMsMin: 4000, gapMsMax: 30_000, chance: 0.3, strike: (f) => f.slowDisk() },
  { name: 'failSync', gapMsMin: 5000, gapMsMax: 40_000, chance: 0.3, strike: (f) => f.failSync() },
  { name: 'failWrite', gapMsMin: 5000, gapMsMax: 40_000, chance: 0.25, strike: (f) => f.failWrite() },
  { name: 'diskFull', gapMsMin: 5000, gapMsMax: 40_000, chance: 0.25, strike: (f) => f.fillDisk() },
  { name: 'storeFails', gapMsMin: 10_000, gapMsMax: 60_000, chance: 0.15, strike: (f) => f.failStore() },
  { name: 'wallJump', gapMsMin: 3000, gapMsMax: 30_000, chance: 0.3, strike: (f) => f.shiftWall() },
  { name: 'transfer', gapMsMin: 3000, gapMsMax: 30_000, chance: 0.3, strike: (f) => f.transfer() },
  { name: 'stepDown', gapMsMin: 5000, gapMsMax: 40_000, chance: 0.2, strike: (f) => f.stepDown() },
  { name: 'bitRot', gapMsMin: 10_000, gapMsMax: 60_000, chance: 0.2, strike: (f) => f.damage('bits') },
  {
    name: 'zeroedSector',
    gapMsMin: 15_000,
    gapMsMax: 60_000,
    chance: 0.12,
    strike: (f) => f.damage('zeros'),
  },
  { name: 'staleSector', gapMsMin: 15_000, gapMsMax: 60_000, chance: 0.12, strike: (f) => f.damage('stale') },
  { name: 'storeRot', gapMsMin: 15_000, gapMsMax: 60_000, chance: 0.1, strike: (f) => f.damageStore() },
  { name: 'wipe', gapMsMin: 20_000, gapMsMax: 90_000, chance: 0.15, strike: (f) => f.wipe() },
]

const sectorBytes = 512

export interface FaultOptions {
  /** Sites whose disks may ever be damaged or lost. */
  readonly suspectsMax: number
  /** Kinds to turn on whatever is drawn, and none but these; for tests. */
  readonly only?: readonly string[]
}

export class Faults {
  readonly #world: World
  readonly #prng: Prng
  readonly #options: FaultOptions
  #on: boolean = true
  /** How a site that is well has its links. */
  readonly #usualLink: LinkFaults
  /** How likely a strike seeks the master. */
  readonly #masterBias: number
  #suspects = 0
  #saved: {
    readonly site: SimSite
    readonly path: string
    readonly at: number
    readonly bytes: Uint8Array
  }[] = []
  #replacements = 0
  /** The kinds that this run has. */
  readonly names: string[] = []

  constructor(world: World, options: FaultOptions) {
    this.#world = world
    this.#prng = world.prng.fork()
    this.#options = options
    const prng = this.#prng
    this.#masterBias = prng.pick([0, 0.3, 0.7])
    this.#usualLink = this.#drawLink()
    if (options.only === undefined || options.only.includes('halfOpen')) {
      world.network.halfOpenChance = prng.chance(0.3) ? prng.pick([0.1, 0.5, 1]) : 0
    }
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
    this.#setLinks(this.#usualLink)
    for (const kind of kinds) {
      const drawn = this.#prng.chance(kind.chance)
      const low = Math.log(kind.gapMsMin)
      const gapMs = Math.exp(low + this.#prng.fraction() * (Math.log(kind.gapMsMax) - low))
      const { only } = this.#options
      if (!(only === undefined ? drawn : only.includes(kind.name))) continue
      this.names.push(kind.name)
      this.#scheduleStrike(kind, gapMs)
    }
    this.#world.tell('faults', this.names.join(' '))
  }

  #scheduleStrike(kind: Kind, gapMs: number): void {
    this.#later(-Math.log(1 - this.#prng.fraction()) * gapMs, () => {
      if (kind.strike(this)) this.#world.countFault(kind.name)
      this.#scheduleStrike(kind, gapMs)
    })
  }

  /** Runs while faults are on. */
  #later(ms: number, run: () => void): void {
    this.#world.clock.after(ms, () => {
      if (this.#on) run()
    })
  }

  #tell(what: string): void {
    this.#world.tell('fault', what)
  }

  // ---- choosing ----------------------------------------------------------------------------------------------

  #someSite(where: (site: SimSite) => boolean = () => true): SimSite | undefined {
    const sites = this.#world.livingSites.filter(where)
    if (sites.length === 0) return undefined
    const masters = sites.filter((site) => site.isMaster)
    if (masters.length > 0 && this.#prng.chance(this.#masterBias)) return this.#prng.pick(masters)
    return this.#prng.pick(sites)
  }

  /** How long something lasts: often about as long as an election takes, sometimes much longer. */
  #duration(): number {
    const { electionTimeoutMs } = this.#world.settings
    const prng = this.#prng
    if (prng.chance(0.4)) return electionTimeoutMs * (0.5 + prng.fraction())
    return prng.chance(0.7) ? prng.between(10, 3000) : prng.between(3000, 15_000)
  }

  // ---- sites -------------------------------------------------------------------------------------------------

  crash(kind: 'kill' | 'power'): boolean {
    const site = this.#someSite((each) => each.host !== undefined)
    if (site === undefined) return false
    this.#crashFor(site, kind, this.#duration())
    return true
  }

  #crashFor(site: SimSite, kind: 'kill' | 'power', ms: number): void {
    this.#tell(`${kind} ${site.name} for ${Math.round(ms)} ms`)
    site.restarts = false
    site.crash(kind)
    this.#world.clock.after(ms, () => {
      site.restarts = true
      site.start()
    })
  }

  /** The power of the house. */
  powerAll(): boolean {
    this.#tell('power cut everywhere')
    for (const site of this.#world.livingSites) {
      site.restarts = false
      site.crash('power')
      this.#world.clock.after(this.#duration(), () => {
        site.restarts = true
        site.start()
      })
    }
    return true
  }

  /** Crashes a site and then its recoveries, at any point of them. */
  crashLoop(): boolean {
    const site = this.#someSite((each) => each.host !== undefined)
    if (site === undefined) return false
    const again = (left: number): void => {
      this.#crashFor(site, this.#prng.pick(['kill', 'power'] as const), this.#prng.between(1, 50))
      if (left > 0)
        this.#later(this.#prng.between(51, 51 + this.#prng.pick([3, 30, 300])), () => again(left - 1))
    }
    again(this.#prng.between(1, 4))
    return true
  }

  stopOrderly(): boolean {
    const site = this.#someSite((each) => each.state === 'up')
    if (site === undefined) return false
    const ms = this.#duration()
    this.#tell(`stop ${site.name} in order for ${Math.round(ms)} ms`)
    site.restarts = false
    site.stop()
    this.#world.clock.after(ms, () => {
      site.restarts = true
      // One that could not end in time is killed, as a supervisor does it.
      if (site.state === 'stopping') site.crash('kill')
      site.start()
    })
    return true
  }

  pause(): boolean {
    const site = this.#someSite((each) => each.isAwake)
    if (site === undefined) return false
    const { host } = site
    const ms = this.#duration()
    this.#tell(`pause ${site.name} for ${Math.round(ms)} ms`)
    host?.pause()
    this.#world.clock.after(ms, () => {
      this.#tell(`resume ${site.name}`)
      host?.resume()
    })
    return true
  }

  shiftWall(): boolean {
    const site = this.#someSite()
    if (site === undefined) return false
    const scale = this.#prng.pick([1000, 60_000, 86_400_000, 315_360_000_000])
    site.machine.shiftWall(Math.round((this.#prng.fraction() * 2 - 1) * scale))
    return true
  }

  // ---- network -----------------------------------------------------------------------------------------------

  #setLinks(faults: LinkFaults): void {
    const { network, sites } = this.#world
    for (const a of sites) for (const b of sites) if (a !== b) network.link(a.name, b.name).faults = faults
  }

  #cutFor(ms: number, pairs: readonly (readonly [SimSite, SimSite])[]): void {
    const { network } = this.#world
    const hold = this.#prng.chance(0.4)
    for (const [from, to] of pairs) network.cut(from.name, to.name, { hold })
    this.#later(ms, () => {
      for (const [from, to] of pairs) network.heal(from.name, to.name)
    })
  }

  /** Two parts; in one direction only, now and then. */
  partition(): boolean {
    const sites = this.#world.livingSites
    const left = sites.filter(() => this.#prng.chance(0.5))
    const right = sites.filter((site) => !left.includes(site))
    if (left.length === 0 || right.length === 0) return false
    const ms = this.#duration()
    const oneWay = this.#prng.chance(0.3)
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
    this.#tell(
      `partition ${left.map((site) => site.name)} ${oneWay ? '->' : '|'} ${right.map((site) => site.name)} for ${Math.round(ms)} ms`,
    )
    this.#cutFor(ms, pairs)
    return true
  }

  isolate(): boolean {
    const site = this.#someSite()
    if (site === undefined) return false
    const ms = this.#duration()
    const others = this.#world.livingSites.filter((each) => each !== site)
    const way = this.#prng.pick(['both', 'both', 'in', 'out'] as const)
    this.#tell(`isolate ${site.name} (${way}) for ${Math.round(ms)} ms`)
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

  cutLink(): boolean {
    const sites = this.#world.livingSites
    const a = this.#someSite()
    if (a === undefined || sites.length < 2) return false
    const b = this.#prng.pick(sites.filter((site) => site !== a))
    const ms = this.#duration()
    const oneWay = this.#prng.chance(0.5)
    this.#tell(`cut ${a.name} ${oneWay ? '->' : '|'} ${b.name} for ${Math.round(ms)} ms`)
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
    const sites = this.#world.livingSites
    const a = this.#someSite()
    if (a === undefined || sites.length < 2) return false
    const b = this.#prng.pick(sites.filter((site) => site !== a))
    return this.#world.network.reset(a.name, b.name) > 0
  }

  slowLink(): boolean {
    const sites = this.#world.livingSites
    const a = this.#someSite()
    if (a === undefined || sites.length < 2) return false
    const b = this.#prng.pick(sites.filter((site) => site !== a))
    const link = this.#world.network.link(a.name, b.name)
    const ms = this.#duration()
    const bytesPerMs = this.#prng.pick([5, 20, 100])
    const latencyMs = this.#prng.pick([5, 50, 300])
    this.#tell(
      `slow link ${a.name} -> ${b.name}: ${bytesPerMs} B/ms, ${latencyMs} ms, for ${Math.round(ms)} ms`,
    )
    link.faults = { ...link.faults, bytesPerMs, latencyMs }
    this.#later(ms, () => {
      link.faults = this.#usualLink
    })
    return true
  }

  // ---- disks -------------------------------------------------------------------------------------------------

  slowDisk(): boolean {
    const site = this.#someSite()
    if (site === undefined) return false
    const syncMsMax = this.#prng.pick([5, 50, 500])
    const ms = this.#duration()
    this.#tell(`slow disk of ${site.name}: syncs up to ${syncMsMax} ms, for ${Math.round(ms)} ms`)
    site.machine.speed = {
      syncMsMin: syncMsMax / 10,
      syncMsMax,
      writeMsMax: syncMsMax / 5,
      nameMsMax: syncMsMax / 5,
      readMsMax: this.#prng.pick([0, 1, syncMsMax / 10]),
    }
    this.#later(ms, () => {
      site.machine.speed = usualDiskSpeed
    })
    return true
  }

  failSync(): boolean {
    const site = this.#someSite((each) => each.host !== undefined)
    site?.machine.disk.failSync({ nth: this.#prng.between(1, 4) })
    return site !== undefined
  }

  failWrite(): boolean {
    const site = this.#someSite((each) => each.host !== undefined)
    site?.machine.disk.failWrite({ nth: this.#prng.between(1, 4) })
    return site !== undefined
  }

  fillDisk(): boolean {
    const site = this.#someSite((each) => each.host !== undefined)
    if (site === undefined) return false
    const ms = this.#duration()
    this.#tell(`disk of ${site.name} full for ${Math.round(ms)} ms`)
    site.machine.disk.full = true
    this.#later(ms, () => {
      site.machine.disk.full = false
    })
    return true
  }

  failStore(): boolean {
    const site = this.#someSite((each) => each.host !== undefined)
    const location = site?.stores.locations[0]
    if (location === undefined) return false
    site?.stores.failWrite(location)
    return true
  }

  /** Only so many sites ever; then always the same. */
  #someSuspect(): SimSite | undefined {
    const prng = this.#prng
    const living = this.#world.livingSites
    const known = living.filter((site) => site.isSuspect)
    if (known.length > 0 && (this.#suspects >= this.#options.suspectsMax || prng.chance(0.7)))
      return prng.pick(known)
    if (this.#suspects >= this.#options.suspectsMax) return undefined
    const site = this.#someSite((each) => each.wasUp)
    if (site === undefined) return undefined
    this.#suspects++
    site.isSuspect = true
    return site
  }

  damage(how: 'bits' | 'zeros' | 'stale'): boolean {
    const prng = this.#prng
    const site = this.#someSuspect()
    if (site === undefined) return false
    const { disk } = site.machine
    if (how === 'stale') {
      const ready = this.#saved.findIndex((each) => each.site === site)
      const sector = ready < 0 ? undefined : this.#saved.splice(ready, 1)[0]
      if (sector !== undefined) {
        const file = disk.paths().find(({ path }) => path === sector.path)
        if (file === undefined || file.bytes < sector.at + sector.bytes.length) return false
        this.#tell(`stale sector of ${site.name}: ${sector.path} at ${sector.at}`)
        disk.overwrite(sector)
        return true
      }
    }
    const files = disk.paths().filter(({ bytes }) => bytes > 0)
    if (files.length === 0) return false
    const { path, bytes } = prng.pick(files)
    const at = prng.below(bytes)
    const start = Math.floor(at / sectorBytes) * sectorBytes
    const length = Math.min(sectorBytes, bytes - start)
    if (how === 'stale') {
      this.#saved.push({ site, path, at: start, bytes: disk.peek({ path, at: start, length }) })
      return false
    }
    this.#tell(`${how === 'bits' ? 'bit rot' : 'zeroed sector'} on ${site.name}: ${path} at ${at}`)
    if (how === 'bits') disk.damage({ path, at, mask: 1 << prng.below(8) })
    else disk.overwrite({ path, at: start, bytes: new Uint8Array(length) })
    // Nobody looks at what lies there until the next start.
    if (prng.chance(0.5)) this.#crashFor(site, 'kill', prng.between(10, 500))
    return true
  }

  /** The store does not open any more; the log makes it anew, if it reaches back so far. */
  damageStore(): boolean {
    const site = this.#someSuspect()
    const location = site?.stores.locations.at(-1)
    if (site === undefined || location === undefined) return false
    this.#tell(`damaged store on ${site.name}: ${location}`)
    site.stores.damage(location)
    this.#crashFor(site, 'kill', this.#prng.between(10, 500))
    return true
  }

  /** The machine gets a new disk, and the process is started under the old id, as if nothing had been. */
  wipe(): boolean {
    const site = this.#someSuspect()
    if (site === undefined) return false
    this.#tell(`wipe ${site.name}`)
    site.restarts = false
    site.crash('wipe')
    this.#world.clock.after(this.#duration(), () => {
      site.restarts = true
      site.start()
    })
    return true
  }

  // ---- the operator ------------------------------------------------------------------------------------------

  #master(): SimSite | undefined {
    return this.#someSite((site) => site.isAwake && site.group?.role === 'master')
  }

  /** To another member; or the other asks for it. */
  transfer(): boolean {
    const master = this.#master()
    const { prng, livingSites } = { prng: this.#prng, livingSites: this.#world.livingSites }
    const others = livingSites.filter((site) => site !== master && site.group !== undefined)
    if (master === undefined || others.length === 0) return false
    const heir = prng.pick(others)
    const timeoutMs = prng.pick([500, 3000])
    const asked = prng.chance(0.3)
    this.#tell(asked ? `${heir.name} takes over` : `transfer from ${master.name} to ${heir.name}`)
    this.#call(asked ? heir : master, (group) =>
      asked ? group.takeOver({ timeoutMs }) : group.transfer(heir.name, { timeoutMs }),
    )
    return true
  }

  stepDown(): boolean {
    const master = this.#master()
    if (master === undefined) return false
    this.#tell(`${master.name} steps down`)
    this.#call(master, async (group) => group.stepDown())
    return true
  }

  /** As an operator calls it: what cannot be done now is refused with a reason, and nothing else comes of it. */
  #call(site: SimSite, call: (group: Group) => Promise<unknown>): void {
    const { group } = site
    if (group === undefined) return
    site.host?.run(() => {
      call(group).catch((error: unknown) => {
        if (isCoterieError(error)) this.#tell(`refused: ${error.code} ${error.message}`)
        else
          this.#world.violate('defect', `a call of the operator on ${site.name}: ${(error as Error).stack}`)
      })
    })
  }

  /** Takes what is lost out of the list of members, once something else stands in for it. */
  removeLost(): void {
    const master = this.#world.livingSites.find((site) => site.isAwake && site.group?.role === 'master')
    const members = new Set(master?.group?.members.map((member) => member.site))
    for (const site of this.#world.livingSites) {
      const lost = site.replaces?.name
      if (master === undefined || lost === undefined || !members.has(lost) || !members.has(site.name))
        continue
      this.#tell(`${master.name} removes ${lost}`)
      this.#call(master, (group) => group.removeMember(lost))
    }
  }

  /** In place of sites that are lost, new ones under new ids. */
  replaceLost(): void {
    for (const site of this.#world.sites.filter((each) => each.state === 'lost' && !each.isReplaced)) {
      site.isReplaced = true
      const name = `${site.name.slice(0, 1)}${++this.#replacements + 1}`
      this.#tell(`${name} takes the place of ${site.name} (${site.refusal?.code})`)
      const added = this.#world.addSite({ name, founds: false, rate: 1, priority: 100 })
      for (const other of this.#world.sites) {
        if (other === added) continue
        this.#world.network.link(added.name, other.name).faults = this.#usualLink
        this.#world.network.link(other.name, added.name).faults = this.#usualLink
      }
      added.replaces = site
      added.start()
    }
  }

  /** Ends all faults; what a majority needs is well from now on. `left` stays as it is. */
  heal(left: ReadonlySet<SimSite>): void {
    this.#on = false
    const { network, sites } = this.#world
    network.halfOpenChance = 0
    this.#setLinks(goodLink)
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
