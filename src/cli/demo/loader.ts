// Feeds the master one transaction a city, several hundred under way, and keeps the ledger: what was sent, what was
// acknowledged with which token, and what is unknown because the master died before it answered.
//
// The master may change at any time, by a kill or by itself. A living site answers for what it was sent, also when it
// is master no more; what a dead one did not answer is unknown.
//
// Invariant: a city is in exactly one state, and `acknowledged` is final: from then on it must be on every site.

import { assert } from '../../base/assert.ts'
import type { CityRow, ExpectedRow } from './messages.ts'
import type { SiteHandle } from './site-handle.ts'

type CityState = 'waiting' | 'sent' | 'unknown' | 'acknowledged'

export interface City {
  readonly key: string
  readonly value: string
}

/** Cities of one message to the master. */
const rowsPerMessage = 32
/** A city has its own key, so that writing it twice is the same as writing it once. */
const mayBeSentAgain: ReadonlySet<string> = new Set([
  'OUTCOME_UNKNOWN',
  'NO_QUORUM',
  'NOT_MASTER',
  'NO_MASTER',
])

export interface LoaderOptions {
  readonly cities: readonly City[]
  /** Transactions under way at once. */
  readonly inFlight: number
  readonly onProgress: (acknowledged: number) => void
}

interface Mark {
  readonly acknowledged: number
  readonly resolve: () => void
}

export class Loader {
  readonly #cities: readonly City[]
  readonly #options: LoaderOptions
  readonly #states: CityState[]
  readonly #tokens: (string | null)[]
  /** Cities to send before the next new one. */
  #again: number[] = []
  #next = 0
  #ceiling = 0
  #underWay = 0
  #acknowledged = 0
  #unchecked: number[] = []
  #sentAgainBesides = 0
  #master: SiteHandle | undefined
  #marks: Mark[] = []
  readonly #failed: (error: Error) => void
  /** Rejects when the load cannot go on. */
  readonly failure: Promise<never>

  constructor(options: LoaderOptions) {
    this.#options = options
    this.#cities = options.cities
    this.#states = options.cities.map(() => 'waiting')
    this.#tokens = options.cities.map(() => null)
    let fail: (error: Error) => void = () => undefined
    this.failure = new Promise((_resolve, reject) => {
      fail = reject
    })
    this.failure.catch(() => undefined)
    this.#failed = fail
  }

  get acknowledged(): number {
    return this.#acknowledged
  }

  /** Writes that a living master did not acknowledge, and that were sent again. */
  get sentAgainBesides(): number {
    return this.#sentAgainBesides
  }

  /** Hears the answers of a site; returns what stops it. */
  hear(site: SiteHandle): () => void {
    return site.on('acks', ({ acked, refused }) => {
      for (const [index, token] of acked) this.#acknowledge(index, token)
      for (const [index, code] of refused) this.#refuse(index, code)
      this.#options.onProgress(this.#acknowledged)
      this.#pump()
    })
  }

  /** Sends to this master from now on. */
  useMaster(master: SiteHandle): void {
    this.#master = master
    this.#pump()
  }

  /** The cities that may be sent: so many, from the first. */
  get allowed(): number {
    return this.#ceiling
  }

  /** Cities up to this many may be sent. The load goes on up to there while other things happen. */
  allowTo(count: number): void {
    this.#ceiling = Math.min(count, this.#cities.length)
    this.#pump()
  }

  /** Resolves when so many are acknowledged. */
  reached(count: number): Promise<void> {
    if (this.#acknowledged >= count) return Promise.resolve()
    return new Promise((resolve) => {
      this.#marks.push({ acknowledged: count, resolve })
    })
  }

  /** The master is dead, and heard no more: what it has not answered is unknown. Returns those cities. */
  masterDied(): number[] {
    this.#master = undefined
    const unknown: number[] = []
    for (const [index, state] of this.#states.entries()) {
      if (state !== 'sent') continue
      this.#states[index] = 'unknown'
      unknown.push(index)
    }
    this.#underWay = 0
    return unknown
  }

  /** Writes these again, under the same keys, so that what had become permanent stays as it is. */
  sendAgain(indexes: readonly number[]): void {
    for (const index of indexes) {
      assert(this.#states[index] === 'unknown', 'only a city of unknown outcome is sent again')
      this.#states[index] = 'waiting'
    }
    this.#again.push(...indexes)
    this.#pump()
  }

  rows(indexes: readonly number[]): ExpectedRow[] {
    return indexes.map((index) => {
      const { key, value } = this.#city(index)
      return [index, key, value, this.#tokens[index] ?? null]
    })
  }

  /** Those acknowledged since the last call. */
  takeUnchecked(): number[] {
    const unchecked = this.#unchecked
    this.#unchecked = []
    return unchecked
  }

  /** All that must be on every site. */
  acknowledgedIndexes(): number[] {
    return [...this.#states.entries()].filter(([, state]) => state === 'acknowledged').map(([index]) => index)
  }

  #city(index: number): City {
    const city = this.#cities[index]
    assert(city !== undefined, 'an index names a city')
    return city
  }

  #pump(): void {
    while (this.#master !== undefined && this.#underWay + rowsPerMessage <= this.#options.inFlight) {
      const rows = this.#take()
      if (rows.length === 0) return
      this.#underWay += rows.length
      const master = this.#master
      // A master that dies is noticed by its exit; what it was sent is unknown then.
      master.ask({ type: 'put', rows }).catch((error: Error) => {
        if (this.#master === master && error.name !== 'SiteGone') this.#failed(error)
      })
    }
  }

  #take(): CityRow[] {
    const rows: CityRow[] = []
    while (rows.length < rowsPerMessage) {
      const index = this.#again.pop() ?? (this.#next < this.#ceiling ? this.#next++ : undefined)
      if (index === undefined) break
      const { key, value } = this.#city(index)
      this.#states[index] = 'sent'
      rows.push([index, key, value])
    }
    return rows
  }

  #acknowledge(index: number, token: string): void {
    if (this.#states[index] !== 'sent') return
    this.#states[index] = 'acknowledged'
    this.#tokens[index] = token
    this.#underWay--
    this.#acknowledged++
    this.#unchecked.push(index)
    this.#marks = this.#marks.filter((mark) => {
      if (this.#acknowledged < mark.acknowledged) return true
      mark.resolve()
      return false
    })
  }

  /** A write that was certainly not made, or whose outcome is unknown, is made again under its key. */
  #refuse(index: number, code: string): void {
    if (this.#states[index] !== 'sent') return
    this.#underWay--
    if (!mayBeSentAgain.has(code)) {
      this.#failed(new Error(`the master refused a city: ${code}`))
      return
    }
    this.#sentAgainBesides++
    this.#states[index] = 'waiting'
    // Not at once: the reason for the refusal is still there.
    setTimeout(() => {
      this.#again.push(index)
      this.#pump()
    }, 20)
  }
}
