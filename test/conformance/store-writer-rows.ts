// The rows that store-writer-child.ts writes, and whether a store holds exactly those of its `appliedLsn`.

import assert from 'node:assert/strict'
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

export function rowValue(n: number): Uint8Array {
  return sampleBytes(n, 40 + (n % 200))
}

/** Returns the store's `appliedLsn`. */
export async function assertPrefix(store: Store): Promise<number> {
  const last = store.meta?.appliedLsn ?? 0
  const snapshot = store.snapshot()
  const found = new Map<string, string>()
  for (const [key, value] of await allRows(snapshot, {}, 1000)) {
    found.set(Buffer.from(key).toString('hex'), Buffer.from(value).toString('hex'))
  }
  await snapshot.close()
  const expected = new Map<string, string>()
  for (let n = Math.max(1, last - keptRows + 1); n <= last; n++) {
    expected.set(Buffer.from(rowKey(n)).toString('hex'), Buffer.from(rowValue(n)).toString('hex'))
  }
  if (last > 0) expected.set('02', Buffer.from(String(last)).toString('hex'))
  assert.equal(found.size, expected.size, `rows of a store at LSN ${last}`)
  for (const [key, value] of expected)
    assert.equal(found.get(key), value, `row ${key} of a store at LSN ${last}`)
  return last
}
