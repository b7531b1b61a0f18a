// A connection over a byte stream on which both sides have said what they speak (stream-opening.ts): the frames of
// frame.ts. It is the same over every kind of stream.
//
// How it fails: an invalid frame ends this connection and nothing else; a broken stream ends it with CONNECTION_CLOSED.
// Nothing is tried again here. Memory stays below the bound on frames and what the peer really sent: no byte is set
// aside because a header claims that it will come.

import { emptyBytes } from '../base/bytes.ts'
import { asError, CoterieError } from '../base/errors.ts'
import type { Clock, CompressionFormat, Stream, Timer, Timers } from '../env/host.ts'
import { FrameReader } from './frame.ts'
import { OutgoingFrames } from './outgoing-frames.ts'
import { type Connection, type ConnectionHandlers, transportDefaults } from './transport.ts'

/** Bytes of a stream, in both directions. */
export interface Traffic {
  readonly bytesIn: number
  readonly bytesOut: number
}

export interface StreamConnectionOptions {
  readonly stream: Stream
  readonly clock: Clock
  readonly timers: Timers
  readonly remote: string
  readonly local: string | undefined
  readonly protocolVersion: number
  readonly compression: 'none' | CompressionFormat
  readonly peerNames: readonly string[] | undefined
  readonly frameBytesMax: number
  readonly highWaterBytes: number
  /** What went over the stream until now. */
  readonly before: Traffic
  /** What of it has come and belongs to frames. */
  readonly received: Uint8Array
  /** Counts in this one's place, where frames are not what goes over the wire. */
  readonly traffic?: Traffic
}

export class StreamConnection implements Connection {
  readonly remote: string
  readonly local: string | undefined
  readonly protocolVersion: number
  readonly compression: 'none' | CompressionFormat
  readonly peerNames: readonly string[] | undefined
  readonly #options: StreamConnectionOptions
  readonly #stream: Stream
  readonly #highWaterBytes: number
  readonly #reader: FrameReader
  readonly #outgoing: OutgoingFrames = new OutgoingFrames()
  #state: 'open' | 'ending' | 'closed' = 'open'
  #handlers: ConnectionHandlers | undefined
  #paused: boolean = false
  #streamPaused: boolean = false
  #delivering: boolean = false
  #flushAsked: boolean = false
  #drainOwed: boolean = false
  #error: CoterieError | undefined
  #bytesIn = 0
  #bytesOut = 0
  #lastHeardMs: number
  #ended: Promise<void> | undefined
  #linger: Timer | undefined
  #reportEnd: (() => void) | undefined

  constructor(options: StreamConnectionOptions) {
    this.#options = options
    this.#stream = options.stream
    this.remote = options.remote
    this.local = options.local
    this.protocolVersion = options.protocolVersion
    this.compression = options.compression
    this.peerNames = options.peerNames
    this.#highWaterBytes = options.highWaterBytes
    this.#reader = new FrameReader({ boundBytes: options.frameBytesMax })
    this.#reader.push(options.received)
    this.#bytesIn = options.before.bytesIn
    this.#bytesOut = options.before.bytesOut
    this.#lastHeardMs = options.clock.now()
    this.#stream.handlers = {
      data: (bytes) => this.#received(bytes),
      drain: () => this.#drained(),
      closed: (error) => this.#streamClosed(error),
    }
    // Until somebody takes the messages.
    this.#pauseStream()
  }

  get handlers(): ConnectionHandlers {
    if (this.#handlers === undefined) throw new TypeError('the connection has no handlers yet')
    return this.#handlers
  }

  set handlers(handlers: ConnectionHandlers) {
    const isFirst = this.#handlers === undefined
    this.#handlers = handlers
    if (!isFirst) return
    queueMicrotask(() => {
      if (this.#state === 'closed') handlers.closed(this.#error)
      else this.#deliver()
    })
  }

  get bufferedBytes(): number {
    return this.#outgoing.bytes + this.#stream.bufferedBytes
  }

  get bytesIn(): number {
    return this.#options.traffic?.bytesIn ?? this.#bytesIn
  }

  get bytesOut(): number {
    return this.#options.traffic?.bytesOut ?? this.#bytesOut
  }

  get lastHeardMs(): number {
    return this.#lastHeardMs
  }

  send(control: Uint8Array, payload: Uint8Array = emptyBytes): boolean {
    if (this.#state !== 'open') return false
    this.#bytesOut += this.#outgoing.add(control, payload)
    if (!this.#flushAsked) {
      this.#flushAsked = true
      queueMicrotask(() => this.#flush())
    }
    if (this.bufferedBytes <= this.#highWaterBytes) return true
    this.#drainOwed = true
    return false
  }

  acceptFramesUpTo(bytes: number): void {
    this.#reader.boundBytes = bytes
  }

  pause(): void {
    this.#paused = true
    this.#pauseStream()
  }

  resume(): void {
    this.#paused = false
    this.#deliver()
  }

  end(): Promise<void> {
    if (this.#ended !== undefined) return this.#ended
    if (this.#state === 'closed') return Promise.resolve()
    this.#ended = new Promise((resolve) => {
      this.#reportEnd = resolve
    })
    this.#endStream()
    return this.#ended
  }

  destroy(error?: Error): void {
    if (this.#state === 'closed') return
    if (error !== undefined) this.#error ??= asConnectionError(error, this.remote)
    this.#state = 'ending'
    this.#outgoing.takeAll()
    this.#reader.clear()
    this.#stream.destroy()
  }

  #received(bytes: Uint8Array): void {
    this.#bytesIn += bytes.length
    this.#lastHeardMs = this.#options.clock.now()
    if (this.#state !== 'open') return
    this.#reader.push(bytes)
    this.#deliver()
  }

  /** Hands over whole frames until none is left or the receiver wants no more; then lets the stream go on. */
  #deliver(): void {
    if (this.#delivering || this.#handlers === undefined) return
    this.#delivering = true
    try {
      while (!this.#paused && this.#state === 'open') {
        const found = this.#reader.next()
        if (found === 'frame') this.#handlers.message(this.#reader.control, this.#reader.payload)
        else if (found === 'invalid') this.destroy(this.#reader.error)
        else {
          this.#resumeStream()
          return
        }
      }
    } finally {
      this.#delivering = false
    }
  }

  #pauseStream(): void {
    if (this.#streamPaused || this.#state !== 'open') return
    this.#streamPaused = true
    this.#stream.pause()
  }

  #resumeStream(): void {
    if (!this.#streamPaused) return
    this.#streamPaused = false
    this.#stream.resume()
  }

  #flush(): void {
    this.#flushAsked = false
    if (this.#outgoing.bytes === 0) return
    const hasRoom = this.#stream.write(this.#outgoing.takeAll())
    // A host with room tells nobody that it has drained.
    if (hasRoom && this.#drainOwed) this.#options.timers.soon(() => this.#drained())
  }

  #drained(): void {
    if (!this.#drainOwed || this.#state !== 'open') return
    this.#drainOwed = false
    this.#handlers?.drain()
  }

  #endStream(): void {
    this.#flush()
    this.#state = 'ending'
    this.#reader.clear()
    this.#stream.end()
    // The other side's end is read, and what it still says is dropped: closing with unread bytes would tear down
    // the connection under what it has yet to read.
    this.#resumeStream()
    this.#linger = this.#options.timers.after(transportDefaults.lingerMs, () => {
      this.#error ??= closedError(this.remote, 'the other side did not take the rest in time')
      this.#stream.destroy()
    })
  }

  #streamClosed(cause: Error | undefined): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#linger?.cancel()
    this.#outgoing.takeAll()
    if (cause !== undefined) this.#error ??= asConnectionError(cause, this.remote)
    else if (this.#reader.isInsideFrame) this.#error ??= closedError(this.remote, 'it ended inside a message')
    this.#reader.clear()
    this.#handlers?.closed(this.#error)
    this.#reportEnd?.()
  }
}

function asConnectionError(error: Error, remote: string): CoterieError {
  return error instanceof CoterieError ? error : closedError(remote, error.message, asError(error))
}

export function closedError(remote: string, reason: string, cause?: Error): CoterieError {
  return new CoterieError('CONNECTION_CLOSED', `the connection to ${remote} was lost: ${reason}`, {
    details: { remote },
    ...(cause === undefined ? {} : { cause }),
  })
}
