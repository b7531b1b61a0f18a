// Prints the feature table (features-table.ts) with the tests that show each row; `--json` for programs.
// Ends with code 1 if a row of this step has no test or a tag names no row, with 2 for an unknown argument.

import { findTaggedTests, reportFeatures } from './feature-tests.ts'
import { featureTables } from './features-table.ts'

const stray = process.argv.slice(2).find((argument) => argument !== '--json')
if (stray !== undefined) {
  console.error(`features: unknown argument ${stray}; there is only --json`)
  process.exitCode = 2
} else {
  const tests = findTaggedTests()
  const { text, missing, unknown } = reportFeatures(featureTables, tests)
  if (process.argv.includes('--json')) {
    const tables = featureTables.map((table) => ({
      ...table,
      rows: table.rows.map((row) => ({ ...row, tests: tests.filter((test) => test.ids.includes(row.id)) })),
    }))
    console.log(JSON.stringify({ tables, missing, unknown }, null, 2))
  } else console.log(text)
  process.exitCode = missing.length === 0 && unknown.length === 0 ? 0 : 1
}
