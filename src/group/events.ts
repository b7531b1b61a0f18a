// The events of the public faces: what each carries. Names are those of docs/protocol.md and, where the models have
// the like, theirs (features.md).

import type { CoterieError } from '../base/errors.ts'
import type { TwoSites } from '../base/membership.ts'

/** Events of a database, whatever its role. */
export type DatabaseEvents = {
  /** The role or the term has changed. */
  role: { readonly role: 'standalone' | 'master' | 'replica'; readonly term: number }
  /** Transactions were taken back because the new master never had them; `file` keeps them. */
  rewound: { readonly to: number; readonly transactions: number; readonly file: string | undefined }
  /** The log or the store failed: this handle takes no more writes. */
  failed: CoterieError
  /** Records of the log could not be read for a replica, which was sent away: see `verify`. Writes go on. */
  damaged: CoterieError
  /** The disk is full: writes are refused, reads go on. */
  stalled: CoterieError
  /** There is space again. */
  resumed: undefined
}

/** Events of a master: `db.serve()`. */
export type MasterEvents = {
  /** A replica was taken in and is being brought up to date. */
  attached: { readonly site: string; readonly plan: string }
  /** A replica has all that the master had when it attached. */
  synced: { readonly site: string; readonly lsn: number }
  /** A replica has gone or was sent away (eXtremeDB's error handler). */
  detached: { readonly site: string; readonly code: string; readonly message: string; readonly lsn: number }
  /** Someone asked to attach and was refused. `site` is empty where it had not come so far as to say who it is. */
  refused: { readonly site: string; readonly code: string; readonly message: string }
  /** A replica asks to be master in this one's place. */
  takeOverAsked: { readonly site: string }
  /** It came to nothing, and this master goes on as if nobody had asked. */
  handOverFailed: { readonly site: string; readonly code: string; readonly message: string }
  quorumGained: { readonly have: number; readonly need: number }
  quorumLost: { readonly have: number; readonly need: number }
}

/** Events of an attachment (eXtremeDB's replica notifications). */
export type AttachmentEvents = {
  connected: { readonly address: string }
  connectFailed: { readonly error: CoterieError }
  /** The master's site and term are known. */
  newMaster: { readonly site: string; readonly term: number }
  syncBegin: { readonly kind: SyncKind; readonly from: number; readonly to: number }
  syncProgress: {
    /** `rows` of a snapshot, or `records` of the log. */
    readonly unit: 'rows' | 'records'
    readonly done: number
    /** An estimate where the unit is rows. */
    readonly total: number
    readonly bytes: number
  }
  snapshotDone: { readonly rows: number; readonly bytes: number; readonly lsn: number }
  rewound: { readonly to: number; readonly transactions: number; readonly file: string | undefined }
  synced: SyncResult
  /** The takeover that was asked for came to nothing; the attachment goes on, unless it says that it has stopped. */
  takeOverFailed: { readonly error: CoterieError }
  stopped: StopResult
}

export type SyncKind = 'equal' | 'incremental' | 'snapshot' | 'rewound'

/** How a replica came to have what its master has. */
export interface SyncResult {
  readonly kind: SyncKind
  /** The last LSN before ... */
  readonly from: number
  /** ... and after. */
  readonly to: number
  readonly transactions: number
  readonly bytes: number
  readonly ms: number
}

/** Why an attachment ended; exhaustive. */
export interface StopResult {
  readonly reason:
    | 'connection-lost'
    | 'detached-by-master'
    | 'handshake-refused'
    | 'stopped'
    | 'cancelled'
    | 'became-master'
    /** Another site has become master, and nobody said where it is. */
    | 'replaced'
    | 'apply-failed'
  readonly cause?: CoterieError
  /** The last LSN of the local log, and its site's term. */
  readonly lsn: number
  readonly term: number
}

/** Events of a group: `db.join()`. `newMaster` always comes before `synced`, and `synced` before the next `newMaster`. */
export type GroupEvents = {
  /** This site has a new master, which may be itself. */
  newMaster: { readonly site: string; readonly term: number; readonly address: string }
  /** This site reigns: it takes writes. */
  master: { readonly term: number }
  /** This site follows a master. */
  replica: { readonly term: number }
  /** This site reigns no more. */
  steppedDown: {
    readonly term: number
    readonly reason: 'replaced' | 'no-majority' | 'handed-over' | 'asked'
    /** Who is master now, where known. */
    readonly site: string | undefined
  }
  syncBegin: AttachmentEvents['syncBegin']
  syncProgress: AttachmentEvents['syncProgress']
  snapshotDone: AttachmentEvents['snapshotDone']
  /** This site has all that its master had when it attached. */
  synced: SyncResult
  /** Transactions that no master ever had were taken back; `file` keeps them. */
  rewound: AttachmentEvents['rewound']
  /** This site hears no master, and asks the others. */
  electionBegun: { readonly round: number }
  /** Nobody was elected; it is tried again. Reads go on, writes say why not. */
  electionFailed: {
    /** `deferred` and `leased`: see `ElectResult`; only where elections are not automatic. */
    readonly reason: 'no-majority' | 'nobody-electable' | 'no-votes' | 'deferred' | 'leased'
    /** Members that were heard, this one included, and how many are needed. */
    readonly have: number
    readonly need: number
  }
  /** This site has given its vote. */
  voted: { readonly term: number; readonly site: string }
  /** The mastership was handed over to another site. */
  handedOver: { readonly site: string; readonly term: number; readonly lsn: number }
  memberAdded: { readonly site: string; readonly address: string }
  memberRemoved: { readonly site: string }
  /** What two sites do while one of them is away has changed. */
  twoSites: { readonly twoSites: TwoSites }
  /** A link to another site is up. */
  siteConnected: { readonly site: string; readonly address: string }
  /** No link to it is left. */
  siteLost: { readonly site: string }
  /** Two sites are master in one term, which the votes make impossible: somebody has promoted one by hand. */
  duplicateMaster: { readonly term: number; readonly site: string | undefined }
  /** Somebody who does not belong here was turned away. `site` is empty where it did not say who it is. */
  siteRefused: { readonly site: string; readonly code: string; readonly message: string }
  /** Somebody of the group has turned this site away. */
  refused: CoterieError
  /** A seed cannot be reached; it is tried again. */
  seedFailed: { readonly address: string; readonly error: CoterieError }
  /** The group has removed this site; its data can still be read. */
  removed: CoterieError
  stopped: GroupEnd
}

/** Events of replication over the application's network: `db.replication()`. `newMaster` comes before `synced`. */
export type ReplicationEvents = {
  newMaster: { readonly site: string; readonly term: number }
  master: { readonly term: number }
  replica: { readonly term: number }
  steppedDown: GroupEvents['steppedDown']
  /** This site has won an election: `start('master')` begins its reign. */
  elected: { readonly term: number }
  electionFailed: {
    readonly reason: 'no-majority' | 'nobody-electable' | 'no-votes' | 'deferred' | 'leased'
    readonly have: number
    readonly need: number
  }
  /** A site that was not known, and what it says of itself. */
  newSite: { readonly site: string; readonly data: Uint8Array }
  /** A master is there, and `delaySync` keeps this site from following it before `sync()`. */
  syncDelayed: { readonly site: string; readonly term: number }
  syncBegin: AttachmentEvents['syncBegin']
  syncProgress: AttachmentEvents['syncProgress']
  snapshotDone: AttachmentEvents['snapshotDone']
  synced: SyncResult
  rewound: AttachmentEvents['rewound']
  /** The master does not take this site. */
  joinFailed: { readonly code: string; readonly reason: string }
  /** A message could not be sent: as if it were lost. */
  sendFailed: {
    readonly to: string | number
    readonly lsn: number
    readonly permanent: boolean
    readonly cause: Error | undefined
  }
  duplicateMaster: GroupEvents['duplicateMaster']
  closed: undefined
}

/** Why a site takes no part in its group any more. */
export interface GroupEnd {
  readonly reason: 'left' | 'cancelled' | 'removed' | 'refused' | 'failed'
  readonly cause?: CoterieError
  readonly lsn: number
  readonly term: number
}
