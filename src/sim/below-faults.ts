// What operators do to sites that are no members: they attach them elsewhere, a loop included, take a site that serves in
// its turn out of service, and ask what such a site, or a view, must never do.

import { isCoterieError } from '../base/errors.ts'
import type { Database } from '../group/database.ts'
import type { FaultTools } from './fault-tools.ts'
import type { SimSite } from './site.ts'

/** What no site can do that follows others by hand, below a group; each is refused, and nothing else comes of it. */
const forNobody: readonly { readonly name: string; readonly call: (db: Database) => Promise<unknown> }[] = [
  { name: 'takeOver', call: (db) => db.takeOver() },
  { name: 'put', call: (db) => db.put('reader', 'x') },
]

const forNoView: typeof forNobody = [
  ...forNobody,
  { name: 'serve', call: (db) => db.serve({ listen: 'sim://nowhere' }) },
  { name: 'promote', call: (db) => db.promote() },
  { name: 'standalone', call: (db) => db.standalone() },
  { name: 'join', call: (db) => db.join({ listen: 'sim://nowhere', seeds: [] }) },
]

const orphanedMs = 4000

/** By where they end. */
function compareLogs(a: SimSite, b: SimSite): number {
  const [ours, theirs] = [a.db?.site.core.last, b.db?.site.core.last]
  return (ours?.term ?? 0) - (theirs?.term ?? 0) || (ours?.lsn ?? 0) - (theirs?.lsn ?? 0)
}

export class BelowFaults {
  readonly #tools: FaultTools

  constructor(tools: FaultTools) {
    this.#tools = tools
  }

  #someFollower(where: (site: SimSite) => boolean): SimSite | undefined {
    const { world, prng } = this.#tools
    const sites = world.livingSites.filter(
      (site) => site.follower !== undefined && site.isAwake && where(site),
    )
    return sites.length === 0 ? undefined : prng.pick(sites)
  }

  /** To any site but itself: one that serves nobody, or one that is below it, as well. */
  reattach(): boolean {
    const { world, prng } = this.#tools
    const site = this.#someFollower((each) => each.state === 'up')
    const others = world.livingSites.filter(
      (each) => each !== site && (each.isMember || each.follows?.serves),
    )
    if (site === undefined || others.length === 0) return false
    const to = prng.pick(others)
    this.#tools.tell(`${site.name} is sent to ${to.name}`)
    site.host?.run(() => site.follower?.sendTo(to.name))
    return true
  }

  stopServing(): boolean {
    const { world } = this.#tools
    const site = this.#someFollower((each) => each.follower?.isServing === true && !each.isMaster)
    const follower = site?.follower
    if (site === undefined || follower === undefined) return false
    const ms = this.#tools.duration()
    this.#tools.tell(`${site.name} serves nobody for ${Math.round(ms)} ms`)
    this.#run(site, () => follower.stopServing())
    world.clock.after(ms, () => {
      if (site.follower === follower && site.state === 'up') site.host?.run(() => follower.goOnServing())
    })
    return true
  }

  /** As an operator calls it; the site may be closed, or its disk full, before it is done. */
  #run(site: SimSite, call: () => Promise<unknown>): void {
    site.host?.run(() => {
      call().catch((error: unknown) => {
        if (isCoterieError(error)) this.#tools.tell(`refused: ${error.code} ${error.message}`)
        else this.#tools.world.violate('defect', `a call on ${site.name}: ${(error as Error).stack}`)
      })
    })
  }

  /** One that may become master asks for it, or is given it. */
  takeOver(): boolean {
    const { world, prng } = this.#tools
    const heir = this.#someFollower((each) => each.isMember && each.state === 'up' && !each.isMaster)
    const master = world.livingSites.find((site) => site.isAwake && site.isMaster)
    if (heir === undefined) return false
    const timeoutMs = prng.pick([500, 3000])
    const isAsked = master === undefined || prng.chance(0.6)
    this.#tools.tell(isAsked ? `${heir.name} takes over` : `transfer from ${master.name} to ${heir.name}`)
    this.#run(isAsked ? heir : master, async () => {
      if (isAsked) await heir.db?.takeOver({ timeoutMs })
      else await master.db?.master?.transfer(heir.name, { timeoutMs })
    })
    return true
  }

  /** Since when nobody has been master while everybody was there. */
  #orphanedSince: number | undefined

  /**
   * A master may give its place away and die before anybody has heard of it. When all are there and none of them goes on,
   * the operator makes the one master that it was given to, or where nobody can say, the one that has the most.
   */
  promoteHeir(): void {
    const { world } = this.#tools
    const sites = world.members
    const isOrphaned = sites.every((site) => site.state === 'up' && site.isAwake && !site.isMaster)
    if (!isOrphaned) this.#orphanedSince = undefined
    else this.#orphanedSince ??= world.nowMs
    if (this.#orphanedSince === undefined || world.nowMs - this.#orphanedSince < orphanedMs) return
    this.#orphanedSince = undefined
    const cores = sites.flatMap(({ db }) => (db === undefined ? [] : [db.site.core]))
    const newest = cores.reduce((a, b) => (b.term > a.term ? b : a))
    const named = sites.find((site) => site.name === newest.termMaster)
    const best = [...sites].sort((a, b) => compareLogs(b, a))[0]
    const heir = named !== undefined && best !== undefined && compareLogs(named, best) >= 0 ? named : best
    if (heir === undefined) return
    this.#tools.tell(`promote ${heir.name}`)
    this.#run(heir, async () => {
      await heir.db?.promote({ sites: world.settings.sites })
      heir.follower?.goOnServing()
    })
  }

  /** Asks for what must be refused. */
  askTooMuch(): boolean {
    const { world, prng } = this.#tools
    const site = this.#someFollower((each) => each.state === 'up' && !each.isMember)
    if (site === undefined) return false
    const { name, call } = prng.pick(site.follows?.view === 'none' ? forNobody : forNoView)
    this.#tools.tell(`${site.name} is asked to ${name}`)
    site.host?.run(() => {
      const { db } = site
      if (db === undefined) return
      call(db).then(
        () => world.violate('views', `${site.name}, which is no member, was asked to ${name}, and did`),
        (error: unknown) => {
          if (!isCoterieError(error))
            world.violate('defect', `${name} on ${site.name}: ${(error as Error).stack}`)
        },
      )
    })
    return true
  }
}
