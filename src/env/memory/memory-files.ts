// Files in memory: what databases named `:memory:`, and tests, stand on. Nothing outlives the object. A write takes
// effect at once and reports in a microtask; a sync reports through `timers.soon`, so that commits gather while it
// is under way, as on a disk, and a loop of commits does not keep the sockets waiting.
//
// A disk model, where one is given, sees every change, says which calls fail, and knows what a crash would leave.

import { concatBytes, utf8Encode } from '../../base/bytes.ts'
import { CoterieError } from '../../base/errors.ts'
import type { FileLock, Files, OpenFile, Timers } from '../host.ts'
import {
  applyLinks,
  folderOf,
  joinPath,
  type Link,
  MemoryFile,
  MemoryFolder,
  MemoryTree,
  memoryError,
  type Place,
  resolvePath,
} from './memory-tree.ts'

type Done = (error: Error | null) => void

/** What a disk does to changes. Every error that it returns or throws is the one that the caller gets. */
export interface DiskModel {
  /** Throws if the machine has crashed or `path` may not be used. */
  check(path: string, syscall: string): void
  /** How many bytes of a write take effect, and the error that it ends with. */
  planWrite(change: { file: MemoryFile; path: string; at: number; bytes: number }): {
    readonly bytes: number
    readonly error: CoterieError | null
  }
  wrote(file: MemoryFile, bytes: Uint8Array, at: number): void
  truncated(file: MemoryFile, size: number): void
  /** A sync begins; the returned function ends it and says how. */
  beginSync(file: MemoryFile, path: string): () => CoterieError | null
  planCreate(path: string): void
  linked(links: readonly Link[]): void
  syncedFolder(folder: MemoryFolder): void
  freeBytes(): number
}

export interface MemoryFilesOptions {
  readonly timers: Timers
  readonly tree?: MemoryTree
  readonly disk?: DiskModel
}

const unlimitedBytes = Number.MAX_SAFE_INTEGER

export class MemoryFiles implements Files {
  readonly #timers: Timers
  readonly #tree: MemoryTree
  readonly #disk: DiskModel | undefined
  readonly #locked: Set<string> = new Set()

  constructor(options: MemoryFilesOptions) {
    this.#timers = options.timers
    this.#tree = options.tree ?? new MemoryTree()
    this.#disk = options.disk
  }

  join(...parts: string[]): string {
    return joinPath(parts)
  }

  resolve(path: string): string {
    return resolvePath(path)
  }

  async makeFolder(path: string): Promise<void> {
    this.#disk?.check(path, 'mkdir')
    const target = resolvePath(path)
    const missing: string[] = []
    for (let at = target; this.#tree.find(at) === undefined; at = folderOf(at)) missing.unshift(at)
    for (const folder of missing) {
      const place = this.#tree.place(folder, 'mkdir')
      this.#disk?.planCreate(folder)
      this.#link([{ ...place, node: new MemoryFolder() }])
      this.#disk?.syncedFolder(place.folder)
    }
    if (!(this.#tree.find(target) instanceof MemoryFolder)) {
      throw memoryError('ENOTDIR', { path, syscall: 'mkdir' })
    }
    if (missing.length === 0 && target !== '/') {
      this.#disk?.syncedFolder(this.#tree.place(target, 'mkdir').folder)
    }
  }

  async list(path: string): Promise<string[] | undefined> {
    this.#disk?.check(path, 'readdir')
    const node = this.#tree.find(path)
    if (node === undefined) return undefined
    if (node instanceof MemoryFolder) return [...node.entries.keys()].sort((a, b) => (a < b ? -1 : 1))
    throw memoryError('ENOTDIR', { path, syscall: 'readdir' })
  }

  async size(path: string): Promise<number | undefined> {
    this.#disk?.check(path, 'stat')
    const node = this.#tree.find(path)
    if (node === undefined) return undefined
    return node instanceof MemoryFile ? node.content.size : 0
  }

  async rename(from: string, to: string): Promise<void> {
    this.#disk?.check(from, 'rename')
    const source = this.#existing(from, 'rename')
    const target = this.#tree.place(to, 'rename')
    const { node: replaced } = target
    if (replaced === source.node) return
    if (replaced instanceof MemoryFolder) {
      if (source.node instanceof MemoryFile) throw memoryError('EISDIR', { path: to, syscall: 'rename' })
      if (replaced.entries.size > 0) throw memoryError('ENOTEMPTY', { path: to, syscall: 'rename' })
    } else if (replaced !== undefined && source.node instanceof MemoryFolder) {
      throw memoryError('ENOTDIR', { path: to, syscall: 'rename' })
    }
    this.#link([
      { ...source, node: undefined },
      { ...target, node: source.node },
    ])
  }

  /** A file that is not there counts as removed. */
  async remove(path: string): Promise<void> {
    this.#disk?.check(path, 'unlink')
    const node = this.#tree.find(path)
    if (node === undefined) return
    if (node instanceof MemoryFolder) throw memoryError('EISDIR', { path, syscall: 'unlink' })
    this.#link([{ ...this.#tree.place(path, 'unlink'), node: undefined }])
  }

  async removeTree(path: string): Promise<void> {
    this.#disk?.check(path, 'rm')
    const node = this.#tree.find(path)
    if (node === undefined) return
    if (node instanceof MemoryFolder) {
      for (const name of [...node.entries.keys()]) await this.removeTree(joinPath([path, name]))
    }
    this.#link([{ ...this.#tree.place(path, 'rm'), node: undefined }])
  }

  async syncFolder(path: string): Promise<void> {
    this.#disk?.check(path, 'fsync')
    const node = this.#tree.find(path)
    if (node === undefined) throw memoryError('ENOENT', { path, syscall: 'fsync' })
    if (!(node instanceof MemoryFolder)) throw memoryError('ENOTDIR', { path, syscall: 'fsync' })
    this.#disk?.syncedFolder(node)
  }

  async readAll(path: string): Promise<Uint8Array | undefined> {
    this.#disk?.check(path, 'read')
    const node = this.#tree.find(path)
    if (node === undefined) return undefined
    if (node instanceof MemoryFolder) throw memoryError('EISDIR', { path, syscall: 'read' })
    return node.content.readAll()
  }

  async replace(path: string, content: Uint8Array): Promise<void> {
    const temporary = `${path}.tmp`
    const file = await this.open(temporary, 'create')
    try {
      await new Promise<void>((resolve, reject) => {
        file.write([content], 0, (error) => (error ? reject(error) : resolve()))
      })
      await new Promise<void>((resolve, reject) => {
        file.sync((error) => (error ? reject(error) : resolve()))
      })
    } finally {
      await file.close()
    }
    await this.rename(temporary, path)
    await this.syncFolder(folderOf(path))
  }

  /** `read` and `write` need a file that is there; `create` makes it, or empties the one that is there. */
  async open(path: string, mode: 'read' | 'write' | 'create'): Promise<OpenFile> {
    this.#disk?.check(path, 'open')
    const place = this.#tree.place(path, 'open')
    if (place.node instanceof MemoryFolder) throw memoryError('EISDIR', { path, syscall: 'open' })
    let file = place.node
    if (file === undefined) {
      if (mode !== 'create') throw memoryError('ENOENT', { path, syscall: 'open' })
      file = this.#createFile(path, place)
    } else if (mode === 'create') {
      file.content.truncate(0)
      this.#disk?.truncated(file, 0)
    }
    return new MemoryOpenFile({
      path,
      file,
      writable: mode !== 'read',
      timers: this.#timers,
      disk: this.#disk,
    })
  }

  async lock(path: string): Promise<FileLock | undefined> {
    this.#disk?.check(path, 'lock')
    const place = this.#tree.place(path, 'lock')
    if (place.node instanceof MemoryFolder) throw memoryError('EISDIR', { path, syscall: 'lock' })
    const key = resolvePath(path)
    if (this.#locked.has(key)) return undefined
    const file = place.node ?? this.#createFile(path, place)
    this.#locked.add(key)
    let held = true
    return {
      describe: async (content: string): Promise<void> => {
        const bytes = utf8Encode(content)
        file.content.truncate(0)
        this.#disk?.truncated(file, 0)
        file.content.write(bytes, 0)
        this.#disk?.wrote(file, bytes, 0)
      },
      release: async (): Promise<void> => {
        if (held) this.#locked.delete(key)
        held = false
      },
    }
  }

  async freeBytes(path: string): Promise<number> {
    this.#disk?.check(path, 'statfs')
    return this.#disk?.freeBytes() ?? unlimitedBytes
  }

  #createFile(path: string, place: Place): MemoryFile {
    this.#disk?.planCreate(path)
    const file = new MemoryFile()
    this.#link([{ ...place, node: file }])
    return file
  }

  #existing(path: string, syscall: string): Place {
    const place = this.#tree.place(path, syscall)
    if (place.node === undefined) throw memoryError('ENOENT', { path, syscall })
    return place
  }

  #link(links: readonly Link[]): void {
    applyLinks(links)
    this.#disk?.linked(links)
  }
}

interface MemoryOpenFileOptions {
  readonly path: string
  readonly file: MemoryFile
  readonly writable: boolean
  readonly timers: Timers
  readonly disk: DiskModel | undefined
}

class MemoryOpenFile implements OpenFile {
  readonly path: string
  readonly #file: MemoryFile
  readonly #writable: boolean
  readonly #timers: Timers
  readonly #disk: DiskModel | undefined
  #closed: boolean = false

  constructor(options: MemoryOpenFileOptions) {
    this.path = options.path
    this.#file = options.file
    this.#writable = options.writable
    this.#timers = options.timers
    this.#disk = options.disk
  }

  async read(into: Uint8Array, at: number): Promise<number> {
    this.#check('read')
    return this.#file.content.read(into, at)
  }

  write(parts: readonly Uint8Array[], at: number, done: Done): void {
    const error = this.#write(parts, at)
    queueMicrotask(() => done(error))
  }

  sync(done: Done): void {
    try {
      this.#check('fdatasync')
    } catch (error) {
      queueMicrotask(() => done(error as CoterieError))
      return
    }
    const end = this.#disk?.beginSync(this.#file, this.path)
    this.#timers.soon(() => done(end === undefined ? null : end()))
  }

  async truncate(bytes: number): Promise<void> {
    this.#check('ftruncate')
    if (!this.#writable) throw memoryError('EBADF', { path: this.path, syscall: 'ftruncate' })
    this.#file.content.truncate(bytes)
    this.#disk?.truncated(this.#file, bytes)
  }

  async close(): Promise<void> {
    this.#closed = true
  }

  #write(parts: readonly Uint8Array[], at: number): CoterieError | null {
    try {
      this.#check('write')
    } catch (error) {
      return error as CoterieError
    }
    if (!this.#writable) return memoryError('EBADF', { path: this.path, syscall: 'write' })
    const disk = this.#disk
    if (disk === undefined) {
      let place = at
      for (const part of parts) {
        this.#file.content.write(part, place)
        place += part.length
      }
      return null
    }
    const whole = concatBytes(parts)
    const plan = disk.planWrite({ file: this.#file, path: this.path, at, bytes: whole.length })
    const written = plan.bytes === whole.length ? whole : whole.subarray(0, plan.bytes)
    this.#file.content.write(written, at)
    disk.wrote(this.#file, written, at)
    return plan.error
  }

  #check(syscall: string): void {
    if (this.#closed) throw new CoterieError('CLOSED', `${this.path} is closed`)
    this.#disk?.check(this.path, syscall)
  }
}
