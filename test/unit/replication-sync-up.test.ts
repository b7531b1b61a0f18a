// How a replica comes into step, by table: each row is a master's log, a replica's, and the plan.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { History } from '../../src/base/history.ts'
import type { Lsn, Term } from '../../src/base/lsn.ts'
import type { SnapshotResume } from '../../src/replication/core-options.ts'
import { decideSync, type MasterLog } from '../../src/replication/sync-up.ts'

/** `1a@1 2b@5`: site a from LSN 1 on in term 1, site b from LSN 5 on in term 2. */
function historyOf(text: string): History {
  return text.split(' ').flatMap((part) => {
    const match = /^(\d+)([a-z])@(\d+)$/.exec(part)
    if (match === null) return []
    return [{ term: Number(match[1]) as Term, site: match[2] as string, firstLsn: Number(match[3]) as Lsn }]
  })
}

function placeOf(history: History, lsn: number, crc = lsn): { lsn: Lsn; term: Term; crc: number } {
  if (lsn === 0) return { lsn: 0 as Lsn, term: 0 as Term, crc: 0 }
  return { lsn: lsn as Lsn, term: (history.at(-1)?.term ?? 0) as Term, crc }
}

function masterOf(history: string, last: number, firstLsn = 1): MasterLog {
  const parsed = historyOf(history)
  return { databaseId: 'db', history: parsed, firstLsn: firstLsn as Lsn, last: placeOf(parsed, last) }
}

type Joiner = Parameters<typeof decideSync>[1]

function joinerOf(history: string, last: number, change: Partial<Joiner> = {}): Joiner {
  const parsed = historyOf(history)
  return {
    databaseId: 'db',
    history: parsed,
    firstLsn: 1 as Lsn,
    last: placeOf(parsed, last),
    permanentLsn: 0 as Lsn,
    replace: false,
    snapshot: false,
    resume: undefined,
    mixed: undefined,
    ...change,
  }
}

function outcome(master: MasterLog, joiner: Joiner): string {
  const decision = decideSync(master, joiner)
  if (decision.kind === 'refuse') return decision.code
  return `${decision.plan} ${decision.agreedLsn}${decision.resume === undefined ? '' : ' resumed'}`
}

const master = masterOf('1a@1 2b@5', 9)
const lsn = (value: number): Lsn => value as Lsn
const resume = (change: Partial<SnapshotResume>): SnapshotResume => ({
  databaseId: 'db',
  base: { lsn: lsn(6), term: 2 as Term, crc: 6 },
  reign: { term: 2 as Term, firstLsn: lsn(5), site: 'b' },
  newest: { lsn: lsn(8), reign: { term: 2 as Term, firstLsn: lsn(5), site: 'b' } },
  afterKey: new Uint8Array([1]),
  ...change,
})

describe('sync-up', () => {
  const rows: [title: string, MasterLog, Joiner, string][] = [
    ['the same log is equal', master, joinerOf('1a@1 2b@5', 9), 'equal 9'],
    ['a beginning of it is streamed to', master, joinerOf('1a@1 2b@5', 7), 'stream 7'],
    ['one that ends in an earlier reign is streamed to', master, joinerOf('1a@1', 4), 'stream 4'],
    ['one that went on in an earlier reign is rewound to its end', master, joinerOf('1a@1', 8), 'rewind 4'],
    ['one that has a reign of its own too', master, joinerOf('1a@1 3c@4', 6), 'rewind 3'],
    ['one that is longer in the same reign loses its tail', master, joinerOf('1a@1 2b@5', 12), 'rewind 9'],
    ['the same term of another site is another reign', master, joinerOf('1a@1 2c@5', 9), 'rewind 4'],
    ['an empty log of the same database is streamed from the start', master, joinerOf('', 0), 'stream 0'],
    ['one that shares only the beginning goes back to it', master, joinerOf('1c@1', 3), 'rewind 0'],
    [
      'but not if its beginning is forgotten',
      master,
      joinerOf('1c@2', 3, { firstLsn: lsn(2) }),
      'FOREIGN_HISTORY',
    ],
    [
      'equal places with different checksums are foreign',
      master,
      joinerOf('1a@1 2b@5', 9, { last: { lsn: lsn(9), term: 2 as Term, crc: 77 } }),
      'FOREIGN_HISTORY',
    ],
    ['no database: a snapshot', master, joinerOf('', 0, { databaseId: undefined }), 'snapshot 0'],
    ['another database is refused', master, joinerOf('1a@1', 4, { databaseId: 'other' }), 'FOREIGN_HISTORY'],
    [
      'unless it may be replaced',
      master,
      joinerOf('1a@1', 4, { databaseId: 'other', replace: true }),
      'snapshot 0',
    ],
    [
      'a log that was trimmed sends a snapshot',
      masterOf('1a@1 2b@5', 9, 6),
      joinerOf('1a@1', 4),
      'snapshot 4',
    ],
    ['but not if it just reaches', masterOf('1a@1 2b@5', 9, 5), joinerOf('1a@1', 4), 'stream 4'],
    [
      'what is permanent is not undone',
      master,
      joinerOf('1a@1', 8, { permanentLsn: lsn(5) }),
      'REWIND_REFUSED',
    ],
    ['and what is not, is', master, joinerOf('1a@1', 8, { permanentLsn: lsn(4) }), 'rewind 4'],
    [
      'replace gives up what is permanent',
      master,
      joinerOf('1a@1', 8, { permanentLsn: lsn(5), replace: true }),
      'snapshot 0',
    ],
    [
      'what the replica cannot undo any more is replaced by a snapshot',
      master,
      joinerOf('1a@1', 8, { firstLsn: lsn(6) }),
      'snapshot 4',
    ],
    ['a snapshot on demand', master, joinerOf('1a@1 2b@5', 9, { snapshot: true }), 'snapshot 9'],
    [
      'an earlier snapshot goes on if the log still reaches its base',
      masterOf('1a@1 2b@5', 9, 7),
      joinerOf('', 0, { databaseId: undefined, resume: resume({}) }),
      'snapshot 0 resumed',
    ],
    [
      'and begins afresh if not',
      masterOf('1a@1 2b@5', 9, 8),
      joinerOf('', 0, { databaseId: undefined, resume: resume({}) }),
      'snapshot 0',
    ],
    [
      'or if its base is of another reign',
      master,
      joinerOf('', 0, {
        databaseId: undefined,
        resume: resume({ reign: { term: 2 as Term, firstLsn: lsn(6), site: 'b' } }),
      }),
      'snapshot 0',
    ],
    [
      'or if rows of it are newer than the log',
      masterOf('1a@1 2b@5', 7),
      joinerOf('', 0, { databaseId: undefined, resume: resume({}) }),
      'snapshot 0',
    ],
    [
      'or if rows of it are of a record that was undone',
      masterOf('1a@1 2b@5 4c@8', 12),
      joinerOf('', 0, { databaseId: undefined, resume: resume({}) }),
      'snapshot 0',
    ],
    [
      'or of another database',
      master,
      joinerOf('', 0, { databaseId: undefined, resume: resume({ databaseId: 'other' }) }),
      'snapshot 0',
    ],
    [
      'rows of two ages are made one by the very record they were read at',
      master,
      joinerOf('1a@1', 4, {
        mixed: { lsn: lsn(7), reign: { term: 2 as Term, firstLsn: lsn(5), site: 'b' } },
      }),
      'stream 4',
    ],
    [
      'and are worth nothing without it',
      master,
      joinerOf('1a@1', 4, {
        mixed: { lsn: lsn(7), reign: { term: 1 as Term, firstLsn: lsn(1), site: 'a' } },
      }),
      'snapshot 4',
    ],
  ]
  for (const [title, from, to, expected] of rows) {
    test(title, () => assert.equal(outcome(from, to), expected))
  }
})
