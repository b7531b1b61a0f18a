// What it means that a replica follows its master no more: whether the attachment begins again by itself, and where; and
// if it does not, which reason the program is told. Rules alone; attachment.ts acts on them.

import { CoterieError, type ErrorCode } from '../base/errors.ts'
import type { Effect } from '../replication/effects.ts'
import type { StopResult } from './events.ts'

export type Stopped = Extract<Effect, { kind: 'stopped' }>

/** How the program itself ends an attachment. */
export type Leaving = 'stop' | 'cancel' | 'promote'

/** `moved` to another master, or the same one has become another; or to hear what became of a `takeOver`. */
export type ReattachReason = 'moved' | 'takeOver'

/** `address`: another master than before. `retry`: it was attaching again already, and has not reached the end of that. */
export type NextAttach =
  | { readonly how: ReattachReason; readonly address: string | undefined }
  | { readonly how: 'retry'; readonly address: string | undefined; readonly cause: CoterieError }

/** Refusals that may be over in a moment: who is asked is not ready yet, or holds a dead attachment. */
const passing: ReadonlySet<ErrorCode> = new Set([
  'NOT_MASTER',
  'DUPLICATE_SITE',
  'RELAY_BEHIND',
  'RELAY_CHANGED',
  'HANDSHAKE_FAILED',
  'CONNECT_TIMEOUT',
  'CONNECTION_CLOSED',
])

/** Those that say that there was no master to talk to, or that it has gone. */
const lost: ReadonlySet<ErrorCode> = new Set(['CONNECT_FAILED', 'CONNECT_TIMEOUT', 'CONNECTION_CLOSED'])

/** How an attachment goes on by itself; undefined: it has ended. */
export function nextAttach(
  { reason, code, message, master }: Stopped,
  now: {
    readonly address: string
    readonly isReattaching: boolean
    readonly isTakeOverAsked: boolean
  },
): NextAttach | undefined {
  const address = master === undefined || master === '' || master === now.address ? undefined : master
  if (now.isReattaching) {
    if (code === undefined || !passing.has(code)) return undefined
    return { how: 'retry', address, cause: new CoterieError(code, message) }
  }
  if (code === 'RELAY_CHANGED' && reason === 'detached-by-master') return { how: 'moved', address: undefined }
  const hasMoved = reason === 'replaced' || code === 'NOT_MASTER'
  if (hasMoved && address !== undefined && reason !== 'handshake-refused') return { how: 'moved', address }
  const isInDoubt = reason === 'connection-lost' || reason === 'cancelled' || code === 'NOT_MASTER'
  return now.isTakeOverAsked && isInDoubt ? { how: 'takeOver', address: undefined } : undefined
}

const reasonOfLeaving: Readonly<Record<Leaving, StopResult['reason']>> = {
  cancel: 'cancelled',
  stop: 'stopped',
  promote: 'became-master',
}

/** What `stopped` says. `left`: the program wanted it so; `early`: before a master was followed. */
export function stopCause(
  reason: StopResult['reason'],
  how: {
    readonly cause: CoterieError | undefined
    readonly left: Leaving | undefined
    readonly early: boolean
  },
): Pick<StopResult, 'reason' | 'cause'> {
  const { cause, left, early } = how
  const told = left === undefined ? reason : reasonOfLeaving[left]
  const wasNeverReached = early && left === undefined && cause !== undefined && lost.has(cause.code)
  return {
    reason: wasNeverReached ? 'connection-lost' : told,
    ...(cause === undefined || (left !== undefined && told !== reason) ? {} : { cause }),
  }
}
