// One process, no group: kill -9 in the midst of writes, again and again on the same folder. What was acknowledged is
// in the log at its LSN and in the store; the next process opens the folder as if nothing had happened.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import type { OpenOptions } from '../../src/index.ts'
import { RemoteSite } from '../support/remote-site.ts'
import type { Settled } from '../support/site-messages.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'
import { withSeed } from './kill-nine-rounds.ts'

const file = 'single-site.test.ts'
const rounds = process.env.COTERIE_TEST_ALL === '1' ? 30 : 3
// Small files and frequent checkpoints, so that kills also meet the end of a segment, its removal, and a checkpoint.
const open: OpenOptions = { segmentBytes: 65_536, checkpointBytes: 200_000, retain: { bytes: 8_000_000 } }

test('a process alone is killed while it writes: every acknowledged commit is there afterwards', async (t) => {
  await withSeed(t, file, (seed) => killWhileWriting(t, seed, open))
})

test('[D4b] a commit that only waited for the operating system survives the death of its process', async (t) => {
  await withSeed(t, file, (seed) => killWhileWriting(t, seed, { ...open, durability: 'written' }))
})

async function killWhileWriting(t: TestContext, seed: number, options: OpenOptions): Promise<void> {
  const random = new Prng(seed)
  const path = join(withTempFolder(t), 'data')
  const checker = new Checker()
  let total = 0
  for (let round = 0; round <= rounds; round++) {
    const site = new RemoteSite(t, { name: `process ${round}` })
    const { lastLsn } = await site.call('open', { path, open: options })
    await checker.check(site, lastLsn)
    if (round === rounds) break
    await site.call('startLoad', {
      seed: round,
      writers: random.pick([1, 16, 64]),
      keys: 500,
      valueBytes: random.pick([16, 400, 3000]),
      restMs: random.pick([0, 1, 5]),
      mixed: true,
    })
    await waitUntil(() => site.acknowledged.length > 0, { what: 'the first commit is acknowledged' })
    await new Promise((resolve) => {
      setTimeout(resolve, random.below(400))
    })
    await site.kill()
    total += site.acknowledged.length
    checker.receipts = site.acknowledged
  }
  t.diagnostic(`${rounds} kills, ${total} commits acknowledged, none lost`)
}

/** Holds log and rows of the process that comes next against what the one before had acknowledged. */
class Checker {
  receipts: readonly Settled[] = []
  readonly #rows = new Map<string, string>()
  #checkedLsn = 0

  async check(site: RemoteSite, lastLsn: number): Promise<void> {
    const changes = await site.call('changes', { from: this.#checkedLsn + 1, to: lastLsn })
    this.#checkedLsn = lastLsn
    const byLsn = new Map(changes.map((change) => [change.lsn, change]))
    for (const { lsn, term, writes } of this.receipts) assert.deepEqual(byLsn.get(lsn), { lsn, term, writes })
    for (const change of changes) {
      for (const [key, value] of change.writes) {
        if (value === undefined) this.#rows.delete(key)
        else this.#rows.set(key, value)
      }
    }
    assert.deepEqual(await site.call('values', [...this.#rows.keys()]), [...this.#rows.values()])
    assert.equal((await site.call('verify')).rows, this.#rows.size)
    const tokens = this.receipts.map(({ token }) => token)
    const outcomes = await site.call('outcomes', tokens)
    assert.ok(outcomes.every((outcome) => outcome === 'applied'))
  }
}
