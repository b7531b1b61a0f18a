// Frames on their way out. What is sent within one turn of the event loop is gathered and leaves in one write: small
// pieces are copied next to each other (cheaper than a system call's entry for each), large ones go as they are.

import { assert } from '../base/assert.ts'
import { emptyBytes } from '../base/bytes.ts'
import { frameCrc, frameHeaderBytes, writeFrameHeader } from './frame.ts'

const copiedBytesMax = 4096
const slabBytes = 65_536

export class OutgoingFrames {
  #parts: Uint8Array[] = []
  #slab: Uint8Array = emptyBytes
  /** Invariant: [0, `slabSent`) of the slab has left, [`slabSent`, `slabUsed`) has not and is not in `parts` either. */
  #slabSent = 0
  #slabUsed = 0
  #bytes = 0

  /** Bytes that wait for `takeAll`. */
  get bytes(): number {
    return this.#bytes
  }

  /** Returns how many bytes the frame takes. */
  add(control: Uint8Array, payload: Uint8Array): number {
    assert(control.length <= 0xffff_ffff && payload.length <= 0xffff_ffff, 'the lengths of a frame fit a u32')
    const header = {
      controlBytes: control.length,
      payloadBytes: payload.length,
      crc: frameCrc(control, payload.length),
    }
    this.#reserve(frameHeaderBytes)
    writeFrameHeader(this.#slab, this.#slabUsed, header)
    this.#slabUsed += frameHeaderBytes
    this.#put(control)
    this.#put(payload)
    const frameBytes = frameHeaderBytes + control.length + payload.length
    this.#bytes += frameBytes
    return frameBytes
  }

  takeAll(): Uint8Array[] {
    this.#closeRun()
    const parts = this.#parts
    this.#parts = []
    this.#bytes = 0
    return parts
  }

  #put(bytes: Uint8Array): void {
    if (bytes.length === 0) return
    if (bytes.length > copiedBytesMax) {
      this.#closeRun()
      this.#parts.push(bytes)
      return
    }
    this.#reserve(bytes.length)
    this.#slab.set(bytes, this.#slabUsed)
    this.#slabUsed += bytes.length
  }

  /** The host may still read what it was given, so a slab is never written twice: a full one is left to it. */
  #reserve(bytes: number): void {
    if (this.#slab.length - this.#slabUsed >= bytes) return
    this.#closeRun()
    this.#slab = new Uint8Array(slabBytes)
    this.#slabSent = 0
    this.#slabUsed = 0
  }

  #closeRun(): void {
    if (this.#slabUsed === this.#slabSent) return
    this.#parts.push(this.#slab.subarray(this.#slabSent, this.#slabUsed))
    this.#slabSent = this.#slabUsed
  }
}
