// What happens on a byte stream before it is a connection: each side says what it speaks (preface.ts), and judges what
// the other one said. Only then is there a StreamConnection, and only it knows messages.
//
// How it fails: the stream is ended in order, so that the other side has what it needs to see for itself why, and
// `onRefused` hears the reason. A peer that says nothing is the listener's to bound, in number and in time.

import { asError, CoterieError } from '../base/errors.ts'
import type { Host, Stream, Timer } from '../env/host.ts'
import { encodePreface, PrefaceReader, type ProtocolRange } from './preface.ts'
import { closedError, StreamConnection } from './stream-connection.ts'
import { transportDefaults } from './transport.ts'

export interface StreamOpeningOptions {
  readonly stream: Stream
  readonly host: Pick<Host, 'clock' | 'timers'>
  readonly remote: string
  readonly local: string | undefined
  readonly protocol: ProtocolRange
  readonly frameBytesMax: number
  readonly highWaterBytes?: number
  /** Sets the connection's handlers, or it waits for them. */
  onOpen(connection: StreamConnection): void
  /** It ended before it was open. */
  onRefused(error: CoterieError): void
  /** The stream is closed without ever having been open. */
  onClosed?(): void
}

export class StreamOpening {
  readonly #options: StreamOpeningOptions
  readonly #stream: Stream
  readonly #preface: PrefaceReader
  #state: 'preface' | 'open' | 'refused' | 'closed' = 'preface'
  #error: CoterieError | undefined
  #linger: Timer | undefined
  #bytesIn = 0
  #bytesOut = 0

  constructor(options: StreamOpeningOptions) {
    this.#options = options
    this.#stream = options.stream
    this.#preface = new PrefaceReader(options.protocol)
    this.#stream.handlers = {
      data: (bytes) => this.#received(bytes),
      drain: () => undefined,
      closed: (error) => this.#closed(error),
    }
    this.#write(encodePreface(options.protocol))
  }

  /** Gives up: nothing is told but `error`, to this side. */
  destroy(error: CoterieError): void {
    if (this.#state === 'open' || this.#state === 'closed') return
    this.#error ??= error
    this.#stream.destroy()
  }

  #write(bytes: Uint8Array): void {
    this.#bytesOut += bytes.length
    this.#stream.write([bytes])
  }

  #received(bytes: Uint8Array): void {
    this.#bytesIn += bytes.length
    // What still comes after a refusal is read and dropped: closing with unread bytes would tear down the connection
    // under what the other side has yet to read.
    if (this.#state !== 'preface') return
    try {
      const read = this.#preface.push(bytes)
      if (read !== undefined) this.#open(read.version, read.rest)
    } catch (error) {
      if (!(error instanceof CoterieError)) throw error
      this.#refuse(error)
    }
  }

  #open(protocolVersion: number, rest: Uint8Array): void {
    const { host, remote, local, frameBytesMax, highWaterBytes } = this.#options
    this.#state = 'open'
    const connection = new StreamConnection({
      stream: this.#stream,
      clock: host.clock,
      timers: host.timers,
      remote,
      local,
      protocolVersion,
      frameBytesMax,
      highWaterBytes: highWaterBytes ?? transportDefaults.highWaterBytes,
      before: { bytesIn: this.#bytesIn, bytesOut: this.#bytesOut },
      received: rest,
    })
    this.#options.onOpen(connection)
  }

  #refuse(error: CoterieError): void {
    this.#state = 'refused'
    this.#error = error
    this.#stream.end()
    this.#linger = this.#options.host.timers.after(transportDefaults.lingerMs, () => this.#stream.destroy())
    this.#options.onRefused(error)
  }

  #closed(cause: Error | undefined): void {
    const before = this.#state
    if (before === 'closed') return
    this.#state = 'closed'
    this.#linger?.cancel()
    if (before !== 'refused') this.#options.onRefused(this.#error ?? this.#endedEarly(cause))
    this.#options.onClosed?.()
  }

  #endedEarly(cause: Error | undefined): CoterieError {
    if (cause instanceof CoterieError) return cause
    const { remote } = this.#options
    if (cause !== undefined) return closedError(remote, cause.message, asError(cause))
    return closedError(remote, 'it did not say what it speaks')
  }
}
