// A partial view whose process is killed, and whose machine loses power, at any moment: it never shows a store that it
// does not keep as empty, and in the end it has of each store all of it or none. `COTERIE_SEED=n` runs one seed.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import { type Database, isCoterieError } from '../../src/index.ts'
import { runSettling } from '../../src/sim/settle.ts'
import { BaseCluster, type BaseSite } from '../support/base-cluster.ts'

const given = process.env.COTERIE_SEED
const count = process.env.COTERIE_TEST_ALL === '1' ? 200 : 8
const seeds = given === undefined ? Array.from({ length: count }, (_, i) => 500 + i) : [Number(given)]

const stores = ['', ...Array.from({ length: 9 }, (_, i) => `store ${i}`)]
const keeps = (store: string): boolean => store !== '' && Number(store.slice(6)) % 2 === 0
const keys = ['a', 'b', 'c', 'd']

for (const seed of seeds) {
  test(`[B10] a partial view that crashes keeps what its filter lets in, and nothing else (COTERIE_SEED=${seed})`, () =>
    runSettling(() => run(seed)))
}

function run(seed: number): void {
  const prng = new Prng(seed)
  const cluster = new BaseCluster(seed)
  const a = cluster.site('a', { sites: 1 })
  const view = { filter: keeps }
  cluster.on(a, () => upOf(a).rep.start('master'))
  const write = (): void => {
    const operations = Array.from({ length: prng.between(1, 6) }, () => {
      const row = { store: prng.pick(stores), key: prng.pick(keys) }
      return prng.chance(0.7)
        ? ({ type: 'put', value: `value ${prng.below(1000)}`, ...row } as const)
        : ({ type: 'del', ...row } as const)
    })
    cluster.on(a, () => upOf(a).db.batch(operations))
  }
  for (let i = prng.below(40); i > 0; i--) write()
  const v = cluster.site('v', { sites: 1, view })
  cluster.on(v, () => upOf(v).rep.start('replica'))
  for (let i = 0; i < 40; i++) {
    if (prng.chance(0.6)) write()
    else cluster.run(prng.below(60))
    if (!prng.chance(0.15)) continue
    cluster.crash(v, prng.chance(0.5) ? 'kill' : 'power')
    cluster.run(prng.below(20))
    cluster.boot(v)
    checkReads(upOf(v).db)
    checkKnown(cluster, v)
    cluster.on(v, () => upOf(v).rep.start('replica'))
  }
  const { db } = upOf(v)
  const { lastLsn } = upOf(a).db.status()
  for (let i = 0; i < 200 && db.status().appliedLsn < lastLsn; i++) cluster.run(100)
  assert.equal(db.status().appliedLsn, lastLsn)
  const stat = cluster.on(v, () => db.stat())
  assert.deepEqual(
    stat.filter(({ name }) => !keeps(name)),
    [],
    'nothing else is in the store',
  )
  for (const store of stores) {
    for (const key of keys) {
      if (keeps(store)) assert.equal(read(db, store, key), read(upOf(a).db, store, key))
      else assert.equal(read(db, store, key), 'STORE_NOT_KEPT')
    }
  }
  const { kept = [], declined = [] } = db.status().view ?? {}
  assert.ok(kept.every(keeps) && !declined.some(keeps))
}

function upOf(site: BaseSite): { db: Database; rep: NonNullable<BaseSite['rep']> } {
  const { db, rep } = site
  assert.ok(db !== undefined && rep !== undefined, `${site.name} is up`)
  return { db, rep }
}

/** Just opened: not attached. */
function checkReads(db: Database): void {
  for (const store of stores) {
    if (keeps(store)) continue
    for (const key of keys) {
      const told = read(db, store, key)
      assert.ok(told !== undefined && /^[A-Z_]+$/.test(told), `${store}/${key} is not shown as ${told}`)
    }
  }
}

/** Of every store that has rows here the disk says that it is kept: whoever opens it without a filter knows. */
function checkKnown(cluster: BaseCluster, v: BaseSite): void {
  const { db } = upOf(v)
  const { kept = [] } = db.site.engine.folder.state?.view ?? {}
  // Rows of a snapshot that was resumed are shown when the log has passed it.
  if (read(db, 'store 0', 'a') === 'SYNCING') return
  for (const { name } of cluster.on(v, () => db.stat())) {
    assert.ok(keeps(name), `${name} is here`)
    assert.ok(kept.includes(name), `${name} is known to be kept`)
  }
}

/** The value, or the code of why there is none to be had. */
function read(db: Database, store: string, key: string): string | undefined {
  try {
    return (store === '' ? db : db.store(store)).getSync(key)
  } catch (error) {
    if (!isCoterieError(error)) throw error
    return error.code
  }
}
