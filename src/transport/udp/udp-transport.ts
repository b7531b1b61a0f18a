// Messages over UDP, `udp://host:port`. With `key`, 32 bytes that all sites share, every datagram is authenticated and
// encrypted; without, only loopback is served, unless `insecure` says that the network is to be trusted.
//
// A wrong key cannot be told from a dead site by who connects: the listener answers nothing to what is not signed by
// its key, and the connect ends with CONNECT_TIMEOUT. The listener's `onRefused` says HANDSHAKE_FAILED.

import { CoterieError } from '../../base/errors.ts'
import { limits } from '../../base/limits.ts'
import type { Ciphers } from '../../env/ciphers.ts'
import type { DatagramPeer, DatagramSocket, Datagrams } from '../../env/datagrams.ts'
import type { Host } from '../../env/host.ts'
import type { Address } from '../address.ts'
import { checkLink, type LinkOption } from '../link-check.ts'
import type { LinkOptions } from '../link-options.ts'
import { type ProtocolRange, protocolRange } from '../preface.ts'
import {
  type Connection,
  type ConnectOptions,
  type Listener,
  type ListenOptions,
  type Transport,
  transportDefaults,
} from '../transport.ts'
import { udpBounds } from './bounds.ts'
import { ChannelReceiver } from './channel-receiver.ts'
import { parseGroup } from './channel-wire.ts'
import { ClientHandshake, type Session } from './handshake.ts'
import { decodeDataHeader } from './packet.ts'
import { Secrets } from './secrets.ts'
import { UdpConnection } from './udp-connection.ts'
import { UdpListener } from './udp-listener.ts'

export type DatagramHost = Pick<Host, 'clock' | 'timers' | 'random' | 'datagrams' | 'ciphers'>

export interface UdpTransportOptions {
  /** The versions to speak; others than the default only in tests. */
  readonly protocol?: ProtocolRange
  /** What `send` lets wait before it returns false. Default 1 MiB. */
  readonly highWaterBytes?: number
  /** The payload of a UDP packet. Default 1,200; more where the path is known to carry more. */
  readonly datagramBytes?: number
}

/** Errors: TypeError for `datagramBytes` below 256 or above 65,000. */
export function udpTransport(host: DatagramHost, options: UdpTransportOptions = {}): Transport {
  const { datagramBytes = udpBounds.datagramBytes } = options
  if (!(datagramBytes >= 256 && datagramBytes <= 65_000)) {
    throw new TypeError('datagramBytes must be between 256 and 65,000')
  }
  return new UdpTransport(host, options)
}

interface Parts {
  readonly datagrams: Datagrams
  readonly ciphers: Ciphers
}

class UdpTransport implements Transport {
  readonly scheme: string = 'udp'
  readonly takes: readonly LinkOption[] = ['key', 'insecure', 'multicast']
  readonly #host: DatagramHost
  readonly #protocol: ProtocolRange
  readonly #highWaterBytes: number
  readonly #datagramBytes: number
  /** By their addresses, for as long as their sockets are open. */
  readonly #listeners: Map<string, UdpListener> = new Map()

  constructor(host: DatagramHost, options: UdpTransportOptions) {
    this.#host = host
    this.#protocol = options.protocol ?? protocolRange
    this.#highWaterBytes = options.highWaterBytes ?? transportDefaults.highWaterBytes
    this.#datagramBytes = options.datagramBytes ?? udpBounds.datagramBytes
  }

  async listen(options: ListenOptions): Promise<Listener> {
    const { datagrams, ciphers } = this.#parts()
    const { address, link = {} } = options
    checkLink(link, this)
    const secrets = this.#secrets(address, link, ciphers)
    const { host, port } = address
    const group = groupOf(options)
    const known = this.#listeners.get(address.text)
    const previous = known?.sendsToGroup === (group !== undefined) ? known : undefined
    const left = previous?.left
    const socket = left ?? (await datagrams.bind({ host, port, sendsToGroups: group !== undefined }))
    if (left === undefined) {
      checkBound(socket, address, link)
      checkFamily(socket, group)
    }
    const listener: UdpListener = new UdpListener({
      host: this.#host,
      ciphers,
      socket,
      secrets,
      protocol: this.#protocol,
      datagramBytes: this.#datagramBytes,
      highWaterBytes: this.#highWaterBytes,
      group,
      listening: options,
      previous: left === undefined ? undefined : previous,
      onGone: () => {
        if (this.#listeners.get(listener.address) === listener) this.#listeners.delete(listener.address)
      },
    })
    this.#listeners.set(listener.address, listener)
    return listener
  }

  async connect(options: ConnectOptions): Promise<Connection> {
    const { datagrams, ciphers } = this.#parts()
    const { address, signal, link = {} } = options
    checkLink(link, this)
    if (address.port === 0)
      throw new CoterieError('ADDRESS_INVALID', `${address.text} has no port to connect to`, {
        details: { address: address.text },
      })
    const secrets = this.#secrets(address, link, ciphers)
    const group = groupOf(options)
    if (signal?.aborted === true) throw abortedError(signal)
    const socket = await datagrams.connect({ host: address.host, port: address.port })
    checkBound(socket, address, link)
    checkFamily(socket, group)
    try {
      const connection = await this.#shakeHands(socket, options, secrets)
      if (group !== undefined && !connection.isClosed) {
        const { keyed } = secrets
        const interfaceHost = socket.host
        const host = this.#host
        const receiver = new ChannelReceiver({
          host,
          datagrams,
          ciphers,
          keyed,
          group,
          interfaceHost,
          connection,
        })
        connection.onEnd = () => receiver.close()
      }
      return connection
    } catch (error) {
      socket.close()
      throw error
    }
  }

  #shakeHands(socket: DatagramSocket, options: ConnectOptions, secrets: Secrets): Promise<UdpConnection> {
    const { address, connectTimeoutMs, signal } = options
    const { timers, random } = this.#host
    const handshake = new ClientHandshake({ secrets, random, protocol: this.#protocol })
    return new Promise((resolve, reject) => {
      let retryMs: number = udpBounds.helloRetryMinMs
      const send = (): void => socket.send(handshake.hello)
      const retry = (): void => {
        send()
        retryMs = Math.min(retryMs * 2, udpBounds.helloRetryMaxMs)
        retryTimer = timers.after(retryMs, retry)
      }
      let retryTimer = timers.after(retryMs, retry)
      const timeout = timers.after(connectTimeoutMs, () => fail(timeoutError(address, connectTimeoutMs)))
      const forget = (): void => {
        retryTimer.cancel()
        timeout.cancel()
        signal?.removeEventListener('abort', aborted)
      }
      const fail = (error: CoterieError): void => {
        forget()
        reject(error)
      }
      const aborted = (): void => fail(abortedError(signal))
      signal?.addEventListener('abort', aborted, { once: true })
      if (signal?.aborted === true) {
        aborted()
        return
      }
      socket.handlers = {
        message: (datagram) => {
          const step = handshake.received(datagram)
          if (step.kind === 'again') send()
          else if (step.kind === 'refused') fail(step.error)
          else if (step.kind === 'accepted') {
            forget()
            resolve(this.#connection(socket, options, step.session))
          }
        },
        failed: (error) => {
          if (isRefusal(error)) fail(refusedError(address, error))
        },
      }
      send()
    })
  }

  #connection(socket: DatagramSocket, options: ConnectOptions, session: Session): UdpConnection {
    const connection = new UdpConnection({
      host: this.#host,
      session,
      remote: options.address.text,
      local: undefined,
      datagramBytes: this.#datagramBytes,
      frameBytesMax: options.frameBytesMax ?? limits.handshakeFrameBytesMax,
      highWaterBytes: this.#highWaterBytes,
      receiveBufferBytes: socket.receiveBufferBytes,
      write: (datagram) => socket.send(datagram),
      onClosed: () => socket.close(),
    })
    socket.handlers = {
      message: (datagram) => {
        const header = decodeDataHeader(datagram)
        if (header?.id === session.ownId) connection.received(header.number, datagram)
      },
      failed: (error) => connection.unreachable(error, isRefusal(error)),
    }
    connection.greet()
    return connection
  }

  #parts(): Parts {
    const { datagrams, ciphers } = this.#host
    if (datagrams === undefined || ciphers === undefined) {
      throw new CoterieError('ADDRESS_INVALID', 'there is no transport for udp:// on this host')
    }
    return { datagrams, ciphers }
  }

  #secrets(address: Address, link: LinkOptions, ciphers: Ciphers): Secrets {
    const { key, insecure = false, tls, secret } = link
    if (key === undefined) {
      if (tls !== undefined || secret !== undefined) {
        const option = tls === undefined ? 'secret' : 'tls'
        throw optionInvalid(option, `${option} does not protect ${address.text}; key does`)
      }
      if (!insecure && !isLoopback(address.host)) throw unprotected(address)
    }
    return new Secrets(ciphers, key)
  }
}

/** Errors: OPTION_INVALID. */
function groupOf(options: ListenOptions | ConnectOptions): DatagramPeer | undefined {
  const multicast = options.link?.multicast
  return multicast === undefined ? undefined : parseGroup(multicast)
}

/** Who is bound to an address of one family cannot send to a group of the other. */
function checkFamily(socket: DatagramSocket, group: DatagramPeer | undefined): void {
  if (group === undefined || group.host.includes(':') === socket.host.includes(':')) return
  socket.close()
  const family = socket.host.includes(':') ? 'IPv6, as in [ff02::1]:4711' : 'IPv4, as in 239.1.2.3:4711'
  throw new CoterieError(
    'OPTION_INVALID',
    `'multicast' must be a group of the family of the address: ${family}`,
    {
      details: { option: 'multicast' },
    },
  )
}

/** A name may have led elsewhere than it says. */
function checkBound(socket: DatagramSocket, address: Address, link: LinkOptions): void {
  if (link.key !== undefined || link.insecure === true || isLoopback(socket.host)) return
  socket.close()
  throw unprotected(address)
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host)
}

function isRefusal(error: Error): boolean {
  return 'code' in error && error.code === 'ECONNREFUSED'
}

function unprotected(address: Address): CoterieError {
  return optionInvalid(
    'key',
    `${address.text} is not loopback: give a key, or insecure: true where the whole network is trusted`,
  )
}

function optionInvalid(option: string, message: string): CoterieError {
  return new CoterieError('OPTION_INVALID', message, { details: { option } })
}

function abortedError(signal: AbortSignal | undefined): CoterieError {
  return new CoterieError('ABORTED', 'the connect was aborted', { cause: signal?.reason })
}

function timeoutError(address: Address, connectTimeoutMs: number): CoterieError {
  return new CoterieError(
    'CONNECT_TIMEOUT',
    `${address.text} did not answer within ${connectTimeoutMs} ms (nor does a site that has another key)`,
    { details: { address: address.text, connectTimeoutMs } },
  )
}

function refusedError(address: Address, cause: Error): CoterieError {
  return new CoterieError('CONNECT_FAILED', `nobody listens on ${address.text}`, {
    cause,
    details: { address: address.text },
  })
}
