// Partitions of a real network between the sites of a group: a round of some kinds, all of which the long test draws
// from. Needs Linux and the right to make network namespaces.

import { test } from 'node:test'
import { partitionRounds } from './partition-rounds.ts'

const file = 'partitions.test.ts'

test('[C3] the network is cut around the master of a group: a majority goes on, and nothing acknowledged is lost', async (t) => {
  const roundsOf = () => ['masterHalfReached', 'masterAloneKilled'] as const
  await partitionRounds(t, { file, roundsOf, extraMs: 100 })
})

test('the network is cut around a replica: the master goes on and reigns in the same term afterwards', async (t) => {
  // A busy machine stands still for longer than the default, and then an election is right.
  const timings = { electionTimeoutMs: 1200, silenceTimeoutMs: 1200 }
  await partitionRounds(t, { file, roundsOf: () => ['replicaAlone'], timings, extraMs: 100 })
})
