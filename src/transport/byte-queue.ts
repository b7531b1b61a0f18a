// Received chunks in order, to be taken in pieces of any length. A piece that lies within one chunk is a view of it;
// others are joined. Holds only what was received, and not much more than its bytes: a peer that sends byte by byte
// would make a chunk object of each, so small chunks are gathered.

import { assert } from '../base/assert.ts'

const smallChunkBytes = 1024
const gatherBytes = 16_384

export class ByteQueue {
  #chunks: Uint8Array[] = []
  #head = 0
  #offset = 0
  #length = 0
  /** The last chunk if it was made here: the buffer behind it has room after its end. */
  #gather: { readonly buffer: Uint8Array; used: number } | undefined

  get length(): number {
    return this.#length
  }

  /** The first chunk and where its unread bytes begin: for readers that look before they take. */
  get first(): Uint8Array | undefined {
    return this.#chunks[this.#head]
  }

  get firstOffset(): number {
    return this.#offset
  }

  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return
    if (this.#length > 0 && bytes.length < smallChunkBytes) this.#gatherSmall(bytes)
    else {
      // A plain view: hosts hand over subclasses whose own views cost twice as much.
      this.#chunks.push(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length))
      this.#gather = undefined
    }
    this.#length += bytes.length
  }

  /** Drops `count` bytes, all of which lie in the first chunk. */
  skipInFirst(count: number): void {
    this.#offset += count
    this.#length -= count
    const first = this.#chunks[this.#head] as Uint8Array
    if (this.#offset === first.length) this.#dropFirst()
  }

  take(count: number): Uint8Array {
    assert(count <= this.#length, 'no more is taken than there is')
    const first = this.#chunks[this.#head]
    if (first !== undefined && first.length - this.#offset >= count) {
      const view = new Uint8Array(first.buffer, first.byteOffset + this.#offset, count)
      if (count > 0) this.skipInFirst(count)
      return view
    }
    const joined = new Uint8Array(count)
    for (let at = 0; at < count; ) {
      const chunk = this.#chunks[this.#head] as Uint8Array
      const length = Math.min(chunk.length - this.#offset, count - at)
      joined.set(chunk.subarray(this.#offset, this.#offset + length), at)
      at += length
      this.skipInFirst(length)
    }
    return joined
  }

  clear(): void {
    this.#chunks = []
    this.#head = 0
    this.#offset = 0
    this.#length = 0
    this.#gather = undefined
  }

  #gatherSmall(bytes: Uint8Array): void {
    let gather = this.#gather
    if (gather === undefined || gather.used + bytes.length > gather.buffer.length) {
      gather = { buffer: new Uint8Array(gatherBytes), used: 0 }
      this.#gather = gather
      this.#chunks.push(gather.buffer.subarray(0, 0))
    }
    gather.buffer.set(bytes, gather.used)
    const last = this.#chunks.length - 1
    const before = this.#chunks[last] as Uint8Array
    gather.used += bytes.length
    this.#chunks[last] = gather.buffer.subarray(gather.used - bytes.length - before.length, gather.used)
  }

  #dropFirst(): void {
    this.#offset = 0
    this.#head++
    if (this.#head === this.#chunks.length) {
      this.#chunks = []
      this.#head = 0
      this.#gather = undefined
    } else if (this.#head === 1024) {
      this.#chunks = this.#chunks.slice(this.#head)
      this.#head = 0
    }
  }
}
