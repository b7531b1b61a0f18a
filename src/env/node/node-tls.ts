// TLS over TCP, with certificates on both sides. What the other side has shown is judged here and told to the stream's
// handlers (`StreamProof`); Node itself rejects nothing, because then it would close without a word, and the side that
// is to blame would not learn why.
//
// A stream that was accepted exists from the first moment, so whoever bounds those that say nothing counts it. Its first
// byte shows whether it speaks TLS: 22 is the type of the record that must come first.

import { constants, type X509Certificate } from 'node:crypto'
import type * as net from 'node:net'
import { isIP } from 'node:net'
import * as tls from 'node:tls'
import { asError, CoterieError } from '../../base/errors.ts'
import type { Stream, StreamHandlers, StreamProof, StreamTls } from '../host.ts'
import { systemCodeOf } from './node-errors.ts'
import { NodeStream } from './node-stream.ts'

const handshakeRecord = 22
const expiredCodes: ReadonlySet<string> = new Set(['CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID'])

/** Makes a stream of each socket that was accepted. Errors: OPTION_INVALID. */
export function tlsAcceptor(options: StreamTls): (socket: net.Socket, remote: string) => Stream {
  const server = usable(() =>
    tls.createServer({
      ...nodeOptions(options),
      requestCert: true,
      rejectUnauthorized: false,
      // A session that is taken up again shows no certificate, and one that is negotiated anew may show another.
      secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
    }),
  )
  const securing = new Map<string, AcceptedTlsStream>()
  server.on('secureConnection', (socket) => {
    const stream = securing.get(endsOf(socket))
    if (stream === undefined) socket.destroy()
    else stream.secured(socket)
  })
  server.on('tlsClientError', (error, socket) => securing.get(endsOf(socket))?.failed(error))
  return (socket, remote) => {
    const ends = endsOf(socket)
    const stream = new AcceptedTlsStream(socket, remote, {
      begin: () => {
        securing.set(ends, stream)
        server.emit('connection', socket)
      },
      settled: () => {
        if (securing.get(ends) === stream) securing.delete(ends)
      },
    })
    return stream
  }
}

/** Begins to connect. `connect` of the socket says that the other side is reached; TLS follows. Errors: OPTION_INVALID. */
export function tlsConnect(options: {
  readonly tls: StreamTls & { readonly serverName: string }
  readonly plain: net.NetConnectOpts
  readonly remote: string
  readonly keepAliveInitialDelayMs: number
}): { readonly socket: net.Socket; readonly stream: NodeStream } {
  const { serverName } = options.tls
  const socket = usable(() =>
    tls.connect({
      ...(options.plain as tls.ConnectionOptions),
      ...nodeOptions(options.tls),
      rejectUnauthorized: false,
      // An address is no name that a client may ask for.
      ...(isIP(serverName) === 0 ? { servername: serverName } : {}),
      checkServerIdentity: (_, certificate) => tls.checkServerIdentity(serverName, certificate),
    }),
  )
  socket.once('connect', () => {
    socket.setNoDelay(true)
    socket.setKeepAlive(true, options.keepAliveInitialDelayMs)
  })
  const stream = new NodeStream(socket, options.remote, tlsError)
  socket.once('secureConnect', () => stream.secured(proofOf(socket)))
  return { socket, stream }
}

/** A stream from the accept on: nothing yet, then TLS, or what is not TLS. */
class AcceptedTlsStream implements Stream {
  readonly remote: string
  readonly #raw: net.Socket
  readonly #settled: () => void
  #inner: NodeStream | undefined
  #handlers: StreamHandlers | undefined
  #paused: boolean = false
  #error: Error | undefined

  constructor(
    raw: net.Socket,
    remote: string,
    when: { readonly begin: () => void; readonly settled: () => void },
  ) {
    this.remote = remote
    this.#raw = raw
    this.#settled = when.settled
    const look = (): void => {
      const bytes = raw.read() as Buffer | null
      if (bytes === null) return
      raw.removeListener('readable', look)
      if (bytes[0] === handshakeRecord) {
        raw.unshift(bytes)
        when.begin()
      } else {
        this.#become(raw, { isTrusted: false, reason: 'plain', message: 'the other side does not speak TLS' })
      }
    }
    raw.on('readable', look)
    raw.on('error', (error) => {
      this.#error ??= error
    })
    raw.on('close', () => {
      when.settled()
      if (this.#inner === undefined) this.#handlers?.closed(this.#error)
    })
  }

  secured(socket: tls.TLSSocket): void {
    this.#settled()
    this.#become(socket, proofOf(socket))
  }

  failed(error: Error): void {
    this.#error ??= tlsError(error)
    this.#raw.destroy()
  }

  #become(socket: net.Socket, proof: StreamProof): void {
    const inner = new NodeStream(socket, this.remote)
    this.#inner = inner
    if (this.#paused) inner.pause()
    if (this.#handlers !== undefined) inner.handlers = this.#handlers
    inner.secured(proof)
  }

  get bufferedBytes(): number {
    return this.#inner?.bufferedBytes ?? 0
  }

  get handlers(): StreamHandlers {
    if (this.#handlers === undefined) throw new TypeError('the stream has no handlers yet')
    return this.#handlers
  }

  set handlers(handlers: StreamHandlers) {
    this.#handlers = handlers
    if (this.#inner !== undefined) this.#inner.handlers = handlers
  }

  write(parts: readonly Uint8Array[]): boolean {
    return this.#inner?.write(parts) ?? false
  }

  pause(): void {
    this.#paused = true
    this.#inner?.pause()
  }

  resume(): void {
    this.#paused = false
    this.#inner?.resume()
  }

  end(): void {
    if (this.#inner === undefined) this.#raw.destroy()
    else this.#inner.end()
  }

  destroy(): void {
    if (this.#inner === undefined) this.#raw.destroy()
    else this.#inner.destroy()
  }
}

function nodeOptions(options: StreamTls): tls.SecureContextOptions {
  const { ca, cert, key, passphrase, minVersion, ciphers } = options
  return {
    ca: Array.isArray(ca) ? ca.map(asNode) : asNode(ca as string | Uint8Array),
    cert: asNode(cert),
    key: asNode(key),
    ...(passphrase === undefined ? {} : { passphrase }),
    ...(minVersion === undefined ? {} : { minVersion }),
    ...(ciphers === undefined ? {} : { ciphers }),
  }
}

function asNode(value: string | Uint8Array): string | Buffer {
  return typeof value === 'string' ? value : Buffer.from(value.buffer, value.byteOffset, value.length)
}

function proofOf(socket: tls.TLSSocket): StreamProof {
  const certificate = socket.getPeerX509Certificate()
  if (certificate === undefined) {
    return { isTrusted: false, reason: 'missing', message: 'there is none' }
  }
  if (socket.authorized) {
    return { isTrusted: true, names: [...commonNames(certificate), ...dnsNames(certificate.subjectAltName)] }
  }
  const code = String((socket.authorizationError as Error | string | undefined) ?? 'unknown')
  if (expiredCodes.has(code)) {
    const { validFrom, validTo } = certificate
    return {
      isTrusted: false,
      reason: 'expired',
      message: `it holds from ${validFrom} to ${validTo} (${code})`,
    }
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return { isTrusted: false, reason: 'name', message: 'it bears another name than that of the address' }
  }
  return {
    isTrusted: false,
    reason: 'untrusted',
    message: `none of our authorities vouches for it (${code})`,
  }
}

function commonNames(certificate: X509Certificate): string[] {
  const { subject } = certificate.toLegacyObject()
  const name: unknown = (subject as Partial<tls.Certificate> | undefined)?.CN
  return (Array.isArray(name) ? name : [name]).filter((each) => typeof each === 'string')
}

/** Of the text that Node makes of them. It quotes names with special characters; those name no site. */
function dnsNames(alternatives: string | undefined): string[] {
  if (alternatives === undefined || alternatives.includes('"')) return []
  return alternatives
    .split(', ')
    .filter((each) => each.startsWith('DNS:'))
    .map((each) => each.slice('DNS:'.length))
}

/** The ends of a connection name it: two that are open never have the same. */
function endsOf(socket: net.Socket): string {
  const { remoteAddress, remotePort, localAddress, localPort } = socket
  return `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`
}

/** What an error means that came before TLS had said who is there. */
function tlsError(error: Error): Error {
  const code = systemCodeOf(error)
  if (!/^(ERR_SSL|ERR_TLS|EPROTO)/.test(code)) return error
  const isPlain = /WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST/.test(code)
  const reason = isPlain ? 'the other side does not speak TLS' : `the handshake of TLS failed: ${code}`
  return new CoterieError('TLS_FAILED', reason, {
    cause: error,
    details: { reason: isPlain ? 'plain' : code },
  })
}

function usable<Made>(make: () => Made): Made {
  try {
    return make()
  } catch (error) {
    throw new CoterieError('OPTION_INVALID', `'tls' cannot be used: ${asError(error).message}`, {
      cause: error,
      details: { option: 'tls' },
    })
  }
}
