// As much of a replica's log as it passes on to others: what is permanent and on its own disk. So whoever is attached to
// it never has what a later master could be without, and has nothing that a crash of this site takes from this site.
//
// Which record is the last is known by its place, checksum and all, and places are at hand only where a batch ends as it
// came. So the end moves from one of those to the next; `pending` are those that are still to be passed.

import { assert } from '../base/assert.ts'
import type { RecordBatch, RecordPlace } from '../base/batch.ts'
import { type History, historyUpTo } from '../base/history.ts'
import { type Lsn, noLsn, noTerm } from '../base/lsn.ts'
import { type CoreState, samePlace } from './core-state.ts'
import type { Route } from './messages.ts'
import type { Served } from './served.ts'
import type { Timings } from './timings.ts'

/** Ends of batches that are remembered; beyond it every other one is forgotten. */
const pendingMax = 1_024

const nothing: RecordPlace = { lsn: noLsn, term: noTerm, crc: 0 }

interface Pending {
  readonly place: RecordPlace
  /** Of the records since the one before it. */
  readonly bytes: number
}

export class RelayedLog implements Served {
  readonly #state: CoreState
  readonly timings: Timings
  route: Route
  /** Undefined: which of the records here are permanent is not known yet. */
  #end: RecordPlace | undefined
  /** In order of LSN, each after `#end`; from `#head` on. */
  #pending: Pending[] = []
  #head = 0

  /** `end`: the last record that is permanent and durable here, where the driver could say. */
  constructor(
    state: CoreState,
    options: { readonly timings: Timings; readonly route: Route; readonly end: RecordPlace | undefined },
  ) {
    const { timings, route, end } = options
    this.#state = state
    this.timings = timings
    this.route = route
    this.#end = end !== undefined && end.lsn <= this.#limit ? end : undefined
    this.#pendAt(state.last)
  }

  get #limit(): Lsn {
    return Math.min(this.#state.permanentLsn, this.#state.durableLsn) as Lsn
  }

  /** It can be said where the log that is passed on ends. */
  get isKnown(): boolean {
    return this.#end !== undefined
  }

  get last(): RecordPlace {
    return this.#end ?? nothing
  }

  get history(): History {
    return historyUpTo(this.#state.history, this.last.lsn)
  }

  get committedLsn(): Lsn {
    return Math.min(this.#state.committedLsn, this.last.lsn) as Lsn
  }

  get permanentLsn(): Lsn {
    return this.last.lsn
  }

  /** The log here has grown. */
  logged({ last, bytes }: RecordBatch): void {
    this.#pending.push({ place: last, bytes: bytes.length })
    if (this.#pending.length - this.#head > pendingMax) this.#thin()
  }

  #thin(): void {
    const kept: Pending[] = []
    for (let i = this.#head; i < this.#pending.length; i += 2) {
      const first = this.#pending[i] as Pending
      const second = this.#pending[i + 1]
      kept.push(second === undefined ? first : { place: second.place, bytes: first.bytes + second.bytes })
    }
    this.#pending = kept
    this.#head = 0
  }

  /** The bytes of the records that may be passed on from now on; undefined if there are none. */
  advance(): number | undefined {
    const limit = this.#limit
    let bytes = 0
    let end: RecordPlace | undefined
    for (;;) {
      const next = this.#pending[this.#head]
      if (next === undefined || next.place.lsn > limit) break
      end = next.place
      bytes += next.bytes
      this.#head++
    }
    if (end === undefined) return undefined
    this.#end = end
    if (this.#head === this.#pending.length || this.#head > pendingMax) {
      this.#pending = this.#pending.slice(this.#head)
      this.#head = 0
    }
    return bytes
  }

  /** The log here was cut after `place`: never within what is passed on. */
  rewound(place: RecordPlace): void {
    const kept = this.#pending.slice(this.#head).filter((each) => each.place.lsn < place.lsn)
    this.#pending = kept
    this.#head = 0
    this.#pendAt(place)
  }

  /** The log here is another one, which begins after `base`. */
  replaced(base: RecordPlace): void {
    this.#end = undefined
    this.#pending = []
    this.#head = 0
    this.#pendAt(base)
  }

  #pendAt(place: RecordPlace): void {
    if (this.#end === undefined || place.lsn > this.#end.lsn) this.#pending.push({ place, bytes: 0 })
  }

  /** Invariant 22: nothing is passed on but what is permanent and on this disk. */
  checkInvariants(): void {
    const { last } = this.#state
    assert(this.last.lsn <= this.#limit, 'only what is permanent, and on this disk, is passed on')
    assert(
      this.last.lsn !== last.lsn || !this.isKnown || samePlace(this.last, last),
      'it is passed on as it is here',
    )
    assert(this.#pending.length - this.#head <= pendingMax, 'ends of batches are bounded')
  }
}
