// Any message that sites send each other, for tests of what reads them.

import fc from 'fast-check'
import type { RecordPlace } from '../../src/base/batch.ts'
import type { HistoryEntry } from '../../src/base/history.ts'
import { limits } from '../../src/base/limits.ts'
import type { Lsn, Term } from '../../src/base/lsn.ts'
import { messageLimits } from '../../src/replication/message-limits.ts'
import type { Join, Message } from '../../src/replication/messages.ts'

const u32 = fc.nat({ max: 0xffff_ffff })
const term = fc.integer({ min: 1, max: messageLimits.termMax }) as fc.Arbitrary<Term>
const lsn = fc.maxSafeNat() as fc.Arbitrary<Lsn>
const name = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 12 })
  .filter((text) => new TextEncoder().encode(text).length <= limits.siteIdBytesMax)
const flag = fc.boolean()
const attest = fc.constantFrom('received' as const, 'durable' as const, 'applied' as const)
const positive = fc.integer({ min: 1, max: 0xffff_ffff })

/** A log: its last place, and a history that ends in that place's term. */
const log: fc.Arbitrary<{ last: RecordPlace; history: HistoryEntry[] }> = fc
  .record({
    steps: fc.array(fc.record({ terms: fc.nat({ max: 50 }), records: fc.nat({ max: 1_000 }), site: name }), {
      maxLength: 5,
    }),
    beyond: fc.nat({ max: 100 }),
    crc: u32,
  })
  .map(({ steps, beyond, crc }) => {
    const history: HistoryEntry[] = []
    let at = { term: 0, firstLsn: 0 }
    for (const step of steps) {
      at = { term: at.term + step.terms + 1, firstLsn: at.firstLsn + step.records + 1 }
      history.push({ term: at.term as Term, firstLsn: at.firstLsn as Lsn, site: step.site })
    }
    const last =
      history.length === 0
        ? { lsn: 0 as Lsn, term: 0 as Term, crc: 0 }
        : { lsn: (at.firstLsn + beyond) as Lsn, term: at.term as Term, crc }
    return { last, history }
  })

const place: fc.Arbitrary<RecordPlace> = fc.oneof(
  fc.constant({ lsn: 0 as Lsn, term: 0 as Term, crc: 0 }),
  fc.record({
    lsn: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }) as fc.Arbitrary<Lsn>,
    term,
    crc: u32,
  }),
)

/** A record after the start, and the reign that it was written in. */
const inReign = fc
  .record({
    first: fc.integer({ min: 1, max: 1_000_000 }),
    after: fc.nat({ max: 1_000 }),
    term,
    site: name,
    crc: u32,
  })
  .map((each) => ({
    place: { lsn: (each.first + each.after) as Lsn, term: each.term, crc: each.crc },
    reign: { term: each.term, firstLsn: each.first as Lsn, site: each.site },
  }))

const envelope = { session: positive, term: fc.nat({ max: messageLimits.termMax }) as fc.Arbitrary<Term> }

const join: fc.Arbitrary<Message> = fc
  .record({
    ...envelope,
    log,
    databaseId: name,
    isEmpty: flag,
    site: name,
    incarnation: name,
    address: name,
    member: flag,
    leaseMs: fc.oneof(fc.constant(0), fc.nat({ max: 0xffff_ffff })),
    parts: fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.double({ min: 0, max: 1, noNaN: true })),
    replace: flag,
    snapshot: flag,
    forceSync: flag,
    view: flag,
    resume: fc.option(
      fc.record({
        databaseId: name,
        base: inReign,
        newest: inReign,
        afterKey: fc.uint8Array({ maxLength: 40 }),
      }),
      {
        nil: undefined,
      },
    ),
    mixed: fc.option(inReign, { nil: undefined }),
  })
  .map(({ log: { last, history }, isEmpty, parts, resume, mixed, databaseId, ...rest }) => {
    const noData = isEmpty && last.lsn === 0
    return {
      type: 'join',
      ...rest,
      databaseId: noData ? undefined : databaseId,
      history,
      last,
      firstLsn: (1 + Math.floor(parts[0] * last.lsn)) as Lsn,
      durableLsn: Math.floor(parts[1] * last.lsn) as Lsn,
      permanentLsn: Math.floor(parts[0] * last.lsn) as Lsn,
      mixed: mixed && { lsn: mixed.place.lsn, reign: mixed.reign },
      resume: resume && {
        databaseId: resume.databaseId,
        base: resume.base.place,
        reign: resume.base.reign,
        // Not behind the base: else the base itself.
        newest: newestOf(resume.base, resume.newest),
        afterKey: resume.afterKey,
      },
    } satisfies Join
  })

type InReign = typeof inReign extends fc.Arbitrary<infer T> ? T : never

function newestOf(base: InReign, other: InReign): NonNullable<Join['resume']>['newest'] {
  const { place, reign } = other.place.lsn >= base.place.lsn ? other : base
  return { lsn: place.lsn, reign }
}

/** How the log comes to those who are attached to a replica. */
const route = fc.option(
  fc.record({ site: name, address: name, sites: u32, via: fc.array(name, { minLength: 1, maxLength: 16 }) }),
  { nil: undefined },
)

const accept: fc.Arbitrary<Message> = fc
  .record({
    ...envelope,
    log,
    databaseId: name,
    site: name,
    plan: fc.constantFrom('equal' as const, 'stream' as const, 'rewind' as const, 'snapshot' as const),
    part: fc.double({ min: 0, max: 1, noNaN: true }),
    attest,
    window: positive,
    heartbeatMs: positive,
    silenceTimeoutMs: positive,
    sites: positive,
    route,
  })
  .map(({ log: { last, history }, part, route, ...rest }) => {
    const some = Math.floor(part * last.lsn) as Lsn
    const way = route && { ...route, site: rest.site, sites: rest.sites }
    return {
      type: 'accept',
      ...rest,
      route: way,
      last,
      history,
      agreedLsn: some,
      committedLsn: some,
      permanentLsn: some,
    }
  })

/** Messages that belong to no attachment. */
const link = { session: fc.constant(0), term: envelope.term }
const priority = fc.nat({ max: 1_000 })

const hello: fc.Arbitrary<Message> = fc
  .record({
    ...link,
    answer: flag,
    databaseId: fc.option(name, { nil: undefined }),
    site: name,
    incarnation: name,
    address: name,
    priority,
    version: name,
    activity: fc.constantFrom(
      'alone' as const,
      'candidate' as const,
      'syncing' as const,
      'replica' as const,
      'master' as const,
    ),
    grouped: flag,
    view: flag,
    data: fc.uint8Array({ maxLength: 1_024 }),
    last: place,
    ackMicros: u32,
    master: fc.option(fc.record({ site: name, term, address: name }), { nil: undefined }),
  })
  .map((each) => {
    const { lsn: end } = each.last
    return {
      type: 'hello' as const,
      ...each,
      durableLsn: end,
      appliedLsn: Math.floor(end / 2) as Lsn,
      committedLsn: end,
    }
  })

const groupMessages: fc.Arbitrary<Message>[] = [
  hello,
  fc.record({
    type: fc.constant('canvass' as const),
    ...link,
    answer: flag,
    databaseId: name,
    site: name,
    round: u32,
    last: place,
    priority,
    tiebreak: u32,
  }),
  fc
    .record({ ...link, term, databaseId: name, site: name, last: place, handover: flag })
    .filter((each) => each.term > each.last.term)
    .map((each) => ({ type: 'voteRequest' as const, ...each })),
  fc.record({
    type: fc.constant('vote' as const),
    ...link,
    databaseId: name,
    site: name,
    incarnation: name,
    forTerm: term,
    granted: flag,
    reason: name,
  }),
  fc.record({
    type: fc.constant('handover' as const),
    ...envelope,
    lsn: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }) as fc.Arbitrary<Lsn>,
    grouped: flag,
  }),
  fc.record({ type: fc.constant('takeOver' as const), ...envelope, address: name }),
  fc.record({ type: fc.constant('handoverRefused' as const), ...envelope, code: name, message: name }),
]

/** Any message that a site may send. */
export const anyMessage: fc.Arbitrary<Message> = fc.oneof(
  join,
  accept,
  fc.record({ type: fc.constant('refuse' as const), ...envelope, code: name, message: name, master: name }),
  fc
    .record({
      ...envelope,
      previous: place,
      more: positive,
      committedLsn: lsn,
      permanentLsn: lsn,
      ackNow: flag,
    })
    .map(({ more, ...rest }) => ({
      type: 'append' as const,
      ...rest,
      previous: { ...rest.previous, lsn: Math.min(rest.previous.lsn, 2 ** 52) as Lsn },
      lastLsn: (Math.min(rest.previous.lsn, 2 ** 52) + more) as Lsn,
    })),
  fc
    .record({ ...envelope, lsns: fc.array(lsn, { minLength: 3, maxLength: 3 }), stamp: u32, busy: flag })
    .map(({ lsns, ...rest }) => {
      const [low = 0 as Lsn, middle = 0 as Lsn, high = 0 as Lsn] = [...lsns].sort((a, b) => a - b)
      return { type: 'ack' as const, ...rest, receivedLsn: high, durableLsn: middle, appliedLsn: low }
    }),
  fc
    .record({ ...envelope, last: place, stamp: u32, attest, window: positive, ackNow: flag, route })
    .map(({ last, ...rest }) => {
      const { lsn: end } = last
      return {
        type: 'heartbeat' as const,
        ...rest,
        last,
        sentLsn: end,
        committedLsn: end,
        permanentLsn: 0 as Lsn,
      }
    }),
  fc.record({
    type: fc.constant('gapRequest' as const),
    ...envelope,
    from: fc.constant(7 as Lsn),
    to: fc.constantFrom(0 as Lsn, 7 as Lsn, 1e12 as Lsn),
  }),
  fc
    .record({
      ...envelope,
      log,
      rowsEstimate: fc.maxSafeNat(),
      ahead: fc.option(inReign, { nil: undefined }),
    })
    .map(({ log: { last, history }, ahead, ...rest }) => ({
      type: 'snapshotBegin' as const,
      ...rest,
      base: last,
      history,
      resumed: ahead !== undefined,
      snapshotLsn: (ahead === undefined ? last.lsn : last.lsn + ahead.place.lsn) as Lsn,
      snapshotReign: ahead?.reign,
    })),
  fc.record({
    type: fc.constant('snapshotRows' as const),
    ...envelope,
    index: positive,
    count: u32,
    crc: u32,
  }),
  fc
    .record({ ...envelope, storedIndex: fc.nat({ max: 0x7fff_ffff }), more: fc.nat({ max: 1_000 }) })
    .map(({ more, ...rest }) => ({
      type: 'snapshotAck' as const,
      ...rest,
      receivedIndex: rest.storedIndex + more,
    })),
  fc.record({ type: fc.constant('snapshotEnd' as const), ...envelope, chunks: u32, rows: fc.maxSafeNat() }),
  fc.record({
    type: fc.constant('detach' as const),
    ...envelope,
    fromMaster: flag,
    code: name,
    message: name,
    master: name,
  }),
  fc.record({ type: fc.constant('higherTerm' as const), ...envelope, databaseId: name, site: name }),
  ...groupMessages,
)
