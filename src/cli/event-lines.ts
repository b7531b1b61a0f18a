// The lines that `serve`, `attach` and `join` print while they run: one an event, in order, each with the time.
//
// A reader that goes away does not end a server: its lines are then for nobody.

import { printable } from './format.ts'
import type { Output } from './output.ts'

export class EventLines {
  readonly #output: Output
  #last: Promise<void> = Promise.resolve()
  #failure: unknown

  constructor(output: Output) {
    this.#output = output
  }

  /** `detail` must be plain data; words may hold what others sent. Without words the line is for programs only. */
  print(event: string, detail: Readonly<Record<string, unknown>>, words?: string): void {
    const time = new Date()
    const clock = time.toTimeString().slice(0, 8)
    const document = { event, time: time.toISOString(), ...detail }
    this.#last = this.#last
      .then(() => this.#output.event(document, words === undefined ? '' : `${clock}  ${printable(words)}`))
      .catch((error: unknown) => {
        this.#failure ??= error
      })
  }

  /** Resolves when all lines are out; rejects if standard output failed. */
  async end(): Promise<void> {
    await this.#last
    if (this.#failure !== undefined) throw this.#failure
  }
}
