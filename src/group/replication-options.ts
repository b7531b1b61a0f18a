// The options of `db.replication()` (Berkeley DB's Base API), their checks, and what they mean for the core.

import {
  checkOptions,
  invalidOption,
  type OptionRule,
  type OptionRules,
  objectOf,
  oneOf,
  truth,
  wholeNumber,
} from '../base/options.ts'
import type { AckPolicy, Attest, Durability } from '../base/policy.ts'
import { commitRules } from '../database/named-store.ts'
import { checkSiteId } from '../database/site-id.ts'
import type {
  ServeOptions as CoreServeOptions,
  FollowOptions,
  LeaseTerms,
} from '../replication/core-options.ts'
import { messageLimits } from '../replication/message-limits.ts'
import { defaultTimings, type Timings } from '../replication/timings.ts'
import type { AppSend } from './app-network.ts'
import { type LeaseOptions, leaseRule, leaseTerms } from './lease-options.ts'
import { type ViewOption, viewRule } from './views.ts'

/** What can be changed at run time. Times are milliseconds. */
export interface ReplicationSettings {
  /** Sites that vote, this one included and views not; elections and `acks: 'quorum'` count them. Default: not known. */
  readonly sites?: number
  /** Of sites that have equally much the one of the highest is elected; 0 never is. Default 100. */
  readonly priority?: number
  /** Which replicas must attest a commit before it resolves. Default `quorum`. */
  readonly acks?: AckPolicy
  /** What an ack attests. Default `durable`. */
  readonly attest?: Attest
  /** How long a commit waits for acks before OUTCOME_UNKNOWN. Default 10,000. */
  readonly ackTimeoutMs?: number
  /** How often a master speaks when it has nothing to say. Default 500. */
  readonly heartbeatMs?: number
  /** Without word from it for so long a master counts as gone; each phase of an election may take so long. Default 2,000. */
  readonly electionTimeoutMs?: number
  /** A site of which nothing is heard for so long is forgotten. Default 10,000. */
  readonly silenceTimeoutMs?: number
  /** Waits before what is missing is asked for, and asked for again. Default 40 to 1,280, doubling. */
  readonly rerequest?: { readonly minMs: number; readonly maxMs: number }
  /** Records sent to one site and not yet acknowledged by it; it asks for more when it has taken them. Default 8 MiB. */
  readonly limitBytes?: number
  /** False: each record is sent as a message of its own, instead of all that there are at the moment. Default true. */
  readonly bulk?: boolean
  /** A new master is not followed before `sync()`. Default false. */
  readonly delaySync?: boolean
  /** False: what the master's log does not have any more is not loaded; SNAPSHOT_REFUSED. Default true. */
  readonly autoInit?: boolean
  /** False: a tail that the master does not have is kept, and nobody followed; REWIND_REFUSED. Default true. */
  readonly autoRewind?: boolean
}

export interface ReplicationOptions extends ReplicationSettings {
  /** The durable id of this site: that of the database, or the one that a database without a record takes now. */
  readonly site: string | number
  /** The application's network. */
  readonly send: AppSend
  /**
   * Reads that are the newest without asking a majority each time. Needs `sites`; and then only who was elected, by more
   * than half of them, may reign. Default: none.
   */
  readonly leases?: LeaseOptions
  /**
   * Makes this site a view, for ever: it never votes, is never elected, never counted. `true`: with every store;
   * `{ filter(store) }`: with those only that the filter answers true for. Default: a participant, or what the database
   * is already. A partial view is given its filter each time. See docs/views.md.
   */
  readonly view?: ViewOption
}

const settingRules: OptionRules = {
  sites: wholeNumber(1, 1000),
  priority: wholeNumber(0, 1_000_000),
  acks: commitRules.acks as OptionRules[string],
  attest: oneOf('received', 'durable', 'applied'),
  ackTimeoutMs: wholeNumber(1),
  heartbeatMs: wholeNumber(5, 3_600_000),
  electionTimeoutMs: wholeNumber(20, 3_600_000),
  silenceTimeoutMs: wholeNumber(20, 86_400_000),
  rerequest: objectOf({ minMs: wholeNumber(1, 3_600_000), maxMs: wholeNumber(1, 3_600_000) }),
  limitBytes: wholeNumber(1024),
  bulk: truth,
  delaySync: truth,
  autoInit: truth,
  autoRewind: truth,
}

const siteName: OptionRule = (value) =>
  typeof value === 'string' || Number.isSafeInteger(value) ? undefined : 'text or a whole number'
const aFunction: OptionRule = (value) => (typeof value === 'function' ? undefined : 'a function')

const replicationRules: OptionRules = {
  ...settingRules,
  site: siteName,
  send: aFunction,
  view: viewRule,
  leases: leaseRule,
}

/** OPTION_UNKNOWN, OPTION_INVALID. */
export function checkReplication(options: ReplicationOptions): void {
  checkOptions('replication', options, replicationRules)
  if (options.send === undefined)
    throw invalidOption('send', "replication needs 'send', the application's network")
  if (options.site === undefined) throw invalidOption('site', "replication needs 'site', the id of this site")
  checkSiteId(String(options.site))
  checkRerequest(options)
  leasesOf(options)
}

/** What the core is told; undefined without leases. */
export function leasesOf(options: ReplicationOptions): LeaseTerms | undefined {
  const { leases, electionTimeoutMs = electionTimeoutMsDefault, sites } = options
  if (leases === undefined) return undefined
  if (sites === undefined) throw invalidOption('leases', "'leases' need 'sites': how many sites vote")
  const { heartbeatMs = defaultTimings.heartbeatMs } = options
  return leaseTerms(leases, { electionTimeoutMs, heartbeatMs })
}

export function checkSettings(change: Partial<ReplicationSettings>): void {
  checkOptions('configure', change, settingRules)
  checkRerequest(change)
}

function checkRerequest({ rerequest }: ReplicationSettings): void {
  if (rerequest === undefined) return
  const { minMs, maxMs } = rerequest
  if (minMs === undefined || maxMs === undefined || maxMs < minMs) {
    throw invalidOption('rerequest', "'rerequest' must be { minMs, maxMs }, and 'maxMs' not below 'minMs'")
  }
}

export interface ElectOptions {
  /** Sites that vote. Default: `sites` of the options. */
  readonly sites?: number
  /** Votes that it takes. Default: more than half of `sites`; fewer may elect two masters. */
  readonly votes?: number
  /** Stops waiting. */
  readonly signal?: AbortSignal
}

export const electRules: OptionRules = {
  sites: wholeNumber(1, 1000),
  votes: wholeNumber(1, 1000),
  signal: (value) => (value instanceof AbortSignal ? undefined : 'an AbortSignal'),
}

/** OPTION_INVALID. */
export function votesNeeded(options: ElectOptions, known: number | undefined): number {
  checkOptions('elect', options, electRules)
  const sites = options.sites ?? known
  if (sites === undefined) {
    throw invalidOption(
      'sites',
      "elect needs 'sites', here or as an option of replication: how many sites vote",
    )
  }
  const { votes = Math.floor(sites / 2) + 1 } = options
  if (votes > sites) throw invalidOption('votes', `${votes} votes cannot come from ${sites} sites`)
  return votes
}

export interface StartOptions {
  /** What the others are told of this site: the `data` of `newSite` there. Up to 1,024 bytes. */
  readonly data?: Uint8Array
}

export const startRules: OptionRules = {
  data: (value) =>
    value instanceof Uint8Array && value.length <= messageLimits.siteDataBytesMax
      ? undefined
      : `bytes (a Uint8Array), at most ${messageLimits.siteDataBytesMax}`,
}

export const roleRule: (value: unknown) => string | undefined = oneOf('master', 'replica')

const electionTimeoutMsDefault = 2000

export function timingsOf(settings: ReplicationSettings): Partial<Timings> & { electionTimeoutMs: number } {
  const { ackTimeoutMs, heartbeatMs, silenceTimeoutMs, rerequest, limitBytes } = settings
  return {
    electionTimeoutMs: settings.electionTimeoutMs ?? electionTimeoutMsDefault,
    ...(ackTimeoutMs === undefined ? {} : { ackTimeoutMs }),
    ...(heartbeatMs === undefined ? {} : { heartbeatMs }),
    ...(silenceTimeoutMs === undefined ? {} : { silenceTimeoutMs }),
    ...(rerequest === undefined ? {} : { retryMinMs: rerequest.minMs, retryMaxMs: rerequest.maxMs }),
    ...(limitBytes === undefined ? {} : { inflightBytesMax: limitBytes }),
  }
}

/** How this site serves when it is master. */
export function serveOptionsOf(
  settings: ReplicationSettings,
  facts: { readonly address: string; readonly durability: Durability },
): CoreServeOptions {
  const { sites, acks, attest, bulk } = settings
  return {
    ...facts,
    timings: timingsOf(settings),
    ...(sites === undefined ? {} : { sites }),
    ...(acks === undefined ? {} : { acks }),
    ...(attest === undefined ? {} : { attest }),
    ...(bulk === undefined ? {} : { bulk }),
  }
}

/** How this site follows when it is replica. */
export function followOptionsOf(settings: ReplicationSettings): FollowOptions {
  const { autoInit, autoRewind } = settings
  return {
    timings: timingsOf(settings),
    anywhere: true,
    ...(autoInit === undefined ? {} : { autoInit }),
    ...(autoRewind === undefined ? {} : { autoRewind }),
  }
}
