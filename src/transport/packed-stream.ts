// A stream whose bytes are compressed on their way: to whom uses it, a stream like others. There is one context for each
// direction for as long as it lasts, so small messages profit from those before them; what leaves in one write is
// flushed as one, and waits for nothing.
//
// Backpressure goes through it: while the stream below takes no more, the compressor gives nothing out; while nobody
// takes what comes in, the decompressor works nothing out and the stream below is not read. So what is held is bounded
// by `heldBytesMax` in each direction and a chunk of the host's, whatever the other side has compressed how well.
//
// How it fails: bytes that are not of the format end it with FRAME_INVALID. An orderly end is told when all that came
// before it has been given out; any other one at once.

import { CoterieError } from '../base/errors.ts'
import type { Compression, CompressionFormat, Packer, Stream, StreamHandlers } from '../env/host.ts'

const heldBytesMax = 262_144

export interface PackedStreamOptions {
  readonly stream: Stream
  readonly compression: Compression
  readonly format: CompressionFormat
  /** What went over the stream until now. */
  readonly before: { readonly bytesIn: number; readonly bytesOut: number }
}

export class PackedStream implements Stream {
  readonly remote: string
  bytesIn: number
  bytesOut: number
  readonly #stream: Stream
  readonly #compressor: Packer
  readonly #decompressor: Packer
  #handlers: StreamHandlers | undefined
  /** Writes that are not worked out yet. */
  #writes = 0
  /** Chunks received that are not. */
  #reads = 0
  #streamIsFull: boolean = false
  #streamIsPaused: boolean = false
  #paused: boolean = false
  #drainOwed: boolean = false
  #ending: boolean = false
  #endAsked: boolean = false
  #destroyed: boolean = false
  /** The stream below has closed in order, and all of it is to be given out first. */
  #streamEnded: boolean = false
  #error: Error | undefined
  #closed: boolean = false

  constructor(options: PackedStreamOptions) {
    const { stream, compression, format, before } = options
    this.remote = stream.remote
    this.bytesIn = before.bytesIn
    this.bytesOut = before.bytesOut
    this.#stream = stream
    const failed = (error: Error): void => this.#fail(error)
    this.#compressor = compression.compressor(format, { data: (bytes) => this.#compressed(bytes), failed })
    this.#decompressor = compression.decompressor(format, { data: (bytes) => this.#unpacked(bytes), failed })
    stream.handlers = {
      data: (bytes) => this.receive(bytes),
      drain: () => this.#streamDrained(),
      closed: (error) => this.#streamClosed(error),
    }
  }

  get bufferedBytes(): number {
    return this.#compressor.bufferedBytes + this.#stream.bufferedBytes
  }

  get handlers(): StreamHandlers {
    if (this.#handlers === undefined) throw new TypeError('the stream has no handlers yet')
    return this.#handlers
  }

  set handlers(handlers: StreamHandlers) {
    this.#handlers = handlers
  }

  write(parts: readonly Uint8Array[]): boolean {
    if (this.#ending || this.#closed) return false
    this.#writes++
    this.#compressor.write(parts, () => {
      this.#writes--
      this.#endIfDone()
      this.#drainIfRoom()
    })
    if (this.#hasRoom) return true
    this.#drainOwed = true
    return false
  }

  /** Takes what has come from the other side. */
  receive(bytes: Uint8Array): void {
    if (this.#closed) return
    this.bytesIn += bytes.length
    this.#reads++
    this.#decompressor.write([bytes], () => {
      this.#reads--
      this.#readOn()
      this.#closeIfDone()
    })
    if (this.#decompressor.bufferedBytes > heldBytesMax) this.#pauseStream()
  }

  pause(): void {
    this.#paused = true
    this.#decompressor.pause()
    this.#pauseStream()
  }

  resume(): void {
    this.#paused = false
    this.#decompressor.resume()
    this.#readOn()
  }

  end(): void {
    this.#ending = true
    this.#endIfDone()
  }

  destroy(): void {
    this.#destroyed = true
    this.#compressor.destroy()
    this.#decompressor.destroy()
    this.#stream.destroy()
  }

  get #hasRoom(): boolean {
    return !this.#streamIsFull && this.#compressor.bufferedBytes <= heldBytesMax
  }

  #compressed(bytes: Uint8Array): void {
    this.bytesOut += bytes.length
    if (!this.#stream.write([bytes])) {
      this.#streamIsFull = true
      this.#compressor.pause()
    }
    this.#endIfDone()
  }

  #streamDrained(): void {
    this.#streamIsFull = false
    this.#compressor.resume()
    this.#drainIfRoom()
  }

  #drainIfRoom(): void {
    if (!this.#drainOwed || !this.#hasRoom) return
    this.#drainOwed = false
    this.#handlers?.drain()
  }

  #endIfDone(): void {
    if (!this.#ending || this.#endAsked || this.#writes > 0 || this.#compressor.bufferedBytes > 0) return
    this.#endAsked = true
    this.#stream.end()
  }

  #unpacked(bytes: Uint8Array): void {
    this.#handlers?.data(bytes)
    this.#closeIfDone()
  }

  #pauseStream(): void {
    if (this.#streamIsPaused) return
    this.#streamIsPaused = true
    this.#stream.pause()
  }

  #readOn(): void {
    if (this.#paused || !this.#streamIsPaused || this.#decompressor.bufferedBytes > heldBytesMax) return
    this.#streamIsPaused = false
    this.#stream.resume()
  }

  #fail(cause: Error): void {
    this.#error ??= new CoterieError(
      'FRAME_INVALID',
      `what came is not what was agreed on: ${cause.message}`,
      {
        cause,
      },
    )
    this.destroy()
  }

  #streamClosed(error: Error | undefined): void {
    this.#streamEnded = true
    this.#error ??= error
    this.#closeIfDone()
  }

  #closeIfDone(): void {
    if (!this.#streamEnded || this.#closed) return
    const isDone = this.#reads === 0 && this.#decompressor.bufferedBytes === 0
    if (this.#error === undefined && !this.#destroyed && !isDone) return
    this.#closed = true
    this.#compressor.destroy()
    this.#decompressor.destroy()
    this.#handlers?.closed(this.#error)
  }
}
