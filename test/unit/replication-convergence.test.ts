// Random lives of groups under every fault the harness has (test/support/core-chaos.ts). A failure names its seed:
// `COTERIE_SEED=n node --import tsx --test test/unit/replication-convergence.test.ts` runs that one alone.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Chaos, type ChaosResult } from '../support/core-chaos.ts'

const only = process.env.COTERIE_SEED
const seeds = process.env.COTERIE_TEST_ALL === '1' ? 6_000 : 60

/** Lives in which something went wrong once. */
const remembered = [5_608]

function live(seed: number): ChaosResult {
  try {
    return new Chaos(seed).run()
  } catch (error) {
    throw new Error(`COTERIE_SEED=${seed}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    })
  }
}

test('groups lose no commit of a quorum and come to rest with equal logs, whatever happens', () => {
  if (only !== undefined) {
    live(Number(only))
    return
  }
  const sums = new Map<string, number>()
  for (let seed = 1; seed <= seeds; seed++) {
    for (const [name, value] of Object.entries(live(seed))) sums.set(name, (sums.get(name) ?? 0) + value)
  }
  // A generator that no longer reaches something proves nothing about it.
  for (const [name, sum] of sums) assert.ok(sum >= seeds / 20, `${name} happened only ${sum} times`)
})

test('lives in which something went wrong once go well', () => {
  for (const seed of remembered) live(seed)
})

test('the same seed is the same life', () => {
  assert.deepEqual(live(42), live(42))
})
