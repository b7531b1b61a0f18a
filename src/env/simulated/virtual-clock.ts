// A clock that stands still until it is told to move: the time and the timers of tests and of the simulator. Time
// passes only in `advance` and `runNext`; due timers run in the order of their time, then of their making, and
// each sees exactly its own time. The same calls give the same run.

import { assert } from '../../base/assert.ts'
import type { Clock, Timer, Timers } from '../host.ts'

interface VirtualTimer {
  readonly dueMs: number
  readonly callback: () => void
}

/** More in one go means that a callback asks for `soon` again and again and time cannot move on. */
const soonCallsMax = 1_000_000

export class VirtualClock implements Clock, Timers {
  #nowMs: number
  #wallOffsetMs: number
  /** Invariant: sorted by due time; among equals the one made first comes first. */
  readonly #timers: VirtualTimer[] = []
  #soon: (() => void)[] = []
  #running: boolean = false

  constructor(options: { readonly nowMs?: number; readonly wallMs?: number } = {}) {
    this.#nowMs = options.nowMs ?? 0
    this.#wallOffsetMs = (options.wallMs ?? 1_700_000_000_000) - this.#nowMs
  }

  now(): number {
    return this.#nowMs
  }

  wall(): number {
    return this.#nowMs + this.#wallOffsetMs
  }

  /** Timers that wait, and callbacks of `soon` that wait. */
  get pending(): { readonly timers: number; readonly soon: number } {
    return { timers: this.#timers.length, soon: this.#soon.length }
  }

  /** When the next timer is due; undefined if there is none. */
  get nextDueMs(): number | undefined {
    return this.#timers[0]?.dueMs
  }

  after(ms: number, callback: () => void): Timer {
    const timer: VirtualTimer = { dueMs: this.#nowMs + Math.max(0, ms), callback }
    this.#timers.splice(this.#placeFor(timer.dueMs), 0, timer)
    return {
      cancel: () => {
        const index = this.#timers.indexOf(timer)
        if (index >= 0) this.#timers.splice(index, 1)
      },
    }
  }

  soon(callback: () => void): void {
    this.#soon.push(callback)
  }

  /** Lets the wall clock jump, as an operator or a time server does. */
  shiftWall(ms: number): void {
    this.#wallOffsetMs += ms
  }

  /** Runs what `soon` was asked to run, and what that asks for, until nothing is left. Time stands still. */
  runSoon(): void {
    this.#exclusively(() => this.#runSoon())
  }

  /** Moves time on by `ms`, running on the way all that is due. */
  advance(ms: number): void {
    assert(ms >= 0, 'time does not go back')
    const targetMs = this.#nowMs + ms
    this.#exclusively(() => {
      this.#runSoon()
      while (this.#runDue(targetMs)) this.#runSoon()
      this.#nowMs = targetMs
    })
  }

  /** Moves time on to the next timer and runs it; with `soon` work waiting, runs that alone. False: nothing waits. */
  runNext(): boolean {
    let ran = false
    this.#exclusively(() => {
      ran = this.#soon.length > 0
      if (ran) this.#runSoon()
      else ran = this.#runDue(Number.POSITIVE_INFINITY)
    })
    return ran
  }

  #runDue(untilMs: number): boolean {
    const first = this.#timers[0]
    if (first === undefined || first.dueMs > untilMs) return false
    this.#timers.shift()
    this.#nowMs = first.dueMs
    first.callback()
    return true
  }

  #runSoon(): void {
    let calls = 0
    while (this.#soon.length > 0) {
      const batch = this.#soon
      this.#soon = []
      calls += batch.length
      assert(calls <= soonCallsMax, 'work that runs soon comes to an end')
      for (const callback of batch) callback()
    }
  }

  #exclusively(run: () => void): void {
    assert(!this.#running, 'a callback does not move the time that it runs in')
    this.#running = true
    try {
      run()
    } finally {
      this.#running = false
    }
  }

  #placeFor(dueMs: number): number {
    let low = 0
    let high = this.#timers.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#timers[middle] as VirtualTimer).dueMs <= dueMs) low = middle + 1
      else high = middle
    }
    return low
  }
}
