// One byte stream over a socket of node:net. What is written within one turn of the event loop leaves in one writev: the
// socket is corked by the first write and uncorked when the turn's callbacks are done. Received chunks are handed over
// as they are.
//
// A stream reads nothing before its handlers are set, so nothing can be missed. What fails arrives at
// `handlers.closed`, once.

import type * as net from 'node:net'
import type { Stream, StreamHandlers, StreamProof } from '../host.ts'

export class NodeStream implements Stream {
  readonly remote: string
  readonly #socket: net.Socket
  #handlers: StreamHandlers | undefined
  #corked: boolean = false
  #paused: boolean = false
  #error: Error | undefined
  #closed: boolean = false
  #proof: StreamProof | undefined

  /** `explain`: what an error means, as long as TLS has not said who is there. */
  constructor(socket: net.Socket, remote: string, explain?: (error: Error) => Error) {
    this.#socket = socket
    this.remote = remote
    socket.on('error', (error) => {
      this.#error ??= this.#proof === undefined && explain !== undefined ? explain(error) : error
    })
    socket.on('close', () => {
      this.#closed = true
      this.#handlers?.closed(this.#error)
    })
    socket.on('drain', () => this.#handlers?.drain())
  }

  get bufferedBytes(): number {
    return this.#socket.writableLength
  }

  get handlers(): StreamHandlers {
    if (this.#handlers === undefined) throw new TypeError('the stream has no handlers yet')
    return this.#handlers
  }

  set handlers(handlers: StreamHandlers) {
    const first = this.#handlers === undefined
    this.#handlers = handlers
    if (!first) return
    const proof = this.#proof
    if (proof !== undefined) process.nextTick(() => handlers.secured?.(proof))
    if (this.#closed) process.nextTick(() => handlers.closed(this.#error))
    this.#socket.on('data', (bytes: Buffer) => this.#handlers?.data(bytes))
    if (this.#paused) this.#socket.pause()
  }

  /** TLS has said who is there. */
  secured(proof: StreamProof): void {
    this.#proof = proof
    this.#handlers?.secured?.(proof)
  }

  write(parts: readonly Uint8Array[]): boolean {
    const socket = this.#socket
    if (!socket.writable) return false
    if (!this.#corked) {
      this.#corked = true
      socket.cork()
      process.nextTick(() => this.#uncork())
    }
    let room = true
    for (const part of parts) room = socket.write(part)
    return room
  }

  pause(): void {
    this.#paused = true
    if (this.#handlers !== undefined) this.#socket.pause()
  }

  resume(): void {
    this.#paused = false
    if (this.#handlers !== undefined) this.#socket.resume()
  }

  end(): void {
    this.#uncork()
    this.#socket.end()
  }

  destroy(): void {
    this.#socket.destroy()
  }

  #uncork(): void {
    if (!this.#corked) return
    this.#corked = false
    this.#socket.uncork()
  }
}
