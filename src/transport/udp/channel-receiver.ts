// The receiving end of a multicast channel, of one connection: takes the offer that comes by the connection, listens to
// the group, and says by the connection that it hears it for as long as it does. What comes is proved by the channel's
// key, taken once, and handed to the connection.
//
// It fails softly: where the group cannot be joined, or nothing is heard, nothing is said, and everything comes by the
// connection as it would without a channel.

import type { Ciphers } from '../../env/ciphers.ts'
import type { DatagramPeer, DatagramSocket, Datagrams } from '../../env/datagrams.ts'
import type { Host } from '../../env/host.ts'
import { Arrivals } from './arrivals.ts'
import { udpBounds } from './bounds.ts'
import { type ChannelOffer, decodeChannelWord, encodeChannelWord } from './channel-wire.ts'
import { readFrames } from './frames.ts'
import { dataHeaderBytes, decodeDataHeader } from './packet.ts'
import { Reassembly } from './reassembly.ts'
import { type BodySealer, keyedSealer, unkeyedSealer } from './secrets.ts'
import type { UdpConnection } from './udp-connection.ts'

export interface ChannelReceiverOptions {
  readonly host: Pick<Host, 'clock'>
  readonly datagrams: Datagrams
  readonly ciphers: Ciphers
  readonly keyed: boolean
  /** The group that this site is set to listen to: an offer of another is not taken. */
  readonly group: DatagramPeer
  /** The own end of the connection: its interface is listened on. */
  readonly interfaceHost: string
  readonly connection: UdpConnection
}

interface Hearing {
  readonly id: number
  readonly sealer: BodySealer
  readonly arrivals: Arrivals
  readonly reassembly: Reassembly
  saidMs: number
}

export class ChannelReceiver {
  readonly #options: ChannelReceiverOptions
  #socket: DatagramSocket | undefined
  #hearing: Hearing | undefined
  #isJoining = false
  #closed = false

  constructor(options: ChannelReceiverOptions) {
    this.#options = options
    options.connection.onChannel = (bytes) => {
      const word = decodeChannelWord(bytes)
      if (word?.kind === 'offer') this.#offered(word)
    }
  }

  close(): void {
    this.#closed = true
    this.#socket?.close()
  }

  #offered(offer: ChannelOffer): void {
    const { group, keyed, ciphers } = this.#options
    const isOurs = offer.group.host === group.host && offer.group.port === group.port
    if (!isOurs || offer.id === this.#hearing?.id || this.#closed) return
    this.#hearing = {
      id: offer.id,
      sealer: keyed ? keyedSealer(ciphers, offer.key) : unkeyedSealer(offer.key),
      arrivals: new Arrivals(),
      reassembly: new Reassembly({ messageBytesMax: udpBounds.sharedBytes }),
      saidMs: Number.NEGATIVE_INFINITY,
    }
    if (this.#socket === undefined && !this.#isJoining) this.#join()
  }

  #join(): void {
    const { datagrams, group, interfaceHost } = this.#options
    this.#isJoining = true
    datagrams.join({ group, interfaceHost }).then(
      (socket) => {
        this.#isJoining = false
        if (this.#closed) {
          socket.close()
          return
        }
        this.#socket = socket
        socket.handlers = {
          message: (datagram) => this.#received(datagram),
          failed: () => undefined,
        }
      },
      () => {
        // The next offer tries again; until then everything comes by the connection.
        this.#isJoining = false
        this.#hearing = undefined
      },
    )
  }

  #received(datagram: Uint8Array): void {
    const hearing = this.#hearing
    const header = decodeDataHeader(datagram, 'channel')
    if (hearing === undefined || header?.id !== hearing.id) return
    if (!hearing.arrivals.isNew(header.number)) return
    const body = hearing.sealer.open(header.number, datagram, dataHeaderBytes)
    const frames = body === undefined ? undefined : readFrames(body)
    if (frames === undefined) return
    const { connection, host } = this.#options
    const now = host.clock.now()
    hearing.arrivals.add(header.number)
    for (const frame of frames) {
      if (frame.kind === 'message') connection.receivedShared(frame.control, frame.payload)
      else if (frame.kind === 'fragment') {
        const step = hearing.reassembly.add(frame, now)
        if (step.kind === 'whole') connection.receivedShared(step.message.control, step.message.payload)
      }
    }
    if (now - hearing.saidMs < udpBounds.channelProbeMs / 2) return
    hearing.saidMs = now
    hearing.reassembly.sweep(now)
    connection.sendChannel(encodeChannelWord({ kind: 'heard', id: hearing.id }))
  }
}
