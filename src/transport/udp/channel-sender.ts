// The sending end of a multicast channel: one for a listener, whoever connects to it. It offers the channel to each
// connection and learns from each whether it hears it: who has not said so within two seconds does not count, and gets
// everything by itself. What is sent here is sent once and never repeated; the replication core asks for what is
// missing, and that goes to each by its own connection.
//
// The key is drawn for the channel and given to each hearer within its own connection, so it is as secret as those are.
// Every hearer has it: with it one could pretend to the others to be the sender. All sites share `key` anyway.

import type { Ciphers } from '../../env/ciphers.ts'
import type { DatagramPeer } from '../../env/datagrams.ts'
import type { Host, Timer } from '../../env/host.ts'
import type { SharedChannel } from '../transport.ts'
import { udpBounds } from './bounds.ts'
import { decodeChannelWord, encodeChannelWord } from './channel-wire.ts'
import { type Frame, frameBytes, writeFrame } from './frames.ts'
import { type Cargo, Outgoing } from './outgoing.ts'
import { checkBytes, dataHeaderBytes, writeDataHeader } from './packet.ts'
import { type BodySealer, keyedSealer, unkeyedSealer } from './secrets.ts'
import type { UdpConnection } from './udp-connection.ts'
import { readU48 } from './wire.ts'

const keyBytes = 32

export interface ChannelSenderOptions {
  readonly host: Pick<Host, 'clock' | 'timers' | 'random'>
  readonly ciphers: Ciphers
  readonly keyed: boolean
  readonly group: DatagramPeer
  readonly datagramBytes: number
  /** Sends a datagram to the group. */
  readonly write: (datagram: Uint8Array) => void
}

export class ChannelSender implements SharedChannel {
  readonly #options: ChannelSenderOptions
  readonly #id: number
  readonly #offer: Uint8Array
  readonly #sealer: BodySealer
  /** Until when each is known to hear it. */
  readonly #hearers: Map<UdpConnection, number> = new Map()
  readonly #outgoing: Outgoing
  #lastNumber = 0
  #tokens: number = udpBounds.channelBurstBytes
  #tokensAtMs: number
  #timer: Timer | undefined

  constructor(options: ChannelSenderOptions) {
    const { ciphers, host, group, keyed, datagramBytes } = options
    const key = host.random.bytes(keyBytes)
    this.#options = options
    this.#id = readU48(host.random.bytes(6), 0)
    this.#offer = encodeChannelWord({ kind: 'offer', id: this.#id, group, key })
    this.#sealer = keyed ? keyedSealer(ciphers, key) : unkeyedSealer(key)
    this.#outgoing = new Outgoing({ bodyBytes: datagramBytes - dataHeaderBytes - checkBytes })
    this.#tokensAtMs = host.clock.now()
  }

  get hearers(): number {
    const now = this.#options.host.clock.now()
    let count = 0
    for (const until of this.#hearers.values()) if (until > now) count++
    return count
  }

  /** Offers the channel to a connection, for as long as it lasts. */
  add(connection: UdpConnection): void {
    this.#hearers.set(connection, Number.NEGATIVE_INFINITY)
    connection.onChannel = (bytes) => {
      const word = decodeChannelWord(bytes)
      if (word?.kind !== 'heard' || word.id !== this.#id || !this.#hearers.has(connection)) return
      this.#hearers.set(connection, this.#options.host.clock.now() + udpBounds.channelHeardMs)
    }
    connection.hears = () => (this.#isHeardBy(connection) ? this : undefined)
    connection.sendChannel(this.#offer)
    this.#arm()
  }

  remove(connection: UdpConnection): void {
    this.#hearers.delete(connection)
    if (this.#hearers.size > 0) return
    this.#timer?.cancel()
    this.#timer = undefined
  }

  send(control: Uint8Array, payload: Uint8Array): boolean {
    const bytes = control.length + payload.length
    if (bytes > udpBounds.sharedBytes || !this.#hasTokens(bytes)) return false
    this.#outgoing.add(control, payload)
    for (;;) {
      const frames: Frame[] = []
      const cargo: Cargo[] = []
      this.#outgoing.fill(frames, cargo, 0)
      if (frames.length === 0) return true
      // Nobody confirms what goes by a channel.
      for (const each of cargo) this.#outgoing.confirmed(each)
      this.#write(frames)
    }
  }

  #isHeardBy(connection: UdpConnection): boolean {
    const until = this.#hearers.get(connection)
    return until !== undefined && until > this.#options.host.clock.now()
  }

  /** As fast as the slowest of those who hear it takes what comes by its own connection. */
  #hasTokens(bytes: number): boolean {
    const now = this.#options.host.clock.now()
    let rate = Number.POSITIVE_INFINITY
    for (const [connection, until] of this.#hearers) {
      if (until > now) rate = Math.min(rate, connection.pace.bytesPerSecond)
    }
    const gained = (rate * (now - this.#tokensAtMs)) / 1000
    this.#tokens = Math.min(udpBounds.channelBurstBytes, this.#tokens + gained)
    this.#tokensAtMs = now
    if (this.#tokens < bytes) return false
    this.#tokens -= bytes
    return true
  }

  #write(frames: readonly Frame[]): void {
    let bytes = 0
    for (const frame of frames) bytes += frameBytes(frame)
    const datagram = new Uint8Array(dataHeaderBytes + bytes + checkBytes)
    this.#lastNumber++
    writeDataHeader(datagram, { number: this.#lastNumber, id: this.#id }, 'channel')
    let at = dataHeaderBytes
    for (const frame of frames) at = writeFrame(datagram, at, frame)
    this.#sealer.seal(this.#lastNumber, datagram, dataHeaderBytes)
    this.#options.write(datagram)
  }

  /** Something to hear, also when nothing is written, and the offer once more to those who do not hear it. */
  #arm(): void {
    this.#timer ??= this.#options.host.timers.after(udpBounds.channelProbeMs, () => {
      this.#timer = undefined
      for (const connection of this.#hearers.keys()) {
        if (!this.#isHeardBy(connection)) connection.sendChannel(this.#offer)
      }
      this.#write([{ kind: 'ping' }])
      if (this.#hearers.size > 0) this.#arm()
    })
  }
}
