// Whole runs: the same seed is the same run, byte for byte, whoever watches; and a run is not empty.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createJudges } from '../../src/sim/judges.ts'
import { runSeed } from '../../src/sim/run-seed.ts'

const simulatedMs = 15_000
const seeds = process.env.COTERIE_TEST_ALL === '1' ? [11, 12, 13] : [11, 12]

test('[E3] the same seed gives the same run, told or not, copied or not; another seed another one', async () => {
  const fingerprints = new Set<string>()
  for (const seed of seeds) {
    const first = await runSeed({ seed, simulatedMs })
    const second = await runSeed({ seed, simulatedMs })
    assert.deepEqual(second, first)
    const lines: string[] = []
    const told = await runSeed({ seed, simulatedMs, trace: (line) => lines.push(line), paranoid: true })
    assert.equal(told.fingerprint, first.fingerprint)
    assert.equal(told.events, first.events)
    assert.ok(lines.length > 10, 'a story was told')
    fingerprints.add(first.fingerprint)
  }
  assert.equal(fingerprints.size, seeds.length)
})

test('[E3] in a run clients commit, faults strike, and the report counts both', async () => {
  const report = await runSeed({ seed: 21, sites: 3, simulatedMs, faults: ['kill', 'isolate', 'drop'] })
  assert.equal(report.violation, undefined)
  assert.ok(report.commits > 20, `${report.commits} commits`)
  assert.ok(report.events > 1000)
  assert.ok((report.faults.kill ?? 0) > 0)
  assert.ok((report.faults.dropped ?? 0) > 0)
  assert.ok(report.simulatedMs >= simulatedMs)
})

test('[E3] two sites are drawn, go on alone, and undo what only one of them had', async () => {
  const lines: string[] = []
  const options = { seed: 18, simulatedMs, faults: ['apart', 'twoSites'], judges: createJudges() }
  const report = await runSeed({ ...options, trace: (line) => lines.push(line) })
  assert.equal(report.violation, undefined)
  assert.equal(report.kind, 'pair')
  assert.ok((report.faults.apart ?? 0) > 0 && (report.faults.twoSites ?? 0) > 0)
  assert.ok(lines.some((line) => line.includes('rolled back')))
})

test('what a judge finds ends the run and is in its report', async () => {
  let events = 0
  const report = await runSeed({
    seed: 31,
    simulatedMs,
    judges: [
      {
        name: 'strict',
        afterEvent: (world) => {
          if (++events === 500) world.violate('strict', 'that was the 500th event')
        },
      },
    ],
  })
  assert.equal(report.violation?.judge, 'strict')
  assert.equal(report.events, 500)
})
