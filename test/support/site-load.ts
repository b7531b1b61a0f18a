// Writers in the process of a site: each commits, waits for its receipt, rests, and commits again. What has settled is
// told to the test in small runs, at once: what a test holds of a killed site was really acknowledged before.

import { Prng } from '../../src/base/prng.ts'
import { type Database, isCoterieError, type Receipt } from '../../src/index.ts'
import type { KeyValue, LoadOptions, LoadResult, Settled, SiteNotice } from './site-messages.ts'

const sendEveryMs = 2

export class SiteLoad {
  /** Resolves when no writer is left. */
  readonly ended: Promise<LoadResult>
  readonly #db: Database
  readonly #options: LoadOptions
  readonly #tell: (notice: SiteNotice) => void
  readonly #refused: Record<string, number> = {}
  #acknowledged: Settled[] = []
  #unknown: Settled[] = []
  #acknowledgedCount = 0
  #unknownCount = 0
  #bytes = 0
  #stopping = false
  #sender: NodeJS.Timeout | undefined

  constructor(db: Database, options: LoadOptions, tell: (notice: SiteNotice) => void) {
    this.#db = db
    this.#options = options
    this.#tell = tell
    const root = new Prng(options.seed)
    const writers = Array.from({ length: options.writers }, (_, index) => this.#write(index, root.fork()))
    this.#sender = setInterval(() => this.#send(), sendEveryMs)
    this.ended = Promise.all(writers).then(() => this.#end())
  }

  stop(): Promise<LoadResult> {
    this.#stopping = true
    return this.ended
  }

  #end(): LoadResult {
    clearInterval(this.#sender)
    this.#send()
    return { acknowledged: this.#acknowledgedCount, unknown: this.#unknownCount, refused: this.#refused }
  }

  async #write(writer: number, random: Prng): Promise<void> {
    const { restMs, bytes, seed } = this.#options
    for (let count = 0; !this.#stopping; count++) {
      if (bytes !== undefined && this.#bytes >= bytes) return
      await this.#commit(`${seed}.${writer}.${count}`, random)
      if (restMs > 0) await sleep(random.below(2 * restMs))
    }
  }

  async #commit(name: string, random: Prng): Promise<void> {
    const writes: KeyValue[] = []
    try {
      const receipt = await this.#submit(name, random, writes)
      this.#acknowledgedCount++
      if (this.#options.silent !== true) this.#acknowledged.push(settled(receipt, writes))
    } catch (error) {
      if (!isCoterieError(error)) throw error
      if (error.code === 'OUTCOME_UNKNOWN') {
        this.#unknownCount++
        this.#unknown.push(settled(error.details as unknown as Receipt, writes))
        return
      }
      this.#refused[error.code] = (this.#refused[error.code] ?? 0) + 1
      await sleep(20)
    }
  }

  /** Notes in `writes` what the commit writes before it is logged. */
  #submit(
    name: string,
    random: Prng,
    writes: KeyValue[],
  ): Promise<Receipt | { lsn: number; term: number; token: string }> {
    const { ackTimeoutMs, mixed, keys, valueBytes } = this.#options
    const options = ackTimeoutMs === undefined ? undefined : { ackTimeoutMs }
    const key = `key-${random.below(keys)}`
    const value = name.padEnd(valueBytes, 'x')
    this.#bytes += value.length
    const kind = mixed === true ? random.below(100) : 99
    if (kind < 8) {
      writes.push([key, undefined])
      return this.#db.del(key, options)
    }
    if (kind < 16) {
      for (let i = 0; i < 3; i++) writes.push([`key-${random.below(keys)}-${i}`, `${value}-${i}`])
      const puts = writes.map(([each, to]) => ({ type: 'put' as const, key: each, value: to as string }))
      return this.#db.batch(puts, options)
    }
    if (kind < 20) {
      const counter = `counter-${random.below(4)}`
      return this.#db.transact((tx) => {
        const next = String(Number(tx.get(counter) ?? '0') + 1)
        writes.length = 0
        writes.push([counter, next])
        tx.put(counter, next)
      }, options)
    }
    writes.push([key, value])
    return this.#db.put(key, value, options)
  }

  #send(): void {
    if (this.#acknowledged.length > 0) {
      this.#tell({ notice: 'acknowledged', commits: this.#acknowledged })
      this.#acknowledged = []
    }
    if (this.#unknown.length > 0) {
      this.#tell({ notice: 'unknown', commits: this.#unknown })
      this.#unknown = []
    }
  }
}

function settled(
  { lsn, term, token }: { readonly lsn: number; readonly term: number; readonly token: string },
  writes: readonly KeyValue[],
): Settled {
  return { lsn, term, token, writes }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms)
  })
}
