// The file of a Unix socket, and who may use it. The rules of node:net alone would let anybody on the machine connect,
// and would leave a file behind a crash that no later process can listen on.
//
//   - the file is made under a umask of 077, so that there is no moment at which others can connect;
//   - a socket of this user on which nobody listens any more is stale, and is removed;
//   - anything else in the place is left alone and refused: somebody listens (ADDRESS_IN_USE), it is no socket, it is
//     another user's, or it is a symlink (ADDRESS_INVALID), which could lead to a place of somebody else's choice;
//   - a client does not follow a symlink either, nor does it speak to a socket of another user but root's.
//
// Between the look and the bind another process of the same user may do the same. The look is repeated in the turn of
// the bind, and the one that comes later finds the place taken. Named pipes of Windows are no files; none of this
// applies to them.

import { existsSync, lstatSync, type Stats, unlinkSync } from 'node:fs'
import * as net from 'node:net'
import { dirname } from 'node:path'
import { CoterieError } from '../../base/errors.ts'
import { connectError, systemCodeOf } from './node-errors.ts'

const probeTimeoutMs = 2000
const ownerOnly = 0o077

const hasFiles: boolean = process.platform !== 'win32'
/** What the system has room for in a socket's address; Node would cut a longer path off and use another place. */
const pathBytesMax = process.platform === 'linux' ? 107 : 103

/** Makes way for a listener. Returns what removes a stale file and binds, in one turn. Errors as above. */
export async function clearedForListening(path: string): Promise<(bind: () => void) => void> {
  if (!hasFiles) return (bind) => bind()
  checkLength(path)
  const found = statOf(path)
  if (found === undefined) {
    // The bind would say EACCES.
    if (!existsSync(dirname(path))) throw placeTaken(path, `there is no folder ${dirname(path)}`)
    return underUmask
  }
  const reason = whyNotOurs(found)
  if (reason !== undefined) throw placeTaken(path, reason)
  if (await isAnswered(path)) throw somebodyListens(path)
  return (bind) => {
    const now = statOf(path)
    if (now !== undefined) {
      if (now.ino !== found.ino || now.ctimeMs !== found.ctimeMs) throw somebodyListens(path)
      unlinkSync(path)
    }
    underUmask(bind)
  }
}

/** Errors: ADDRESS_INVALID; CONNECT_FAILED, where a client must not follow. */
export function checkBeforeConnecting(path: string): void {
  if (!hasFiles) return
  checkLength(path)
  const found = statOf(path)
  // The connect itself says best that there is nothing.
  if (found === undefined) return
  const ours = process.getuid?.() ?? 0
  const reason = found.isSymbolicLink()
    ? 'it is a symlink'
    : found.uid !== ours && found.uid !== 0 && ours !== 0
      ? `it belongs to another user (${found.uid})`
      : undefined
  if (reason !== undefined) throw connectError(new Error(reason), path)
}

function checkLength(path: string): void {
  const bytes = Buffer.byteLength(path)
  if (bytes <= pathBytesMax) return
  throw new CoterieError('ADDRESS_INVALID', `the path of a pipe has at most ${pathBytesMax} bytes: ${path}`, {
    details: { address: path, bytes, bytesMax: pathBytesMax },
  })
}

function whyNotOurs(found: Stats): string | undefined {
  if (found.isSymbolicLink()) return 'it is a symlink'
  if (!found.isSocket()) return 'it is no socket'
  const ours = process.getuid?.() ?? 0
  return found.uid === ours ? undefined : `it belongs to another user (${found.uid})`
}

function statOf(path: string): Stats | undefined {
  try {
    return lstatSync(path)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(systemCodeOf(error))) return undefined
    throw placeTaken(path, `it cannot be looked at: ${systemCodeOf(error)}`, error)
  }
}

/** Only a refused connect proves that nobody listens. */
function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ path })
    const settle = (answered: boolean): void => {
      clearTimeout(timer)
      socket.destroy()
      resolve(answered)
    }
    const timer = setTimeout(() => settle(true), probeTimeoutMs)
    timer.unref()
    socket.once('connect', () => settle(true))
    socket.on('error', (error) => settle(!['ECONNREFUSED', 'ENOENT'].includes(systemCodeOf(error))))
  })
}

/** A worker thread cannot change the mask of its process; there the listener narrows the rights itself. */
function underUmask(bind: () => void): void {
  let before: number
  try {
    before = process.umask(ownerOnly)
  } catch (error) {
    if (systemCodeOf(error) !== 'ERR_WORKER_UNSUPPORTED_OPERATION') throw error
    bind()
    return
  }
  try {
    bind()
  } finally {
    process.umask(before)
  }
}

function somebodyListens(path: string): CoterieError {
  return new CoterieError('ADDRESS_IN_USE', `cannot listen on ${path}: somebody listens there`, {
    details: { address: path },
  })
}

function placeTaken(path: string, reason: string, cause?: unknown): CoterieError {
  return new CoterieError('ADDRESS_INVALID', `cannot listen on ${path}: ${reason}`, {
    details: { address: path },
    ...(cause === undefined ? {} : { cause }),
  })
}
