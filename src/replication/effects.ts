// What the core asks of its driver, as data. The driver takes the effects after each call and runs them in order.
//
// The order carries the safety: `persist` is a barrier, nothing after it may run before it is on disk. An ack has no
// such need because it is made only when the driver reports a sync (docs/protocol.md, section "Acks").

import type { RecordBatch, RecordPlace } from '../base/batch.ts'
import type { ErrorCode } from '../base/errors.ts'
import type { History } from '../base/history.ts'
import type { Lsn, Term } from '../base/lsn.ts'
import type { Membership } from '../base/membership.ts'
import type { Gate, MixedRows, PeerId } from './core-options.ts'

export type Effect =
  /** `rec` is shared, never copied. */
  | {
      readonly kind: 'send'
      readonly to: PeerId
      readonly control: Uint8Array
      readonly rec?: Uint8Array
      readonly hints: SendHints
    }
  /** Replica: to the end of the log. Answer: `synced` when it is durable. */
  | { readonly kind: 'append'; readonly batch: RecordBatch }
  /** A barrier: durable before any later effect runs. `master`: the one this site has chosen in the term, as yet. */
  | {
      readonly kind: 'persist'
      readonly term: Term
      readonly master: string | undefined
      /** Whom this site has voted for in the term. */
      readonly vote: string | undefined
      /** The longest promise that may be in force: lease-promise.ts. */
      readonly promiseMs: number
    }
  /** Master: commits up to `committedLsn` resolve. The applier may go up to `min(applyLsn, durable here)`. */
  | {
      readonly kind: 'commit'
      readonly committedLsn: Lsn
      readonly permanentLsn: Lsn
      /** `committedLsn`, or more where acks attest `applied`: then a replica applies first. */
      readonly applyLsn: Lsn
    }
  /** Whole records of `from..to`, up to `bytesMax` but at least one. Answer: `logRead`. One at a time for a peer. */
  | {
      readonly kind: 'readLog'
      readonly peer: PeerId
      readonly from: Lsn
      readonly to: Lsn
      readonly bytesMax: number
    }
  /** Undo the store and cut the log after `to`. Answer: `rewound` or `rewindFailed`. */
  | { readonly kind: 'rewind'; readonly to: Lsn }
  /** Master: open a snapshot of the store for this peer, to be read after `afterKey`. Answer: `snapshotOpened`. */
  | { readonly kind: 'snapshotOpen'; readonly peer: PeerId; readonly afterKey: Uint8Array | undefined }
  /** Answer: `snapshotRows`. */
  | {
      readonly kind: 'snapshotRead'
      readonly peer: PeerId
      readonly recordsMax: number
      readonly bytesMax: number
    }
  | { readonly kind: 'snapshotClose'; readonly peer: PeerId }
  /**
   * Replica: make the staging ready; without `resume` discard what is in it. `newest`, the record that the rows to come are
   * of, is on disk no later than the first of them. Answer: `snapshotPrepared`.
   */
  | {
      readonly kind: 'snapshotPrepare'
      readonly databaseId: string
      readonly base: RecordPlace
      readonly history: History
      readonly newest: MixedRows
      readonly resume: boolean
    }
  /** Rows in order, to the staging (format: base/row-run.ts). Answer: `snapshotStored`, in any grouping. */
  | {
      readonly kind: 'snapshotStore'
      readonly index: number
      readonly bytes: Uint8Array
      readonly count: number
    }
  /**
   * Replace database, log and term by the staging, atomically; the log goes on after `base`. The persisted term of the
   * same database never falls; that of another one becomes `term`, higher or lower, for they do not compare. Where the old database
   * has records after `agreedLsn`, they are to be reported as lost. Answer: `snapshotInstalled`.
   */
  | {
      readonly kind: 'snapshotInstall'
      readonly databaseId: string
      readonly term: Term
      readonly master: string
      readonly base: RecordPlace
      readonly history: History
      /** Reads are consistent once this is applied. */
      readonly readableLsn: Lsn
      readonly rows: number
      /** The last record that the old database shares with the new one; undefined where they are strangers. */
      readonly agreedLsn: Lsn | undefined
      /** The records after `base` up to here go over from the old log: this site may have acknowledged them. */
      readonly keptLsn: Lsn | undefined
    }
  /** Master: records from here on must stay readable; undefined: no replica needs any. */
  | { readonly kind: 'retainLog'; readonly from: Lsn | undefined }
  | { readonly kind: 'disconnect'; readonly peer: PeerId; readonly code: ErrorCode; readonly reason: string }
  | { readonly kind: 'event'; readonly event: CoreEvent }
  /** The replica's attachment has ended. */
  | {
      readonly kind: 'stopped'
      readonly reason: StopReason
      readonly code: ErrorCode | undefined
      readonly message: string
      /** The master's address, where a refusal named it. */
      readonly master: string | undefined
      readonly lsn: Lsn
      readonly term: Term
    }
  /** A master is master no more: it must not take another write. */
  | {
      readonly kind: 'steppedDown'
      readonly term: Term
      /** Who is master now, if known. */
      readonly site: string | undefined
      /** Where that one is, if it was handed over to. */
      readonly address?: string
      readonly reason: StepDownReason
    }
  /** When `confirmReign` was asked for the last time up to `question`, no other master had been elected. */
  | { readonly kind: 'reignConfirmed'; readonly question: number }
  /**
   * This site shall be master of `term`: the driver calls `serve` and `startTerm` with `elected`. If it cannot, it
   * calls `electionLost`. `handover`: the old master itself has given the term to this site.
   */
  | { readonly kind: 'elected'; readonly term: Term; readonly handover: boolean }

/** What whoever carries a message may want to know of it. All are wishes: the core repairs whatever is lost. */
export interface SendHints {
  /** The last record in it that the group is asked to confirm. */
  readonly permanentLsn?: Lsn
  /** Part of a catch-up or a snapshot: it may be gathered with others. All else should leave at once. */
  readonly bulk?: boolean
  /** Any other site may serve it, too. */
  readonly anywhere?: boolean
  /** It was asked before, and not answered. */
  readonly rerequest?: boolean
}

export const noHints: SendHints = {}
export const bulkHints: SendHints = { bulk: true }
export const anywhereHints: SendHints = { anywhere: true }
export const rerequestHints: SendHints = { rerequest: true }

/** A higher term; too few members heard for an election timeout; handed over to another site; told to. */
export type StepDownReason = 'replaced' | 'no-majority' | 'handed-over' | 'asked'

export type StopReason =
  | 'connection-lost'
  | 'detached-by-master'
  | 'handshake-refused'
  | 'stopped'
  | 'cancelled'
  | 'apply-failed'
  /** The master has handed over to another site; `master` is its address, if known. */
  | 'replaced'
  /** The master has handed over to this site, or this site asks for votes. */
  | 'became-master'

/** How a replica came to have what its master has. */
export type SyncHow = 'equal' | 'incremental' | 'snapshot' | 'rewound'

/** Why an election has elected nobody:
 * too few were heard; none of them may become master; too few votes were given; another site has more than this one, and
 * has not taken its turn.
 */
export type ElectionFailure = 'no-majority' | 'nobody-electable' | 'no-votes' | 'deferred' | 'leased'

export type CoreEvent =
  // On a replica
  | { readonly kind: 'connected'; readonly peer: PeerId }
  | { readonly kind: 'connectFailed'; readonly code: ErrorCode; readonly message: string }
  | {
      readonly kind: 'newMaster'
      readonly site: string
      readonly term: Term
      readonly address: string | undefined
      /** Voting sites of its group, where the operator fixed a number. */
      readonly sites: number | undefined
    }
  | { readonly kind: 'syncBegin'; readonly how: SyncHow; readonly from: Lsn; readonly to: Lsn }
  | {
      readonly kind: 'syncProgress'
      /** `rows` of a snapshot or `records` of the log. */
      readonly unit: 'rows' | 'records'
      readonly done: number
      /** An estimate. */
      readonly total: number
      readonly bytes: number
    }
  | { readonly kind: 'rewound'; readonly from: Lsn; readonly to: Lsn }
  | { readonly kind: 'snapshotDone'; readonly rows: number; readonly bytes: number; readonly lsn: Lsn }
  | {
      readonly kind: 'synced'
      readonly how: SyncHow
      readonly from: Lsn
      readonly to: Lsn
      readonly transactions: number
      readonly bytes: number
      readonly ms: number
    }
  /** The log here and the master's differ where they must not. Nothing was appended. */
  | { readonly kind: 'diverged'; readonly ours: RecordPlace; readonly theirs: RecordPlace }
  // On a master
  | { readonly kind: 'replicaJoined'; readonly site: string; readonly peer: PeerId; readonly plan: string }
  | { readonly kind: 'replicaSynced'; readonly site: string; readonly peer: PeerId; readonly lsn: Lsn }
  | {
      readonly kind: 'replicaDetached'
      readonly site: string
      readonly peer: PeerId
      readonly code: ErrorCode
      readonly message: string
      readonly lsn: Lsn
    }
  | {
      readonly kind: 'replicaRefused'
      readonly site: string
      readonly code: ErrorCode
      readonly message: string
    }
  | { readonly kind: 'quorumGained'; readonly have: number; readonly need: number }
  | { readonly kind: 'quorumLost'; readonly have: number; readonly need: number }
  /** The gate has opened or closed: writers that wait look again. */
  | { readonly kind: 'gate'; readonly gate: Gate }
  /** A replica asks to be master: the driver flushes what was written and calls `handOver`. */
  | {
      readonly kind: 'takeOverAsked'
      readonly site: string
      readonly peer: PeerId
      /** Where it will serve; may be empty. */
      readonly address: string
    }
  | {
      readonly kind: 'handedOver'
      readonly site: string
      readonly address: string
      readonly term: Term
      readonly lsn: Lsn
    }
  /** On the master, and on the replica that asked. */
  | {
      readonly kind: 'handOverFailed'
      readonly site: string
      readonly code: ErrorCode
      readonly message: string
    }
  // In a group
  /** Somebody hears a master, or is it: it can be followed. */
  | { readonly kind: 'masterFound'; readonly site: string; readonly term: Term; readonly address: string }
  /** Who is at the other end of a link. The own site where the link leads back here. */
  | { readonly kind: 'siteMet'; readonly site: string; readonly peer: PeerId; readonly address: string }
  /** Somebody who does not belong here, or a second site of one id, was turned away. */
  | {
      readonly kind: 'siteRefused'
      readonly site: string
      readonly peer: PeerId
      readonly code: ErrorCode
      readonly message: string
    }
  /** The group turns this site away. */
  | { readonly kind: 'refusedByGroup'; readonly code: ErrorCode; readonly message: string }
  | { readonly kind: 'electionBegun'; readonly round: number }
  | {
      readonly kind: 'electionFailed'
      readonly reason: ElectionFailure
      /** Members that were heard, this one included, and those that are needed. */
      readonly have: number
      readonly need: number
    }
  /** An election that was asked for is over, unless it was won: that is an effect. */
  | { readonly kind: 'electionDecided'; readonly outcome: ElectionOutcome }
  | { readonly kind: 'voted'; readonly term: Term; readonly site: string }
  | { readonly kind: 'membership'; readonly membership: Membership }
  // On either
  | { readonly kind: 'term'; readonly term: Term }
  | { readonly kind: 'duplicateMaster'; readonly term: Term; readonly site: string | undefined }

export type ElectionOutcome =
  /** This site perhaps, where it has begun a reign without being elected. */
  | { readonly kind: 'other'; readonly master: string; readonly term: Term }
  | {
      readonly kind: 'unavailable'
      readonly reason: ElectionFailure
      readonly have: number
      readonly need: number
    }

/** What a message came to, with the meanings of Berkeley DB's `rep_process_message`. */
export type StepResult =
  | { readonly kind: 'ok' }
  | { readonly kind: 'ignore'; readonly reason: string }
  /** Records up to `lsn` are in the log here; durable once `synced` has been called with it. */
  | { readonly kind: 'isPerm'; readonly lsn: Lsn }
  /** Records up to `lsn` came, but one before them is missing: held. */
  | { readonly kind: 'notPerm'; readonly lsn: Lsn }
  | { readonly kind: 'dupMaster' }
  | { readonly kind: 'holdElection' }
  /** A site that was not known: who it is, and what it says of itself (`GroupOptions.data`). */
  | { readonly kind: 'newSite'; readonly site: string; readonly data: Uint8Array }
  | { readonly kind: 'joinFailure'; readonly code: ErrorCode; readonly reason: string }
  | { readonly kind: 'wouldRewind'; readonly lsn: Lsn }

export const stepOk: StepResult = { kind: 'ok' }

export function ignore(reason: string): StepResult {
  return { kind: 'ignore', reason }
}
