// Turns errors of the operating system into `CoterieError`s. The original is the `cause`; the path and the system
// call are in `details`, so that a log line says which file it was without reading the message.

import { asError, CoterieError, type ErrorCode } from '../../base/errors.ts'

export interface IoContext {
  readonly path: string
  readonly syscall: string
}

const diskFullCodes: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT'])
const badAddressCodes: ReadonlySet<string> = new Set([
  'EADDRNOTAVAIL',
  'EAFNOSUPPORT',
  'EACCES',
  'EINVAL',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EAI_FAIL',
  'ERR_SOCKET_BAD_PORT',
])

/** The code that Node gives its system errors, or an empty string. */
export function systemCodeOf(error: unknown): string {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
  return typeof code === 'string' ? code : ''
}

export function fileError(thrown: unknown, context: IoContext): CoterieError {
  if (thrown instanceof CoterieError) return thrown
  const cause = asError(thrown)
  const code: ErrorCode = diskFullCodes.has(systemCodeOf(cause)) ? 'DISK_FULL' : 'IO_ERROR'
  return new CoterieError(code, `${context.syscall} of ${context.path} failed: ${cause.message}`, {
    cause,
    details: { path: context.path, syscall: context.syscall, errno: systemCodeOf(cause) },
  })
}

export function listenError(thrown: unknown, address: string): CoterieError {
  const cause = asError(thrown)
  const systemCode = systemCodeOf(cause)
  let code: ErrorCode = 'IO_ERROR'
  if (systemCode === 'EADDRINUSE') code = 'ADDRESS_IN_USE'
  else if (badAddressCodes.has(systemCode)) code = 'ADDRESS_INVALID'
  return new CoterieError(code, `cannot listen on ${address}: ${cause.message}`, {
    cause,
    details: { address, errno: systemCode },
  })
}

export function connectError(thrown: unknown, address: string): CoterieError {
  const cause = asError(thrown)
  const systemCode = systemCodeOf(cause)
  const code: ErrorCode = systemCode === 'ERR_SOCKET_BAD_PORT' ? 'ADDRESS_INVALID' : 'CONNECT_FAILED'
  return new CoterieError(code, `cannot connect to ${address}: ${cause.message || systemCode}`, {
    cause,
    details: { address, errno: systemCode },
  })
}
