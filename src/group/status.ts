// What a site says of itself. The line `can lose` is computed from what is known to be durable where, now: an
// operator should never have to guess what a dead machine would take with it.

import type { CoterieError } from '../base/errors.ts'
import { type Lsn, noLsn } from '../base/lsn.ts'
import type { ReplicaView } from '../replication/core-options.ts'
import type { GroupStatus } from './group-status.ts'
import type { Site } from './site.ts'

/** One replica as its master sees it. */
export interface ReplicaStatus {
  readonly site: string
  readonly address: string | undefined
  /** It is a view: no commit waits for it, and it never becomes master. */
  readonly view: boolean
  /** `joining`, `snapshot`, `catchUp`, or `live`: it takes each record as it is written. */
  readonly state: ReplicaView['state']
  readonly receivedLsn: number
  readonly durableLsn: number
  readonly appliedLsn: number
  readonly lagRecords: number
  readonly lagBytes: number
  readonly lagMs: number
  readonly bytesIn: number
  readonly bytesOut: number
  readonly roundTripMs: number | undefined
  /** Rows of the snapshot that it is taking. */
  readonly snapshot: ReplicaView['snapshot']
}

export function replicaStatus(site: Site, view: ReplicaView): ReplicaStatus {
  const traffic = site.peers.trafficOf(view.peer)
  return {
    site: view.site,
    address: traffic?.remote,
    view: view.view,
    state: view.state,
    receivedLsn: view.receivedLsn,
    durableLsn: view.durableLsn,
    appliedLsn: view.appliedLsn,
    lagRecords: view.lagRecords,
    lagBytes: view.lagBytes,
    lagMs: view.lagMs,
    bytesIn: traffic?.bytesIn ?? 0,
    bytesOut: traffic?.bytesOut ?? 0,
    roundTripMs: view.roundTripMs,
    snapshot: view.snapshot,
  }
}

/** What a view keeps. */
export interface ViewStatus {
  /** `full`: every store. */
  readonly kind: 'full' | 'partial'
  /** Of a partial view, as far as it has met them; '' is the unnamed store. */
  readonly kept: readonly string[]
  readonly declined: readonly string[]
}

export interface DatabaseStatus {
  readonly role: 'standalone' | 'master' | 'replica'
  /** It takes writes, or would at the next one. */
  readonly writable: boolean
  readonly attached: boolean
  /** Where it serves, as master or, while its role is `replica`, in its turn; empty where it does not. */
  readonly addresses: readonly string[]
  /** It is a view, and which stores of the database it keeps. Undefined: a participant, with all of them. */
  readonly view: ViewStatus | undefined
  readonly site: string
  readonly databaseId: string | undefined
  readonly term: number
  /** Address of the last known master, on a replica. */
  readonly master: string | undefined
  readonly firstLsn: number
  readonly lastLsn: number
  readonly durableLsn: number
  readonly committedLsn: number
  readonly permanentLsn: number
  readonly appliedLsn: number
  readonly checkpointLsn: number
  readonly logBytes: number
  /** Commits that wait to be confirmed. */
  readonly waitingCommits: number
  /** Those who are attached here, to a master or to a replica that serves in its turn. */
  readonly replicas: readonly ReplicaStatus[]
  /** While it is in a group: the whole of it, on any of its sites. */
  readonly group: GroupStatus | undefined
  /** For example `can lose: 1 site, 0 commits`. */
  readonly canLose: string
  /** Why the site takes no more writes, if its log or store failed. */
  readonly failure: { readonly code: string; readonly message: string } | undefined
  /** Why writes wait: the disk is full. */
  readonly stall: { readonly code: string; readonly message: string } | undefined
  /** What recovery found at the last open. */
  readonly recovery: unknown
  /** The store was damaged at the last open and has been made anew from the log. */
  readonly rebuilt: boolean
  /** Files with transactions that were rolled back. */
  readonly lost: readonly string[]
  /** Folders with data of another history, set aside by `replace`; remove them when you no longer want them. */
  readonly aside: readonly string[]
  readonly counters: Readonly<Record<string, number>>
}

export function databaseStatus(
  site: Site,
  more: {
    readonly attached: boolean
    readonly addresses: readonly string[]
    readonly group: GroupStatus | undefined
  },
): DatabaseStatus {
  const { engine, core, replicas } = site
  const { attached, addresses, group } = more
  const { state } = engine.folder
  const parts = engine.hasData ? engine.parts : undefined
  const durableLsn = parts?.log.durableLsn ?? noLsn
  return {
    role: site.role,
    writable:
      (engine.failure ?? engine.stall) === undefined &&
      (site.isWriter || site.writeGate.whyNotWriter() === undefined),
    attached,
    addresses,
    view: site.view && { kind: site.view, ...engine.keptStores.answers },
    site: site.site,
    databaseId: state?.databaseId,
    term: core.term,
    master: site.masterAddress,
    firstLsn: parts?.log.firstLsn ?? 0,
    lastLsn: engine.lastLsn,
    durableLsn,
    committedLsn: engine.committedLsn,
    permanentLsn: engine.permanentLsn,
    appliedLsn: parts?.appliedLsn ?? 0,
    checkpointLsn: engine.checkpointLsn,
    logBytes: parts?.log.bytes ?? 0,
    waitingCommits: engine.waitingCommits,
    replicas: replicas.map((view) => replicaStatus(site, view)),
    group,
    canLose:
      group?.canLoseText ??
      (site.role !== 'replica'
        ? canLose({ committedLsn: engine.committedLsn, durableLsn, replicas })
        : 'can lose: only the master can say'),
    failure: described(engine.failure),
    stall: described(engine.stall),
    recovery: parts?.recovery,
    rebuilt: parts?.rebuilt === true,
    lost: site.lostFiles,
    aside: (state?.aside ?? []).flatMap((generation) => [`store-${generation}`, `log-${generation}`]),
    counters: {
      ...core.counters,
      claimsRefused: site.peers.claimsRefused,
      strangersRefused: site.peers.strangersRefused,
    },
  }
}

function described(error: CoterieError | undefined): { code: string; message: string } | undefined {
  return error === undefined ? undefined : { code: error.code, message: error.message }
}

/**
 * How many sites the group could lose now without losing an acknowledged commit; and if that is none, how many
 * commits would go with this site.
 */
export function canLose(options: {
  committedLsn: Lsn
  durableLsn: Lsn
  replicas: readonly ReplicaView[]
}): string {
  const { committedLsn, durableLsn, replicas } = options
  // A view never becomes master: what it alone has is lost to the others.
  const participants = replicas.filter((replica) => !replica.view)
  const holders = participants.filter((replica) => replica.durableLsn >= committedLsn).length
  const copies = holders + (durableLsn >= committedLsn ? 1 : 0)
  if (copies >= 2) return `can lose: ${copies - 1} ${copies === 2 ? 'site' : 'sites'}, 0 commits`
  const best = participants.reduce((most, replica) => Math.max(most, replica.durableLsn), 0)
  const commits = committedLsn - best
  if (copies === 0)
    return `can lose: 0 sites; a crash now could lose ${committedLsn - Math.max(best, durableLsn)} commits`
  return participants.length === 0
    ? 'can lose: 0 sites; no replica is attached'
    : `can lose: 0 sites; this one alone has the last ${commits} commits`
}
