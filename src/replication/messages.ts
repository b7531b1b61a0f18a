// The messages between a master and its replicas. Each has a small `control` part (message-codec.ts) and, where it
// carries bulk, a `rec` part of opaque bytes. docs/protocol.md, section "Messages", says who sends which and when.
//
// Every message carries the `session` of the attachment it belongs to, a number that the replica draws when it
// joins, so that bytes of an old connection are told from those of the present one.

import type { RecordPlace } from '../base/batch.ts'
import type { History, HistoryEntry } from '../base/history.ts'
import type { Lsn } from '../base/lsn.ts'
import type { Attest } from '../base/policy.ts'
import type { SnapshotResume } from './core-options.ts'
import type { Envelope } from './envelope.ts'
import type { GroupMessage, HandoverRefused } from './group-messages.ts'

/**
 * How the log of a master comes to those who are attached to another site: a replica that serves in its turn tells them
 * so in Accept, and in each Heartbeat, because it may change while they are attached.
 */
export interface Route {
  /** The master of the envelope's term; '' while the sender does not know it. */
  readonly site: string
  /** Where that one is, as far as the sender knows; else ''. */
  readonly address: string
  /** Voting sites of its group; 0 where the operator fixed no number, or nobody has told. */
  readonly sites: number
  /** The sites that the log comes through, the sender last. The first follows the master itself, or nobody. */
  readonly via: readonly string[]
}

/** Replica to master, repeated until it is answered: who I am and what my log is. */
export interface Join extends Envelope {
  readonly type: 'join'
  readonly databaseId: string | undefined
  readonly site: string
  /** Of the site's data folder: base/membership.ts. */
  readonly incarnation: string
  /** Where the site can be reached, if it listens; else ''. */
  readonly address: string
  readonly history: History
  readonly firstLsn: Lsn
  readonly last: RecordPlace
  readonly durableLsn: Lsn
  readonly permanentLsn: Lsn
  readonly replace: boolean
  readonly snapshot: boolean
  readonly forceSync: boolean
  readonly view: boolean
  /** It runs in a group, and is a member or asks to become one. */
  readonly member: boolean
  /** Each ack of a heartbeat promises the master a lease of so many milliseconds; 0: none. */
  readonly leaseMs: number
  readonly resume: SnapshotResume | undefined
  /** Where the store here has rows of two ages: which record makes them one state. */
  readonly mixed: { readonly lsn: Lsn; readonly reign: HistoryEntry } | undefined
}

/** How a replica gets from its own log to the master's. */
export type SyncPlan = 'equal' | 'stream' | 'rewind' | 'snapshot'

/** Master to replica: how to come into step. Sent again for a repeated Join. */
export interface Accept extends Envelope {
  readonly type: 'accept'
  readonly databaseId: string
  readonly site: string
  readonly plan: SyncPlan
  /** The last record that both logs have. With a snapshot of foreign data, 0. */
  readonly agreedLsn: Lsn
  readonly history: History
  readonly last: RecordPlace
  readonly committedLsn: Lsn
  readonly permanentLsn: Lsn
  readonly attest: Attest
  readonly window: number
  readonly heartbeatMs: number
  readonly silenceTimeoutMs: number
  /** Voting sites of the group, the master included; 0 where the operator fixed no number. */
  readonly sites: number
  /** Undefined: the sender is the master. */
  readonly route: Route | undefined
}

/** Answer to a Join that leads to nothing. */
export interface Refuse extends Envelope {
  readonly type: 'refuse'
  readonly code: string
  readonly message: string
  /** Where the master is, if the refusing site knows; else ''. */
  readonly master: string
}

/** Master to replica: `rec` has the records after `previous` up to `lastLsn`. */
export interface Append extends Envelope {
  readonly type: 'append'
  readonly previous: RecordPlace
  readonly lastLsn: Lsn
  readonly committedLsn: Lsn
  readonly permanentLsn: Lsn
  /** Acknowledge as soon as these records qualify, whatever the window. */
  readonly ackNow: boolean
}

/** Replica to master. Cumulative. */
export interface Ack extends Envelope {
  readonly type: 'ack'
  readonly receivedLsn: Lsn
  readonly durableLsn: Lsn
  readonly appliedLsn: Lsn
  /** The stamp of the last heartbeat heard. */
  readonly stamp: number
  /** A rewind or a snapshot is under way: the LSNs mean nothing, the site is alive. */
  readonly busy: boolean
}

/** Master to replica: what there is, so that a lost tail is found when nothing else flows. */
export interface Heartbeat extends Envelope {
  readonly type: 'heartbeat'
  readonly last: RecordPlace
  /** The last record that was sent to this replica. */
  readonly sentLsn: Lsn
  readonly committedLsn: Lsn
  readonly permanentLsn: Lsn
  readonly stamp: number
  readonly attest: Attest
  readonly window: number
  readonly ackNow: boolean
  /** Undefined: the sender is the master. */
  readonly route: Route | undefined
}

/** Replica to master: send `from` to `to` (or all there is, where `to` is 0) again. */
export interface GapRequest extends Envelope {
  readonly type: 'gapRequest'
  readonly from: Lsn
  readonly to: Lsn
}

/** Master to replica: a snapshot is open. Answered by SnapshotAck 0. */
export interface SnapshotBegin extends Envelope {
  readonly type: 'snapshotBegin'
  /** The log goes on after this record once the rows are installed. */
  readonly base: RecordPlace
  /** The state that the rows are of; reads are consistent once it is applied. At least `base.lsn`. */
  readonly snapshotLsn: Lsn
  /** The reign that `snapshotLsn` was written in; only with `resumed`. */
  readonly snapshotReign: HistoryEntry | undefined
  /** Up to `base`. */
  readonly history: History
  readonly rowsEstimate: number
  readonly resumed: boolean
}

/** Master to replica: chunk `index`, from 1 on; `rec` has the rows. */
export interface SnapshotRows extends Envelope {
  readonly type: 'snapshotRows'
  readonly index: number
  readonly count: number
  readonly crc: number
}

/** Replica to master: chunks without a hole. Cumulative. */
export interface SnapshotAck extends Envelope {
  readonly type: 'snapshotAck'
  readonly storedIndex: number
  readonly receivedIndex: number
}

/** Master to replica: there are no more chunks. Repeated until the first Ack. */
export interface SnapshotEnd extends Envelope {
  readonly type: 'snapshotEnd'
  readonly chunks: number
  readonly rows: number
}

/** Either side ends the attachment. */
export interface Detach extends Envelope {
  readonly type: 'detach'
  /** From which side: a site can be master and, later, replica on the same peer. */
  readonly fromMaster: boolean
  readonly code: string
  readonly message: string
  /** Where the next master is, if the sender knows; else ''. */
  readonly master: string
}

/** Answer to one who acts as master in a lower term. `term` is the higher one. */
export interface HigherTerm extends Envelope {
  readonly type: 'higherTerm'
  readonly databaseId: string
  /** The master of that term, if known; else ''. */
  readonly site: string
}

export type Message =
  | Join
  | Accept
  | Refuse
  | Append
  | Ack
  | Heartbeat
  | GapRequest
  | SnapshotBegin
  | SnapshotRows
  | SnapshotAck
  | SnapshotEnd
  | Detach
  | HigherTerm
  | GroupMessage

/** What a replica sends in an attachment, Detach aside. */
export type ReplicaMessage = Ack | GapRequest | SnapshotAck

/** What a master sends in an attachment, Detach included. */
export type MasterMessage =
  | Accept
  | Refuse
  | Append
  | Heartbeat
  | SnapshotBegin
  | SnapshotRows
  | SnapshotEnd
  | Detach
  | HandoverRefused

export type MessageType = Message['type']
