// TCP over node:net. What is written within one turn of the event loop leaves in one writev: the socket is corked
// by the first write and uncorked when the turn's callbacks are done. Received chunks are handed over as they are.
//
// A stream reads nothing before its handlers are set, so nothing can be missed. A connect that fails, and a listen
// that fails, reject; everything later arrives at `handlers.closed`, once.

import * as net from 'node:net'
import { CoterieError } from '../../base/errors.ts'
import type {
  Stream,
  StreamConnectOptions,
  StreamHandlers,
  StreamListener,
  StreamListenOptions,
  Streams,
} from '../host.ts'
import { connectError, listenError, systemCodeOf } from './node-errors.ts'

/** Probes that find a peer whose machine is gone even where nobody sends; heartbeats above are much faster. */
const keepAliveInitialDelayMs = 30_000
const highWaterBytes = 262_144
const backlog = 511

export class NodeStreams implements Streams {
  listen(options: StreamListenOptions, onStream: (stream: Stream) => void): Promise<StreamListener> {
    const { host, port } = options
    return new Promise((resolve, reject) => {
      const server = net.createServer({
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: keepAliveInitialDelayMs,
        highWaterMark: highWaterBytes,
      })
      const failed = (error: Error): void => reject(listenError(error, hostAndPort(host, port)))
      server.once('error', failed)
      server.on('connection', (socket) => onStream(new NodeStream(socket)))
      const listening = (): void => {
        server.removeListener('error', failed)
        server.on('error', warnOfAcceptError)
        resolve(new NodeStreamListener(server))
      }
      try {
        server.listen({ host, port, backlog, exclusive: true }, listening)
      } catch (error) {
        reject(listenError(error, hostAndPort(host, port)))
      }
    })
  }

  connect(options: StreamConnectOptions): Promise<Stream> {
    const { host, port, signal } = options
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(abortError(signal))
        return
      }
      let socket: net.Socket
      try {
        socket = net.connect(socketOptions(host, port))
      } catch (error) {
        reject(connectError(error, hostAndPort(host, port)))
        return
      }
      const forget = (): void => {
        socket.removeListener('error', failed)
        signal?.removeEventListener('abort', aborted)
      }
      const failed = (error: Error): void => {
        forget()
        reject(connectError(error, hostAndPort(host, port)))
      }
      const aborted = (): void => {
        forget()
        // The attempt may still report an error, which nobody waits for any more.
        socket.on('error', () => undefined)
        socket.destroy()
        reject(abortError(signal))
      }
      socket.once('error', failed)
      signal?.addEventListener('abort', aborted, { once: true })
      socket.once('connect', () => {
        forget()
        resolve(new NodeStream(socket))
      })
    })
  }
}

class NodeStreamListener implements StreamListener {
  readonly host: string
  readonly port: number
  readonly #server: net.Server

  constructor(server: net.Server) {
    const address = server.address() as net.AddressInfo
    this.host = address.address
    this.port = address.port
    this.#server = server
  }

  /** Stops listening. The streams that came from it stay: `net.Server` would call back only after their end. */
  close(): Promise<void> {
    if (this.#server.listening) this.#server.close()
    return Promise.resolve()
  }
}

class NodeStream implements Stream {
  readonly remote: string
  readonly #socket: net.Socket
  #handlers: StreamHandlers | undefined
  #corked: boolean = false
  #paused: boolean = false
  #error: Error | undefined
  #closed: boolean = false

  constructor(socket: net.Socket) {
    this.#socket = socket
    this.remote = hostAndPort(socket.remoteAddress ?? 'unknown', socket.remotePort ?? 0)
    socket.on('error', (error) => {
      this.#error ??= error
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
    if (this.#closed) process.nextTick(() => handlers.closed(this.#error))
    this.#socket.on('data', (bytes: Buffer) => this.#handlers?.data(bytes))
    if (this.#paused) this.#socket.pause()
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

function socketOptions(host: string, port: number): net.NetConnectOpts {
  const options: net.TcpNetConnectOpts & { writableHighWaterMark: number } = {
    host,
    port,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: keepAliveInitialDelayMs,
    writableHighWaterMark: highWaterBytes,
  }
  return options
}

/** An accept that fails (no descriptors left, say) costs one peer its try, and it tries again; the listener goes on. */
function warnOfAcceptError(error: Error): void {
  process.emitWarning(`a connection could not be accepted: ${error.message}`, {
    type: 'CoterieWarning',
    code: systemCodeOf(error),
  })
}

function abortError(signal: AbortSignal | undefined): CoterieError {
  return new CoterieError('ABORTED', 'the connect was aborted', { cause: signal?.reason })
}

function hostAndPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
