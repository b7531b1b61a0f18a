// The seeded generator: the same seed gives the same numbers for ever, and they spread evenly.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Prng } from '../../src/base/prng.ts'

test('a seed gives the same numbers in every run and on every machine', () => {
  const prng = new Prng(1)
  assert.deepEqual([prng.next(), prng.next(), prng.next()], [2420951833, 2513034076, 3847892949])
  assert.deepEqual([...new Prng(7).bytes(5)], [...new Prng(7).bytes(5)])
})

test('seeds that differ only beyond 32 bits give different numbers', () => {
  assert.notEqual(new Prng(5).next(), new Prng(5 + 2 ** 32).next())
  assert.notEqual(new Prng(5).next(), new Prng(6).next())
})

test('below and between stay inside their bounds and reach them', () => {
  const prng = new Prng(2)
  const seen = new Set<number>()
  for (let i = 0; i < 1000; i++) seen.add(prng.below(7))
  assert.deepEqual(
    [...seen].sort((a, b) => a - b),
    [0, 1, 2, 3, 4, 5, 6],
  )
  for (let i = 0; i < 1000; i++) {
    const value = prng.between(-2, 2)
    assert.ok(value >= -2 && value <= 2)
  }
  assert.ok(prng.below(2 ** 53 - 1) < 2 ** 53 - 1)
  assert.throws(() => prng.below(0))
})

test('chances come true as often as they should; never at 0, always at 1', () => {
  const prng = new Prng(3)
  let hits = 0
  for (let i = 0; i < 100_000; i++) {
    if (prng.chance(0.3)) hits++
    assert.equal(prng.chance(0), false)
    assert.equal(prng.chance(1), true)
  }
  assert.ok(hits > 29_000 && hits < 31_000, `${hits} of 100000`)
})

test('bytes of every length are filled to the end', () => {
  const prng = new Prng(4)
  for (let length = 0; length < 20; length++) {
    const union = new Uint8Array(length)
    for (let i = 0; i < 64; i++)
      prng.bytes(length).forEach((byte, at) => {
        union[at] = (union[at] as number) | byte
      })
    assert.ok(union.every((byte) => byte === 255))
  }
})

test('drawing from a fork does not change what its origin gives', () => {
  const one = new Prng(9)
  const two = new Prng(9)
  const fork = one.fork()
  two.fork()
  for (let i = 0; i < 100; i++) fork.next()
  assert.equal(one.next(), two.next())
  assert.equal(one.pick(['a']), 'a')
})
