// Progress of long work, on standard error only. On a terminal it is a bar with rate and time left; elsewhere a plain
// line about every second; with --json an object a line. Work done within a second prints nothing but on a terminal.
//
// The estimate of the time left uses the rate of the last ten seconds, because loads and syncs change pace.

import type { Writable } from 'node:stream'
import cliProgress from 'cli-progress'
import { formatAmount, formatDuration, formatRate, type ProgressUnit } from './format.ts'
import { toJson } from './output.ts'

export interface ProgressOptions {
  readonly label: string
  readonly unit: ProgressUnit
  readonly total?: number | undefined
}

export interface ProgressTarget {
  readonly stderr: Writable
  readonly json: boolean
  readonly quiet: boolean
  readonly env: NodeJS.ProcessEnv
  /** Milliseconds, for tests. */
  readonly now?: () => number
}

const plainEveryMs = 1000
const barEveryMs = 100
const rateWindowMs = 10_000

interface Sample {
  readonly at: number
  readonly value: number
}

export class Progress {
  readonly #label: string
  readonly #unit: ProgressUnit
  readonly #target: ProgressTarget
  readonly #now: () => number
  readonly #startedAt: number
  readonly #bar: cliProgress.SingleBar | undefined
  #total: number | undefined
  #value = 0
  #samples: Sample[] = []
  #shownAt: number
  #stopped = false

  constructor(target: ProgressTarget, options: ProgressOptions) {
    this.#label = options.label
    this.#unit = options.unit
    this.#total = options.total
    this.#target = target
    this.#now = target.now ?? (() => performance.now())
    this.#startedAt = this.#now()
    this.#shownAt = this.#startedAt
    this.#samples.push({ at: this.#startedAt, value: 0 })
    this.#bar = isTerminal(target) ? this.#startBar() : undefined
  }

  /** Total amount done so far; `total` once it becomes known. */
  update(value: number, total?: number): void {
    if (this.#stopped) return
    if (total !== undefined) this.#total = total
    this.#value = value
    const now = this.#now()
    if (now - this.#shownAt < (this.#bar === undefined ? plainEveryMs : barEveryMs)) return
    this.#shownAt = now
    this.#sample(now)
    this.#show(now)
  }

  /** Takes the bar off the line for words that others print; the next update draws it again. */
  clear(): void {
    if (this.#bar === undefined || this.#stopped) return
    this.#target.stderr.write('\r\u001b[K')
    this.#shownAt = this.#startedAt - barEveryMs
  }

  /** Ends the display. Idempotent. */
  stop(): void {
    if (this.#stopped) return
    this.#stopped = true
    if (this.#bar === undefined) return
    this.#sample(this.#now())
    this.#showBar()
    this.#bar.stop()
  }

  get elapsedMs(): number {
    return this.#now() - this.#startedAt
  }

  #startBar(): cliProgress.SingleBar {
    const bar = new cliProgress.SingleBar({
      format: `${this.#label} [{bar}] {figures}`,
      stream: this.#target.stderr,
      barCompleteChar: '=',
      barIncompleteChar: ' ',
      barsize: 28,
      hideCursor: true,
      linewrap: null,
      emptyOnZero: true,
      forceRedraw: true,
      fps: 10,
      // The command has its own handling of signals.
      gracefulExit: false,
    })
    bar.start(this.#total ?? 0, 0, { figures: '' })
    return bar
  }

  #sample(now: number): void {
    this.#samples.push({ at: now, value: this.#value })
    while (this.#samples.length > 2 && now - (this.#samples[0]?.at ?? now) > rateWindowMs)
      this.#samples.shift()
  }

  #rate(): number {
    const first = this.#samples[0]
    const last = this.#samples.at(-1)
    if (first === undefined || last === undefined || last.at <= first.at) return 0
    return ((last.value - first.value) * 1000) / (last.at - first.at)
  }

  #leftSeconds(rate: number): number | undefined {
    if (this.#total === undefined || rate <= 0) return undefined
    return Math.max(0, this.#total - this.#value) / rate
  }

  #figures(): string {
    const rate = this.#rate()
    const left = this.#leftSeconds(rate)
    const percent = this.#percent()
    const of = this.#total === undefined ? '' : ` of ${formatAmount(this.#total, this.#unit)}`
    return [
      percent === undefined ? '' : `${String(Math.floor(percent)).padStart(3)} %`,
      `${formatAmount(this.#value, this.#unit)}${of}`,
      formatRate(rate, this.#unit),
      left === undefined ? '' : `${formatDuration(left)} left`,
    ]
      .filter((part) => part !== '')
      .join(', ')
  }

  #percent(): number | undefined {
    if (this.#total === undefined || this.#total <= 0) return undefined
    return Math.min(100, (this.#value / this.#total) * 100)
  }

  #show(now: number): void {
    if (this.#bar !== undefined) {
      this.#showBar()
      return
    }
    if (this.#target.quiet) return
    if (!this.#target.json) {
      this.#target.stderr.write(`${this.#label}: ${this.#figures()}\n`)
      return
    }
    const rate = this.#rate()
    const progress = {
      label: this.#label,
      value: this.#value,
      total: this.#total,
      unit: this.#unit,
      perSecond: Math.round(rate),
      leftSeconds: this.#leftSeconds(rate),
      elapsedMs: Math.round(now - this.#startedAt),
    }
    this.#target.stderr.write(`${toJson({ progress })}\n`)
  }

  #showBar(): void {
    if (this.#bar === undefined) return
    // A bar of unknown length stays empty; its figures still move.
    this.#bar.setTotal(this.#total ?? 0)
    this.#bar.update(this.#total === undefined ? 0 : Math.min(this.#value, this.#total), {
      figures: this.#figures(),
    })
  }
}

function isTerminal(target: ProgressTarget): boolean {
  if (target.quiet || target.json || target.env.TERM === 'dumb') return false
  return (target.stderr as Writable & { isTTY?: boolean }).isTTY === true
}
