// Messages over TCP. A stranger costs a listener one socket and a few bytes until it has said what it speaks: those
// who have not are bounded in number (the oldest goes first) and in time.

import { CoterieError } from '../base/errors.ts'
import { limits } from '../base/limits.ts'
import type { Host, Stream } from '../env/host.ts'
import { type Address, addressText } from './address.ts'
import { type ProtocolRange, protocolRange } from './preface.ts'
import { closedError, StreamConnection, type StreamConnectionOptions } from './stream-connection.ts'
import {
  type Connection,
  type ConnectOptions,
  type Listener,
  type ListenOptions,
  type Transport,
  transportDefaults,
} from './transport.ts'

export type StreamHost = Pick<Host, 'clock' | 'timers' | 'streams'>

export interface TcpTransportOptions {
  /** The versions to speak; others than the default only in tests. */
  readonly protocol?: ProtocolRange
  /** What `send` lets wait before it returns false. Default 1 MiB. */
  readonly highWaterBytes?: number
}

type ConnectionParts = Pick<
  StreamConnectionOptions,
  'stream' | 'clock' | 'timers' | 'protocol' | 'frameBytesMax' | 'highWaterBytes'
>

export function tcpTransport(host: StreamHost, options: TcpTransportOptions = {}): Transport {
  return new TcpTransport(host, options)
}

class TcpTransport implements Transport {
  readonly scheme: string = 'tcp'
  readonly #host: StreamHost
  readonly #options: TcpTransportOptions

  constructor(host: StreamHost, options: TcpTransportOptions) {
    this.#host = host
    this.#options = options
  }

  async listen(options: ListenOptions): Promise<Listener> {
    const { host, port } = options.address
    const halfOpen = new HalfOpen(this.#host, options)
    let address = options.address.text
    const listener = await this.#host.streams.listen({ host, port }, (stream) => {
      const remote = `tcp://${stream.remote}`
      halfOpen.add(
        remote,
        (settle) =>
          new StreamConnection({
            ...this.#connectionParts(stream, options.frameBytesMax),
            remote,
            local: address,
            onOpen: (connection) => {
              settle.opened()
              options.onConnection(connection)
            },
            onRefused: settle.refused,
            onClosed: settle.closed,
          }),
      )
    })
    address = addressText({ scheme: this.scheme, host: listener.host, port: listener.port })
    const close = async (): Promise<void> => {
      await listener.close()
      halfOpen.close()
    }
    return { address, close }
  }

  async connect(options: ConnectOptions): Promise<Connection> {
    const { address, connectTimeoutMs, signal } = options
    if (address.port === 0)
      throw new CoterieError('ADDRESS_INVALID', `${address.text} has no port to connect to`)
    const attempt = new AbortController()
    let failure: CoterieError | undefined
    const giveUp = (error: CoterieError): void => {
      failure ??= error
      attempt.abort(error)
    }
    const onAbort = (): void => giveUp(abortedError(signal))
    const timer = this.#host.timers.after(connectTimeoutMs, () =>
      giveUp(timeoutError(address, connectTimeoutMs)),
    )
    signal?.addEventListener('abort', onAbort, { once: true })
    if (signal?.aborted === true) onAbort()
    try {
      const stream = await this.#host.streams.connect({
        host: address.host,
        port: address.port,
        signal: attempt.signal,
      })
      return await this.#exchangePrefaces(stream, options, attempt.signal)
    } catch (error) {
      throw failure ?? error
    } finally {
      timer.cancel()
      signal?.removeEventListener('abort', onAbort)
    }
  }

  #exchangePrefaces(stream: Stream, options: ConnectOptions, attempt: AbortSignal): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const connection = new StreamConnection({
        ...this.#connectionParts(stream, options.frameBytesMax),
        remote: options.address.text,
        local: undefined,
        onOpen: (opened) => {
          attempt.removeEventListener('abort', abandon)
          resolve(opened)
        },
        onRefused: (error) => {
          attempt.removeEventListener('abort', abandon)
          reject(error.code === 'CONNECTION_CLOSED' ? refusedError(options.address, error) : error)
        },
      })
      const abandon = (): void => {
        connection.destroy()
        reject(attempt.reason)
      }
      attempt.addEventListener('abort', abandon, { once: true })
      if (attempt.aborted) abandon()
    })
  }

  #connectionParts(stream: Stream, frameBytesMax: number | undefined): ConnectionParts {
    return {
      stream,
      clock: this.#host.clock,
      timers: this.#host.timers,
      protocol: this.#options.protocol ?? protocolRange,
      frameBytesMax: frameBytesMax ?? limits.handshakeFrameBytesMax,
      highWaterBytes: this.#options.highWaterBytes ?? transportDefaults.highWaterBytes,
    }
  }
}

interface Settle {
  opened(): void
  refused(error: CoterieError): void
  closed(): void
}

/** Streams that were accepted and have not become connections; one that was refused counts until it is closed. */
class HalfOpen {
  readonly #host: StreamHost
  readonly #options: ListenOptions
  /** In the order of their coming. */
  readonly #waiting: Set<(error: CoterieError) => void> = new Set()

  constructor(host: StreamHost, options: ListenOptions) {
    this.#host = host
    this.#options = options
  }

  add(remote: string, make: (settle: Settle) => StreamConnection): void {
    const timeoutMs = this.#options.connectTimeoutMs ?? transportDefaults.connectTimeoutMs
    let wasRefused = false
    const refused = (error: CoterieError): void => {
      if (!wasRefused) this.#options.onRefused?.(error)
      wasRefused = true
    }
    const settled = (): void => {
      this.#waiting.delete(drop)
      timer.cancel()
    }
    const connection = make({ opened: settled, refused, closed: settled })
    const drop = (error: CoterieError): void => {
      settled()
      connection.destroy(error)
      refused(error)
    }
    const timer = this.#host.timers.after(timeoutMs, () => drop(silentError(remote, timeoutMs)))
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

function abortedError(signal: AbortSignal | undefined): CoterieError {
  return new CoterieError('ABORTED', 'the connect was aborted', { cause: signal?.reason })
}

function timeoutError(address: Address, connectTimeoutMs: number): CoterieError {
  return new CoterieError('CONNECT_TIMEOUT', `${address.text} did not answer within ${connectTimeoutMs} ms`, {
    details: { address: address.text, connectTimeoutMs },
  })
}

function refusedError(address: Address, cause: CoterieError): CoterieError {
  return new CoterieError('CONNECT_FAILED', `${address.text} closed the connection before it answered`, {
    cause,
    details: { address: address.text },
  })
}
