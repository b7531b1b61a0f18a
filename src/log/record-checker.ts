// Verifies a log, entry by entry: the one piece of code that decides whether a record is what it should be.
//
// Recovery, reads, `verify` and batches from the network all go through it, so they cannot disagree. It holds the
// place of the last record accepted and takes the next one only if that fits: own checksum, LSN, chain, term.
// It never throws and never reads past the bytes it is given, whatever they hold.

import type { RecordPlace } from '../base/batch.ts'
import { crc32 } from '../base/checksum.ts'
import { type Lsn, lsnPlus, type Term } from '../base/lsn.ts'
import {
  databaseSeed,
  isRecordKind,
  markBytes,
  readMark,
  readU32,
  readU64,
  recordBytesMax,
  recordField,
  recordHeaderBytes,
  recordKind,
} from './record-format.ts'

/** Why `RecordChecker.check` took nothing. Negative, so that one number carries a length or a stop. */
export const entryStop = {
  /** The entry reaches past the bytes given: `neededBytes` says how many it takes. */
  incomplete: -1,
  /** A header of zeros: nothing was ever written here. */
  zeros: -2,
  /** Not the entry that belongs here: `reason` says why. */
  invalid: -3,
  /** The right record in the right place, of a kind that this version does not know. */
  unsupported: -4,
} as const

export interface RecordCheckerOptions {
  readonly databaseId: string
  /** The record that the first one must follow. */
  readonly previous: RecordPlace
  /** Accept durable marks of the segment with this seed. Left out for bytes from the network. */
  readonly markSeed?: number
}

export class RecordChecker {
  readonly #seed: number
  readonly #markSeed: number | undefined
  #lsn: Lsn
  #term: Term
  #crc: number

  /** Of the entry that was taken last; `recordKind.mark` for a mark. */
  kind = 0
  /** What the mark attests, if the entry taken last is one. */
  markedLsn: Lsn = 0 as Lsn
  /** The place before the record that was taken last. */
  previous: RecordPlace
  /** Set with `entryStop.incomplete`. */
  neededBytes = 0
  /** Set with `entryStop.invalid` and `entryStop.unsupported`. */
  reason = ''

  constructor(options: RecordCheckerOptions) {
    this.#seed = databaseSeed(options.databaseId)
    this.#markSeed = options.markSeed
    this.#lsn = options.previous.lsn
    this.#term = options.previous.term
    this.#crc = options.previous.crc
    this.previous = options.previous
  }

  /** Of the record accepted last. */
  get place(): RecordPlace {
    return { lsn: this.#lsn, term: this.#term, crc: this.#crc }
  }

  get nextLsn(): Lsn {
    return lsnPlus(this.#lsn, 1)
  }

  /**
   * Looks at the entry that starts at `at` and takes it if it fits. Returns its length, or an `entryStop`.
   * The bytes end at `end`; `moreBytes` follow elsewhere (in the file), so an entry may reach that far.
   */
  check(bytes: Uint8Array, at: number, end: number, moreBytes: number): number {
    if (end - at < recordHeaderBytes) {
      if (end - at + moreBytes < recordHeaderBytes) return this.#invalid('it is cut short')
      this.neededBytes = recordHeaderBytes
      return entryStop.incomplete
    }
    const length = readU32(bytes, at + recordField.length)
    if (length === 0 && isZero(bytes, at, recordHeaderBytes)) return entryStop.zeros
    const kind = bytes[at + recordField.kind] as number
    if (kind === recordKind.mark) return this.#checkMark(bytes, at)
    if (length < recordHeaderBytes || length > recordBytesMax)
      return this.#invalid('its length is impossible')
    if (length > end - at) {
      if (length > end - at + moreBytes) return this.#invalid('it is cut short')
      this.neededBytes = length
      return entryStop.incomplete
    }
    const crc = readU32(bytes, at + recordField.crc)
    if (crc32(bytes.subarray(at + recordField.length, at + length), this.#seed) !== crc) {
      return this.#invalid('its checksum is wrong')
    }
    return this.#checkPlace(bytes, at, length, crc)
  }

  #checkMark(bytes: Uint8Array, at: number): number {
    if (this.#markSeed === undefined) return this.#invalid('a durable mark does not belong here')
    const markedLsn = readMark(bytes, at, this.#markSeed)
    if (markedLsn === undefined) return this.#invalid('its checksum is wrong')
    // A mark ahead of its records means that records before it are gone.
    if (markedLsn > this.#lsn) return this.#invalid('a durable mark names a later record')
    this.kind = recordKind.mark
    this.markedLsn = markedLsn
    return markBytes
  }

  #checkPlace(bytes: Uint8Array, at: number, length: number, crc: number): number {
    if (readU64(bytes, at + recordField.lsn) !== this.#lsn + 1)
      return this.#invalid('its LSN is not the next')
    if (readU32(bytes, at + recordField.previousCrc) !== this.#crc) {
      return this.#invalid('it does not follow the record before it')
    }
    const term = readU32(bytes, at + recordField.term) as Term
    const kind = bytes[at + recordField.kind] as number
    if (term < this.#term) return this.#invalid('its term falls')
    if (bytes[at + recordField.flags] !== 0) return this.#unsupported('its flags are not known')
    if (!isRecordKind(kind)) return this.#unsupported('its kind is not known')
    if ((kind === recordKind.term) !== term > this.#term) {
      return this.#invalid('terms change with term records, and only with them')
    }
    this.kind = kind
    this.previous = { lsn: this.#lsn, term: this.#term, crc: this.#crc }
    this.#lsn = lsnPlus(this.#lsn, 1)
    this.#term = term
    this.#crc = crc
    return length
  }

  #invalid(reason: string): number {
    this.reason = reason
    return entryStop.invalid
  }

  #unsupported(reason: string): number {
    this.reason = reason
    return entryStop.unsupported
  }
}

function isZero(bytes: Uint8Array, at: number, length: number): boolean {
  for (let i = at; i < at + length; i++) if (bytes[i] !== 0) return false
  return true
}
