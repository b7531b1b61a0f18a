// docs/errors.md and the catalogue of src/base/errors.ts, held against each other both ways; and the exit codes of the
// command against its own table.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { projectFolder } from '../../scripts/files.ts'
import { CoterieError, type ErrorCode, errorCatalogue } from '../../src/base/errors.ts'
import { exitCodeMeanings, exitCodeOf } from '../../src/cli/exit-codes.ts'

const page = readFileSync(join(projectFolder, 'docs/errors.md'), 'utf8')

/** The text under each code's heading, in the order of the page. */
const entries = new Map(
  page.split(/^#{2,3} /m).flatMap((part) => {
    const heading = /^`([A-Z_]+)`\n/.exec(part)
    return heading === null ? [] : [[heading[1] as string, part.slice(heading[0].length)] as const]
  }),
)
const codes = Object.keys(errorCatalogue) as ErrorCode[]

test('docs/errors.md has every code of the catalogue and no other, in the same order', () => {
  assert.deepEqual([...entries.keys()], codes)
  assert.equal(
    page.match(/^### /gm)?.length,
    codes.length,
    'a code has two headings, or a heading is no code',
  )
})

for (const code of codes) {
  test(`docs/errors.md says of ${code} when, what is unchanged, what to do, and whether it is retryable`, () => {
    const text = entries.get(code) ?? ''
    const retryable = /^- Retryable: (yes|no)$/m.exec(text)?.[1]
    assert.equal(retryable, errorCatalogue[code].retryable ? 'yes' : 'no')
    assert.match(text, /^\n[A-Z*][^\n]{20,}/, 'when it happens')
    assert.match(text, /^- Unchanged: \S.{5,}/m)
    assert.match(text, /^- Do: \S.{10,}/m)
    for (const [, field] of errorCatalogue[code].meaning.matchAll(/details\.(\w+)/g)) {
      assert.match(text, new RegExp(`^- \`details\`:.*\`${field}\``, 'm'))
    }
  })
}

test('docs/errors.md names the errors that are not CoterieErrors', () => {
  assert.match(page, /^\*\*`AssertionFailure`\.\*\*/m)
  assert.match(page, /^\*\*`TypeError`\.\*\*/m)
})

test('docs/errors.md gives the exit codes of the command and the error codes that lead to each', () => {
  const rows = [...page.matchAll(/^\| (\d+) \| [^|]+ \| ([^|]+) \|$/gm)].map(
    ([, exitCode, named]) =>
      [Number(exitCode), [...(named as string).matchAll(/`([A-Z_]+)`/g)].map((match) => match[1])] as const,
  )
  assert.deepEqual(
    rows.map(([exitCode]) => exitCode),
    exitCodeMeanings.map(([exitCode]) => exitCode),
  )
  const exitCodeOfCode = (code: ErrorCode): number => exitCodeOf(new CoterieError(code, 'any'))
  for (const [exitCode, named] of rows) {
    const expected = exitCode === 1 ? [] : codes.filter((code) => exitCodeOfCode(code) === exitCode)
    assert.deepEqual(named, expected, `exit code ${exitCode}`)
  }
})
