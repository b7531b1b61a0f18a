// The arithmetic of acknowledgements, free of state: how many replicas a policy asks for, and up to which LSN so many
// have attested. docs/protocol.md, section "Commit rule".

import { type Lsn, noLsn } from '../base/lsn.ts'
import type { AckPolicy } from '../base/policy.ts'

/** The group as a policy counts it. Views are never in it. */
export interface GroupCount {
  /** Voting sites, the master included. */
  readonly sites: number
  /** Voting replicas that are attached and have been in step. */
  readonly attached: number
  /** Two sites, of which one alone is enough while the other one is away. Default false. */
  readonly goesOnAlone?: boolean
}

/** How many replicas make a majority of the group together with the master. */
export function majorityReplicas(sites: number): number {
  return Math.floor(sites / 2)
}

/** How many distinct voting replicas must attest a record. */
export function replicasNeeded(policy: AckPolicy, group: GroupCount): number {
  const majority = majorityReplicas(group.sites)
  switch (policy) {
    case 'none':
      return 0
    case 'one':
    case 'onePeer':
      return 1
    case 'quorum':
      return group.goesOnAlone === true ? Math.min(group.attached, majority) : majority
    case 'allPeers':
    case 'all':
      return group.sites - 1
    case 'allAvailable':
      return group.goesOnAlone === true ? group.attached : Math.max(group.attached, majority)
    default:
      return policy
  }
}

/** Whether a replica that goes away makes the policy ask for less: only then does detaching it let commits go on. */
export function dependsOnAttached(
  policy: AckPolicy,
  sitesFixed: boolean,
  goesOnAlone: boolean = false,
): boolean {
  if (policy === 'allAvailable' || (policy === 'quorum' && goesOnAlone)) return true
  return !sitesFixed && (policy === 'quorum' || policy === 'all' || policy === 'allPeers')
}

/**
 * The last LSN that at least `count` of `attested` have reached; 0 if there are too few. `attested` has one entry for
 * each site. Few sites, so a search beats a sort.
 */
export function reachedBy(count: number, attested: readonly Lsn[]): Lsn {
  if (count > attested.length) return noLsn
  let best = noLsn
  for (const candidate of attested) {
    if (candidate > best && countAtLeast(attested, candidate) >= count) best = candidate
  }
  return best
}

/** How many have reached `lsn`. */
export function countAtLeast(attested: readonly Lsn[], lsn: Lsn): number {
  let count = 0
  for (const each of attested) if (each >= lsn) count++
  return count
}
