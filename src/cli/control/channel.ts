// Messages of the control endpoint over a connection of the project's transport, which frames them and bounds them.
// The bound is small until the handshake is done. A peer that does not read is waited for: `send` resolves when there
// is room.

import { limits } from '../../base/limits.ts'
import type { Connection } from '../../transport/transport.ts'
import { type ControlHead, decodeHead, encodeHead } from './protocol.ts'

/** Enough for the handshake and nothing else. */
export const handshakeMessageBytesMax = 1024

export interface ChannelHandlers {
  message(head: ControlHead, payload: Uint8Array): void
  /** Called once. */
  closed(error: Error | undefined): void
}

export class Channel {
  readonly #connection: Connection
  readonly #handlers: ChannelHandlers
  #room: (() => void)[] = []
  #closed = false

  constructor(connection: Connection, handlers: ChannelHandlers) {
    this.#connection = connection
    this.#handlers = handlers
    connection.handlers = {
      message: (control, payload) => this.#received(control, payload),
      drain: () => this.#drained(),
      closed: (error) => this.#end(error),
    }
  }

  /** From now on messages of the full size are taken. */
  trust(): void {
    this.#connection.acceptFramesUpTo(limits.frameBytesMax)
  }

  /** Resolves when the peer has room for more, or is gone. */
  send(head: ControlHead, payload?: Uint8Array): Promise<void> {
    if (this.#closed || this.#connection.send(encodeHead(head), payload) || this.#closed)
      return Promise.resolve()
    return new Promise((resolve) => {
      this.#room.push(resolve)
    })
  }

  pause(): void {
    this.#connection.pause()
  }

  resume(): void {
    if (!this.#closed) this.#connection.resume()
  }

  /** Sends what waits, then closes. */
  async end(): Promise<void> {
    if (!this.#closed) await this.#connection.end()
  }

  /** Closes at once. */
  destroy(error?: Error): void {
    this.#connection.destroy(error)
    this.#end(error)
  }

  #received(control: Uint8Array, payload: Uint8Array): void {
    if (this.#closed) return
    try {
      this.#handlers.message(decodeHead(control), payload)
    } catch (error) {
      this.destroy(error as Error)
    }
  }

  #drained(): void {
    for (const resolve of this.#room.splice(0)) resolve()
  }

  #end(error: Error | undefined): void {
    if (this.#closed) return
    this.#closed = true
    this.#drained()
    this.#handlers.closed(error)
  }
}
