// Messages at the core of a site in every role: such as any site may send, of the session that the core is in or of
// another, with some of their bytes changed. The core takes them or ignores them; it throws nothing, keeps its
// invariants, and its commit point does not move by a message that no majority stands behind.

import fc from 'fast-check'
import { crc32 } from '../../src/base/checksum.ts'
import type { Lsn, Term } from '../../src/base/lsn.ts'
import { encodeRows } from '../../src/base/row-run.ts'
import { Core } from '../../src/replication/core.ts'
import type { CoreOptions } from '../../src/replication/core-options.ts'
import { encodeMessage } from '../../src/replication/message-codec.ts'
import type { Accept, Join, Message } from '../../src/replication/messages.ts'
import { anyMessage } from '../support/any-message.ts'
import { batchOf, type FakeRecord, fakeCodec, makeRecord, startPlace } from '../support/fake-records.ts'
import { changed, changes } from './changes.ts'

const session = 77
const term = 1 as Term

const records = ((): FakeRecord[] => {
  const made = [makeRecord(startPlace, { term, isTerm: true, text: 'a' })]
  for (let i = 0; i < 5; i++) {
    made.push(makeRecord((made.at(-1) as FakeRecord).place, { term, isTerm: false, text: `k=${i}` }))
  }
  return made
})()

function coreOf(site: string, count: number, more: Partial<CoreOptions> = {}): Core {
  const last = records[count - 1]?.place ?? startPlace
  return new Core({
    site,
    databaseId: 'db',
    term: last.term,
    log: {
      first: 1 as Lsn,
      last,
      durableLsn: last.lsn,
      history: count === 0 ? [] : [{ term, firstLsn: 1 as Lsn, site: 'a' }],
    },
    appliedLsn: 0 as Lsn,
    committedLsn: 0 as Lsn,
    permanentLsn: 0 as Lsn,
    codec: fakeCodec,
    incarnation: `of ${site}`,
    random: () => session,
    paranoid: true,
    ...more,
  })
}

function master(): Core {
  const core = coreOf('a', 0)
  core.serve({ sites: 3, now: 0 })
  core.startTerm(0)
  core.proposed({ batch: batchOf(records), now: 0 })
  core.synced({ durableLsn: 6 as Lsn, now: 0 })
  return core
}

function grouped(core: Core): Core {
  core.joinGroup({
    address: 'tcp://h:1',
    priority: 100,
    view: false,
    data: new Uint8Array(),
    elections: 'application',
    timings: {},
    now: 0,
  })
  core.linked({ peer: 1, now: 0 })
  return core
}

function follower(count: number): Core {
  const core = coreOf('b', count)
  core.follow({ peer: 1, now: 0, options: { anywhere: true } })
  return core
}

const accept: Accept = {
  type: 'accept',
  session,
  term,
  databaseId: 'db',
  site: 'a',
  plan: 'stream',
  agreedLsn: 2 as Lsn,
  history: [{ term, firstLsn: 1 as Lsn, site: 'a' }],
  last: (records[3] as FakeRecord).place,
  committedLsn: 0 as Lsn,
  permanentLsn: 0 as Lsn,
  attest: 'durable',
  window: 1,
  heartbeatMs: 500,
  silenceTimeoutMs: 10_000,
  sites: 3,
  route: undefined,
}

const join: Join = {
  type: 'join',
  session,
  term,
  databaseId: 'db',
  site: 'b',
  incarnation: 'of b',
  address: '',
  history: accept.history,
  firstLsn: 1 as Lsn,
  last: (records[1] as FakeRecord).place,
  durableLsn: 2 as Lsn,
  permanentLsn: 0 as Lsn,
  replace: false,
  snapshot: false,
  forceSync: false,
  view: false,
  member: false,
  leaseMs: 0,
  resume: undefined,
  mixed: undefined,
}

function told(core: Core, message: Message): Core {
  core.takeEffects()
  core.processMessage({ control: encodeMessage(message), from: 1, now: 1 })
  return core
}

const roles: Readonly<Record<string, () => Core>> = {
  alone: () => coreOf('n', 2),
  'in a group': () => grouped(coreOf('n', 2)),
  'a master': master,
  'a master in a group': () => grouped(master()),
  'a master with a replica': () => told(master(), join),
  'who asks to follow': () => follower(2),
  'who asks to follow, without data': () => follower(0),
  'a replica': () => told(follower(2), accept),
  'a replica that must rewind': () => told(follower(6), { ...accept, plan: 'rewind', agreedLsn: 4 as Lsn }),
  'a replica that loads a snapshot': () =>
    told(follower(0), { ...accept, plan: 'snapshot', agreedLsn: 0 as Lsn }),
}

/** What such a core waits for: changed by a few bytes it gets far. */
const aimed: readonly (readonly [Message, Uint8Array])[] = ((): [Message, Uint8Array][] => {
  const none = new Uint8Array()
  const envelope = { session, term }
  const rows = encodeRows([[Uint8Array.of(1), Uint8Array.of(2)]])
  const live = { committedLsn: 2 as Lsn, permanentLsn: 2 as Lsn, ackNow: true }
  const appends = [2, 3].map((from): [Message, Uint8Array] => {
    const batch = batchOf(records.slice(from))
    const { previous, lastLsn } = batch
    return [{ type: 'append', ...envelope, ...live, previous, lastLsn }, batch.bytes]
  })
  const ack = { type: 'ack', ...envelope, stamp: 1, busy: false } as const
  const last = (records[5] as FakeRecord).place
  const { attest, window, route } = accept
  return [
    [join, none],
    [accept, none],
    ...appends,
    [
      { type: 'heartbeat', ...envelope, ...live, last, sentLsn: 6 as Lsn, stamp: 3, attest, window, route },
      none,
    ],
    [{ ...ack, receivedLsn: 2 as Lsn, durableLsn: 2 as Lsn, appliedLsn: 2 as Lsn }, none],
    [{ type: 'gapRequest', ...envelope, from: 3 as Lsn, to: 5 as Lsn }, none],
    [
      {
        type: 'snapshotBegin',
        ...envelope,
        base: last,
        snapshotLsn: 6 as Lsn,
        snapshotReign: undefined,
        history: accept.history,
        rowsEstimate: 1,
        resumed: false,
      },
      none,
    ],
    [{ type: 'snapshotRows', ...envelope, index: 1, count: 1, crc: crc32(rows) }, rows],
    [{ type: 'snapshotAck', ...envelope, storedIndex: 1, receivedIndex: 1 }, none],
    [{ type: 'snapshotEnd', ...envelope, chunks: 1, rows: 1 }, none],
    [{ type: 'handover', ...envelope, lsn: 2 as Lsn, grouped: true }, none],
    [{ type: 'higherTerm', session: 0, term: 3 as Term, databaseId: 'db', site: 'c' }, none],
  ]
})()

const places = [startPlace, ...records.map(({ place }) => place)]

/** As the message would be if it were meant for this core: of its session and term, about records that there are. */
function meant(value: unknown, key = ''): unknown {
  if (key === 'session') return value === 0 ? 0 : session
  if (key === 'term') return term
  if (key === 'databaseId') return 'db'
  if (key === 'history') return accept.history
  if (typeof value === 'number') return /lsn$|^from$|^to$/i.test(key) ? value % 8 : value
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array || Array.isArray(value)) {
    return value
  }
  if ('crc' in value && 'lsn' in value) return places[Number(value.lsn) % places.length]
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, meant(each, name)]))
}

const bulk = fc.oneof(
  fc.constant(new Uint8Array()),
  fc.uint8Array({ maxLength: 60 }),
  fc.constantFrom(
    batchOf(records.slice(2, 4)).bytes,
    batchOf(records.slice(3)).bytes,
    encodeRows([[Uint8Array.of(1), Uint8Array.of(2)]]),
  ),
)

const input = fc
  .record({
    role: fc.constantFrom(...Object.keys(roles)),
    any: fc.tuple(anyMessage, bulk),
    near: fc.constantFrom(...aimed),
    how: fc.constantFrom('any', 'meant', 'near', 'near'),
    by: fc.option(changes, { nil: undefined }),
    from: fc.constantFrom(1, 1, 1, 2),
  })
  .map(({ role, any: [message, rec], near, how, by, from }) => {
    const told = how === 'any' ? message : how === 'meant' ? (meant(message) as Message) : near[0]
    const control = encodeMessage(told)
    return {
      role,
      control: by === undefined ? control : changed(control, by),
      rec: how === 'near' ? near[1] : rec,
      from,
    }
  })

export function coreInputs(numRuns: number): void {
  // One after the other at the same core: what comes of one is where the next one begins.
  const property = fc.property(fc.array(input, { minLength: 1, maxLength: 3 }), (inputs) => {
    const core = (roles[inputs[0]?.role ?? ''] as () => Core)()
    let now = 2
    for (const { control, rec, from } of inputs) {
      core.takeEffects()
      core.processMessage({ control, rec, from, now: now++ })
      core.checkInvariants()
    }
    core.tick(now)
    core.takeEffects()
    core.checkInvariants()
  })
  fc.assert(property, { numRuns })
}
