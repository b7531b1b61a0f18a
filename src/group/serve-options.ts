// The options of `serve`, their checks, and what they mean for the core.
//
// A replica that serves in its turn takes those that say how others are let in and brought up to date. What only a master
// decides - when a commit counts, when a write is taken, who may take over - is refused by name.

import {
  abortSignal,
  checkOptions,
  eitherOf,
  invalidOption,
  listOf,
  type OptionRules,
  oneOf,
  text,
  truth,
  wholeNumber,
} from '../base/options.ts'
import type { AckPolicy, Attest } from '../base/policy.ts'
import { commitRules } from '../database/named-store.ts'
import type { ServeOptions as CoreServeOptions, RelayOptions } from '../replication/core-options.ts'
import { defaultTimings } from '../replication/timings.ts'
import { type LinkOptions, linkRules } from '../transport/link-options.ts'

export interface ServeOptions extends LinkOptions {
  /** Where to listen: `tcp://host:port` or `host:port`; port 0 takes a free one. Several at once are fine. */
  readonly listen: string | readonly string[]
  /**
   * Whether this site stays the replica that it is, and passes on what it gets; `true` never promotes it, `false` never
   * serves in its turn. Default: what it is at the moment, attached or not.
   */
  readonly inTurn?: boolean
  /** Sites of the group, this one included. Default: this one and the replicas attached now. */
  readonly sites?: number
  /** Which replicas must attest a commit before it resolves. Default `quorum`. */
  readonly acks?: AckPolicy
  /** What an ack attests. Default `durable`. */
  readonly attest?: Attest
  /** The gate: with fewer attached replicas than this, writes are refused with NO_QUORUM. Default 0. */
  readonly quorum?: number
  /** More are refused with TOO_MANY_REPLICAS. Default 64. */
  readonly maxReplicas?: number
  /** `async`: commits do not wait for replicas, which may lag by `maxLagBytes`. Default `sync`. */
  readonly mode?: 'sync' | 'async'
  /** Default 16 MiB. */
  readonly maxLagBytes?: number
  /** What happens to a write when a replica lags more: it waits, the replica goes, the write is refused. */
  readonly onFull?: 'wait' | 'detach' | 'reject'
  /** One ack serves so many transactions; a commit may resolve while that many less one lack theirs. Default 1. */
  readonly window?: number
  /** How long a commit waits for acks before OUTCOME_UNKNOWN. Default 10,000. */
  readonly ackTimeoutMs?: number
  /** How long a replica may take to attach, or its snapshot to make progress. Default 60,000. */
  readonly initialTimeoutMs?: number
  /** A replica that is heard but takes nothing is detached after so long. Default 60,000. */
  readonly sendTimeoutMs?: number
  /** How long `stop` waits for commits under way. Default 10,000. */
  readonly detachTimeoutMs?: number
  /** A replica of which nothing is heard for so long is detached. Default 10,000. */
  readonly silenceTimeoutMs?: number
  /** How often the master speaks when it has nothing to say. Default 500, or a quarter of `silenceTimeoutMs` if less. */
  readonly heartbeatMs?: number
  /** `blocking`: writes wait while a replica takes its snapshot. Default `live`. */
  readonly initialSync?: 'live' | 'blocking'
  /** Rows in one chunk of a snapshot. Default 100. */
  readonly chunkRecords?: number
  /** Bytes in one chunk of a snapshot. Default 100 KiB. */
  readonly chunkBytes?: number
  /** Pause between chunks, to spare a link. Default 0. */
  readonly chunkDelayMs?: number
  /** Whether a replica that asks for it becomes master in this one's place. Default true. */
  readonly allowTakeOver?: boolean
  /** How long writes may wait for a hand-over before it is given up. Default 5,000. */
  readonly handOverTimeoutMs?: number
  /** Stops serving when it aborts. */
  readonly signal?: AbortSignal
}

export const serveRules: OptionRules = {
  ...linkRules,
  listen: eitherOf(text, listOf(text)),
  inTurn: truth,
  sites: wholeNumber(1, 1000),
  acks: commitRules.acks as OptionRules[string],
  attest: oneOf('received', 'durable', 'applied'),
  quorum: wholeNumber(0, 1000),
  maxReplicas: wholeNumber(0, 10_000),
  mode: oneOf('sync', 'async'),
  maxLagBytes: wholeNumber(1),
  onFull: oneOf('wait', 'detach', 'reject'),
  window: wholeNumber(1, 1_000_000),
  ackTimeoutMs: wholeNumber(1),
  initialTimeoutMs: wholeNumber(1),
  sendTimeoutMs: wholeNumber(1),
  detachTimeoutMs: wholeNumber(1),
  silenceTimeoutMs: wholeNumber(10),
  heartbeatMs: wholeNumber(5),
  initialSync: oneOf('live', 'blocking'),
  chunkRecords: wholeNumber(1, 100_000),
  chunkBytes: wholeNumber(1024, 16 * 1024 * 1024),
  chunkDelayMs: wholeNumber(0, 60_000),
  allowTakeOver: truth,
  handOverTimeoutMs: wholeNumber(1),
  signal: abortSignal,
}

/** OPTION_UNKNOWN, OPTION_INVALID. */
export function checkServe(options: ServeOptions): void {
  checkOptions('serve', options, serveRules)
  if (options.listen === undefined) throw invalidOption('listen', "serve needs 'listen': where to listen")
  checkTimes(options)
}

/** OPTION_INVALID where a replica would be given up between two heartbeats. */
export function checkTimes(options: Partial<ServeOptions>): void {
  const { heartbeatMs, silenceTimeoutMs = defaultTimings.silenceTimeoutMs } = options
  if (heartbeatMs === undefined || heartbeatMs * 2 <= silenceTimeoutMs) return
  throw invalidOption(
    'heartbeatMs',
    `'heartbeatMs' must be at most half of 'silenceTimeoutMs' (${silenceTimeoutMs})`,
  )
}

/** By default a replica is heard several times within the silence timeout. */
function heartbeatOf({ heartbeatMs, silenceTimeoutMs }: Partial<ServeOptions>): number | undefined {
  if (heartbeatMs !== undefined || silenceTimeoutMs === undefined) return heartbeatMs
  return Math.min(defaultTimings.heartbeatMs, Math.max(5, Math.floor(silenceTimeoutMs / 4)))
}

/** What `serve` means for the core. */
export function coreOptions(serve: Partial<ServeOptions>, address: string | undefined): CoreServeOptions {
  const { listen, inTurn, signal, detachTimeoutMs, ackTimeoutMs, initialTimeoutMs, sendTimeoutMs, ...rest } =
    serve
  const { silenceTimeoutMs, heartbeatMs: _given, allowTakeOver, handOverTimeoutMs, ...more } = rest
  const heartbeatMs = heartbeatOf(serve)
  const { tls, secret, key, insecure, multicast, compression, ...core } = more
  const timings = {
    ...(ackTimeoutMs === undefined ? {} : { ackTimeoutMs }),
    ...(initialTimeoutMs === undefined ? {} : { initialTimeoutMs, snapshotTimeoutMs: initialTimeoutMs }),
    ...(sendTimeoutMs === undefined ? {} : { stuckTimeoutMs: sendTimeoutMs }),
    ...(silenceTimeoutMs === undefined ? {} : { silenceTimeoutMs }),
    ...(heartbeatMs === undefined ? {} : { heartbeatMs }),
    ...(handOverTimeoutMs === undefined ? {} : { handOverTimeoutMs }),
  }
  return { ...core, timings, ...(address === undefined ? {} : { address }) }
}

const ofMasters: readonly (keyof ServeOptions)[] = [
  'sites',
  'acks',
  'attest',
  'quorum',
  'mode',
  'maxLagBytes',
  'onFull',
  'window',
  'ackTimeoutMs',
  'detachTimeoutMs',
  'initialSync',
  'allowTakeOver',
  'handOverTimeoutMs',
]

/** OPTION_INVALID for one that makes no sense on a replica. */
export function checkInTurn(serve: ServeOptions): void {
  const option = ofMasters.find((name) => serve[name] !== undefined)
  if (option === undefined) return
  const message = `'${option}' is for the master to say: this site is a replica, and serves in its turn`
  throw invalidOption(option, message)
}

/** What they mean for the core. */
export function inTurnOptions(serve: ServeOptions): Omit<RelayOptions, 'end' | 'master'> {
  const { timings, maxReplicas, chunkRecords, chunkBytes, chunkDelayMs } = coreOptions(serve, undefined)
  return {
    ...(timings === undefined ? {} : { timings }),
    ...(maxReplicas === undefined ? {} : { maxReplicas }),
    ...(chunkRecords === undefined ? {} : { chunkRecords }),
    ...(chunkBytes === undefined ? {} : { chunkBytes }),
    ...(chunkDelayMs === undefined ? {} : { chunkDelayMs }),
  }
}
