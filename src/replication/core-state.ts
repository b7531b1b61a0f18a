// What a site knows whatever its role: its log's identity and positions, its term, and the effects it has asked for.
// The roles share one of these; each change of a position goes through a method here that asserts what must hold.

import { assert } from '../base/assert.ts'
import type { RecordBatch, RecordPlace } from '../base/batch.ts'
import { entryAt, type History, type HistoryEntry, historyUpTo } from '../base/history.ts'
import { limits } from '../base/limits.ts'
import { type Lsn, lsnPlus, noLsn, type Term } from '../base/lsn.ts'
import { type Member, type Membership, mayGoOnAlone, memberOf } from '../base/membership.ts'
import type { CoreOptions, LeaseTerms, MixedRows, PeerId, RecordCodec } from './core-options.ts'
import { type Counters, zeroCounters } from './counters.ts'
import { type CoreEvent, type Effect, noHints, type SendHints } from './effects.ts'
import { LeasePromise } from './lease-promise.ts'
import { encodeMessage } from './message-codec.ts'
import { messageLimits } from './message-limits.ts'
import type { Message } from './messages.ts'
import { defaultTimings, type Timings } from './timings.ts'

export class CoreState {
  readonly site: string
  /** Of this site's data folder. */
  #incarnation: string
  readonly codec: RecordCodec
  #baseTimings: Timings
  timings: Timings
  readonly counters: Counters = zeroCounters()
  readonly #random: () => number
  #databaseId: string | undefined
  #term: Term
  /** The one master of `#term` that this site acknowledges to; undefined while it is free to choose. */
  #termMaster: string | undefined
  /** Whom this site has voted for in `#term`: nobody else gets its vote. */
  #vote: string | undefined
  #membership: Membership | undefined
  #firstLsn: Lsn
  #last: RecordPlace
  /** Handed to the operating system; only a master is told. */
  #writtenLsn: Lsn = noLsn
  #durableLsn: Lsn
  #appliedLsn: Lsn
  #committedLsn: Lsn
  #permanentLsn: Lsn
  #history: History
  #mixed: MixedRows | undefined
  /** As a member of a group that has leases. */
  leases: LeaseTerms | undefined
  readonly promise: LeasePromise
  #effects: Effect[] = []
  /** Ahead of `#committedLsn` where acks attest `applied`: then a replica applies before the commit. */
  #applyLsn: Lsn
  /** At the check before; undefined after a rewind or a snapshot, where they may fall. */
  #checked: { term: Term; committedLsn: Lsn; permanentLsn: Lsn } | undefined
  now = 0
  /** Told of each batch that the log grows by, where this site passes it on. */
  onLogged: ((batch: RecordBatch) => void) | undefined
  /** How often the driver has taken effects: what was asked for before a take, it has been told of. */
  takes = 0

  constructor(options: CoreOptions) {
    const { log } = options
    this.site = options.site
    this.#incarnation = options.incarnation ?? ''
    this.codec = options.codec
    this.#baseTimings = { ...defaultTimings, ...options.timings }
    this.timings = this.#baseTimings
    this.#random = options.random
    this.#databaseId = options.databaseId
    this.#term = options.term
    this.#termMaster = options.termMaster ?? reignOf(options)
    this.#vote = options.vote
    this.#membership = options.membership
    this.promise = new LeasePromise(options.promiseMs ?? 0)
    this.#firstLsn = log.first
    this.#last = log.last
    this.#durableLsn = log.durableLsn
    this.#history = log.history
    this.#appliedLsn = options.appliedLsn
    this.#committedLsn = options.committedLsn
    this.#permanentLsn = options.permanentLsn
    // Ahead of what is committed where acks attest `applied`.
    this.#applyLsn = Math.max(options.committedLsn, options.appliedLsn) as Lsn
    const { readableLsn = noLsn } = options
    if (readableLsn > 0) {
      const reign = readableLsn <= log.last.lsn ? entryAt(log.history, readableLsn) : undefined
      this.#mixed = { lsn: readableLsn, reign }
    }
    this.checkPositions()
  }

  get databaseId(): string | undefined {
    return this.#databaseId
  }

  get term(): Term {
    return this.#term
  }

  get termMaster(): string | undefined {
    return this.#termMaster
  }

  get incarnation(): string {
    return this.#incarnation
  }

  /** The data that this site had made promises with was set aside: it is another one now. */
  renew(incarnation: string): void {
    this.#incarnation = incarnation
  }

  get vote(): string | undefined {
    return this.#vote
  }

  /** The members of the group, as the log here says; undefined where it has never said. */
  get membership(): Membership | undefined {
    return this.#membership
  }

  /** This site's own entry; undefined if it is no member, or one of another incarnation is. */
  get ownMember(): Member | undefined {
    const member = memberOf(this.#membership, this.site)
    return member?.incarnation === this.#incarnation ? member : undefined
  }

  /**
   * Whether it gives votes. Who asks decides whose votes count: the log here may not have the record that made this
   * site a member yet. Not a site whose id belongs to another incarnation, nor one that was removed.
   */
  get mayVote(): boolean {
    const membership = this.#membership
    if (this.#databaseId === undefined || membership?.removed.includes(this.site) === true) return false
    return memberOf(membership, this.site) === undefined || this.ownMember !== undefined
  }

  /**
   * Of two members this one may reign while the other one is away. Only when it is certain that both know: else the
   * other one, without the record that says so, may be a group by itself.
   */
  get goesOnAlone(): boolean {
    const membership = this.#membership
    return mayGoOnAlone(membership) && membership !== undefined && membership.lsn <= this.#permanentLsn
  }

  get firstLsn(): Lsn {
    return this.#firstLsn
  }

  get last(): RecordPlace {
    return this.#last
  }

  get durableLsn(): Lsn {
    return this.#durableLsn
  }

  get appliedLsn(): Lsn {
    return this.#appliedLsn
  }

  get committedLsn(): Lsn {
    return this.#committedLsn
  }

  get permanentLsn(): Lsn {
    return this.#permanentLsn
  }

  get history(): History {
    return this.#history
  }

  /** For good, until they are changed again. */
  changeTimings(timings: Partial<Timings> | undefined): void {
    this.#baseTimings = { ...this.#baseTimings, ...timings }
    this.timings = { ...this.timings, ...timings }
  }

  /** For one role; without an argument back to those of the site. */
  useTimings(timings: Partial<Timings> | undefined): void {
    this.timings = { ...this.#baseTimings, ...timings }
  }

  /** Those of the site, with the changes of one that serves beside its role. */
  timingsWith(timings: Partial<Timings> | undefined): Timings {
    return { ...this.#baseTimings, ...timings }
  }

  /** A random u32 that is not 0. */
  drawSession(): number {
    const drawn = this.#random() >>> 0
    return drawn === 0 ? 1 : drawn
  }

  emit(effect: Effect): void {
    this.#effects.push(effect)
  }

  event(event: CoreEvent): void {
    this.#effects.push({ kind: 'event', event })
  }

  takeEffects(): Effect[] {
    if (this.#effects.length === 0) return []
    const taken = this.#effects
    this.#effects = []
    this.takes++
    return taken
  }

  send(to: PeerId, message: Message, hints: SendHints = noHints): void {
    const control = encodeMessage(message)
    this.counters.messagesOut++
    this.counters.bytesOut += control.length
    this.emit({ kind: 'send', to, control, hints })
  }

  sendBulk(to: PeerId, message: Message, rec: Uint8Array, hints: SendHints): void {
    const control = encodeMessage(message)
    this.counters.messagesOut++
    this.counters.bytesOut += control.length + rec.length
    this.emit({ kind: 'send', to, control, rec, hints })
  }

  /** Names the database of a site that had none. */
  found(databaseId: string): void {
    assert(this.#databaseId === undefined && this.#last.lsn === 0, 'a database is named once')
    this.#databaseId = databaseId
  }

  /** Invariant 1: a term is on disk before anything that depends on it is said or done, and never falls. */
  raiseTerm(term: Term, master: string | undefined, vote?: string): void {
    assert(term > this.#term && term <= messageLimits.termMax, 'a term only grows, within its range')
    this.#term = term
    this.#termMaster = master
    this.#vote = vote
    this.#persist()
    this.event({ kind: 'term', term })
  }

  /** A barrier: nothing that is asked for after it is done before all this is on disk. */
  #persist(): void {
    if (this.leases === undefined) this.promise.release(this.now)
    const promiseMs = this.promise.keptMs
    this.emit({ kind: 'persist', term: this.#term, master: this.#termMaster, vote: this.#vote, promiseMs })
  }

  /** Invariant 21: what the promise takes is on disk before the ack that tells of it. */
  promiseTo(master: string, terms: LeaseTerms): void {
    if (this.promise.give(master, terms, this.now)) this.#persist()
  }

  /** Invariant 1: one vote in a term, on disk before it is told. */
  castVote(site: string): void {
    if (this.#vote === site) return
    assert(this.#vote === undefined, 'one vote in a term')
    assert(this.#termMaster === undefined || this.#termMaster === site, 'no vote against the own master')
    this.#vote = site
    this.#persist()
  }

  /** This site has been elected in the present term. Its own vote, which is on disk, keeps any other master away. */
  wonTerm(): void {
    assert(this.#vote === this.site, 'who is elected has voted for itself')
    assert(this.#termMaster === undefined || this.#termMaster === this.site, 'one master in a term')
    this.#termMaster = this.site
  }

  /** The membership that the log has after a rewind or a snapshot, or that a record just logged has brought. */
  setMembership(membership: Membership | undefined): void {
    this.#membership = membership
    if (membership !== undefined) this.event({ kind: 'membership', membership })
  }

  /** Invariant 1: in one term a site acknowledges to one master; the choice is on disk before the first Ack. */
  chooseMaster(master: string): void {
    if (this.#termMaster === master) return
    assert(this.#termMaster === undefined, 'one master in a term')
    this.#termMaster = master
    this.#persist()
  }

  /** The log has grown by `batch`, in which `reigns` began. */
  extendLog(batch: RecordBatch, reigns: readonly HistoryEntry[]): void {
    const { previous } = batch
    assert(samePlace(previous, this.#last), 'records are appended only where they fit')
    if (reigns.length > 0) {
      this.#history = [...this.#history, ...reigns].slice(-limits.historyEntriesMax)
    }
    this.#last = batch.last
    assert(this.#last.term <= this.#term, 'no record is of a term that this site has not seen')
    assert(this.#last.term === this.#history.at(-1)?.term, 'each record belongs to the last reign')
    const { membership } = batch
    if (membership !== undefined) this.setMembership(membership)
    this.onLogged?.(batch)
  }

  written(writtenLsn: Lsn): void {
    assert(writtenLsn <= this.#last.lsn, 'only what is in the log is written')
    this.#writtenLsn = writtenLsn
  }

  /** What outlives this process: never less than what outlives the machine. */
  get writtenLsn(): Lsn {
    return Math.max(this.#writtenLsn, this.#durableLsn) as Lsn
  }

  /** Invariant: a sync is reported once for each position, and never for records that were undone meanwhile. */
  synced(durableLsn: Lsn): void {
    assert(durableLsn <= this.#last.lsn, 'only what is in the log is durable')
    if (durableLsn > this.#durableLsn) this.#durableLsn = durableLsn
  }

  applied(appliedLsn: Lsn): void {
    assert(
      appliedLsn <= Math.max(this.#applyLsn, this.#committedLsn),
      'only what may be applied has been applied',
    )
    if (appliedLsn > this.#appliedLsn) this.#appliedLsn = appliedLsn
  }

  trimmed(firstLsn: Lsn): void {
    assert(firstLsn <= this.#last.lsn + 1, 'a log is trimmed at its beginning')
    if (firstLsn > this.#firstLsn) this.#firstLsn = firstLsn
  }

  /** Invariant 4: both only move forward. `applyLsn` is at least `committedLsn`. */
  advance(options: { committedLsn: Lsn; permanentLsn: Lsn; applyLsn?: Lsn }): boolean {
    const committedLsn = Math.max(options.committedLsn, this.#committedLsn) as Lsn
    const permanentLsn = Math.max(options.permanentLsn, this.#permanentLsn) as Lsn
    const applyLsn = Math.max(options.applyLsn ?? 0, committedLsn, this.#applyLsn) as Lsn
    assert(applyLsn <= this.#last.lsn, 'only records of this log are committed')
    assert(permanentLsn <= this.#last.lsn, 'only records of this log are permanent')
    const moved =
      committedLsn > this.#committedLsn || permanentLsn > this.#permanentLsn || applyLsn > this.#applyLsn
    if (!moved) return false
    this.#committedLsn = committedLsn
    this.#permanentLsn = permanentLsn
    this.#applyLsn = applyLsn
    this.emit({ kind: 'commit', committedLsn, permanentLsn, applyLsn })
    return true
  }

  /** The log now ends at `place`. Invariant 4: nothing permanent was undone. */
  rewound(place: RecordPlace): void {
    assert(place.lsn >= this.#permanentLsn, 'nothing permanent is undone')
    assert(place.lsn < this.#last.lsn, 'a rewind goes back')
    this.#checked = undefined
    this.#last = place
    this.#history = historyUpTo(this.#history, place.lsn)
    assert(place.lsn === 0 || place.term === this.#history.at(-1)?.term, 'the log ends in its last reign')
    this.#writtenLsn = place.lsn
    this.#durableLsn = place.lsn
    this.#appliedLsn = Math.min(this.#appliedLsn, place.lsn) as Lsn
    this.#committedLsn = Math.min(this.#committedLsn, place.lsn) as Lsn
    this.#applyLsn = Math.min(this.#applyLsn, place.lsn) as Lsn
  }

  /** Database, log and term have been replaced by a snapshot. */
  replaced(options: {
    databaseId: string
    term: Term
    master: string
    /** The rows are of this record. */
    base: RecordPlace
    /** The end of the log. */
    last: RecordPlace
    history: History
  }): void {
    const { databaseId, term, master, base, last, history } = options
    const isSame = databaseId === this.#databaseId
    this.#checked = undefined
    this.#permanentLsn = (isSame ? Math.min(this.#permanentLsn, base.lsn) : 0) as Lsn
    this.#databaseId = databaseId
    // Terms of different databases do not compare; that of one never falls.
    if (!isSame || term > this.#term) {
      this.#term = term
      this.#termMaster = master
      this.#vote = undefined
    }
    this.#firstLsn = lsnPlus(base.lsn, 1)
    this.#last = last
    this.#writtenLsn = last.lsn
    this.#durableLsn = last.lsn
    this.#appliedLsn = base.lsn
    this.#committedLsn = base.lsn
    this.#applyLsn = base.lsn
    this.#history = history
    this.#mixed = undefined
  }

  /** The store has rows of two ages; see `MixedRows`. Must be told after `replaced`. */
  mixRows(mixed: MixedRows): void {
    this.#mixed = mixed
  }

  /** Reads are consistent once this is applied. */
  get readableLsn(): Lsn {
    return this.#mixed?.lsn ?? noLsn
  }

  /** Undefined once the rows are one state for ever: nothing up to that record can be undone. */
  get mixed(): MixedRows | undefined {
    return this.#mixed !== undefined && this.#mixed.lsn > this.#permanentLsn ? this.#mixed : undefined
  }

  /** The order of all positions; cheap enough for every step. */
  checkPositions(): void {
    const last = this.#last
    assert(this.#durableLsn <= last.lsn, 'durable <= last')
    assert(this.#appliedLsn <= last.lsn, 'applied <= last')
    assert(this.#committedLsn <= this.#applyLsn && this.#applyLsn <= last.lsn, 'committed <= apply <= last')
    assert(this.#permanentLsn <= last.lsn, 'permanent <= last')
    assert(this.#firstLsn >= 1 && this.#firstLsn <= last.lsn + 1, 'the log has a beginning')
    assert(last.term <= this.#term, 'the term is at least that of the log')
    assert(last.lsn === 0 || this.#databaseId !== undefined, 'a log belongs to a database')
    assert(last.lsn === 0 || this.#history.at(-1)?.term === last.term, 'the log ends in its last reign')
  }

  /** After every step: what may fall only in a rewind or a snapshot has not. */
  checkGrowth(): void {
    const term = this.#term
    const committedLsn = this.#committedLsn
    const permanentLsn = this.#permanentLsn
    const before = this.#checked
    if (before === undefined) {
      this.#checked = { term, committedLsn, permanentLsn }
      return
    }
    assert(term >= before.term, 'a term never falls')
    assert(committedLsn >= before.committedLsn, 'the commit position never falls')
    assert(permanentLsn >= before.permanentLsn, 'the permanent position never falls')
    before.term = term
    before.committedLsn = committedLsn
    before.permanentLsn = permanentLsn
  }

  /** The shape of the history; O(its length). */
  checkHistory(): void {
    let previous: HistoryEntry | undefined
    for (const entry of this.#history) {
      assert(
        previous === undefined || (entry.term > previous.term && entry.firstLsn > previous.firstLsn),
        'terms and their first records grow',
      )
      assert(entry.firstLsn <= this.#last.lsn, 'a reign has a record')
      previous = entry
    }
  }
}

/** Who wrote the last record, if that was in the present term. */
function reignOf(options: CoreOptions): string | undefined {
  const reign = options.log.history.at(-1)
  return reign?.term === options.term ? reign.site : undefined
}

export function samePlace(a: RecordPlace, b: RecordPlace): boolean {
  return a.lsn === b.lsn && a.crc === b.crc && a.term === b.term
}
