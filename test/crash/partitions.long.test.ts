// As partitions.test.ts, for longer, in an order that is drawn, and with cuts that outlast the connections;
// COTERIE_ROUNDS makes it longer still.

import { test } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import { type PartitionKind, partitionRounds, quietKinds, unseatingKinds } from './partition-rounds.ts'

const file = 'partitions.long.test.ts'
const extraMs = 4000
const rounds = Number(process.env.COTERIE_ROUNDS ?? 40)
const quietRounds = Math.round((rounds * quietKinds.length) / (quietKinds.length + unseatingKinds.length))

function drawn(seed: number, kinds: readonly PartitionKind[], count: number): PartitionKind[] {
  const random = new Prng(seed ^ 0x7c7c)
  return Array.from({ length: count }, () => random.pick(kinds))
}

test('the network is cut around the master of a group, again and again: nothing acknowledged is lost anywhere', async (t) => {
  const roundsOf = (seed: number): PartitionKind[] => drawn(seed, unseatingKinds, rounds - quietRounds)
  await partitionRounds(t, { file, roundsOf, extraMs })
})

test('the network is cut around the replicas, again and again: the term never changes', async (t) => {
  const roundsOf = (seed: number): PartitionKind[] => drawn(seed, quietKinds, quietRounds)
  await partitionRounds(t, { file, roundsOf, timings: { electionTimeoutMs: 1200 }, extraMs })
})
