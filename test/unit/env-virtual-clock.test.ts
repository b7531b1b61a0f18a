// The clock that moves only when told: order, exact times, cancelling, and work that is asked for on the way.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { VirtualClock } from '../../src/env/simulated/virtual-clock.ts'

test('due timers run in the order of their time, then of their making, each at its own time', () => {
  const clock = new VirtualClock({ nowMs: 100 })
  const seen: string[] = []
  const note = (name: string) => () => void seen.push(`${name}@${clock.now()}`)
  clock.after(20, note('late'))
  clock.after(10, note('first'))
  clock.after(10, note('second'))
  clock.after(31, note('never'))
  clock.advance(30)
  assert.deepEqual(seen, ['first@110', 'second@110', 'late@120'])
  assert.equal(clock.now(), 130)
  assert.deepEqual(clock.pending, { timers: 1, soon: 0 })
  assert.equal(clock.nextDueMs, 131)
})

test('a timer that a timer sets runs in the same advance if it is due by then', () => {
  const clock = new VirtualClock()
  const seen: number[] = []
  const tick = (): void => {
    seen.push(clock.now())
    clock.after(10, tick)
  }
  clock.after(10, tick)
  clock.advance(35)
  assert.deepEqual(seen, [10, 20, 30])
})

test('a cancelled timer never runs, and cancelling again does nothing', () => {
  const clock = new VirtualClock()
  let ran = 0
  const timer = clock.after(5, () => ran++)
  clock.after(5, () => ran++)
  timer.cancel()
  timer.cancel()
  clock.advance(10)
  timer.cancel()
  assert.equal(ran, 1)
})

test('soon runs before time moves, in order, with what it asks for itself', () => {
  const clock = new VirtualClock()
  const seen: string[] = []
  clock.after(1, () => {
    seen.push('timer')
    clock.soon(() => void seen.push(`after timer@${clock.now()}`))
  })
  clock.after(2, () => void seen.push('next timer'))
  clock.soon(() => {
    seen.push('soon')
    clock.soon(() => void seen.push('soon of soon'))
  })
  clock.advance(2)
  assert.deepEqual(seen, ['soon', 'soon of soon', 'timer', 'after timer@1', 'next timer'])
})

test('runNext goes from one event to the next and says when none is left', () => {
  const clock = new VirtualClock()
  const seen: string[] = []
  clock.after(5000, () => void seen.push('timer'))
  clock.soon(() => void seen.push('soon'))
  assert.equal(clock.runNext(), true)
  assert.deepEqual(seen, ['soon'])
  assert.equal(clock.runNext(), true)
  assert.deepEqual(seen, ['soon', 'timer'])
  assert.equal(clock.now(), 5000)
  assert.equal(clock.runNext(), false)
})

test('the wall clock may jump; the other does not', () => {
  const clock = new VirtualClock({ wallMs: 1000 })
  clock.advance(5)
  clock.shiftWall(-100)
  assert.equal(clock.wall(), 905)
  assert.equal(clock.now(), 5)
})

test('a callback may not move time, and one that never ends is found', () => {
  const clock = new VirtualClock()
  clock.soon(() => clock.advance(1))
  assert.throws(() => clock.runSoon(), /does not move the time/)
  const again = (): void => clock.soon(again)
  clock.soon(again)
  assert.throws(() => clock.runSoon(), /comes to an end/)
})
