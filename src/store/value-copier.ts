// Copies of values that outlive the bytes they came from (a whole batch of log records, say). Small values share
// blocks: an array buffer for each costs ten times as much as the copy. A block lives as long as one of its values.

const blockBytes = 8192
const sharedBytesMax = 1024

export class ValueCopier {
  #block = new Uint8Array(0)
  #at = 0

  copy(value: Uint8Array): Uint8Array {
    if (value.length > sharedBytesMax) return new Uint8Array(value)
    if (this.#at + value.length > this.#block.length) {
      this.#block = new Uint8Array(blockBytes)
      this.#at = 0
    }
    const start = this.#at
    this.#at += value.length
    const copy = this.#block.subarray(start, this.#at)
    copy.set(value)
    return copy
  }
}
