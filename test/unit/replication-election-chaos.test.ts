// Random lives of groups that elect their own master (test/support/election-chaos.ts). A failure names its seed:
// `COTERIE_SEED=n node --import tsx --test test/unit/replication-election-chaos.test.ts` runs that one alone, and
// COTERIE_SEEDS=n runs so many.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ElectionChaos } from '../support/election-chaos.ts'
import { Lives } from '../support/lives.ts'

const lives = new Lives((seed) => new ElectionChaos(seed), { few: 32, many: 3_000 })

/** Lives in which something went wrong once. */
const remembered = [192, 195, 338, 1_083, 1_142, 10_463, 10_873, 12_062]

test('a group has one master in a term, who has every commit, and comes to rest, whatever happens', () => {
  lives.liveAll()
})

test('lives in which something went wrong once go well', () => {
  for (const seed of remembered) lives.live(seed)
})

test('the same seed is the same life', () => {
  assert.deepEqual(lives.live(42), lives.live(42))
})
