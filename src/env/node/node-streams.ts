// Byte streams of the real host: sockets of node:net, over TCP (with TLS: node-tls.ts) and pipes. A connect that fails, and a listen that fails,
// reject; everything later arrives at `handlers.closed` of the stream (node-stream.ts).

import { chmodSync } from 'node:fs'
import * as net from 'node:net'
import { isMainThread } from 'node:worker_threads'
import { CoterieError } from '../../base/errors.ts'
import type {
  Stream,
  StreamConnectOptions,
  StreamListener,
  StreamListenOptions,
  StreamPlace,
  Streams,
} from '../host.ts'
import { connectError, listenError, systemCodeOf } from './node-errors.ts'
import { NodeStream } from './node-stream.ts'
import { tlsAcceptor, tlsConnect } from './node-tls.ts'
import { checkBeforeConnecting, clearedForListening } from './pipe-file.ts'

/** Probes that find a peer whose machine is gone even where nobody sends; heartbeats above are much faster. */
const keepAliveInitialDelayMs = 30_000
const highWaterBytes = 262_144
const backlog = 511

export class NodeStreams implements Streams {
  async listen(options: StreamListenOptions, onStream: (stream: Stream) => void): Promise<StreamListener> {
    const server = net.createServer({
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: keepAliveInitialDelayMs,
      highWaterMark: highWaterBytes,
    })
    const wrap = options.tls === undefined ? undefined : tlsAcceptor(options.tls)
    server.on('connection', (socket) => {
      const remote = remoteOf(socket, options)
      onStream(wrap === undefined ? new NodeStream(socket, remote) : wrap(socket, remote))
    })
    const bind = 'path' in options ? await clearedForListening(options.path) : bindNow
    await listening(server, options, bind)
    return new NodeStreamListener(server)
  }

  connect(options: StreamConnectOptions): Promise<Stream> {
    const { signal } = options
    const place = placeText(options)
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(abortError(signal))
        return
      }
      let socket: net.Socket
      let wrapped: NodeStream | undefined
      try {
        if ('path' in options) checkBeforeConnecting(options.path)
        const plain = socketOptions(options)
        if (options.tls === undefined) socket = net.connect(plain)
        else {
          const { tls } = options
          const connecting = tlsConnect({ tls, plain, remote: place, keepAliveInitialDelayMs })
          socket = connecting.socket
          wrapped = connecting.stream
        }
      } catch (error) {
        reject(error instanceof CoterieError ? error : connectError(error, place))
        return
      }
      const forget = (): void => {
        socket.removeListener('error', failed)
        signal?.removeEventListener('abort', aborted)
      }
      const failed = (error: Error): void => {
        forget()
        reject(connectError(error, place))
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
        resolve(wrapped ?? new NodeStream(socket, remoteOf(socket, options)))
      })
    })
  }
}

class NodeStreamListener implements StreamListener {
  readonly host: string
  readonly port: number
  readonly #server: net.Server

  constructor(server: net.Server) {
    const address = server.address() as net.AddressInfo | string
    this.host = typeof address === 'string' ? address : address.address
    this.port = typeof address === 'string' ? 0 : address.port
    this.#server = server
  }

  /** Stops listening. The streams that came from it stay: `net.Server` would call back only after their end. */
  close(): Promise<void> {
    if (this.#server.listening) this.#server.close()
    return Promise.resolve()
  }
}

function listening(
  server: net.Server,
  place: StreamPlace,
  bind: (listen: () => void) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: unknown): void =>
      reject(error instanceof CoterieError ? error : listenError(error, placeText(place)))
    server.once('error', failed)
    const begun = (): void => {
      server.removeListener('error', failed)
      server.on('error', warnOfAcceptError)
      resolve()
    }
    try {
      // Node binds a pipe in this very call; `exclusive` keeps it so in a cluster worker.
      const where = 'path' in place ? { path: place.path } : { host: place.host, port: place.port }
      bind(() => server.listen({ ...where, backlog, exclusive: true }, begun))
      // Where the mask could not be set, see pipe-file.ts.
      if ('path' in place && !isMainThread && process.platform !== 'win32') chmodSync(place.path, 0o600)
    } catch (error) {
      failed(error)
    }
  })
}

function bindNow(listen: () => void): void {
  listen()
}

function socketOptions(place: StreamPlace): net.NetConnectOpts {
  if ('path' in place) {
    const options: net.IpcNetConnectOpts & { writableHighWaterMark: number } = {
      path: place.path,
      writableHighWaterMark: highWaterBytes,
    }
    return options
  }
  const options: net.TcpNetConnectOpts & { writableHighWaterMark: number } = {
    host: place.host,
    port: place.port,
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

function remoteOf(socket: net.Socket, place: StreamPlace): string {
  if ('path' in place) return place.path
  return hostAndPort(socket.remoteAddress ?? 'unknown', socket.remotePort ?? 0)
}

function placeText(place: StreamPlace): string {
  return 'path' in place ? place.path : hostAndPort(place.host, place.port)
}

function hostAndPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
