// The words of a group: its table, its events as lines, its end as an exit code, the options of join, and the lines of
// the demo.

import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { describe, test } from 'node:test'
import { Emitter } from '../../src/base/emitter.ts'
import { CoterieError } from '../../src/base/errors.ts'
import { comebackText, type DemoReport, killText, reportText } from '../../src/cli/demo/report.ts'
import { EventLines } from '../../src/cli/event-lines.ts'
import { exitCodeOfGroup, printGroupEvents } from '../../src/cli/group-events.ts'
import { electionsText, groupTable } from '../../src/cli/group-text.ts'
import { toJoinOptions } from '../../src/cli/joining.ts'
import { Output } from '../../src/cli/output.ts'
import type { Progress } from '../../src/cli/progress.ts'
import type { Group, GroupEvents, GroupSite, GroupStatus } from '../../src/index.ts'

const site: GroupSite = {
  site: 'a',
  isSelf: false,
  isMember: true,
  state: 'replica',
  address: 'tcp://127.0.0.1:1',
  priority: 100,
  version: '0.1.0',
  term: 3,
  lastLsn: 48_211,
  durableLsn: 48_211,
  appliedLsn: 48_211,
  committedLsn: 48_211,
  lagRecords: 0,
  lagMs: undefined,
  ackMs: 0.8,
  heardMs: 120,
  linked: true,
}

function status(sites: readonly GroupSite[]): GroupStatus {
  return {
    role: 'replica',
    term: 3,
    master: { site: 'a', term: 3, address: 'tcp://127.0.0.1:1' },
    members: sites.filter((each) => each.isMember).map((each) => each.site),
    twoSites: 'strict',
    majority: 2,
    sites,
    canLose: { sites: 1, commits: 0 },
    canLoseText: 'can lose: 1 site, 0 commits',
    ageMs: 120,
    elections: 1,
    electionsWon: 0,
    stepDowns: 0,
    handOvers: 0,
  }
}

test('the table of a group has a line for each site, and is empty where nothing is known', () => {
  const nothing = { priority: undefined, version: undefined, term: undefined, lastLsn: undefined }
  const unknown = { lagRecords: undefined, ackMs: undefined, heardMs: undefined, linked: false }
  const group = status([
    { ...site, state: 'master' },
    { ...site, site: 'b', isSelf: true, heardMs: 0, lagRecords: 12 },
    { ...site, ...nothing, ...unknown, site: 'c', state: 'away', address: '' },
    { ...site, site: 'd', isMember: false, state: 'syncing', version: '\u001b[2J' },
  ])
  assert.equal(
    groupTable(group),
    [
      'site  role          state       lsn  lag  ack p99  version         heard  address',
      'a     master        live     48,211    0   0.8 ms  0.1.0      120 ms ago  tcp://127.0.0.1:1',
      'b     replica       live     48,211   12   0.8 ms  0.1.0            here  tcp://127.0.0.1:1',
      'c     replica       away                                           never',
      'd     not a member  syncing  48,211    0   0.8 ms  \\u001b[2J  120 ms ago  tcp://127.0.0.1:1',
    ].join('\n'),
  )
  assert.equal(electionsText(group), '2 of 3 members')
})

class Lines {
  readonly group = new Emitter<GroupEvents>()
  readonly #lines: EventLines
  #text = ''

  constructor(json: boolean) {
    const stdout = new PassThrough()
    stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#text += text
    })
    const output = new Output({ stdout, stderr: new PassThrough(), json, debug: false })
    this.#lines = new EventLines(output)
    printGroupEvents(this.group as unknown as Group, this.#lines, () => ({}) as Progress)
  }

  /** What was printed, without the time of day. */
  async text(): Promise<string[]> {
    await this.#lines.end()
    return this.#text
      .trimEnd()
      .split('\n')
      .map((line) => line.replace(/^\d\d:\d\d:\d\d {2}/, ''))
  }
}

describe('the lines of join', () => {
  const failed = { reason: 'no-majority', have: 1, need: 2 } as const

  function elections(group: Emitter<GroupEvents>): void {
    for (let round = 1; round < 4; round++) {
      group.emit('electionBegun', { round })
      group.emit('electionFailed', failed)
    }
    group.emit('electionBegun', { round: 4 })
    group.emit('electionFailed', { ...failed, reason: 'no-votes', have: 2 })
    group.emit('newMaster', { site: 'b', term: 4, address: 'tcp://b:1' })
    group.emit('electionBegun', { round: 5 })
  }

  test('an election that fails again and again is told when it is news', async () => {
    const lines = new Lines(false)
    elections(lines.group)
    assert.deepEqual(await lines.text(), [
      'no master is heard: an election begins',
      'nobody was elected, it is tried again: too few members answer (1 heard, 2 needed)',
      'nobody was elected, it is tried again: the votes were split (2 heard, 2 needed)',
      'the master is b, term 4, at tcp://b:1',
      'no master is heard: an election begins',
    ])
  })

  test('for programs every one of them is an object', async () => {
    const lines = new Lines(true)
    elections(lines.group)
    const events = (await lines.text()).map((line) => JSON.parse(line) as { event: string })
    assert.equal(events.length, 10)
    assert.equal(events.filter(({ event }) => event === 'electionFailed').length, 4)
  })
})

test('leaving by request is in order, and being sent away has the exit code of its reason', () => {
  const end = { lsn: 7, term: 1 }
  assert.equal(exitCodeOfGroup({ ...end, reason: 'left' }), 0)
  assert.equal(exitCodeOfGroup({ ...end, reason: 'cancelled' }), 0)
  const removed = new CoterieError('MEMBER_REMOVED', 'x')
  assert.equal(exitCodeOfGroup({ ...end, reason: 'removed', cause: removed }), 6)
  const foreign = new CoterieError('FOREIGN_HISTORY', 'x')
  assert.equal(exitCodeOfGroup({ ...end, reason: 'refused', cause: foreign }), 6)
  const poisoned = new CoterieError('LOG_POISONED', 'x')
  assert.equal(exitCodeOfGroup({ ...end, reason: 'failed', cause: poisoned }), 1)
})

test('the options of join become those of the library, and what is absent stays absent', () => {
  const { version, ...alone } = toJoinOptions({})
  assert.match(version ?? '', /^\d+\.\d+\.\d+/)
  assert.deepEqual(alone, { listen: ['tcp://127.0.0.1:0'] })
  const given = toJoinOptions({
    listen: ['tcp://0.0.0.0:1'],
    advertise: 'tcp://a:1',
    seed: ['tcp://b:1'],
    start: 'replica',
    priority: 0,
    acks: 'all',
    electionTimeout: 500,
    heartbeat: 50,
    replace: true,
  })
  assert.deepEqual(given, {
    listen: ['tcp://0.0.0.0:1'],
    advertise: 'tcp://a:1',
    seeds: ['tcp://b:1'],
    start: 'replica',
    priority: 0,
    acks: 'all',
    electionTimeoutMs: 500,
    heartbeatMs: 50,
    replace: true,
    version,
  })
})

describe('the words of the demo', () => {
  const kill = {
    killed: 'a',
    master: 'b',
    masterMs: 211.6,
    commitMs: 260,
    acknowledged: 48_211,
    lost: 0,
    unknown: 512,
    wereCommitted: 200,
  }
  const comeback = { kind: 'rewound', transactions: 1204, ms: 800, rewound: 3 }

  test('a kill and a comeback are one line each', () => {
    assert.equal(killText(kill), 'kill -9 a -> b master in 212 ms, acknowledged 48,211, lost 0')
    assert.equal(
      comebackText('a', comeback),
      '  a is back in 800 ms: rewound, 1,204 transactions, gave up 3 that nobody had acknowledged',
    )
  })

  test('what is lost is named, and counted in the last line', () => {
    const lostRows = Array.from({ length: 12 }, (_, index) => ({
      index,
      key: `city:${index}`,
      reason: 'missing',
      site: 'c',
    }))
    const report: DemoReport = {
      seed: 1,
      cities: 1000,
      acknowledged: 1000,
      lost: 12,
      digestsEqual: false,
      lostRows,
      sites: [{ site: 'a', digest: 'x', rows: 1001, bytes: 1, lsn: 7, checked: 1000, wrong: 12 }],
      failovers: [{ ...kill, comeback }],
      otherChanges: 2,
      load: { ms: 1000, commitsPerSecond: 1000, bytes: 1 },
      sentAgainBesides: 0,
      canLose: 'can lose: 1 site, 0 commits',
      checkMs: 1,
      totalMs: 1,
    }
    const text = reportText(report)
    assert.match(text, /^lost on c: city:9: missing\nand 2 more$/m)
    assert.match(text, /digests +DIFFERENT/)
    assert.match(text, /2 more changes of master, without a kill/)
    assert.match(text, /^acknowledged 1,000, lost 12$/m)
  })
})
