// Files of the project by folder and ending: paths from the root, with `/` on every system, sorted.

import { existsSync, readdirSync } from 'node:fs'
import path from 'node:path'

/** Where the sources are: also for what runs from the copy of them that `npm test` compiles into `.build/`. */
export const projectFolder: string = findProjectFolder(import.meta.dirname)

function findProjectFolder(from: string): string {
  if (existsSync(path.join(from, 'package-lock.json'))) return from
  const parent = path.dirname(from)
  if (parent === from) throw new Error(`no folder above ${import.meta.dirname} has a package-lock.json`)
  return findProjectFolder(parent)
}

/** A folder that does not exist has no files. */
export function filesIn(folder: string, ending: string, root: string = projectFolder): string[] {
  try {
    const names = readdirSync(`${root}/${folder}`, { recursive: true, encoding: 'utf8' })
    return names
      .filter((name) => name.endsWith(ending))
      .map((name) => `${folder}/${name.replaceAll('\\', '/')}`)
      .sort()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
