// Finds the tests that show a row of the feature table: those whose title has its id in brackets, `[A3]` or `[A3 D1]`.
// A title counts in a `.test.ts` file and in the suites of test/ that such a file imports, so that a suite which
// nobody runs shows nothing.

import { readFileSync } from 'node:fs'
import type { FeatureTable } from './features-table.ts'
import { filesIn, projectFolder } from './files.ts'
import { importsOf, resolveRelative, type Token, tokenize } from './tokens.ts'

export interface TaggedTest {
  readonly file: string
  readonly line: number
  readonly title: string
  readonly ids: readonly string[]
}

const testCalls = new Set(['test', 'it', 'describe', 'suite'])
const tag = /\[([A-E]\d+[a-z]?(?: [A-E]\d+[a-z]?)*)\]/g

/** Titles of tests in one file that carry a tag. A title that is put together at run time shows its first part. */
export function taggedTestsIn(file: string, tokens: readonly Token[]): TaggedTest[] {
  const found: TaggedTest[] = []
  for (const [i, token] of tokens.entries()) {
    if (token.kind !== 'name' || !testCalls.has(token.text) || tokens[i + 1]?.text !== '(') continue
    const title = tokens[i + 2]
    if (title?.kind !== 'string' && title?.kind !== 'template') continue
    const ids = [...title.text.matchAll(tag)].flatMap((match) => (match[1] as string).split(' '))
    if (ids.length > 0) found.push({ file, line: token.line, title: title.text, ids })
  }
  return found
}

/** Every tagged test of the project that runs. */
export function findTaggedTests(root: string = projectFolder): TaggedTest[] {
  const seen = new Set<string>()
  const found: TaggedTest[] = []
  const waiting = filesIn('test', '.test.ts', root).reverse()
  const existing = new Set(filesIn('test', '.ts', root))
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    if (seen.has(file) || !existing.has(file)) continue
    seen.add(file)
    const { tokens } = tokenize(readFileSync(`${root}/${file}`, 'utf8'))
    found.push(...taggedTestsIn(file, tokens))
    for (const { specifier } of importsOf(tokens)) {
      if (specifier?.startsWith('.')) waiting.push(resolveRelative(file, specifier))
    }
  }
  return found
}

export interface FeatureReport {
  readonly text: string
  /** Rows of this step that no test shows. */
  readonly missing: readonly string[]
  /** Tags that name no row. */
  readonly unknown: readonly { readonly id: string; readonly test: TaggedTest }[]
}

/** The tables with the tests that show each row. */
export function reportFeatures(tables: readonly FeatureTable[], tests: readonly TaggedTest[]): FeatureReport {
  const rows = tables.flatMap((table) => table.rows)
  const known = new Set(rows.map((row) => row.id))
  const unknown = tests.flatMap((test) => test.ids.filter((id) => !known.has(id)).map((id) => ({ id, test })))
  const isShown = (id: string): boolean => tests.some((test) => test.ids.includes(id))
  const missing = rows.filter((row) => row.step === 'now' && !isShown(row.id)).map((row) => row.id)
  const lines: string[] = []
  for (const { letter, title, rows } of tables) {
    lines.push(`${letter}. ${title}`, '')
    for (const { id, ours, step } of rows) {
      lines.push(`${id.padEnd(4)} ${ours}`)
      const shown = tests.filter((test) => test.ids.includes(id))
      for (const test of shown) lines.push(`     - ${test.title} (${test.file}:${test.line})`)
      if (shown.length === 0) lines.push(step === 'now' ? '     - MISSING' : '     - none yet (later)')
    }
    lines.push('')
  }
  for (const { id, test } of unknown) lines.push(`${test.file}:${test.line}: the tag ${id} names no row`)
  const shown = rows.filter((row) => isShown(row.id)).length
  const now = rows.filter((row) => row.step === 'now').length
  lines.push(
    `features: ${rows.length} rows, ${shown} shown by a test; of ${now} of this step ${missing.length} missing`,
  )
  return { text: lines.join('\n'), missing, unknown }
}
