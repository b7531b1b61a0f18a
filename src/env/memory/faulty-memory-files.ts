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
import type { MemoryContent } from './memory-content.ts'
import { MemoryFiles } from './memory-files.ts'
import { MemoryFile, MemoryFolder, type MemoryNode, MemoryTree, memoryError } from './memory-tree.ts'

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
    const file = this.#fileAt(options.path, 'damage')
    if (options.at >= file.content.size) throw new RangeError('there is no such byte to damage')
    this.#disk.damage(file, options)
  }

  /** Puts bytes where others lie, durably: a sector that reads as zeros, or as it was before its last write. */
  overwrite(options: { readonly path: string; readonly at: number; readonly bytes: Uint8Array }): void {
    const file = this.#fileAt(options.path, 'damage')
    if (options.at + options.bytes.length > file.content.size) {
      throw new RangeError('there are no such bytes to damage')
    }
    this.#disk.overwrite(file, options)
  }

  /** What lies there, for putting it back later. */
  peek(options: { readonly path: string; readonly at: number; readonly length: number }): Uint8Array {
    const bytes = new Uint8Array(options.length)
    return bytes.subarray(0, this.#fileAt(options.path, 'read').content.read(bytes, options.at))
  }

  /** Every file, with its size, sorted by its path. */
  paths(): { readonly path: string; readonly bytes: number }[] {
    const found: { readonly path: string; readonly bytes: number }[] = []
    const visit = (folder: MemoryFolder, path: string): void => {
      for (const [name, node] of folder.entries) {
        if (node instanceof MemoryFolder) visit(node, `${path}/${name}`)
        else found.push({ path: `${path}/${name}`, bytes: node.content.size })
      }
    }
    visit(this.#tree.root, '')
    return found.sort((a, b) => (a.path < b.path ? -1 : 1))
  }

  /** Grows with every change of what a crash would leave in any case. */
  get durableChanges(): number {
    return this.#disk.durableChanges
  }

  /** The bytes of a file that are certain to survive a crash; undefined if not even its name is. For judges: read only. */
  durableFile(path: string): MemoryContent | undefined {
    const node = this.#durableNode(path)
    return node instanceof MemoryFile ? this.#disk.durableContent(node) : undefined
  }

  /** Names in a folder that are certain to survive a crash, sorted. */
  durableNames(path: string): string[] {
    const node = this.#durableNode(path)
    return node instanceof MemoryFolder ? [...this.#disk.durableNames(node).keys()].sort() : []
  }

  #durableNode(path: string): MemoryNode | undefined {
    let node: MemoryNode | undefined = this.#tree.root
    for (const name of path.split('/')) {
      if (name === '') continue
      if (!(node instanceof MemoryFolder)) return undefined
      node = this.#disk.durableNames(node).get(name)
    }
    return node
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

  #fileAt(path: string, syscall: string): MemoryFile {
    const node = this.#tree.find(path)
    if (node instanceof MemoryFile) return node
    throw memoryError('ENOENT', { path, syscall })
  }
}
