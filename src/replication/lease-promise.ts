// What this site, as a voter, has promised the masters whose heartbeats it acknowledged: to give nobody else its vote
// for the length of a lease. lease.ts is the other half, at the master; docs/protocol.md, section "Leases".
//
// Invariant 21: a promise outlasts the lease that it is counted for. It begins when the heartbeat is heard, after that
// was sent, and lasts for the lease's duration by this site's clock, times the skew: so long even by a clock that runs
// faster than the master's. The longest promise that may be in force is on disk before it is given; a site that starts
// again has forgotten whom it promised, so it votes for nobody until that time is over.

import type { LeaseTerms } from './core-options.ts'

export class LeasePromise {
  /** On disk: no promise that is in force is longer. 0: none was ever given. */
  #keptMs: number
  /** To whom; undefined: what was promised before this site started, nobody knows to whom. */
  #site: string | undefined
  #until = Number.NEGATIVE_INFINITY
  #hasBegun = false

  constructor(keptMs: number) {
    this.#keptMs = keptMs
  }

  get keptMs(): number {
    return this.#keptMs
  }

  /** The site has just become one that votes. Only the first time since its start anything is forgotten. */
  begin(now: number): void {
    if (this.#hasBegun) return
    this.#hasBegun = true
    if (this.#keptMs > 0) this.#until = now + this.#keptMs
  }

  /** Promises the master at `site` that sent a heartbeat. True: `keptMs` has changed, and goes to the disk first. */
  give(site: string, terms: LeaseTerms, now: number): boolean {
    const lengthMs = promiseMs(terms)
    const isOver = now >= this.#until
    this.#site = site
    this.#until = Math.max(this.#until, now + lengthMs)
    if (lengthMs === this.#keptMs || (lengthMs < this.#keptMs && !isOver)) return false
    this.#keptMs = lengthMs
    return true
  }

  /** This site gives no promises any more: once the last one is over, none needs to be on disk. */
  release(now: number): void {
    if (now >= this.#until) this.#keptMs = 0
  }

  /** Whether it stands against a vote for `site`. */
  binds(site: string, now: number): boolean {
    return now < this.#until && site !== this.#site
  }

  /** From when on this site may vote for whom it likes. */
  get until(): number {
    return this.#until
  }
}

/** How long a voter keeps to it, by its own clock. */
export function promiseMs({ durationMs, clockSkew }: LeaseTerms): number {
  return Math.ceil(durationMs * clockSkew) + 1
}
