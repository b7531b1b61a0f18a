// What was sent and not yet confirmed, by number: from the reports of the other side it follows what has arrived, what
// is lost, how long the way takes, and which fragments must go again.
//
// A datagram counts as lost when one that was sent clearly later has arrived: time tells, not a count of numbers, so
// a network that reorders does not look like one that loses. What follows the last datagram that arrived can only be
// found by asking again: the connection sends a ping when nothing is heard.

import type { ReportFrame } from './frames.ts'

/** What a datagram carried that is repeated if it is lost; opaque here. */
export interface Departure<Cargo> {
  readonly number: number
  readonly bytes: number
  readonly sentMs: number
  readonly cargo: readonly Cargo[]
}

export interface ReportOutcome<Cargo> {
  /** The report said something new. */
  readonly isNews: boolean
  readonly arrivedBytes: number
  readonly arrived: number
  readonly lostBytes: number
  readonly lost: number
  /** Undefined where the highest number was reported before. */
  readonly roundTripMs: number | undefined
  readonly arrivedCargo: readonly Cargo[]
  readonly lostCargo: readonly Cargo[]
}

/** The least that a datagram must have been sent before one that arrived, to count as lost. */
const reorderMs = 6

export class Departures<Cargo> {
  /** In the order of their numbers. */
  readonly #underWay: Map<number, Departure<Cargo>> = new Map()
  #bytesUnderWay = 0
  #lastNumber = 0
  #highestReported = 0
  #newestArrivedMs = Number.NEGATIVE_INFINITY

  get bytesUnderWay(): number {
    return this.#bytesUnderWay
  }

  get underWay(): number {
    return this.#underWay.size
  }

  nextNumber(): number {
    this.#lastNumber++
    return this.#lastNumber
  }

  sent(departure: Departure<Cargo>): void {
    this.#underWay.set(departure.number, departure)
    this.#bytesUnderWay += departure.bytes
  }

  /** Undefined: the report speaks of what was never sent. */
  reported(report: ReportFrame, nowMs: number, smoothedMs: number): ReportOutcome<Cargo> | undefined {
    if (report.highest > this.#lastNumber || report.echoed > report.highest) return undefined
    const arrivedCargo: Cargo[] = []
    const lostCargo: Cargo[] = []
    let arrivedBytes = 0
    let arrived = 0
    let lostBytes = 0
    let lost = 0
    // Once it is reported it is no longer under way, so a report that comes late tells no time.
    const echoed = this.#underWay.get(report.echoed)
    const roundTripMs = echoed === undefined ? undefined : Math.max(0, nowMs - echoed.sentMs - report.heldMs)
    this.#highestReported = Math.max(this.#highestReported, report.highest)
    for (const departure of this.#underWay.values()) {
      if (departure.number > report.highest) break
      if (!hasArrived(report, departure.number)) continue
      this.#underWay.delete(departure.number)
      arrived++
      arrivedBytes += departure.bytes
      this.#newestArrivedMs = Math.max(this.#newestArrivedMs, departure.sentMs)
      arrivedCargo.push(...departure.cargo)
    }
    const lostBeforeMs = this.#newestArrivedMs - Math.max(reorderMs, smoothedMs / 4)
    for (const departure of this.#underWay.values()) {
      if (departure.sentMs >= lostBeforeMs || departure.number > this.#highestReported) break
      this.#underWay.delete(departure.number)
      lost++
      lostBytes += departure.bytes
      lostCargo.push(...departure.cargo)
    }
    this.#bytesUnderWay -= arrivedBytes + lostBytes
    const isNews = arrived > 0 || lost > 0
    return { isNews, arrivedBytes, arrived, lostBytes, lost, roundTripMs, arrivedCargo, lostCargo }
  }

  clear(): void {
    this.#underWay.clear()
    this.#bytesUnderWay = 0
  }
}

function hasArrived(report: ReportFrame, number: number): boolean {
  if (number === report.highest) return true
  const bit = report.highest - 1 - number
  const byte = report.bitmap[bit >> 3]
  return byte !== undefined && (byte & (1 << (bit & 7))) !== 0
}
