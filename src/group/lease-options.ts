// Master leases as an option of a group (`db.join`) and of the Base API: Berkeley DB's DB_REP_CONF_LEASE,
// DB_REP_LEASE_TIMEOUT and rep_set_clockskew in one.

import { CoterieError } from '../base/errors.ts'
import { type OptionRule, objectOf, wholeNumber } from '../base/options.ts'
import type { LeaseTerms } from '../replication/core-options.ts'

/**
 * While its lease holds a master answers `consistency: 'linearizable'` reads, and transactions that only read, without
 * asking anybody. In exchange nobody is elected before the leases that were granted to the last master have run out.
 * To be the same on all sites; where it is not, the shortest holds.
 */
export interface LeaseOptions {
  /** How long a lease lasts without a new heartbeat. Default: the `electionTimeoutMs`; at least two `heartbeatMs`. */
  readonly durationMs?: number
  /** How much faster the clock of one site may run than that of another. Default 1.02, which is 2 %; 1 to 10. */
  readonly clockSkew?: number
}

const clockSkew: OptionRule = (value) =>
  typeof value === 'number' && value >= 1 && value <= 10 ? undefined : 'a number from 1 to 10'

export const leaseRule: OptionRule = objectOf({ durationMs: wholeNumber(20, 3_600_000), clockSkew })

const clockSkewDefault = 1.02

/** What the core is told; undefined without leases. OPTION_INVALID where they do not fit the other times. */
export function leaseTerms(
  leases: LeaseOptions | undefined,
  times: { readonly electionTimeoutMs: number; readonly heartbeatMs: number },
): LeaseTerms | undefined {
  if (leases === undefined) return undefined
  const { durationMs = times.electionTimeoutMs, clockSkew = clockSkewDefault } = leases
  if (durationMs < 2 * times.heartbeatMs) {
    const message = `'leases' last at least two heartbeats: 'durationMs' must be at least ${2 * times.heartbeatMs}`
    throw new CoterieError('OPTION_INVALID', message, { details: { option: 'leases' } })
  }
  return { durationMs, clockSkew }
}
