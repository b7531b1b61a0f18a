// Files in memory on a disk that fails as disks do: calls that report errors, space that runs out, and crashes that
// keep only a part of what was not synced. Which part is drawn from a seeded generator, so a failure replays.
//
// What survives a crash of the machine:
//   - all that was synced, and every name in a folder that was synced;
//   - of later changes to a file, sector by sector (512 bytes), the first few changes that touched the sector; the
//     size is that after some later change;
//   - of later changes to names, the first few of each folder. A rename happens as a whole or not at all.
// A sync that fails settles at once which of the changes reached the disk: a later good sync does not bring back the
// others, although reads show them until the crash, because that is how Linux treats pages that could not be written.

import type { Prng } from '../../base/prng.ts'
import type { Timers } from '../host.ts'
import { type CallToFail, FaultyDisk, type Survival } from './faulty-disk.ts'
import { MemoryFiles } from './memory-files.ts'
import { MemoryFile, MemoryTree, memoryError } from './memory-tree.ts'

export interface FaultyMemoryFilesOptions {
  readonly timers: Timers
  readonly prng: Prng
}

export class FaultyMemoryFiles extends MemoryFiles {
  readonly #options: FaultyMemoryFilesOptions
  readonly #tree: MemoryTree
  readonly #disk: FaultyDisk

  constructor(
    options: FaultyMemoryFilesOptions,
    kept?: { readonly tree: MemoryTree; readonly disk: FaultyDisk },
  ) {
    const tree = kept?.tree ?? new MemoryTree()
    const disk = kept?.disk ?? new FaultyDisk({ prng: options.prng })
    super({ timers: options.timers, tree, disk })
    this.#options = options
    this.#tree = tree
    this.#disk = disk
  }

  /** While true nothing new fits: writes beyond a file's end and new names fail with DISK_FULL. */
  get full(): boolean {
    return this.#disk.full
  }

  set full(full: boolean) {
    this.#disk.full = full
  }

  /** Calls that took place, for choosing which one to fail. */
  get counts(): { readonly writes: number; readonly syncs: number } {
    return { writes: this.#disk.writes, syncs: this.#disk.syncs }
  }

  /** A write ends with IO_ERROR after a random part of it. */
  failWrite(call: CallToFail): void {
    this.#disk.failWrite(call)
  }

  /** A sync ends with IO_ERROR; what it should have made durable is in doubt for good. */
  failSync(call: CallToFail): void {
    this.#disk.failSync(call)
  }

  /** Changes bits of a file where they lie, durably: silent damage. */
  damage(options: { readonly path: string; readonly at: number; readonly mask: number }): void {
    const node = this.#tree.find(options.path)
    if (!(node instanceof MemoryFile)) throw memoryError('ENOENT', { path: options.path, syscall: 'damage' })
    if (options.at >= node.content.size) throw new RangeError('there is no such byte to damage')
    this.#disk.damage(node, options)
  }

  /** The machine loses power. Every later call on this object fails; the returned one has what survives. */
  crash(options: { readonly survival?: Survival } = {}): FaultyMemoryFiles {
    const root = this.#disk.crash(this.#tree.root, options.survival ?? 'random')
    const disk = new FaultyDisk({ prng: this.#options.prng })
    const tree = new MemoryTree(disk.adopt(root))
    return new FaultyMemoryFiles(this.#options, { tree, disk })
  }

  /** The process is killed. Written data stays readable, and what was not synced still is not. Locks are free. */
  kill(): FaultyMemoryFiles {
    const disk = this.#disk.passOn()
    return new FaultyMemoryFiles(this.#options, { tree: this.#tree, disk })
  }
}
