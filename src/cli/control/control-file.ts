// `control.json` in the directory of a database that a running `coterie` process has open: where its control endpoint
// listens, and the secret that proves the right to use it. Readable by its owner only; gone when the process ends.
//
// A process that was killed leaves its file behind. Readers ignore a file whose pid is gone or whose endpoint does not
// answer or does not know the secret, so a leftover does no harm.

import { randomBytes } from 'node:crypto'
import { open, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { isNodeError } from '../exit-codes.ts'

export interface ControlFile {
  readonly version: number
  readonly pid: number
  /** `tcp://127.0.0.1:port`. */
  readonly address: string
  readonly secret: string
}

export function controlFilePath(location: string): string {
  return join(location, 'control.json')
}

export function newSecret(): string {
  return randomBytes(32).toString('hex')
}

export async function writeControlFile(location: string, content: ControlFile): Promise<void> {
  const path = controlFilePath(location)
  const fresh = `${path}.${content.pid}`
  await rm(fresh, { force: true })
  const file = await open(fresh, 'wx', 0o600)
  try {
    await file.writeFile(`${JSON.stringify(content)}\n`)
  } finally {
    await file.close()
  }
  await rename(fresh, path)
}

/** Removes the file unless another process has written its own since. */
export async function removeControlFile(location: string, secret: string): Promise<void> {
  if ((await readControlFile(location))?.secret === secret)
    await rm(controlFilePath(location), { force: true })
}

/** Undefined if there is none, it is not one, or its process is gone. */
export async function readControlFile(location: string): Promise<ControlFile | undefined> {
  let text: string
  try {
    text = await readFile(controlFilePath(location), 'utf8')
  } catch (error) {
    if (isNodeError(error) && ['ENOENT', 'ENOTDIR', 'EACCES'].includes(error.code ?? '')) return undefined
    throw error
  }
  const content = parse(text)
  return content !== undefined && processLives(content.pid) ? content : undefined
}

function parse(text: string): ControlFile | undefined {
  let content: Partial<ControlFile> | null
  try {
    content = JSON.parse(text) as Partial<ControlFile> | null
  } catch {
    return undefined
  }
  const valid =
    typeof content === 'object' &&
    content !== null &&
    Number.isSafeInteger(content.pid) &&
    (content.pid ?? 0) > 0 &&
    typeof content.address === 'string' &&
    typeof content.secret === 'string'
  return valid ? (content as ControlFile) : undefined
}

function processLives(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return isNodeError(error) && error.code === 'EPERM'
  }
}
