// What the driver gives to the core: its state at the start, the record format, and the options of each role.

import type { RecordBatch, RecordPlace } from '../base/batch.ts'
import type { History, HistoryEntry } from '../base/history.ts'
import type { Lsn, Term } from '../base/lsn.ts'
import type { Membership } from '../base/membership.ts'
import type { AckPolicy, Attest, Durability } from '../base/policy.ts'
import type { SiteActivity } from './group-messages.ts'
import type { Timings } from './timings.ts'

/** A connection, or an address where the transport has none. Numbers are given by the driver, never reused. */
export type PeerId = number

export type VerifyResult =
  | {
      readonly ok: true
      readonly batch: RecordBatch
      /** The reigns that begin in the batch: one for each term record in it. */
      readonly reigns: readonly HistoryEntry[]
    }
  | { readonly ok: false; readonly reason: string }

/** The record format, injected: it lives on the floor of the log. */
export interface RecordCodec {
  /** Checks bytes from outside: whole records that follow `previous`. Any bytes, never a throw. */
  verify(bytes: Uint8Array, options: { databaseId: string; previous: RecordPlace }): VerifyResult
  /** The records of `batch` after `lsn`; `batch.firstLsn <= lsn < batch.lastLsn`. Shares the bytes. */
  dropThrough(batch: RecordBatch, lsn: Lsn): RecordBatch
  /** Each record of `batch` by itself. Shares the bytes. */
  split(batch: RecordBatch): readonly RecordBatch[]
}

/** The log as it was found at the start. */
export interface LogState {
  /** The oldest record that can be read; `last.lsn + 1` when the log holds none. */
  readonly first: Lsn
  readonly last: RecordPlace
  readonly durableLsn: Lsn
  readonly history: History
}

export interface CoreOptions {
  /** The durable id of this site. */
  readonly site: string
  /** Undefined: no database yet. */
  readonly databaseId: string | undefined
  /** The highest term ever seen, as persisted. Never below the last term of the log. */
  readonly term: Term
  /** The master of `term` that this site has chosen, as persisted with it. */
  readonly termMaster?: string | undefined
  /** Whom this site has voted for in `term`, as persisted with it. */
  readonly vote?: string | undefined
  /** Of this site's data folder (base/membership.ts). Needed in groups only. */
  readonly incarnation?: string
  /** The members of the group, as the log and the store here say. */
  readonly membership?: Membership | undefined
  readonly log: LogState
  readonly appliedLsn: Lsn
  readonly committedLsn: Lsn
  readonly permanentLsn: Lsn
  /** From which LSN on the store is consistent, as `snapshotInstall` said. Default 0. */
  readonly readableLsn?: Lsn
  /** The longest promise to a master that this site may have given before it started, as persisted. Default 0. */
  readonly promiseMs?: number
  readonly codec: RecordCodec
  /** A random u32. */
  readonly random: () => number
  readonly timings?: Partial<Timings>
  /** Also checks the invariants that cost more than O(1) after every step. */
  readonly paranoid?: boolean
}

/** How a master serves. All but `databaseId`, `address` and `timings` can be changed by `configure`. */
export interface ServeOptions {
  /** Waits and bounds for this reign; the rest as given to the core. */
  readonly timings?: Partial<Timings>
  /** The identity of a new database; only where the site has none yet. */
  readonly databaseId?: string
  /** Where replicas find this master; told to whoever asks another site. */
  readonly address?: string
  /** Default `quorum`. Async mode ignores it. */
  readonly acks?: AckPolicy
  /** Default `durable`. */
  readonly attest?: Attest
  /** Of commits without an exception of their own. Default `sync`. */
  readonly durability?: Durability
  /** Default `sync`: commits wait for acks. `async`: only for replicas that ask for it (`forceSync`). */
  readonly mode?: 'sync' | 'async'
  /** Voting sites of the group, this one included. Default: this one and the replicas in step now. */
  readonly sites?: number
  /** A commit resolves while up to `window - 1` records before it lack acks, so one ack serves n. Default 1. */
  readonly window?: number
  /** It was elected by the members: they vote, they are counted, and without a majority of them it steps down. */
  readonly elections?: boolean
  /** The gate: at least so many replicas must be in step for a write to be accepted. Default 0. */
  readonly quorum?: number
  /** Default 64. */
  readonly maxReplicas?: number
  /** `blocking`: the gate is closed while a replica takes its snapshot. Default `live`. */
  readonly initialSync?: 'live' | 'blocking'
  /** Async mode: how many bytes the slowest replica may lag. Default 16 MiB. */
  readonly maxLagBytes?: number
  /** Async mode: what happens beyond it. Default `wait`. */
  readonly onFull?: 'wait' | 'detach' | 'reject'
  /** False: each record goes as a message of its own, instead of all that there are at the moment. Default true. */
  readonly bulk?: boolean
  /** Rows in one chunk of a snapshot. Default 100. */
  readonly chunkRecords?: number
  /** Bytes in one chunk of a snapshot. Default 100 KiB. */
  readonly chunkBytes?: number
  /** Pause between two chunks. Default 0. */
  readonly chunkDelayMs?: number
}

/** How a replica serves in its turn. */
export type RelayOptions = Pick<
  ServeOptions,
  'timings' | 'maxReplicas' | 'chunkRecords' | 'chunkBytes' | 'chunkDelayMs'
> & {
  /** The last record that is permanent and durable here; undefined where the log has it no more. */
  readonly end: RecordPlace | undefined
  /** What is known of the last master, until there is one again. */
  readonly master?: { readonly address?: string; readonly sites?: number }
}

export type ServeSettings = Required<Omit<ServeOptions, 'databaseId' | 'address' | 'timings' | 'sites'>> & {
  readonly sites: number | undefined
}

export const defaultServeSettings: ServeSettings = {
  acks: 'quorum',
  attest: 'durable',
  durability: 'sync',
  mode: 'sync',
  sites: undefined,
  window: 1,
  elections: false,
  quorum: 0,
  maxReplicas: 64,
  initialSync: 'live',
  maxLagBytes: 16 * 1_048_576,
  onFull: 'wait',
  bulk: true,
  chunkRecords: 100,
  chunkBytes: 102_400,
  chunkDelayMs: 0,
}

/** Rows of an earlier, broken snapshot that the replica still has. */
export interface SnapshotResume {
  readonly databaseId: string
  /** Where the log goes on once the rows are installed. */
  readonly base: RecordPlace
  /** The reign that `base` was written in. */
  readonly reign: HistoryEntry
  /** The newest record that a row stored so far may be of: later parts were read of later states. At least `base`. */
  readonly newest: { readonly lsn: Lsn; readonly reign: HistoryEntry }
  /** The greatest key that is safely stored. */
  readonly afterKey: Uint8Array
}

/**
 * Rows of a snapshot that was taken in two parts are of different ages. They are a state of the database only once the
 * log is applied up to `lsn`, and only if that is the record which the rows were read at.
 */
export interface MixedRows {
  readonly lsn: Lsn
  /** The reign that the record at `lsn` was written in; undefined where that is no longer known. */
  readonly reign: HistoryEntry | undefined
}

export interface FollowOptions {
  /** Waits and bounds for this attachment; the rest as given to the core. */
  readonly timings?: Partial<Timings>
  /** The master's address, to answer NOT_MASTER with. */
  readonly address?: string
  /** Sets data of another history aside instead of refusing to attach. Default false. */
  readonly replace?: boolean
  /** Asks for a snapshot even where the log would do: the own store cannot be used. Default false. */
  readonly snapshot?: boolean
  /** Commits of an asynchronous master wait for this replica. Default false. */
  readonly forceSync?: boolean
  /** Never counted in any policy. Default false. */
  readonly view?: boolean
  /** It runs in a group and listens there: a member, or one that asks to become one. */
  readonly member?: { readonly address: string }
  /** False: stops instead of undoing the tail that the master does not have. Default true. */
  readonly autoRewind?: boolean
  /** False: stops instead of taking a snapshot. Default true. */
  readonly autoInit?: boolean
  /** Other replicas may serve this one, and it serves them. Default false: only the master does. */
  readonly anywhere?: boolean
  readonly resume?: SnapshotResume
}

/** The settings among the options that are given. */
export function givenSettings(options: Partial<ServeOptions>): Partial<ServeSettings> {
  const { databaseId: _databaseId, address: _address, timings: _timings, ...settings } = options
  const given = Object.entries(settings).filter(([, value]) => value !== undefined)
  return Object.fromEntries(given) as Partial<ServeSettings>
}

/** Master leases (Berkeley DB's): reads that are known to be the newest without asking a majority each time. */
export interface LeaseTerms {
  /** How long a lease lasts after the heartbeat that it was granted for, by the clock of the master. */
  readonly durationMs: number
  /** The clock of no site runs faster than that of another by more than this factor, at least 1. */
  readonly clockSkew: number
}

/** How a site runs in a group. */
export interface GroupOptions {
  /** Where others reach this site. */
  readonly address: string
  /** Who has the most, and then the highest priority, becomes master; 0 never does. Default 100. */
  readonly priority?: number
  /** Of the program, told to the others. Default ''. */
  readonly version?: string
  /** The data here is to be replaced: whose it is does not matter. Default false. */
  readonly replace?: boolean
  /** Never votes, is never elected. Default false. */
  readonly view?: boolean
  /** What the application says of this site to others, up to 1,024 bytes. Default nothing. */
  readonly data?: Uint8Array
  /** Who holds elections: the members, whenever they hear no master (default), or the application. */
  readonly elections?: 'members' | 'application'
  /**
   * False: this site begins no election of its own accord, and as master waits for a majority that it has lost. Default:
   * true where the members hold the elections.
   */
  readonly automatic?: boolean
  /** Acknowledges with promises to the master, and as master counts those of others. Default: none. */
  readonly leases?: LeaseTerms
  /** The site's own figure for `SiteView.ackMicros`. Default 0. */
  readonly ackMicros?: () => number
  /** Waits and bounds from now on; the rest as given to the core. */
  readonly timings?: Partial<Timings>
}

/** Another site of the group, as it last told of itself. */
export interface SiteView {
  readonly site: string
  readonly address: string
  readonly incarnation: string
  readonly priority: number
  readonly version: string
  readonly activity: SiteActivity
  readonly grouped: boolean
  readonly databaseId: string | undefined
  readonly term: Term
  readonly last: RecordPlace
  readonly durableLsn: Lsn
  readonly appliedLsn: Lsn
  readonly committedLsn: Lsn
  readonly ackMicros: number
  /** It never votes. */
  readonly view: boolean
  readonly heardAt: number
  /** A link to it is up. */
  readonly linked: boolean
}

export type ReplicaState = 'joining' | 'snapshot' | 'catchUp' | 'live'

/** One replica as its master sees it. */
export interface ReplicaView {
  readonly site: string
  readonly peer: PeerId
  readonly state: ReplicaState
  /** It has caught up once since it attached, and counts as one of the attached. */
  readonly inStep: boolean
  readonly view: boolean
  readonly forceSync: boolean
  /** It is counted by the policies. */
  readonly votes: boolean
  /** It runs in a group, and where it listens. */
  readonly member: { readonly address: string; readonly incarnation: string } | undefined
  readonly receivedLsn: Lsn
  readonly durableLsn: Lsn
  readonly appliedLsn: Lsn
  readonly lagRecords: number
  /** From samples: never less than the truth for live replicas. */
  readonly lagBytes: number
  readonly lagMs: number
  readonly roundTripMs: number | undefined
  readonly attachedAt: number
  readonly heardAt: number
  readonly bytesOut: number
  readonly recordsOut: number
  readonly snapshot:
    | { readonly rows: number; readonly bytes: number; readonly rowsEstimate: number }
    | undefined
}

/** Whether the master takes writes now. `wait`: a writer may wait for it to open. */
export type Gate =
  | { readonly open: true }
  | {
      readonly open: false
      readonly code: 'NOT_MASTER' | 'NO_QUORUM' | 'LAG_EXCEEDED' | 'SYNCING' | 'HANDING_OVER'
      readonly wait: boolean
      readonly have: number
      readonly need: number
    }

/** A replica that was detached, for receipts and the status. */
export interface Detachment {
  readonly site: string
  readonly code: string
  /** The last LSN proposed at that moment: commits up to it may have waited for the site. */
  readonly lsn: Lsn
  readonly at: number
}
