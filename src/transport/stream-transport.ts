// Messages over byte streams. What differs between TCP, pipes and TLS is where the bytes come from, and that is a
// `StreamKind`; all else is here and in the layers of a connection:
//
//   stream and TLS (env) -> stream-opening.ts: who speaks what, and who knows the secret
//     -> packed-stream.ts, where both sides compress -> stream-connection.ts: frames

import { CoterieError } from '../base/errors.ts'
import { limits } from '../base/limits.ts'
import type { Host, Stream, StreamListener, StreamPlace, StreamTls } from '../env/host.ts'
import type { Address } from './address.ts'
import { HalfOpen } from './half-open.ts'
import { checkLink, type LinkOption } from './link-check.ts'
import type { LinkSettings } from './link-options.ts'
import { type ProtocolRange, protocolRange } from './preface.ts'
import { secretBytesOf } from './secret-handshake.ts'
import { StreamOpening, type StreamOpeningOptions } from './stream-opening.ts'
import {
  type Connection,
  type ConnectOptions,
  type Listener,
  type ListenOptions,
  type Transport,
  transportDefaults,
} from './transport.ts'

export type StreamHost = Pick<Host, 'clock' | 'timers' | 'random' | 'crypto' | 'compression' | 'streams'>

export interface StreamTransportOptions {
  /** The versions to speak; others than the default only in tests. */
  readonly protocol?: ProtocolRange
  /** What `send` lets wait before it returns false. Default 1 MiB. */
  readonly highWaterBytes?: number
}

/** One kind of byte stream. */
export interface StreamKind {
  readonly scheme: string
  readonly takes: readonly LinkOption[]
  readonly isTls?: boolean
  /** Errors: ADDRESS_INVALID. */
  place(address: Address, to: 'listen' | 'connect'): StreamPlace
  /** Of a listener. */
  addressOf(listener: StreamListener): string
  /** Of the other side of a stream that was accepted. */
  remoteOf(stream: Stream): string
}

type OpeningParts = Pick<
  StreamOpeningOptions,
  'stream' | 'host' | 'link' | 'isTls' | 'protocol' | 'frameBytesMax' | 'highWaterBytes'
>

export class StreamTransport implements Transport {
  readonly scheme: string
  readonly takes: readonly LinkOption[]
  readonly #kind: StreamKind
  readonly #host: StreamHost
  readonly #options: StreamTransportOptions

  constructor(kind: StreamKind, host: StreamHost, options: StreamTransportOptions = {}) {
    this.scheme = kind.scheme
    this.takes = kind.takes
    this.#kind = kind
    this.#host = host
    this.#options = options
  }

  async listen(options: ListenOptions): Promise<Listener> {
    const kind = this.#kind
    this.#check(options.link)
    const halfOpen = new HalfOpen(this.#host.timers, options)
    let address = options.address.text
    const listener = await this.#host.streams.listen(
      { ...kind.place(options.address, 'listen'), ...this.#tlsOf(options) },
      (stream) => {
        const remote = kind.remoteOf(stream)
        halfOpen.add(
          remote,
          (settle) =>
            new StreamOpening({
              ...this.#openingParts(stream, options),
              role: 'listener',
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
      },
    )
    address = kind.addressOf(listener)
    const close = async (): Promise<void> => {
      await listener.close()
      halfOpen.close()
    }
    return { address, close }
  }

  async connect(options: ConnectOptions): Promise<Connection> {
    const { address, connectTimeoutMs, signal } = options
    this.#check(options.link)
    const place = this.#kind.place(address, 'connect')
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
        ...place,
        ...this.#tlsOf(options),
        signal: attempt.signal,
      })
      return await this.#open(stream, options, attempt.signal)
    } catch (error) {
      throw failure ?? error
    } finally {
      timer.cancel()
      signal?.removeEventListener('abort', onAbort)
    }
  }

  #open(stream: Stream, options: ConnectOptions, attempt: AbortSignal): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const opening = new StreamOpening({
        ...this.#openingParts(stream, options),
        role: 'connector',
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
        opening.destroy(attempt.reason as CoterieError)
        reject(attempt.reason)
      }
      attempt.addEventListener('abort', abandon, { once: true })
      if (attempt.aborted) abandon()
    })
  }

  /** Errors: OPTION_INVALID. */
  #check(link: LinkSettings | undefined): void {
    checkLink(link, this)
    if (link?.secret !== undefined) secretBytesOf(link.secret)
    if (this.#kind.isTls === true && link?.tls === undefined) {
      throw new CoterieError('OPTION_INVALID', `${this.scheme}:// needs the option 'tls'`, {
        details: { option: 'tls', scheme: this.scheme },
      })
    }
  }

  #tlsOf({ address, link }: ListenOptions | ConnectOptions): { tls?: StreamTls & { serverName: string } } {
    if (this.#kind.isTls !== true || link?.tls === undefined) return {}
    return { tls: { ...link.tls, serverName: link.tls.serverName ?? address.host } }
  }

  #openingParts(stream: Stream, options: ListenOptions | ConnectOptions): OpeningParts {
    return {
      stream,
      host: this.#host,
      ...(options.link === undefined ? {} : { link: options.link }),
      isTls: this.#kind.isTls ?? false,
      protocol: this.#options.protocol ?? protocolRange,
      frameBytesMax: options.frameBytesMax ?? limits.handshakeFrameBytesMax,
      highWaterBytes: this.#options.highWaterBytes ?? transportDefaults.highWaterBytes,
    }
  }
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
