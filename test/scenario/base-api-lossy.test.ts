// The oracle of the Base API over networks that lose, double, delay and reorder whatever they like: a LSN that is
// `isPerm` is on the disk of who said so, one that is `notPerm` is not in its log, and once everything has come the last
// `isPerm` is the last permanent record that was sent. `COTERIE_SEED=n` runs one seed.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import { AppNet, type AppSite, goodNet } from '../support/app-net.ts'
import { waitUntil } from '../support/wait-until.ts'

const given = process.env.COTERIE_SEED
const count = process.env.COTERIE_TEST_ALL === '1' ? 40 : 4
const seeds = given === undefined ? Array.from({ length: count }, (_, i) => 100 + i) : [Number(given)]

for (const seed of seeds) {
  test(`[B3 B5 B15a] what results say holds on a network that loses messages (COTERIE_SEED=${seed})`, (t) =>
    lossyRun(t, seed))
}

async function lossyRun(t: TestContext, seed: number): Promise<void> {
  const prng = new Prng(seed)
  const net = new AppNet(t, seed)
  const a = await net.site('a', { sites: 3, acks: 'none', bulk: prng.chance(0.5) })
  const others = [await net.site('b', { sites: 3 }), await net.site('c', { sites: 3 })]
  await a.rep.start('master')
  net.faults = {
    lossChance: prng.pick([0.05, 0.2, 0.35]),
    doubleChance: prng.pick([0, 0.2]),
    lateMsMax: prng.pick([0, 10, 60]),
  }
  for (const other of others) await other.rep.start('replica')
  for (let i = 0; i < 60; i++) {
    await a.db.put(`key ${i % 7}`, `value ${i}`)
    if (prng.chance(0.3)) await new Promise((resolve) => setTimeout(resolve, prng.below(10)))
  }
  net.faults = goodNet
  const { lastLsn } = a.rep.stats()
  await waitUntil(() => others.every(({ rep }) => rep.stats().durableLsn === lastLsn), {
    what: `the replicas have all (seed ${seed})`,
  })
  await waitUntil(() => others.every(({ results }) => highestPermanent(results) === lastLsn), {
    what: `the last permanent record is isPerm everywhere (seed ${seed})`,
  })
  await waitUntil(() => net.pending === 0, { what: 'nothing is on its way' })
  for (const other of others) checkResults(other, lastLsn)
  assert.equal(await digest(others[0] as AppSite), await digest(a))
}

function checkResults({ name, results }: AppSite, lastLsn: number): void {
  for (const { result, lastLsn: last, durableLsn } of results) {
    if (result.kind === 'isPerm') {
      assert.ok(result.lsn <= durableLsn, `${name}: ${result.lsn} is permanent, ${durableLsn} durable`)
    }
    if (result.kind === 'notPerm') {
      assert.ok(result.lsn > last, `${name}: ${result.lsn} is not permanent, and the log goes to ${last}`)
    }
  }
  assert.ok(highestPermanent(results) <= lastLsn, `${name}: nothing is permanent that was never sent`)
}

function highestPermanent(results: AppSite['results']): number {
  return Math.max(0, ...results.map(({ result }) => (result.kind === 'isPerm' ? result.lsn : 0)))
}

async function digest({ db }: AppSite): Promise<string> {
  await waitUntil(() => db.status().appliedLsn === db.status().lastLsn, { what: 'all is applied' })
  return String((await db.digest()).digest)
}
