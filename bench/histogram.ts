// Latencies in buckets that grow by about 3 %: adding one costs a few nanoseconds and no memory, so that measuring does
// not become a part of what is measured.

const bucketsPerOctave = 24
const buckets = bucketsPerOctave * 40
const smallestMs = 0.0001

export class Histogram {
  readonly #counts = new Uint32Array(buckets)
  count = 0
  #maxMs = 0

  add(ms: number): void {
    const octaves = Math.log2(Math.max(ms, smallestMs) / smallestMs)
    const index = Math.min(buckets - 1, Math.round(octaves * bucketsPerOctave))
    this.#counts[index] = (this.#counts[index] ?? 0) + 1
    this.count++
    if (ms > this.#maxMs) this.#maxMs = ms
  }

  /** The latency that `part` (0 to 1) of all were below, in ms; 0 if there are none. */
  percentile(part: number): number {
    let left = Math.ceil(this.count * part)
    for (let index = 0; index < buckets && this.count > 0; index++) {
      left -= this.#counts[index] ?? 0
      if (left <= 0) return smallestMs * 2 ** (index / bucketsPerOctave)
    }
    return this.#maxMs
  }
}

/** The middle one; of an even number the lower of the two. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right)
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN
}
