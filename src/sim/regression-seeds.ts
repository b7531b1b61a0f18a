// Seeds that failed once, and what they found. A test runs them all, for ever: what a seed does changes with the code,
// but a run that was bad for one version is as good as any for the next, and costs little.

export interface RegressionSeed {
  readonly seed: number
  /** As given to the run that failed; left out where it was drawn. */
  readonly sites?: 3 | 5 | 7
  readonly faults?: readonly string[]
  /** Which judge objected, and to what. */
  readonly found: string
}

export const regressionSeeds: readonly RegressionSeed[] = [
  {
    seed: 65,
    found: 'order of reads: a read-only transaction on a master that had been replaced showed an old state',
  },
  {
    seed: 29,
    found: 'what readers see: with acks that attest applied, a read on a former master failed an assertion',
  },
]
