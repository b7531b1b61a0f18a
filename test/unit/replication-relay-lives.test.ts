// Random lives of groups in which replicas serve others in their turn, under every fault the harness has
// (test/support/core-chaos.ts). A failure names its seed: `COTERIE_SEED=n node --import tsx --test
// test/unit/replication-relay-lives.test.ts` runs that one alone, and COTERIE_SEEDS=n runs so many.

import { test } from 'node:test'
import { Chaos } from '../support/core-chaos.ts'
import { Lives } from '../support/lives.ts'

/** How whoever is below came into step, by plan. */
const lives = new Lives(
  (seed) => {
    const chaos = new Chaos(seed, { leaves: 1 + (seed % 4) })
    return {
      run: () => ({ equal: 0, stream: 0, rewind: 0, snapshot: 0, ...chaos.run().below }),
      story: () => chaos.story(),
    }
  },
  { few: 20, many: 3_000, oneIn: 50 },
)

test('[A26c] whoever is below never has to undo anything, and all come to rest with equal logs', () => {
  lives.liveAll()
})
