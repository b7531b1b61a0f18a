// Files of the project by folder and ending: paths from the root, with `/` on every system, sorted.

import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export const projectFolder: string = fileURLToPath(new URL('..', import.meta.url))

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
