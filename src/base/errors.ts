// The one error class, and the catalogue of its codes.
//
// Expected outcomes are values, never errors. An operational error is a `CoterieError`: its `code` is stable
// within a major version, its message is not. A broken invariant is an `AssertionFailure` (assert.ts): the site
// stops. Misuse that a type checker would have caught is a `TypeError`. `docs/errors.md` lists the same codes;
// a test holds the two against each other, both ways.

/** What a code means and whether trying the same call again, unchanged, may succeed. */
export interface ErrorEntry {
  readonly retryable: boolean
  readonly meaning: string
}

/** Every code that a `CoterieError` can carry. */
export const errorCatalogue = {
  // Misuse that can only be seen at run time
  OPTION_UNKNOWN: { retryable: false, meaning: 'An option that this call does not have was given.' },
  OPTION_INVALID: {
    retryable: false,
    meaning: 'An option has a value of the wrong type or outside its range.',
  },
  KEY_INVALID: {
    retryable: false,
    meaning: 'A key is null, undefined or empty, or is longer than `limits.keyBytesMax`.',
  },
  VALUE_INVALID: {
    retryable: false,
    meaning: 'A value is null or undefined, or is longer than `limits.valueBytesMax`.',
  },
  RANGE_INVALID: {
    retryable: false,
    meaning: 'A range has both `gt` and `gte`, both `lt` and `lte`, or a bad `limit`.',
  },
  TRANSACTION_TOO_LARGE: {
    retryable: false,
    meaning: 'A transaction writes more than `limits.transactionBytesMax`.',
  },
  TRANSACTION_ENDED: { retryable: false, meaning: 'A transaction was used after its function had returned.' },
  TOKEN_INVALID: { retryable: false, meaning: 'A token is malformed or belongs to another database.' },
  CLOSED: { retryable: false, meaning: 'The database, snapshot or iterator is closed.' },
  INVALID_STATE: {
    retryable: false,
    meaning: 'The call does not fit the present role or state; the message says which.',
  },
  ABORTED: { retryable: true, meaning: 'The caller aborted the wait by its signal.' },
  // The directory and its files
  LOCKED: {
    retryable: true,
    meaning: 'Another process (or handle) has the directory open; `details.pid` names it.',
  },
  NOT_A_DATABASE: { retryable: false, meaning: 'The directory holds files, but not a Coterie database.' },
  FORMAT_UNSUPPORTED: {
    retryable: false,
    meaning: 'The files were written by a version whose format this one cannot read.',
  },
  LOG_DAMAGED: {
    retryable: false,
    meaning: 'A durable log record does not verify; `details` has file, offset and lsn.',
  },
  LOG_POISONED: {
    retryable: false,
    meaning: 'A write or sync of the log failed; reopen the database to verify it and go on.',
  },
  LOG_TRIMMED: {
    retryable: false,
    meaning: 'The log no longer reaches back to the LSN asked for; `details.firstLsn` is the oldest.',
  },
  STORE_FAILED: {
    retryable: false,
    meaning: 'The store failed to read or write; it is never trusted over the log.',
  },
  STATE_DAMAGED: { retryable: false, meaning: 'The state file does not verify.' },
  BACKUP_INVALID: { retryable: false, meaning: 'A backup is incomplete or does not verify.' },
  DISK_FULL: { retryable: true, meaning: 'No space left: the write was refused and nothing of it is kept.' },
  IO_ERROR: { retryable: true, meaning: 'The operating system reported an error; `cause` has it.' },
  // Transactions
  CONFLICT: {
    retryable: true,
    meaning: 'An async transaction lost against concurrent writes `maxAttempts` times.',
  },
  NOT_MASTER: {
    retryable: true,
    meaning: 'This site is a replica or read-only; `details.master` names the master if known.',
  },
  NO_QUORUM: {
    retryable: true,
    meaning:
      'Fewer replicas are attached than `quorum` demands, or too few sites answered a read; `details` may have have and need.',
  },
  LEASE_EXPIRED: {
    retryable: true,
    meaning:
      'The lease of this master has run out, and too few sites renewed it in time: what is here may not be the newest.',
  },
  LAG_EXCEEDED: {
    retryable: true,
    meaning: 'Async mode with `onFull: reject`: a replica lags by more than `maxLagBytes`.',
  },
  OUTCOME_UNKNOWN: {
    retryable: false,
    meaning:
      'The ack policy was not met in time: the record is in the log and may yet become permanent; ask `outcome(details.token)`.',
  },
  SYNCING: {
    retryable: true,
    meaning: 'The store is being brought up to date after a resumed snapshot; wait for `synced`.',
  },
  // Views
  STORE_NOT_KEPT: {
    retryable: false,
    meaning: 'This site is a partial view and does not keep the store that was asked for: `details.store`.',
  },
  VIEW_FILTER_FAILED: {
    retryable: false,
    meaning:
      'The filter of a partial view threw, or answered neither true nor false, for `details.store`; nothing was skipped.',
  },
  // Network and group
  ADDRESS_INVALID: {
    retryable: false,
    meaning: 'An address cannot be parsed, or its scheme has no transport.',
  },
  ADDRESS_IN_USE: { retryable: true, meaning: 'The address to listen on is in use.' },
  CONNECT_FAILED: { retryable: true, meaning: 'No connection could be made; `cause` has the reason.' },
  CONNECT_TIMEOUT: { retryable: true, meaning: 'The other side did not answer within `connectTimeoutMs`.' },
  CONNECTION_CLOSED: { retryable: true, meaning: 'The connection was lost.' },
  HANDSHAKE_FAILED: { retryable: true, meaning: 'The other side ended the handshake or broke its rules.' },
  PROTOCOL_INCOMPATIBLE: { retryable: false, meaning: 'The other side speaks another protocol or version.' },
  AUTH_FAILED: {
    retryable: false,
    meaning:
      'One of the two sides did not prove who it is, or that it knows the secret; the message says which.',
  },
  TLS_FAILED: {
    retryable: false,
    meaning:
      'TLS could not say who is on the other side: a certificate is not to be believed, or one side speaks no TLS.',
  },
  FRAME_INVALID: {
    retryable: false,
    meaning: 'A frame was malformed, damaged or over the size bound; the connection was ended.',
  },
  FOREIGN_HISTORY: {
    retryable: false,
    meaning:
      'The two databases do not share a history; attach with `replace: true` to set the local data aside.',
  },
  REWIND_REFUSED: {
    retryable: false,
    meaning:
      'Following this master would undo commits that a quorum had made permanent; nothing was changed.',
  },
  SNAPSHOT_REFUSED: {
    retryable: false,
    meaning:
      'This site lacks records that its master no longer has, and `autoInit: false` forbids it to take a snapshot.',
  },
  DUPLICATE_SITE: { retryable: false, meaning: 'Another site of the same id is attached.' },
  DUPLICATE_MASTER: {
    retryable: false,
    meaning: 'Two sites are master in the same term; promote one of them again.',
  },
  ATTACH_LOOP: {
    retryable: false,
    meaning: 'The attachment would lead back to the site that attaches, or through more than 16 sites.',
  },
  RELAY_BEHIND: {
    retryable: true,
    meaning:
      'A replica that serves in its turn cannot yet vouch for all that this site has: wait, or attach to the master.',
  },
  RELAY_CHANGED: {
    retryable: true,
    meaning: 'A replica that serves in its turn has become master, or has other data now: attach again.',
  },
  TOO_MANY_REPLICAS: { retryable: true, meaning: 'The master has `maxReplicas` replicas already.' },
  DETACHED: {
    retryable: false,
    meaning: 'The operator of the master sent this replica away; the message says why.',
  },
  MASTER_STOPPED: {
    retryable: true,
    meaning: 'The master stopped serving: attach again when it is back, or to another.',
  },
  SILENCE_TIMEOUT: {
    retryable: true,
    meaning: 'Nothing was heard from the other side for `silenceTimeoutMs`.',
  },
  ACK_TIMEOUT: {
    retryable: true,
    meaning: 'A replica did not acknowledge within `ackTimeoutMs` and was detached.',
  },
  LAG_DETACHED: { retryable: true, meaning: 'A replica lagged by more than `maxLagBytes` and was detached.' },
  REPLACED: { retryable: false, meaning: 'Another site has become master in a higher term.' },
  NO_MASTER: {
    retryable: true,
    meaning:
      'The group has no master now; `details` has the sites that were reached and those that an election needs.',
  },
  SITE_WIPED: {
    retryable: false,
    meaning:
      'A member of this id is known with other data: this site has lost its disk, or the id is used twice.',
  },
  MEMBER_REMOVED: { retryable: false, meaning: 'The group has removed this site for good.' },
  TRANSFER_FAILED: {
    retryable: true,
    meaning: 'The mastership was not handed over, and the old master goes on as before.',
  },
  SNAPSHOT_FAILED: {
    retryable: true,
    meaning: 'A snapshot could not be sent or installed; the old data is untouched.',
  },
} as const

export type ErrorCode = keyof typeof errorCatalogue

export interface CoterieErrorOptions {
  readonly cause?: unknown
  /** Facts for programs: numbers, ids, file names. Stable within a major version where docs/errors.md names them. */
  readonly details?: Readonly<Record<string, unknown>>
}

/** The class of every operational error. Match on `code`, never on the message. */
export class CoterieError extends Error {
  readonly code: ErrorCode
  readonly retryable: boolean
  readonly details: Readonly<Record<string, unknown>>

  constructor(code: ErrorCode, message: string, options: CoterieErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'CoterieError'
    this.code = code
    this.retryable = errorCatalogue[code].retryable
    this.details = options.details ?? {}
  }
}

/** True for a `CoterieError`, optionally of one code. */
export function isCoterieError(error: unknown, code?: ErrorCode): error is CoterieError {
  return error instanceof CoterieError && (code === undefined || error.code === code)
}

/** Any thrown thing as an Error, so that `cause` and messages are never `undefined`. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown))
}
