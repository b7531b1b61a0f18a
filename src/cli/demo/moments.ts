// When what happens: the same seed gives the same moments, in cities acknowledged.

export interface Moments {
  /** A replica is killed ... */
  readonly killReplica: number
  /** ... and started again. */
  readonly restartReplica: number
  readonly addReplica: number
  readonly killMaster: number
  /**
   * From seeing that so many are acknowledged to the kill. Acks come in groups, and without a pause every kill would
   * fall between two of them, when the least can go wrong.
   */
  readonly killDelayMs: number
  /** Which of the two replicas is killed. */
  readonly victim: 0 | 1
}

export function momentsOf(seed: number, cities: number): Moments {
  const random = mulberry32(seed)
  const near = (fraction: number): number => Math.floor(cities * (fraction + (random() - 0.5) * 0.06))
  return {
    killReplica: near(0.35),
    restartReplica: near(0.45),
    addReplica: near(0.6),
    killMaster: near(0.85),
    killDelayMs: 1 + random() * 14,
    victim: random() < 0.5 ? 0 : 1,
  }
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
