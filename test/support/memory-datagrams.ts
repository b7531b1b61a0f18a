// A network of datagrams that the test holds in its hand, on a clock that it moves: everything that is sent is seen,
// may be changed or lost, and anything can be sent from any address. Thousands of sessions take a second.

import { Prng } from '../../src/base/prng.ts'
import type { DatagramHandlers, DatagramPeer, DatagramSocket, Datagrams } from '../../src/env/datagrams.ts'
import { nodeCiphers } from '../../src/env/node/node-ciphers.ts'
import { VirtualClock } from '../../src/env/simulated/virtual-clock.ts'
import type { DatagramHost } from '../../src/transport/udp/udp-transport.ts'

export interface SeenDatagram {
  readonly bytes: Uint8Array
  readonly from: DatagramPeer
  readonly to: DatagramPeer
}

export class DatagramNet {
  readonly clock: VirtualClock = new VirtualClock()
  readonly seen: SeenDatagram[] = []
  /** What becomes of a datagram: other bytes, or none. Default: it passes. */
  onDatagram: ((datagram: SeenDatagram) => Uint8Array | undefined) | undefined
  /** Of sockets that are made from now on; the default is that of a Linux which nobody has tuned. */
  receiveBufferBytes = 212_992
  readonly #prng: Prng
  readonly #sockets: Map<string, MemorySocket> = new Map()
  /** Those who hear a group: they are bound to its address. */
  #joined: MemorySocket[] = []
  #lastPort = 1000

  constructor(seed = 1) {
    this.#prng = new Prng(seed)
  }

  /** A host on this network. */
  host(): DatagramHost {
    const random = { bytes: (length: number) => this.#prng.bytes(length) }
    const datagrams: Datagrams = {
      bind: async ({ host, port }) => this.#socket({ host, port }, undefined),
      connect: async (remote) => this.#socket({ host: '127.0.0.1', port: 0 }, remote),
      join: async ({ group }) => {
        const socket = new MemorySocket(this, group, undefined)
        this.#joined.push(socket)
        return socket
      },
    }
    return { clock: this.clock, timers: this.clock, random, datagrams, ciphers: nodeCiphers }
  }

  /** Delivers a datagram as if `from` had sent it. */
  inject(bytes: Uint8Array, from: DatagramPeer, to: DatagramPeer): void {
    for (const each of this.#joined) {
      if (nameOf(each) === nameOf(to)) each.given?.message(bytes.slice(), from.host, from.port)
    }
    const socket = this.#sockets.get(nameOf(to))
    if (socket === undefined) return
    const { remote } = socket
    if (remote !== undefined && nameOf(remote) !== nameOf(from)) return
    // Its own copy: what is opened may be changed in place.
    socket.given?.message(bytes.slice(), from.host, from.port)
  }

  /** Runs what is due, lets promises settle, and moves on, so many milliseconds in all. */
  async run(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 5) {
      this.clock.advance(5)
      for (let i = 0; i < 4; i++) await Promise.resolve()
    }
  }

  send(bytes: Uint8Array, from: DatagramPeer, to: DatagramPeer): void {
    const datagram = { bytes, from, to }
    this.seen.push(datagram)
    const passed = this.onDatagram === undefined ? bytes : this.onDatagram(datagram)
    if (passed !== undefined) this.clock.soon(() => this.inject(passed, from, to))
  }

  forget(socket: MemorySocket): void {
    this.#joined = this.#joined.filter((each) => each !== socket)
    if (this.#sockets.get(nameOf(socket)) === socket) this.#sockets.delete(nameOf(socket))
  }

  #socket(local: DatagramPeer, remote: DatagramPeer | undefined): MemorySocket {
    const port = local.port === 0 ? ++this.#lastPort : local.port
    const socket = new MemorySocket(this, { host: local.host, port }, remote)
    this.#sockets.set(nameOf(socket), socket)
    return socket
  }
}

class MemorySocket implements DatagramSocket {
  readonly host: string
  readonly port: number
  readonly remote: DatagramPeer | undefined
  readonly receiveBufferBytes: number
  given: DatagramHandlers | undefined
  readonly #net: DatagramNet

  constructor(net: DatagramNet, local: DatagramPeer, remote: DatagramPeer | undefined) {
    this.#net = net
    this.receiveBufferBytes = net.receiveBufferBytes
    this.host = local.host
    this.port = local.port
    this.remote = remote
  }

  get handlers(): DatagramHandlers {
    return this.given as DatagramHandlers
  }

  set handlers(handlers: DatagramHandlers) {
    this.given = handlers
  }

  send(datagram: Uint8Array, to?: DatagramPeer): void {
    const target = to ?? this.remote
    if (target !== undefined) this.#net.send(datagram, { host: this.host, port: this.port }, target)
  }

  close(): void {
    this.given = undefined
    this.#net.forget(this)
  }
}

function nameOf(peer: DatagramPeer): string {
  return `${peer.host} ${peer.port}`
}
