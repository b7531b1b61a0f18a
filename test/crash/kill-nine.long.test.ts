// As kill-nine.test.ts, for longer; COTERIE_ROUNDS makes it longer still.

import { test } from 'node:test'
import { killNineRounds, withSeed } from './kill-nine-rounds.ts'

const rounds = Number(process.env.COTERIE_ROUNDS ?? 50)

test(`whoever of three is killed, ${rounds} times over: nothing acknowledged is lost anywhere`, async (t) => {
  await withSeed(t, 'kill-nine.long.test.ts', (seed) => killNineRounds(t, rounds, seed))
})
