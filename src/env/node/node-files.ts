// Files on the real disk. Names become durable only with their folder: whoever creates, renames or removes calls
// `syncFolder` before relying on it; `replace` and `makeFolder` do it themselves. A lock belongs to the open file,
// so it dies with the process, and a second handle in the same process is refused too. The lock file is never
// deleted: between a delete and the next create two processes could each hold "the" lock.

import * as fs from 'node:fs'
import * as path from 'node:path'
import { tryLock, unlock } from 'fs-native-extensions'
import type { FileLock, Files, OpenFile } from '../host.ts'
import { fileError, systemCodeOf } from './node-errors.ts'
import { NodeOpenFile } from './node-open-file.ts'

const openFlags = {
  read: fs.constants.O_RDONLY,
  write: fs.constants.O_RDWR,
  create: fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_TRUNC,
}

export class NodeFiles implements Files {
  join(...parts: string[]): string {
    return path.join(...parts)
  }

  resolve(file: string): string {
    return path.resolve(file)
  }

  async makeFolder(folder: string): Promise<void> {
    const target = path.resolve(folder)
    const topmost = await named('mkdir', target, () => fs.promises.mkdir(target, { recursive: true }))
    const above = path.dirname(topmost === undefined ? target : path.resolve(topmost))
    for (let parent = path.dirname(target); ; parent = path.dirname(parent)) {
      await this.syncFolder(parent)
      if (parent === above || parent === path.dirname(parent)) return
    }
  }

  async list(folder: string): Promise<string[] | undefined> {
    const names = await unlessMissing('readdir', folder, () => fs.promises.readdir(folder))
    return names?.sort()
  }

  async size(file: string): Promise<number | undefined> {
    return (await unlessMissing('stat', file, () => fs.promises.stat(file)))?.size
  }

  rename(from: string, to: string): Promise<void> {
    return named('rename', from, () => fs.promises.rename(from, to))
  }

  /** A file that is not there counts as removed. */
  async remove(file: string): Promise<void> {
    await unlessMissing('unlink', file, () => fs.promises.unlink(file))
  }

  removeTree(folder: string): Promise<void> {
    return named('rm', folder, () => fs.promises.rm(folder, { recursive: true, force: true }))
  }

  async syncFolder(folder: string): Promise<void> {
    // Windows has no sync of a folder: its file system journals names by itself.
    if (process.platform === 'win32') return
    const fd = await openDescriptor(folder, fs.constants.O_RDONLY)
    try {
      await named('fsync', folder, () => callback((done) => fs.fsync(fd, done)))
    } finally {
      await closeDescriptor(folder, fd)
    }
  }

  readAll(file: string): Promise<Uint8Array | undefined> {
    return unlessMissing('read', file, () => fs.promises.readFile(file))
  }

  async replace(file: string, content: Uint8Array): Promise<void> {
    const temporary = `${file}.tmp`
    const open = await this.open(temporary, 'create')
    try {
      await callback((done) => open.write([content], 0, done))
      await callback((done) => open.sync(done))
    } finally {
      await open.close()
    }
    await this.rename(temporary, file)
    await this.syncFolder(path.dirname(file))
  }

  /** `read` and `write` need a file that is there; `create` makes it, or empties the one that is there. */
  async open(file: string, mode: 'read' | 'write' | 'create'): Promise<OpenFile> {
    return new NodeOpenFile(file, await openDescriptor(file, openFlags[mode]))
  }

  async lock(file: string): Promise<FileLock | undefined> {
    const fd = await openDescriptor(file, fs.constants.O_RDWR | fs.constants.O_CREAT)
    let locked = false
    try {
      locked = tryLock(fd)
    } catch (error) {
      throw fileError(error, { path: file, syscall: 'lock' })
    } finally {
      if (!locked) await closeDescriptor(file, fd)
    }
    return locked ? new NodeFileLock(file, fd) : undefined
  }

  /** `file` itself need not exist: the nearest folder above it that does is asked. */
  async freeBytes(file: string): Promise<number> {
    for (let place = path.resolve(file); ; place = path.dirname(place)) {
      const found = await unlessMissing('statfs', place, () => fs.promises.statfs(place))
      if (found !== undefined) return found.bavail * found.bsize
      if (place === path.dirname(place)) {
        throw fileError(new Error('no such disk'), { path: file, syscall: 'statfs' })
      }
    }
  }
}

class NodeFileLock implements FileLock {
  readonly #path: string
  readonly #fd: number
  readonly #file: NodeOpenFile
  #released: Promise<void> | undefined

  constructor(file: string, fd: number) {
    this.#path = file
    this.#fd = fd
    this.#file = new NodeOpenFile(file, fd)
  }

  async describe(content: string): Promise<void> {
    const bytes = Buffer.from(content, 'utf8')
    // Written before it is cut: a reader sees the old text or the new one, never an empty file.
    await callback((done) => this.#file.write([bytes], 0, done))
    await this.#file.truncate(bytes.length)
  }

  release(): Promise<void> {
    this.#released ??= this.#unlockAndClose()
    return this.#released
  }

  async #unlockAndClose(): Promise<void> {
    try {
      unlock(this.#fd)
    } catch (error) {
      throw fileError(error, { path: this.#path, syscall: 'unlock' })
    } finally {
      await this.#file.close()
    }
  }
}

function openDescriptor(file: string, flags: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.open(file, flags, 0o666, (error, fd) => {
      if (error) reject(fileError(error, { path: file, syscall: 'open' }))
      else resolve(fd)
    })
  })
}

function closeDescriptor(file: string, fd: number): Promise<void> {
  return named('close', file, () => callback((done) => fs.close(fd, done)))
}

function callback(start: (done: (error: Error | null) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => start((error) => (error ? reject(error) : resolve())))
}

async function named<T>(syscall: string, file: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run()
  } catch (error) {
    throw fileError(error, { path: file, syscall })
  }
}

async function unlessMissing<T>(
  syscall: string,
  file: string,
  run: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await run()
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT') return undefined
    throw fileError(error, { path: file, syscall })
  }
}
