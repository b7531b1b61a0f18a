// The first 16 bytes that each side of a stream sends, at once and without waiting:
//
//   "COTERIE" 0x00 | u16 oldest version | u16 newest version | u8 demands | u8 offers | u8 refusal | u8 0    (little-endian)
//
//   demands   1: a secret must be proved before anything else (secret-handshake.ts)
//   offers    1 deflate, 2 zstd: the best that both sides offer packs all that follows (packed-stream.ts)
//   refusal   not 0: this is all that the sender says; what TLS has shown of the other side is not to be believed:
//             1 its certificate is signed by none of our authorities, 2 it has expired or is not valid yet, 3 it bears
//             another name, 4 there is none, 5 the other side does not speak TLS
//
// A peer that is no Coterie shows by its first wrong byte; one of another age shows by its versions. Each side judges
// by itself and comes to the same end, because each has both prefaces. Bytes that are 0 here are ignored. Nothing in a
// preface is protected; where there is a secret, both prefaces are part of what is proved.

import { CoterieError } from '../base/errors.ts'
import type { CompressionFormat } from '../env/host.ts'

/** The versions of the protocol that a site speaks, both included. */
export interface ProtocolRange {
  readonly oldest: number
  readonly newest: number
}

export const protocolRange: ProtocolRange = { oldest: 1, newest: 1 }

export const prefaceBytes = 16
const magic = Uint8Array.of(0x43, 0x4f, 0x54, 0x45, 0x52, 0x49, 0x45, 0x00)

/** What a side asks of the other one beside its version. */
export interface PrefaceOffer {
  readonly demandsSecret: boolean
  readonly compressions: readonly CompressionFormat[]
}

export const plainOffer: PrefaceOffer = { demandsSecret: false, compressions: [] }

/** From the best down. */
const compressionBits: readonly (readonly [format: CompressionFormat, bit: number])[] = [
  ['zstd', 2],
  ['deflate', 1],
]

const demandsAt = 12
const secretDemand = 1
const offersAt = 13
const refusalAt = 14
/** The first byte of TLS. */
const tlsRecord = 22

/** Why a side does not believe what TLS has shown of the other one. */
export type Distrust = 'untrusted' | 'expired' | 'name' | 'missing' | 'plain'

const refusals: readonly (Distrust | undefined)[] = [
  undefined,
  'untrusted',
  'expired',
  'name',
  'missing',
  'plain',
]
const refusalTexts: Readonly<Record<Distrust, string>> = {
  untrusted: "the other side refuses this side's certificate: none of its authorities vouches for it",
  expired: "the other side refuses this side's certificate: it has expired, or is not valid yet",
  name: "the other side refuses this side's certificate: it bears another name than that of the address",
  missing: 'the other side refuses this side: it has shown no certificate',
  plain: 'the other side speaks TLS only: its address begins with tls://',
}

export function encodePreface(range: ProtocolRange, offer: PrefaceOffer = plainOffer): Uint8Array {
  const preface = new Uint8Array(prefaceBytes)
  preface.set(magic)
  const view = new DataView(preface.buffer)
  view.setUint16(8, range.oldest, true)
  view.setUint16(10, range.newest, true)
  preface[demandsAt] = offer.demandsSecret ? secretDemand : 0
  for (const [format, bit] of compressionBits) {
    if (offer.compressions.includes(format)) preface[offersAt] = (preface[offersAt] as number) | bit
  }
  return preface
}

/** The preface of a side that says no more than that. */
export function encodeRefusal(range: ProtocolRange, reason: Distrust): Uint8Array {
  const preface = encodePreface(range)
  preface[refusalAt] = refusals.indexOf(reason)
  return preface
}

export interface ReadPreface {
  /** The version to speak. */
  readonly version: number
  readonly offer: PrefaceOffer
  /** As it came. */
  readonly bytes: Uint8Array
  /** What came behind it. */
  readonly rest: Uint8Array
}

/** Reads the other side's preface, however it is cut into chunks. */
export class PrefaceReader {
  readonly #ours: ProtocolRange
  readonly #received: Uint8Array = new Uint8Array(prefaceBytes)
  #length = 0

  constructor(ours: ProtocolRange) {
    this.#ours = ours
  }

  /** Undefined: more must come. Errors: PROTOCOL_INCOMPATIBLE; TLS_FAILED, where the other side has refused for that. */
  push(bytes: Uint8Array): ReadPreface | undefined {
    const count = Math.min(bytes.length, prefaceBytes - this.#length)
    this.#received.set(bytes.subarray(0, count), this.#length)
    this.#length += count
    for (let i = 0; i < Math.min(this.#length, magic.length); i++) {
      if (this.#received[0] === tlsRecord)
        throw tlsFailed('plain', 'the other side speaks TLS, and this side does not')
      if (this.#received[i] !== magic[i]) throw this.#incompatible('the other side does not speak Coterie')
    }
    if (this.#length < prefaceBytes) return undefined
    const view = new DataView(this.#received.buffer)
    const theirs: ProtocolRange = { oldest: view.getUint16(8, true), newest: view.getUint16(10, true) }
    const version = Math.min(this.#ours.newest, theirs.newest)
    if (version < this.#ours.oldest || version < theirs.oldest) {
      throw this.#incompatible('the other side speaks other versions of the protocol', theirs)
    }
    const refusal = this.#received[refusalAt] as number
    if (refusal !== 0) throw refusedBy(refusal)
    const demands = this.#received[demandsAt] as number
    const offers = this.#received[offersAt] as number
    const offer: PrefaceOffer = {
      demandsSecret: (demands & secretDemand) !== 0,
      compressions: compressionBits.filter(([, bit]) => (offers & bit) !== 0).map(([format]) => format),
    }
    return { version, offer, bytes: this.#received, rest: bytes.subarray(count) }
  }

  #incompatible(reason: string, theirs?: ProtocolRange): CoterieError {
    const ours = `${this.#ours.oldest} to ${this.#ours.newest}`
    const said = theirs === undefined ? '' : ` (ours ${ours}, theirs ${theirs.oldest} to ${theirs.newest})`
    return new CoterieError('PROTOCOL_INCOMPATIBLE', `${reason}${said}`, {
      details: { ours: this.#ours, ...(theirs === undefined ? {} : { theirs }) },
    })
  }
}

/** What both sides use: each of them knows both offers, and comes to the same. */
export function bestOf(ours: PrefaceOffer, theirs: PrefaceOffer): CompressionFormat | undefined {
  const both = (format: CompressionFormat): boolean =>
    ours.compressions.includes(format) && theirs.compressions.includes(format)
  return compressionBits.map(([format]) => format).find(both)
}

/** `reason`: of docs/errors.md. */
export function tlsFailed(reason: string, message: string): CoterieError {
  return new CoterieError('TLS_FAILED', message, { details: { reason } })
}

function refusedBy(refusal: number): CoterieError {
  const reason = refusals[refusal]
  if (reason !== undefined) return tlsFailed(reason, refusalTexts[reason])
  return new CoterieError(
    'HANDSHAKE_FAILED',
    `the other side refuses, for a reason that is not known (${refusal})`,
  )
}
