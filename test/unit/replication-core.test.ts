// The core by itself, call by call: what may not happen whatever comes in, and what the effects are and in which order.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import type { RecordPlace } from '../../src/base/batch.ts'
import { crc32 } from '../../src/base/checksum.ts'
import type { History } from '../../src/base/history.ts'
import type { Lsn, Term } from '../../src/base/lsn.ts'
import { encodeRows } from '../../src/base/row-run.ts'
import { Core } from '../../src/replication/core.ts'
import type { CoreOptions, FollowOptions, ServeOptions } from '../../src/replication/core-options.ts'
import type { Effect, StepResult } from '../../src/replication/effects.ts'
import { decodeMessage, encodeMessage } from '../../src/replication/message-codec.ts'
import type { Accept, Append, Message } from '../../src/replication/messages.ts'
import { CoreCluster } from '../support/core-cluster.ts'
import { batchOf, type FakeRecord, fakeCodec, makeRecord, startPlace } from '../support/fake-records.ts'

const lsn = (value: number): Lsn => value as Lsn
const term = (value: number): Term => value as Term

/** A log of one reign: a term record of site `a`, then `count` more. */
function logOf(count: number): { records: FakeRecord[]; history: History; last: RecordPlace } {
  const records = [makeRecord(startPlace, { term: term(1), isTerm: true, text: 'a' })]
  for (let i = 0; i < count; i++) {
    const previous = (records.at(-1) as FakeRecord).place
    records.push(makeRecord(previous, { term: term(1), isTerm: false, text: `k=${i}` }))
  }
  const last = (records.at(-1) as FakeRecord).place
  return { records, history: [{ term: term(1), firstLsn: lsn(1), site: 'a' }], last }
}

function coreOf(site: string, change: Partial<CoreOptions> = {}): Core {
  return new Core({
    site,
    databaseId: 'db',
    term: term(0),
    log: { first: lsn(1), last: startPlace, durableLsn: lsn(0), history: [] },
    appliedLsn: lsn(0),
    committedLsn: lsn(0),
    permanentLsn: lsn(0),
    codec: fakeCodec,
    random: () => 77,
    paranoid: true,
    ...change,
  })
}

/** A site that has all of `logOf(count)` on disk. */
function siteWith(site: string, count: number, change: Partial<CoreOptions> = {}): Core {
  const { history, last } = logOf(count)
  return coreOf(site, {
    term: term(1),
    log: { first: lsn(1), last, durableLsn: last.lsn, history },
    ...change,
  })
}

function masterWith(count: number, options: ServeOptions = {}): { core: Core; records: FakeRecord[] } {
  const { records } = logOf(count)
  const core = coreOf('a')
  core.serve({ ...options, now: 0 })
  core.startTerm(0)
  core.proposed({ batch: batchOf(records), now: 0 })
  core.takeEffects()
  return { core, records }
}

function sentBy(effects: readonly Effect[]): Message[] {
  return effects.flatMap((effect) => {
    if (effect.kind !== 'send') return []
    const decoded = decodeMessage(effect.control)
    assert.ok(decoded.ok)
    return [decoded.message]
  })
}

function kindsOf(effects: readonly Effect[]): string[] {
  return effects.map((effect) => (effect.kind === 'event' ? `event ${effect.event.kind}` : effect.kind))
}

function tell(
  core: Core,
  message: Message,
  options: { rec?: Uint8Array; from?: number; now?: number } = {},
): StepResult {
  const { from = 1, now = 1, rec } = options
  return core.processMessage({
    control: encodeMessage(message),
    from,
    now,
    ...(rec === undefined ? {} : { rec }),
  })
}

const envelope = { session: 77, term: term(1) }

function acceptOf(change: Partial<Accept> & { count?: number } = {}): Accept {
  const { count = 3, ...rest } = change
  const { last, history } = logOf(count)
  return {
    type: 'accept',
    ...envelope,
    databaseId: 'db',
    site: 'a',
    plan: 'equal',
    agreedLsn: last.lsn,
    history,
    last,
    committedLsn: lsn(0),
    permanentLsn: lsn(0),
    attest: 'durable',
    window: 1,
    heartbeatMs: 500,
    silenceTimeoutMs: 10_000,
    sites: 0,
    route: undefined,
    ...rest,
  }
}

/** A replica in step with a master whose log it has up to LSN 2. */
function following(options: FollowOptions = {}, change: Partial<CoreOptions> = {}): Core {
  const core = siteWith('b', 1, change)
  core.follow({ peer: 1, now: 0, options })
  core.takeEffects()
  return core
}

function appendOf(
  records: readonly FakeRecord[],
  change: Partial<Append> = {},
): { message: Append; rec: Uint8Array } {
  const batch = batchOf(records)
  return {
    message: {
      type: 'append',
      ...envelope,
      previous: batch.previous,
      lastLsn: batch.lastLsn,
      committedLsn: lsn(0),
      permanentLsn: lsn(0),
      ackNow: false,
      ...change,
    },
    rec: batch.bytes,
  }
}

describe('acks', () => {
  const { records } = logOf(5)
  const accept = acceptOf({ plan: 'stream', agreedLsn: lsn(2) })

  test('nothing of a record is acknowledged as durable before the driver has reported its sync', () => {
    const core = following()
    tell(core, accept)
    core.takeEffects()
    const { message, rec } = appendOf(records.slice(2, 4))
    assert.deepEqual(tell(core, message, { rec }), { kind: 'isPerm', lsn: 4 })
    assert.equal(core.lastLsn, 4)
    assert.deepEqual(kindsOf(core.takeEffects()), ['append'])
    core.synced({ durableLsn: lsn(4), now: 2 })
    const acks = sentBy(core.takeEffects()).filter((each) => each.type === 'ack')
    assert.deepEqual(
      acks.map((ack) => [ack.receivedLsn, ack.durableLsn]),
      [[4, 4]],
    )
  })

  test('an ack of what was received says what is durable, and no more', () => {
    const core = following()
    tell(core, { ...accept, attest: 'received' })
    core.takeEffects()
    const { message, rec } = appendOf(records.slice(2, 4))
    tell(core, message, { rec })
    const [ack] = sentBy(core.takeEffects())
    assert.ok(ack?.type === 'ack')
    assert.deepEqual([ack.receivedLsn, ack.durableLsn], [4, 2])
  })

  test('a record that came before its time is not permanent, and those that fill the gap let it in', () => {
    const core = following()
    tell(core, accept)
    const later = appendOf(records.slice(3, 5))
    assert.deepEqual(tell(core, later.message, { rec: later.rec }), { kind: 'notPerm', lsn: 5 })
    const missing = appendOf(records.slice(2, 3))
    assert.deepEqual(tell(core, missing.message, { rec: missing.rec }), { kind: 'isPerm', lsn: 5 })
    assert.equal(core.counters.gapsFilled, 1)
  })

  test('a batch that overlaps what is here is cut to what is new', () => {
    const core = following()
    tell(core, accept)
    core.takeEffects()
    const { message, rec } = appendOf(records.slice(0, 4))
    assert.deepEqual(tell(core, message, { rec }), { kind: 'isPerm', lsn: 4 })
    const appended = core.takeEffects().find((effect) => effect.kind === 'append')
    assert.equal(appended?.batch.firstLsn, 3)
  })

  test('a replica never commits beyond its own log', () => {
    const core = following()
    tell(core, accept)
    const { message, rec } = appendOf(records.slice(2, 3), { committedLsn: lsn(6), permanentLsn: lsn(5) })
    tell(core, message, { rec })
    assert.deepEqual([core.committedLsn, core.permanentLsn], [3, 3])
  })

  test('a master drops a replica that acknowledges what it was not sent', () => {
    const { core, records: own } = masterWith(3)
    const { history, last } = logOf(3)
    const joined = tell(core, joinOf({ history, last }))
    assert.equal(joined.kind, 'newSite')
    core.takeEffects()
    const ack = { type: 'ack' as const, ...envelope, stamp: 0, busy: false }
    const far = lsn(own.length + 1)
    tell(core, { ...ack, receivedLsn: far, durableLsn: far, appliedLsn: lsn(0) })
    assert.equal(core.committedLsn, 0)
    assert.equal(core.replicas.length, 0)
  })
})

function joinOf(change: Partial<Extract<Message, { type: 'join' }>>): Message {
  return {
    type: 'join',
    ...envelope,
    databaseId: 'db',
    site: 'b',
    incarnation: '',
    address: '',
    member: false,
    leaseMs: 0,
    history: [],
    firstLsn: lsn(1),
    last: startPlace,
    durableLsn: lsn(0),
    permanentLsn: lsn(0),
    replace: false,
    snapshot: false,
    forceSync: false,
    view: false,
    resume: undefined,
    mixed: undefined,
    ...change,
  }
}

const stoppedDetach: Message = {
  type: 'detach',
  ...envelope,
  fromMaster: false,
  code: 'DETACHED',
  message: 'stopped',
  master: '',
}

describe('what a master ignores', () => {
  function joined(): { core: Core; ack: Extract<Message, { type: 'ack' }> } {
    const { core } = masterWith(3, { sites: 2 })
    const { history, last } = logOf(3)
    tell(core, joinOf({ history, last }))
    core.synced({ durableLsn: last.lsn, now: 1 })
    core.takeEffects()
    const lsns = { receivedLsn: last.lsn, durableLsn: last.lsn, appliedLsn: lsn(0) }
    return { core, ack: { type: 'ack', ...envelope, ...lsns, stamp: 0, busy: false } }
  }

  test('an ack of a term that is over', () => {
    const { core, ack } = joined()
    core.startTerm(2)
    const next = makeRecord(core.last, { term: term(2), isTerm: true, text: 'a' })
    core.proposed({ batch: batchOf([next]), now: 2 })
    assert.equal(tell(core, ack).kind, 'ignore')
    assert.equal(core.replicas[0]?.receivedLsn, 0)
    assert.equal(tell(core, { ...ack, term: term(2) }).kind, 'ok')
    assert.equal(core.replicas[0]?.receivedLsn, 4)
    assert.equal(core.committedLsn, 0)
  })

  test('a Join that comes again is answered again, as the log is by then', () => {
    const { core } = joined()
    const { history, last } = logOf(3)
    const next = makeRecord(core.last, { term: term(1), isTerm: false, text: 'k=9' })
    core.proposed({ batch: batchOf([next]), now: 2 })
    core.takeEffects()
    tell(core, joinOf({ history, last }))
    const [accept] = sentBy(core.takeEffects())
    assert.deepEqual(accept?.type === 'accept' && [accept.plan, accept.agreedLsn, accept.last.lsn], [
      'stream',
      4,
      5,
    ])
    assert.equal(core.counters.joins, 1)
  })

  test('a Join that was on its way when its attachment ended', () => {
    const { core } = joined()
    tell(core, stoppedDetach)
    const { history, last } = logOf(3)
    assert.deepEqual(tell(core, joinOf({ history, last })), {
      kind: 'ignore',
      reason: 'the session has ended',
    })
    assert.equal(core.replicas.length, 0)
  })

  test('a Detach that overtakes its Join leaves no ghost', () => {
    const { core } = masterWith(3)
    tell(core, stoppedDetach)
    tell(core, joinOf({}))
    assert.equal(core.replicas.length, 0)
  })
})

describe('the order of effects', () => {
  test('a term is persisted before anything that depends on it', () => {
    const core = coreOf('a')
    core.serve({ now: 0 })
    assert.equal(core.startTerm(0), 1)
    assert.equal(core.takeEffects()[0]?.kind, 'persist')
  })

  test('a replica persists a higher term before it answers', () => {
    const core = following()
    tell(core, acceptOf({ count: 1, plan: 'equal', term: term(4) }))
    const kinds = kindsOf(core.takeEffects())
    assert.ok(kinds.indexOf('persist') >= 0 && kinds.indexOf('persist') < kinds.indexOf('send'))
    assert.equal(core.term, 4)
    assert.equal(core.termMaster, 'a')
  })

  test('a master that is unseated is told so before the disk is waited for, and takes no more writes', () => {
    const { core, records } = masterWith(1)
    tell(core, { type: 'higherTerm', session: 0, term: term(9), databaseId: 'db', site: 'c' })
    const kinds = kindsOf(core.takeEffects())
    assert.ok(kinds.indexOf('steppedDown') < kinds.indexOf('persist'))
    assert.equal(core.role, 'none')
    assert.deepEqual(core.gate(), { open: false, code: 'NOT_MASTER', wait: false, have: 0, need: 0 })
    assert.throws(() => core.proposed({ batch: batchOf(records), now: 2 }), { code: 'NOT_MASTER' })
  })

  test('the term of another database unseats nobody', () => {
    const { core } = masterWith(1)
    tell(core, { type: 'higherTerm', session: 0, term: term(9), databaseId: 'other', site: 'c' })
    tell(core, joinOf({ databaseId: 'other', term: term(9) }))
    assert.equal(core.role, 'master')
    assert.equal(core.term, 1)
  })
})

describe('what a replica refuses', () => {
  const cases: [title: string, Accept, code: string][] = [
    ['a plan for another database', acceptOf({ databaseId: 'other' }), 'FOREIGN_HISTORY'],
    [
      'an agreed record that is not the agreed one',
      acceptOf({ plan: 'stream', agreedLsn: lsn(1) }),
      'HANDSHAKE_FAILED',
    ],
    ['equal logs that are not', acceptOf({ agreedLsn: lsn(2) }), 'HANDSHAKE_FAILED'],
    [
      'a second master of the term that it has chosen one in',
      acceptOf({
        count: 0,
        site: 'z',
        history: [{ term: term(1), firstLsn: lsn(1), site: 'z' }],
        plan: 'rewind',
        agreedLsn: lsn(0),
      }),
      'DUPLICATE_MASTER',
    ],
    [
      'to undo what is permanent',
      acceptOf({
        term: term(2),
        plan: 'rewind',
        agreedLsn: lsn(1),
        history: [
          { term: term(1), firstLsn: lsn(1), site: 'a' },
          { term: term(2), firstLsn: lsn(2), site: 'c' },
        ],
        last: { lsn: lsn(2), term: term(2), crc: 5 },
      }),
      'REWIND_REFUSED',
    ],
  ]
  for (const [title, accept, code] of cases) {
    test(title, () => {
      const core = following({}, { permanentLsn: lsn(2) })
      tell(core, accept)
      const stopped = core.takeEffects().find((effect) => effect.kind === 'stopped')
      assert.equal(stopped?.code, code)
      assert.equal(core.lastLsn, 2)
      assert.equal(core.role, 'none')
    })
  }

  test('records that contradict its own: it stops with an alarm, and appends nothing', () => {
    const { records } = logOf(5)
    const core = following()
    tell(core, acceptOf({ plan: 'stream', agreedLsn: lsn(2) }))
    core.takeEffects()
    const { message, rec } = appendOf(records.slice(2, 4))
    const other = { ...message, previous: { ...message.previous, crc: message.previous.crc ^ 1 } }
    assert.equal(tell(core, other, { rec }).kind, 'joinFailure')
    const kinds = kindsOf(core.takeEffects())
    assert.ok(kinds.includes('event diverged') && kinds.includes('stopped') && !kinds.includes('append'))
  })

  test('a batch that overlaps its own log and contradicts it there', () => {
    const { records } = logOf(1)
    const core = following()
    tell(core, acceptOf({ plan: 'stream', agreedLsn: lsn(2) }))
    core.takeEffects()
    const first = records[0] as FakeRecord
    const other = makeRecord(first.place, { term: term(1), isTerm: false, text: 'k=other' })
    const next = makeRecord(other.place, { term: term(1), isTerm: false, text: 'k=next' })
    const { message, rec } = appendOf([other, next])
    assert.equal(tell(core, message, { rec }).kind, 'joinFailure')
    assert.equal(core.lastLsn, 2)
    assert.ok(!kindsOf(core.takeEffects()).includes('append'))
  })

  test('records that do not verify: the connection ends, and nothing is appended', () => {
    const { records } = logOf(5)
    const { message, rec } = appendOf(records.slice(2, 4))
    for (let at = 0; at < rec.length; at++) {
      const core = following()
      tell(core, acceptOf({ plan: 'stream', agreedLsn: lsn(2) }))
      core.takeEffects()
      const damaged = rec.slice()
      damaged[at] = (damaged[at] as number) ^ 0x40
      assert.equal(tell(core, message, { rec: damaged }).kind, 'ignore')
      assert.equal(core.lastLsn, 2)
      assert.deepEqual(kindsOf(core.takeEffects()), ['disconnect', 'stopped'])
    }
  })
})

describe('hostile bytes', () => {
  /** All that a message could change and that matters. */
  function stateOf(core: Core): unknown {
    const { role, term: now, lastLsn, durableLsn, committedLsn, permanentLsn, history, replicas } = core
    return structuredClone({ role, now, lastLsn, durableLsn, committedLsn, permanentLsn, history, replicas })
  }

  test('any bytes are ignored by every role, without a throw and without a change', () => {
    const sites = [coreOf('n'), masterWith(3).core, following()]
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), fc.uint8Array({ maxLength: 40 }), (control, rec) => {
        for (const core of sites) {
          const before = stateOf(core)
          const result = core.processMessage({ control, rec, from: 9, now: 1 })
          if (decodeMessage(control).ok) continue
          assert.equal(result.kind, 'ignore')
          assert.deepEqual(stateOf(core), before)
          assert.deepEqual(kindsOf(core.takeEffects()), ['disconnect'])
        }
      }),
    )
  })

  test('a recorded session with any byte changed never throws, and no change makes a commit', () => {
    const sent: { to: string; control: Uint8Array; rec: Uint8Array | undefined }[] = []
    const cluster = new CoreCluster({ seed: 3 })
    cluster.add('a', { databaseId: 'db' })
    cluster.add('b')
    cluster.onMessage = (from, to, message) => {
      const last = cluster.lastSent.get(`${from.name}>${to.name} ${message.type}`)
      if (last !== undefined) sent.push({ to: to.name, ...last })
    }
    cluster.serve('a', { sites: 2, chunkRecords: 1 })
    cluster.get('a').write(['x=1', 'y=2'])
    cluster.follow('b', 'a')
    cluster.run(100)
    for (const { to, control, rec } of sent) {
      for (let at = 0; at < control.length; at++) {
        const changed = control.slice()
        changed[at] = (changed[at] as number) ^ 0x10
        const core = to === 'a' ? masterWith(3).core : following()
        core.processMessage({ control: changed, ...(rec === undefined ? {} : { rec }), from: 1, now: 1 })
        assert.equal(core.committedLsn, 0)
      }
    }
    assert.ok(sent.length > 10)
  })

  test('a message of another session, or from another peer, changes nothing', () => {
    const { records } = logOf(5)
    const core = following()
    tell(core, acceptOf({ plan: 'stream', agreedLsn: lsn(2) }))
    core.takeEffects()
    const { message, rec } = appendOf(records.slice(2, 4))
    assert.equal(tell(core, { ...message, session: 78 }, { rec }).kind, 'ignore')
    assert.equal(tell(core, message, { rec, from: 2 }).kind, 'ignore')
    assert.equal(core.lastLsn, 2)
    assert.deepEqual(core.takeEffects(), [])
  })

  test('what a replica holds is bounded', () => {
    const { records } = logOf(60)
    const core = following({}, { timings: { heldBytesMax: 200, heldBatchesMax: 100 } })
    tell(core, acceptOf({ count: 60, plan: 'stream', agreedLsn: lsn(2) }))
    for (let i = 50; i > 3; i--) {
      const { message, rec } = appendOf(records.slice(i, i + 1))
      tell(core, message, { rec })
    }
    assert.ok(core.counters.heldDropped > 30)
    core.checkInvariants()
  })
})

test('a chunk that is damaged on the way is not stored, and is taken when it comes again', () => {
  const core = coreOf('b', { databaseId: undefined })
  core.follow({ peer: 1, now: 0 })
  tell(core, acceptOf({ plan: 'snapshot', agreedLsn: lsn(0) }))
  const { history, last } = logOf(3)
  tell(core, {
    type: 'snapshotBegin',
    ...envelope,
    base: last,
    snapshotLsn: last.lsn,
    snapshotReign: undefined,
    history,
    rowsEstimate: 1,
    resumed: false,
  })
  core.snapshotPrepared({ now: 1 })
  core.takeEffects()
  const rec = encodeRows([[Uint8Array.of(1), Uint8Array.of(2, 3)]])
  const rows: Message = { type: 'snapshotRows', ...envelope, index: 1, count: 1, crc: crc32(rec) }
  const damaged = rec.slice()
  damaged[7] = (damaged[7] as number) ^ 1
  assert.equal(tell(core, rows, { rec: damaged }).kind, 'ignore')
  assert.deepEqual(core.takeEffects(), [])
  assert.equal(tell(core, rows, { rec }).kind, 'ok')
  assert.deepEqual(kindsOf(core.takeEffects()), ['snapshotStore'])
})

describe('roles', () => {
  test('a site has one role at a time', () => {
    const { core } = masterWith(1)
    assert.throws(() => core.follow({ peer: 1, now: 0 }), { code: 'INVALID_STATE' })
    const replica = following()
    assert.throws(() => replica.serve({ now: 0 }), { code: 'INVALID_STATE' })
    assert.throws(() => replica.startTerm(0), { code: 'NOT_MASTER' })
    assert.throws(() => coreOf('x', { databaseId: undefined }).serve({ now: 0 }), { code: 'INVALID_STATE' })
  })

  test('rows of two ages cannot be served before they are one state', () => {
    const core = siteWith('b', 1, { readableLsn: lsn(9) })
    assert.throws(() => core.serve({ now: 0 }), { code: 'SYNCING' })
  })

  test('and a site that no longer knows what would make them one asks for a new snapshot', () => {
    const core = siteWith('b', 1, { readableLsn: lsn(9) })
    core.follow({ peer: 1, now: 0 })
    const [join] = sentBy(core.takeEffects())
    assert.equal(join?.type === 'join' && join.snapshot, true)
  })

  test('nobody may join before the first record of the reign', () => {
    const core = coreOf('a')
    core.serve({ now: 0 })
    core.startTerm(0)
    assert.equal(tell(core, joinOf({})).kind, 'ignore')
  })

  test('the site and the term that were chosen outlive a restart', () => {
    const core = siteWith('b', 1, { term: term(3), termMaster: 'c' })
    core.follow({ peer: 1, now: 0 })
    core.takeEffects()
    tell(core, acceptOf({ count: 1, term: term(3), site: 'a' }))
    const stopped = core.takeEffects().find((effect) => effect.kind === 'stopped')
    assert.equal(stopped?.code, 'DUPLICATE_MASTER')
  })

  test('a cancelled attachment waits for the rewind that has begun', () => {
    const { history, last, records } = logOf(3)
    const core = coreOf('b', {
      term: term(1),
      log: { first: lsn(1), last, durableLsn: last.lsn, history },
    })
    core.follow({ peer: 1, now: 0 })
    tell(core, acceptOf({ plan: 'rewind', term: term(2), agreedLsn: lsn(2), ...forkAt(3) }))
    core.leave({ now: 2, kind: 'cancel' })
    assert.ok(!kindsOf(core.takeEffects()).includes('stopped'))
    assert.equal(core.role, 'replica')
    core.rewound({ place: (records[1] as FakeRecord).place, now: 3 })
    const stopped = core.takeEffects().find((effect) => effect.kind === 'stopped')
    assert.deepEqual([stopped?.reason, stopped?.lsn], ['cancelled', 2])
  })
})

function forkAt(at: number): Pick<Accept, 'history' | 'last'> {
  return {
    history: [
      { term: term(1), firstLsn: lsn(1), site: 'a' },
      { term: term(2), firstLsn: lsn(at), site: 'c' },
    ],
    last: { lsn: lsn(at), term: term(2), crc: 9 },
  }
}
