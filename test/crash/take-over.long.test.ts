// As take-over.test.ts, for longer; COTERIE_ROUNDS makes it longer still.

import { test } from 'node:test'
import { withSeed } from './kill-nine-rounds.ts'
import { takeOverRounds } from './take-over-rounds.ts'

const rounds = Number(process.env.COTERIE_ROUNDS ?? 60)

test(`[A9a] either side of a takeover is killed, ${rounds} times over: nothing acknowledged is lost`, async (t) => {
  await withSeed(t, 'take-over.long.test.ts', (seed) => takeOverRounds(t, rounds, seed))
})
