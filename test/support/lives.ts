// Random lives, one for each seed: all of them, or with COTERIE_SEED=n one alone, or with COTERIE_SEEDS=n so many. A failure
// names its seed, and tells how the sites stood.

import assert from 'node:assert/strict'

export interface RandomLife<Result> {
  run(): Result
  /** How the sites stand. */
  story(): string
}

export class Lives<Result extends object> {
  readonly #begin: (seed: number) => RandomLife<Result>
  readonly #count: number
  readonly #oneIn: number

  /** `few` of them in `npm test`, `many` in `npm run test:all`; each thing that is counted happens in one of `oneIn`. */
  constructor(
    begin: (seed: number) => RandomLife<Result>,
    options: { few: number; many: number; oneIn?: number },
  ) {
    this.#begin = begin
    const { few, many, oneIn = 20 } = options
    this.#oneIn = oneIn
    this.#count = Number(process.env.COTERIE_SEEDS ?? (process.env.COTERIE_TEST_ALL === '1' ? many : few))
  }

  live(seed: number): Result {
    const life = this.#begin(seed)
    try {
      return life.run()
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      throw new Error(`COTERIE_SEED=${seed}: ${message}\n${life.story()}`, { cause: error })
    }
  }

  liveAll(): void {
    const only = process.env.COTERIE_SEED
    if (only !== undefined) {
      this.live(Number(only))
      return
    }
    const sums = new Map<string, number>()
    for (let seed = 1; seed <= this.#count; seed++) {
      for (const [name, value] of Object.entries(this.live(seed)) as [string, number][]) {
        sums.set(name, (sums.get(name) ?? 0) + value)
      }
    }
    // A generator that no longer reaches something proves nothing about it.
    for (const [name, sum] of sums) {
      assert.ok(sum >= this.#count / this.#oneIn, `${name} happened only ${sum} times`)
    }
  }
}
