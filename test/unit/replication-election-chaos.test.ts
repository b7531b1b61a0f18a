// Random lives of groups that elect their own master (test/support/election-chaos.ts). A failure names its seed:
// `COTERIE_SEED=n node --import tsx --test test/unit/replication-election-chaos.test.ts` runs that one alone, and
// COTERIE_SEEDS=n runs so many.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ElectionChaos, type ElectionChaosResult } from '../support/election-chaos.ts'

const only = process.env.COTERIE_SEED
const seeds = Number(process.env.COTERIE_SEEDS ?? (process.env.COTERIE_TEST_ALL === '1' ? 3_000 : 45))

/** Lives in which something went wrong once. */
const remembered = [195, 338, 1_083, 10_463, 10_873, 12_062]

function live(seed: number): ElectionChaosResult {
  const chaos = new ElectionChaos(seed)
  try {
    return chaos.run()
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    throw new Error(`COTERIE_SEED=${seed}: ${message}\n${chaos.story()}`, { cause: error })
  }
}

test('a group has one master in a term, who has every commit, and comes to rest, whatever happens', () => {
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
