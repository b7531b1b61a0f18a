// Streams that a listener has accepted and that are no connections yet. A stranger costs one socket and a few bytes: they
// are bounded in number (the oldest goes first) and in time. One that was refused counts until it is closed.

import { CoterieError } from '../base/errors.ts'
import type { Timers } from '../env/host.ts'
import { closedError } from './stream-connection.ts'
import type { StreamOpening } from './stream-opening.ts'
import { type ListenOptions, transportDefaults } from './transport.ts'

/** What becomes of a stream. */
export interface Settle {
  opened(): void
  refused(error: CoterieError): void
  closed(): void
}

export class HalfOpen {
  readonly #timers: Timers
  readonly #options: ListenOptions
  /** In the order of their coming. */
  readonly #waiting: Set<(error: CoterieError) => void> = new Set()

  constructor(timers: Timers, options: ListenOptions) {
    this.#timers = timers
    this.#options = options
  }

  add(remote: string, make: (settle: Settle) => StreamOpening): void {
    const timeoutMs = this.#options.connectTimeoutMs ?? transportDefaults.connectTimeoutMs
    let wasRefused = false
    const refused = (error: CoterieError): void => {
      if (!wasRefused) this.#options.onRefused?.(error, remote)
      wasRefused = true
    }
    const settled = (): void => {
      this.#waiting.delete(drop)
      timer.cancel()
    }
    const opening = make({ opened: settled, refused, closed: settled })
    const drop = (error: CoterieError): void => {
      settled()
      opening.destroy(error)
      refused(error)
    }
    const timer = this.#timers.after(timeoutMs, () => drop(silentError(remote, timeoutMs)))
    this.#waiting.add(drop)
    const [oldest] = this.#waiting
    const halfOpenMax = this.#options.halfOpenMax ?? transportDefaults.halfOpenMax
    if (oldest !== undefined && this.#waiting.size > halfOpenMax) {
      oldest(closedError('a peer', 'too many others had not said what they speak either'))
    }
  }

  close(): void {
    for (const drop of [...this.#waiting]) drop(closedError('a peer', 'the listener was closed'))
  }
}

function silentError(remote: string, timeoutMs: number): CoterieError {
  return new CoterieError('CONNECT_TIMEOUT', `${remote} did not say what it speaks within ${timeoutMs} ms`, {
    details: { remote },
  })
}
