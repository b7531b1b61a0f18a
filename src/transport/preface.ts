// The first 16 bytes that each side of a stream sends, at once and without waiting:
//
//   "COTERIE" 0x00 | u16 oldest version | u16 newest version | u32 reserved (0; ignored)       (little-endian)
//
// A peer that is no Coterie shows by its first wrong byte; one of another age shows by its versions. Each side judges
// by itself and comes to the same end, because each has both prefaces.

import { CoterieError } from '../base/errors.ts'

/** The versions of the protocol that a site speaks, both included. */
export interface ProtocolRange {
  readonly oldest: number
  readonly newest: number
}

export const protocolRange: ProtocolRange = { oldest: 1, newest: 1 }

export const prefaceBytes = 16
const magic = Uint8Array.of(0x43, 0x4f, 0x54, 0x45, 0x52, 0x49, 0x45, 0x00)

export function encodePreface(range: ProtocolRange): Uint8Array {
  const preface = new Uint8Array(prefaceBytes)
  preface.set(magic)
  const view = new DataView(preface.buffer)
  view.setUint16(8, range.oldest, true)
  view.setUint16(10, range.newest, true)
  return preface
}

/** Reads the other side's preface, however it is cut into chunks. */
export class PrefaceReader {
  readonly #ours: ProtocolRange
  readonly #received: Uint8Array = new Uint8Array(prefaceBytes)
  #length = 0

  constructor(ours: ProtocolRange) {
    this.#ours = ours
  }

  /** The version to speak and the bytes behind the preface; undefined: more must come. Errors: PROTOCOL_INCOMPATIBLE. */
  push(bytes: Uint8Array): { readonly version: number; readonly rest: Uint8Array } | undefined {
    const count = Math.min(bytes.length, prefaceBytes - this.#length)
    this.#received.set(bytes.subarray(0, count), this.#length)
    this.#length += count
    for (let i = 0; i < Math.min(this.#length, magic.length); i++) {
      if (this.#received[i] !== magic[i]) throw this.#incompatible('the other side does not speak Coterie')
    }
    if (this.#length < prefaceBytes) return undefined
    const view = new DataView(this.#received.buffer)
    const theirs: ProtocolRange = { oldest: view.getUint16(8, true), newest: view.getUint16(10, true) }
    const version = Math.min(this.#ours.newest, theirs.newest)
    if (version < this.#ours.oldest || version < theirs.oldest) {
      throw this.#incompatible('the other side speaks other versions of the protocol', theirs)
    }
    return { version, rest: bytes.subarray(count) }
  }

  #incompatible(reason: string, theirs?: ProtocolRange): CoterieError {
    const ours = `${this.#ours.oldest} to ${this.#ours.newest}`
    const said = theirs === undefined ? '' : ` (ours ${ours}, theirs ${theirs.oldest} to ${theirs.newest})`
    return new CoterieError('PROTOCOL_INCOMPATIBLE', `${reason}${said}`, {
      details: { ours: this.#ours, ...(theirs === undefined ? {} : { theirs }) },
    })
  }
}
