// SIGSTOP of one replica of two while the master writes on, with the master's memory watched.

import { test } from 'node:test'
import { stallOneReplica } from './stalled.ts'

test('[A18c] a replica stands still for 40 MB: commits go on, the memory of the master does not grow, it catches up', async (t) => {
  await stallOneReplica(t, {
    warmUpMegabytes: 40,
    megabytes: 40,
    growthMegabytesMax: 30,
    silenceTimeoutMs: 60_000,
  })
})
