// A master that has handed over stays where it was for a while, to say so: the site that it handed over to may have
// missed the message and asks again, and others who come are told where to go. Nothing else is answered there.
//
// It ends by itself, when the database is closed, and when somebody wants to listen here again.

import type { Timer, Timers } from '../env/host.ts'
import type { Listener } from '../transport/transport.ts'

/** Longer than it takes to find out that the connection has gone, and then to ask again. */
export const witnessMs = 30_000

export class Witness {
  readonly #timers: Timers
  #listeners: readonly Listener[] = []
  #timer: Timer | undefined

  constructor(timers: Timers) {
    this.#timers = timers
  }

  /** Takes over what a master listened on. */
  keep(listeners: readonly Listener[]): void {
    void this.end()
    this.#listeners = listeners
    this.#timer = this.#timers.after(witnessMs, () => void this.end())
  }

  async end(): Promise<void> {
    this.#timer?.cancel()
    this.#timer = undefined
    const listeners = this.#listeners
    this.#listeners = []
    await Promise.all(listeners.map((listener) => listener.close()))
  }
}
