// A host whose network a test can cut off, as if its cable were pulled: nothing comes and nothing goes, and nobody is
// told. When it is plugged in again the old connections are dead, and new ones can be made.

import { CoterieError } from '../../src/base/errors.ts'
import type { DatagramSocket, Datagrams } from '../../src/env/datagrams.ts'
import type {
  Host,
  Stream,
  StreamConnectOptions,
  StreamHandlers,
  StreamListener,
  StreamListenOptions,
} from '../../src/env/host.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'

export class CutHost {
  readonly host: Host
  readonly #streams = new Set<CutStream>()
  #isCut = false
  /** Connections that were made while it was cut, in either direction: they hang. */
  #hanging: (() => void)[] = []

  constructor() {
    const real = nodeHost()
    const listen = (
      options: StreamListenOptions,
      onStream: (stream: Stream) => void,
    ): Promise<StreamListener> =>
      real.streams.listen(options, (stream) => {
        if (this.#isCut) {
          stream.handlers = { data() {}, drain() {}, closed() {} }
          this.#hanging.push(() => stream.destroy())
        } else onStream(this.#wrapped(stream))
      })
    const connect = async (options: StreamConnectOptions): Promise<Stream> => {
      if (this.#isCut) await this.#hang(options.signal)
      const stream = this.#wrapped(await real.streams.connect(options))
      if (this.#isCut) stream.cut()
      return stream
    }
    this.host = { ...real, streams: { listen, connect } }
    if (real.datagrams !== undefined) Object.assign(this.host, { datagrams: this.#cutting(real.datagrams) })
  }

  /** Nobody is told of a datagram that is lost, so there is nothing to break when it is plugged in again. */
  #cutting(real: Datagrams): Datagrams {
    const wrapped = (socket: DatagramSocket): DatagramSocket => {
      const isCut = (): boolean => this.#isCut
      return {
        host: socket.host,
        port: socket.port,
        receiveBufferBytes: socket.receiveBufferBytes,
        get handlers() {
          return socket.handlers
        },
        set handlers(handlers) {
          socket.handlers = {
            message: (datagram, host, port) => {
              if (!isCut()) handlers.message(datagram, host, port)
            },
            failed: (error) => handlers.failed(error),
          }
        },
        send: (datagram, to) => {
          if (!isCut()) socket.send(datagram, to)
        },
        close: () => socket.close(),
      }
    }
    return {
      bind: async (options) => wrapped(await real.bind(options)),
      connect: async (options) => wrapped(await real.connect(options)),
      join: async (options) => wrapped(await real.join(options)),
    }
  }

  #wrapped(stream: Stream): CutStream {
    const wrapped = new CutStream(stream, () => this.#streams.delete(wrapped))
    this.#streams.add(wrapped)
    return wrapped
  }

  #hang(signal: AbortSignal | undefined): Promise<never> {
    return new Promise((_, reject) => {
      const fail = (): void => reject(new CoterieError('CONNECT_FAILED', 'the network is down'))
      this.#hanging.push(fail)
      signal?.addEventListener('abort', fail, { once: true })
    })
  }

  cut(): void {
    this.#isCut = true
    for (const stream of this.#streams) stream.cut()
  }

  heal(): void {
    this.#isCut = false
    for (const stream of [...this.#streams]) stream.breakIfCut()
    for (const end of this.#hanging.splice(0)) end()
  }
}

class CutStream implements Stream {
  readonly remote: string
  readonly #stream: Stream
  readonly #onClosed: () => void
  #isCut = false
  /** This side has let go of it. */
  #isGone = false
  /** The other side has ended it meanwhile; the word of that does not pass before this side asks. */
  #held: (() => void) | undefined

  constructor(stream: Stream, onClosed: () => void) {
    this.remote = stream.remote
    this.#stream = stream
    this.#onClosed = onClosed
  }

  get bufferedBytes(): number {
    return this.#stream.bufferedBytes
  }

  get handlers(): StreamHandlers {
    return this.#stream.handlers
  }

  set handlers(handlers: StreamHandlers) {
    this.#stream.handlers = {
      secured: (proof) => {
        if (!this.#isCut) handlers.secured?.(proof)
      },
      data: (bytes) => {
        if (!this.#isCut) handlers.data(bytes)
      },
      drain: () => handlers.drain(),
      closed: (error) => {
        const tell = (): void => {
          this.#onClosed()
          handlers.closed(error)
        }
        if (this.#isCut && !this.#isGone) this.#held = tell
        else tell()
      },
    }
  }

  cut(): void {
    this.#isCut = true
  }

  breakIfCut(): void {
    if (this.#isCut) this.destroy()
  }

  write(parts: readonly Uint8Array[]): boolean {
    return this.#isCut ? true : this.#stream.write(parts)
  }

  pause(): void {
    this.#stream.pause()
  }

  resume(): void {
    this.#stream.resume()
  }

  end(): void {
    if (this.#isCut) this.destroy()
    else this.#stream.end()
  }

  destroy(): void {
    this.#isGone = true
    const held = this.#held
    this.#held = undefined
    if (held === undefined) this.#stream.destroy()
    else queueMicrotask(held)
  }
}
