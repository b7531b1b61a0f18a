// The rules of elections, hand-overs and membership, one by one: on single cores, message by message, and on small groups.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { RecordPlace } from '../../src/base/batch.ts'
import type { Lsn, Term } from '../../src/base/lsn.ts'
import type { Member, Membership } from '../../src/base/membership.ts'
import { Core } from '../../src/replication/core.ts'
import type { CoreOptions } from '../../src/replication/core-options.ts'
import type { CoreEvent, Effect, StepResult } from '../../src/replication/effects.ts'
import type { Canvass, Hello, Vote, VoteRequest } from '../../src/replication/group-messages.ts'
import { decodeMessage, encodeMessage } from '../../src/replication/message-codec.ts'
import { messageLimits } from '../../src/replication/message-limits.ts'
import type { Accept, Join, Message } from '../../src/replication/messages.ts'
import { CoreCluster } from '../support/core-cluster.ts'
import { CoreGroup } from '../support/core-group.ts'
import { batchOf, type FakeRecord, fakeCodec, makeRecord, startPlace } from '../support/fake-records.ts'
import type { FakeSite } from '../support/fake-site.ts'

const lsn = (value: number): Lsn => value as Lsn
const term = (value: number): Term => value as Term

const timings = { heartbeatMs: 100, electionTimeoutMs: 300 }

function member(site: string): Member {
  return { site, address: `${site}-address`, incarnation: `${site}1` }
}

function membersAre(sites: string, options: { removed?: string[]; at?: number } = {}): Membership {
  const { removed = [], at = 2 } = options
  return { members: sites.split(' ').map(member), removed, lsn: lsn(at) }
}

/** The log of a group in its first term, with `count` records. */
function logOf(count: number, inTerm = 1): FakeRecord[] {
  const records = [makeRecord(startPlace, { term: term(inTerm), isTerm: true, text: 'a' })]
  while (records.length < count) {
    const { place } = records.at(-1) as FakeRecord
    records.push(makeRecord(place, { term: term(inTerm), text: `k=${records.length}` }))
  }
  return records
}

interface Life {
  readonly site?: string
  readonly records?: number
  readonly members?: Membership
  readonly priority?: number
  readonly change?: Partial<CoreOptions>
}

/** Peers of a core under test, by the site at the other end. */
const peers: Record<string, number> = { a: 1, b: 2, c: 3, d: 4, e: 5, x: 9 }

/** A site of a group of three that has begun just now, with links to the others. */
class Bench {
  readonly core: Core
  readonly site: string
  now = 0
  effects: Effect[] = []

  constructor(life: Life = {}) {
    const { site = 'a', records = 5, members = membersAre('a b c'), priority = 100, change } = life
    this.site = site
    const last = (logOf(records).at(-1) as FakeRecord).place
    this.core = new Core({
      site,
      incarnation: `${site}1`,
      databaseId: 'db',
      term: term(1),
      termMaster: 'm',
      membership: members,
      log: {
        first: lsn(1),
        last,
        durableLsn: last.lsn,
        history: [{ term: term(1), firstLsn: lsn(1), site: 'a' }],
      },
      appliedLsn: lsn(2),
      committedLsn: lsn(2),
      permanentLsn: lsn(2),
      codec: fakeCodec,
      random: () => 77,
      paranoid: true,
      timings,
      ...change,
    })
    this.core.joinGroup({ address: `${site}-address`, priority, now: 0 })
    for (const other of members.members) if (other.site !== site) this.meet(other.site)
    this.take()
  }

  get last(): RecordPlace {
    return this.core.last
  }

  tell(message: Message, from: string, rec?: Uint8Array): StepResult {
    const result = this.core.processMessage({
      control: encodeMessage(message),
      ...(rec === undefined ? {} : { rec }),
      from: peers[from] ?? 0,
      now: this.now,
    })
    this.effects.push(...this.core.takeEffects())
    return result
  }

  meet(site: string, change: Partial<Hello> = {}): StepResult {
    return this.tell(
      {
        type: 'hello',
        session: 0,
        term: term(1),
        answer: true,
        databaseId: 'db',
        site,
        incarnation: `${site}1`,
        address: `${site}-address`,
        priority: 100,
        version: '',
        activity: 'alone',
        grouped: true,
        last: startPlace,
        durableLsn: lsn(0),
        appliedLsn: lsn(0),
        committedLsn: lsn(0),
        ackMicros: 0,
        view: false,
        data: new Uint8Array(),
        master: undefined,
        ...change,
      },
      site,
    )
  }

  canvass(from: string, change: Partial<Canvass> = {}): StepResult {
    const { last } = this
    const own = { answer: false, databaseId: 'db', site: from, round: 1, last, priority: 100, tiebreak: 1 }
    return this.tell({ type: 'canvass', session: 0, term: term(1), ...own, ...change }, from)
  }

  request(from: string, change: Partial<VoteRequest> = {}): StepResult {
    const { last } = this
    const own = { databaseId: 'db', site: from, last, handover: false }
    return this.tell({ type: 'voteRequest', session: 0, term: term(2), ...own, ...change }, from)
  }

  vote(from: string, change: Partial<Vote> = {}): StepResult {
    const forTerm = this.core.term
    const own = { databaseId: 'db', site: from, incarnation: `${from}1`, forTerm, granted: true, reason: '' }
    return this.tell({ type: 'vote', session: 0, term: forTerm, ...own, ...change }, from)
  }

  wait(ms: number): void {
    for (const end = this.now + ms; this.now < end; ) {
      this.now += 20
      this.core.tick(this.now)
      this.effects.push(...this.core.takeEffects())
    }
  }

  /** Goes on until it asks for votes, and answers its canvass as others would. */
  campaign(answers: readonly string[], change: Partial<Canvass> = {}): void {
    this.wait(320)
    const round = this.sent('canvass').at(-1)?.round ?? 0
    for (const site of answers) {
      this.canvass(site, { answer: true, round, last: startPlace, tiebreak: 0, ...change })
    }
    this.wait(160)
  }

  take(): Effect[] {
    this.effects.push(...this.core.takeEffects())
    const taken = this.effects
    this.effects = []
    return taken
  }

  messages(): Message[] {
    return this.effects.flatMap((effect) => {
      if (effect.kind !== 'send') return []
      const decoded = decodeMessage(effect.control)
      assert.ok(decoded.ok)
      return [decoded.message]
    })
  }

  sent<T extends Message['type']>(type: T): Extract<Message, { type: T }>[] {
    return this.messages().filter((each): each is Extract<Message, { type: T }> => each.type === type)
  }

  events<K extends CoreEvent['kind']>(kind: K): Extract<CoreEvent, { kind: K }>[] {
    return this.effects.flatMap((effect) =>
      effect.kind === 'event' && effect.event.kind === kind
        ? [effect.event as Extract<CoreEvent, { kind: K }>]
        : [],
    )
  }

  get isElected(): boolean {
    return this.effects.some((effect) => effect.kind === 'elected')
  }

  /** Where an effect stands among the others. */
  at(is: (effect: Effect) => boolean): number {
    return this.effects.findIndex(is)
  }

  sending(type: Message['type']): (effect: Effect) => boolean {
    return (effect) => {
      if (effect.kind !== 'send') return false
      const decoded = decodeMessage(effect.control)
      return decoded.ok && decoded.message.type === type
    }
  }
}

function grants(bench: Bench): boolean {
  return bench.sent('vote').at(-1)?.granted === true
}

describe('a voter', () => {
  test('persists its vote before it sends it', () => {
    const bench = new Bench()
    bench.request('b')
    const persisted = bench.at(
      (effect) => effect.kind === 'persist' && effect.vote === 'b' && effect.term === 2,
    )
    const sent = bench.at(bench.sending('vote'))
    assert.ok(persisted >= 0 && persisted < sent)
    assert.ok(grants(bench))
    assert.equal(bench.core.vote, 'b')
  })

  test('votes once in a term, and for the same site as often as it asks', () => {
    const bench = new Bench()
    bench.request('b')
    bench.request('c')
    assert.equal(grants(bench), false)
    bench.request('b')
    assert.ok(grants(bench))
    bench.request('c', { term: term(3) })
    assert.ok(grants(bench))
  })

  test('remembers its vote after a restart', () => {
    const bench = new Bench({ change: { term: term(2), termMaster: undefined, vote: 'b' } })
    bench.request('c')
    assert.equal(grants(bench), false)
    bench.request('b')
    assert.ok(grants(bench))
  })

  test('votes for nobody against the master that it has acknowledged to in that term', () => {
    const bench = new Bench({ change: { term: term(2), termMaster: 'b' } })
    bench.request('c')
    assert.equal(grants(bench), false)
  })

  test('votes for nobody in a term that is over, and says which is not', () => {
    const bench = new Bench({ change: { term: term(7) } })
    bench.request('b', { term: term(6) })
    assert.equal(grants(bench), false)
    assert.equal(bench.sent('vote')[0]?.term, 7)
  })

  test('gives no vote for a log that is behind', () => {
    const bench = new Bench()
    const { last } = bench
    bench.request('b', { last: { ...last, lsn: lsn(last.lsn - 1) } })
    assert.equal(grants(bench), false)
    assert.equal(bench.core.term, 1, 'and the request raises no term')
    bench.request('b', { last: { ...last, lsn: lsn(last.lsn + 1) } })
    assert.ok(grants(bench))
  })

  test('takes a later term of the log for more than a greater length', () => {
    const bench = new Bench({ change: { term: term(4) } })
    const longer = { lsn: lsn(900), term: term(0), crc: 1 }
    bench.request('b', { term: term(5), last: { ...longer, term: term(1), lsn: lsn(4) } })
    assert.equal(grants(bench), false)
    bench.request('b', { term: term(5), last: { lsn: lsn(1), term: term(3), crc: 1 } })
    assert.ok(grants(bench))
  })

  test('gives no vote while it hears its master, but for the one that the master hands over to', () => {
    const { bench } = following()
    bench.request('c', { term: term(2) })
    assert.equal(grants(bench), false)
    assert.equal(bench.core.role, 'replica')
    bench.request('c', { term: term(2), handover: true })
    assert.ok(grants(bench))
    assert.equal(bench.core.role, 'none')
  })

  test('votes again for others when its master was not heard for an election timeout', () => {
    const { bench } = following()
    bench.wait(320)
    bench.request('c', { term: term(2) })
    assert.ok(grants(bench))
  })

  test('knows nobody who was removed', () => {
    const bench = new Bench({ members: membersAre('a b c', { removed: ['x'] }) })
    bench.meet('x')
    bench.request('x')
    assert.equal(grants(bench), false)
  })

  test('has no vote when its id belongs to another incarnation, or was removed', () => {
    for (const members of [
      {
        members: [{ ...member('a'), incarnation: 'a0' }, member('b'), member('c')],
        removed: [],
        lsn: lsn(2),
      },
      membersAre('b c', { removed: ['a'] }),
    ]) {
      const bench = new Bench({ members })
      bench.request('b')
      assert.deepEqual(bench.sent('vote'), [])
      assert.equal(bench.core.vote, undefined)
    }
  })

  test('votes although its log has not the record yet that made it a member', () => {
    const bench = new Bench({ site: 'd', members: membersAre('a b c') })
    bench.canvass('b')
    assert.equal(bench.sent('canvass')[0]?.priority, 0, 'it does not stand itself')
    bench.request('b')
    assert.ok(grants(bench))
    assert.equal(bench.sent('vote')[0]?.incarnation, 'd1')
  })
})

describe('a candidate', () => {
  test('raises no term before a majority has answered its canvass', () => {
    const bench = new Bench()
    bench.wait(2_000)
    assert.equal(bench.core.term, 1)
    assert.ok(bench.sent('canvass').length > 2)
    assert.deepEqual(bench.events('electionFailed')[0], {
      kind: 'electionFailed',
      reason: 'no-majority',
      have: 1,
      need: 2,
    })
  })

  test('persists its own vote before it asks for others', () => {
    const bench = new Bench()
    bench.campaign(['b'])
    const persisted = bench.at(
      (effect) => effect.kind === 'persist' && effect.vote === 'a' && effect.term === 2,
    )
    assert.ok(persisted >= 0 && persisted < bench.at(bench.sending('voteRequest')))
    assert.equal(bench.isElected, false)
  })

  test('is elected by a majority of the members, not of those that answer', () => {
    const bench = new Bench({ members: membersAre('a b c d e') })
    bench.campaign(['b', 'c'])
    bench.vote('b')
    bench.vote('b')
    assert.equal(bench.isElected, false, 'a vote that comes twice is one vote')
    bench.vote('c')
    assert.ok(bench.isElected)
  })

  test('counts only votes of members with the data it knows, for this term, that were granted', () => {
    const bench = new Bench({ members: membersAre('a b c d e') })
    bench.campaign(['b', 'c'])
    bench.vote('b', { forTerm: term(1) })
    bench.vote('b', { granted: false })
    bench.vote('b', { incarnation: 'b2' })
    bench.vote('b', { databaseId: 'other' })
    bench.meet('x')
    bench.vote('x')
    bench.vote('c')
    assert.equal(bench.isElected, false)
    bench.vote('d')
    assert.ok(bench.isElected)
  })

  test('is not elected by votes of a term that is over', () => {
    const bench = new Bench()
    bench.campaign(['b'])
    bench.request('c', { term: term(9) })
    bench.vote('b', { forTerm: term(2) })
    assert.equal(bench.isElected, false)
    assert.equal(bench.core.vote, 'c')
  })

  test('asks for no more votes in a term whose master it has followed, if for a moment only', () => {
    const bench = new Bench()
    const { core } = bench
    bench.campaign(['b'])
    assert.equal(bench.sent('voteRequest').at(-1)?.term, 2)
    core.follow({
      peer: 8,
      now: bench.now,
      options: { address: 'm-address', member: { address: 'a-address' } },
    })
    core.processMessage({
      control: encodeMessage(acceptOf(core, { term: term(2) })),
      from: 8,
      now: bench.now,
    })
    assert.equal(core.termMaster, 'm')
    core.disconnected({ peer: 8, now: bench.now })
    bench.take()
    bench.wait(200)
    assert.deepEqual(bench.sent('voteRequest'), [])
    bench.vote('b', { forTerm: term(2) })
    bench.vote('c', { forTerm: term(2) })
    assert.equal(bench.isElected, false)
  })

  test('cannot begin a reign whose term is over', () => {
    const bench = new Bench()
    bench.campaign(['b'])
    bench.vote('b')
    assert.ok(bench.isElected)
    bench.core.serve({ elections: true, now: bench.now })
    bench.core.adoptTerm({ term: term(5), now: bench.now })
    assert.throws(() => bench.core.startTerm(bench.now, { elected: true }), /not master|another term/)
  })

  test('can be elected again when the reign that it won could not begin', () => {
    const bench = new Bench()
    for (const inTerm of [2, 3]) {
      for (let i = 0; i < 20 && !bench.isElected; i++) {
        bench.campaign(['b'])
        bench.vote('b')
      }
      assert.ok(bench.isElected)
      assert.equal(bench.core.term, inTerm)
      bench.core.serve({ elections: true, now: bench.now })
      bench.core.stopServing(bench.now)
      bench.take()
    }
  })

  test('makes way for a log that goes further, and then for a higher priority', () => {
    for (const more of [
      { last: { lsn: lsn(6), term: term(1), crc: 5 }, priority: 1 },
      { last: { lsn: lsn(1), term: term(2), crc: 5 }, priority: 1 },
    ]) {
      const bench = new Bench()
      bench.campaign(['b'], more)
      assert.deepEqual(bench.sent('voteRequest'), [])
    }
    const equal = new Bench()
    equal.campaign(['b'], { last: equal.last, priority: 101 })
    assert.deepEqual(equal.sent('voteRequest'), [])
    const lower = new Bench()
    lower.campaign(['b'], { last: lower.last, priority: 99 })
    assert.ok(lower.sent('voteRequest').length > 0)
  })

  test('does not make way for ever for one that nobody elects', () => {
    const bench = new Bench({ members: membersAre('a b c d e') })
    const further = { lsn: lsn(6), term: term(1), crc: 5 }
    for (let round = 0; round < 2; round++) {
      bench.campaign(['b', 'c', 'd'])
      const { round: asked } = bench.sent('canvass').at(-1) as Canvass
      bench.canvass('e', { answer: true, round: asked, last: further })
      bench.wait(700)
    }
    assert.ok(bench.core.term > 1)
  })

  test('asks for no votes where those whose logs go further are too many', () => {
    const bench = new Bench()
    bench.campaign(['b'], { last: { lsn: lsn(6), term: term(1), crc: 5 }, priority: 0 })
    assert.equal(bench.core.term, 1)
    assert.equal(bench.events('electionFailed').at(-1)?.reason, 'nobody-electable')
  })

  test('takes no answer to an earlier round for one to this', () => {
    const bench = new Bench()
    bench.wait(1_500)
    const { round } = bench.sent('canvass').at(-1) as Canvass
    assert.ok(round > 1)
    assert.equal(bench.canvass('b', { answer: true, round: round - 1 }).kind, 'ignore')
    bench.wait(200)
    assert.equal(bench.core.term, 1)
  })

  test('does not stand while its data is being replaced', () => {
    const { bench } = following({ plan: 'snapshot' })
    bench.wait(320)
    bench.canvass('b')
    assert.equal(bench.sent('canvass').at(-1)?.priority, 0)
  })

  test('is not brought down by one that has used up the terms', () => {
    const bench = new Bench()
    bench.campaign(['b'], { term: term(messageLimits.termMax) })
    assert.equal(bench.core.term, 1)
    assert.equal(bench.events('electionFailed').at(-1)?.reason, 'nobody-electable')
  })

  test('hears of the master from whoever hears it, and asks for no votes', () => {
    const { bench } = following()
    bench.canvass('b')
    const [hello] = bench.sent('hello')
    assert.deepEqual(hello?.master, { site: 'm', term: 1, address: 'm-address' })
    assert.deepEqual(bench.sent('canvass'), [])
  })
})

/** What master m of term 1 answers to a Join, and both logs are equal. */
function acceptOf(core: Bench['core'], change: Partial<Accept>): Accept {
  return {
    type: 'accept',
    session: 77,
    term: term(1),
    databaseId: 'db',
    site: 'm',
    plan: 'equal',
    agreedLsn: core.last.lsn,
    history: core.history,
    last: core.last,
    committedLsn: lsn(2),
    permanentLsn: lsn(2),
    attest: 'durable',
    window: 1,
    heartbeatMs: 100,
    silenceTimeoutMs: 10_000,
    sites: 3,
    route: undefined,
    ...change,
  }
}

/** A site that follows master m of term 1. */
function following(change: Partial<Accept> = {}): { bench: Bench } {
  const bench = new Bench({ change: { termMaster: change.site ?? 'm' } })
  const { core } = bench
  core.follow({ peer: 8, now: 0, options: { address: 'm-address', member: { address: 'a-address' } } })
  bench.take()
  const accept = acceptOf(core, change)
  core.processMessage({ control: encodeMessage(accept), from: 8, now: 0 })
  bench.take()
  return { bench }
}

// ---- a master, and its members

/** Site a, elected in term 2 by b, with its term record; b is attached and has all of it. */
function reigning(life: Life = {}): {
  bench: Bench
  join: (site: string, change?: Partial<Join>) => StepResult
} {
  const bench = new Bench(life)
  const { core } = bench
  const { members } = core.membership as Membership
  const others = members.map((each) => each.site).filter((site) => site !== 'a')
  bench.campaign(others)
  for (const site of others) if (!bench.isElected) bench.vote(site)
  assert.ok(bench.isElected)
  core.serve({ elections: true, address: 'a-address', now: bench.now })
  core.startTerm(bench.now, { elected: true })
  const record = makeRecord(core.last, { term: core.term, isTerm: true, text: 'a' })
  core.proposed({ batch: batchOf([record]), now: bench.now })
  core.synced({ durableLsn: core.lastLsn, now: bench.now })
  bench.take()
  return { bench, join: (site, change = {}) => bench.tell(joinOf(bench, site, change), site) }
}

function joinOf({ core }: Bench, site: string, change: Partial<Join>): Join {
  return {
    type: 'join',
    session: 40 + (peers[site] ?? 0),
    term: core.term,
    databaseId: 'db',
    site,
    incarnation: `${site}1`,
    address: `${site}-address`,
    history: core.history,
    firstLsn: lsn(1),
    last: core.last,
    durableLsn: core.lastLsn,
    permanentLsn: lsn(0),
    replace: false,
    snapshot: false,
    forceSync: false,
    view: false,
    member: true,
    leaseMs: 0,
    resume: undefined,
    mixed: undefined,
    ...change,
  }
}

function acks(bench: Bench, site: string, upTo: number = bench.core.lastLsn): void {
  const session = 40 + (peers[site] ?? 0)
  const lsns = { receivedLsn: lsn(upTo), durableLsn: lsn(upTo), appliedLsn: lsn(0) }
  bench.tell({ type: 'ack', session, term: bench.core.term, ...lsns, stamp: 0, busy: false }, site)
}

/** The site has caught up, and then something was written that it has not. */
function inStep(bench: Bench, site: string): void {
  const { core } = bench
  acks(bench, site)
  const record = makeRecord(core.last, { term: core.term, text: 'more' })
  core.proposed({ batch: batchOf([record]), now: bench.now })
  core.synced({ durableLsn: core.lastLsn, now: bench.now })
}

describe('a master of a group', () => {
  test('steps down without a majority, after an election timeout', () => {
    const { bench, join } = reigning()
    join('b')
    acks(bench, 'b')
    bench.wait(600)
    assert.equal(bench.core.role, 'none')
    const down = bench.effects.find((effect) => effect.kind === 'steppedDown')
    assert.deepEqual(down, { kind: 'steppedDown', term: 2, site: undefined, reason: 'no-majority' })
  })

  test('commits a record of an earlier term only together with one of its own', () => {
    const { bench, join } = reigning()
    const { place } = logOf(5).at(-1) as FakeRecord
    join('b', { last: place, durableLsn: place.lsn, history: bench.core.history.slice(0, 1) })
    acks(bench, 'b', place.lsn)
    assert.deepEqual([bench.core.committedLsn, bench.core.permanentLsn], [2, 2])
    acks(bench, 'b')
    assert.deepEqual([bench.core.committedLsn, bench.core.permanentLsn], [6, 6])
  })

  test('that has given up its reign is not elected again while the others may be', () => {
    const { bench } = reigning()
    bench.core.stepDown(bench.now)
    bench.take()
    bench.canvass('b')
    assert.equal(bench.sent('canvass')[0]?.priority, 0)
    bench.wait(700)
    assert.equal(bench.sent('canvass').at(-1)?.priority, 100, 'but when nobody is')
  })

  test('reigns on for as long as it hears one of two others', () => {
    const { bench, join } = reigning()
    join('b')
    for (let i = 0; i < 20; i++) {
      acks(bench, 'b')
      bench.wait(200)
    }
    assert.equal(bench.core.role, 'master')
  })

  test('is not unseated by a canvass, nor by a request for votes', () => {
    const { bench } = reigning()
    bench.canvass('c', { last: bench.last })
    assert.equal(bench.sent('hello')[0]?.master?.site, 'a')
    bench.request('c', { term: term(9) })
    assert.equal(grants(bench), false)
    assert.equal(bench.core.role, 'master')
  })

  test('counts the acks of members only, whoever is attached', () => {
    const { bench, join } = reigning()
    join('x')
    acks(bench, 'x')
    assert.equal(bench.core.committedLsn, 2)
    join('c')
    acks(bench, 'c')
    assert.equal(bench.core.committedLsn, bench.core.lastLsn)
  })

  test('refuses a member that comes back with other data: a wiped site has forgotten its promises', () => {
    const { bench, join } = reigning()
    assert.deepEqual(
      join('b', { incarnation: 'b2', databaseId: undefined, term: term(0), ...empty }).kind,
      'joinFailure',
    )
    assert.equal(bench.sent('refuse')[0]?.code, 'SITE_WIPED')
    bench.meet('b', { incarnation: 'b2' })
    assert.equal(bench.sent('refuse')[1]?.code, 'SITE_WIPED')
  })

  test('refuses a site that was removed, but not before that can no longer be undone', () => {
    const { bench, join } = reigning({ members: membersAre('a b c', { removed: ['x'] }) })
    join('x')
    assert.equal(bench.sent('refuse').at(-1)?.code, 'MEMBER_REMOVED')
    join('b')
    acks(bench, 'b')
    change(bench, membersAre('a b', { removed: ['x', 'c'] }))
    join('c')
    assert.equal(bench.sent('refuse').at(-1)?.code, 'NOT_MASTER')
    acks(bench, 'b')
    bench.core.synced({ durableLsn: bench.core.lastLsn, now: bench.now })
    join('c', { session: 900 })
    assert.equal(bench.sent('refuse').at(-1)?.code, 'MEMBER_REMOVED')
  })

  test('changes the members one at a time, and only after a permanent record of its own', () => {
    const early = reigning().bench
    assert.throws(() => change(early, membersAre('a b')), /permanent record of the reign/)
    const { bench, join } = reigning()
    join('b')
    acks(bench, 'b')
    assert.equal(bench.core.hasPermanentInReign, true)
    change(bench, membersAre('a b c d'))
    assert.throws(() => change(bench, membersAre('a b c d e')), /one at a time/)
    const other = reigning()
    other.join('b')
    acks(other.bench, 'b')
    assert.throws(() => change(other.bench, membersAre('a b c d e')), /by one site/)
    const third = reigning()
    third.join('b')
    acks(third.bench, 'b')
    assert.throws(() => change(third.bench, membersAre('b c')), /a master is a member/)
  })

  test('needs the new majority from the moment that the record is in its log', () => {
    const { bench, join } = reigning({ members: membersAre('a b c') })
    join('b')
    acks(bench, 'b')
    join('d')
    acks(bench, 'd')
    change(bench, membersAre('a b c d'))
    bench.core.synced({ durableLsn: bench.core.lastLsn, now: bench.now })
    acks(bench, 'b')
    assert.ok(bench.core.permanentLsn < bench.core.lastLsn, 'two of four are no majority')
    acks(bench, 'd')
    assert.equal(bench.core.permanentLsn, bench.core.lastLsn)
  })

  test('is not unseated by a site outside of the group, whatever its term', () => {
    const { bench, join } = reigning()
    join('x', { term: term(9), member: false })
    assert.equal(bench.core.role, 'master')
    assert.equal(bench.sent('refuse')[0]?.code, 'NOT_MASTER')
  })

  test('reaches the term of a site that lost an election as a member by a record that was undone', () => {
    const { bench, join } = reigning()
    join('x', { term: term(9) })
    assert.deepEqual([bench.core.role, bench.core.term], ['none', 9])
  })

  test('alone says who belongs to the group: another site may be behind', () => {
    const bench = new Bench({ members: membersAre('a b c', { removed: ['x'] }) })
    bench.tell(joinOf(bench, 'x', {}), 'x')
    assert.equal(bench.sent('refuse')[0]?.code, 'NOT_MASTER')
  })

  test('is not sent away by an impostor with its own id', () => {
    const bench = new Bench()
    const refusal = { type: 'refuse' as const, session: 0, term: term(1), message: '', master: '' }
    bench.tell({ ...refusal, code: 'DUPLICATE_SITE' }, 'b')
    assert.deepEqual(bench.events('refusedByGroup'), [])
    bench.tell({ ...refusal, code: 'MEMBER_REMOVED' }, 'b')
    assert.equal(bench.events('refusedByGroup').length, 1)
  })
})

const empty = { history: [], last: startPlace, durableLsn: lsn(0), firstLsn: lsn(1) }

function change(bench: Bench, membership: Membership): void {
  const { core } = bench
  const record = makeRecord(core.last, { term: core.term, members: membership })
  core.proposed({ batch: batchOf([record]), now: bench.now })
  bench.take()
}

describe('a hand-over', () => {
  test('goes out after the term is on disk, as the other site’s, and only with everything on its disk', () => {
    const { bench, join } = reigning()
    const { core } = bench
    join('b')
    acks(bench, 'b')
    const record = makeRecord(core.last, { term: core.term, text: 'k=last' })
    core.proposed({ batch: batchOf([record]), now: bench.now })
    core.synced({ durableLsn: core.lastLsn, now: bench.now })
    core.handOver({ site: 'b', now: bench.now })
    assert.deepEqual(core.gate(), { open: false, code: 'HANDING_OVER', wait: true, have: 0, need: 0 })
    bench.take()
    const session = 42
    const received = { receivedLsn: core.lastLsn, durableLsn: lsn(core.lastLsn - 1), appliedLsn: lsn(0) }
    bench.tell({ type: 'ack', session, term: core.term, ...received, stamp: 0, busy: false }, 'b')
    assert.equal(core.role, 'master', 'received is not on disk')
    acks(bench, 'b')
    assert.equal(core.role, 'none')
    const down = bench.at((effect) => effect.kind === 'steppedDown')
    const persisted = bench.at(
      (effect) => effect.kind === 'persist' && effect.vote === 'b' && effect.term === 3,
    )
    const sent = bench.at(bench.sending('handover'))
    assert.ok(down >= 0 && down < persisted && persisted < sent)
  })

  test('lets writers wait only once the heir has caught up, and is made with all that they have written', () => {
    const { bench, join } = reigning()
    const { core } = bench
    join('c')
    inStep(bench, 'c')
    join('b')
    const joinedAt = core.lastLsn
    core.handOver({ site: 'b', now: bench.now })
    bench.take()
    assert.equal(core.gate().open, true, 'the heir is catching up')
    const record = makeRecord(core.last, { term: core.term, text: 'k=meanwhile' })
    core.proposed({ batch: batchOf([record]), now: bench.now })
    core.synced({ durableLsn: core.lastLsn, now: bench.now })
    bench.take()
    const writtenLsn = core.lastLsn
    acks(bench, 'b', joinedAt)
    assert.deepEqual(core.gate(), { open: false, code: 'HANDING_OVER', wait: true, have: 0, need: 0 })
    bench.take()
    assert.equal(core.role, 'master', 'the record is on its way to the heir')
    acks(bench, 'b')
    assert.equal(core.role, 'none')
    assert.equal(bench.sent('handover')[0]?.lsn, writtenLsn)
  })

  test('is called off at once where the other site goes away, and writers go on', () => {
    const { bench, join } = reigning()
    const { core } = bench
    join('b')
    join('c')
    inStep(bench, 'b')
    core.handOver({ site: 'b', now: bench.now })
    core.disconnected({ peer: 2, now: bench.now })
    bench.take()
    assert.deepEqual([core.role, core.gate().open], ['master', true])
  })

  test('is called off where the other site falls silent', () => {
    const { bench, join } = reigning()
    join('b')
    join('c')
    inStep(bench, 'b')
    bench.core.handOver({ site: 'b', now: bench.now })
    for (let i = 0; i < 5; i++) {
      acks(bench, 'c')
      bench.wait(100)
    }
    assert.equal(bench.events('handOverFailed').length, 1)
    assert.deepEqual([bench.core.role, bench.core.gate().open], ['master', true])
  })

  test('has failed where the reign ends before', () => {
    const { bench, join } = reigning()
    join('b')
    inStep(bench, 'b')
    bench.core.handOver({ site: 'b', now: bench.now })
    bench.core.stepDown(bench.now)
    bench.effects.push(...bench.core.takeEffects())
    assert.equal(bench.events('handOverFailed').length, 1)
  })

  test('makes a master of who was attached with the vote of the old one, given before', () => {
    const { bench } = following({ site: 'b' })
    const { core } = bench
    const handover = {
      type: 'handover' as const,
      session: 77,
      term: term(2),
      lsn: core.lastLsn,
      grouped: true,
    }
    core.processMessage({ control: encodeMessage(handover), from: 8, now: 0 })
    bench.effects.push(...core.takeEffects())
    assert.ok(bench.isElected, 'two of three: its own vote and that of b')
    assert.ok(
      bench.at((effect) => effect.kind === 'persist') < bench.at((effect) => effect.kind === 'elected'),
    )
  })

  test('in answer to a Join makes no master by itself: the votes are asked for', () => {
    const bench = new Bench({ members: membersAre('a b c d e') })
    const { core } = bench
    core.follow({ peer: 8, now: 0, options: { member: { address: 'a-address' } } })
    bench.take()
    const handover = {
      type: 'handover' as const,
      session: 77,
      term: term(2),
      lsn: core.lastLsn,
      grouped: true,
    }
    core.processMessage({ control: encodeMessage(handover), from: 8, now: 0 })
    bench.effects.push(...core.takeEffects())
    assert.equal(bench.isElected, false)
    assert.equal(bench.sent('voteRequest').length, 4)
    for (const site of ['b', 'c']) bench.vote(site)
    assert.ok(bench.isElected)
  })

  test('is not taken by a site that has not everything, nor in a term that is over', () => {
    for (const change of [{ lsn: lsn(6) }, { lsn: lsn(4) }, { term: term(1) }]) {
      const { bench } = following()
      const { core } = bench
      const handover = {
        type: 'handover' as const,
        session: 77,
        term: term(2),
        lsn: core.lastLsn,
        grouped: true,
      }
      const control = encodeMessage({ ...handover, ...change })
      assert.equal(core.processMessage({ control, from: 8, now: 0 }).kind, 'ignore')
      assert.equal(core.role, 'replica')
      assert.equal(core.term, 1)
    }
  })

  test('[B10] is refused to a view, which is not counted either, though it has the id of a member', () => {
    const { bench, join } = reigning()
    const { core } = bench
    const { committedLsn } = core
    join('b', { view: true })
    acks(bench, 'b')
    assert.deepEqual(
      core.replicas.map(({ site, votes, view }) => [site, votes, view]),
      [['b', false, true]],
    )
    assert.equal(core.committedLsn, committedLsn)
    assert.throws(() => core.handOver({ site: 'b', now: bench.now }), { code: 'TRANSFER_FAILED' })
    bench.tell({ type: 'takeOver', session: 40 + (peers.b ?? 0), term: core.term, address: '' }, 'b')
    assert.match(bench.sent('handoverRefused').at(-1)?.message ?? '', /is a view/)
  })

  test('[B10] is not taken by a view', () => {
    const bench = new Bench({ change: { termMaster: 'm' } })
    const { core } = bench
    core.follow({ peer: 8, now: 0, options: { address: 'm-address', view: true } })
    core.processMessage({ control: encodeMessage(acceptOf(core, {})), from: 8, now: 0 })
    const handover = {
      type: 'handover',
      session: 77,
      term: term(2),
      lsn: core.lastLsn,
      grouped: false,
    } as const
    const result = core.processMessage({ control: encodeMessage(handover), from: 8, now: 0 })
    assert.deepEqual(result, { kind: 'ignore', reason: 'a view is never master' })
    assert.deepEqual([core.role, core.term], ['replica', 1])
  })

  test('is refused to one that is no member, or never becomes master', () => {
    const { bench, join } = reigning()
    join('x')
    join('b')
    bench.meet('b', { priority: 0 })
    for (const site of ['x', 'b']) {
      assert.throws(() => bench.core.handOver({ site, now: bench.now }), { code: 'TRANSFER_FAILED' })
      const session = 40 + (peers[site] ?? 0)
      bench.tell({ type: 'takeOver', session, term: bench.core.term, address: '' }, site)
      assert.equal(bench.sent('handoverRefused').at(-1)?.code, 'TRANSFER_FAILED')
    }
    assert.deepEqual(bench.core.gate(), { open: true })
  })
})

// ---- small groups

function groupOf(priorities: Record<string, number>, seed = 1): CoreGroup {
  const cluster = new CoreCluster({
    seed,
    timings: { ...timings, initialTimeoutMs: 2_000, silenceTimeoutMs: 2_000 },
  })
  const group = new CoreGroup(cluster)
  for (const [i, [name, priority]] of Object.entries(priorities).entries()) {
    if (i === 0) group.found(name, { priority })
    else group.join(name, { priority })
  }
  cluster.run(600)
  assert.equal(group.master?.core.membership?.members.length, Object.keys(priorities).length)
  return group
}

function siteOf(group: CoreGroup, name: string): FakeSite {
  return group.cluster.get(name)
}

function mastersOf(group: CoreGroup): FakeSite[] {
  return group.sites.filter((site) => site.isUp && site.core.role === 'master')
}

function others(group: CoreGroup, site: FakeSite): FakeSite[] {
  return group.sites.filter((each) => each !== site)
}

describe('a group', () => {
  test('is not disturbed by a site that was cut off: no term, no master changes', () => {
    const group = groupOf({ a: 100, b: 100, c: 200 })
    const { cluster } = group
    const { master } = group
    assert.ok(master !== undefined)
    const lost = others(group, master)[0] as FakeSite
    let stepDowns = 0
    cluster.onEffect = (_site, effect) => {
      if (effect.kind === 'steppedDown') stepDowns++
    }
    const { term: before } = master.core
    for (let i = 0; i < 3; i++) {
      cluster.part([lost], others(group, lost))
      cluster.run(5_000)
      master.write([`k=${i}`])
      cluster.run(100)
      cluster.heal()
      cluster.run(1_500)
      assert.equal(lost.last.lsn, master.last.lsn)
    }
    assert.deepEqual([group.master, master.core.term, stepDowns], [master, before, 0])
  })

  test('has a new master soon after its master died, and the old one back as a replica', () => {
    const group = groupOf({ a: 100, b: 90, c: 80 })
    const { cluster } = group
    siteOf(group, 'a').write(['k=1'])
    cluster.run(50)
    group.crash('a')
    const begun = cluster.now
    assert.ok(cluster.runUntil(2_000, () => siteOf(group, 'b').core.committedLsn > 5))
    assert.ok(cluster.now - begun < 500, `${cluster.now - begun} ms`)
    group.restart('a')
    cluster.run(1_000)
    assert.equal(siteOf(group, 'a').core.knownMaster?.site, 'b')
  })

  test('of priority 0 only elects nobody, and says so', () => {
    const group = groupOf({ a: 100, b: 0, c: 0 })
    const { cluster } = group
    const failed: string[] = []
    cluster.onEffect = (site, effect) => {
      if (effect.kind === 'event' && effect.event.kind === 'electionFailed')
        failed.push(`${site.name} ${effect.event.reason}`)
    }
    group.crash('a')
    cluster.run(3_000)
    assert.equal(group.master, undefined)
    assert.ok(failed.includes('b nobody-electable') && failed.includes('c nobody-electable'))
    assert.equal(siteOf(group, 'b').core.term, 1, 'no term is used up for it')
    group.restart('a')
    cluster.run(2_000)
    assert.equal(group.master, siteOf(group, 'a'))
  })

  test('elects when all were down and a majority is back, in any order', () => {
    for (const order of ['a b c', 'c b a', 'b c a']) {
      const group = groupOf({ a: 100, b: 90, c: 80 })
      const { cluster } = group
      siteOf(group, 'a').write(['k=1'])
      cluster.run(100)
      for (const name of ['a', 'b', 'c']) group.crash(name)
      cluster.run(1_000)
      const [first = '', second = ''] = order.split(' ')
      group.restart(first)
      cluster.run(1_000)
      assert.deepEqual(mastersOf(group), [])
      group.restart(second)
      assert.ok(cluster.runUntil(3_000, () => group.master?.core.hasPermanentInReign === true))
      assert.deepEqual(
        mastersOf(group).map((site) => site.store.get('k')),
        ['1'],
      )
    }
  })

  test('has one master where two stand at once, again and again', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const group = groupOf({ a: 100, b: 100, c: 100, d: 100, e: 100 }, seed)
      const { cluster } = group
      const reigns = new Map<number, string>()
      group.onReign = (site) => {
        assert.equal(reigns.get(site.core.term), undefined)
        reigns.set(site.core.term, site.name)
      }
      const { master } = group
      cluster.network.delayMaxMs = 40
      if (master !== undefined) group.crash(master.name)
      const [one, two] = others(group, master as FakeSite)
      cluster.part([one as FakeSite], [two as FakeSite])
      assert.ok(cluster.runUntil(5_000, () => group.master?.core.hasPermanentInReign === true))
      cluster.heal()
    }
  })

  test('elects in a net with holes: one that reaches too few does not keep back the rest', () => {
    const group = groupOf({ a: 100, b: 100, c: 100, d: 100, e: 100 })
    const { cluster } = group
    const sites = group.sites
    const { master } = group
    const rest = others(group, master as FakeSite)
    const [hub, far, near, last] = rest as [FakeSite, FakeSite, FakeSite, FakeSite]
    // `far` has a record that nobody else has, and reaches only `hub`.
    cluster.part([master as FakeSite], [hub, near, last])
    master?.write(['k=1'])
    cluster.run(10)
    group.crash((master as FakeSite).name)
    cluster.heal()
    cluster.part([far], [near, last])
    assert.ok(cluster.runUntil(6_000, () => group.master?.core.hasPermanentInReign === true))
    assert.equal(sites.length, 5)
  })

  test('a member that lost its disk is turned away, votes for nobody, and the others go on', () => {
    const group = groupOf({ a: 100, b: 90, c: 80 })
    const { cluster } = group
    group.crash('c')
    siteOf(group, 'c').wipe()
    cluster.run(100)
    group.restart('c')
    cluster.run(1_500)
    assert.ok(group.isOut('c'))
    assert.equal(group.master, siteOf(group, 'a'))
    assert.deepEqual([siteOf(group, 'c').core.vote, siteOf(group, 'c').last.lsn], [undefined, 0])
    group.crash('a')
    cluster.run(3_000)
    assert.equal(group.master, undefined, 'b and a wiped site are no majority')
  })

  test('keeps a commit that a majority has through every change of master', () => {
    const group = groupOf({ a: 100, b: 100, c: 100 })
    const { cluster } = group
    let written = 0
    for (let i = 0; i < 12; i++) {
      assert.ok(cluster.runUntil(5_000, () => group.master?.core.hasPermanentInReign === true))
      const master = group.master as FakeSite
      assert.equal(master.store.get('n'), written === 0 ? undefined : String(written))
      master.write([`n=${++written}`])
      const { lsn: at } = master.last
      assert.ok(cluster.runUntil(2_000, () => master.core.committedLsn >= at))
      group.crash(master.name)
      cluster.run(i % 3 === 0 ? 5 : 900)
      group.restart(master.name)
      cluster.run(200)
    }
  })
})
