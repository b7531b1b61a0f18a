// Random lives of groups in which replicas serve others in their turn, under every fault the harness has
// (test/support/core-chaos.ts). A failure names its seed: `COTERIE_SEED=n node --import tsx --test
// test/unit/replication-relay-lives.test.ts` runs that one alone.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Chaos, type ChaosResult } from '../support/core-chaos.ts'

const only = process.env.COTERIE_SEED
const seeds = process.env.COTERIE_TEST_ALL === '1' ? 3_000 : 20

function live(seed: number): ChaosResult {
  try {
    return new Chaos(seed, { leaves: 1 + (seed % 4) }).run()
  } catch (error) {
    throw new Error(`COTERIE_SEED=${seed}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    })
  }
}

test('[A26c] whoever is below never has to undo anything, and all come to rest with equal logs', () => {
  if (only !== undefined) {
    live(Number(only))
    return
  }
  const sums = new Map<string, number>()
  for (let seed = 1; seed <= seeds; seed++) {
    for (const [plan, count] of Object.entries(live(seed).below ?? {})) {
      sums.set(plan, (sums.get(plan) ?? 0) + count)
    }
  }
  // A generator that no longer reaches something proves nothing about it.
  for (const plan of ['equal', 'stream', 'rewind', 'snapshot']) {
    assert.ok((sums.get(plan) ?? 0) >= seeds / 50, `plan ${plan} was made only ${sums.get(plan) ?? 0} times`)
  }
})
