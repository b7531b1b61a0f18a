// Frames: how messages stand in a byte stream.
//
//   u32 control bytes | u32 payload bytes | u32 crc | control | payload          (little-endian)
//
// The crc (CRC-32) covers the first eight bytes and the control; a payload carries checksums of its own. A frame over
// the bound or with a wrong crc makes the whole stream invalid: nothing behind it can be trusted to be a frame.

import { emptyBytes } from '../base/bytes.ts'
import { crc32 } from '../base/checksum.ts'
import { CoterieError } from '../base/errors.ts'
import { ByteQueue } from './byte-queue.ts'

export const frameHeaderBytes = 12

/** Up to here a table in JavaScript is faster than a call of the host's crc32. */
const tableBytesMax = 64
const crcTable: Int32Array = makeCrcTable()

function makeCrcTable(): Int32Array {
  const table = new Int32Array(256)
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0)
    table[byte] = crc
  }
  return table
}

function crcOfU32(crc: number, value: number): number {
  let mixed = crc
  mixed = (crcTable[(mixed ^ value) & 255] as number) ^ (mixed >>> 8)
  mixed = (crcTable[(mixed ^ (value >>> 8)) & 255] as number) ^ (mixed >>> 8)
  mixed = (crcTable[(mixed ^ (value >>> 16)) & 255] as number) ^ (mixed >>> 8)
  return (crcTable[(mixed ^ (value >>> 24)) & 255] as number) ^ (mixed >>> 8)
}

/** The checksum of a frame whose control is `control` and whose payload has `payloadBytes`. */
export function frameCrc(control: Uint8Array, payloadBytes: number): number {
  let crc = crcOfU32(crcOfU32(-1, control.length), payloadBytes)
  if (control.length > tableBytesMax) return crc32(control, ~crc >>> 0)
  for (let i = 0; i < control.length; i++) {
    crc = (crcTable[(crc ^ (control[i] as number)) & 255] as number) ^ (crc >>> 8)
  }
  return ~crc >>> 0
}

export function writeFrameHeader(into: Uint8Array, at: number, frame: FrameHeader): void {
  writeU32(into, at, frame.controlBytes)
  writeU32(into, at + 4, frame.payloadBytes)
  writeU32(into, at + 8, frame.crc)
}

export interface FrameHeader {
  readonly controlBytes: number
  readonly payloadBytes: number
  readonly crc: number
}

/** Cuts a byte stream into frames. After `invalid` it must not be used any more. */
export class FrameReader {
  /** The last frame that `next` found. */
  control: Uint8Array = emptyBytes
  payload: Uint8Array = emptyBytes
  boundBytes: number
  readonly #queue: ByteQueue = new ByteQueue()
  #state: 'header' | 'control' | 'payload' = 'header'
  #controlBytes = 0
  #payloadBytes = 0
  #crc = 0
  #error: CoterieError | undefined

  constructor(options: { readonly boundBytes: number }) {
    this.boundBytes = options.boundBytes
  }

  /** Why `next` said `invalid`. */
  get error(): CoterieError | undefined {
    return this.#error
  }

  /** True if a part of a frame has come and the rest has not. */
  get isInsideFrame(): boolean {
    return this.#state !== 'header' || this.#queue.length > 0
  }

  push(bytes: Uint8Array): void {
    this.#queue.push(bytes)
  }

  /** `frame`: `control` and `payload` hold the next one. `more`: it has not come as a whole yet. */
  next(): 'frame' | 'more' | 'invalid' {
    const queue = this.#queue
    if (this.#state === 'header') {
      if (queue.length < frameHeaderBytes) return 'more'
      this.#takeHeader()
      if (this.#controlBytes + this.#payloadBytes > this.boundBytes) return this.#failTooLong()
      this.#state = 'control'
    }
    if (this.#state === 'control') {
      if (queue.length < this.#controlBytes) return 'more'
      this.control = this.#controlBytes === 0 ? emptyBytes : queue.take(this.#controlBytes)
      if (frameCrc(this.control, this.#payloadBytes) !== this.#crc) return this.#failChecksum()
      this.#state = 'payload'
    }
    if (queue.length < this.#payloadBytes) return 'more'
    this.payload = this.#payloadBytes === 0 ? emptyBytes : queue.take(this.#payloadBytes)
    this.#state = 'header'
    return 'frame'
  }

  /** Lets go of all that was received. */
  clear(): void {
    this.#queue.clear()
    this.#state = 'header'
    this.control = emptyBytes
    this.payload = emptyBytes
  }

  #takeHeader(): void {
    const first = this.#queue.first as Uint8Array
    const offset = this.#queue.firstOffset
    const inFirst = first.length - offset >= frameHeaderBytes
    const bytes = inFirst ? first : this.#queue.take(frameHeaderBytes)
    const at = inFirst ? offset : 0
    this.#controlBytes = readU32(bytes, at)
    this.#payloadBytes = readU32(bytes, at + 4)
    this.#crc = readU32(bytes, at + 8)
    if (inFirst) this.#queue.skipInFirst(frameHeaderBytes)
  }

  #failTooLong(): 'invalid' {
    return this.#fail(
      `a message of ${this.#controlBytes} + ${this.#payloadBytes} bytes is above the bound of ${this.boundBytes}`,
    )
  }

  #failChecksum(): 'invalid' {
    return this.#fail('the checksum of a frame is wrong')
  }

  #fail(reason: string): 'invalid' {
    this.#error = new CoterieError('FRAME_INVALID', reason, {
      details: {
        controlBytes: this.#controlBytes,
        payloadBytes: this.#payloadBytes,
        boundBytes: this.boundBytes,
      },
    })
    this.clear()
    return 'invalid'
  }
}

function writeU32(into: Uint8Array, at: number, value: number): void {
  into[at] = value
  into[at + 1] = value >>> 8
  into[at + 2] = value >>> 16
  into[at + 3] = value >>> 24
}

function readU32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0
  )
}
