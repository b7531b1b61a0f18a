// The bytes of one file in memory: blocks that are made when they are first written, so that a long file never
// moves and a hole costs nothing. What was never written reads as zeros.

import { emptyBytes } from '../../base/bytes.ts'

const blockBytes = 262_144
const firstBlockBytesMin = 4096

export class MemoryContent {
  /** Invariant: bytes of a block beyond `size` are zero, so that growing needs no clearing. */
  readonly #blocks: Uint8Array[] = []
  #size = 0

  get size(): number {
    return this.#size
  }

  read(into: Uint8Array, at: number): number {
    const count = Math.max(0, Math.min(into.length, this.#size - at))
    for (let done = 0; done < count; ) {
      const place = at + done
      const offset = place % blockBytes
      const block = this.#blocks[Math.floor(place / blockBytes)] ?? emptyBytes
      const length = Math.min(count - done, blockBytes - offset)
      const held = block.subarray(offset, offset + length)
      into.set(held, done)
      if (held.length < length) into.fill(0, done + held.length, done + length)
      done += length
    }
    return count
  }

  write(bytes: Uint8Array, at: number): void {
    for (let done = 0; done < bytes.length; ) {
      const place = at + done
      const offset = place % blockBytes
      const length = Math.min(bytes.length - done, blockBytes - offset)
      const block = this.#blockFor(Math.floor(place / blockBytes), offset + length)
      block.set(length === bytes.length ? bytes : bytes.subarray(done, done + length), offset)
      done += length
    }
    if (bytes.length > 0) this.#size = Math.max(this.#size, at + bytes.length)
  }

  truncate(size: number): void {
    if (size < this.#size) {
      const kept = Math.ceil(size / blockBytes)
      if (this.#blocks.length > kept) this.#blocks.length = kept
      if (size % blockBytes > 0) this.#blocks[kept - 1]?.fill(0, size % blockBytes)
    }
    this.#size = size
  }

  readAll(): Uint8Array {
    const whole = new Uint8Array(this.#size)
    this.read(whole, 0)
    return whole
  }

  copy(): MemoryContent {
    const copy = new MemoryContent()
    this.#blocks.forEach((block, index) => {
      copy.#blocks[index] = block.slice()
    })
    copy.#size = this.#size
    return copy
  }

  #blockFor(index: number, neededBytes: number): Uint8Array {
    const block = this.#blocks[index]
    if (block !== undefined && block.length >= neededBytes) return block
    let capacity = index === 0 ? Math.max(firstBlockBytesMin, (block?.length ?? 0) * 2) : blockBytes
    while (capacity < neededBytes) capacity *= 2
    const grown = new Uint8Array(Math.min(capacity, blockBytes))
    if (block !== undefined) grown.set(block)
    this.#blocks[index] = grown
    return grown
  }
}
