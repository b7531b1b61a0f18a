// When to try again: waits that double up to a bound, and differ by chance so that sites do not try in step.

import type { Random } from '../env/host.ts'

export class BackOff {
  readonly #random: Random
  readonly #minMs: number
  readonly #maxMs: number
  #waitMs: number
  #dueAt = 0

  constructor(options: { random: Random; minMs: number; maxMs: number }) {
    this.#random = options.random
    this.#minMs = options.minMs
    this.#maxMs = Math.max(options.minMs, options.maxMs)
    this.#waitMs = options.minMs
  }

  isDue(now: number): boolean {
    return now >= this.#dueAt
  }

  /** A try has failed: half to one and a half times the wait. */
  failed(now: number): void {
    const [chance = 0] = this.#random.bytes(1)
    this.#dueAt = now + this.#waitMs * (0.5 + chance / 256)
    this.#waitMs = Math.min(this.#waitMs * 2, this.#maxMs)
  }

  /** Not before then. */
  holdUntil(at: number): void {
    this.#dueAt = at
  }

  /** It went well: the next wait is short again. */
  succeeded(): void {
    this.#waitMs = this.#minMs
    this.#dueAt = 0
  }
}
