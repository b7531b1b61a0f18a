// What time does to an attached replica: whether it is still waited for, asked again, or let go.
// docs/protocol.md, section "Timeouts".

import type { ErrorCode } from '../base/errors.ts'
import { dependsOnAttached } from './acks.ts'
import type { ServeSettings } from './core-options.ts'
import type { Progress } from './progress.ts'
import type { Served } from './served.ts'
import { backOff, startRetry } from './timings.ts'

interface Facts {
  readonly now: number
  readonly served: Served
  readonly settings: ServeSettings
  /** How many sites vote does not depend on who is attached. */
  readonly sitesFixed: boolean
  /** Two sites, of which one alone is enough while the other one is away. */
  readonly goesOnAlone: boolean
}

/** Why this replica must go, if it must. */
export function overdue(
  progress: Progress,
  facts: Facts,
): { readonly code: ErrorCode; readonly message: string } | undefined {
  const { now, served, settings } = facts
  const { timings, last } = served
  if (now - progress.heardAt > timings.silenceTimeoutMs) {
    return { code: 'SILENCE_TIMEOUT', message: `nothing was heard for ${timings.silenceTimeoutMs} ms` }
  }
  if (progress.snapshot !== undefined) {
    if (!progress.snapshot.tick()) return undefined
    return { code: 'SNAPSHOT_FAILED', message: 'the replica stores no rows' }
  }
  if (progress.attested(settings.attest) >= last.lsn) {
    progress.waitingSince = now
    return undefined
  }
  const waitedMs = now - progress.waitingSince
  if (waitedMs > timings.ackTimeoutMs && progress.inStep && isWaitedFor(progress, facts)) {
    return { code: 'ACK_TIMEOUT', message: `nothing new was acknowledged for ${timings.ackTimeoutMs} ms` }
  }
  if (waitedMs > timings.stuckTimeoutMs) {
    return { code: 'ACK_TIMEOUT', message: `no record was taken for ${timings.stuckTimeoutMs} ms` }
  }
  return undefined
}

/** Whether commits wait for this replica, and would go on without it. */
function isWaitedFor(progress: Progress, { settings, sitesFixed, goesOnAlone }: Facts): boolean {
  const { mode, acks } = settings
  if (!progress.votes) return false
  return mode === 'async' ? progress.join.forceSync : dependsOnAttached(acks, sitesFixed, goesOnAlone)
}

/** Records wait for an ack: it, or they, may be lost. Asked again after a wait that doubles. */
export function mustProbe(progress: Progress, facts: Omit<Facts, 'sitesFixed' | 'goesOnAlone'>): boolean {
  const { now, served, settings } = facts
  const { timings, last } = served
  if (progress.state !== 'live' && progress.state !== 'catchUp') return false
  if (progress.attested(settings.attest) >= last.lsn) {
    progress.probe = startRetry(timings, now)
    return false
  }
  if (now < progress.probe.dueAt) return false
  backOff(progress.probe, timings, now)
  return true
}
