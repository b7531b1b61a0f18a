// The host of one incarnation of a site: a process between its start and its end, on a clock that all sites share but
// none sees as it is. Everything that ever calls into the site comes through here, so that
//   - a pause holds all of it back, timers and messages alike, and a resume lets it come in its order;
//   - a kill ends all of it: nothing of a dead incarnation runs again, and its promises never settle.
//
// The site's own time runs at a rate of its own from a start of its own. The wall clock may jump.

import { CoterieError } from '../../base/errors.ts'
import type { Prng } from '../../base/prng.ts'
import type { Clock, Compression, Crypto, Files, Host, Random, Streams, Timer, Timers } from '../host.ts'
import { simulatedCrypto } from './simulated-crypto.ts'
import type { VirtualClock } from './virtual-clock.ts'

export interface SimulatedHostOptions {
  /** True time, shared by all sites. */
  readonly clock: VirtualClock
  /** What the site draws; its own, so that no other site's draws change them. */
  readonly prng: Prng
  readonly processId: number
  /** Made for the host, because what they report must come through it. */
  readonly files: (host: SimulatedHost) => Files
  /** How many of the site's milliseconds pass in a true one. Default 1. */
  readonly rate?: number
  /** What the site's clock shows at the start of this incarnation. Default 0. */
  readonly startMs?: number
  /** What its wall clock is ahead of the true one. Default 0. */
  readonly wallOffsetMs?: number
}

/** Work of a site that is due later or waits for the end of a pause. */
class Task implements Timer {
  readonly #host: SimulatedHost
  #callback: (() => void) | undefined
  #timer: Timer | undefined

  constructor(host: SimulatedHost, callback: () => void) {
    this.#host = host
    this.#callback = callback
  }

  startIn(clock: VirtualClock, trueMs: number): void {
    this.#timer = clock.after(trueMs, () => this.run())
  }

  run(): void {
    const callback = this.#callback
    if (callback === undefined || this.#host.holdBack(this)) return
    this.#callback = undefined
    callback()
  }

  cancel(): void {
    this.#callback = undefined
    this.#timer?.cancel()
  }
}

export class SimulatedHost implements Host {
  readonly clock: Clock
  readonly timers: Timers
  readonly random: Random
  readonly crypto: Crypto = simulatedCrypto
  readonly compression: Compression = noCompression
  readonly files: Files
  readonly streams: Streams = noStreams
  readonly processId: number
  /** Called before anything of this site runs. */
  onRun: (() => void) | undefined
  readonly #clock: VirtualClock
  readonly #rate: number
  readonly #startMs: number
  readonly #bornMs: number
  #wallOffsetMs: number
  #alive: boolean = true
  #paused: boolean = false
  #heldBack: Task[] = []

  constructor(options: SimulatedHostOptions) {
    const { clock, prng } = options
    this.#clock = clock
    this.#rate = options.rate ?? 1
    this.#startMs = options.startMs ?? 0
    this.#bornMs = clock.now()
    this.#wallOffsetMs = options.wallOffsetMs ?? 0
    this.processId = options.processId
    this.clock = { now: () => this.#now(), wall: () => clock.wall() + this.#wallOffsetMs }
    this.timers = {
      after: (ms, callback) => this.deliver(Math.max(0, ms) / this.#rate, callback),
      soon: (callback) => {
        this.deliver(0, callback)
      },
    }
    this.random = { bytes: (length) => prng.bytes(length) }
    this.files = options.files(this)
  }

  get alive(): boolean {
    return this.#alive
  }

  get paused(): boolean {
    return this.#paused
  }

  /** Runs the callback after so much true time, or when a pause that it falls into ends. */
  deliver(trueMs: number, callback: () => void): Timer {
    const task = new Task(this, callback)
    if (this.#alive) task.startIn(this.#clock, trueMs)
    return task
  }

  /** Runs the callback now, or when the pause ends that the site is in. */
  run(callback: () => void): void {
    new Task(this, callback).run()
  }

  /** Whether the task may not run now; it runs when the pause ends, or never. */
  holdBack(task: Task): boolean {
    if (!this.#alive) return true
    if (this.#paused) this.#heldBack.push(task)
    else this.onRun?.()
    return this.#paused
  }

  /** Nothing of the site runs until `resume`; its clock goes on, as it does for a process that was stopped. */
  pause(): void {
    this.#paused = true
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    const heldBack = this.#heldBack
    this.#heldBack = []
    for (const task of heldBack) task.startIn(this.#clock, 0)
  }

  /** Ends the process: nothing of it runs any more. */
  kill(): void {
    this.#alive = false
    this.#heldBack = []
  }

  shiftWall(ms: number): void {
    this.#wallOffsetMs += ms
  }

  #now(): number {
    return this.#startMs + (this.#clock.now() - this.#bornMs) * this.#rate
  }
}

/** A simulated site speaks through a transport of its own. */
const noStreams: Streams = {
  listen: () => Promise.reject(new CoterieError('ADDRESS_INVALID', 'a simulated site has no sockets')),
  connect: () => Promise.reject(new CoterieError('ADDRESS_INVALID', 'a simulated site has no sockets')),
}

const noCompression: Compression = {
  formats: [],
  compressor: () => {
    throw new TypeError('a simulated site does not compress')
  },
  decompressor: () => {
    throw new TypeError('a simulated site does not compress')
  },
}
