// Random lives of groups under every fault the harness has (test/support/core-chaos.ts). A failure names its seed:
// `COTERIE_SEED=n node --import tsx --test test/unit/replication-convergence.test.ts` runs that one alone, and
// COTERIE_SEEDS=n runs so many.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Chaos } from '../support/core-chaos.ts'
import { Lives } from '../support/lives.ts'

const lives = new Lives((seed) => new Chaos(seed), { few: 60, many: 6_000 })

/** Lives in which something went wrong once. */
const remembered = [5_608]

test('groups lose no commit of a quorum and come to rest with equal logs, whatever happens', () => {
  lives.liveAll()
})

test('lives in which something went wrong once go well', () => {
  for (const seed of remembered) lives.live(seed)
})

test('the same seed is the same life', () => {
  assert.deepEqual(lives.live(42), lives.live(42))
})
