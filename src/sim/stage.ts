// What the parts of a simulated world share: its time, its network, its randomness, and where they say what happens.

import type { Prng } from '../base/prng.ts'
import type { VirtualClock } from '../env/simulated/virtual-clock.ts'
import type { SimulatedNetwork } from './network.ts'

/** How the group of a run is set up; drawn from its seed. */
export interface GroupSettings {
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
}

/** A master has given its place away. */
export interface HandedOver {
  readonly from: string
  readonly to: string
  /** Where its log ended. */
  readonly lsn: number
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
  /** Whether anyone reads the story; say nothing costly if not. */
  readonly isTold: boolean
  readonly handedOver: HandedOver[]
  /** A line of the story. */
  tell(who: string, what: string): void
  /** Something of no one's doing struck. */
  countFault(kind: string): void
  /** What must never happen has happened. The run ends after this event. */
  violate(judge: string, message: string): void
}
