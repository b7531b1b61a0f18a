// The rounds of the kill -9 tests, short and long: which process dies in which round follows from the seed, and so do
// the waits; what the processes are doing at that moment does not.

import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import type { TestContext } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import { CrashGroup, type RoundKind, roundKinds } from './crash-group.ts'

/** `COTERIE_SEED` replays a failure. */
export function seedOfRun(): number {
  const given = process.env.COTERIE_SEED
  return given === undefined ? randomInt(2 ** 32) : Number(given)
}

/** Runs the body; a failure names the seed and the line that runs the same again. */
export async function withSeed(
  t: TestContext,
  file: string,
  body: (seed: number) => Promise<void>,
): Promise<void> {
  const seed = seedOfRun()
  t.diagnostic(`seed ${seed}`)
  try {
    await body(seed)
  } catch (error) {
    const long = file.includes('.long.') ? 'COTERIE_TEST_ALL=1 ' : ''
    const line = `COTERIE_SEED=${seed} ${long}node --import tsx --test test/crash/${file}`
    throw new Error(`${error instanceof Error ? error.message : error}\nrun it again: ${line}`, {
      cause: error,
    })
  }
}

export async function killNineRounds(t: TestContext, rounds: number, seed: number): Promise<void> {
  const group = new CrashGroup(t, seed)
  const random = new Prng(seed ^ 0x5f5f)
  let deck: RoundKind[] = []
  await group.start()
  for (let round = 1; round <= rounds; round++) {
    if (deck.length === 0) deck = shuffled(roundKinds, random)
    const kind = deck.pop() as RoundKind
    try {
      await group.round(kind)
    } catch (error) {
      throw new Error(`round ${round} (${kind}): ${error instanceof Error ? error.message : error}`, {
        cause: error,
      })
    }
  }
  await group.checkAll()
  await group.close()
  const { acknowledged, kills, applied, lost, rewinds } = group.totals
  t.diagnostic(
    `${kills} kills, ${acknowledged} commits acknowledged, none lost; of the unknown ${applied} applied, ${lost} lost; ${rewinds} rewinds`,
  )
  for (const kind of ['incremental', 'rewound']) {
    const { syncKinds } = group.totals
    assert.ok(syncKinds.has(kind), `a site came back by '${kind}', not only by ${[...syncKinds].join(', ')}`)
  }
  assert.ok(kills >= rounds && acknowledged > rounds * 64, 'the rounds did what they are for')
}

function shuffled<T>(items: readonly T[], random: Prng): T[] {
  const left = [...items]
  const result: T[] = []
  while (left.length > 0) result.push(...left.splice(random.below(left.length), 1))
  return result
}
