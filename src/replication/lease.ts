// A master's lease: while it holds, no other master has been elected, so what this one reads is the newest there is,
// and no majority need be asked. lease-promise.ts is the other half, at the voters; docs/protocol.md, section "Leases".
//
// Every heartbeat that is acknowledged is a promise of its sender to vote for nobody else for a while. It counts from
// the moment at which the heartbeat was sent, by this site's clock. The lease holds while a majority of the voters,
// this site among them, has promises that have not run out: whoever is elected needs the vote of one of them.

import type { LeaseTerms } from './core-options.ts'
import type { CoreState } from './core-state.ts'
import type { Progress } from './progress.ts'
import type { Voters } from './voters.ts'

export class Lease {
  readonly #state: CoreState
  readonly #voters: Voters
  /** When the promise of each voter runs out, by this site's clock. */
  readonly #until = new Map<string, number>()

  constructor(state: CoreState, voters: Voters) {
    this.#state = state
    this.#voters = voters
  }

  /** A replica has acknowledged the heartbeat with this stamp. */
  granted(progress: Progress, stamp: number): void {
    const { leases } = this.#state
    const sentAt = progress.sentAt(stamp)
    if (leases === undefined || sentAt === undefined || !progress.votes || progress.join.leaseMs === 0) return
    const until = sentAt + lengthMs(leases, progress.join.leaseMs)
    if (until > (this.#until.get(progress.site) ?? 0)) this.#until.set(progress.site, until)
  }

  holds(now: number): boolean {
    if (this.#state.leases === undefined) return false
    return this.#voters.areMajority((site) => (this.#until.get(site) ?? 0) > now)
  }
}

/** Both sides say how long; the shorter is sure. */
function lengthMs({ durationMs }: LeaseTerms, promisedMs: number): number {
  return Math.min(durationMs, promisedMs)
}
