// The version of the package, read from its own package.json: two folders up, from `src/cli` and `dist/cli` alike.

import { readFileSync } from 'node:fs'

export const version: string = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
).version
