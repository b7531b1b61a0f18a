// What has arrived and waits for its receiver: nothing is delivered before there are handlers, nor while the receiver
// has paused, nor inside another delivery. What waits is bounded; beyond the bound messages are dropped, as a network
// would. The end comes last, and once.

import type { CoterieError } from '../../base/errors.ts'
import type { Timers } from '../../env/host.ts'
import type { ConnectionHandlers } from '../transport.ts'
import { udpBounds } from './bounds.ts'
import type { WholeMessage } from './reassembly.ts'

interface Waiting extends WholeMessage {
  readonly fromChannel: boolean
}

/** What a message costs beside its bytes. */
const messageCost = 64

export class Inbox {
  readonly #timers: Timers
  readonly #onRoom: () => void
  readonly #onEmpty: () => void
  #handlers: ConnectionHandlers | undefined
  #waiting: Waiting[] = []
  #head = 0
  #bytes = 0
  #paused = false
  #delivering = false
  #closed = false
  #closedReported = false
  #error: CoterieError | undefined

  /** `onRoom`: it was full, and is so no longer. `onEmpty`: everything has been delivered. */
  constructor(options: {
    readonly timers: Timers
    readonly onRoom: () => void
    readonly onEmpty: () => void
  }) {
    this.#timers = options.timers
    this.#onRoom = options.onRoom
    this.#onEmpty = options.onEmpty
  }

  get handlers(): ConnectionHandlers {
    if (this.#handlers === undefined) throw new TypeError('the connection has no handlers yet')
    return this.#handlers
  }

  set handlers(handlers: ConnectionHandlers) {
    const isFirst = this.#handlers === undefined
    this.#handlers = handlers
    if (!isFirst) return
    // The receiver has it only when the call that gave it the connection has returned.
    this.#timers.soon(() => (this.#closed ? this.#reportClosed() : this.#deliver()))
  }

  get hasRoom(): boolean {
    return this.#bytes < udpBounds.inboxBytes
  }

  get isEmpty(): boolean {
    return this.#head === this.#waiting.length
  }

  add(control: Uint8Array, payload: Uint8Array, fromChannel = false): void {
    if (this.#closed || this.#bytes >= udpBounds.inboxBytesMax) return
    this.#waiting.push({ control, payload, fromChannel })
    this.#bytes += control.length + payload.length + messageCost
    if (this.#handlers !== undefined) this.#deliver()
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    if (!this.isEmpty) this.#timers.soon(() => this.#deliver())
  }

  drain(): void {
    if (!this.#closed) this.#handlers?.drain()
  }

  /** Lets go of what waits. */
  drop(): void {
    this.#waiting = []
    this.#head = 0
    this.#bytes = 0
  }

  close(error: CoterieError | undefined): void {
    this.#closed = true
    this.#error = error
    this.drop()
    this.#timers.soon(() => this.#reportClosed())
  }

  #deliver(): void {
    if (this.#delivering) return
    this.#delivering = true
    const hadRoom = this.hasRoom
    try {
      while (!this.#paused && !this.#closed && this.#handlers !== undefined) {
        const next = this.#waiting[this.#head]
        if (next === undefined) break
        this.#head++
        this.#bytes -= next.control.length + next.payload.length + messageCost
        if (this.#head === this.#waiting.length) this.drop()
        if (next.fromChannel) this.#handlers.channelMessage?.(next.control, next.payload)
        else this.#handlers.message(next.control, next.payload)
      }
    } finally {
      this.#delivering = false
    }
    if (this.#closed) return
    if (!hadRoom && this.hasRoom) this.#onRoom()
    if (this.isEmpty) this.#onEmpty()
  }

  #reportClosed(): void {
    if (this.#handlers === undefined || this.#closedReported) return
    this.#closedReported = true
    this.#handlers.closed(this.#error)
  }
}
