// The feature table and the tags in test titles: neither may point to something that does not exist.

import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { findTaggedTests, reportFeatures, taggedTestsIn } from '../../scripts/feature-tests.ts'
import { type FeatureTable, featureTables } from '../../scripts/features-table.ts'
import { tokenize } from '../../scripts/tokens.ts'
import { withTempFolder } from '../support/temp-folder.ts'

const rows = featureTables.flatMap((table) => table.rows)

test('every row of the feature table has its own id, which begins with the letter of its table', () => {
  const ids = rows.map((row) => row.id)
  assert.deepEqual(
    ids,
    ids.filter((id, i) => ids.indexOf(id) === i),
  )
  for (const table of featureTables) {
    for (const { id } of table.rows) assert.match(id, new RegExp(`^${table.letter}[1-9]\\d*[a-z]?$`))
  }
})

test('a row is either whole or split, never both', () => {
  const whole = new Set(rows.map((row) => row.id).filter((id) => /\d$/.test(id)))
  for (const { id } of rows) if (!whole.has(id)) assert.ok(!whole.has(id.slice(0, -1)), id)
})

test('the rows of each table are in order and without a gap', () => {
  for (const { letter, rows } of featureTables) {
    const numbers = [...new Set(rows.map((row) => Number.parseInt(row.id.slice(1), 10)))]
    assert.deepEqual(
      numbers,
      numbers.map((_, i) => i + 1),
      letter,
    )
  }
})

test('every tag in a test title names a row', () => {
  const unknown = reportFeatures(featureTables, findTaggedTests()).unknown
  assert.deepEqual(
    unknown.map(({ id, test }) => `${id} in ${test.file}:${test.line}`),
    [],
  )
})

test('tags are read from titles of tests only, one or several, also in templates', () => {
  const source = [
    "test('[A3] one', () => {})",
    "await t.test('[A3 D1a] two rows', () => {})",
    'it(`[D2] for $' + '{engine}`, () => {})',
    "// test('[A1] in a comment')",
    "const title = '[A2] not a test'",
    "test.skip('[A9] switched off', () => {})",
    "test('[a3] [A3,D1] [AA1] no tags')",
  ].join('\n')
  const found = taggedTestsIn('x.test.ts', tokenize(source).tokens)
  assert.deepEqual(
    found.map(({ line, ids }) => [line, ...ids]),
    [
      [1, 'A3'],
      [2, 'A3', 'D1a'],
      [3, 'D2'],
    ],
  )
})

test('a suite counts only if a test file imports it', (t) => {
  const root = `${withTempFolder(t)}/`
  mkdirSync(`${root}test/unit`, { recursive: true })
  writeFileSync(`${root}test/unit/a.test.ts`, "import '../used.ts'\ntest('[A1] a', () => {})")
  writeFileSync(`${root}test/used.ts`, "test('[A2] b', () => {})")
  writeFileSync(`${root}test/unused.ts`, "test('[A3] c', () => {})")
  assert.deepEqual(
    findTaggedTests(root).map(({ file, ids }) => [file, ...ids]),
    [
      ['test/unit/a.test.ts', 'A1'],
      ['test/used.ts', 'A2'],
    ],
  )
})

test('the report names the test of a row, what is missing now, what comes later, and tags without a row', () => {
  const tables: FeatureTable[] = [
    {
      letter: 'A',
      title: 'Model',
      rows: [
        { id: 'A1', model: 'm', ours: 'first', step: 'now' },
        { id: 'A2', model: 'm', ours: 'second', step: 'now' },
        { id: 'A3', model: 'm', ours: 'third', step: 'later' },
      ],
    },
  ]
  const tests = [{ file: 'test/a.test.ts', line: 3, title: '[A1 A7] does it', ids: ['A1', 'A7'] }]
  const report = reportFeatures(tables, tests)
  assert.deepEqual(report.missing, ['A2'])
  assert.deepEqual(
    report.unknown.map(({ id }) => id),
    ['A7'],
  )
  assert.equal(
    report.text,
    [
      'A. Model',
      '',
      'A1   first',
      '     - [A1 A7] does it (test/a.test.ts:3)',
      'A2   second',
      '     - MISSING',
      'A3   third',
      '     - none yet (later)',
      '',
      'test/a.test.ts:3: the tag A7 names no row',
      'features: 3 rows, 1 shown by a test; of 2 of this step 1 missing',
    ].join('\n'),
  )
})
