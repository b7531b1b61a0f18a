// kill -9 of each process of a group of three, in real processes, under load. Five rounds, one of each kind.

import { test } from 'node:test'
import { killNineRounds, withSeed } from './kill-nine-rounds.ts'

test('[A5c A18c B12 E2] whoever of three is killed, five times over: nothing acknowledged is lost anywhere', async (t) => {
  await withSeed(t, 'kill-nine.test.ts', (seed) => killNineRounds(t, 5, seed))
})
