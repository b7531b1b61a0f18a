import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createJudges } from '../../src/sim/judges.ts'
import { regressionSeeds } from '../../src/sim/regression-seeds.ts'
import { runSeed } from '../../src/sim/run-seed.ts'

for (const { found, ...options } of regressionSeeds) {
  test(`seed ${options.seed}, which once found (${found}), finds nothing`, async () => {
    const report = await runSeed({ ...options, judges: createJudges() })
    assert.equal(
      report.violation,
      undefined,
      `npm run sim -- --seeds 1 --first ${options.seed} --trace: ${report.violation?.judge}: ${report.violation?.message}`,
    )
  })
}
