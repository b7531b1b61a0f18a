// Everything that a connection told, for waiting on. Waits are for conditions; their bound is one that only a broken
// transport reaches.

import { utf8Decode } from '../base/bytes.ts'
import type { CoterieError } from '../base/errors.ts'
import type { ConnectionHandlers } from '../transport/transport.ts'

const waitMs = 30_000
const resendMs = 50

export interface ReceivedMessage {
  readonly control: Uint8Array
  readonly payload: Uint8Array
}

export class Recorder implements ConnectionHandlers {
  readonly messages: ReceivedMessage[] = []
  drains = 0
  closes = 0
  closedWith: CoterieError | undefined
  onMessage: ((control: Uint8Array, payload: Uint8Array) => void) | undefined
  #changed: (() => void)[] = []

  message(control: Uint8Array, payload: Uint8Array): void {
    this.messages.push({ control, payload })
    this.onMessage?.(control, payload)
    this.#wake()
  }

  drain(): void {
    this.drains++
    this.#wake()
  }

  closed(error: CoterieError | undefined): void {
    this.closes++
    this.closedWith = error
    this.#wake()
  }

  get texts(): string[] {
    return this.messages.map(({ control }) => utf8Decode(control))
  }

  async until(condition: (recorder: this) => boolean, what: string): Promise<void> {
    const failed = setTimeout(() => {
      this.#failure = new Error(`waited in vain for ${what}`)
      this.#wake()
    }, waitMs)
    try {
      while (!condition(this)) {
        await new Promise<void>((resolve) => this.#changed.push(resolve))
        if (this.#failure !== undefined) throw this.#failure
      }
    } finally {
      clearTimeout(failed)
    }
  }

  #failure: Error | undefined

  #wake(): void {
    const changed = this.#changed
    this.#changed = []
    for (const resolve of changed) resolve()
  }
}

/**
 * Sends until the condition holds: once where the transport loses nothing, again and again where it may.
 */
export async function sendUntil<Side extends Recorder>(
  send: () => void,
  wanted: {
    readonly at: Side
    readonly condition: (recorder: Side) => boolean
    readonly what: string
    readonly isReliable: boolean
  },
): Promise<void> {
  const { at, condition, what, isReliable } = wanted
  send()
  const timer = isReliable ? undefined : setInterval(send, resendMs)
  try {
    await at.until(condition, what)
  } finally {
    clearInterval(timer)
  }
}
