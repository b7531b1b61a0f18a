// As stalled-replica.test.ts, for longer: the log that the replica misses passes the size of many segments.

import { test } from 'node:test'
import { stallOneReplica } from './stalled.ts'

test('[A18c] a replica stands still for 300 MB and stays attached', async (t) => {
  await stallOneReplica(t, {
    warmUpMegabytes: 140,
    megabytes: 300,
    growthMegabytesMax: 128,
    silenceTimeoutMs: 600_000,
  })
})

test('a replica stands still until its master sends it away, and comes back by itself', async (t) => {
  await stallOneReplica(t, {
    warmUpMegabytes: 140,
    megabytes: 300,
    growthMegabytesMax: 128,
    silenceTimeoutMs: 1_000,
  })
})
