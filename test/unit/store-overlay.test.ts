// The overlay against a plain list of versions.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Lsn, toLsn } from '../../src/base/lsn.ts'
import { Overlay } from '../../src/store/overlay.ts'

const value = (n: number): Uint8Array => Uint8Array.of(n & 255, n >> 8)

test('finds the newest version, the newest up to an LSN, and deletes as versions without a value', () => {
  const overlay = new Overlay()
  overlay.set('a', value(1), toLsn(1))
  overlay.set('a', undefined, toLsn(3))
  overlay.set('a', value(5), toLsn(5))
  assert.deepEqual(overlay.get('a')?.value, value(5))
  assert.deepEqual(overlay.getAt('a', toLsn(4)), {
    lsn: 3,
    value: undefined,
    older: overlay.getAt('a', toLsn(2)),
  })
  assert.deepEqual(overlay.getAt('a', toLsn(2))?.value, value(1))
  assert.equal(overlay.getAt('a', toLsn(0)), undefined)
  assert.equal(overlay.get('b'), undefined)
})

test('a transaction that writes a key twice leaves its last value', () => {
  const overlay = new Overlay()
  overlay.set('a', value(1), toLsn(1))
  overlay.set('a', value(2), toLsn(1))
  assert.deepEqual(overlay.getAt('a', toLsn(1))?.value, value(2))
})

test('counts versions and bytes, and is empty once everything is applied', () => {
  const overlay = new Overlay()
  for (let lsn = 1; lsn <= 10_000; lsn++) {
    overlay.set(`key ${lsn % 100}`, lsn % 7 === 0 ? undefined : value(lsn), toLsn(lsn))
    if (lsn % 50 === 0) overlay.sealGeneration()
  }
  assert.equal(overlay.count, 10_000)
  assert.ok(overlay.bytes > 60_000 && overlay.bytes < 120_000)
  overlay.dropThrough(toLsn(6000))
  assert.ok(overlay.count >= 4000 && overlay.count < 10_000, 'whole generations are dropped')
  overlay.dropThrough(toLsn(10_000))
  assert.equal(overlay.count, 0)
  assert.equal(overlay.bytes, 0)
  assert.equal(overlay.get('key 1'), undefined)
})

test('an LSN that falls, and a reader of what was dropped, are defects', () => {
  const overlay = new Overlay()
  overlay.set('a', value(1), toLsn(5))
  assert.throws(() => overlay.set('a', value(1), toLsn(4)), /order of their LSNs/)
  overlay.dropThrough(toLsn(5))
  assert.throws(() => overlay.getAt('a', toLsn(4)), /dropped/)
  overlay.clear()
  assert.equal(overlay.getAt('a', toLsn(1)), undefined)
  overlay.set('a', value(2), toLsn(2))
  assert.deepEqual(overlay.get('a')?.value, value(2), 'after a rewind LSNs begin again')
})

type Step = { readonly set: number; readonly deleted: boolean } | 'seal' | { readonly applied: number }

const stepArbitrary: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ set: fc.nat(20), deleted: fc.boolean() }) },
  { weight: 1, arbitrary: fc.constant<Step>('seal') },
  { weight: 1, arbitrary: fc.record({ applied: fc.nat(100) }) },
)

test('with the store below it, it shows every state that a reader may ask for', () => {
  fc.assert(
    fc.property(fc.array(stepArbitrary, { minLength: 1, maxLength: 60 }), fc.nat(3), (steps, perStep) => {
      const overlay = new Overlay()
      const written: { key: string; lsn: number; value: Uint8Array | undefined }[] = []
      let applied = 0
      for (const step of steps) {
        if (step === 'seal') overlay.sealGeneration()
        else if ('applied' in step) {
          applied += Math.floor((step.applied * (written.length - applied)) / 100)
          overlay.dropThrough(toLsn(applied))
        } else {
          // Enough for generations to be sealed.
          for (let i = 0; i < 1 + perStep * 700; i++) {
            const entry = {
              key: `k${step.set + i * 31}`,
              lsn: written.length + 1,
              value: step.deleted ? undefined : value(written.length),
            }
            written.push(entry)
            overlay.set(entry.key, entry.value, entry.lsn as Lsn)
          }
        }
      }
      const newest = (key: string, upTo: number) =>
        written.findLast((entry) => entry.key === key && entry.lsn <= upTo)
      for (let key = 0; key <= 20; key++) {
        for (const visible of [applied, Math.ceil((applied + written.length) / 2), written.length]) {
          const expected = newest(`k${key}`, visible)
          const found = overlay.getAt(`k${key}`, toLsn(visible))
          // What the overlay no longer has is what the store has at `applied`.
          if (found === undefined) assert.ok(expected === undefined || expected.lsn <= applied)
          else assert.deepEqual([found.lsn, found.value], [expected?.lsn, expected?.value])
        }
        const found = overlay.get(`k${key}`)
        if (found !== undefined) assert.equal(found.lsn, newest(`k${key}`, written.length)?.lsn)
      }
    }),
    { numRuns: 60 },
  )
})
