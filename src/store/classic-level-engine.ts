// The engine on disk: finds, checks, opens, renames and deletes stores of LevelDB files.
//
// Compression is off: a read then costs a third less, because LevelDB reads uncompressed blocks straight from its
// memory map, and its tables can be checked without a decompressor. The write buffer is 32 MiB: with 16 and less
// a steady load of random writes stalls for half a second now and then (bench/store.ts).
//
// STORE_FAILED from `open` means damage, and only that; the files stay as they are. LevelDB aborts the process on some
// damage that it meets, so a file in the store's folder counts the ends that were not orderly: after two in a row,
// and after a failure, every byte is verified whatever the size.

import { ClassicLevel } from 'classic-level'
import { CoterieError } from '../base/errors.ts'
import type { FileLock, Files, Timers } from '../env/host.ts'
import { ClassicLevelStore } from './classic-level-store.ts'
import type { Level } from './classic-level-view.ts'
import { checkLevelFiles } from './level-check.ts'
import { openFailed } from './level-errors.ts'
import type { Store, StoreEngine } from './store.ts'

export interface ClassicLevelEngineOptions {
  readonly files: Files
  /** With them, big batches are handed over in slices; without, in one turn. */
  readonly timers?: Timers
  /** LevelDB's block cache, which serves only tables beyond the thousand that it maps. Default 64 MiB. */
  readonly cacheBytes?: number
  /** Default 32 MiB; up to twice that is in memory. */
  readonly writeBufferBytes?: number
  /** How much of the tables `open` verifies, at about 1 GB/s (level-check.ts). Default 1 GiB. */
  readonly verifyBytesMax?: number
}

const mebibyte = 1_048_576
const gibibyte = 1_073_741_824
/** One byte: how many ends in a row were not orderly; while the store is open, as if it ended now. */
const uncleanEndsFile = 'unclean-ends'
const uncleanEndsMax = 2
const lockFile = 'in-use'

export function classicLevelEngine(options: ClassicLevelEngineOptions): StoreEngine {
  return new ClassicLevelEngine(options)
}

class ClassicLevelEngine implements StoreEngine {
  readonly name = 'classic-level'
  readonly #options: ClassicLevelEngineOptions

  constructor(options: ClassicLevelEngineOptions) {
    this.#options = options
  }

  async open(location: string): Promise<Store> {
    const { files } = this.#options
    let lock: FileLock | undefined
    try {
      await files.makeFolder(location)
      // Before LevelDB takes its own: the check may cut a log, which must not be one that is being written.
      lock = await files.lock(files.join(location, lockFile))
      if (lock === undefined) {
        throw new CoterieError('LOCKED', `the store in ${location} is open elsewhere`, {
          details: { location },
        })
      }
      return await this.#openLocked(location, lock)
    } catch (error) {
      await lock?.release()
      throw openFailed(location, error)
    }
  }

  async #openLocked(location: string, lock: FileLock): Promise<Store> {
    const { files, timers, verifyBytesMax = gibibyte } = this.#options
    const uncleanEnds = await this.#uncleanEnds(location)
    const tableBytesMax = uncleanEnds < uncleanEndsMax ? verifyBytesMax : Number.POSITIVE_INFINITY
    await checkLevelFiles({ files, location, tableBytesMax })
    await this.#setUncleanEnds(location, uncleanEnds + 1)
    const level = this.#level(location)
    try {
      await level.open()
      // The manifest and the log that LevelDB has just begun must outlive a power cut by their names, too.
      await files.syncFolder(location)
      return await ClassicLevelStore.over({
        level,
        location,
        files,
        timers,
        onClosed: async ({ healthy }) => {
          try {
            await this.#setUncleanEnds(location, healthy ? 0 : uncleanEndsMax)
          } finally {
            await lock.release()
          }
        },
      })
    } catch (error) {
      await level.close()
      throw error
    }
  }

  async exists(location: string): Promise<boolean> {
    const names = await this.#options.files.list(location)
    return names !== undefined && names.length > 0
  }

  async move(from: string, to: string): Promise<void> {
    const { files } = this.#options
    await files.rename(from, to)
    await files.syncFolder(files.join(to, '..'))
    await files.syncFolder(files.join(from, '..'))
  }

  async destroy(location: string): Promise<void> {
    const { files } = this.#options
    if ((await files.list(location)) === undefined) return
    await files.removeTree(location)
    await files.syncFolder(files.join(location, '..'))
  }

  async #uncleanEnds(location: string): Promise<number> {
    const content = await this.#options.files.readAll(this.#options.files.join(location, uncleanEndsFile))
    // Anything but a number is damage: as careful as can be.
    return content === undefined ? 0 : (content[0] ?? uncleanEndsMax)
  }

  async #setUncleanEnds(location: string, count: number): Promise<void> {
    const { files } = this.#options
    const path = files.join(location, uncleanEndsFile)
    if (count === 0) await files.remove(path)
    else await files.replace(path, Uint8Array.of(Math.min(count, uncleanEndsMax)))
  }

  #level(location: string): Level {
    const { cacheBytes = 64 * mebibyte, writeBufferBytes = 32 * mebibyte } = this.#options
    return new ClassicLevel<Uint8Array, Uint8Array>(location, {
      keyEncoding: 'view',
      valueEncoding: 'view',
      compression: false,
      cacheSize: cacheBytes,
      writeBufferSize: writeBufferBytes,
      maxFileSize: 8 * mebibyte,
    })
  }
}
