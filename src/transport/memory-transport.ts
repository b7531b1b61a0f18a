// Messages within one process, under `memory://name`. Behaves as TCP does to its users: messages are copied, come
// later (never inside `send`), back up when the receiver pauses, and are lost when a side destroys the connection.
// Order and time depend only on `timers.soon`, so a simulated host makes a run repeatable.

import { emptyBytes } from '../base/bytes.ts'
import { CoterieError } from '../base/errors.ts'
import { limits } from '../base/limits.ts'
import type { Host, Timer } from '../env/host.ts'
import { frameHeaderBytes } from './frame.ts'
import { checkLink, type LinkOption } from './link-check.ts'
import { protocolRange } from './preface.ts'
import { closedError } from './stream-connection.ts'
import {
  type Connection,
  type ConnectionHandlers,
  type ConnectOptions,
  type Listener,
  type ListenOptions,
  type Transport,
  transportDefaults,
} from './transport.ts'

export type TimedHost = Pick<Host, 'clock' | 'timers'>

export interface MemoryTransportOptions {
  /** Names are known within one network. Default: the one of the process. */
  readonly network?: MemoryNetwork
  /** What `send` lets wait before it returns false. Default 1 MiB. */
  readonly highWaterBytes?: number
}

/** The names that somebody listens on. */
export class MemoryNetwork {
  readonly listeners: Map<string, ListenOptions> = new Map()
  connections = 0
}

const processNetwork = new MemoryNetwork()

export function memoryTransport(host: TimedHost, options: MemoryTransportOptions = {}): Transport {
  return new MemoryTransport(host, options)
}

class MemoryTransport implements Transport {
  readonly scheme: string = 'memory'
  /** There is nobody on the way from whom a message could be protected, and nothing to save. */
  readonly takes: readonly LinkOption[] = []
  readonly #host: TimedHost
  readonly #network: MemoryNetwork
  readonly #highWaterBytes: number

  constructor(host: TimedHost, options: MemoryTransportOptions) {
    this.#host = host
    this.#network = options.network ?? processNetwork
    this.#highWaterBytes = options.highWaterBytes ?? transportDefaults.highWaterBytes
  }

  async listen(options: ListenOptions): Promise<Listener> {
    checkLink(options.link, this)
    const { text } = options.address
    const { listeners } = this.#network
    if (listeners.has(text)) {
      throw new CoterieError('ADDRESS_IN_USE', `somebody listens on ${text} already`, {
        details: { address: text },
      })
    }
    listeners.set(text, options)
    const close = async (): Promise<void> => {
      if (listeners.get(text) === options) listeners.delete(text)
    }
    return { address: text, close }
  }

  async connect(options: ConnectOptions): Promise<Connection> {
    checkLink(options.link, this)
    const { address, signal } = options
    return await new Promise((resolve, reject) => {
      const aborted = (): void =>
        reject(new CoterieError('ABORTED', 'the connect was aborted', { cause: signal?.reason }))
      if (signal?.aborted === true) {
        aborted()
        return
      }
      signal?.addEventListener('abort', aborted, { once: true })
      this.#host.timers.soon(() => {
        signal?.removeEventListener('abort', aborted)
        if (signal?.aborted === true) return
        const listening = this.#network.listeners.get(address.text)
        if (listening === undefined) {
          reject(
            new CoterieError('CONNECT_FAILED', `nobody listens on ${address.text}`, {
              details: { address: address.text },
            }),
          )
          return
        }
        const [near, far] = this.#pair(options, listening)
        listening.onConnection(far)
        resolve(near)
      })
    })
  }

  #pair(connecting: ConnectOptions, listening: ListenOptions): [MemoryConnection, MemoryConnection] {
    const { text } = connecting.address
    const shared = { host: this.#host, highWaterBytes: this.#highWaterBytes }
    const near = new MemoryConnection({
      ...shared,
      remote: text,
      local: undefined,
      frameBytesMax: connecting.frameBytesMax ?? limits.handshakeFrameBytesMax,
    })
    const far = new MemoryConnection({
      ...shared,
      remote: `${text}#${++this.#network.connections}`,
      local: text,
      frameBytesMax: listening.frameBytesMax ?? limits.handshakeFrameBytesMax,
    })
    near.peer = far
    far.peer = near
    return [near, far]
  }
}

interface MemoryConnectionOptions {
  readonly host: TimedHost
  readonly highWaterBytes: number
  readonly remote: string
  readonly local: string | undefined
  readonly frameBytesMax: number
}

interface Message {
  readonly control: Uint8Array
  readonly payload: Uint8Array
  readonly bytes: number
}

/** One side. What it sends waits in the other side's inbox and counts as buffered here. */
class MemoryConnection implements Connection {
  readonly remote: string
  readonly local: string | undefined
  readonly protocolVersion: number = protocolRange.newest
  peer: MemoryConnection = this
  readonly #host: TimedHost
  readonly #highWaterBytes: number
  #frameBytesMax: number
  #handlers: ConnectionHandlers | undefined
  #state: 'open' | 'ending' | 'closed' = 'open'
  #error: CoterieError | undefined
  #inbox: Message[] = []
  #inboxBytes = 0
  #paused: boolean = false
  #deliveryAsked: boolean = false
  #drainOwed: boolean = false
  #closedReported: boolean = false
  #bytesIn = 0
  #bytesOut = 0
  #lastHeardMs: number
  #linger: Timer | undefined
  #ended: Promise<void> | undefined
  #reportEnd: (() => void) | undefined

  constructor(options: MemoryConnectionOptions) {
    this.#host = options.host
    this.#highWaterBytes = options.highWaterBytes
    this.remote = options.remote
    this.local = options.local
    this.#frameBytesMax = options.frameBytesMax
    this.#lastHeardMs = options.host.clock.now()
  }

  get handlers(): ConnectionHandlers {
    if (this.#handlers === undefined) throw new TypeError('the connection has no handlers yet')
    return this.#handlers
  }

  set handlers(handlers: ConnectionHandlers) {
    const isFirst = this.#handlers === undefined
    this.#handlers = handlers
    if (!isFirst) return
    if (this.#state === 'closed') this.#host.timers.soon(() => this.#reportClosed())
    else this.#askDelivery()
  }

  get bufferedBytes(): number {
    return this.peer.#inboxBytes
  }

  get bytesIn(): number {
    return this.#bytesIn
  }

  get bytesOut(): number {
    return this.#bytesOut
  }

  get lastHeardMs(): number {
    return this.#lastHeardMs
  }

  send(control: Uint8Array, payload: Uint8Array = emptyBytes): boolean {
    if (this.#state !== 'open') return false
    const bytes = frameHeaderBytes + control.length + payload.length
    this.#bytesOut += bytes
    this.peer.#receive({ control: control.slice(), payload: payload.slice(), bytes })
    if (this.bufferedBytes <= this.#highWaterBytes) return true
    this.#drainOwed = true
    return false
  }

  acceptFramesUpTo(bytes: number): void {
    this.#frameBytesMax = bytes
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    this.#askDelivery()
  }

  end(): Promise<void> {
    if (this.#ended !== undefined) return this.#ended
    if (this.#state === 'closed') return Promise.resolve()
    this.#ended = new Promise((resolve) => {
      this.#reportEnd = resolve
    })
    this.#state = 'ending'
    this.#dropInbox()
    if (this.peer.#state === 'ending') {
      this.#closeBoth()
      return this.#ended
    }
    this.peer.#askDelivery()
    this.#linger = this.#host.timers.after(transportDefaults.lingerMs, () => {
      this.destroy(closedError(this.remote, 'the other side did not take the rest in time'))
    })
    return this.#ended
  }

  destroy(error?: Error): void {
    if (this.#state === 'closed') return
    const known = error === undefined || error instanceof CoterieError
    this.#close(known ? error : closedError(this.remote, error.message, error))
    this.peer.#close(closedError(this.peer.remote, 'the other side destroyed it'))
  }

  #receive(message: Message): void {
    if (this.#state === 'ending') {
      // Dropped, and yet it was taken: the other side may have waited for room.
      this.#host.timers.soon(() => this.peer.#drained())
      return
    }
    this.#inbox.push(message)
    this.#inboxBytes += message.bytes
    this.#askDelivery()
  }

  #askDelivery(): void {
    if (this.#deliveryAsked || this.#state !== 'open') return
    this.#deliveryAsked = true
    this.#host.timers.soon(() => this.#deliver())
  }

  #deliver(): void {
    this.#deliveryAsked = false
    const inbox = this.#inbox
    const due = inbox.length
    let taken = 0
    // What comes in meanwhile waits for its turn, as it would on a network.
    while (taken < due && this.#handlers !== undefined && !this.#paused && this.#state === 'open') {
      this.#take(inbox[taken++] as Message, this.#handlers)
    }
    inbox.splice(0, taken)
    this.peer.#drained()
    if (this.#state === 'open' && this.#inbox.length === 0 && this.peer.#state === 'ending') {
      this.#closeBoth()
    }
  }

  #closeBoth(): void {
    this.#close(undefined)
    this.peer.#close(undefined)
  }

  #take(message: Message, handlers: ConnectionHandlers): void {
    this.#inboxBytes -= message.bytes
    this.#bytesIn += message.bytes
    this.#lastHeardMs = this.#host.clock.now()
    const messageBytes = message.control.length + message.payload.length
    if (messageBytes > this.#frameBytesMax) this.#refuse(messageBytes)
    else handlers.message(message.control, message.payload)
  }

  #refuse(messageBytes: number): void {
    this.destroy(
      new CoterieError(
        'FRAME_INVALID',
        `a message of ${messageBytes} bytes is above the bound of ${this.#frameBytesMax}`,
        { details: { boundBytes: this.#frameBytesMax } },
      ),
    )
  }

  #drained(): void {
    if (!this.#drainOwed || this.#state !== 'open' || this.bufferedBytes > 0) return
    this.#drainOwed = false
    this.#handlers?.drain()
  }

  #dropInbox(): void {
    this.#inbox = []
    this.#inboxBytes = 0
    this.#host.timers.soon(() => this.peer.#drained())
  }

  #close(error: CoterieError | undefined): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#error = error
    this.#linger?.cancel()
    this.#inbox = []
    this.#inboxBytes = 0
    this.#host.timers.soon(() => {
      this.#reportClosed()
      this.#reportEnd?.()
    })
  }

  #reportClosed(): void {
    if (this.#handlers === undefined || this.#closedReported) return
    this.#closedReported = true
    this.#handlers.closed(this.#error)
  }
}
