// A host whose network a test can cut off, as if its cable were pulled: nothing comes and nothing goes, and nobody is
// told. When it is plugged in again the old connections are dead, and new ones can be made.

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
  }

  #wrapped(stream: Stream): CutStream {
    const wrapped = new CutStream(stream, () => this.#streams.delete(wrapped))
    this.#streams.add(wrapped)
    return wrapped
  }

  #hang(signal: AbortSignal | undefined): Promise<never> {
    return new Promise((_, reject) => {
      const fail = (): void => reject(new Error('the network is down'))
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
        this.#onClosed()
        handlers.closed(error)
      },
    }
  }

  cut(): void {
    this.#isCut = true
  }

  breakIfCut(): void {
    if (this.#isCut) this.#stream.destroy()
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
    this.#stream.end()
  }

  destroy(): void {
    this.#stream.destroy()
  }
}
