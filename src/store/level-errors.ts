// What LevelDB's errors mean to whoever holds the store.
//
// STORE_FAILED says that the store cannot be trusted any more. When opening, other troubles must not look like that,
// because a damaged store is thrown away and rebuilt: a full disk, a lock that another process holds, too many open
// files.

import { asError, CoterieError, type ErrorCode } from '../base/errors.ts'

/** For an open store: whatever went wrong, it is over. `details.diskFull` says that space would have helped. */
export function storeFailed(location: string, cause: unknown): CoterieError {
  if (cause instanceof CoterieError && cause.code === 'STORE_FAILED') return cause
  const { message } = rootOf(cause)
  return new CoterieError('STORE_FAILED', `the store in ${location} failed: ${message}`, {
    cause,
    details: { location, diskFull: isDiskFull(cause) },
  })
}

/** For opening one: STORE_FAILED only for damage. */
export function openFailed(location: string, cause: unknown): CoterieError {
  // The files' own errors have the right code.
  if (cause instanceof CoterieError) return cause
  const root = rootOf(cause)
  const code = codeOf(root)
  let meaning: ErrorCode = 'STORE_FAILED'
  if (code === 'LEVEL_LOCKED') meaning = 'LOCKED'
  else if (code === 'LEVEL_IO_ERROR') meaning = isDiskFull(root) ? 'DISK_FULL' : 'IO_ERROR'
  return new CoterieError(meaning, `the store in ${location} cannot be opened: ${root.message}`, {
    cause,
    details: { location },
  })
}

/** The binding wraps LevelDB's error in one that says only that it did not open. */
function rootOf(thrown: unknown): Error {
  let error = asError(thrown)
  while (error.cause instanceof Error) error = error.cause
  return error
}

function codeOf(error: Error): unknown {
  return (error as Error & { readonly code?: unknown }).code
}

function isDiskFull(thrown: unknown): boolean {
  const root = rootOf(thrown)
  const code = codeOf(root)
  return (
    code === 'DISK_FULL' ||
    code === 'ENOSPC' ||
    code === 'EDQUOT' ||
    /No space left|quota/i.test(root.message)
  )
}
