// 100,000 inputs for every decoder; 10,000 where not all is asked for.

import { test } from 'node:test'
import { decoders } from './decoder-rounds.ts'

const numRuns = process.env.COTERIE_TEST_ALL === '1' ? 100_000 : 10_000

for (const [name, run] of Object.entries(decoders)) {
  test(`${numRuns} inputs to the decoder: ${name}`, () => run(numRuns))
}
