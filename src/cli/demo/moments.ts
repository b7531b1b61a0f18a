// When the master is killed: the same seed gives the same moments, in cities acknowledged.

export interface Moment {
  /** The master is killed when so many cities are acknowledged ... */
  readonly acknowledged: number
  /**
   * ... and so long has passed since. Acks come in groups, and without a pause every kill would fall between two of
   * them, when the least can go wrong.
   */
  readonly delayMs: number
}

/** Parts of the load between two kills, of which this much is drawn. */
const jitter = 0.3

export function momentsOf(
  seed: number,
  options: { readonly cities: number; readonly kills: number },
): Moment[] {
  const random = mulberry32(seed)
  const { cities, kills } = options
  return Array.from({ length: kills }, (_, index) => ({
    acknowledged: Math.floor((cities * (index + 1 + (random() - 0.5) * jitter)) / (kills + 1)),
    delayMs: 1 + random() * 14,
  }))
}

/** A small generator of numbers from 0 to 1; the same seed gives the same numbers. */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
