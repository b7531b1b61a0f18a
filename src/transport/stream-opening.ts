// What happens on a byte stream before it is a connection: TLS, where it is used, says who is there; each side says what it speaks and what it demands
// (preface.ts), and judges what the other one said; where there is a secret, each proves to know it
// (secret-handshake.ts). Only then is there a StreamConnection, and only it knows messages.
//
// How it fails: the stream is ended in order, so that the other side has what it needs to see for itself why, and
// `onRefused` hears the reason. A peer that says nothing is the listener's to bound, in number and in time.

import { emptyBytes } from '../base/bytes.ts'
import { asError, CoterieError } from '../base/errors.ts'
import type { CompressionFormat, Host, Stream, StreamProof, Timer } from '../env/host.ts'
import type { LinkOptions, LinkSettings } from './link-options.ts'
import { PackedStream } from './packed-stream.ts'
import {
  bestOf,
  encodePreface,
  encodeRefusal,
  type PrefaceOffer,
  PrefaceReader,
  type ProtocolRange,
  type ReadPreface,
  tlsFailed,
} from './preface.ts'
import { authFailed, type Role, SecretHandshake, secretBytesOf } from './secret-handshake.ts'
import { closedError, StreamConnection } from './stream-connection.ts'
import { transportDefaults } from './transport.ts'

export interface StreamOpeningOptions {
  readonly stream: Stream
  readonly role: Role
  readonly host: Pick<Host, 'clock' | 'timers' | 'random' | 'crypto' | 'compression'>
  readonly link?: LinkSettings
  /** TLS must say first who is there. */
  readonly isTls?: boolean
  readonly remote: string
  readonly local: string | undefined
  readonly protocol: ProtocolRange
  readonly frameBytesMax: number
  readonly highWaterBytes?: number
  /** Sets the connection's handlers, or it waits for them. */
  onOpen(connection: StreamConnection): void
  /** It ended before it was open. */
  onRefused(error: CoterieError): void
  /** The stream is closed without ever having been open. */
  onClosed?(): void
}

export class StreamOpening {
  readonly #options: StreamOpeningOptions
  readonly #stream: Stream
  readonly #ourOffer: PrefaceOffer
  readonly #ourPreface: Uint8Array
  #compression: CompressionFormat | undefined
  readonly #preface: PrefaceReader
  #handshake: SecretHandshake | undefined
  #protocolVersion = 0
  #peerNames: readonly string[] | undefined
  #state: 'securing' | 'preface' | 'secret' | 'open' | 'refused' | 'closed' = 'securing'
  #error: CoterieError | undefined
  #linger: Timer | undefined
  #bytesIn = 0
  #bytesOut = 0

  constructor(options: StreamOpeningOptions) {
    this.#options = options
    this.#stream = options.stream
    this.#preface = new PrefaceReader(options.protocol)
    this.#stream.handlers = {
      secured: (proof) => this.#secured(proof),
      data: (bytes) => this.#received(bytes),
      drain: () => undefined,
      closed: (error) => this.#closed(error),
    }
    this.#ourOffer = {
      demandsSecret: options.link?.secret !== undefined,
      compressions: offered(options.link?.compression, options.host.compression.formats),
    }
    this.#ourPreface = encodePreface(options.protocol, this.#ourOffer)
    if (options.isTls !== true) this.#sayWhatWeSpeak()
  }

  #sayWhatWeSpeak(): void {
    this.#state = 'preface'
    this.#write(this.#ourPreface)
  }

  #secured(proof: StreamProof): void {
    if (this.#state !== 'securing') return
    if (proof.isTrusted) {
      this.#peerNames = proof.names
      this.#sayWhatWeSpeak()
      return
    }
    const { reason, message } = proof
    this.#write(encodeRefusal(this.#options.protocol, reason))
    const subject = reason === 'plain' ? '' : "the other side's certificate is not to be believed: "
    this.#refuse(tlsFailed(reason, subject + message))
  }

  /** Gives up: nothing is told but `error`, to this side. */
  destroy(error: CoterieError): void {
    if (this.#state === 'open' || this.#state === 'closed') return
    this.#error ??= error
    this.#stream.destroy()
  }

  #write(bytes: Uint8Array): void {
    this.#bytesOut += bytes.length
    this.#stream.write([bytes])
  }

  #received(bytes: Uint8Array): void {
    this.#bytesIn += bytes.length
    // What still comes after a refusal is read and dropped: closing with unread bytes would tear down the connection
    // under what the other side has yet to read.
    if (this.#state === 'preface') this.#receivedPreface(bytes)
    else if (this.#state === 'secret') this.#receivedProof(bytes)
  }

  #receivedPreface(bytes: Uint8Array): void {
    let read: ReadPreface | undefined
    try {
      read = this.#preface.push(bytes)
    } catch (error) {
      if (!(error instanceof CoterieError)) throw error
      this.#refuse(error)
      return
    }
    if (read === undefined) return
    this.#protocolVersion = read.version
    this.#compression = bestOf(this.#ourOffer, read.offer)
    const { link } = this.#options
    if (read.offer.demandsSecret !== (link?.secret !== undefined)) {
      this.#refuse(
        authFailed(
          read.offer.demandsSecret
            ? 'the other side demands a secret, and this side has none'
            : 'this side demands a secret, and the other side has none',
        ),
      )
    } else if (link?.secret === undefined) this.#open(read.rest)
    else this.#beginProof(secretBytesOf(link.secret), link, read)
  }

  #beginProof(secret: Uint8Array, link: LinkSettings, read: ReadPreface): void {
    const { host, role } = this.#options
    this.#state = 'secret'
    this.#handshake = new SecretHandshake({
      role,
      secret,
      crypto: host.crypto,
      random: host.random,
      identity: link.identity(),
      ourPreface: this.#ourPreface,
      theirPreface: read.bytes,
    })
    this.#write(this.#handshake.challenge)
    if (read.rest.length > 0) this.#receivedProof(read.rest)
  }

  #receivedProof(bytes: Uint8Array): void {
    const step = (this.#handshake as SecretHandshake).push(bytes)
    for (const part of step.send) this.#write(part)
    if (step.kind === 'failed') this.#refuse(step.error)
    else if (step.kind === 'done') this.#open(step.rest)
  }

  #open(rest: Uint8Array): void {
    const { host, link, remote, local, frameBytesMax, highWaterBytes } = this.#options
    this.#state = 'open'
    const format = this.#compression
    const traffic = { bytesIn: this.#bytesIn - rest.length, bytesOut: this.#bytesOut }
    const packed =
      format === undefined
        ? undefined
        : new PackedStream({ stream: this.#stream, compression: host.compression, format, before: traffic })
    const connection = new StreamConnection({
      stream: packed ?? this.#stream,
      clock: host.clock,
      timers: host.timers,
      remote,
      local,
      protocolVersion: this.#protocolVersion,
      compression: format ?? 'none',
      // Who is not bound to them may use any.
      peerNames: link?.tls?.bindSite === false ? undefined : this.#peerNames,
      frameBytesMax,
      highWaterBytes: highWaterBytes ?? transportDefaults.highWaterBytes,
      before: { ...traffic, bytesIn: this.#bytesIn },
      received: packed === undefined ? rest : emptyBytes,
      ...(packed === undefined ? {} : { traffic: packed }),
    })
    this.#options.onOpen(connection)
    if (rest.length > 0) packed?.receive(rest)
  }

  #refuse(error: CoterieError): void {
    this.#state = 'refused'
    this.#error = error
    this.#stream.end()
    this.#linger = this.#options.host.timers.after(transportDefaults.lingerMs, () => this.#stream.destroy())
    this.#options.onRefused(error)
  }

  #closed(cause: Error | undefined): void {
    if (this.#state === 'closed') return
    const error = this.#state === 'refused' ? undefined : (this.#error ?? this.#endedEarly(cause))
    this.#state = 'closed'
    this.#linger?.cancel()
    if (error !== undefined) this.#options.onRefused(error)
    this.#options.onClosed?.()
  }

  #endedEarly(cause: Error | undefined): CoterieError {
    if (cause instanceof CoterieError) return cause
    const { remote } = this.#options
    if (cause !== undefined) return closedError(remote, cause.message, asError(cause))
    if (this.#state === 'securing') return closedError(remote, 'it ended before TLS had said who is there')
    const missing = this.#handshake === undefined ? 'say what it speaks' : 'prove that it knows the secret'
    return closedError(remote, `it did not ${missing}`)
  }
}

/** Whoever asks for zstd takes deflate where there is no better. */
function offered(
  asked: LinkOptions['compression'],
  formats: readonly CompressionFormat[],
): readonly CompressionFormat[] {
  if (asked === undefined || asked === 'none') return []
  return formats.filter((format) => format === asked || format === 'deflate')
}
