// What the `coterie` command tells the shell. The table from error code to exit code is exhaustive by its type,
// so a new code in the catalogue does not compile until somebody has decided what a script should see.

import { type ErrorCode, isCoterieError } from '../base/errors.ts'

export const exitCodes = {
  ok: 0,
  failed: 1,
  usage: 2,
  locked: 3,
  notMaster: 4,
  outcomeUnknown: 5,
  connection: 6,
  keyNotFound: 7,
  interrupted: 130,
} as const

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes]

/** One line for each exit code, as `coterie --help` prints them. */
export const exitCodeMeanings: readonly (readonly [ExitCode, string])[] = [
  [0, 'done'],
  [1, 'the operation failed; also: damage found by verify, a bad line met by load, data lost in the demo'],
  [2, 'usage: an unknown verb or option, or a bad value'],
  [3, 'the database is open in another process that offers no control endpoint'],
  [4, 'not the master, or no quorum'],
  [5, 'outcome unknown: the commit may or may not become permanent; the token is in the error'],
  [6, 'the connection or the handshake failed'],
  [7, 'no such key'],
  [130, 'interrupted by a signal (join, serve, attach and top end with 0: a signal is how one ends them)'],
]

const { failed, usage, locked, notMaster, outcomeUnknown, connection, interrupted } = exitCodes

const byErrorCode: Record<ErrorCode, ExitCode> = {
  OPTION_UNKNOWN: usage,
  OPTION_INVALID: usage,
  KEY_INVALID: usage,
  VALUE_INVALID: usage,
  RANGE_INVALID: usage,
  TRANSACTION_TOO_LARGE: failed,
  TRANSACTION_ENDED: failed,
  TOKEN_INVALID: usage,
  CLOSED: failed,
  INVALID_STATE: failed,
  ABORTED: interrupted,
  LOCKED: locked,
  NOT_A_DATABASE: failed,
  FORMAT_UNSUPPORTED: failed,
  LOG_DAMAGED: failed,
  LOG_POISONED: failed,
  LOG_TRIMMED: failed,
  STORE_FAILED: failed,
  STATE_DAMAGED: failed,
  BACKUP_INVALID: failed,
  DISK_FULL: failed,
  IO_ERROR: failed,
  CONFLICT: failed,
  NOT_MASTER: notMaster,
  NO_QUORUM: notMaster,
  LEASE_EXPIRED: notMaster,
  LAG_EXCEEDED: notMaster,
  OUTCOME_UNKNOWN: outcomeUnknown,
  SYNCING: failed,
  STORE_NOT_KEPT: failed,
  VIEW_FILTER_FAILED: failed,
  ADDRESS_INVALID: usage,
  ADDRESS_IN_USE: connection,
  CONNECT_FAILED: connection,
  CONNECT_TIMEOUT: connection,
  CONNECTION_CLOSED: connection,
  HANDSHAKE_FAILED: connection,
  PROTOCOL_INCOMPATIBLE: connection,
  AUTH_FAILED: connection,
  TLS_FAILED: connection,
  FRAME_INVALID: connection,
  FOREIGN_HISTORY: connection,
  REWIND_REFUSED: connection,
  SNAPSHOT_REFUSED: connection,
  DUPLICATE_SITE: connection,
  DUPLICATE_MASTER: connection,
  ATTACH_LOOP: connection,
  RELAY_BEHIND: connection,
  RELAY_CHANGED: connection,
  TOO_MANY_REPLICAS: connection,
  DETACHED: connection,
  MASTER_STOPPED: connection,
  SILENCE_TIMEOUT: connection,
  ACK_TIMEOUT: connection,
  LAG_DETACHED: connection,
  REPLACED: notMaster,
  NO_MASTER: notMaster,
  SITE_WIPED: connection,
  MEMBER_REMOVED: connection,
  TRANSFER_FAILED: notMaster,
  SNAPSHOT_FAILED: failed,
}

/** A failure of the command itself, which has no place in the library's catalogue. */
export type CommandErrorCode =
  | 'USAGE'
  | 'KEY_NOT_FOUND'
  | 'LOAD_FAILED'
  | 'DATA_LOST'
  | 'INTERRUPTED'
  | 'MISSING'

const byCommandCode: Record<CommandErrorCode, ExitCode> = {
  USAGE: usage,
  KEY_NOT_FOUND: exitCodes.keyNotFound,
  LOAD_FAILED: failed,
  DATA_LOST: failed,
  INTERRUPTED: interrupted,
  MISSING: usage,
}

export interface CommandErrorOptions {
  readonly hint?: string
  readonly details?: Readonly<Record<string, unknown>>
  readonly cause?: unknown
  /** Instead of the code's own, where a failure wraps another (a load that ended with NOT_MASTER). */
  readonly exitCode?: ExitCode
}

export class CommandError extends Error {
  readonly code: CommandErrorCode
  readonly exitCode: ExitCode
  readonly hint: string | undefined
  readonly details: Readonly<Record<string, unknown>>

  constructor(code: CommandErrorCode, message: string, options: CommandErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'CommandError'
    this.code = code
    this.exitCode = options.exitCode ?? byCommandCode[code]
    this.hint = options.hint
    this.details = options.details ?? {}
  }
}

export function usageError(message: string, hint?: string): CommandError {
  return new CommandError('USAGE', message, hint === undefined ? {} : { hint })
}

export function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof CommandError) return error.exitCode
  if (isCoterieError(error)) return byErrorCode[error.code] ?? failed
  if (isNodeError(error) && error.code === 'ABORT_ERR') return interrupted
  return failed
}

export function isNodeError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).code === 'string'
}
