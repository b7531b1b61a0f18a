// A digest of all rows, to tell whether two stores hold the same: the same rows give the same digest whatever the
// engine, and other rows another one but for chance (two checksums of different polynomials, the number of rows and
// their bytes). Not a defence against someone who wants two stores to look alike.

import { crc32 } from '../base/checksum.ts'
import { crc32c } from './crc32c.ts'
import type { StoreSnapshot } from './store.ts'

export interface Digest {
  readonly digest: string
  readonly rows: number
  /** Of keys and values. */
  readonly bytes: number
}

const rowsPerCall = 2048
const blockBytes = 65_536

/** Reads all rows of the snapshot. `onProgress` is told the rows and bytes so far, now and then. */
export async function digestOf(
  snapshot: StoreSnapshot,
  onProgress?: (progress: { readonly rows: number; readonly bytes: number }) => void,
): Promise<Digest> {
  const iterator = snapshot.iterate({})
  const summer = new Summer()
  let rows = 0
  try {
    for (
      let part = await iterator.next(rowsPerCall);
      part.length > 0;
      part = await iterator.next(rowsPerCall)
    ) {
      for (const [key, value] of part) {
        summer.length(key.length)
        summer.length(value.length)
        summer.bytes(key)
        summer.bytes(value)
      }
      rows += part.length
      onProgress?.({ rows, bytes: summer.total - rows * 8 })
    }
  } finally {
    await iterator.close()
  }
  return { digest: `${summer.end()}-${rows}`, rows, bytes: summer.total - rows * 8 }
}

/** Both checksums over all that it is given; gathered into blocks, because a call for a few bytes costs most. */
class Summer {
  readonly #block = new Uint8Array(blockBytes)
  #at = 0
  #first = 0
  #second = 0
  total = 0

  length(value: number): void {
    if (this.#at + 4 > blockBytes) this.#sum()
    const at = this.#at
    this.#block[at] = value
    this.#block[at + 1] = value >>> 8
    this.#block[at + 2] = value >>> 16
    this.#block[at + 3] = value >>> 24
    this.#at += 4
    this.total += 4
  }

  bytes(bytes: Uint8Array): void {
    for (let from = 0; from < bytes.length; ) {
      if (this.#at === blockBytes) this.#sum()
      const part = Math.min(bytes.length - from, blockBytes - this.#at)
      this.#block.set(part === bytes.length ? bytes : bytes.subarray(from, from + part), this.#at)
      this.#at += part
      from += part
    }
    this.total += bytes.length
  }

  end(): string {
    this.#sum()
    return hex(this.#first) + hex(this.#second)
  }

  #sum(): void {
    const block = this.#block.subarray(0, this.#at)
    this.#first = crc32(block, this.#first)
    this.#second = crc32c(block, 0, block.length, this.#second)
    this.#at = 0
  }
}

function hex(crc: number): string {
  return crc.toString(16).padStart(8, '0')
}
