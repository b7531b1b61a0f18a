import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { RecordBatch, RecordPlace } from '../../src/base/batch.ts'
import { emptyBytes } from '../../src/base/bytes.ts'
import type { History } from '../../src/base/history.ts'
import type { Lsn, Term } from '../../src/base/lsn.ts'
import type { Membership, TwoSites } from '../../src/base/membership.ts'
import { codecOf } from '../../src/database/encoding.ts'
import { KeySpace } from '../../src/database/key-space.ts'
import { BatchBuilder } from '../../src/log/batch-builder.ts'
import { placeAt, placeBeforeAll, readU32, recordField, recordKind } from '../../src/log/record-format.ts'
import type { Vote, VoteRequest } from '../../src/replication/group-messages.ts'
import { encodeMessage } from '../../src/replication/message-codec.ts'
import type { Ack, Message as CoreMessage, Join } from '../../src/replication/messages.ts'
import type { Operation } from '../../src/sim/history.ts'
import {
  NobodyBelowVotes,
  OnlyPermanentGoesBelow,
  PartialViewsKnowWhatTheyKeep,
} from '../../src/sim/judge-below.ts'
import { HistoriesAreLinearisable, ReadsFollowTheLog } from '../../src/sim/judge-clients.ts'
import {
  HeirsHaveEverything,
  LogIsKeptForReplicas,
  MastersCountTheirOwnTerm,
  SitesStartAgain,
} from '../../src/sim/judge-masters.ts'
import {
  agreedPlace,
  BothKeepWhatBothHad,
  LoneMastersKeepApart,
  UndoneCommitsAreTold,
} from '../../src/sim/judge-pair.ts'
import {
  AcknowledgedStays,
  DamageIsNotCutOff,
  LogsAndDisks,
  NothingPermanentIsUndone,
  RolledBackIsReported,
} from '../../src/sim/judge-records.ts'
import { RowsFollowTheLog } from '../../src/sim/judge-rows.ts'
import { EndedSessionsAreIgnored } from '../../src/sim/judge-sessions.ts'
import { OneMasterPerTerm, TermsAndVotes } from '../../src/sim/judge-terms.ts'
import { Ledger } from '../../src/sim/ledger.ts'
import type { MessageObserver } from '../../src/sim/network.ts'
import { Link } from '../../src/sim/network-link.ts'
import type { BenchView, Position, Sight, SiteJudge } from '../../src/sim/sight.ts'
import { keyText } from '../../src/store/key-text.ts'

const databaseId = 'test-database'
const keySpace = new KeySpace('')
const utf8 = codecOf('utf8')

function keyBytes(key: string): Uint8Array {
  return keySpace.wholeKey(key, utf8).bytes
}

type Write = readonly [key: string, value: string | undefined]

/** Records that follow `previous`: a site id begins a reign, writes are a transaction. */
function recordsOf(
  previous: RecordPlace,
  term: number,
  parts: readonly (string | readonly Write[])[],
): RecordBatch {
  const builder = new BatchBuilder({ databaseId, previous })
  for (const part of parts) {
    const kind = typeof part === 'string' ? recordKind.term : recordKind.commit
    builder.begin({ term: term as Term, wallMs: 0, kind })
    if (typeof part === 'string') builder.payload(Buffer.from(part))
    else {
      for (const [key, value] of part) {
        if (value === undefined) builder.del(keyBytes(key))
        else builder.put(keyBytes(key), Buffer.from(value))
      }
    }
    builder.end()
  }
  return builder.cut() as RecordBatch
}

/** A bench without a world behind it: what judges see is what a test says. */
class TestBench implements BenchView {
  readonly ledger = new Ledger()
  readonly sights = new Map()
  readonly found: string[] = []
  readonly world: BenchView['world']
  readonly facts = {
    nowMs: 0,
    events: 0,
    sites: [] as unknown[],
    history: [] as Operation[],
    acknowledged: [] as unknown[],
    handedOver: [] as unknown[],
    rewound: [] as { site: string; start: number; to: number }[],
    settings: { kind: 'group', sites: 3, electionTimeoutMs: 300 },
    network: { sides: [] as unknown[], observers: [] as MessageObserver[] },
    site: (name: string): unknown =>
      (this.facts.sites as { name: string }[]).find((site) => site.name === name),
  }

  constructor() {
    this.world = this.facts as unknown as BenchView['world']
  }

  sent(what: { from: string; to: string; message: CoreMessage; connection?: number }): void {
    for (const observer of this.facts.network.observers) observer.sent?.(...this.#observed(what))
  }

  delivered(what: { from: string; to: string; message: CoreMessage; connection?: number }): void {
    for (const observer of this.facts.network.observers) observer.delivered?.(...this.#observed(what))
  }

  #observed(what: { from: string; to: string; message: CoreMessage; connection?: number }) {
    const { from, to, message, connection = 1 } = what
    const control = encodeMessage(message)
    return [new Link(from, to), { control, payload: emptyBytes, bytes: control.length }, connection] as const
  }

  violate(judge: SiteJudge, message: string): void {
    this.found.push(`${judge.name}: ${message}`)
  }

  durable(batch: RecordBatch): RecordPlace[] {
    const places: RecordPlace[] = []
    let previous = batch.previous
    for (let at = 0; at < batch.bytes.length; ) {
      const length = readU32(batch.bytes, at + recordField.length)
      const bytes = batch.bytes.subarray(at, at + length)
      const place = placeAt(batch.bytes, at)
      this.ledger.add({ place, previous, kind: bytes[recordField.kind] as number, bytes })
      places.push(place)
      previous = place
      at += length
    }
    return places
  }
}

const rest: Position = {
  firstLsn: 1,
  last: placeBeforeAll,
  durableLsn: 0,
  committedLsn: 0,
  permanentLsn: 0,
  appliedLsn: 0,
  appliedCrc: 0,
  generation: 1,
  incarnation: 'x',
  term: 1,
  reign: undefined,
}

interface SightFacts {
  readonly name?: string
  readonly start?: number
  readonly isNew?: boolean
  readonly isSuspect?: boolean
  readonly state?: string
  readonly before?: Partial<Position>
  readonly now?: Partial<Position>
  readonly history?: History
  readonly membership?: Membership
  readonly diskLast?: number
  readonly diskHistory?: History
  readonly has?: (lsn: number, term: number) => boolean
  readonly diskState?: unknown
  readonly retainFrom?: number
  readonly replicas?: readonly unknown[]
  readonly rows?: readonly Write[]
  /** It follows by hand. */
  readonly isBelow?: boolean
  /** It is a partial view, with these stores. */
  readonly keptStores?: readonly string[]
  readonly lost?: readonly { lsn: number; term: number }[]
}

const sites = new WeakMap<TestBench, Map<string, object>>()

/** What a judge is shown of a site; the same name is the same site. */
function sightOf(bench: TestBench, facts: SightFacts): Sight {
  const { name = 'a', start = 1, isNew = false, isSuspect = false, state = 'up', history = [] } = facts
  let known = sites.get(bench)
  if (known === undefined) {
    known = new Map()
    sites.set(bench, known)
  }
  let site = known.get(name) as Record<string, unknown> | undefined
  if (site === undefined) {
    site = { name }
    known.set(name, site)
    bench.facts.sites.push(site)
  }
  const now = { ...rest, ...facts.now }
  const lines = (facts.lost ?? []).map((each) => JSON.stringify(each)).join('\n')
  Object.assign(site, {
    isSuspect,
    isMember: facts.isBelow !== true,
    follows: facts.isBelow === true ? {} : undefined,
    keptStores: facts.keptStores,
    state,
    isAwake: true,
    refusal: { code: 'LOG_DAMAGED', message: 'damaged' },
    db: {
      site: {
        core: {
          history,
          databaseId,
          membership: facts.membership,
          isServingInTurn: facts.isBelow === true && facts.keptStores === undefined,
        },
        engine: { folder: { storePath: () => 'store' } },
        now: () => 10_000,
        retainFrom: () => facts.retainFrom,
        replicas: facts.replicas ?? [],
      },
    },
    stores: {
      contentOf: () => ({
        rows: new Map(
          (facts.rows ?? []).map(([key, value]) => [keyText(keyBytes(key)), Buffer.from(value ?? '')]),
        ),
        meta: { appliedLsn: now.appliedLsn, appliedCrc: now.appliedCrc, readableLsn: 0 },
      }),
    },
    machine: {
      disk: {
        paths: () => [{ path: '/site/db/lost/x.ndjson', bytes: lines.length }],
        peek: () => Buffer.from(lines),
      },
    },
  })
  const sight = {
    site,
    start,
    isOpen: true,
    isNew,
    before: { ...rest, ...facts.before },
    now,
    disk: {
      last: { lsn: facts.diskLast ?? now.durableLsn },
      history: facts.diskHistory ?? history,
      has: facts.has ?? (() => true),
      state: facts.diskState,
    },
    hadDurable: new Map(),
  }
  bench.sights.set(site, sight)
  return sight as unknown as Sight
}

function reign(term: number): NonNullable<Position['reign']> {
  return { databaseId, site: 'a', term: term as Term }
}

function entry(term: number, firstLsn: number, site: string): History[number] {
  return { term, firstLsn, site } as History[number]
}

const ackIn = (term: number): Ack => ({
  type: 'ack',
  session: 7,
  term: term as Term,
  receivedLsn: 1 as Lsn,
  durableLsn: 1 as Lsn,
  appliedLsn: 1 as Lsn,
  stamp: 0,
  busy: false,
})

const joinIn = (term: number): CoreMessage => ({
  type: 'join',
  session: 7,
  term: term as Term,
  databaseId: 'db',
  site: 'b',
  incarnation: 'x',
  address: '',
  history: [],
  firstLsn: 1 as Lsn,
  last: placeBeforeAll,
  durableLsn: 0 as Lsn,
  permanentLsn: 0 as Lsn,
  replace: false,
  snapshot: false,
  forceSync: false,
  view: false,
  member: true,
  leaseMs: 0,
  resume: undefined,
  mixed: undefined,
})

describe('judges of terms and votes', () => {
  test('one master in each term', () => {
    const bench = new TestBench()
    const judge = new OneMasterPerTerm()
    judge.moved(sightOf(bench, { name: 'a', now: { reign: reign(2) } }), bench)
    judge.moved(sightOf(bench, { name: 'b', now: { reign: reign(3) } }), bench)
    assert.deepEqual(bench.found, [])
    judge.moved(sightOf(bench, { name: 'b', now: { reign: reign(2) } }), bench)
    assert.match(bench.found[0] ?? '', /a and b are masters of term 2/)
  })

  test('a master that was restarted reigns in another term', () => {
    const bench = new TestBench()
    const judge = new OneMasterPerTerm()
    judge.moved(sightOf(bench, { start: 1, now: { reign: reign(2) } }), bench)
    judge.moved(sightOf(bench, { start: 2, now: { reign: reign(2) } }), bench)
    assert.match(bench.found[0] ?? '', /again after it was restarted/)
  })

  test('no two logs give a term to two masters', () => {
    const bench = new TestBench()
    const judge = new OneMasterPerTerm()
    judge.moved(sightOf(bench, { name: 'a', isNew: true, history: [entry(1, 1, 'a')] }), bench)
    judge.moved(sightOf(bench, { name: 'b', isNew: true, history: [entry(1, 1, 'a')] }), bench)
    assert.deepEqual(bench.found, [])
    judge.moved(sightOf(bench, { name: 'c', isNew: true, history: [entry(1, 2, 'a')] }), bench)
    assert.equal(bench.found.length, 1)
  })

  const vote: Vote = {
    type: 'vote',
    session: 0,
    term: 1 as Term,
    databaseId,
    site: 'a',
    incarnation: '0123456789abcdef',
    forTerm: 1 as Term,
    granted: true,
    reason: '',
  }
  const voteIn = (term: number, more: Partial<Vote> = {}): Vote => ({
    ...vote,
    term: term as Term,
    forTerm: term as Term,
    ...more,
  })

  /** What the judge says of messages that site `a` sends to others, with this on its disk. */
  function sent(state: unknown, messages: readonly [to: string, message: CoreMessage][]): string[] {
    const bench = new TestBench()
    const judge = new TermsAndVotes()
    sightOf(bench, { name: 'a', diskState: state })
    judge.begin(bench)
    for (const [to, message] of messages) bench.sent({ from: 'a', to, message })
    return bench.found
  }

  test('what is told of the term is on the disk', () => {
    assert.deepEqual(sent({ term: 4, vote: 'b' }, [['b', voteIn(4)]]), [])
    assert.match(
      sent({ term: 3, vote: 'b' }, [['b', voteIn(4)]])[0] ?? '',
      /told of term 4 \(vote\), and 3 is on its disk/,
    )
  })

  test('what is told of the vote is on the disk', () => {
    assert.match(
      sent({ term: 4, vote: undefined }, [['b', voteIn(4)]])[0] ?? '',
      /gave b its vote in term 4, and nobody is on its disk/,
    )
    assert.deepEqual(sent({ term: 4, vote: undefined }, [['b', voteIn(4, { granted: false })]]), [])
  })

  test('a vote is given once in a term', () => {
    const found = sent({ term: 5, vote: undefined }, [
      ['b', voteIn(5, { forTerm: 4 as Term })],
      ['c', voteIn(5, { forTerm: 4 as Term })],
    ])
    assert.match(found[0] ?? '', /stood by b and by c in term 4/)
  })

  test('nobody votes for a log that ends before its own', () => {
    const vote = (ours: RecordPlace, theirs: RecordPlace): string[] => {
      const bench = new TestBench()
      const judge = new TermsAndVotes()
      const { site } = sightOf(bench, { name: 'a', diskState: { term: 5, vote: 'b' } })
      sightOf(bench, { name: 'b', diskState: { term: 5, vote: 'b' } })
      Object.assign(site.db?.site.core ?? {}, { last: ours })
      judge.begin(bench)
      const request: VoteRequest = {
        type: 'voteRequest',
        session: 0,
        term: 5 as Term,
        databaseId: 'db',
        site: 'b',
        last: theirs,
        handover: false,
      }
      bench.sent({ from: 'b', to: 'a', message: request })
      bench.sent({ from: 'a', to: 'b', message: voteIn(5) })
      return bench.found
    }
    const at = (term: number, lsn: number): RecordPlace => ({ term: term as Term, lsn: lsn as Lsn, crc: 1 })
    assert.deepEqual(vote(at(3, 7), at(3, 7)), [])
    assert.deepEqual(vote(at(3, 7), at(4, 2)), [])
    assert.match(vote(at(3, 7), at(3, 6))[0] ?? '', /a, whose log ends at LSN 7 of term 3, voted for b/)
    assert.match(vote(at(4, 2), at(3, 9))[0] ?? '', /a, whose log ends at LSN 2 of term 4, voted for b/)
  })

  test('terms that are told never fall, and records are acknowledged to one master in a term', () => {
    const found = sent({ term: 5, vote: 'b' }, [
      ['b', voteIn(5)],
      ['b', voteIn(4, { granted: false })],
      ['b', ackIn(5)],
      ['c', ackIn(5)],
    ])
    assert.match(found[0] ?? '', /told of term 4 after 5/)
    assert.match(found[1] ?? '', /stood by b and by c in term 5/)
  })

  test('a site does not fall back behind what it told before it was restarted', () => {
    const bench = new TestBench()
    const judge = new TermsAndVotes()
    const sight = sightOf(bench, { name: 'a', diskState: { term: 4, vote: 'b' } })
    judge.begin(bench)
    bench.sent({ from: 'a', to: 'b', message: voteIn(4) })
    judge.moved(sight, bench)
    judge.moved(sightOf(bench, { name: 'a', start: 2, isNew: true, now: { term: 3 } }), bench)
    assert.match(bench.found[0] ?? '', /restarted in term 3 and had told of 4/)
  })
})

describe('the judge of sessions', () => {
  /** What it says of a message that is delivered over `connection` and moves these counters. */
  function delivered(connection: number, moved: object): string[] {
    const bench = new TestBench()
    const judge = new EndedSessionsAreIgnored()
    judge.begin(bench)
    const counters = { messagesIn: 5, messagesIgnored: 2, messagesInvalid: 0 }
    bench.facts.sites.push({ name: 'b', db: { site: { core: { counters } } } })
    const message: CoreMessage = { ...ackIn(5), session: 77 }
    bench.sent({ from: 'b', to: 'a', message, connection: 1 })
    bench.delivered({ from: 'a', to: 'b', message, connection })
    Object.assign(counters, moved)
    judge.afterEvent(bench)
    return bench.found
  }

  test('what belongs to an attachment over another connection is ignored', () => {
    assert.deepEqual(delivered(2, { messagesIn: 6, messagesIgnored: 3 }), [])
    assert.match(delivered(2, { messagesIn: 6 })[0] ?? '', /b obeyed a message \(ack\) of an attachment/)
  })

  test('where a Join has come again its answer is obeyed by nobody, and what it is answered with by its master', () => {
    const bench = new TestBench()
    const judge = new EndedSessionsAreIgnored()
    judge.begin(bench)
    const counted = ['a', 'b'].map((name) => {
      const counters = { messagesIn: 0, messagesIgnored: 0, messagesInvalid: 0 }
      bench.facts.sites.push({ name, db: { site: { core: { counters } } } })
      return counters
    })
    const take = (from: string, to: string, message: CoreMessage): void => {
      bench.delivered({ from, to, message, connection: 2 })
      for (const counters of counted) counters.messagesIn++
      judge.afterEvent(bench)
    }
    bench.sent({ from: 'b', to: 'a', message: joinIn(5), connection: 1 })
    take('b', 'a', joinIn(5))
    take('b', 'a', ackIn(5))
    assert.deepEqual(bench.found, [])
    take('a', 'b', ackIn(5))
    assert.match(bench.found[0] ?? '', /b obeyed/)
  })

  test('what belongs to the attachment over this connection may be obeyed, and what no site took says nothing', () => {
    assert.deepEqual(delivered(1, { messagesIn: 6 }), [])
    assert.deepEqual(delivered(2, {}), [])
  })
})

describe('judges of records', () => {
  test('what is said to be durable is on the disk', () => {
    const bench = new TestBench()
    const judge = new LogsAndDisks()
    judge.moved(sightOf(bench, { now: { durableLsn: 5 }, diskLast: 5 }), bench)
    assert.deepEqual(bench.found, [])
    judge.moved(sightOf(bench, { now: { durableLsn: 6 }, diskLast: 5 }), bench)
    assert.match(bench.found[0] ?? '', /says that LSN 6 is durable, its disk has 5/)
  })

  test('a site opens with what it had, but for the last syncs', () => {
    for (const [opensWith, incarnation, faults] of [
      [90, 'x', 0],
      [60, 'x', 1],
      [0, 'y', 0],
    ] as const) {
      const bench = new TestBench()
      const judge = new DamageIsNotCutOff()
      const at = (durableLsn: number): Partial<Position> => ({ durableLsn })
      judge.moved(sightOf(bench, { isNew: true, now: at(1) }), bench)
      for (let lsn = 2; lsn <= 100; lsn++)
        judge.moved(sightOf(bench, { before: at(lsn - 1), now: at(lsn) }), bench)
      const last = { ...placeBeforeAll, lsn: opensWith as Lsn }
      const now = { last, durableLsn: opensWith, incarnation }
      judge.moved(sightOf(bench, { isNew: true, start: 2, before: at(100), now }), bench)
      assert.equal(bench.found.length, faults, `opens with ${opensWith}`)
    }
  })

  test('one term and LSN is one record', () => {
    const bench = new TestBench()
    new LogsAndDisks().begin(bench)
    bench.durable(recordsOf(placeBeforeAll, 1, ['a', [['k', '1']]]))
    bench.durable(recordsOf(placeBeforeAll, 1, ['a', [['k', '2']]]))
    assert.match(bench.found[0] ?? '', /two records of term 1 at LSN 2/)
  })

  test('what is permanent on one site is not another record on the next', () => {
    const bench = new TestBench()
    const judge = new NothingPermanentIsUndone()
    const [, one] = bench.durable(recordsOf(placeBeforeAll, 1, ['a', [['k', '1']]]))
    const first = recordsOf(placeBeforeAll, 1, ['a'])
    const [other] = bench.durable(recordsOf(first.last, 2, ['b']))
    const history = [entry(1, 1, 'a')]
    const shown = { last: one as RecordPlace, permanentLsn: 2, durableLsn: 2 }
    judge.moved(sightOf(bench, { name: 'a', history, now: shown }), bench)
    assert.deepEqual(bench.found, [])
    const clash = { last: other as RecordPlace, permanentLsn: 2, durableLsn: 2 }
    judge.moved(sightOf(bench, { name: 'b', history: [...history, entry(2, 2, 'b')], now: clash }), bench)
    assert.match(bench.found[0] ?? '', /LSN 2 of term 2 is permanent, and so is another one/)
  })

  test('positions fall only with a rewind, and nothing permanent is cut off', () => {
    const bench = new TestBench()
    const judge = new NothingPermanentIsUndone()
    const at = (lsn: number): RecordPlace => ({ ...placeBeforeAll, lsn: lsn as RecordPlace['lsn'] })
    judge.moved(
      sightOf(bench, {
        before: { permanentLsn: 4, committedLsn: 4 },
        now: { last: at(6), permanentLsn: 3, committedLsn: 3, durableLsn: 6 },
      }),
      bench,
    )
    assert.equal(bench.found.length, 2, 'permanent and committed fell')
    judge.moved(sightOf(bench, { isNew: true, now: { last: at(2), permanentLsn: 2, durableLsn: 2 } }), bench)
    assert.match(bench.found[2] ?? '', /the log ends at 2, and 3 was permanent there/)
  })

  const write: Operation = {
    id: 1,
    client: 0,
    kind: 'write',
    site: 'a',
    key: 'k',
    value: '1',
    invokedAt: 0,
    completedAt: 1,
    outcome: 'ok',
    lsn: 2,
    term: 1,
    acks: 'quorum',
  }

  test('an acknowledged commit is on a majority of disks', () => {
    for (const holders of [1, 2]) {
      const bench = new TestBench()
      const judge = new AcknowledgedStays()
      for (const [i, name] of ['a', 'b', 'c'].entries()) sightOf(bench, { name, has: () => i < holders })
      bench.facts.acknowledged.push({ operation: write, lsn: 2, term: 1, token: '' })
      judge.afterEvent(bench)
      assert.equal(bench.found.length, holders === 1 ? 1 : 0)
    }
  })

  test('a disk that was damaged is not held against a commit', () => {
    const bench = new TestBench()
    const judge = new AcknowledgedStays()
    sightOf(bench, { name: 'a' })
    sightOf(bench, { name: 'b', has: () => false, isSuspect: true })
    sightOf(bench, { name: 'c', has: () => false })
    bench.facts.acknowledged.push({ operation: write, lsn: 2, term: 1, token: '' })
    judge.afterEvent(bench)
    assert.deepEqual(bench.found, [])
  })

  test('every later master has what was acknowledged, whichever of the two comes first', () => {
    for (const ackFirst of [true, false]) {
      for (const lacks of [true, false]) {
        const bench = new TestBench()
        const judge = new AcknowledgedStays()
        const history = lacks ? [entry(1, 1, 'a'), entry(2, 2, 'b')] : [entry(1, 1, 'a'), entry(2, 3, 'b')]
        const acknowledge = (): void => {
          bench.facts.acknowledged.push({ operation: write, lsn: 2, term: 1, token: '' })
          judge.afterEvent(bench)
        }
        if (ackFirst) acknowledge()
        for (const name of ['a', 'c']) sightOf(bench, { name })
        judge.moved(sightOf(bench, { name: 'b', history, now: { reign: reign(2) } }), bench)
        if (!ackFirst) acknowledge()
        const found = bench.found.filter((line) => line.includes('does not have it'))
        assert.equal(found.length, lacks ? 1 : 0, `ack first: ${ackFirst}, lacks: ${lacks}`)
      }
    }
  })

  test('what another site tells later may have been confirmed in a later term', () => {
    const bench = new TestBench()
    const judge = new AcknowledgedStays()
    const { acks: _acks, ...asked } = write
    const history = [entry(1, 1, 'a'), entry(2, 2, 'b')]
    judge.moved(sightOf(bench, { name: 'b', history, now: { reign: reign(2) } }), bench)
    for (const name of ['a', 'c']) sightOf(bench, { name })
    bench.facts.acknowledged.push({ operation: asked, lsn: 2, term: 1, token: '' })
    judge.afterEvent(bench)
    assert.deepEqual(bench.found, [])
    judge.moved(sightOf(bench, { name: 'c', history, now: { reign: reign(3) } }), bench)
    assert.equal(bench.found.length, 1)
  })

  test('the record of an acknowledged commit says what was written', () => {
    for (const value of ['1', '2']) {
      const bench = new TestBench()
      const places = bench.durable(recordsOf(placeBeforeAll, 1, ['a', [['k', value]]]))
      bench.ledger.makePermanent(places[1] as RecordPlace)
      bench.facts.acknowledged.push({ operation: write, lsn: 2, term: 1, token: '' })
      new AcknowledgedStays().atEnd(bench)
      assert.equal(bench.found.length, value === '1' ? 0 : 1)
    }
  })

  test('what was durable and is not permanent is in the lost files', () => {
    for (const lost of [[], [{ lsn: 2, term: 1 }]]) {
      const bench = new TestBench()
      const [begin, gone] = bench.durable(recordsOf(placeBeforeAll, 1, ['a', [['k', '1']]])) as [
        RecordPlace,
        RecordPlace,
      ]
      const [kept] = bench.durable(recordsOf(begin, 2, ['b'])) as [RecordPlace]
      bench.ledger.makePermanent(kept)
      const sight = sightOf(bench, { lost, now: { permanentLsn: 2 } })
      sight.hadDurable.set('x', gone)
      new RolledBackIsReported().atEnd(bench)
      assert.equal(bench.found.length, lost.length === 0 ? 1 : 0)
    }
  })
})

describe('judges of rows and masters', () => {
  test('rows are what the records make of them', () => {
    const batch = recordsOf(placeBeforeAll, 1, [
      'a',
      [
        ['k', '1'],
        ['l', '1'],
      ],
      [
        ['k', '2'],
        ['l', undefined],
      ],
    ])
    const cases: readonly [rows: readonly Write[], lsn: number, faults: number][] = [
      [
        [
          ['k', '1'],
          ['l', '1'],
        ],
        2,
        0,
      ],
      [[['k', '2']], 3, 0],
      [[['k', '1']], 3, 1],
      [
        [
          ['k', '2'],
          ['l', '1'],
        ],
        3,
        1,
      ],
      [[], 2, 1],
    ]
    for (const [rows, lsn, faults] of cases) {
      for (const knownFirst of [true, false]) {
        const bench = new TestBench()
        const judge = new RowsFollowTheLog()
        const places = bench.durable(batch)
        const crc = (places[lsn - 1] as RecordPlace).crc
        const know = (): void => void bench.ledger.makePermanent(places[2] as RecordPlace)
        if (knownFirst) know()
        judge.afterEvent(bench)
        judge.moved(sightOf(bench, { rows, now: { appliedLsn: lsn, appliedCrc: crc } }), bench)
        if (!knownFirst) know()
        judge.afterEvent(bench)
        assert.equal(bench.found.length, faults, JSON.stringify({ rows, lsn, knownFirst }))
      }
    }
  })

  test('equal records, equal rows, permanent or not', () => {
    const bench = new TestBench()
    const judge = new RowsFollowTheLog()
    const now = { appliedLsn: 2, appliedCrc: 99 }
    judge.moved(sightOf(bench, { name: 'a', rows: [['k', '1']], now }), bench)
    judge.moved(sightOf(bench, { name: 'b', rows: [['k', '1']], now }), bench)
    assert.deepEqual(bench.found, [])
    judge.moved(sightOf(bench, { name: 'c', rows: [['k', '2']], now }), bench)
    assert.equal(bench.found.length, 1)
  })

  test('a master counts records of its own term', () => {
    const bench = new TestBench()
    const judge = new MastersCountTheirOwnTerm()
    const history = [entry(1, 1, 'a'), entry(3, 5, 'a')]
    const own = reign(3)
    const before = { reign: own, committedLsn: 1, permanentLsn: 1 }
    judge.moved(
      sightOf(bench, { history, before, now: { reign: own, committedLsn: 5, permanentLsn: 5 } }),
      bench,
    )
    assert.deepEqual(bench.found, [])
    judge.moved(
      sightOf(bench, { history, before, now: { reign: own, committedLsn: 4, permanentLsn: 1 } }),
      bench,
    )
    assert.match(bench.found[0] ?? '', /moved its committedLsn to 4, a record of term 1/)
  })

  test('an heir has everything on its disk', () => {
    const bench = new TestBench()
    const judge = new HeirsHaveEverything()
    const has = (lsn: number, term: number): boolean => lsn <= 8 && term === 2
    sightOf(bench, { name: 'a', history: [entry(2, 1, 'a')] })
    sightOf(bench, { name: 'b', has })
    bench.facts.handedOver.push({ from: 'a', to: 'b', lsn: 8 })
    judge.afterEvent(bench)
    assert.deepEqual(bench.found, [])
    bench.facts.handedOver.push({ from: 'a', to: 'b', lsn: 9 })
    judge.afterEvent(bench)
    assert.match(bench.found[0] ?? '', /a gave its place to b at LSN 9 of term 2, which b does not have/)
  })

  test('the log that a replica needs stays', () => {
    const bench = new TestBench()
    const judge = new LogIsKeptForReplicas()
    const own = reign(1)
    judge.moved(sightOf(bench, { retainFrom: 10, now: { reign: own, firstLsn: 5 } }), bench)
    judge.moved(
      sightOf(bench, { retainFrom: 10, before: { firstLsn: 5 }, now: { reign: own, firstLsn: 10 } }),
      bench,
    )
    // It rose since the last look, and the log with it; then it fell while segments were being removed.
    for (const [retainFrom, before, firstLsn] of [
      [12, 10, 12],
      [11, 12, 12],
    ] as const) {
      judge.moved(
        sightOf(bench, { retainFrom, before: { firstLsn: before }, now: { reign: own, firstLsn } }),
        bench,
      )
    }
    assert.deepEqual(bench.found, [])
    judge.moved(
      sightOf(bench, { retainFrom: 13, before: { firstLsn: 12 }, now: { reign: own, firstLsn: 14 } }),
      bench,
    )
    assert.match(bench.found[0] ?? '', /let its log go up to LSN 13, and a replica needs it from 13 on/)
  })

  test('the log stays until a replica has it, whatever its master believes', () => {
    for (const [state, attachedAt, found] of [
      ['live', 0, 1],
      ['snapshot', 0, 0],
      // It came while segments were being removed.
      ['live', 9_500, 0],
    ] as const) {
      const bench = new TestBench()
      const judge = new LogIsKeptForReplicas()
      const has = { ...placeBeforeAll, lsn: 8 as Lsn }
      judge.moved(sightOf(bench, { name: 'b', now: { last: has } }), bench)
      const replicas = [{ site: 'b', state, attachedAt }]
      const now = { reign: reign(1), firstLsn: 10 }
      judge.moved(sightOf(bench, { name: 'a', replicas, before: { firstLsn: 5 }, now }), bench)
      assert.equal(bench.found.length, found)
    }
  })

  test('only a site whose disk was damaged may refuse to start', () => {
    const bench = new TestBench()
    const judge = new SitesStartAgain()
    sightOf(bench, { name: 'a', state: 'lost', isSuspect: true })
    judge.atEnd(bench)
    assert.deepEqual(bench.found, [])
    sightOf(bench, { name: 'b', state: 'lost' })
    judge.atEnd(bench)
    assert.equal(bench.found.length, 1)
  })
})

describe('judges of what clients were told', () => {
  const put = (id: number, value: string, more: Partial<Operation> = {}): Operation => ({
    id,
    client: 0,
    kind: 'write',
    site: 'a',
    key: 'k',
    value,
    invokedAt: id * 10,
    completedAt: id * 10 + 1,
    outcome: 'ok',
    term: 1,
    ...more,
  })

  test('an unknown write whose LSN went to another term has failed, and must not be seen', () => {
    for (const isSeen of [true, false]) {
      const bench = new TestBench()
      const places = bench.durable(recordsOf(placeBeforeAll, 2, ['b', [['k', '1']], [['k', '3']]]))
      bench.ledger.makePermanent(places[2] as RecordPlace)
      const { completedAt: _completedAt, ...lost } = put(2, '2', { outcome: 'unknown', lsn: 3 })
      const read: Operation = { ...put(3, isSeen ? '2' : '1'), kind: 'read', lsn: 2, term: 2 }
      bench.facts.history.push(put(1, '1', { lsn: 2, term: 2 }), lost, read)
      new HistoriesAreLinearisable().atEnd(bench)
      assert.equal(bench.found.length, isSeen ? 1 : 0)
    }
  })

  test('a read of which nothing is known says nothing', () => {
    const bench = new TestBench()
    const { value: _value, ...read } = put(2, '', { code: 'OUTCOME_UNKNOWN' })
    bench.facts.history.push(put(1, '1', { lsn: 2 }), { ...read, kind: 'read' })
    new HistoriesAreLinearisable().atEnd(bench)
    assert.deepEqual(bench.found, [])
  })

  test('a prefix may be shorter after a restart of its site, and only then', () => {
    for (const isRestarted of [true, false]) {
      const bench = new TestBench()
      const judge = new ReadsFollowTheLog()
      const read = (id: number, value: string): Operation => ({
        ...put(id, value),
        kind: 'read',
        stale: true,
      })
      judge.moved(sightOf(bench, { name: 'a', isNew: true }), bench)
      bench.facts.nowMs = 35
      if (isRestarted) judge.moved(sightOf(bench, { name: 'a', isNew: true, start: 2 }), bench)
      bench.facts.history.push(put(1, '1', { lsn: 2 }), put(2, '2', { lsn: 3 }), read(3, '2'), read(4, '1'))
      judge.atEnd(bench)
      assert.equal(bench.found.length, isRestarted ? 0 : 1)
    }
  })
})

describe('judges of those below', () => {
  const begin = (base: RecordPlace): CoreMessage => ({
    type: 'snapshotBegin',
    session: 7,
    term: 1 as Term,
    base,
    snapshotLsn: base.lsn,
    snapshotReign: undefined,
    history: [entry(1, 1, 'a')],
    rowsEstimate: 0,
    resumed: false,
  })

  test('what goes below is permanent, and on the disk of whoever passes it on', () => {
    const bench = new TestBench()
    const judge = new OnlyPermanentGoesBelow()
    judge.begin(bench)
    const [first, second] = bench.durable(recordsOf(placeBeforeAll, 1, ['a', [['k', '1']]]))
    assert.ok(first !== undefined && second !== undefined)
    bench.ledger.makePermanent(first)
    sightOf(bench, { name: 'r', isBelow: true, diskLast: 1 })
    bench.sent({ from: 'r', to: 'v', message: begin(first) })
    assert.deepEqual(bench.found, [])
    bench.sent({ from: 'r', to: 'v', message: begin(second) })
    assert.match(bench.found[0] ?? '', /passes LSN 2 of term 1 on, which is not permanent \(1 is\)/)
    bench.ledger.makePermanent(second)
    bench.sent({ from: 'r', to: 'v', message: begin(second) })
    assert.match(bench.found.at(-1) ?? '', /passes LSN 2 on, and has 1 on its disk/)
  })

  test('who has more than is known to be permanent is not told to undo it, unless something else is', () => {
    for (const [history, term, found] of [
      [[entry(1, 1, 'a')], 1, 1],
      [[entry(1, 1, 'a'), entry(2, 2, 'b')], 2, 0],
    ] as const) {
      const bench = new TestBench()
      const judge = new OnlyPermanentGoesBelow()
      judge.begin(bench)
      const [, last] = bench.durable(recordsOf(placeBeforeAll, 1, ['a', [['k', '1']]]))
      assert.ok(last !== undefined)
      bench.ledger.makePermanent(last)
      sightOf(bench, { name: 'r', isBelow: true, diskLast: 2 })
      bench.sent({
        from: 'v',
        to: 'r',
        message: { ...(joinIn(2) as Join), history, last: { lsn: 2 as Lsn, term: term as Term, crc: 1 } },
      })
      bench.sent({ from: 'r', to: 'v', message: rewindTo(1) })
      assert.equal(bench.found.length, found)
    }
  })

  const rewindTo = (agreedLsn: number): CoreMessage => ({
    type: 'accept',
    session: 7,
    term: 1 as Term,
    databaseId: 'db',
    site: 'a',
    plan: 'rewind',
    agreedLsn: agreedLsn as Lsn,
    history: [entry(1, 1, 'a')],
    last: { lsn: 2 as Lsn, term: 1 as Term, crc: 1 },
    committedLsn: 0 as Lsn,
    permanentLsn: 0 as Lsn,
    attest: 'durable',
    window: 1,
    heartbeatMs: 100,
    silenceTimeoutMs: 1000,
    sites: 0,
    route: { site: 'a', address: '', sites: 0, via: ['r'] },
  })

  test('nobody below reigns', () => {
    const bench = new TestBench()
    const judge = new NobodyBelowVotes()
    judge.moved(sightOf(bench, { name: 'a', now: { reign: reign(2) } }), bench)
    assert.deepEqual(bench.found, [])
    judge.moved(sightOf(bench, { name: 'v', isBelow: true, now: { reign: reign(2) } }), bench)
    assert.match(bench.found[0] ?? '', /v, which is no member, reigns in term 2/)
  })

  test('the disk of a partial view knows each store that has rows there', () => {
    for (const [keptStores, told, found] of [
      [[''], [''], 0],
      [[''], [], 1],
      [['one'], [''], 1],
    ] as const) {
      const bench = new TestBench()
      const judge = new PartialViewsKnowWhatTheyKeep()
      const rows: Write[] = [['k', '1']]
      const diskState = { view: { kept: told } }
      const facts = { name: 'v', isBelow: true, keptStores, rows, diskState, now: { appliedLsn: 1 } }
      judge.moved(sightOf(bench, facts), bench)
      assert.equal(bench.found.length, found)
    }
  })
})

describe('judges of two sites', () => {
  function benchOfTwo(): TestBench {
    const bench = new TestBench()
    bench.facts.settings = { kind: 'pair', sites: 2, electionTimeoutMs: 300 }
    return bench
  }

  const member = (site: string) => ({ site, address: site, incarnation: 'x' })
  const membersOf = (twoSites: TwoSites): Membership => ({
    members: [member('a'), member('b')],
    removed: [],
    twoSites,
    lsn: 3 as Lsn,
  })
  const available = membersOf('available')
  const begun = [entry(2, 1, 'a')]
  const write: Operation = {
    id: 1,
    client: 0,
    kind: 'write',
    site: 'a',
    key: 'k',
    value: '1',
    invokedAt: 0,
    outcome: 'ok',
    lsn: 5,
    term: 2,
    acks: 'quorum',
  }

  test('what two logs agree on ends where their reigns part', () => {
    const log = (last: number, ...history: History) => ({ last: last as Lsn, history })
    const a = entry(1, 1, 'a')
    assert.deepEqual(agreedPlace(log(4, a), log(7, a)), { lsn: 4, term: 1 })
    assert.deepEqual(agreedPlace(log(9, a, entry(2, 6, 'a')), log(7, a, entry(3, 4, 'b'))), {
      lsn: 3,
      term: 1,
    })
    assert.deepEqual(agreedPlace(log(9, a, entry(2, 6, 'a')), log(7, a, entry(2, 6, 'a'))), {
      lsn: 7,
      term: 2,
    })
    assert.equal(agreedPlace(log(3, a), log(3, entry(2, 1, 'b'))), undefined)
    assert.equal(agreedPlace(log(0), log(3, a)), undefined)
  })

  test('what both disks had stays on both, known to be permanent or not', () => {
    for (const lsnLeft of [5, 4]) {
      const bench = benchOfTwo()
      const judge = new BothKeepWhatBothHad()
      const upTo = (end: number) => ({
        diskLast: end,
        has: (lsn: number, term: number): boolean => lsn <= end && term === 2,
        history: begun,
        now: { durableLsn: end as Lsn },
      })
      judge.moved(sightOf(bench, { name: 'a', ...upTo(9) }), bench)
      judge.moved(sightOf(bench, { name: 'b', ...upTo(5) }), bench)
      judge.moved(sightOf(bench, { name: 'a', ...upTo(lsnLeft) }), bench)
      assert.equal(bench.found.length, lsnLeft === 5 ? 0 : 1)
    }
  })

  test('whoever reigns without a vote takes a term of its own half, and both know that it may', () => {
    const cases: readonly [term: number, facts: SightFacts, voted: boolean, found: RegExp | undefined][] = [
      [4, { membership: available }, false, undefined],
      [5, { membership: available }, false, /whose term it is/],
      [5, { membership: available }, true, undefined],
      [4, { membership: membersOf('strict') }, false, /is not on both disks/],
      [4, { membership: available, has: () => false }, false, /is not on both disks/],
      [5, { membership: { ...available, members: [member('a')] } }, false, undefined],
    ]
    for (const [term, facts, voted, found] of cases) {
      const bench = benchOfTwo()
      const judge = new LoneMastersKeepApart()
      judge.begin(bench)
      const vote: Vote = {
        type: 'vote',
        session: 0,
        term: term as Term,
        databaseId,
        site: 'b',
        incarnation: 'x',
        forTerm: term as Term,
        granted: voted,
        reason: '',
      }
      bench.sent({ from: 'b', to: 'a', message: vote })
      sightOf(bench, { name: 'b' })
      judge.moved(sightOf(bench, { name: 'a', history: begun, ...facts, now: { reign: reign(term) } }), bench)
      assert.equal(bench.found.length, found === undefined ? 0 : 1, `term ${term}: ${bench.found}`)
      if (found !== undefined) assert.match(bench.found[0] ?? '', found)
    }
  })

  test('whoever hears the other one asks it, unless it is preferred and has committed what that one lacks', () => {
    const cases: readonly [twoSites: TwoSites, committedLsn: number, agoMs: number, faults: number][] = [
      ['available', 9, 10, 1],
      ['available', 9, 400, 0],
      [{ preferredMaster: 'a' }, 9, 10, 0],
      [{ preferredMaster: 'a' }, 5, 10, 1],
      [{ preferredMaster: 'b' }, 9, 10, 1],
    ]
    for (const [twoSites, committedLsn, agoMs, faults] of cases) {
      const bench = benchOfTwo()
      const judge = new LoneMastersKeepApart()
      judge.begin(bench)
      bench.facts.network.sides.push({ link: { from: 'a', to: 'b' }, number: 1 })
      const refusal: Vote = {
        type: 'vote',
        session: 0,
        term: 3 as Term,
        databaseId,
        site: 'b',
        incarnation: 'x',
        forTerm: 3 as Term,
        granted: false,
        reason: 'no',
      }
      bench.delivered({ from: 'b', to: 'a', message: refusal })
      bench.facts.nowMs += agoMs
      sightOf(bench, { name: 'b', diskLast: 5, diskHistory: begun })
      const facts = { name: 'a', history: begun, diskLast: 9, membership: membersOf(twoSites) }
      const before = { term: 3 as Term }
      const now = { term: 4 as Term, committedLsn: committedLsn as Lsn }
      judge.moved(sightOf(bench, { ...facts, before, now }), bench)
      judge.moved(sightOf(bench, { ...facts, before: now, now: { ...now, reign: reign(4) } }), bench)
      assert.equal(bench.found.length, faults, `${JSON.stringify(twoSites)} ${committedLsn} ${agoMs}`)
    }
  })

  test('commits that are taken back are told of, and none of the preferred master', () => {
    for (const [told, twoSites, faults] of [
      [true, 'available', 0],
      [false, 'available', 1],
      [true, { preferredMaster: 'a' }, 1],
      [true, { preferredMaster: 'b' }, 0],
    ] as const) {
      const bench = benchOfTwo()
      const judge = new UndoneCommitsAreTold()
      const facts = { name: 'a', history: begun, membership: membersOf(twoSites) }
      const [high, low] = [{ committedLsn: 9 as Lsn }, { committedLsn: 5 as Lsn }]
      judge.moved(sightOf(bench, { ...facts, before: high, now: high }), bench)
      judge.moved(sightOf(bench, { ...facts, before: high, now: low }), bench)
      if (told) bench.facts.rewound.push({ site: 'a', start: 1, to: 5 })
      bench.facts.nowMs = 10_000
      judge.afterEvent(bench)
      assert.equal(bench.found.length, faults, `${told} ${JSON.stringify(twoSites)}`)
    }
  })

  test('a commit may be on one disk where its master is alone and may be, and only then be undone', () => {
    const onBoth = (lsn: number): boolean => lsn <= 3
    const follower = [{ site: 'b', votes: true, inStep: true }]
    for (const [facts, faults] of [
      [{ membership: available }, 0],
      [{ membership: membersOf('strict') }, 1],
      [{ membership: available, replicas: follower }, 1],
    ] as const) {
      const bench = benchOfTwo()
      const judge = new AcknowledgedStays()
      sightOf(bench, { name: 'a', history: begun, ...facts })
      sightOf(bench, { name: 'b', has: onBoth })
      bench.facts.acknowledged.push({ operation: write, lsn: 5, term: 2, token: '' })
      judge.afterEvent(bench)
      assert.equal(bench.found.length, faults)
      const history = [...begun, entry(3, 4, 'b')]
      judge.moved(sightOf(bench, { name: 'b', history, now: { reign: reign(3) } }), bench)
      assert.equal(bench.found.length, 2 * faults, 'the next master lacks it')
    }
  })

  test('what was undone has not happened for anybody who did not read it there', () => {
    const bench = benchOfTwo()
    const places = bench.durable(recordsOf(placeBeforeAll, 3, ['b', [['k', '2']]]))
    bench.ledger.makePermanent(places[1] as RecordPlace)
    const kept: Operation = { ...write, id: 2, value: '2', lsn: 2, term: 3, invokedAt: 6, completedAt: 7 }
    const undone: Operation = { ...write, completedAt: 1, places: [{ lsn: 5, term: 2 }] }
    const { lsn: _lsn, term: _term, acks: _acks, ...rest } = undone
    const read: Operation = { ...rest, id: 3, kind: 'read', invokedAt: 2, completedAt: 3 }
    for (const [place, faults] of [
      [{ lsn: 5, term: 2 }, 0],
      [{ lsn: 2, term: 3 }, 1],
    ] as const) {
      bench.facts.history.splice(0, 3, undone, kept, { ...read, places: [place] })
      bench.found.length = 0
      new HistoriesAreLinearisable().atEnd(bench)
      assert.equal(bench.found.length, faults)
    }
  })
})
