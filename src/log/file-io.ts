// Small steps over OpenFile, and what their failures mean to a log.
//
// Two things must never be mixed up: a write that found no space (nothing is in doubt, try again later) and a
// sync that failed (everything since the last good sync is in doubt, for good). Hence `SyncFailure`.

import { asError, CoterieError } from '../base/errors.ts'
import type { OpenFile } from '../env/host.ts'

/** A sync did not succeed, for whatever reason: never tried again. */
export class SyncFailure extends Error {
  constructor(path: string, cause: Error) {
    super(`${path} could not be synced: ${cause.message}`, { cause })
    this.name = 'SyncFailure'
  }
}

const zeroBytes = new Uint8Array(1_048_576)

/** `length` zeros, as parts for a write. */
export function zeroParts(length: number): Uint8Array[] {
  const parts: Uint8Array[] = []
  for (let left = length; left > 0; left -= zeroBytes.length) {
    parts.push(left >= zeroBytes.length ? zeroBytes : zeroBytes.subarray(0, left))
  }
  return parts
}

export function isAllZero(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += zeroBytes.length) {
    const part = bytes.subarray(at, at + zeroBytes.length)
    if (Buffer.compare(part, zeroBytes.subarray(0, part.length)) !== 0) return false
  }
  return true
}

/** Fills `into` from `at` on; returns how much of it there was before the file ended. */
export async function readFully(file: OpenFile, into: Uint8Array, at: number): Promise<number> {
  let done = 0
  while (done < into.length) {
    const count = await file.read(done === 0 ? into : into.subarray(done), at + done)
    if (count === 0) break
    done += count
  }
  return done
}

export function writeParts(file: OpenFile, parts: readonly Uint8Array[], at: number): Promise<void> {
  return new Promise((resolve, reject) => {
    file.write(parts, at, (error) => (error === null ? resolve() : reject(error)))
  })
}

export function syncFile(file: OpenFile): Promise<void> {
  return new Promise((resolve, reject) => {
    file.sync((error) => (error === null ? resolve() : reject(new SyncFailure(file.path, error))))
  })
}

const copyBytes = 1_048_576

/** Copies `[start, end)` of one file to the same place in another (or the same, to make it dirty again). */
export async function copyRange(from: OpenFile, to: OpenFile, start: number, end: number): Promise<void> {
  for (let at = start; at < end; at += copyBytes) {
    const part = new Uint8Array(Math.min(copyBytes, end - at))
    const count = await readFully(from, part, at)
    if (count < part.length) throw new Error(`${from.path} is shorter than it was: ${at + count} bytes`)
    await writeParts(to, [part], at)
  }
}

/** True if the operating system had no space, and said so where nothing is in doubt. */
export function isDiskFull(error: unknown): boolean {
  if (error instanceof SyncFailure) return false
  if (error instanceof CoterieError) return error.code === 'DISK_FULL'
  const code = error instanceof Error ? (error as Error & { code?: unknown }).code : undefined
  return code === 'ENOSPC' || code === 'EDQUOT'
}

/** As an operational error; one that is one already stays as it is. */
export function toLogError(thrown: unknown, what: string): CoterieError {
  if (thrown instanceof CoterieError) return thrown
  const cause = asError(thrown)
  if (isDiskFull(thrown)) return new CoterieError('DISK_FULL', `${what}: no space left`, { cause })
  return new CoterieError('IO_ERROR', `${what}: ${cause.message}`, { cause })
}
