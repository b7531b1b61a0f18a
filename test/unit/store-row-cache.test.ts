// The row cache: what it keeps, what it drops, and what it must never let in.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { RowCache } from '../../src/store/row-cache.ts'
import type { RowWrite } from '../../src/store/store.ts'

const value = (length: number, fill = 1): Uint8Array => new Uint8Array(length).fill(fill)

function applied(cache: RowCache, key: string, written: Uint8Array | undefined): void {
  cache.applied(new Map<string, RowWrite>([[key, { key: new Uint8Array(1), value: written }]]))
}

test('gives back the very value, knows absent rows, and tells them from unknown ones', () => {
  const cache = new RowCache()
  const kept = value(10)
  cache.fill('a', kept, cache.ticket())
  cache.fill('gone', undefined, cache.ticket())
  assert.equal(cache.get('a')?.value, kept)
  assert.deepEqual(cache.get('gone'), { value: undefined })
  assert.equal(cache.get('unknown'), undefined)
  assert.deepEqual([cache.hits, cache.misses], [2, 1])
})

test('a row that was read before a batch became visible is not let in after it', () => {
  const cache = new RowCache()
  const ticket = cache.ticket()
  applied(cache, 'a', value(3, 2))
  cache.fill('a', value(3, 1), ticket)
  assert.equal(cache.get('a'), undefined)
  cache.fill('a', value(3, 2), cache.ticket())
  assert.deepEqual(cache.get('a')?.value, value(3, 2))
  const before = cache.ticket()
  cache.clear()
  cache.fill('a', value(3, 1), before)
  assert.equal(cache.get('a'), undefined)
})

test('a cached row follows what is applied; a row that is not cached does not come in', () => {
  const cache = new RowCache()
  cache.fill('a', value(3, 1), cache.ticket())
  const large = Buffer.alloc(3000, 5)
  cache.fill('b', undefined, cache.ticket())
  applied(cache, 'a', value(3, 2))
  applied(cache, 'b', large)
  applied(cache, 'c', value(3, 3))
  large.fill(9)
  assert.deepEqual(cache.get('a')?.value, value(3, 2))
  assert.deepEqual(cache.get('b')?.value, value(3000, 5), 'as a copy')
  assert.equal(cache.get('c'), undefined)
  applied(cache, 'a', undefined)
  assert.deepEqual(cache.get('a'), { value: undefined })
})

test('keeps within its bytes, and what is used stays longer than what is not', () => {
  const cache = new RowCache({ bytesMax: 100_000 })
  cache.fill('used', value(50), cache.ticket())
  for (let n = 0; n < 5000; n++) {
    cache.fill(`row ${n}`, value(50), cache.ticket())
    assert.ok(cache.bytes <= 100_000)
    if (n % 50 === 0) assert.notEqual(cache.get('used'), undefined, `after ${n}`)
  }
  assert.ok(cache.count > 150, `${cache.count}`)
  assert.equal(cache.get('row 0'), undefined)
  assert.notEqual(cache.get('row 4999'), undefined)
})

test('a row that would push out most others is not kept, and 0 bytes keep nothing', () => {
  const cache = new RowCache({ bytesMax: 100_000 })
  cache.fill('huge', value(20_000), cache.ticket())
  assert.equal(cache.get('huge'), undefined)
  const none = new RowCache({ bytesMax: 0 })
  none.fill('a', value(1), none.ticket())
  assert.equal(none.get('a'), undefined)
  assert.equal(none.count, 0)
})

test('never answers wrong, and its count and bytes are those of its rows', () => {
  const step = fc.record({
    key: fc.nat(30),
    bytes: fc.nat(400),
    what: fc.constantFrom('read', 'apply', 'delete'),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const cache = new RowCache({ bytesMax: 10_000 })
      const store = new Map<string, Uint8Array | undefined>()
      let fills = 0
      for (const { key, bytes, what } of steps) {
        const text = `key ${key}`
        if (what === 'apply') {
          const written = bytes % 5 === 0 ? undefined : value(bytes, ++fills & 255)
          store.set(text, written)
          applied(cache, text, written)
        } else if (what === 'delete') cache.delete(text)
        else {
          const cached = cache.get(text)
          if (cached === undefined) cache.fill(text, store.get(text), cache.ticket())
          else assert.deepEqual(cached.value, store.get(text))
        }
        assert.ok(cache.bytes <= 10_000)
      }
      let bytes = 0
      let count = 0
      for (let key = 0; key <= 30; key++) {
        const cached = cache.get(`key ${key}`)
        if (cached === undefined) continue
        count++
        bytes += 200 + `key ${key}`.length + (cached.value?.length ?? 0)
      }
      assert.deepEqual([cache.count, cache.bytes], [count, bytes])
    }),
    { numRuns: 100 },
  )
})
