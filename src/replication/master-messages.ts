// What whoever serves tells a replica besides records and snapshots: that it is accepted, where the log stands, that it must
// go. Each from the state of the moment, so that the newest positions and settings are told.

import { assert } from '../base/assert.ts'
import type { ErrorCode } from '../base/errors.ts'
import type { PeerId, ServeSettings } from './core-options.ts'
import type { CoreState } from './core-state.ts'
import type { Progress } from './progress.ts'
import type { Served } from './served.ts'

/** `sites`: those that vote, where it is known how many they are. */
export function sendAccept(
  state: CoreState,
  progress: Progress,
  options: { readonly served: Served; readonly settings: ServeSettings; readonly sites: number | undefined },
): void {
  const { databaseId, term } = state
  const { last, history, committedLsn, permanentLsn, timings, route } = options.served
  assert(databaseId !== undefined, 'a master has a database')
  const { attest, window } = options.settings
  const { heartbeatMs, silenceTimeoutMs } = timings
  const { session, agreedLsn } = progress
  // The answer to a repeated Join may find the log longer than the first one did.
  const plan = progress.plan === 'equal' && last.lsn > agreedLsn ? 'stream' : progress.plan
  state.send(progress.peer, {
    type: 'accept',
    session,
    term,
    databaseId,
    site: route === undefined ? state.site : route.site,
    plan,
    agreedLsn,
    history,
    last,
    committedLsn,
    permanentLsn,
    attest,
    window,
    heartbeatMs,
    silenceTimeoutMs,
    sites: options.sites ?? 0,
    route,
  })
}

/** `stamp`: the replica is to acknowledge at once, and to return it. */
export function sendHeartbeat(
  state: CoreState,
  progress: Progress,
  options: { readonly served: Served; readonly settings: ServeSettings; readonly stamp: number | undefined },
): void {
  const { term } = state
  const { served, settings, stamp } = options
  const { last, committedLsn, permanentLsn, route } = served
  const { attest, window } = settings
  state.counters.heartbeats++
  progress.toldLsn = committedLsn
  state.send(progress.peer, {
    type: 'heartbeat',
    session: progress.session,
    term,
    last,
    sentLsn: progress.sentLsn,
    committedLsn,
    permanentLsn,
    stamp: stamp ?? 0,
    attest,
    window,
    ackNow: stamp !== undefined,
    route,
  })
}

/** `master`: where the next one is, if known. */
export function sendDetach(
  state: CoreState,
  to: PeerId,
  why: {
    readonly session: number
    readonly code: ErrorCode
    readonly message: string
    readonly master?: string
  },
): void {
  const { session, code, message, master = '' } = why
  state.send(to, { type: 'detach', session, term: state.term, fromMaster: true, code, message, master })
}
