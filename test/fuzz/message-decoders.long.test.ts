// 100,000 inputs for every decoder of messages; 10,000 where not all is asked for.

import { test } from 'node:test'
import { messageDecoders } from './message-rounds.ts'

const numRuns = process.env.COTERIE_TEST_ALL === '1' ? 100_000 : 10_000

for (const [name, run] of Object.entries(messageDecoders)) {
  test(`${numRuns} inputs to the decoder: ${name}`, () => run(numRuns))
}
