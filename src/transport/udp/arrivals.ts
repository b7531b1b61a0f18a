// Which numbers have come: a datagram that comes again, or is older than the window, is dropped; and the reports that
// tell the other side. A report repeats what earlier ones said, because reports are lost too.

import { udpBounds } from './bounds.ts'
import type { ReportFrame } from './frames.ts'

/** Reports that may be lost in a row before the other side counts as lost what has come. */
const reportsRepeated = 8

export class Arrivals {
  /** Bit n of a ring: number n, modulo the window. Invariant: bits of numbers outside the window are 0. */
  readonly #bits: Uint8Array
  readonly #window: number
  #highest = 0
  #echoed = 0
  #echoedAtMs = 0
  /** What was the highest when the last reports were made. */
  #reported: number[] = []

  constructor(window: number = udpBounds.replayWindow) {
    this.#window = window
    this.#bits = new Uint8Array(window / 8)
  }

  get highest(): number {
    return this.#highest
  }

  /** Whether a number may be taken. Ask before the datagram is opened, and `add` after. */
  isNew(number: number): boolean {
    if (number === 0) return false
    if (number > this.#highest) return true
    return number > this.#highest - this.#window && !this.has(number)
  }

  add(number: number): void {
    if (number > this.#highest) {
      const from = Math.max(this.#highest + 1, number - this.#window + 1)
      for (let n = from; n < number; n++) this.#clear(n)
      this.#highest = number
    }
    const at = number % this.#window
    this.#bits[at >> 3] = (this.#bits[at >> 3] as number) | (1 << (at & 7))
  }

  /** The number asks for a report; the newest of those is echoed, so that its sender knows how long the way takes. */
  echo(number: number, nowMs: number): void {
    if (number <= this.#echoed) return
    this.#echoed = number
    this.#echoedAtMs = nowMs
  }

  /** For numbers in the window only. */
  has(number: number): boolean {
    const at = number % this.#window
    return ((this.#bits[at >> 3] as number) & (1 << (at & 7))) !== 0
  }

  report(nowMs: number, room: number): ReportFrame {
    const since = this.#reported[0] ?? 0
    const span = Math.min(this.#highest - since + 64, udpBounds.reportWindow, this.#highest - 1)
    const bitmap = new Uint8Array(Math.ceil(Math.max(0, span) / 8))
    for (let bit = 0; bit < span; bit++) {
      if (this.has(this.#highest - 1 - bit))
        bitmap[bit >> 3] = (bitmap[bit >> 3] as number) | (1 << (bit & 7))
    }
    this.#reported.push(this.#highest)
    if (this.#reported.length > reportsRepeated) this.#reported.shift()
    const heldMs = nowMs - this.#echoedAtMs
    return { kind: 'report', highest: this.#highest, echoed: this.#echoed, heldMs, room, bitmap }
  }

  #clear(number: number): void {
    const at = number % this.#window
    this.#bits[at >> 3] = (this.#bits[at >> 3] as number) & ~(1 << (at & 7))
  }
}
