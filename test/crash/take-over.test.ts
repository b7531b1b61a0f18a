// kill -9 of either side of a takeover, under load, in real processes.

import { test } from 'node:test'
import { withSeed } from './kill-nine-rounds.ts'
import { takeOverRounds } from './take-over-rounds.ts'

test('[A9a] either side of a takeover is killed, four times over: one master, nothing acknowledged is lost', async (t) => {
  await withSeed(t, 'take-over.test.ts', (seed) => takeOverRounds(t, 4, seed))
})
