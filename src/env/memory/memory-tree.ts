// Folders and files in memory, by path. Every change of a name is one list of links that happen together (a rename
// is two), so that a disk model can replay them after a crash.

import { CoterieError } from '../../base/errors.ts'
import { MemoryContent } from './memory-content.ts'

export class MemoryFile {
  content: MemoryContent = new MemoryContent()
}

export class MemoryFolder {
  entries: Map<string, MemoryNode> = new Map()
}

export type MemoryNode = MemoryFile | MemoryFolder

/** `folder` calls `node` by `name` from now on; undefined: it has no such name any more. */
export interface Link {
  readonly folder: MemoryFolder
  readonly name: string
  readonly node: MemoryNode | undefined
}

export interface Place {
  readonly folder: MemoryFolder
  readonly name: string
  readonly node: MemoryNode | undefined
}

export class MemoryTree {
  readonly root: MemoryFolder

  constructor(root: MemoryFolder = new MemoryFolder()) {
    this.root = root
  }

  find(path: string): MemoryNode | undefined {
    let node: MemoryNode | undefined = this.root
    for (const name of namesOf(path)) {
      if (!(node instanceof MemoryFolder)) return undefined
      node = node.entries.get(name)
    }
    return node
  }

  /** Where `path` is or would be; fails if the folder above it is not there. */
  place(path: string, syscall: string): Place {
    const names = namesOf(path)
    const name = names.pop()
    if (name === undefined) throw memoryError('EISDIR', { path, syscall })
    const folder = this.find(`/${names.join('/')}`)
    if (!(folder instanceof MemoryFolder)) throw memoryError('ENOENT', { path, syscall })
    return { folder, name, node: folder.entries.get(name) }
  }
}

export function applyLinks(links: readonly Link[]): void {
  for (const { folder, name, node } of links) {
    if (node === undefined) folder.entries.delete(name)
    else folder.entries.set(name, node)
  }
}

/** Absolute, without `.`, `..` and doubled slashes; relative paths start at the root. */
export function resolvePath(path: string): string {
  return `/${namesOf(path).join('/')}`
}

export function joinPath(parts: readonly string[]): string {
  const joined = parts.filter((part) => part !== '').join('/')
  if (joined.startsWith('/')) return resolvePath(joined)
  const names: string[] = []
  for (const name of joined.split('/')) {
    if (name === '..' && names.length > 0 && names.at(-1) !== '..') names.pop()
    else if (name !== '' && name !== '.') names.push(name)
  }
  return names.length === 0 ? '.' : names.join('/')
}

export function folderOf(path: string): string {
  return `/${namesOf(path).slice(0, -1).join('/')}`
}

function namesOf(path: string): string[] {
  const names: string[] = []
  for (const name of path.split('/')) {
    if (name === '..') names.pop()
    else if (name !== '' && name !== '.') names.push(name)
  }
  return names
}

const meanings = {
  ENOENT: 'no such file or folder',
  EISDIR: 'it is a folder',
  ENOTDIR: 'it is not a folder',
  ENOTEMPTY: 'the folder is not empty',
  EBADF: 'it is not open for writing',
  EIO: 'the device failed',
  ENOSPC: 'no space left on the device',
  ECRASHED: 'the machine has crashed',
} as const

/** An error as the real host reports it: the same codes, and the same facts in `details`. */
export function memoryError(
  errno: keyof typeof meanings,
  context: { readonly path: string; readonly syscall: string },
): CoterieError {
  const meaning = meanings[errno]
  const cause = Object.assign(new Error(`${errno}: ${meaning}`), { code: errno })
  return new CoterieError(
    errno === 'ENOSPC' ? 'DISK_FULL' : 'IO_ERROR',
    `${context.syscall} of ${context.path} failed: ${meaning}`,
    { cause, details: { ...context, errno } },
  )
}
