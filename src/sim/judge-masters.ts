// Masters, and what sites owe each other: a master commits by counting only what it wrote itself, gives up when it hears
// no majority, and keeps the log that its replicas still need. And no site whose disk did what disks may do is given up.

import { entryAt } from '../base/history.ts'
import type { Lsn } from '../base/lsn.ts'
import { type Membership, majorityOf } from '../base/membership.ts'
import type { BenchView, Sight, SiteJudge } from './sight.ts'
import type { SimSite } from './site.ts'
import type { HandedOver } from './stage.ts'

/** How many events pass between two looks at what changes slowly. */
const eventsBetween = 64

/** A record of an earlier term is committed only together with one of the master's own (Raft, section 5.4.2). */
export class MastersCountTheirOwnTerm implements SiteJudge {
  readonly name = 'own term'

  moved(sight: Sight, bench: BenchView): void {
    const { now, before, isNew, site } = sight
    if (isNew || now.reign === undefined || now.reign !== before.reign) return
    for (const position of ['committedLsn', 'permanentLsn'] as const) {
      const lsn = now[position]
      if (lsn <= before[position]) continue
      const entry = entryAt(site.db?.site.core.history ?? [], lsn as Lsn)
      if (entry === undefined || entry.term === now.reign.term) continue
      bench.violate(
        this,
        `${site.name}, master of term ${now.reign.term}, moved its ${position} to ${lsn}, a record of term ${entry.term}`,
      )
    }
  }
}

/** One change of the members at a time, after a record of the own term, each after the one before is permanent. */
export class MembersChangeOneAtATime implements SiteJudge {
  readonly name = 'members'
  readonly #known: Map<SimSite, Membership | undefined> = new Map()

  moved(sight: Sight, bench: BenchView): void {
    const { site, now, before, isNew } = sight
    const core = site.db?.site.core
    const membership = core?.membership
    const known = this.#known.get(site)
    this.#known.set(site, membership)
    if (isNew || now.reign === undefined || now.reign !== before.reign) return
    if (core === undefined || membership === undefined || known === undefined) return
    if (membership.lsn <= known.lsn) return
    const names = new Set(known.members.map((member) => member.site))
    const added = membership.members.filter((member) => !names.delete(member.site)).length
    if (added + names.size > 1)
      bench.violate(this, `${site.name} changed ${added + names.size} members at once`)
    const permanent = entryAt(core.history, now.permanentLsn as Lsn)
    const isOwn = permanent === undefined || permanent.term === now.reign.term
    if (now.permanentLsn >= known.lsn && isOwn) return
    bench.violate(
      this,
      `${site.name} changed the members at LSN ${membership.lsn} while only LSN ${now.permanentLsn} of term ${permanent?.term} is permanent, and the change before is LSN ${known.lsn}`,
    )
  }
}

/** Who is handed the reign has all there is on its disk when it is given away. */
export class HeirsHaveEverything implements SiteJudge {
  readonly name = 'hand-over'
  #judged = 0

  afterEvent(bench: BenchView): void {
    const { handedOver } = bench.world
    for (let next = handedOver[this.#judged]; next !== undefined; next = handedOver[this.#judged]) {
      this.#judged++
      this.#judge(bench, next)
    }
  }

  #judge(bench: BenchView, { from, to, lsn }: HandedOver): void {
    const giver = bench.world.site(from)
    const heir = bench.world.site(to)
    const sight = heir && bench.sights.get(heir)
    const entry = entryAt(giver?.db?.site.core.history ?? [], lsn as Lsn)
    // A giver that died in the same moment cannot be asked; of a disk that was damaged nothing is promised.
    if (sight === undefined || entry === undefined || sight.site.isSuspect) return
    if (sight.disk.has(lsn, entry.term)) return
    bench.violate(
      this,
      `${from} gave its place to ${to} at LSN ${lsn} of term ${entry.term}, which ${to} does not have`,
    )
  }
}

/** While the lease of a master holds, nobody else reigns in a later term: who reads there reads the newest. */
export class LeasesExclude implements SiteJudge {
  readonly name = 'leases'

  afterEvent(bench: BenchView): void {
    const { world } = bench
    if (world.settings.leaseMs === 0) return
    const masters = world.sites.filter((site) => site.isMaster)
    if (masters.length < 2) return
    for (const holder of masters) {
      const driver = holder.db?.site
      // As a process that is held back would find it if it went on now.
      if (driver?.core.holdsLease(driver.now()) !== true) continue
      const other = masters.find((site) => (site.db?.site.core.term ?? 0) > driver.core.term)
      if (other === undefined) continue
      bench.violate(
        this,
        `the lease of ${holder.name}, master of term ${driver.core.term}, holds while ${other.name} reigns in term ${other.db?.site.core.term}`,
      )
    }
  }
}

/** In election timeouts, after which a master that hears too few has given up. */
const lonelyMax = 8

export class LonelyMastersStepDown implements SiteJudge {
  readonly name = 'lonely masters'
  /** Since when a master hears fewer than a majority. */
  readonly #since: Map<SimSite, number> = new Map()

  afterEvent(bench: BenchView): void {
    if (bench.world.events % eventsBetween !== 0) return
    for (const sight of bench.sights.values()) this.#judge(sight, bench)
  }

  #judge(sight: Sight, bench: BenchView): void {
    const { site } = sight
    const { world } = bench
    const { electionTimeoutMs } = world.settings
    const core = site.db?.site.core
    const membership = core?.membership
    const isJudged =
      sight.isOpen && site.isMaster && site.isAwake && membership !== undefined && core?.settings?.elections
    // A disk that does not answer holds back what follows a step-down too.
    const isSlow = site.machine.disk.full || site.machine.speed.syncMsMax > electionTimeoutMs
    // Of two sites one goes on alone, where both know that it may.
    if (isJudged !== true || membership === undefined || isSlow || core?.goesOnAlone === true) {
      this.#since.delete(site)
      return
    }
    const heard = new Set([site.name])
    for (const side of world.network.sides) {
      const isRecent = world.nowMs - side.heardAtMs <= 2 * electionTimeoutMs
      if (side.link.from === site.name && isRecent) heard.add(side.link.to)
    }
    const count = membership.members.filter((member) => heard.has(member.site)).length
    if (count >= majorityOf(membership)) {
      this.#since.delete(site)
      return
    }
    const since = this.#since.get(site) ?? world.nowMs
    this.#since.set(site, since)
    if (world.nowMs - since <= lonelyMax * electionTimeoutMs) return
    bench.violate(
      this,
      `${site.name} is master of term ${core?.term} and has heard ${count} of ${membership.members.length} members for ${Math.round(world.nowMs - since)} ms`,
    )
  }
}

/** The log that a replica needs, after a snapshot above all, is there as long as the replica is (Invariant 15). */
/** How long the removal of a segment may take, on the slowest disk. */
const removalMsMax = 2000

export class LogIsKeptForReplicas implements SiteJudge {
  readonly name = 'log for replicas'
  /** What a site has to keep for those that it serves, as it stood when anything moved last. */
  readonly #kept: Map<SimSite, number | undefined> = new Map()
  /** The highest LSN that each site ever had: nobody sends it that again. */
  readonly #highest: Map<string, number> = new Map()

  moved(sight: Sight, bench: BenchView): void {
    const { now, before, isNew, site } = sight
    if (now.last.lsn > (this.#highest.get(site.name) ?? 0)) this.#highest.set(site.name, now.last.lsn)
    const serves = now.reign !== undefined || site.db?.site.core.isServingInTurn === true
    if (!isNew && serves && now.firstLsn > before.firstLsn && now.generation === before.generation) {
      this.#judgeReplicas(sight, bench)
    }
    const needed = site.db?.site.retainFrom()
    const neededBefore = this.#kept.get(site)
    this.#kept.set(site, needed)
    if (isNew || !serves || now.generation !== before.generation) return
    if (now.last.lsn !== before.last.lsn) this.#judgeBound(sight, bench, needed)
    if (now.firstLsn <= before.firstLsn || needed === undefined || neededBefore === undefined) return
    // What is needed rises between two looks, and falls when a replica attaches while segments are being removed: that
    // one is told that the log was trimmed meanwhile.
    const lowest = Math.max(needed, neededBefore)
    if (lowest >= now.firstLsn || lowest < before.firstLsn) return
    bench.violate(
      this,
      `${site.name} let its log go up to LSN ${now.firstLsn - 1}, and a replica needs it from ${lowest} on`,
    )
  }

  /** What a master would let go now. */
  #judgeBound(sight: Sight, bench: BenchView, needed: number | undefined): void {
    const { site } = sight
    for (const replica of site.db?.site.replicas ?? []) {
      const highest = this.#highest.get(replica.site)
      if (highest === undefined || replica.state !== 'live' || needed === undefined || needed <= highest + 1)
        continue
      bench.violate(
        this,
        `${site.name} keeps its log from LSN ${needed} on, and ${replica.site} never had more than ${highest}`,
      )
    }
  }

  /** Whatever the master believes to have been received. */
  #judgeReplicas(sight: Sight, bench: BenchView): void {
    const { site, now } = sight
    for (const replica of site.db?.site.replicas ?? []) {
      if (replica.state !== 'live' && replica.state !== 'catchUp') continue
      // It attached while segments were being removed that nobody needed: it is told.
      if (site.db !== undefined && site.db.site.now() - replica.attachedAt < removalMsMax) continue
      const highest = this.#highest.get(replica.site) ?? 0
      if (now.firstLsn <= highest + 1) continue
      bench.violate(
        this,
        `${site.name} let its log go up to LSN ${now.firstLsn - 1}, and ${replica.site} never had more than ${highest}`,
      )
    }
  }
}

/** Crashes, failed calls and full disks never make a site refuse its own data. */
export class SitesStartAgain implements SiteJudge {
  readonly name = 'sites start again'

  afterEvent(bench: BenchView): void {
    if (bench.world.events % eventsBetween === 0) this.atEnd(bench)
  }

  atEnd(bench: BenchView): void {
    for (const site of bench.world.sites) {
      if (site.state !== 'lost' || site.isSuspect) continue
      bench.violate(this, `${site.name} refuses to start: ${site.refusal?.code} ${site.refusal?.message}`)
    }
  }
}
