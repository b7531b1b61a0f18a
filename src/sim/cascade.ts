// Who there is beside the members of a group: below it chains of sites that serve in their turn, and at any place of them
// sites that only follow, views among them. Or, where there is no group, a master by hand, those who may take its place,
// and views. And whether all of them get their log from the master in the end.

import type { Prng } from '../base/prng.ts'
import type { SimSite } from './site.ts'
import type { Follows } from './stage.ts'

/** The unnamed one and others, so that there is something for a filter to keep out. */
export const storesBelow: readonly string[] = ['', 'one', 'two', 'three']

export interface FollowerPlan {
  readonly name: string
  readonly follows: Follows
}

/** One chain, or two that begin at the same place, with one to three sites that serve no one. */
export function drawBelow(prng: Prng): FollowerPlan[] {
  const relays: FollowerPlan[] = []
  for (let i = prng.between(1, 3); i > 0; i--) {
    const above = prng.chance(0.8) ? relays.at(-1)?.name : undefined
    relays.push({ name: 'rst'[relays.length] as string, follows: { ...aside, above, serves: true } })
  }
  const leaves: FollowerPlan[] = []
  for (let i = prng.between(1, 3); i > 0; i--) {
    const above = prng.chance(0.3) ? undefined : prng.pick(relays).name
    const name = 'vwx'[leaves.length] as string
    const isView = prng.chance(0.75)
    leaves.push({ name, follows: { ...aside, above, ...(isView ? { view: drawView(prng) } : {}) } })
  }
  return [...relays, ...leaves]
}

/**
 * A master, those who may take its place, each of which serves in its turn, and views. Most are attached to the master
 * itself: whoever gets the log by another one counts for nothing.
 */
export function drawServed(prng: Prng, count: number): FollowerPlan[] {
  const names = [...'abcdefg'].slice(0, count)
  const belowMax = (count - 1) >> 1
  const participants = names.map((name, i): FollowerPlan => {
    const above = i >= count - belowMax && prng.chance(0.7) ? prng.pick(names.slice(0, i)) : undefined
    return { name, follows: { above, serves: true, view: 'none', mayReign: true } }
  })
  const views = [...'vwx'].slice(0, prng.between(1, 3)).map((name): FollowerPlan => {
    const above = prng.chance(0.5) ? undefined : prng.pick(names)
    return { name, follows: { ...aside, above, view: drawView(prng) } }
  })
  return [...participants, ...views]
}

const aside = { serves: false, view: 'none', mayReign: false } as const

function drawView(prng: Prng): Follows['view'] {
  return prng.chance(0.3) ? 'full' : storesBelow.filter(() => prng.chance(0.5))
}

/** Where a site that is no member gets its log from does not come back to it, and begins at a master. */
export function isRooted(site: SimSite, sites: readonly SimSite[]): boolean {
  const seen = new Set<SimSite>()
  let at: SimSite | undefined = site
  while (at !== undefined && !at.isMaster) {
    if (seen.has(at)) return false
    seen.add(at)
    const { name }: SimSite = at
    at = sites.find((each) => each.db?.site.replicas.some((replica) => replica.site === name))
  }
  return at !== undefined
}
