// The events of the public faces: what each carries. Names are those of docs/protocol.md and, where the models have
// the like, theirs (features.md).

import type { CoterieError } from '../base/errors.ts'

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
  /** Someone asked to attach and was refused. */
  refused: { readonly site: string; readonly code: string; readonly message: string }
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
    | 'apply-failed'
  readonly cause?: CoterieError
  /** The last LSN of the local log, and its site's term. */
  readonly lsn: number
  readonly term: number
}
