// Files that take their time, in front of any others: every call that changes something on the disk ends later than
// it began, by the timers of the site that made it, so that a crash finds calls half way, and a slow disk is slow.
//
// A write takes effect at once, in the memory of the operating system, and reports later. A call on names or on a
// whole file takes effect when its time has come.

import type { FileLock, Files, OpenFile } from '../host.ts'
import type { SimulatedHost } from './simulated-host.ts'

/** How long each call takes, in true milliseconds; drawn anew for each. Zero: it ends at once. */
export interface FileDelays {
  /** Creates, renames, removes, syncs of folders, truncates. */
  name(): number
  read(): number
  write(): number
}

type Done = (error: Error | null) => void

export class SlowFiles implements Files {
  readonly #host: SimulatedHost
  readonly #inner: Files
  readonly #delays: FileDelays

  constructor(options: {
    readonly host: SimulatedHost
    readonly files: Files
    readonly delays: FileDelays
  }) {
    this.#host = options.host
    this.#inner = options.files
    this.#delays = options.delays
  }

  join(...parts: string[]): string {
    return this.#inner.join(...parts)
  }

  resolve(path: string): string {
    return this.#inner.resolve(path)
  }

  async makeFolder(path: string): Promise<void> {
    await this.#pass(this.#delays.name())
    await this.#inner.makeFolder(path)
  }

  async list(path: string): Promise<string[] | undefined> {
    await this.#pass(this.#delays.read())
    return await this.#inner.list(path)
  }

  async size(path: string): Promise<number | undefined> {
    await this.#pass(this.#delays.read())
    return await this.#inner.size(path)
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#pass(this.#delays.name())
    await this.#inner.rename(from, to)
  }

  async remove(path: string): Promise<void> {
    await this.#pass(this.#delays.name())
    await this.#inner.remove(path)
  }

  async removeTree(path: string): Promise<void> {
    await this.#pass(this.#delays.name())
    await this.#inner.removeTree(path)
  }

  async syncFolder(path: string): Promise<void> {
    await this.#pass(this.#delays.name())
    await this.#inner.syncFolder(path)
  }

  async readAll(path: string): Promise<Uint8Array | undefined> {
    await this.#pass(this.#delays.read())
    return await this.#inner.readAll(path)
  }

  /** Step by step, as the real one does it, so that a crash can come between any two. */
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
    await this.syncFolder(path.slice(0, Math.max(1, path.lastIndexOf('/'))))
  }

  async open(path: string, mode: 'read' | 'write' | 'create'): Promise<OpenFile> {
    await this.#pass(mode === 'create' ? this.#delays.name() : this.#delays.read())
    return new SlowFile(await this.#inner.open(path, mode), this.#host, this.#delays)
  }

  lock(path: string): Promise<FileLock | undefined> {
    return this.#inner.lock(path)
  }

  freeBytes(path: string): Promise<number> {
    return this.#inner.freeBytes(path)
  }

  #pass(ms: number): Promise<void> | undefined {
    return passTime(this.#host, ms)
  }
}

class SlowFile implements OpenFile {
  readonly path: string
  readonly #inner: OpenFile
  readonly #host: SimulatedHost
  readonly #delays: FileDelays

  constructor(inner: OpenFile, host: SimulatedHost, delays: FileDelays) {
    this.path = inner.path
    this.#inner = inner
    this.#host = host
    this.#delays = delays
  }

  async read(into: Uint8Array, at: number): Promise<number> {
    await passTime(this.#host, this.#delays.read())
    return await this.#inner.read(into, at)
  }

  write(parts: readonly Uint8Array[], at: number, done: Done): void {
    const ms = this.#delays.write()
    if (ms === 0) this.#inner.write(parts, at, done)
    else this.#inner.write(parts, at, (error) => this.#host.deliver(ms, () => done(error)))
  }

  /** The files beneath report a sync by the timers that they were given: those decide how long it takes. */
  sync(done: Done): void {
    this.#inner.sync(done)
  }

  async truncate(bytes: number): Promise<void> {
    await passTime(this.#host, this.#delays.name())
    await this.#inner.truncate(bytes)
  }

  close(): Promise<void> {
    return this.#inner.close()
  }
}

function passTime(host: SimulatedHost, ms: number): Promise<void> | undefined {
  if (ms === 0) return undefined
  return new Promise((resolve) => {
    host.deliver(ms, resolve)
  })
}
