// What a store on a simulated disk keeps over a crash: a prefix of the batches since the last flush, whole batches,
// rows and meta together.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { toLsn } from '../../src/base/lsn.ts'
import { Prng } from '../../src/base/prng.ts'
import { SimulatedStores } from '../../src/sim/simulated-store.ts'
import type { Store } from '../../src/store/store.ts'
import { bytes, hasCode, metaAt, put } from '../conformance/store-suite.ts'

const soon = (callback: () => void): void => queueMicrotask(callback)

async function write(store: Store, lsn: number): Promise<void> {
  await store.write({
    writes: [put(bytes(lsn), bytes('v')), put(bytes('last'), bytes(lsn))],
    meta: metaAt(lsn),
    undo: [{ lsn: toLsn(lsn), entries: [{ key: bytes('last'), before: bytes(lsn - 1) }] }],
  })
}

/** Flushed up to 3, written up to 6. */
async function storeToCrash(seed: number): Promise<{ stores: SimulatedStores; store: Store }> {
  const stores = new SimulatedStores({ prng: new Prng(seed) })
  const store = await stores.engine(soon).open('s')
  for (let lsn = 1; lsn <= 3; lsn++) await write(store, lsn)
  await store.flush()
  for (let lsn = 4; lsn <= 6; lsn++) await write(store, lsn)
  return { stores, store }
}

async function check(store: Store): Promise<number> {
  const lsn = store.meta?.appliedLsn ?? 0
  for (let each = 1; each <= 7; each++) {
    assert.equal(store.getSync(bytes(each)) !== undefined, each <= lsn, `row ${each} at LSN ${lsn}`)
  }
  assert.deepEqual(store.getSync(bytes('last')), bytes(lsn))
  const undo = await store.undoAfter(toLsn(0))
  assert.deepEqual(
    undo.map((each) => each.lsn as number),
    Array.from({ length: lsn }, (_, i) => lsn - i),
  )
  return lsn
}

test('a crash keeps what was flushed and a prefix of the rest, every length of it', async () => {
  const kept = new Set<number>()
  for (let seed = 1; seed <= 80; seed++) {
    const { stores } = await storeToCrash(seed)
    stores.crash()
    const lsn = await check(await stores.engine(soon).open('s'))
    kept.add(lsn)
  }
  assert.deepEqual([...kept].sort(), [3, 4, 5, 6])
})

test('a second crash takes nothing that the first has left', async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const { stores } = await storeToCrash(seed)
    stores.crash()
    const lsn = await check(await stores.engine(soon).open('s'))
    stores.crash()
    assert.equal(await check(await stores.engine(soon).open('s')), lsn)
  }
})

test('a process that is killed loses nothing that it has written', async () => {
  const { stores } = await storeToCrash(1)
  stores.kill()
  assert.equal(await check(await stores.engine(soon).open('s')), 6)
})

test('a batch under way at a kill is there as a whole or not at all', async () => {
  const kept = new Set<number>()
  for (let seed = 1; seed <= 30; seed++) {
    const stores = new SimulatedStores({ prng: new Prng(seed) })
    const waiting: (() => void)[] = []
    const opening = stores.engine((callback) => waiting.push(callback)).open('s')
    waiting.shift()?.()
    const store = await opening
    void write(store, 1)
    assert.equal(store.meta, undefined, 'nobody sees it yet')
    stores.kill()
    const after = await stores.engine(soon).open('s')
    kept.add(after.meta?.appliedLsn ?? 0)
    if (after.meta !== undefined) await check(after)
  }
  assert.deepEqual([...kept].sort(), [0, 1])
})

test('a snapshot stays as it was, whatever is written later', async () => {
  const { store } = await storeToCrash(1)
  const snapshot = store.snapshot()
  await write(store, 7)
  assert.equal(snapshot.getSync(bytes(7)), undefined)
  assert.equal(snapshot.meta?.appliedLsn, 6)
  assert.notEqual(store.getSync(bytes(7)), undefined)
})

test('a write that fails ends the open store; a damaged store does not open', async () => {
  const { stores, store } = await storeToCrash(1)
  stores.failWrite('s')
  await assert.rejects(write(store, 7), hasCode('STORE_FAILED'))
  await assert.rejects(write(store, 8), hasCode('STORE_FAILED'))
  await store.close()
  const again = await stores.engine(soon).open('s')
  await again.close()
  stores.damage('s')
  await assert.rejects(stores.engine(soon).open('s'), hasCode('STORE_FAILED'))
  stores.wipe()
  assert.equal(await stores.engine(soon).exists('s'), false)
})
