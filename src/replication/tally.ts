// What the attached replicas have, counted together for the commit rule and the gate. Counted anew for each: on the
// hot path, so one tally is used again and again.

import type { Lsn } from '../base/lsn.ts'
import type { ServeSettings } from './core-options.ts'
import type { Progress } from './progress.ts'

export class Tally {
  /** One entry for each voting replica: what its acks attest, and what it has on disk. */
  readonly attested: Lsn[] = []
  readonly durable: Lsn[] = []
  /** Voting replicas that have caught up. */
  inStep = 0
  /** Replicas that take one; nobody waits for a view. */
  snapshots = 0
  /** Up to where the replicas in step that an asynchronous master waits for attest; undefined where there are none. */
  forcedLsn: Lsn | undefined

  count(replicas: Iterable<Progress>, settings: ServeSettings): void {
    const { attest, mode } = settings
    this.attested.length = 0
    this.durable.length = 0
    this.inStep = 0
    this.snapshots = 0
    this.forcedLsn = undefined
    for (const progress of replicas) {
      if (progress.snapshot !== undefined && !progress.join.view) this.snapshots++
      if (!progress.votes) continue
      const lsn = progress.attested(attest)
      this.attested.push(lsn)
      this.durable.push(progress.durableLsn)
      if (!progress.inStep) continue
      this.inStep++
      if (mode !== 'async' || !progress.join.forceSync) continue
      if (this.forcedLsn === undefined || lsn < this.forcedLsn) this.forcedLsn = lsn
    }
  }
}
