// Two ends of a byte stream that the test holds in its hands: what one writes comes to the other when the clock runs, and
// a man in the middle may look at it, change it, hold it, or put in his own.

import type { Stream, StreamHandlers } from '../../src/env/host.ts'
import type { VirtualClock } from '../../src/env/simulated/virtual-clock.ts'

/** Given each chunk; what it returns goes on. */
export type Middle = (bytes: Uint8Array) => Uint8Array | undefined

export class HeldStream implements Stream {
  readonly remote: string = 'test'
  readonly bufferedBytes: number = 0
  /** All that was written here, as it left. */
  readonly sent: Uint8Array[] = []
  isOpen = true
  middle: Middle = (bytes) => bytes
  other: HeldStream | undefined
  readonly #clock: VirtualClock
  #handlers: StreamHandlers | undefined

  constructor(clock: VirtualClock) {
    this.#clock = clock
  }

  get handlers(): StreamHandlers {
    return this.#handlers as StreamHandlers
  }

  set handlers(handlers: StreamHandlers) {
    this.#handlers = handlers
  }

  write(parts: readonly Uint8Array[]): boolean {
    for (const part of parts) {
      const bytes = part.slice()
      this.sent.push(bytes)
      this.#clock.soon(() => {
        const changed = this.middle(bytes)
        if (changed !== undefined) this.other?.receive(changed)
      })
    }
    return true
  }

  receive(bytes: Uint8Array): void {
    if (this.isOpen) this.#handlers?.data(bytes)
  }

  pause(): void {}

  resume(): void {}

  end(): void {
    this.destroy()
  }

  /** Ends both sides, behind what was written. */
  destroy(): void {
    if (!this.isOpen) return
    this.isOpen = false
    this.#clock.soon(() => this.#handlers?.closed(undefined))
    this.#clock.soon(() => this.other?.destroy())
  }
}

export function streamPair(clock: VirtualClock): { near: HeldStream; far: HeldStream } {
  const near = new HeldStream(clock)
  const far = new HeldStream(clock)
  near.other = far
  far.other = near
  return { near, far }
}
