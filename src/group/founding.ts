// Whether this site is to found a group: there is none yet, and of all that could it is the one.
//
// Without seeds nobody else is asked. With seeds all of them must answer first, and none may have a group: then the
// site that has data founds, or else the one of the smallest id, and the others join it. So the same seeds in the same
// settings on every site start a group, in whatever order the sites come up.

import type { SiteView } from '../replication/core-options.ts'
import type { JoinSettings } from './join-options.ts'
import type { SeedFinding } from './mesh.ts'
import type { Site } from './site.ts'

export class Founding {
  readonly #site: Site
  readonly #settings: JoinSettings
  readonly #startedAt: number
  /** It took writes of its own before it joined. */
  readonly #wasAlone: boolean
  #agreedSince: number | undefined
  /** Somebody has said that there is a group: it is not forgotten when the link to that one is lost. */
  #hasMetGroup: boolean = false

  constructor(options: { readonly site: Site; readonly settings: JoinSettings }) {
    this.#site = options.site
    this.#settings = options.settings
    this.#startedAt = options.site.now()
    this.#wasAlone = !options.site.inGroup && options.site.role !== 'replica'
  }

  /** It could found a group, now or later. */
  get isPossible(): boolean {
    const { core, engine, site } = this.#site
    if (this.#settings.start === 'replica' || !engine.hasData || core.role !== 'none') return false
    // Its rows are lost, and some master has them.
    if (core.readableLsn > core.lastLsn) return false
    const { membership } = core
    if (membership === undefined || membership.members.length === 0) return true
    if (core.isMember || membership.removed.includes(site)) return false
    // A copy of a group's data, restored from a backup perhaps: whoever owns it may begin anew with it.
    return this.#wasAlone || this.#settings.start === 'master'
  }

  /** To be asked again and again while it is possible. */
  isDue(seeds: readonly SeedFinding[]): boolean {
    if (!this.isPossible) return false
    const { core, site } = this.#site
    this.#hasMetGroup ||= core.sites.some((view) => view.grouped || view.activity === 'master')
    if (this.#hasMetGroup) return false
    const sites = core.sites.filter((view) => view.linked)
    const { electionTimeoutMs } = this.#settings.timings
    const now = this.#site.now()
    // What was answered on a link that is gone says nothing of now.
    const isHere = new Set([site, ...sites.map((view) => view.site)])
    const haveAnswered = seeds.every((seed) => seed.site !== undefined && isHere.has(seed.site))
    if (this.#settings.start === 'master') {
      // A master that comes back without its disk shall find its group rather than found another one.
      const isPatient = core.membership === undefined && now - this.#startedAt >= 4 * electionTimeoutMs
      return haveAnswered || isPatient
    }
    if (!haveAnswered || !this.#isFirst(sites)) {
      this.#agreedSince = undefined
      return false
    }
    if (seeds.length === 0) return true
    // Time for a site that knows better to be heard.
    this.#agreedSince ??= now
    return now - this.#agreedSince >= electionTimeoutMs
  }

  #isFirst(others: readonly SiteView[]): boolean {
    const { core } = this.#site
    const own = { site: this.#site.site, hasData: core.lastLsn > 0 && !this.#settings.replace }
    return others.every((view) => {
      if (view.priority === 0) return true
      const hasData = view.last.lsn > 0 && view.databaseId !== undefined
      return hasData === own.hasData ? own.site < view.site : own.hasData
    })
  }
}
