// One side of a simulated connection. It keeps the rules of `Connection`; what happens between the two sides is the
// network's. Bytes that the other side has not taken count as buffered here, so a reader that stalls pushes back.

import { emptyBytes } from '../base/bytes.ts'
import { CoterieError } from '../base/errors.ts'
import { limits } from '../base/limits.ts'
import type { Timer } from '../env/host.ts'
import type { SimulatedHost } from '../env/simulated/simulated-host.ts'
import { frameHeaderBytes } from '../transport/frame.ts'
import { protocolRange } from '../transport/preface.ts'
import { type Connection, type ConnectionHandlers, transportDefaults } from '../transport/transport.ts'
import type { Link, Message, Wire } from './network-link.ts'

/** How the other side ended. */
export type Ending = 'ended' | 'destroyed'

export interface ConnectionSideOptions {
  readonly host: SimulatedHost
  /** From this side to the other. */
  readonly link: Link
  readonly back: Link
  readonly number: number
  readonly remote: string
  readonly local: string | undefined
  readonly frameBytesMax: number | undefined
}

const highWaterBytes = 65_536
const drainPollMs = 5

export class ConnectionSide implements Connection {
  readonly remote: string
  readonly local: string | undefined
  readonly protocolVersion: number = protocolRange.newest
  readonly host: SimulatedHost
  readonly link: Link
  readonly number: number
  peer: ConnectionSide = this
  /** As `lastHeardMs`, in true time. */
  heardAtMs: number
  readonly #wire: Wire
  readonly #back: Link
  #frameBytesMax: number
  #handlers: ConnectionHandlers | undefined
  #state: 'open' | 'ending' | 'closed' = 'open'
  #error: CoterieError | undefined
  #inbox: Message[] = []
  #inboxBytes = 0
  #paused: boolean = false
  /** The other side ended in order: closed as soon as the inbox is empty. */
  #peerEnded: boolean = false
  #drainOwed: boolean = false
  #closedReported: boolean = false
  #bytesIn = 0
  #bytesOut = 0
  #lastHeardMs: number
  #linger: Timer | undefined
  #ended: Promise<void> | undefined
  #reportEnd: (() => void) | undefined

  constructor(wire: Wire, options: ConnectionSideOptions) {
    this.#wire = wire
    this.host = options.host
    this.link = options.link
    this.#back = options.back
    this.number = options.number
    this.remote = options.remote
    this.local = options.local
    this.#frameBytesMax = options.frameBytesMax ?? limits.handshakeFrameBytesMax
    this.#lastHeardMs = options.host.clock.now()
    this.heardAtMs = wire.clock.now()
  }

  get handlers(): ConnectionHandlers {
    if (this.#handlers === undefined) throw new TypeError('the connection has no handlers yet')
    return this.#handlers
  }

  set handlers(handlers: ConnectionHandlers) {
    const isFirst = this.#handlers === undefined
    this.#handlers = handlers
    if (!isFirst) return
    if (this.#state === 'closed') this.host.deliver(0, () => this.#reportClosed())
    else this.#deliverSoon()
  }

  get bufferedBytes(): number {
    if (this.#state === 'closed') return 0
    const { link } = this
    const leaving = Math.max(0, link.lastDepartureMs - this.#wire.clock.now()) * link.faults.bytesPerMs
    return this.peer.#inboxBytes + leaving + link.heldBytes
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
    const message = { control, payload, bytes: frameHeaderBytes + control.length + payload.length }
    this.#bytesOut += message.bytes
    this.#wire.transmit(this.link, this.number, message, this.#arriveThere)
    if (this.bufferedBytes <= highWaterBytes) return true
    this.#oweDrain()
    return false
  }

  readonly #arriveThere = (message: Message): void => this.peer.#arrive(message)

  acceptFramesUpTo(bytes: number): void {
    this.#frameBytesMax = bytes
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    this.#deliverSoon()
  }

  end(): Promise<void> {
    if (this.#ended !== undefined) return this.#ended
    if (this.#state === 'closed') return Promise.resolve()
    this.#ended = new Promise((resolve) => {
      this.#reportEnd = resolve
    })
    this.#dropInbox()
    if (this.#peerEnded) {
      this.tellPeer('ended')
      this.#close(undefined)
      return this.#ended
    }
    this.#state = 'ending'
    this.tellPeer('ended')
    this.#linger = this.host.timers.after(transportDefaults.lingerMs, () => {
      this.destroy(closedError(this.remote, 'the other side did not take the rest in time'))
    })
    return this.#ended
  }

  destroy(error?: Error): void {
    if (this.#state === 'closed') return
    this.tellPeer('destroyed')
    this.#close(
      error === undefined || error instanceof CoterieError ? error : closedError(this.remote, error.message),
    )
  }

  /** The connection breaks on its way: this side learns of it now. */
  breakOff(): void {
    this.host.run(() => this.#close(closedError(this.remote, 'the connection was reset')))
  }

  /** The system tells the other side that this one is gone. */
  tellPeer(ending: Ending): void {
    if (this.#wire.halfOpenChance > 0 && this.#wire.prng.chance(this.#wire.halfOpenChance)) {
      this.#wire.counts.halfOpen++
      return
    }
    this.#wire.carry(this.link, () => this.peer.#hearEnding(ending))
  }

  #hearEnding(ending: Ending): void {
    this.host.run(() => {
      if (this.#state === 'closed') return
      if (ending === 'destroyed') {
        this.#close(closedError(this.remote, 'the other side destroyed it'))
      } else if (this.#state === 'ending') {
        this.#close(undefined)
      } else {
        this.#peerEnded = true
        this.#closeIfEmpty()
      }
    })
  }

  #closeIfEmpty(): void {
    if (!this.#peerEnded || this.#state !== 'open' || this.#inbox.length > 0) return
    this.tellPeer('ended')
    this.#close(undefined)
  }

  #arrive(message: Message): void {
    if (!this.host.alive || this.#state === 'closed') {
      // The system knows of no such connection, and says so, if there is one.
      if (this.#wire.isUp(this.link.from)) {
        this.#wire.carry(this.link, () => this.peer.breakOff())
      }
      return
    }
    // What comes after `end` was called is taken, and dropped.
    if (this.#state === 'ending') return
    this.#inboxBytes += message.bytes
    this.#inbox.push(message)
    if (!this.#paused && this.#handlers !== undefined) this.host.run(this.#deliver)
  }

  #deliverSoon(): void {
    if (this.#inbox.length > 0 || this.#peerEnded) this.host.deliver(0, this.#deliver)
  }

  readonly #deliver = (): void => {
    const inbox = this.#inbox
    // One at a time: what a message brings about comes before the next, as it does between two reads of a socket.
    if (inbox.length > 0 && this.#handlers !== undefined && !this.#paused && this.#state === 'open') {
      const message = inbox.shift() as Message
      this.#inboxBytes -= message.bytes
      this.#bytesIn += message.bytes
      this.#lastHeardMs = this.host.clock.now()
      this.heardAtMs = this.#wire.clock.now()
      const messageBytes = message.control.length + message.payload.length
      if (messageBytes > this.#frameBytesMax) this.#refuse(messageBytes)
      else {
        this.#wire.delivered(this.#back, this.number, message)
        this.#handlers.message(message.control, message.payload)
      }
      if (inbox.length > 0) this.host.deliver(0, this.#deliver)
    }
    if (this.#handlers !== undefined && !this.#paused) this.#closeIfEmpty()
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

  #oweDrain(): void {
    if (this.#drainOwed) return
    this.#drainOwed = true
    const poll = (): void => {
      if (this.#state !== 'open') return
      if (this.bufferedBytes > 0) {
        this.host.deliver(drainPollMs, poll)
        return
      }
      this.#drainOwed = false
      this.#handlers?.drain()
    }
    this.host.deliver(drainPollMs, poll)
  }

  #dropInbox(): void {
    this.#inbox = []
    this.#inboxBytes = 0
  }

  #close(error: CoterieError | undefined): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#error = error
    this.#linger?.cancel()
    this.#dropInbox()
    this.#wire.closed(this)
    this.host.deliver(0, () => {
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

function closedError(remote: string, why: string): CoterieError {
  return new CoterieError('CONNECTION_CLOSED', `the connection to ${remote} was lost: ${why}`)
}
