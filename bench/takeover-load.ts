// The load of a site that is master at times: committers write while it is, and wait while another one is. When each
// commit was acknowledged is kept for a while, by a clock that the processes of one machine share.

import type { Database } from '../src/index.ts'
import { Draw, makeKeys, makeValues } from './rows.ts'
import type { GroupLoad } from './worker-calls.ts'

const keptMs = 5000

export class TakeOverLoad {
  readonly #db: Database
  readonly #committers: Promise<unknown>
  #acknowledgedAt: number[] = []
  #isStopping = false

  constructor(db: Database, options: GroupLoad) {
    this.#db = db
    const keys = makeKeys(options.keys)
    const values = makeValues(options.valueBytes)
    const draw = new Draw(options.keys)
    let turn = 0
    const commit = async (): Promise<void> => {
      while (!this.#isStopping) {
        if (!db.status().writable) {
          await this.#nextRole()
          continue
        }
        const key = keys[draw.next()] as string
        const value = values[turn++ & 1023] as string
        try {
          await db.put(key, value)
          this.#note()
        } catch (error) {
          // It has just been handed over: the commit goes to the other site, whose committers are awake by now.
          if ((error as { code?: string }).code !== 'NOT_MASTER') throw error
        }
      }
    }
    this.#committers = Promise.all(Array.from({ length: options.committers }, commit))
    // Whoever calls next learns of it.
    this.#committers.catch(() => undefined)
  }

  #nextRole(): Promise<void> {
    return new Promise((resolve) => {
      const off = this.#db.on('role', () => {
        off()
        resolve()
      })
    })
  }

  #note(): void {
    const now = machineMs()
    this.#acknowledgedAt.push(now)
    const { length } = this.#acknowledgedAt
    if (length > 400_000) this.#acknowledgedAt = this.#acknowledgedAt.filter((at) => at > now - keptMs)
  }

  /** When commits were acknowledged here since then; throws if a committer has failed. */
  async since(fromMs: number): Promise<number[]> {
    await Promise.race([this.#committers, Promise.resolve()])
    return this.#acknowledgedAt.filter((at) => at >= fromMs)
  }
}

/** Monotonic, and the same for all processes of this machine. */
export function machineMs(): number {
  return Number(process.hrtime.bigint() / 1000n) / 1000
}
