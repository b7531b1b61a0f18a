// Who belongs to a group. It is data of the database itself: a record of the log carries all of it, and it holds from
// the moment that this record is in a site's log, as the configuration of Raft does. Changes come one at a time.
//
// A member is a site id together with the incarnation of its data folder: a site that comes back under its old id
// with an empty disk has promised things that it no longer knows of, and must not vote with the old id's rights.

import { utf8Decode, utf8Encode } from './bytes.ts'
import { limits } from './limits.ts'
import type { Lsn } from './lsn.ts'

/** One member. All of them vote. */
export interface Member {
  readonly site: string
  /** Where others reach it. */
  readonly address: string
  /** Of its data folder; see above. */
  readonly incarnation: string
}

/**
 * What a group of two does while one of them is away. `strict`: nothing, for a majority of two is both. `available`: the
 * other one goes on alone. `preferredMaster`: so, too, and the site that is named is master whenever it can be.
 */
export type TwoSites = 'strict' | 'available' | { readonly preferredMaster: string }

/** What a members record says. */
export interface Members {
  /** In the order in which they were added; no site twice. */
  readonly members: readonly Member[]
  /** Ids that were removed, and never come back. */
  readonly removed: readonly string[]
  /** Anything but `strict` only with two members or fewer. Left out: `strict`. */
  readonly twoSites?: TwoSites
}

/** The members, and the record that says so. */
export interface Membership extends Members {
  readonly lsn: Lsn
}

export function encodeMembers(members: Members): Uint8Array {
  return utf8Encode(
    JSON.stringify({ members: members.members, removed: members.removed, ...twoSitesOf(members) }),
  )
}

/** Undefined unless the bytes are what `encodeMembers` makes. */
export function decodeMembers(bytes: Uint8Array): Members | undefined {
  let value: unknown
  try {
    value = JSON.parse(utf8Decode(bytes))
  } catch {
    // Not text, or not JSON: not what this site or another of this version wrote.
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const { members, removed, twoSites } = value as { members?: unknown; removed?: unknown; twoSites?: unknown }
  if (twoSites !== undefined && !isTwoSites(twoSites)) return undefined
  if (!Array.isArray(members) || !Array.isArray(removed)) return undefined
  if (members.length > limits.membersMax || !removed.every(isSiteId)) return undefined
  const sites = new Set<string>()
  const read: Member[] = []
  for (const each of members as unknown[]) {
    if (typeof each !== 'object' || each === null) return undefined
    const { site, address, incarnation } = each as { [Field in keyof Member]?: unknown }
    if (!isSiteId(site) || typeof address !== 'string' || typeof incarnation !== 'string') return undefined
    if (sites.has(site)) return undefined
    sites.add(site)
    read.push({ site, address, incarnation })
  }
  const pair = twoSitesOf({ twoSites: twoSites ?? 'strict' })
  if (pair.twoSites !== undefined && read.length > 2) return undefined
  return { members: read, removed: removed as string[], ...pair }
}

function isSiteId(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && utf8Encode(value).length <= limits.siteIdBytesMax
}

export function isTwoSites(value: unknown): value is TwoSites {
  if (value === 'strict' || value === 'available') return true
  if (typeof value !== 'object' || value === null) return false
  return Object.keys(value).length === 1 && isSiteId((value as { preferredMaster?: unknown }).preferredMaster)
}

/** Left out: `strict`. */
export function isSameTwoSites(a: TwoSites = 'strict', b: TwoSites = 'strict'): boolean {
  if (typeof a === 'string' || typeof b === 'string') return a === b
  return a.preferredMaster === b.preferredMaster
}

/** Of two members each may reign while the other one is away. */
export function mayGoOnAlone(members: Members | undefined): boolean {
  return members?.members.length === 2 && (members.twoSites ?? 'strict') !== 'strict'
}

/** The site that is to be master whenever it can be. */
export function preferredMasterOf(members: Members | undefined): string | undefined {
  const { twoSites } = members ?? {}
  if (members?.members.length !== 2 || typeof twoSites !== 'object') return undefined
  return twoSites.preferredMaster
}

export function memberOf(members: Members | undefined, site: string): Member | undefined {
  return members?.members.find((member) => member.site === site)
}

/** How many members are more than half of them. */
export function majorityOf(members: Members): number {
  return Math.floor(members.members.length / 2) + 1
}

/** With one member more, or with another address or incarnation of one. */
export function withMember(members: Members, member: Member): Members {
  const others = members.members.filter((each) => each.site !== member.site)
  const isKnown = others.length < members.members.length
  return {
    members: isKnown
      ? members.members.map((each) => (each.site === member.site ? member : each))
      : [...members.members, member],
    removed: members.removed,
    ...twoSitesOf(members),
  }
}

/** Without the site, for good. */
export function withoutMember(members: Members, site: string): Members {
  return {
    members: members.members.filter((each) => each.site !== site),
    removed: [...members.removed.filter((each) => each !== site), site].slice(-limits.removedMembersMax),
    ...twoSitesOf(members),
  }
}

/** With another answer to what two sites do. */
export function withTwoSites(members: Members, twoSites: TwoSites): Members {
  return { members: members.members, removed: members.removed, ...twoSitesOf({ twoSites }) }
}

function twoSitesOf({ twoSites = 'strict' }: Pick<Members, 'twoSites'>): Pick<Members, 'twoSites'> {
  return twoSites === 'strict' ? {} : { twoSites }
}
