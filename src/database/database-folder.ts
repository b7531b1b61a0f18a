// The folder of a database: its lock, its state file, and the names of what lies in it.
//
//   lock        held by the one process that has the folder open; says which
//   state       who this site is and which folders are in use (site-state.ts)
//   store-N     the ordered rows; log-N the log; N is the state's generation
//   lost/       transactions that a rewind took back, one NDJSON file each
//
// A snapshot is received into store-(N+1) and log-(N+1); replacing the state file is the one step that installs it,
// so a crash at any byte leaves the old data or the new.

import { CoterieError } from '../base/errors.ts'
import type { FileLock, Files } from '../env/host.ts'
import { readSiteState, type SiteState, writeSiteState } from './site-state.ts'

const ownNames = /^(lock|state|state\.tmp|lost|control\.json|(store|log)-\d+)$/

export class DatabaseFolder {
  readonly path: string
  readonly files: Files
  #lock: FileLock | undefined
  #state: SiteState | undefined
  #writing: Promise<void> = Promise.resolve()

  private constructor(files: Files, path: string) {
    this.files = files
    this.path = path
  }

  /**
   * Takes the lock and reads the state; `state` is undefined in a new folder. LOCKED if another holder has it,
   * NOT_A_DATABASE if the folder holds something else.
   */
  static async open(options: {
    files: Files
    path: string
    holder: string
    create: boolean
  }): Promise<DatabaseFolder> {
    const { files, create } = options
    const path = files.resolve(options.path)
    const folder = new DatabaseFolder(files, path)
    const names = await files.list(path)
    const isDatabase = names?.includes('state') === true
    const foreign = names?.find((name) => !ownNames.test(name))
    if (!isDatabase && foreign !== undefined) {
      throw new CoterieError('NOT_A_DATABASE', `${path} holds other files ('${foreign}') and no database`, {
        details: { path },
      })
    }
    if (!isDatabase && !create) {
      throw new CoterieError('NOT_A_DATABASE', `there is no database in ${path}`, { details: { path } })
    }
    const orphan = names?.find((name) => /^(store|log)-\d+$/.test(name))
    if (!isDatabase && orphan !== undefined) {
      throw new CoterieError('STATE_DAMAGED', `${path} holds '${orphan}', but the state file is missing`, {
        details: { file: files.join(path, 'state') },
      })
    }
    if (names === undefined) await files.makeFolder(path)
    try {
      await folder.#takeLock(options.holder)
      folder.#state = await readSiteState(files, folder.#statePath)
    } catch (error) {
      await folder.release()
      throw error
    }
    return folder
  }

  async #takeLock(holder: string): Promise<void> {
    const lockPath = this.files.join(this.path, 'lock')
    this.#lock = await this.files.lock(lockPath)
    if (this.#lock !== undefined) {
      await this.#lock.describe(holder)
      return
    }
    const content = await this.files.readAll(lockPath)
    const pid = /"pid":(\d+)/.exec(content === undefined ? '' : Buffer.from(content).toString('utf8'))?.[1]
    throw new CoterieError(
      'LOCKED',
      `${this.path} is open in ${pid === undefined ? 'another process' : `process ${pid}`}`,
      {
        details: { path: this.path, ...(pid === undefined ? {} : { pid: Number(pid) }) },
      },
    )
  }

  get #statePath(): string {
    return this.files.join(this.path, 'state')
  }

  get state(): SiteState | undefined {
    return this.#state
  }

  storePath(generation: number): string {
    return this.files.join(this.path, `store-${generation}`)
  }

  logPath(generation: number): string {
    return this.files.join(this.path, `log-${generation}`)
  }

  get lostPath(): string {
    return this.files.join(this.path, 'lost')
  }

  /** Replaces the state; durable when it resolves. Writes go one after the other, in the order of the calls. */
  async saveState(change: (state: SiteState | undefined) => SiteState): Promise<SiteState> {
    const step = this.#writing.then(async () => {
      const next = change(this.#state)
      await writeSiteState(this.files, this.#statePath, next)
      this.#state = next
    })
    this.#writing = step.catch(() => undefined)
    await step
    return this.#state as SiteState
  }

  /** Removes the folders that nothing refers to: what an interrupted or finished snapshot has left. */
  async sweep(): Promise<void> {
    for (const name of (await this.files.list(this.path)) ?? []) {
      const number = /^(?:store|log)-(\d+)$/.exec(name)?.[1]
      // Looked up for each: a folder is in the state before it is on the disk.
      if (number !== undefined && !this.#isUsed(Number(number))) {
        await this.files.removeTree(this.files.join(this.path, name))
      }
    }
  }

  #isUsed(generation: number): boolean {
    const { state } = this
    if (state === undefined) return true
    return [state.generation, state.staging, ...state.aside].includes(generation)
  }

  /** A folder number that nothing uses yet. */
  nextGeneration(): number {
    const { state } = this
    if (state === undefined) return 1
    return Math.max(state.generation, state.staging ?? 0, ...state.aside) + 1
  }

  async lostFiles(): Promise<string[]> {
    return (await this.files.list(this.lostPath)) ?? []
  }

  /** Deletes everything of the database. The folder itself stays if it holds something else. */
  async destroy(): Promise<void> {
    for (const name of (await this.files.list(this.path)) ?? []) {
      if (ownNames.test(name) && name !== 'lock')
        await this.files.removeTree(this.files.join(this.path, name))
    }
    await this.files.remove(this.files.join(this.path, 'lock'))
    await this.release()
    if ((await this.files.list(this.path))?.length === 0) await this.files.removeTree(this.path)
  }

  async release(): Promise<void> {
    await this.#writing
    const lock = this.#lock
    this.#lock = undefined
    await lock?.release()
  }
}
