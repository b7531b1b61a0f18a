// When to try again, as every face and transport does: waits that double up to a bound, with a jitter of a half.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import { BackOff } from '../../src/group/back-off.ts'

function waitsOf(seed: number, tries: number): number[] {
  const prng = new Prng(seed)
  const backOff = new BackOff({ random: { bytes: (length) => prng.bytes(length) }, minMs: 40, maxMs: 1280 })
  const waits: number[] = []
  let now = 0
  for (let i = 0; i < tries; i++) {
    backOff.failed(now)
    const from = now
    while (!backOff.isDue(now)) now++
    waits.push(now - from)
  }
  return waits
}

test('waits double up to their bound, each by chance between a half and one and a half', () => {
  for (let seed = 1; seed <= 50; seed++) {
    for (const [i, wait] of waitsOf(seed, 10).entries()) {
      const around = Math.min(40 * 2 ** i, 1280)
      assert.ok(wait >= 0.5 * around && wait <= 1.5 * around + 1, `try ${i}: ${wait} ms, seed ${seed}`)
    }
  }
})

test('no two sites try in step', () => {
  const [a, b] = [waitsOf(1, 8), waitsOf(2, 8)]
  assert.ok(a.filter((wait, i) => wait !== b[i]).length >= 6)
})

test('after a success the waits are short again', () => {
  const backOff = new BackOff({ random: { bytes: () => Uint8Array.of(128) }, minMs: 40, maxMs: 1280 })
  for (let i = 0; i < 6; i++) backOff.failed(0)
  assert.equal(backOff.isDue(1000), false)
  backOff.succeeded()
  assert.equal(backOff.isDue(0), true)
  backOff.failed(0)
  assert.equal(backOff.isDue(39), false)
  assert.equal(backOff.isDue(40), true)
})
