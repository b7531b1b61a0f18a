// A replica as the status shows it.

import type { Lsn } from '../base/lsn.ts'
import type { Attest } from '../base/policy.ts'
import type { ReplicaView } from './core-options.ts'
import type { LagMeter } from './lag-meter.ts'
import type { Progress } from './progress.ts'

export function replicaView(
  progress: Progress,
  options: { now: number; lastLsn: Lsn; lag: LagMeter; attest: Attest },
): ReplicaView {
  const { now, lastLsn, lag, attest } = options
  const { snapshot, join } = progress
  const lsn = progress.attested(attest)
  return {
    site: progress.site,
    peer: progress.peer,
    state: progress.state,
    inStep: progress.inStep,
    view: join.view,
    forceSync: join.forceSync,
    votes: progress.votes,
    member: join.member ? { address: join.address, incarnation: join.incarnation } : undefined,
    receivedLsn: progress.receivedLsn,
    durableLsn: progress.durableLsn,
    appliedLsn: progress.appliedLsn,
    lagRecords: Math.max(0, lastLsn - lsn),
    lagBytes: lag.bytesAfter(lsn),
    lagMs: lag.msAfter(lsn, now),
    roundTripMs: progress.roundTripMs,
    attachedAt: progress.attachedAt,
    heardAt: progress.heardAt,
    bytesOut: progress.bytesOut,
    recordsOut: progress.recordsOut,
    snapshot:
      snapshot === undefined
        ? undefined
        : { rows: snapshot.rows, bytes: snapshot.bytes, rowsEstimate: snapshot.rowsEstimate },
  }
}
