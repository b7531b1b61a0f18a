// The rows that store-writer-child.ts writes, and whether a store holds exactly those of its `appliedLsn`.

import assert from 'node:assert/strict'
import { compareBytes } from '../../src/base/bytes.ts'
import type { Store } from '../../src/store/store.ts'
import { sampleBytes } from '../support/log-fixture.ts'
import { allRows, bytes } from './store-suite.ts'

/** Batch n deletes row n - keptRows. */
export const keptRows = 1500
export const lastKey: Uint8Array = bytes(2)

export function rowKey(n: number): Uint8Array {
  const key = new Uint8Array(9)
  key[0] = 1
  // Scattered, so that every table has rows of many batches.
  new DataView(key.buffer).setUint32(1, Math.imul(n, 0x9e37_79b1))
  new DataView(key.buffer).setUint32(5, n)
  return key
}

const values = new Map<number, Uint8Array>()

export function rowValue(n: number): Uint8Array {
  let value = values.get(n)
  // Asked for again and again, and dear to make.
  if (value === undefined) {
    value = sampleBytes(n, 40 + (n % 200))
    values.set(n, value)
  }
  return value
}

/** Returns the store's `appliedLsn`. */
export async function assertPrefix(store: Store): Promise<number> {
  const last = store.meta?.appliedLsn ?? 0
  const snapshot = store.snapshot()
  const rows = await allRows(snapshot, {}, 1000)
  await snapshot.close()
  const first = Math.max(1, last - keptRows + 1)
  const where = `of a store at LSN ${last}`
  const kept = last - first + 1
  // All different, as many as there should be, and each of them should be there: then none is missing.
  assert.equal(rows.length, last > 0 ? kept + 1 : 0, `rows ${where}`)
  let before: Uint8Array | undefined
  for (const [key, value] of rows) {
    assert.ok(before === undefined || compareBytes(before, key) < 0, `keys grow ${where}`)
    before = key
    if (compareBytes(key, lastKey) === 0) {
      assert.equal(Buffer.from(value).toString('hex'), Buffer.from(String(last)).toString('hex'), where)
      continue
    }
    const n = new DataView(key.buffer, key.byteOffset, key.length).getUint32(5)
    assert.ok(n >= first && n <= last, `row ${n} ${where}`)
    assert.equal(compareBytes(key, rowKey(n)), 0, `the key of row ${n} ${where}`)
    assert.equal(compareBytes(value, rowValue(n)), 0, `row ${n} ${where}`)
  }
  return last
}
