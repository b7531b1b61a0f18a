// Seeds that failed once, and what they found. A test runs them all, for ever: what a seed does changes with the code,
// but a run that was bad for one version is as good as any for the next, and costs little.

import type { RunKind } from './stage.ts'

export interface RegressionSeed {
  readonly seed: number
  readonly kind: RunKind
  /** As given to the run that failed; left out where it was drawn. */
  readonly sites?: 3 | 5 | 7
  readonly faults?: readonly string[]
  /** Which judge objected, and to what. */
  readonly found: string
}

export const regressionSeeds: readonly RegressionSeed[] = [
  {
    seed: 65,
    kind: 'group',
    found: 'order of reads: a read-only transaction on a master that had been replaced showed an old state',
  },
  {
    seed: 29,
    kind: 'group',
    found: 'what readers see: with acks that attest applied, a read on a former master failed an assertion',
  },
  {
    seed: 1042,
    kind: 'group',
    found:
      'one master per term: a new site that was cut off founded a second group beside the one it had met',
  },
  { seed: 1074, kind: 'group', found: 'one master per term: the same, in a group of another size' },
  {
    seed: 2103,
    kind: 'group',
    found:
      'permanent records: after a restart with acks that attest applied, a record counted as committed that was taken back',
  },
  {
    seed: 2118,
    kind: 'group',
    found: 'order of reads: a read-only transaction on a deposed master showed an old state',
  },
  { seed: 2194, kind: 'group', found: 'order of reads: the same' },
  {
    seed: 5135,
    kind: 'group',
    found: 'what readers see: a read on a former master failed an assertion, while acks attest applied',
  },
  {
    seed: 403_182,
    kind: 'group',
    found: 'terms and votes: a candidate asked for votes in a term whose master it had followed for a moment',
  },
  {
    seed: 404_670,
    kind: 'group',
    found: 'progress: nothing; a site that was stopping as all was made well again stayed down',
  },
  {
    seed: 404_726,
    kind: 'group',
    found:
      'convergence: a site with a damaged log tried to rewind it for ever, and neither stopped nor said so',
  },
  {
    seed: 6,
    kind: 'group',
    found: 'what readers see: nothing; the judge itself read at another LSN than readers do',
  },
  {
    seed: 32,
    kind: 'group',
    found: 'log for replicas: nothing; the judge compared with what a replica had needed some events before',
  },
  {
    seed: 503_134,
    kind: 'group',
    found:
      'log for replicas: a replica that came while segments were being removed was promised records that went next',
  },
  {
    seed: 601_515,
    kind: 'group',
    found:
      'linearisability: a site that was turned away read its own empty database as the newest before it had left the group',
  },
  {
    seed: 127,
    kind: 'below',
    found:
      'refusal: a site that was just ceasing to serve in its turn was not attached, as if it served as master',
  },
  {
    seed: 19,
    kind: 'served',
    found:
      'linearisability: a master by hand that was started again read less as the newest than it had acknowledged',
  },
  {
    seed: 2,
    kind: 'served',
    found: 'ended sessions: a master took an old Accept, which named itself, for word of a second master',
  },
  { seed: 1024, kind: 'served', found: 'ended sessions: the same, with a Heartbeat' },
  {
    seed: 4030,
    kind: 'served',
    found:
      'progress: an heir whose hand-over was lost was let in below the old master, which served in its turn by then, and never learned that it was one',
  },
  {
    seed: 4154,
    kind: 'served',
    found: 'assertion: an heir that had heard from a site below that the term was its own could not begin it',
  },
  {
    seed: 28,
    kind: 'below',
    found:
      'assertion: a takeover was asked for through an attachment that had ended, and had not said so yet',
  },
  { seed: 1005, kind: 'served', found: 'what goes below: nothing; an old Join had come again' },
  {
    seed: 36,
    kind: 'pair',
    found:
      'sites start again: a power cut after a rewind brought back rows of records that the log did not have any more, and the log passed for damaged',
  },
  { seed: 76, kind: 'pair', found: 'sites start again: the same' },
  {
    seed: 191,
    kind: 'pair',
    found: 'assertion: what was due to be applied before a rewind was asked of the log after it',
  },
  {
    seed: 247,
    kind: 'pair',
    found:
      'convergence: a site that was preferred by a record that the other one lacked neither followed that one nor took its place',
  },
  {
    seed: 151,
    kind: 'pair',
    found:
      'order of reads: nothing; a commit that was undone stood beyond the end of the log, and was held for one',
  },
]
