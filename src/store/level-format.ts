// LevelDB's file formats, as far as checking its files needs them (level-check.ts): log blocks, version edits,
// tables. Only what LevelDB 1.20 writes with compression off; anything else is `undefined` or a `problem`, never a
// guess. Sequence numbers have 56 bits there; a store that needs more than 53 is out of reach.

import { crc32c } from './crc32c.ts'

export const logBlockBytes = 32_768
const logHeaderBytes = 7
const fragment = { full: 1, first: 2, middle: 3, last: 4 } as const

export const tableFooterBytes = 48
export const blockTrailerBytes = 5
const tableMagic = [0x57, 0xfb, 0x80, 0x8b, 0x24, 0x75, 0x47, 0xdb]

function readU32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0
  )
}

/** LevelDB stores checksums rotated and shifted, so that the checksum of data with checksums in it stays good. */
function unmask(stored: number): number {
  const rotated = (stored - 0xa282_ead8) >>> 0
  return ((rotated >>> 17) | (rotated << 15)) >>> 0
}

/** Walks the blocks of a log file and puts its records together. */
export class LevelLogParser {
  readonly #keepBytes: number
  readonly #onRecord: (start: number, head: Uint8Array) => boolean
  /** The record that is being put together: where it starts, and its first bytes. */
  #start = -1
  #head: number[] = []
  /** Whole, good records end here. */
  goodBytes = 0
  /** Set once something is wrong; nothing more is read then. */
  problem: string | undefined

  /** `onRecord` gets the first `keepBytes` of each record and returns false to stop there. */
  constructor(options: {
    readonly keepBytes: number
    readonly onRecord: (start: number, head: Uint8Array) => boolean
  }) {
    this.#keepBytes = options.keepBytes
    this.#onRecord = options.onRecord
  }

  /** True inside a record: at the end of the file that means torn. */
  get inRecord(): boolean {
    return this.#start >= 0
  }

  /** `block` stands at `offset`; only the last one of a file is shorter than `logBlockBytes`. */
  block(block: Uint8Array, offset: number): void {
    let at = 0
    while (this.problem === undefined && block.length - at >= logHeaderBytes) {
      const length = (block[at + 4] as number) | ((block[at + 5] as number) << 8)
      const kind = block[at + 6] as number
      const end = at + logHeaderBytes + length
      if (end > block.length) {
        this.problem = 'a record goes beyond its block'
        return
      }
      // Zeros where a write was lost: LevelDB would skip them in silence.
      if (unmask(readU32(block, at)) !== crc32c(block, at + 6, end)) {
        this.problem = 'a record does not verify'
        return
      }
      this.#take(kind, block.subarray(at + logHeaderBytes, end), { start: offset + at, end: offset + end })
      at = end
    }
    const isLast = block.length < logBlockBytes
    if (this.problem === undefined && isLast && at < block.length) this.problem = 'a record header is cut off'
  }

  #take(kind: number, bytes: Uint8Array, place: { readonly start: number; readonly end: number }): void {
    const begins = kind === fragment.full || kind === fragment.first
    const known = begins || kind === fragment.middle || kind === fragment.last
    if (!known || begins === this.inRecord) {
      this.problem = 'the parts of a record do not fit together'
      return
    }
    if (begins) {
      this.#start = place.start
      this.#head = []
    }
    for (let i = 0; i < bytes.length && this.#head.length < this.#keepBytes; i++) {
      this.#head.push(bytes[i] as number)
    }
    if (kind === fragment.first || kind === fragment.middle) return
    const start = this.#start
    this.#start = -1
    if (!this.#onRecord(start, Uint8Array.from(this.#head))) {
      this.problem ??= 'a record is out of sequence'
      return
    }
    this.goodBytes = place.end
  }
}

/** What the manifest says the store consists of. */
export interface LevelVersion {
  /** Logs from this number on are live. */
  logNumber: number
  previousLogNumber: number
  lastSequence: number
  /** Live tables: number and size. */
  readonly tables: Map<number, number>
}

const editTag = {
  comparator: 1,
  logNumber: 2,
  nextFileNumber: 3,
  lastSequence: 4,
  compactPointer: 5,
  deletedFile: 6,
  newFile: 7,
  previousLogNumber: 9,
} as const

class Reader {
  readonly #bytes: Uint8Array
  at: number
  readonly #end: number
  failed = false

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.#bytes = bytes
    this.at = at
    this.#end = end
  }

  get isAtEnd(): boolean {
    return this.at >= this.#end
  }

  varint(): number {
    let value = 0
    for (let scale = 1; scale <= 2 ** 49; scale *= 128) {
      if (this.at >= this.#end) break
      const byte = this.#bytes[this.at++] as number
      value += (byte & 127) * scale
      if (byte < 128) return value
    }
    this.failed = true
    return 0
  }

  skip(count: number): void {
    this.at += count
    if (this.at > this.#end) this.failed = true
  }
}

/** Applies one record of the manifest; false if it is not understood. */
export function applyVersionEdit(version: LevelVersion, edit: Uint8Array): boolean {
  const reader = new Reader(edit, 0, edit.length)
  while (!reader.isAtEnd && !reader.failed) {
    switch (reader.varint()) {
      case editTag.comparator:
        reader.skip(reader.varint())
        break
      case editTag.logNumber:
        version.logNumber = reader.varint()
        break
      case editTag.previousLogNumber:
        version.previousLogNumber = reader.varint()
        break
      case editTag.nextFileNumber:
        reader.varint()
        break
      case editTag.lastSequence:
        version.lastSequence = reader.varint()
        break
      case editTag.compactPointer:
        reader.varint()
        reader.skip(reader.varint())
        break
      case editTag.deletedFile:
        reader.varint()
        version.tables.delete(reader.varint())
        break
      case editTag.newFile: {
        reader.varint()
        const number = reader.varint()
        version.tables.set(number, reader.varint())
        reader.skip(reader.varint())
        reader.skip(reader.varint())
        break
      }
      default:
        return false
    }
  }
  return !reader.failed
}

/** The head of a write batch in a log: its first sequence number and how many it uses. */
export function batchSequence(
  head: Uint8Array,
): { readonly first: number; readonly count: number } | undefined {
  if (head.length < 12) return undefined
  return { first: readU32(head, 4) * 0x1_0000_0000 + readU32(head, 0), count: readU32(head, 8) }
}

/** Where a block of a table stands, without its trailer. */
export interface BlockPlace {
  readonly offset: number
  readonly bytes: number
}

function readPlace(reader: Reader): BlockPlace {
  const offset = reader.varint()
  return { offset, bytes: reader.varint() }
}

export function readFooter(
  footer: Uint8Array,
): { readonly metaIndex: BlockPlace; readonly index: BlockPlace } | undefined {
  if (footer.length !== tableFooterBytes) return undefined
  const magicAt = tableFooterBytes - tableMagic.length
  if (!tableMagic.every((byte, i) => footer[magicAt + i] === byte)) return undefined
  const reader = new Reader(footer, 0, magicAt)
  const metaIndex = readPlace(reader)
  const index = readPlace(reader)
  return reader.failed ? undefined : { metaIndex, index }
}

/** True if the block at `at`, with its trailer, verifies and is not compressed. */
export function blockVerifies(bytes: Uint8Array, at: number, blockBytes: number): boolean {
  const kindAt = at + blockBytes
  return bytes[kindAt] === 0 && unmask(readU32(bytes, kindAt + 1)) === crc32c(bytes, at, kindAt + 1)
}

/** The places that an index block (without its trailer) names, in order; undefined if it makes no sense. */
export function placesInIndex(block: Uint8Array): BlockPlace[] | undefined {
  if (block.length < 4) return undefined
  const entriesEnd = block.length - 4 - 4 * readU32(block, block.length - 4)
  if (entriesEnd < 0) return undefined
  const places: BlockPlace[] = []
  const reader = new Reader(block, 0, entriesEnd)
  while (!reader.isAtEnd && !reader.failed) {
    reader.varint()
    const keyBytes = reader.varint()
    const valueBytes = reader.varint()
    reader.skip(keyBytes)
    const valueReader = new Reader(block, reader.at, Math.min(entriesEnd, reader.at + valueBytes))
    places.push(readPlace(valueReader))
    if (valueReader.failed) return undefined
    reader.skip(valueBytes)
  }
  return reader.failed ? undefined : places
}
