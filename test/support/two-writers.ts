// Writers that go where the master is: each writes, waits for its receipt, and writes again; refused with NOT_MASTER it
// turns to the next database. Every receipt is kept, to be held against what the databases have in the end.

import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { type Database, isCoterieError } from '../../src/index.ts'
import { atEnd } from './at-end.ts'
import { waitUntil } from './wait-until.ts'

export interface KeptReceipt {
  readonly db: Database
  readonly lsn: number
  readonly term: number
  readonly key: string
  readonly value: string
}

const refusedRestMs = 2

export class TwoWriters {
  readonly #databases: readonly Database[]
  readonly #receipts: KeptReceipt[] = []
  readonly #writers: Promise<unknown>
  #unknown = 0
  #isStopping = false

  /** Writers begin at the first of the databases. */
  constructor(t: TestContext, databases: readonly Database[], writers: number) {
    this.#databases = databases
    const running = Array.from({ length: writers }, (_, writer) => this.#write(writer))
    this.#writers = Promise.all(running)
    // Whoever waits for `stop` learns of it.
    this.#writers.catch(() => undefined)
    atEnd(t, () => {
      this.#isStopping = true
    })
  }

  async #write(writer: number): Promise<void> {
    let turn = 0
    for (let count = 0; !this.#isStopping; count++) {
      const db = this.#databases[turn % this.#databases.length] as Database
      const key = `writer ${writer} ${count % 5}`
      const value = String(count)
      try {
        const { lsn, term } = await db.put(key, value)
        this.#receipts.push({ db, lsn, term, key, value })
      } catch (error) {
        if (isCoterieError(error, 'OUTCOME_UNKNOWN')) {
          this.#unknown++
          continue
        }
        if (!isCoterieError(error, 'NOT_MASTER') && !isCoterieError(error, 'CLOSED')) throw error
        turn++
        await new Promise((resolve) => setTimeout(resolve, refusedRestMs))
      }
    }
  }

  /** Waits for so many more receipts, of any. */
  async acknowledged(count: number): Promise<void> {
    const until = this.#receipts.length + count
    await waitUntil(() => this.#receipts.length >= until, { what: `${count} more commits were acknowledged` })
  }

  /** Waits for so many receipts more of one of them. */
  async acknowledgedBy(db: Database, count: number): Promise<void> {
    const of = (): number => this.#receipts.filter((each) => each.db === db).length
    const until = of() + count
    await waitUntil(() => of() >= until, { what: `${count} commits were acknowledged there` })
  }

  async stop(): Promise<{ receipts: readonly KeptReceipt[]; unknown: number }> {
    this.#isStopping = true
    await this.#writers
    return { receipts: this.#receipts, unknown: this.#unknown }
  }

  /** No LSN was given out twice, terms grow with LSNs, and every receipt is in the log of the first database. */
  async check(databases: readonly Database[]): Promise<void> {
    const byLsn = [...this.#receipts].sort((one, other) => one.lsn - other.lsn)
    for (let i = 1; i < byLsn.length; i++) {
      const [before, each] = [byLsn[i - 1] as KeptReceipt, byLsn[i] as KeptReceipt]
      assert.ok(before.lsn < each.lsn, `LSN ${each.lsn} was acknowledged once`)
      assert.ok(before.term <= each.term, 'terms grow with LSNs')
    }
    const [first, ...others] = databases as [Database, ...Database[]]
    const found = new Map<number, string>()
    for await (const record of first.records()) {
      for (const write of record.writes) {
        const value = write.type === 'put' ? Buffer.from(write.value).toString() : ''
        found.set(record.lsn, `${record.term} ${Buffer.from(write.key).toString()} ${value}`)
      }
    }
    const { firstLsn } = first.status()
    for (const { lsn, term, key, value } of byLsn) {
      if (lsn >= firstLsn)
        assert.equal(found.get(lsn), `${term} ${key} ${value}`, `the commit at LSN ${lsn} is there`)
    }
    const { digest } = await first.digest()
    for (const each of others) assert.equal((await each.digest()).digest, digest)
  }
}
