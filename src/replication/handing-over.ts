// A master that hands over: writes wait until one replica has everything on its disk and everything is committed; then
// the master gives up its reign, for good, before the replica may take the next one. docs/protocol.md, "Hand-over".
//
// Invariant: the term that is given away is on this disk, as the other site's, before it is told. So there is no
// moment at which both could write, and none at which an acknowledged record is not with whoever writes next. Until
// that point everything can be called off, and the master goes on as if nothing had been asked.

import type { ErrorCode } from '../base/errors.ts'
import type { Progress } from './progress.ts'
import type { Timings } from './timings.ts'

/** A hand-over that has been asked for. */
export interface HandingOver {
  readonly site: string
  /** Where the site can be reached, if it said. */
  readonly address: string
  readonly deadline: number
}

export interface HandOverProblem {
  readonly code: ErrorCode
  readonly message: string
}

/** Why it must be called off; undefined while there is hope. */
export function handOverProblem(
  handing: HandingOver,
  facts: { readonly progress: Progress | undefined; readonly now: number; readonly timings: Timings },
): HandOverProblem | undefined {
  const { progress, now, timings } = facts
  if (progress === undefined) {
    return { code: 'TRANSFER_FAILED', message: `site ${handing.site} is not attached any more` }
  }
  const silentMs = now - progress.heardAt
  if (silentMs > Math.max(timings.electionTimeoutMs, 2 * timings.heartbeatMs)) {
    return {
      code: 'TRANSFER_FAILED',
      message: `nothing was heard of site ${handing.site} for ${silentMs} ms`,
    }
  }
  if (now >= handing.deadline) {
    return { code: 'TRANSFER_FAILED', message: `site ${handing.site} did not catch up in time` }
  }
  return undefined
}

/** The other site has all there is on its disk, and all there is has been committed. */
export function isHandOverReady(
  progress: Progress,
  positions: { readonly lastLsn: number; readonly durableLsn: number; readonly committedLsn: number },
): boolean {
  const { lastLsn, durableLsn, committedLsn } = positions
  return (
    progress.state === 'live' &&
    progress.durableLsn === lastLsn &&
    durableLsn === lastLsn &&
    committedLsn === lastLsn
  )
}
