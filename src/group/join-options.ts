// How a site joins its group: the options of `db.join`, their checks, and what they mean for the core.

import { isTwoSites, type TwoSites } from '../base/membership.ts'
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
import type { AckPolicy, Attest, Durability } from '../base/policy.ts'
import { commitRules } from '../database/named-store.ts'
import { checkSiteId } from '../database/site-id.ts'
import type { ServeOptions as CoreServeOptions, LeaseTerms } from '../replication/core-options.ts'
import { defaultTimings, type Timings } from '../replication/timings.ts'
import { type Address, parseAddress, schemesWithPorts } from '../transport/address.ts'
import { type LinkOptions, linkOptionsOf, linkRules } from '../transport/link-options.ts'
import { type LeaseOptions, leaseRule, leaseTerms } from './lease-options.ts'

export interface JoinOptions extends LinkOptions {
  /**
   * False: this site begins no election of its own accord; `group.elect()` holds one. It votes and can be elected all the
   * same, and as master does not step down where it loses the majority, but waits for it. Default true.
   */
  readonly elections?: boolean
  /**
   * What two sites do while one of them is away, for a group that this site founds; `group.setTwoSites` changes it.
   * `strict` (default): no master and no commits, as of a majority of more. `available`: the other one goes on alone;
   * where both did, what the earlier of the two masters committed meanwhile is undone, and kept in a file.
   * `{ preferredMaster }`: so, too, but that site is master whenever it can be, and what it has committed stays.
   */
  readonly twoSites?: TwoSites
  /** Where to listen: `tcp://host:port` or `host:port`; port 0 takes a free one. Several at once are fine. */
  readonly listen: string | readonly string[]
  /** Where the others reach this site. Default: the first of `listen`, with its real port. */
  readonly advertise?: string
  /** Sites to ask for the group; this site's own address may be among them. Default: none, this site founds one. */
  readonly seeds?: readonly string[]
  /**
   * `election` (default): joins the group of its seeds, or founds one with them. `master`: founds a group unless its
   * seeds have one. `replica`: never founds, is never elected.
   */
  readonly start?: 'election' | 'master' | 'replica'
  /** The site's durable id: that of the database, or the one that a database without a record takes now. */
  readonly site?: string
  /** Which members must attest a commit before it resolves. Default `quorum`. */
  readonly acks?: AckPolicy
  /** What an ack attests. Default `durable`. */
  readonly attest?: Attest
  /** One ack serves so many commits. Default 1. */
  readonly window?: number
  /** More are refused with TOO_MANY_REPLICAS. Default 64. */
  readonly maxReplicas?: number
  /** Of members that have equally much the one of the highest becomes master; 0 never does. Default 100. */
  readonly priority?: number
  /** How often a master speaks when it has nothing to say. Default 100. */
  readonly heartbeatMs?: number
  /** Without word from the master for so long an election begins; without a majority the master steps down. Default 300. */
  readonly electionTimeoutMs?: number
  /** Reads that are the newest without asking a majority each time. Default: none. */
  readonly leases?: LeaseOptions
  /** A site of which nothing is heard for so long is given up. Default 3,000. */
  readonly silenceTimeoutMs?: number
  /** How long a commit waits for its acks, and a replica may owe them. Default 10,000. */
  readonly ackTimeoutMs?: number
  /** How long a snapshot may make no progress. Default 60,000. */
  readonly initialTimeoutMs?: number
  /** A replica that is heard but takes nothing is detached after so long. Default 60,000. */
  readonly sendTimeoutMs?: number
  /** The longest pause between two tries to reach a site. Default 1,280. */
  readonly retryMaxMs?: number
  /** Sets local data of another history aside, where else the group is refused. Nothing is deleted. */
  readonly replace?: boolean
  /** Of the program, shown to the operators of the other sites. */
  readonly version?: string
  /** Leaves the group at once when it aborts. */
  readonly signal?: AbortSignal
}

const joinRules: OptionRules = {
  ...linkRules,
  listen: eitherOf(text, listOf(text)),
  advertise: text,
  seeds: (value) => (Array.isArray(value) && value.length === 0 ? undefined : listOf(text)(value)),
  start: oneOf('election', 'master', 'replica'),
  elections: truth,
  twoSites: (value) => (isTwoSites(value) ? undefined : twoSitesRule),
  site: text,
  acks: commitRules.acks as OptionRules[string],
  attest: oneOf('received', 'durable', 'applied'),
  window: wholeNumber(1, 1_000_000),
  maxReplicas: wholeNumber(0, 10_000),
  priority: wholeNumber(0, 1_000_000),
  heartbeatMs: wholeNumber(5, 60_000),
  electionTimeoutMs: wholeNumber(20, 600_000),
  leases: leaseRule,
  silenceTimeoutMs: wholeNumber(20, 3_600_000),
  ackTimeoutMs: wholeNumber(1),
  initialTimeoutMs: wholeNumber(1),
  sendTimeoutMs: wholeNumber(1),
  retryMaxMs: wholeNumber(40, 600_000),
  replace: truth,
  version: (value) =>
    typeof value === 'string' && value.length <= 100 ? undefined : 'text of at most 100 characters',
  signal: abortSignal,
}

/** The options with their defaults, checked. */
export interface JoinSettings {
  readonly site: string | undefined
  readonly listen: readonly Address[]
  readonly link: LinkOptions
  readonly advertise: Address | undefined
  readonly seeds: readonly string[]
  readonly start: 'election' | 'master' | 'replica'
  readonly priority: number
  readonly elections: boolean
  readonly twoSites: TwoSites
  readonly replace: boolean
  readonly version: string
  readonly ackTimeoutMs: number
  readonly timings: Pick<Timings, 'electionTimeoutMs' | 'silenceTimeoutMs' | 'retryMinMs' | 'retryMaxMs'> &
    Partial<Timings>
  readonly leases: LeaseTerms | undefined
  /** How this site serves when it is elected, but for its address. */
  readonly serve: Partial<CoreServeOptions>
  readonly signal: AbortSignal | undefined
}

/** OPTION_UNKNOWN, OPTION_INVALID, ADDRESS_INVALID. */
export function checkJoin(options: JoinOptions, facts: { durability: Durability }): JoinSettings {
  checkOptions('join', options, joinRules)
  if (options.listen === undefined) throw invalidOption('listen', "join needs 'listen': where to listen")
  if (options.site !== undefined) checkSiteId(options.site)
  const listen = (typeof options.listen === 'string' ? [options.listen] : options.listen).map(parseAddress)
  const advertise = options.advertise === undefined ? undefined : parseAddress(options.advertise)
  const first = listen[0] as Address
  if (advertise === undefined && wildcards.has(first.host)) {
    throw invalidOption(
      'advertise',
      `'listen' is ${first.text}, so 'advertise' must say where others reach this site`,
    )
  }
  if (advertise?.port === 0 && schemesWithPorts.has(advertise.scheme)) {
    throw invalidOption(
      'advertise',
      `'advertise' must say at which port others reach this site, not ${advertise.text}`,
    )
  }
  const start = options.start ?? 'election'
  return {
    site: options.site,
    listen,
    link: linkOptionsOf(options),
    advertise,
    seeds: [...new Set((options.seeds ?? []).map((seed) => parseAddress(seed).text))],
    start,
    priority: start === 'replica' ? 0 : (options.priority ?? 100),
    elections: options.elections !== false,
    twoSites: options.twoSites ?? 'strict',
    replace: options.replace === true,
    version: options.version ?? '',
    ackTimeoutMs: options.ackTimeoutMs ?? 10_000,
    timings: timingsOf(options),
    leases: leasesOf(options),
    serve: {
      elections: true,
      durability: facts.durability,
      acks: options.acks ?? 'quorum',
      attest: options.attest ?? 'durable',
      window: options.window ?? 1,
      maxReplicas: options.maxReplicas ?? 64,
    },
    signal: options.signal,
  }
}

/** What `twoSites` must be. */
export const twoSitesRule = "'strict', 'available' or { preferredMaster: site }"

const wildcards: ReadonlySet<string> = new Set(['0.0.0.0', '::'])

const heartbeatMsDefault = 100
const electionTimeoutMsDefault = 300

function timingsOf(options: JoinOptions): JoinSettings['timings'] {
  const { heartbeatMs = heartbeatMsDefault, electionTimeoutMs = electionTimeoutMsDefault } = options
  const { silenceTimeoutMs = Math.max(3000, electionTimeoutMs) } = options
  if (heartbeatMs * 2 > electionTimeoutMs) {
    throw invalidOption(
      'heartbeatMs',
      `'heartbeatMs' must be at most half of 'electionTimeoutMs' (${electionTimeoutMs})`,
    )
  }
  if (silenceTimeoutMs < electionTimeoutMs) {
    throw invalidOption(
      'silenceTimeoutMs',
      `'silenceTimeoutMs' must be at least 'electionTimeoutMs' (${electionTimeoutMs})`,
    )
  }
  const { ackTimeoutMs, initialTimeoutMs, sendTimeoutMs } = options
  const { helloMs, retryMinMs, retryMaxMs } = defaultTimings
  return {
    heartbeatMs,
    electionTimeoutMs,
    silenceTimeoutMs,
    // A site that has nothing to tell is still heard several times within the silence timeout.
    helloMs: Math.min(helloMs, silenceTimeoutMs / 4),
    retryMinMs,
    retryMaxMs: options.retryMaxMs ?? retryMaxMs,
    ...(ackTimeoutMs === undefined ? {} : { ackTimeoutMs }),
    ...(initialTimeoutMs === undefined ? {} : { snapshotTimeoutMs: initialTimeoutMs }),
    ...(sendTimeoutMs === undefined ? {} : { stuckTimeoutMs: sendTimeoutMs }),
  }
}

function leasesOf(options: JoinOptions): LeaseTerms | undefined {
  const { leases, electionTimeoutMs = electionTimeoutMsDefault, heartbeatMs = heartbeatMsDefault } = options
  return leaseTerms(leases, { electionTimeoutMs, heartbeatMs })
}
