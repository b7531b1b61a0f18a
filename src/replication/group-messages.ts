// The messages between the sites of a group: who is there, who shall be master, and how mastership changes hands.
// docs/protocol.md, sections "Groups", "Elections" and "Hand-over", says who sends which and when.
//
// Hello, Canvass, VoteRequest and Vote belong to no attachment: their session is 0. The other three belong to one.

import type { RecordPlace } from '../base/batch.ts'
import type { Lsn, Term } from '../base/lsn.ts'
import type { Envelope } from './envelope.ts'

/** What a site is doing, as it tells the others. */
export type SiteActivity = 'alone' | 'candidate' | 'syncing' | 'replica' | 'master'

/** On each link at its beginning, now and then, and at once when the sender has become master. */
export interface Hello extends Envelope {
  readonly type: 'hello'
  /** It answers one: not to be answered. */
  readonly answer: boolean
  readonly databaseId: string | undefined
  readonly site: string
  readonly incarnation: string
  /** Where the site can be reached. */
  readonly address: string
  readonly priority: number
  /** Of the program, for the operator. */
  readonly version: string
  readonly activity: SiteActivity
  /** It knows the members of a group. */
  readonly grouped: boolean
  readonly last: RecordPlace
  readonly durableLsn: Lsn
  readonly appliedLsn: Lsn
  readonly committedLsn: Lsn
  /** 99 % of what this site waited for lately took no longer, in microseconds: acks at a master, syncs elsewhere. */
  readonly ackMicros: number
  /** It never votes. */
  readonly view: boolean
  /** What the application says of the site. */
  readonly data: Uint8Array
  /** The master that the sender hears, itself perhaps. */
  readonly master: HeardMaster | undefined
}

export interface HeardMaster {
  readonly site: string
  readonly term: Term
  readonly address: string
}

/** First phase of an election: the sender hears no master, and this is what it has. Raises no term anywhere. */
export interface Canvass extends Envelope {
  readonly type: 'canvass'
  readonly answer: boolean
  readonly databaseId: string
  readonly site: string
  /** Of the one who asks, also in the answer: an answer to an earlier round counts for nothing. */
  readonly round: number
  readonly last: RecordPlace
  /** 0: never to be elected, now or ever. */
  readonly priority: number
  readonly tiebreak: number
}

/** Second phase: a candidate asks for the vote in `term`. */
export interface VoteRequest extends Envelope {
  readonly type: 'voteRequest'
  readonly databaseId: string
  readonly site: string
  readonly last: RecordPlace
  /** The master has handed over to the candidate: it is not there to be heard any more. */
  readonly handover: boolean
}

/** `term` is the highest that the voter has seen. */
export interface Vote extends Envelope {
  readonly type: 'vote'
  readonly databaseId: string
  readonly site: string
  /** Of the voter's data: it must be the very member that the candidate knows. */
  readonly incarnation: string
  /** The term of the request. */
  readonly forTerm: Term
  readonly granted: boolean
  readonly reason: string
}

/** Master to replica, its last word in the attachment: `term` is yours, from the record after `lsn` on. */
export interface Handover extends Envelope {
  readonly type: 'handover'
  readonly lsn: Lsn
  /** In a group the others are asked too; else the sender's word is enough. */
  readonly grouped: boolean
}

/** Replica to master: hand over to me. */
export interface TakeOver extends Envelope {
  readonly type: 'takeOver'
  /** Where it will serve; may be empty. */
  readonly address: string
}

/** Master to replica: it did not come to that, and the master goes on. */
export interface HandoverRefused extends Envelope {
  readonly type: 'handoverRefused'
  readonly code: string
  readonly message: string
}

export type GroupMessage = Hello | Canvass | VoteRequest | Vote | Handover | TakeOver | HandoverRefused
