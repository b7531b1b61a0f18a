// Datagrams over node:dgram. Addresses are resolved once, when a socket is made; after that they are in numbers, and a
// `send` is one system call in the same turn.
//
// The system is asked for large buffers and gives what it likes (`net.core.rmem_max` on Linux); the real size is in
// `receiveBufferBytes`, because a burst that does not fit is lost without a word. A datagram that the system refuses
// (a full queue, a lost interface) counts as lost; on a connected socket ECONNREFUSED says that nobody is there.

import * as dgram from 'node:dgram'
import { lookup } from 'node:dns'
import { isIP } from 'node:net'
import type {
  DatagramBindOptions,
  DatagramHandlers,
  DatagramJoinOptions,
  DatagramPeer,
  DatagramSocket,
  Datagrams,
} from '../datagrams.ts'
import { connectError, listenError } from './node-errors.ts'

const bufferBytes = 4 * 1_048_576
/** Groups are for the own network. */
const multicastHops = 1

export class NodeDatagrams implements Datagrams {
  async bind(options: DatagramBindOptions): Promise<DatagramSocket> {
    const { host, port, sendsToGroups = false } = options
    const name = hostAndPort(host, port)
    try {
      const address = await resolveHost(host)
      const socket = await boundSocket({ address, port, shared: false })
      if (sendsToGroups) sendToGroupsFrom(socket, address)
      return new NodeDatagramSocket(socket)
    } catch (error) {
      throw listenError(error, name)
    }
  }

  async connect({ host, port }: DatagramPeer): Promise<DatagramSocket> {
    const name = hostAndPort(host, port)
    try {
      const address = await resolveHost(host)
      const socket = dgram.createSocket(socketType(address))
      await settled(socket, (done) => socket.connect(port, address, done))
      return new NodeDatagramSocket(socket)
    } catch (error) {
      throw connectError(error, name)
    }
  }

  async join({ group, interfaceHost }: DatagramJoinOptions): Promise<DatagramSocket> {
    const name = hostAndPort(group.host, group.port)
    try {
      // Bound to the group itself it hears nothing else that comes to the port; Windows has no such addresses.
      const any = group.host.includes(':') ? '::' : '0.0.0.0'
      const address = process.platform === 'win32' ? any : group.host
      const socket = await boundSocket({ address, port: group.port, shared: true })
      try {
        socket.addMembership(group.host, interfaceHost)
      } catch (error) {
        socket.close()
        throw error
      }
      return new NodeDatagramSocket(socket)
    } catch (error) {
      throw listenError(error, name)
    }
  }
}

class NodeDatagramSocket implements DatagramSocket {
  readonly host: string
  readonly port: number
  readonly receiveBufferBytes: number
  readonly #socket: dgram.Socket
  #handlers: DatagramHandlers | undefined
  #closed = false

  constructor(socket: dgram.Socket) {
    this.#socket = socket
    const { address, port } = socket.address()
    this.host = address
    this.port = port
    socket.setRecvBufferSize(bufferBytes)
    socket.setSendBufferSize(bufferBytes)
    this.receiveBufferBytes = socket.getRecvBufferSize()
    socket.on('message', (bytes, from) => {
      this.#handlers?.message(
        new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length),
        from.address,
        from.port,
      )
    })
    socket.on('error', (error) => this.#handlers?.failed(error))
  }

  get handlers(): DatagramHandlers {
    if (this.#handlers === undefined) throw new TypeError('the socket has no handlers yet')
    return this.#handlers
  }

  set handlers(handlers: DatagramHandlers) {
    this.#handlers = handlers
  }

  send(datagram: Uint8Array, to?: DatagramPeer): void {
    if (this.#closed) return
    if (to === undefined) this.#socket.send(datagram, this.#sent)
    else this.#socket.send(datagram, to.port, to.host, this.#sent)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#handlers = undefined
    this.#socket.close()
  }

  /** With a callback an error comes here and not as an event. */
  readonly #sent = (error: Error | null): void => {
    if (error !== null && !this.#closed) this.#handlers?.failed(error)
  }
}

async function boundSocket(options: {
  readonly address: string
  readonly port: number
  readonly shared: boolean
}): Promise<dgram.Socket> {
  const { address, port, shared } = options
  const socket = dgram.createSocket({
    type: socketType(address),
    reuseAddr: shared,
    // Addresses are in numbers by then; the default would come back to them in another turn.
    lookup: (host, _options, done) => done(null, host, isIP(host)),
  })
  await settled(socket, (done) => socket.bind({ address, port, exclusive: true }, done))
  return socket
}

/** Runs `begin` until it is done or the socket reports an error, and closes the socket then. */
function settled(socket: dgram.Socket, begin: (done: () => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error): void => {
      socket.close()
      reject(error)
    }
    socket.once('error', failed)
    try {
      begin(() => {
        socket.removeListener('error', failed)
        resolve()
      })
    } catch (error) {
      socket.close()
      reject(error)
    }
  })
}

function sendToGroupsFrom(socket: dgram.Socket, address: string): void {
  socket.setMulticastTTL(multicastHops)
  socket.setMulticastLoopback(true)
  const isWildcard = address === '0.0.0.0' || address === '::'
  if (!isWildcard && !address.includes(':')) socket.setMulticastInterface(address)
}

function resolveHost(host: string): Promise<string> {
  if (isIP(host) !== 0 || host.includes('%')) return Promise.resolve(host)
  return new Promise((resolve, reject) => {
    lookup(host, (error, address) => (error === null ? resolve(address) : reject(error)))
  })
}

function socketType(address: string): 'udp4' | 'udp6' {
  return address.includes(':') ? 'udp6' : 'udp4'
}

function hostAndPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
