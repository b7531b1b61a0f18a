// What a replica checks for itself before it does what its master says. A master that follows the rules never gives
// cause; one that does not must not be able to make a replica lose what is permanent. Pure.

import type { RecordBatch } from '../base/batch.ts'
import type { ErrorCode } from '../base/errors.ts'
import { agreedLsn, type HistoryEntry } from '../base/history.ts'
import type { Term } from '../base/lsn.ts'
import { type CoreState, samePlace } from './core-state.ts'
import type { Accept, Append, Route } from './messages.ts'
import { shareBeginning } from './sync-up.ts'

/** Why this site must not do what the master plans. */
export function acceptProblem(
  accept: Accept,
  options: { state: CoreState; replace: boolean },
): { code: ErrorCode; message: string } | undefined {
  const { state, replace } = options
  const { plan, last, route } = accept
  const loop = route === undefined ? undefined : loopProblem(route, state.site)
  if (loop !== undefined) return loop
  if (accept.databaseId !== state.databaseId) {
    if (plan === 'snapshot' && (replace || state.databaseId === undefined)) return undefined
    return { code: 'FOREIGN_HISTORY', message: `the master serves database ${accept.databaseId}` }
  }
  const { termMaster } = state
  if (accept.term === state.term && termMaster !== undefined && termMaster !== accept.site) {
    return { code: 'DUPLICATE_MASTER', message: `site ${termMaster} is master of term ${state.term} too` }
  }
  if (plan === 'snapshot' && replace) return undefined
  const ours = { history: state.history, lastLsn: state.last.lsn }
  const agreed = agreedLsn(ours, { history: accept.history, lastLsn: last.lsn })
  if (agreed !== accept.agreedLsn || (agreed === 0 && !shareBeginning(accept, state))) {
    return {
      code: 'HANDSHAKE_FAILED',
      message: `the logs agree up to LSN ${agreed}, not ${accept.agreedLsn}`,
    }
  }
  if (agreed < state.permanentLsn) {
    const message = `the logs agree up to LSN ${agreed}, but LSN ${state.permanentLsn} is permanent here`
    return { code: 'REWIND_REFUSED', message }
  }
  if (plan === 'rewind' && agreed < state.firstLsn - 1) {
    return { code: 'LOG_TRIMMED', message: `the log here was trimmed beyond LSN ${agreed} meanwhile` }
  }
  return planProblem(accept, state)
}

/** A log that comes through this very site leads to no master. */
export function loopProblem(
  { via }: Route,
  site: string,
): { readonly code: 'ATTACH_LOOP'; readonly message: string } | undefined {
  if (!via.includes(site)) return undefined
  return { code: 'ATTACH_LOOP', message: `the log would come back to this site: ${via.join(' > ')}` }
}

/** Whether the plan is what the agreed record asks for. */
function planProblem(accept: Accept, state: CoreState): { code: ErrorCode; message: string } | undefined {
  const { plan, last, agreedLsn: agreed } = accept
  if (plan === 'snapshot') return undefined
  const fits =
    plan === 'rewind'
      ? agreed < state.last.lsn
      : agreed === state.last.lsn && (plan === 'equal') === (agreed === last.lsn)
  if (!fits) return { code: 'HANDSHAKE_FAILED', message: `plan ${plan} does not fit` }
  if (plan === 'equal' && !samePlace(state.last, last)) {
    return { code: 'FOREIGN_HISTORY', message: `the two logs differ at LSN ${agreed}` }
  }
  return undefined
}

/** Why a batch that verifies must not be taken all the same. */
export function batchProblem(
  batch: RecordBatch,
  options: { reigns: readonly HistoryEntry[]; message: Append; term: Term },
): string | undefined {
  const { reigns, message, term } = options
  if (batch.lastLsn !== message.lastLsn) return 'the records are not those that the message announces'
  if (batch.last.term > term) return 'a record is of a term that has not begun'
  let previous = batch.previous.term
  for (const reign of reigns) {
    if (reign.term <= previous) return 'terms do not grow'
    previous = reign.term
  }
  return previous === batch.last.term ? undefined : 'a term began without a record of it'
}
