// Checks the floors of `src/` (ARCHITECTURE.md) and prints each violation as `file:line: what, and which rule`.
// Part of `npm run check`. Ends with code 1 if there is any.

import { readFileSync } from 'node:fs'
import { filesIn, projectFolder } from './files.ts'
import { checkFloors } from './floor-rules.ts'
import { importsOf, resolveRelative, tokenize } from './tokens.ts'

const sources = new Map(filesIn('src', '.ts').map((file) => [file, read(file)] as const))
const violations = checkFloors(
  sources,
  [...filesIn('bench', '.ts'), ...filesIn('scripts', '.ts')].flatMap(roots),
)
for (const { file, line, message } of violations) console.log(`${file}:${line}: ${message}`)
const count = `${violations.length} ${violations.length === 1 ? 'violation' : 'violations'}`
console.log(`floors: ${sources.size} files, ${count}`)
process.exitCode = violations.length === 0 ? 0 : 1

function read(file: string): string {
  return readFileSync(`${projectFolder}/${file}`, 'utf8')
}

/** The files of `src/` that a program outside it imports. Tests do not count: what only they use is dead. */
function roots(file: string): string[] {
  return importsOf(tokenize(read(file)).tokens)
    .map(({ specifier }) => (specifier?.startsWith('.') ? resolveRelative(file, specifier) : ''))
    .filter((target) => sources.has(target))
}
