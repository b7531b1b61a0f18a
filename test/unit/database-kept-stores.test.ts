// What a partial view keeps: whom the filter is asked for and when, what is remembered, and what a reader is told.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { KeptStores, type StoreAnswers, type StoreFilter } from '../../src/database/kept-stores.ts'
import { KeySpace } from '../../src/database/key-space.ts'
import { membersKey } from '../../src/database/system-keys.ts'
import { failsWith } from '../support/sites.ts'

function rowOf(store: string): Uint8Array {
  const { prefix } = new KeySpace(store)
  return Uint8Array.of(...prefix, 107)
}

/** A filter that keeps these, and notes whom it was asked for. */
function keeping(...stores: readonly string[]): { readonly filter: StoreFilter; readonly asked: string[] } {
  const asked: string[] = []
  const filter = (store: string): boolean => {
    asked.push(store)
    return stores.includes(store)
  }
  return { filter, asked }
}

test('who is no partial view keeps everything, and asks nobody', () => {
  for (const view of [undefined, { kind: 'full', kept: [], declined: [] } as const]) {
    const kept = new KeptStores(view)
    assert.equal(kept.isPartial, false)
    assert.equal(kept.rowFilter, undefined)
    kept.assertKept('any')
  }
})

test('[B10] a filter is asked once a store, for the unnamed one at once, and never for rows of the database itself', () => {
  const { filter, asked } = keeping('', 'cities')
  const kept = new KeptStores(undefined)
  kept.useFilter(filter)
  assert.deepEqual(asked, [''])
  for (let i = 0; i < 3; i++) {
    assert.equal(kept.keeps(rowOf('cities')), true)
    assert.equal(kept.keeps(rowOf('rivers')), false)
    assert.equal(kept.keeps(rowOf('')), true)
    assert.equal(kept.keeps(membersKey.bytes), true)
    kept.assertKept('cities')
  }
  assert.deepEqual(asked, ['', 'cities', 'rivers'])
  assert.deepEqual(kept.answers, { kept: ['', 'cities'], declined: ['rivers'] })
})

test('[B10] an answer is durable before whoever asked goes on, and what could not be written is written again', async () => {
  const saved: StoreAnswers[] = []
  let failure: Error | undefined
  const kept = new KeptStores(undefined)
  kept.onAnswered = async (answers) => {
    if (failure !== undefined) throw failure
    saved.push(answers)
  }
  kept.useFilter(keeping('a').filter)
  await kept.settle()
  assert.deepEqual(saved, [{ kept: [], declined: [''] }])
  await kept.settle()
  assert.equal(saved.length, 1, 'nothing new')
  assert.equal(kept.keeps(rowOf('a')), true)
  failure = new Error('no space')
  await assert.rejects(kept.settle(), /no space/)
  failure = undefined
  await kept.settle()
  assert.deepEqual(saved.at(-1), { kept: ['a'], declined: [''] })
})

test('[B10] without its filter a view knows what it was told before, and applies and shows nothing else', async () => {
  const kept = new KeptStores({ kind: 'partial', kept: ['a'], declined: ['', 'b'] })
  assert.equal(kept.isPartial, true)
  kept.assertKept('a')
  assert.deepEqual((await failsWith('STORE_NOT_KEPT', () => kept.assertKept('b'))).details, { store: 'b' })
  assert.match((await failsWith('STORE_NOT_KEPT', () => kept.assertKept(''))).message, /unnamed/)
  assert.match((await failsWith('STORE_NOT_KEPT', () => kept.assertKept('c'))).message, /does not know yet/)
  assert.equal(kept.keeps(rowOf('a')), true)
  assert.equal(kept.keeps(rowOf('b')), false)
  await failsWith('VIEW_FILTER_FAILED', () => kept.keeps(rowOf('c')))
})

test('[B10] a filter that answers otherwise than the one before is refused, and nothing has changed', async () => {
  const kept = new KeptStores({ kind: 'partial', kept: ['a'], declined: ['', 'b'] })
  for (const other of [keeping('a', 'b'), keeping(), keeping('', 'a')]) {
    const error = await failsWith('INVALID_STATE', () => kept.useFilter(other.filter))
    assert.match(error.message, /decided once/)
  }
  await failsWith('STORE_NOT_KEPT', () => kept.assertKept('c'))
  kept.useFilter(keeping('a', 'c').filter)
  kept.assertKept('c')
  assert.deepEqual(kept.answers, { kept: ['a', 'c'], declined: ['', 'b'] })
})

test('[B10] a filter that throws, or answers neither true nor false, is an error that names the store', async () => {
  const kept = new KeptStores(undefined)
  const broken = new Error('broken')
  const throwing = (): boolean => {
    throw broken
  }
  assert.equal((await failsWith('VIEW_FILTER_FAILED', () => kept.useFilter(throwing))).cause, broken)
  assert.equal(kept.isPartial, false)
  const wrong: readonly unknown[] = [undefined, 1, 'yes', null, Promise.resolve(true)]
  for (const answer of wrong) {
    const view = new KeptStores(undefined)
    view.useFilter((store) => (store === 'odd' ? (answer as boolean) : true))
    const { details } = await failsWith('VIEW_FILTER_FAILED', () => view.keeps(rowOf('odd')))
    assert.deepEqual(details, { store: 'odd' })
    await failsWith('VIEW_FILTER_FAILED', () => view.assertKept('odd'))
    assert.deepEqual(view.answers, { kept: [''], declined: [] })
  }
})
