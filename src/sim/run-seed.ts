// One run: a group of the real code, its clients, its faults, and the judges, all from one seed. First the safety
// phase, in which anything may break; then a majority is made well, and has to go on and to agree within a stated time.

import { preferredMasterOf, type TwoSites } from '../base/membership.ts'
import { Prng } from '../base/prng.ts'
import { drawBelow, drawServed, isRooted, storesBelow } from './cascade.ts'
import { Clients, type LoadSettings } from './clients.ts'
import { Faults } from './faults.ts'
import type { SimReport } from './history.ts'
import { runSettling } from './settle.ts'
import type { SimSite } from './site.ts'
import type { GroupSettings, RunKind } from './stage.ts'
import { type Judge, World } from './world.ts'

export interface RunSeedOptions {
  readonly seed: number
  /** Default: by the seed; one in eight has sites below its group, one has no group, and one is a group of two. */
  readonly kind?: RunKind
  /** Default: drawn; mostly three. */
  readonly sites?: 3 | 5 | 7
  /** Of the safety phase. Default 120,000; half of it where there are more sites than those of a group. */
  readonly simulatedMs?: number
  /** Takes the story, line by line. */
  readonly trace?: (line: string) => void
  /** Costs more and sees more: every message is copied. */
  readonly paranoid?: boolean
  readonly judges?: readonly Judge[]
  /** Fault kinds to have, and no others. Default: drawn. */
  readonly faults?: readonly string[]
}

/** After this all sites that are given the same seeds must be members of one group. */
export const foundingMsMax = 20_000
/** After this a majority that is well must have committed a write that was made after it became so. */
export const progressMsMax = 10_000
/** The same where nobody elects a master, and an operator has to see to it. */
export const progressByHandMsMax = 30_000
/** After this all sites that are well must have the same state. */
export const convergenceMsMax = 60_000

export function runSeed(options: RunSeedOptions): Promise<SimReport> {
  return runSettling(() => new Run(options).run())
}

class Run {
  readonly #options: RunSeedOptions
  readonly #world: World
  readonly #faults: Faults
  readonly #clients: Clients
  readonly #prng: Prng

  constructor(options: RunSeedOptions) {
    this.#options = options
    this.#world = new World({
      seed: options.seed,
      settings: (prng) => drawSettings(prng, options),
      judges: options.judges ?? [],
      trace: options.trace,
      copiesMessages: options.paranoid ?? false,
    })
    const world = this.#world
    this.#prng = world.prng.fork()
    const prng = this.#prng
    const skewed = prng.chance(0.5)
    const { kind, sites } = world.settings
    for (let i = 0; i < (kind === 'served' ? 0 : sites); i++) {
      world.addSite({
        name: String.fromCharCode(97 + i),
        founds: i === 0 && world.settings.foundedBy === 'first',
        priority: world.settings.priorities[i] ?? 100,
        rate: skewed ? 0.9 + prng.fraction() * 0.2 : 1,
      })
    }
    if (kind === 'below' || kind === 'served') this.#addFollowers(new Prng(options.seed).fork())
    this.#clients = new Clients(world, drawLoad(prng, kind))
    this.#faults = new Faults(world, {
      // By hand nobody is told that a site has lost its disk: whoever brings one back that has counted loses commits.
      suspectsMax: kind === 'served' ? 0 : (sites - 1) >> 1,
      ...(options.faults === undefined ? {} : { only: options.faults }),
    })
  }

  #addFollowers(prng: Prng): void {
    const { kind, sites } = this.#world.settings
    const plans = kind === 'below' ? drawBelow(prng) : drawServed(prng, sites)
    const rate = (): number => (prng.chance(0.3) ? 0.9 + prng.fraction() * 0.2 : 1)
    for (const [i, { name, follows }] of plans.entries()) {
      this.#world.addSite({
        name,
        follows,
        founds: kind === 'served' && i === 0,
        priority: 100,
        rate: rate(),
      })
    }
  }

  get #isServed(): boolean {
    return this.#world.settings.kind === 'served'
  }

  run(): SimReport {
    const world = this.#world
    const unhandled = (error: unknown): void => {
      world.violate('unhandled', `nobody handled ${(error as Error)?.stack ?? String(error)}`)
    }
    // Errors are part of every run, and their stacks cost more than all the rest of them.
    const { stackTraceLimit } = Error
    Error.stackTraceLimit = world.isTold ? 30 : 0
    process.on('unhandledRejection', unhandled)
    process.on('uncaughtException', unhandled)
    try {
      this.#found()
      this.#safetyPhase()
      this.#healingPhase()
      world.phase = 'end'
      if (world.violation === undefined) world.judgeEnd()
    } finally {
      Error.stackTraceLimit = stackTraceLimit
      process.off('unhandledRejection', unhandled)
      process.off('uncaughtException', unhandled)
    }
    return this.#report()
  }

  /** The group is complete before anything breaks: what a founding that breaks does is another question. */
  #found(): void {
    const world = this.#world
    world.tell('setup', JSON.stringify(world.settings))
    const { members } = world
    for (const site of members) site.start()
    const { length } = members
    const isComplete = (): boolean =>
      this.#isServed
        ? isConverged(members)
        : members.every((site) => site.state === 'up' && site.group?.members.length === length)
    if (!world.runTo(world.nowMs + foundingMsMax, isComplete)) {
      world.violate(
        'progress',
        `the group was not complete ${foundingMsMax} ms after its start: ${describe(members)}`,
      )
    }
    for (const site of world.sites) site.start()
  }

  #safetyPhase(): void {
    const world = this.#world
    if (world.violation !== undefined) return
    const endMs = world.nowMs + (this.#options.simulatedMs ?? usualMs(world.settings.kind))
    this.#clients.start()
    this.#faults.start()
    while (world.nowMs < endMs && world.violation === undefined) {
      world.runTo(Math.min(endMs, world.nowMs + 1000))
      this.#faults.operator.replaceLost()
      this.#faults.operator.removeLost()
      if (this.#isServed) this.#faults.below.promoteHeir()
    }
  }

  #healingPhase(): void {
    const world = this.#world
    if (world.violation !== undefined) return
    world.phase = 'healing'
    this.#faults.operator.replaceLost()
    this.#loneliness()
    const left = this.#chooseLeft()
    const well = world.livingSites.filter((site) => !left.has(site))
    world.tell('heal', `${well.map((site) => site.name)} are well again`)
    this.#faults.heal(left)
    this.#clients.hurry()
    const healedMs = world.nowMs
    const progressed = this.#commitSince(healedMs)
    const withinMs = this.#isServed ? progressByHandMsMax : progressMsMax
    if (!world.runTo(healedMs + withinMs, progressed)) {
      world.violate(
        'progress',
        `no commit within ${withinMs} ms after ${well.map((site) => site.name)} were well`,
      )
    }
    world.runTo(world.nowMs + 2000)
    this.#clients.stop()
    const isQuiet = (): boolean =>
      isConverged(well) &&
      (world.settings.kind !== 'pair' || isOfOneMaster(well)) &&
      well.every((site) => site.isMember || site.state === 'lost' || isRooted(site, well))
    if (!world.runTo(healedMs + convergenceMsMax, isQuiet)) {
      world.violate('convergence', `not the same state everywhere: ${describe(well)}`)
    }
    world.tell('heal', `converged after ${Math.round(world.nowMs - healedMs)} ms`)
    // What was in doubt is asked for until it is known.
    world.runTo(world.nowMs + 1000)
  }

  /** Whether a write that was begun since then has been acknowledged. */
  #commitSince(sinceMs: number): () => boolean {
    const world = this.#world
    let seen = world.acknowledged.length
    return () => {
      if (this.#isServed) this.#faults.below.promoteHeir()
      while (seen < world.acknowledged.length) {
        if ((world.acknowledged[seen++]?.operation.invokedAt ?? 0) >= sinceMs) return true
      }
      return false
    }
  }

  /**
   * Of a pair: one site is gone, and the other one is well. It has to go on alone, if it knows that it may. Only then
   * both are made well.
   */
  #loneliness(): void {
    const world = this.#world
    if (world.settings.kind !== 'pair' || this.#prng.chance(0.4)) return
    const gone = this.#prng.pick(world.members)
    const [left] = world.members.filter((site) => site !== gone) as [SimSite]
    world.tell('heal', `${left.name} is well again, ${gone.name} is gone`)
    gone.restarts = false
    gone.crash('power')
    this.#faults.heal(new Set([gone]))
    this.#clients.hurry()
    world.runTo(world.nowMs + 1000)
    if (left.db?.site.core.goesOnAlone === true) {
      const sinceMs = world.nowMs
      if (!world.runTo(sinceMs + progressMsMax, this.#commitSince(sinceMs))) {
        const state = describe(world.members)
        world.violate(
          'progress',
          `no commit within ${progressMsMax} ms after ${left.name} was alone: ${state}`,
        )
      }
    }
    world.runTo(world.nowMs + this.#prng.between(1, 2000))
  }

  /** A minority that stays cut off, or nobody. */
  #chooseLeft(): Set<SimSite> {
    const left = new Set<SimSite>()
    // Where nobody elects, the one that is left out may be the master.
    if (this.#isServed) return left
    if (this.#prng.chance(0.6)) return left
    // A site whose disk was damaged or lost may yet be turned away: it is as good as gone.
    const { members, settings } = this.#world
    const gone = members.filter((site) => site.isSuspect).length
    const countMax = ((settings.sites - 1) >> 1) - gone
    for (let i = 0; i < countMax; i++) left.add(this.#prng.pick(members))
    return left
  }

  #report(): SimReport {
    const world = this.#world
    for (const site of world.sites) world.fingerprint.text(describe([site]))
    for (const operation of world.history) world.fingerprint.text(JSON.stringify(operation))
    const { counts } = world.network
    const faults: Record<string, number> = { ...world.faults }
    for (const name of ['dropped', 'duplicated', 'late', 'replayed', 'held', 'halfOpen'] as const) {
      if (counts[name] > 0) faults[name] = counts[name]
    }
    const terms = new Set(world.acknowledged.map(({ term }) => term))
    return {
      seed: world.seed,
      kind: world.settings.kind,
      simulatedMs: Math.round(world.nowMs),
      events: world.events,
      commits: world.acknowledged.length,
      failovers: Math.max(0, terms.size - 1),
      faults,
      fingerprint: world.fingerprint.toString(),
      ...(world.violation === undefined ? {} : { violation: world.violation }),
    }
  }
}

function drawSettings(prng: Prng, { seed, kind = usualKind(seed), sites }: RunSeedOptions): GroupSettings {
  const count = kind === 'pair' ? 2 : (sites ?? drawSites(prng, kind))
  const differ = prng.chance(0.3)
  const settings = {
    kind,
    stores: kind === 'below' || kind === 'served' ? storesBelow : [''],
    sites: count,
    heartbeatMs: 100,
    ackTimeoutMs: prng.pick([1000, 3000, 10_000]),
    silenceTimeoutMs: prng.pick([600, 3000]),
    attest: prng.pick(['durable', 'durable', 'durable', 'applied'] as const),
    foundedBy: prng.pick(['first', 'election'] as const),
    priorities: Array.from({ length: count }, () => (differ ? prng.pick([1, 100, 200]) : 100)),
    segmentBytes: prng.pick([65_536, kind === 'group' ? 262_144 : 65_536]),
    retainBytes: prng.pick([0, 0, 65_536, kind === 'group' ? 1_048_576 : 0]),
    checkpointBytes: prng.pick([65_536, kind === 'group' ? 262_144 : 65_536]),
    leaseMs: prng.pick([0, 0, 200, 1000]),
  }
  // A lease that ends long before its master gives up, or long after.
  const leaseMs = kind === 'served' ? 0 : settings.leaseMs
  const drawn = { ...settings, leaseMs, electionTimeoutMs: leaseMs === 200 ? 600 : 300 }
  return kind === 'pair' ? { ...drawn, twoSites: drawTwoSites(prng) } : drawn
}

/** What hangs below a group does not depend on its size. */
function drawSites(prng: Prng, kind: RunKind): number {
  return kind === 'group' ? prng.pick([3, 3, 3, 3, 3, 3, 5, 5, 5, 7]) : 3
}

function drawTwoSites(prng: Prng): TwoSites {
  return prng.pick(['available', 'available', { preferredMaster: 'a' }, { preferredMaster: 'b' }] as const)
}

function usualKind(seed: number): RunKind {
  const kinds: Readonly<Record<number, RunKind>> = { 0: 'served', 2: 'pair', 4: 'below' }
  return kinds[seed % 8] ?? 'group'
}

/** Such runs cost as much as longer ones of a group. */
function usualMs(kind: RunKind): number {
  return kind === 'group' ? 120_000 : 60_000
}

function drawLoad(prng: Prng, kind: RunKind): LoadSettings {
  const load = { clients: prng.between(2, 4), keys: prng.pick([3, 8, 30]) }
  // A flood fills windows and segments: replicas fall behind, and the log is trimmed while they do.
  if (prng.chance(kind === 'group' ? 0.15 : 0.3))
    return { ...load, pauseMs: 200, burstMax: 8, valueBytesMax: 4000 }
  return {
    ...load,
    pauseMs: prng.pick([500, 1500, 3000]),
    burstMax: prng.pick([1, 3, 8]),
    valueBytesMax: prng.pick([200, 200, 4000]),
  }
}

/** All have applied the same, and all that there is. */
function isConverged(sites: readonly SimSite[]): boolean {
  let lastLsn: number | undefined
  for (const { state, db } of sites) {
    if (state === 'lost') continue
    const engine = db?.site.engine
    if (state !== 'up' || engine?.partsInUse === undefined || engine.failure !== undefined) return false
    const last = engine.lastLsn
    lastLsn ??= last
    if (last !== lastLsn || engine.parts.appliedLsn !== last || engine.committedLsn !== last) return false
  }
  return sites.some((site) => site.isMaster)
}

/** Nobody else takes itself for one; and where one site is preferred, it is that one. */
function isOfOneMaster(sites: readonly SimSite[]): boolean {
  const [master, ...more] = sites.filter((site) => site.isMaster)
  const core = master?.db?.site.core
  if (core === undefined || more.length > 0) return false
  const preferred = preferredMasterOf(core.membership)
  if (preferred !== undefined && preferred !== master?.name) return false
  return sites.every(({ db }) => db?.site.engine.permanentLsn === core.last.lsn)
}

function describe(sites: readonly SimSite[]): string {
  return sites
    .map(({ name, state, db }) => {
      const status = db?.status()
      return `${name} ${state} ${status?.role} term ${status?.term} last ${status?.lastLsn} committed ${status?.committedLsn} applied ${status?.appliedLsn} ${status?.failure?.code ?? ''}`
    })
    .join('; ')
}
