// The disk model behind FaultyMemoryFiles, whose head says what it models. It keeps, next to the live files that
// reads see, what is durable for certain (`durable`) and the changes since then, in order (`changes`).

import type { CoterieError } from '../../base/errors.ts'
import type { Prng } from '../../base/prng.ts'
import { MemoryContent } from './memory-content.ts'
import type { DiskModel } from './memory-files.ts'
import { type Link, MemoryFile, MemoryFolder, type MemoryNode, memoryError } from './memory-tree.ts'

const sectorBytes = 512
const noNames: ReadonlyMap<string, MemoryNode> = new Map()

/** Which call fails: the `nth` from now on (1 is the next), of those whose path `where` accepts. */
export interface CallToFail {
  readonly nth: number
  readonly where?: (path: string) => boolean
}

/** How much of what was not synced survives a crash. `random` draws one of the three, mostly `some`. */
export type Survival = 'none' | 'some' | 'all' | 'random'

type Change =
  | { readonly kind: 'write'; readonly at: number; readonly bytes: Uint8Array }
  | { readonly kind: 'truncate'; readonly size: number }

interface FileJournal {
  durable: MemoryContent
  changes: Change[]
  /** Changes that were settled before the first of `changes`: gives every change a number for good. */
  settled: number
}

/** Says of each thing in doubt whether it survived. */
type Keep = () => boolean

interface PlannedFailure {
  left: number
  readonly where: (path: string) => boolean
}

export class FaultyDisk implements DiskModel {
  full: boolean = false
  writes = 0
  syncs = 0
  readonly #prng: Prng
  #dead: boolean = false
  #files: Map<MemoryFile, FileJournal> = new Map()
  #durableNames: Map<MemoryFolder, Map<string, MemoryNode>> = new Map()
  #nameChanges: (readonly Link[])[] = []
  readonly #writesToFail: PlannedFailure[] = []
  readonly #syncsToFail: PlannedFailure[] = []

  constructor(options: { readonly prng: Prng }) {
    this.#prng = options.prng
  }

  failWrite(call: CallToFail): void {
    this.#writesToFail.push({ left: call.nth, where: call.where ?? (() => true) })
  }

  failSync(call: CallToFail): void {
    this.#syncsToFail.push({ left: call.nth, where: call.where ?? (() => true) })
  }

  check(path: string, syscall: string): void {
    if (this.#dead) throw memoryError('ECRASHED', { path, syscall })
  }

  planWrite(change: { file: MemoryFile; path: string; at: number; bytes: number }): {
    readonly bytes: number
    readonly error: CoterieError | null
  } {
    const { file, path, at, bytes } = change
    this.writes++
    if (isDue(this.#writesToFail, path)) {
      return { bytes: this.#prng.below(bytes + 1), error: memoryError('EIO', { path, syscall: 'write' }) }
    }
    if (this.full && at + bytes > file.content.size) {
      const room = Math.max(0, file.content.size - at)
      return { bytes: room, error: memoryError('ENOSPC', { path, syscall: 'write' }) }
    }
    return { bytes, error: null }
  }

  wrote(file: MemoryFile, bytes: Uint8Array, at: number): void {
    if (bytes.length > 0) this.#journalOf(file).changes.push({ kind: 'write', at, bytes })
  }

  truncated(file: MemoryFile, size: number): void {
    this.#journalOf(file).changes.push({ kind: 'truncate', size })
  }

  /** Grows with every change of what is durable, in files and in names. */
  durableChanges = 0

  beginSync(file: MemoryFile, path: string): () => CoterieError | null {
    this.syncs++
    const fails = isDue(this.#syncsToFail, path)
    const journal = this.#journalOf(file)
    const upTo = journal.settled + journal.changes.length
    return () => {
      if (this.#dead) return memoryError('ECRASHED', { path, syscall: 'fdatasync' })
      // A sync that began later may have settled these changes already.
      const changes = journal.changes.splice(0, Math.max(0, upTo - journal.settled))
      journal.settled += changes.length
      this.durableChanges++
      if (fails) {
        journal.durable = this.#survivorOf(journal.durable, changes, this.#keepFor('random'))
        return memoryError('EIO', { path, syscall: 'fdatasync' })
      }
      for (const change of changes) applyChange(journal.durable, change)
      return null
    }
  }

  planCreate(path: string): void {
    if (this.full) throw memoryError('ENOSPC', { path, syscall: 'create' })
  }

  linked(links: readonly Link[]): void {
    this.#nameChanges.push(links)
  }

  syncedFolder(folder: MemoryFolder): void {
    // What a change of this folder stands on, in whichever folder, becomes durable with it.
    const folders = new Set([folder])
    const kept: (readonly Link[])[] = []
    const synced: (readonly Link[])[] = []
    for (const links of this.#nameChanges.toReversed()) {
      const touched = links.some((link) => folders.has(link.folder))
      if (touched) for (const link of links) folders.add(link.folder)
      if (touched) synced.unshift(links)
      else kept.unshift(links)
    }
    for (const links of synced) applyNames(this.#durableNames, links)
    this.durableChanges++
    this.#nameChanges = kept
  }

  freeBytes(): number {
    return this.full ? 0 : Number.MAX_SAFE_INTEGER
  }

  damage(file: MemoryFile, options: { readonly at: number; readonly mask: number }): void {
    const { at, mask } = options
    const journal = this.#journalOf(file)
    this.durableChanges++
    flip(file.content, at, mask)
    if (at < journal.durable.size) flip(journal.durable, at, mask)
    for (const change of journal.changes) {
      if (change.kind !== 'write' || at < change.at || at >= change.at + change.bytes.length) continue
      change.bytes[at - change.at] = (change.bytes[at - change.at] as number) ^ mask
    }
  }

  /** Changes bytes where they lie, in what is durable and in what is not yet. */
  overwrite(file: MemoryFile, options: { readonly at: number; readonly bytes: Uint8Array }): void {
    const { at, bytes } = options
    const journal = this.#journalOf(file)
    this.durableChanges++
    file.content.write(bytes, at)
    if (at < journal.durable.size) journal.durable.write(bytes.subarray(0, journal.durable.size - at), at)
    journal.changes.push({ kind: 'write', at, bytes: bytes.slice() })
  }

  /** What a crash now would leave of a folder's names and a file's content in any case. For judges; not to be changed. */
  durableNames(folder: MemoryFolder): ReadonlyMap<string, MemoryNode> {
    return this.#durableNames.get(folder) ?? noNames
  }

  durableContent(file: MemoryFile): MemoryContent {
    return this.#journalOf(file).durable
  }

  /** Ends this disk; returns the root of what survives, in new nodes. */
  crash(root: MemoryFolder, survival: Survival): MemoryFolder {
    this.#dead = true
    const keep = this.#keepFor(survival)
    const names = new Map([...this.#durableNames].map(([folder, entries]) => [folder, new Map(entries)]))
    const stopped = new Set<MemoryFolder>()
    for (const links of this.#nameChanges) {
      const survives = !links.some((link) => stopped.has(link.folder)) && keep()
      if (survives) applyNames(names, links)
      else for (const link of links) stopped.add(link.folder)
    }
    const rebuild = (folder: MemoryFolder): MemoryFolder => {
      const rebuilt = new MemoryFolder()
      for (const [name, node] of names.get(folder) ?? []) {
        if (node instanceof MemoryFolder) rebuilt.entries.set(name, rebuild(node))
        else {
          const file = new MemoryFile()
          const journal = this.#journalOf(node)
          file.content = this.#survivorOf(journal.durable, journal.changes, keep)
          rebuilt.entries.set(name, file)
        }
      }
      return rebuilt
    }
    return rebuild(root)
  }

  /** Takes a tree all of which is durable. */
  adopt(folder: MemoryFolder): MemoryFolder {
    this.#durableNames.set(folder, new Map(folder.entries))
    for (const node of folder.entries.values()) {
      if (node instanceof MemoryFolder) this.adopt(node)
      else this.#files.set(node, { durable: node.content.copy(), changes: [], settled: 0 })
    }
    return folder
  }

  /** Ends this disk for its users; the returned one goes on with the same files. */
  passOn(): FaultyDisk {
    this.#dead = true
    const heir = new FaultyDisk({ prng: this.#prng })
    heir.full = this.full
    heir.durableChanges = this.durableChanges
    heir.#files = this.#files
    heir.#durableNames = this.#durableNames
    heir.#nameChanges = this.#nameChanges
    return heir
  }

  #journalOf(file: MemoryFile): FileJournal {
    let journal = this.#files.get(file)
    if (journal === undefined) {
      journal = { durable: new MemoryContent(), changes: [], settled: 0 }
      this.#files.set(file, journal)
    }
    return journal
  }

  #keepFor(survival: Survival): Keep {
    const drawn =
      survival === 'random' ? this.#prng.pick(['none', 'some', 'some', 'some', 'all'] as const) : survival
    if (drawn === 'none') return () => false
    if (drawn === 'all') return () => true
    // Long runs of survivors and long runs of losses each find other defects than an even mix.
    const probability = this.#prng.pick([0.1, 0.5, 0.9, 0.99])
    return () => this.#prng.chance(probability)
  }

  #survivorOf(durable: MemoryContent, changes: readonly Change[], keep: Keep): MemoryContent {
    const survivor = durable.copy()
    const lost = new Set<number>()
    let keptSize = durable.size
    let liveSize = durable.size
    let sizeLost = false
    for (const change of changes) {
      const isWrite = change.kind === 'write'
      const start = isWrite ? change.at : change.size
      const end = isWrite ? change.at + change.bytes.length : Math.max(change.size, liveSize)
      for (let at = start; at < end; ) {
        const sector = Math.floor(at / sectorBytes)
        const next = Math.min(end, (sector + 1) * sectorBytes)
        if (!lost.has(sector) && keep()) {
          const piece = isWrite ? change.bytes.subarray(at - start, next - start) : new Uint8Array(next - at)
          survivor.write(piece, at)
        } else {
          lost.add(sector)
        }
        at = next
      }
      liveSize = isWrite ? Math.max(liveSize, end) : change.size
      sizeLost ||= liveSize !== keptSize && !keep()
      if (!sizeLost) keptSize = liveSize
    }
    survivor.truncate(keptSize)
    return survivor
  }
}

function isDue(planned: PlannedFailure[], path: string): boolean {
  let due = false
  for (const failure of [...planned]) {
    if (!failure.where(path)) continue
    failure.left--
    if (failure.left > 0) continue
    planned.splice(planned.indexOf(failure), 1)
    due = true
  }
  return due
}

function applyChange(content: MemoryContent, change: Change): void {
  if (change.kind === 'write') content.write(change.bytes, change.at)
  else content.truncate(change.size)
}

function applyNames(names: Map<MemoryFolder, Map<string, MemoryNode>>, links: readonly Link[]): void {
  for (const { folder, name, node } of links) {
    let entries = names.get(folder)
    if (entries === undefined) {
      entries = new Map()
      names.set(folder, entries)
    }
    if (node === undefined) entries.delete(name)
    else entries.set(name, node)
  }
}

function flip(content: MemoryContent, at: number, mask: number): void {
  const byte = new Uint8Array(1)
  content.read(byte, at)
  byte[0] = (byte[0] as number) ^ mask
  content.write(byte, at)
}
