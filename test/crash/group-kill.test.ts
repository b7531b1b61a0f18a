// kill -9 of the master of a group that elects, three times, and frozen once, in real processes, under load.

import { test } from 'node:test'
import { groupKillRounds } from './group-kill-rounds.ts'
import { withSeed } from './kill-nine-rounds.ts'

test('[C3 E8] the master of a group is killed three times over, and frozen once: another reigns, and nothing acknowledged is lost', async (t) => {
  await withSeed(t, 'group-kill.test.ts', (seed) =>
    groupKillRounds(t, ['master', 'master', 'masterFrozen', 'master'], seed),
  )
})
