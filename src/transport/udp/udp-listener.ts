// One socket that is listened on and all connections that came by it: finds whose each datagram is. A connection is its
// number, given out here, together with the address that it began from; data that names it and comes from elsewhere is
// dropped. What is no hello and no known connection is dropped as well, and never answered.

import { limits } from '../../base/limits.ts'
import type { Ciphers } from '../../env/ciphers.ts'
import type { DatagramPeer, DatagramSocket } from '../../env/datagrams.ts'
import type { Host } from '../../env/host.ts'
import { addressText } from '../address.ts'
import type { ProtocolRange } from '../preface.ts'
import { type Listener, type ListenOptions, transportDefaults } from '../transport.ts'
import { udpBounds } from './bounds.ts'
import { ChannelSender } from './channel-sender.ts'
import { Cookies } from './cookie.ts'
import { HalfOpen, type HalfOpenSession } from './half-open.ts'
import { ServerHandshake } from './handshake.ts'
import { decodeDataHeader } from './packet.ts'
import type { Secrets } from './secrets.ts'
import { UdpConnection } from './udp-connection.ts'

/** Suspects are told to the operator so often at most: anybody can make one. */
const suspectEveryMs = 1000
const cookieKeyBytes = 32

export interface UdpListenerOptions {
  readonly host: Pick<Host, 'clock' | 'timers' | 'random'>
  readonly ciphers: Ciphers
  readonly socket: DatagramSocket
  readonly secrets: Secrets
  readonly protocol: ProtocolRange
  readonly datagramBytes: number
  readonly highWaterBytes: number
  /** To which live records are sent once for all. */
  readonly group: DatagramPeer | undefined
  readonly listening: ListenOptions
  /** One that was closed on the same address and still has connections: this one takes its socket and them over. */
  readonly previous: UdpListener | undefined
  /** The socket is closed. */
  readonly onGone: () => void
}

interface Open {
  readonly connection: UdpConnection
  readonly from: DatagramPeer
  readonly helloKey: string
}

export class UdpListener implements Listener {
  readonly address: string
  readonly #options: UdpListenerOptions
  readonly #socket: DatagramSocket
  readonly #handshake: ServerHandshake
  readonly #halfOpen: HalfOpen
  /** Shared with the one whose connections were taken over. */
  readonly #open: Map<number, Open>
  readonly #openHellos: Set<string>
  #successor: UdpListener | undefined
  readonly #channel: ChannelSender | undefined
  #closed = false
  #lastSuspectMs = Number.NEGATIVE_INFINITY

  constructor(options: UdpListenerOptions) {
    const { socket, ciphers, host, listening, secrets, protocol } = options
    this.#options = options
    this.#socket = socket
    this.#open = options.previous === undefined ? new Map() : options.previous.#open
    this.#openHellos = options.previous === undefined ? new Set() : options.previous.#openHellos
    if (options.previous !== undefined) options.previous.#successor = this
    this.address = addressText({ scheme: 'udp', host: socket.host, port: socket.port })
    const cookies = new Cookies(ciphers, host.random.bytes(cookieKeyBytes))
    this.#handshake = new ServerHandshake({ secrets, cookies, protocol })
    this.#halfOpen = new HalfOpen({
      timers: host.timers,
      max: listening.halfOpenMax ?? transportDefaults.halfOpenMax,
      timeoutMs: listening.connectTimeoutMs ?? udpBounds.halfOpenMs,
      onDropped: (error) => listening.onRefused?.(error),
    })
    const { group } = options
    this.#channel =
      group === undefined
        ? undefined
        : new ChannelSender({
            host,
            ciphers,
            keyed: secrets.keyed,
            group,
            datagramBytes: options.datagramBytes,
            write: (datagram) => socket.send(datagram, group),
          })
    socket.handlers = {
      message: (datagram, from, port) => this.#received(datagram, { host: from, port }),
      // It says which datagram failed for nobody in particular, so it counts as lost.
      failed: () => undefined,
    }
  }

  /** What is kept for those who are not connections yet. */
  get halfOpen(): number {
    return this.#halfOpen.size
  }

  /** The socket stays while connections use it; until the last has ended only this transport can listen there again. */
  async close(): Promise<void> {
    this.#closed = true
    this.#halfOpen.clear()
    this.#closeIfUnused()
  }

  /** The socket of one that was closed and has connections still, for another that listens on the same address. */
  get left(): DatagramSocket | undefined {
    const isLeft = this.#closed && this.#successor === undefined && this.#open.size > 0
    return isLeft ? this.#socket : undefined
  }

  get sendsToGroup(): boolean {
    return this.#channel !== undefined
  }

  #closeIfUnused(): void {
    if (this.#successor !== undefined) this.#successor.#closeIfUnused()
    else if (this.#closed && this.#open.size === 0) {
      this.#socket.close()
      this.#options.onGone()
    }
  }

  #received(datagram: Uint8Array, from: DatagramPeer): void {
    const header = decodeDataHeader(datagram)
    if (header === undefined) {
      if (!this.#closed) this.#greeted(datagram, from)
      return
    }
    const open = this.#open.get(header.id)
    if (open !== undefined) {
      if (isSame(open.from, from)) open.connection.received(header.number, datagram)
      return
    }
    const half = this.#halfOpen.find(header.id)
    if (half !== undefined && isSame(half.from, from)) this.#begin(half, header.number, datagram)
  }

  #greeted(datagram: Uint8Array, from: DatagramPeer): void {
    const { host, listening } = this.#options
    const now = host.clock.now()
    const step = this.#handshake.received(datagram, from, now)
    switch (step.kind) {
      case 'ignored':
        return
      case 'suspect':
        if (now - this.#lastSuspectMs < suspectEveryMs) return
        this.#lastSuspectMs = now
        listening.onRefused?.(step.error)
        return
      case 'answer':
        this.#socket.send(step.datagram, from)
        return
      case 'refuse':
        this.#socket.send(step.datagram, from)
        listening.onRefused?.(step.error)
        return
      case 'hello': {
        const helloKey = `${from.host} ${from.port} ${step.hello.id}`
        if (this.#openHellos.has(helloKey)) return
        let half = this.#halfOpen.findHello(helloKey)
        if (half === undefined) {
          const { session, datagram: answer } = this.#handshake.accept(step.hello, step.version, host.random)
          half = { session, from, helloKey, answer }
          this.#halfOpen.add(half)
        }
        this.#socket.send(half.answer, from)
      }
    }
  }

  /** The first data: only who has the answer to its hello can have made it. */
  #begin(half: HalfOpenSession, number: number, datagram: Uint8Array): void {
    const { host, socket, listening, datagramBytes, highWaterBytes } = this.#options
    const { session, from, helloKey } = half
    const connection = new UdpConnection({
      host,
      session,
      remote: addressText({ scheme: 'udp', host: from.host, port: from.port }),
      local: this.address,
      datagramBytes,
      frameBytesMax: listening.frameBytesMax ?? limits.handshakeFrameBytesMax,
      highWaterBytes,
      receiveBufferBytes: socket.receiveBufferBytes,
      write: (bytes) => socket.send(bytes, from),
      onClosed: () => {
        this.#channel?.remove(connection)
        this.#open.delete(session.ownId)
        this.#openHellos.delete(helloKey)
        this.#closeIfUnused()
      },
    })
    if (!connection.received(number, datagram)) {
      connection.abandon()
      return
    }
    this.#halfOpen.remove(session.ownId)
    if (connection.isClosed) return
    this.#open.set(session.ownId, { connection, from, helloKey })
    this.#openHellos.add(helloKey)
    this.#channel?.add(connection)
    listening.onConnection(connection)
  }
}

function isSame(a: DatagramPeer, b: DatagramPeer): boolean {
  return a.port === b.port && a.host === b.host
}
