// A machine that a site lives on: what outlasts its processes. It has the disk, the rate of the clock and what the wall
// clock is wrong by; `boot` starts a process, of which there is one at most.

import { assert } from '../../base/assert.ts'
import type { Prng } from '../../base/prng.ts'
import type { Timers } from '../host.ts'
import type { Survival } from '../memory/faulty-disk.ts'
import { FaultyMemoryFiles } from '../memory/faulty-memory-files.ts'
import { SimulatedHost } from './simulated-host.ts'
import { type FileDelays, SlowFiles } from './slow-files.ts'
import type { VirtualClock } from './virtual-clock.ts'

/** How fast the disk is, in milliseconds. */
export interface DiskSpeed {
  /** A sync takes between these. */
  readonly syncMsMin: number
  readonly syncMsMax: number
  /** What a write takes until it reports, at most. */
  readonly writeMsMax: number
  /** A call on names, at most. */
  readonly nameMsMax: number
  readonly readMsMax: number
}

export const usualDiskSpeed: DiskSpeed = {
  syncMsMin: 0.1,
  syncMsMax: 0.5,
  writeMsMax: 0,
  nameMsMax: 0.2,
  readMsMax: 0,
}

export interface SimulatedMachineOptions {
  readonly clock: VirtualClock
  readonly prng: Prng
  /** Default 1. */
  readonly rate?: number
  readonly wallOffsetMs?: number
}

export class SimulatedMachine {
  /** May change at any time. */
  speed: DiskSpeed = usualDiskSpeed
  readonly #options: SimulatedMachineOptions
  readonly #diskPrng: Prng
  readonly #diskTimers: Timers
  #files: FaultyMemoryFiles
  #host: SimulatedHost | undefined
  #wallOffsetMs: number
  #boots = 0

  constructor(options: SimulatedMachineOptions) {
    this.#options = options
    this.#diskPrng = options.prng.fork()
    this.#wallOffsetMs = options.wallOffsetMs ?? 0
    // The disk reports the end of a sync to the process that asked for it, and to no later one.
    this.#diskTimers = {
      after: (ms, callback) => this.#process().deliver(ms, callback),
      soon: (callback) => {
        this.#process().deliver(this.#drawSync(), callback)
      },
    }
    this.#files = this.#newDisk()
  }

  /** The disk beneath, for faults and judges. */
  get disk(): FaultyMemoryFiles {
    return this.#files
  }

  get host(): SimulatedHost | undefined {
    return this.#host
  }

  /** Starts a process. */
  boot(): SimulatedHost {
    assert(this.#host === undefined, 'a machine runs one process of the site')
    const { clock, prng } = this.#options
    this.#boots++
    const host = new SimulatedHost({
      clock,
      prng: prng.fork(),
      processId: 1000 + this.#boots,
      rate: this.#options.rate ?? 1,
      // Monotonic clocks begin where they like; nothing may take two of them for one.
      startMs: prng.below(1_000_000),
      wallOffsetMs: this.#wallOffsetMs,
      files: (owner) => new SlowFiles({ host: owner, files: this.#files, delays: this.#delays }),
    })
    this.#host = host
    return host
  }

  /** The process is gone; what it has written stays. */
  kill(): void {
    this.#endProcess()
    this.#files = this.#files.kill()
  }

  /** The machine loses power: only a part of what was not synced stays. */
  crash(survival: Survival = 'random'): void {
    this.#endProcess()
    this.#files = this.#files.crash({ survival })
  }

  /** A new, empty disk in a machine that stands still. */
  wipe(): void {
    this.#endProcess()
    this.#files = this.#newDisk()
  }

  shiftWall(ms: number): void {
    this.#wallOffsetMs += ms
    this.#host?.shiftWall(ms)
  }

  #endProcess(): void {
    this.#host?.kill()
    this.#host = undefined
  }

  #newDisk(): FaultyMemoryFiles {
    return new FaultyMemoryFiles({ timers: this.#diskTimers, prng: this.#diskPrng })
  }

  #process(): SimulatedHost {
    assert(this.#host !== undefined, 'only a running process asks a disk for anything')
    return this.#host
  }

  readonly #delays: FileDelays = {
    name: () => this.#draw(this.speed.nameMsMax),
    read: () => this.#draw(this.speed.readMsMax),
    write: () => this.#draw(this.speed.writeMsMax),
  }

  #draw(msMax: number): number {
    return msMax === 0 ? 0 : this.#diskPrng.fraction() * msMax
  }

  #drawSync(): number {
    const { syncMsMin, syncMsMax } = this.speed
    return syncMsMin + this.#diskPrng.fraction() * (syncMsMax - syncMsMin)
  }
}
