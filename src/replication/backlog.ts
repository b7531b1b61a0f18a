// What those who are attached have still to take: how far they lag, and the log that is kept for them.

import type { Lsn } from '../base/lsn.ts'
import type { Attest } from '../base/policy.ts'
import type { Attachments } from './attachments.ts'
import type { CoreState } from './core-state.ts'
import { LagMeter } from './lag-meter.ts'
import type { Progress } from './progress.ts'
import type { Served } from './served.ts'

export class Backlog {
  readonly #state: CoreState
  readonly #served: Served
  readonly #attachments: Attachments
  lag: LagMeter
  #retainLsn: Lsn | undefined

  constructor(state: CoreState, served: Served, attachments: Attachments) {
    this.#state = state
    this.#served = served
    this.#attachments = attachments
    this.lag = new LagMeter(served.last.lsn)
  }

  /** There is so much more for them to take. */
  proposed(lastLsn: Lsn, bytes: number): void {
    this.lag.add(lastLsn, bytes, this.#state.now)
  }

  /** The log is another one now, and nobody is attached. */
  forget(): void {
    this.lag = new LagMeter(this.#served.last.lsn)
  }

  /** Bytes that a replica lags; 0 for one that writers do not wait for. */
  bytesOf(progress: Progress, attest: Attest): number {
    return progress.inStep && progress.votes ? this.lag.bytesAfter(progress.attested(attest)) : 0
  }

  bytesOfSlowest(attest: Attest): number {
    let most = 0
    for (const progress of this.#attachments.all()) most = Math.max(most, this.bytesOf(progress, attest))
    return most
  }

  /** The log from the lowest LSN that any replica still needs. Falls at once, rises with the ticks. */
  retain(attest: Attest): void {
    let lowest: Lsn | undefined
    let acked = this.#served.last.lsn
    for (const progress of this.#attachments.all()) {
      if (lowest === undefined || progress.retainLsn < lowest) lowest = progress.retainLsn
      const attested = progress.attested(attest)
      if (attested < acked) acked = attested
    }
    this.lag.forgetThrough(acked)
    if (lowest === this.#retainLsn) return
    this.#retainLsn = lowest
    this.#state.emit({ kind: 'retainLog', from: lowest })
  }
}
