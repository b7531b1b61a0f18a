// What the parts of a simulated world share: its time, its network, its randomness, and where they say what happens.

import type { TwoSites } from '../base/membership.ts'
import type { Prng } from '../base/prng.ts'
import type { VirtualClock } from '../env/simulated/virtual-clock.ts'
import type { SimulatedNetwork } from './network.ts'

/**
 * What a run is of. group: a group that elects its master, and nobody else. below: with it sites that attach to its master
 * or to each other, and are no members of it. served: no group, but a master that serves by its operator's hand, sites that
 * follow it and may take its place, and views. pair: a group of two sites, of which one goes on alone while the other one is
 * away.
 */
export type RunKind = 'group' | 'below' | 'served' | 'pair'

export const runKinds: readonly RunKind[] = ['group', 'below', 'served', 'pair']

/** How a site takes part that is no member of the group: attached to whoever serves, as its operator wants it. */
export interface Follows {
  /** Whom it is attached to where nothing is wrong, by name; undefined: the master, whoever that is. */
  readonly above: string | undefined
  /** It serves others in its turn. */
  readonly serves: boolean
  /** A view with all stores, or with these only. */
  readonly view: 'none' | 'full' | readonly string[]
  /** Its acks count, and it may become master: there is no group, and it is one of those that make up for one. */
  readonly mayReign: boolean
}

/** How the group of a run is set up; drawn from its seed. */
export interface GroupSettings {
  readonly kind: RunKind
  readonly sites: number
  readonly heartbeatMs: number
  readonly electionTimeoutMs: number
  readonly ackTimeoutMs: number
  readonly silenceTimeoutMs: number
  readonly attest: 'durable' | 'applied'
  /** Whether one site is told to found the group, or all are given the same seeds and find out. */
  readonly foundedBy: 'first' | 'election'
  /** Of the sites in their order. */
  readonly priorities: readonly number[]
  readonly segmentBytes: number
  readonly retainBytes: number
  readonly checkpointBytes: number
  /** How long a master's lease lasts; 0: the group has none. */
  readonly leaseMs: number
  /** Where the rows of the clients are; '' is the unnamed store. */
  readonly stores: readonly string[]
  /** Of a pair: what the group is founded with. */
  readonly twoSites?: TwoSites
}

/** A master has given its place away. */
export interface HandedOver {
  readonly from: string
  readonly to: string
  /** Where its log ended. */
  readonly lsn: number
}

/** A site has said that it took back the end of its log. */
export interface Rewound {
  readonly site: string
  /** Which process of it. */
  readonly start: number
  /** Where its log ended then. */
  readonly to: number
}

export interface Stage {
  readonly clock: VirtualClock
  /** By how much the fastest clock here runs faster than the slowest: what leases rely on, and not a bit more. */
  readonly clockSkew: number
  readonly network: SimulatedNetwork
  readonly prng: Prng
  readonly settings: GroupSettings
  /** Where sites can be asked for the group. */
  readonly seeds: readonly string[]
  /** Where sites listen that serve in their turn. */
  readonly relays: readonly string[]
  /** Whether anyone reads the story; say nothing costly if not. */
  readonly isTold: boolean
  readonly handedOver: HandedOver[]
  readonly rewound: Rewound[]
  /** Where a site listens, or the one that stands in for it. */
  addressOf(name: string): string | undefined
  /** A site has begun to serve as master, by its operator's hand. */
  reigns(name: string): void
  /** A line of the story. */
  tell(who: string, what: string): void
  /** Something of no one's doing struck. */
  countFault(kind: string): void
  /** What must never happen has happened. The run ends after this event. */
  violate(judge: string, message: string): void
}
