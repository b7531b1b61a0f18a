// The operator of a simulated group: moves the mastership, and brings in new sites for those that are lost.

import { isCoterieError } from '../base/errors.ts'
import type { Group } from '../group/group.ts'
import type { FaultTools } from './fault-tools.ts'
import type { SimSite } from './site.ts'

export class Operator {
  readonly #tools: FaultTools
  #replacements = 0

  constructor(tools: FaultTools) {
    this.#tools = tools
  }

  #master(): SimSite | undefined {
    return this.#tools.someSite((site) => site.isAwake && site.group?.role === 'master')
  }

  /** To another member; or the other asks for it. */
  transfer(): boolean {
    const master = this.#master()
    const { prng, world } = this.#tools
    const others = world.livingSites.filter((site) => site !== master && site.group !== undefined)
    if (master === undefined || others.length === 0) return false
    const heir = prng.pick(others)
    const timeoutMs = prng.pick([500, 3000])
    const asked = prng.chance(0.3)
    this.#tools.tell(asked ? `${heir.name} takes over` : `transfer from ${master.name} to ${heir.name}`)
    this.#call(asked ? heir : master, (group) =>
      asked ? group.takeOver({ timeoutMs }) : group.transfer(heir.name, { timeoutMs }),
    )
    return true
  }

  stepDown(): boolean {
    const master = this.#master()
    if (master === undefined) return false
    this.#tools.tell(`${master.name} steps down`)
    this.#call(master, async (group) => group.stepDown())
    return true
  }

  /** What two sites do while one of them is away: mostly what they began with, or nothing. */
  setTwoSites(): boolean {
    const master = this.#master()
    const { prng, world } = this.#tools
    const { twoSites: first = 'strict' } = world.settings
    if (master === undefined) return false
    const preferredMaster = prng.pick(world.members).name
    const twoSites = prng.pick([first, first, 'strict', 'strict', 'available', { preferredMaster }] as const)
    this.#tools.tell(`${master.name} makes the two ${JSON.stringify(twoSites)}`)
    this.#call(master, (group) => group.setTwoSites(twoSites))
    return true
  }

  /** As an operator calls it: what cannot be done now is refused with a reason, and nothing else comes of it. */
  #call(site: SimSite, call: (group: Group) => Promise<unknown>): void {
    const { group } = site
    if (group === undefined) return
    site.host?.run(() => {
      call(group).catch((error: unknown) => {
        if (isCoterieError(error)) this.#tools.tell(`refused: ${error.code} ${error.message}`)
        else
          this.#tools.world.violate(
            'defect',
            `a call of the operator on ${site.name}: ${(error as Error).stack}`,
          )
      })
    })
  }

  /** Takes what is lost out of the list of members, once something else stands in for it. */
  removeLost(): void {
    const master = this.#tools.world.livingSites.find((site) => site.isAwake && site.group?.role === 'master')
    const members = new Set(master?.group?.members.map((member) => member.site))
    for (const site of this.#tools.world.livingSites) {
      const lost = site.replaces?.name
      if (master === undefined || lost === undefined || !members.has(lost) || !members.has(site.name))
        continue
      this.#tools.tell(`${master.name} removes ${lost}`)
      this.#call(master, (group) => group.removeMember(lost))
    }
  }

  /** In place of sites that are lost, new ones under new ids. */
  replaceLost(): void {
    const { world, usualLink } = this.#tools
    for (const site of world.sites.filter((each) => each.state === 'lost' && !each.isReplaced)) {
      site.isReplaced = true
      const name = `${site.name.slice(0, 1)}${++this.#replacements + 1}`
      this.#tools.tell(`${name} takes the place of ${site.name} (${site.refusal?.code})`)
      const { follows } = site
      const added = world.addSite({
        name,
        founds: false,
        rate: 1,
        priority: 100,
        ...(follows === undefined ? {} : { follows }),
      })
      for (const other of world.sites) {
        if (other === added) continue
        world.network.link(added.name, other.name).faults = usualLink
        world.network.link(other.name, added.name).faults = usualLink
      }
      added.replaces = site
      added.start()
    }
  }
}
