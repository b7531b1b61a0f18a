// As group-kill.test.ts, for longer, and whoever it hits; COTERIE_ROUNDS makes it longer still.

import { test } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import { type GroupRoundKind, groupKillRounds } from './group-kill-rounds.ts'
import { withSeed } from './kill-nine-rounds.ts'

const rounds = Number(process.env.COTERIE_ROUNDS ?? 100)
const kinds: readonly GroupRoundKind[] = [
  'master',
  'master',
  'replica',
  'masterAgain',
  'majority',
  'everyone',
]

test(`whoever of a group that elects is killed or frozen, ${rounds} times over: nothing acknowledged is lost anywhere`, async (t) => {
  await withSeed(t, 'group-kill.long.test.ts', async (seed) => {
    const random = new Prng(seed ^ 0x6b6b)
    const drawn = Array.from({ length: rounds }, () => random.pick(kinds))
    await groupKillRounds(t, drawn, seed)
  })
})
