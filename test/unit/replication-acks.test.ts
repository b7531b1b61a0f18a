// The arithmetic of acknowledgements and the commit rule, by table.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Lsn } from '../../src/base/lsn.ts'
import type { AckPolicy, CommitException } from '../../src/base/policy.ts'
import { countAtLeast, dependsOnAttached, reachedBy, replicasNeeded } from '../../src/replication/acks.ts'
import { Commitment, type CommitPositions, type CommitRules } from '../../src/replication/commitment.ts'

const lsns = (...values: number[]): Lsn[] => values as Lsn[]

const rules: CommitRules = { acks: 'quorum', attest: 'durable', durability: 'sync', mode: 'sync', window: 1 }

function positions(change: Partial<CommitPositions> & { sites?: number }): CommitPositions {
  const { sites = 3, ...rest } = change
  return {
    lastLsn: 10 as Lsn,
    ownWrittenLsn: 10 as Lsn,
    ownDurableLsn: 10 as Lsn,
    attested: [],
    durable: rest.attested ?? [],
    forcedLsn: undefined,
    group: { sites, attached: rest.attested?.length ?? 0 },
    sitesKnown: sites,
    ...rest,
  }
}

/** Where the commit position comes to in a reign that began at LSN 1. */
function committed(
  change: Partial<CommitRules>,
  at: Partial<CommitPositions> & { sites?: number },
  exceptions: CommitException[] = [],
): number {
  const commitment = new Commitment({ committedLsn: 0 as Lsn, permanentLsn: 0 as Lsn })
  commitment.termRecord(1 as Lsn)
  commitment.addExceptions(exceptions)
  commitment.advance({ ...rules, ...change }, positions(at))
  return commitment.committedLsn
}

function exception(lsn: number, change: Partial<CommitException>): CommitException {
  return { lsn: lsn as Lsn, acks: undefined, durability: 'sync', ...change }
}

describe('acks', () => {
  const needs: [AckPolicy, sites: number, attached: number, need: number][] = [
    ['none', 5, 4, 0],
    ['one', 1, 0, 1],
    ['onePeer', 3, 2, 1],
    ['quorum', 1, 0, 0],
    ['quorum', 2, 1, 1],
    ['quorum', 3, 2, 1],
    ['quorum', 4, 3, 2],
    ['quorum', 5, 4, 2],
    ['all', 3, 1, 2],
    ['allPeers', 3, 1, 2],
    ['allAvailable', 5, 4, 4],
    ['allAvailable', 5, 1, 2],
    [3, 2, 1, 3],
  ]
  for (const [policy, sites, attached, need] of needs) {
    test(`${policy} asks for ${need} replicas in a group of ${sites} with ${attached} attached`, () => {
      assert.equal(replicasNeeded(policy, { sites, attached }), need)
    })
  }

  test('so many sites have reached an LSN', () => {
    assert.equal(reachedBy(1, lsns(3, 9, 5)), 9)
    assert.equal(reachedBy(2, lsns(3, 9, 5)), 5)
    assert.equal(reachedBy(3, lsns(3, 9, 5)), 3)
    assert.equal(reachedBy(4, lsns(3, 9, 5)), 0)
    assert.equal(reachedBy(2, lsns(4, 4)), 4)
    assert.equal(countAtLeast(lsns(3, 9, 5), 5 as Lsn), 2)
  })

  test('detaching a replica helps only where the policy counts those that are attached', () => {
    for (const policy of ['quorum', 'all', 'allPeers'] as const) {
      assert.equal(dependsOnAttached(policy, false), true, policy)
      assert.equal(dependsOnAttached(policy, true), false, policy)
    }
    assert.equal(dependsOnAttached('allAvailable', true), true)
    for (const policy of ['none', 'one', 'onePeer', 2] as const) {
      assert.equal(dependsOnAttached(policy, false), false, String(policy))
    }
  })
})

describe('the commit rule', () => {
  test('a quorum of three is one replica and this disk', () => {
    assert.equal(committed({}, { attested: lsns(7, 4) }), 7)
    assert.equal(committed({}, { attested: lsns(7, 4), ownDurableLsn: 5 as Lsn }), 5)
    assert.equal(committed({}, { attested: [] }), 0)
  })

  test('local durability less than sync does not wait for this disk', () => {
    assert.equal(committed({ durability: 'memory' }, { attested: lsns(7, 4), ownDurableLsn: 5 as Lsn }), 7)
    const own = { ownDurableLsn: 5 as Lsn, ownWrittenLsn: 8 as Lsn }
    assert.equal(committed({ acks: 'none', durability: 'written' }, own), 8)
    assert.equal(committed({ acks: 'none', durability: 'memory' }, own), 10)
    assert.equal(committed({ acks: 'none' }, { ownDurableLsn: 5 as Lsn }), 5)
  })

  test('async mode waits for nobody but those that ask for it', () => {
    assert.equal(committed({ mode: 'async', acks: 'all' }, { attested: lsns(2, 3) }), 10)
    assert.equal(committed({ mode: 'async' }, { attested: lsns(2, 3), forcedLsn: 3 as Lsn }), 3)
  })

  test('with a window of n a record counts as attested when the one n-1 before it is', () => {
    assert.equal(committed({ window: 3 }, { attested: lsns(5, 0) }), 7)
    assert.equal(committed({ window: 3 }, { attested: lsns(9, 0) }), 10)
    assert.equal(committed({ window: 3 }, { attested: lsns(0, 0) }), 0)
    assert.equal(committed({ window: 3 }, { attested: lsns(9, 0), ownDurableLsn: 4 as Lsn }), 4)
  })

  test('records of earlier terms are counted only when the first one of the own term is', () => {
    const commitment = new Commitment({ committedLsn: 3 as Lsn, permanentLsn: 2 as Lsn })
    assert.equal(commitment.advance(rules, positions({ attested: lsns(10, 10) })), false)
    commitment.termRecord(8 as Lsn)
    assert.equal(commitment.advance(rules, positions({ attested: lsns(7, 7) })), false)
    assert.deepEqual([commitment.committedLsn, commitment.permanentLsn], [3, 2])
    assert.equal(commitment.advance(rules, positions({ attested: lsns(8, 7) })), true)
    assert.deepEqual([commitment.committedLsn, commitment.permanentLsn], [8, 8])
  })

  test('the position never goes back when a replica goes away', () => {
    const commitment = new Commitment({ committedLsn: 0 as Lsn, permanentLsn: 0 as Lsn })
    commitment.termRecord(1 as Lsn)
    commitment.advance(rules, positions({ attested: lsns(7) }))
    assert.equal(commitment.advance(rules, positions({ attested: [] })), false)
    assert.equal(commitment.committedLsn, 7)
  })

  test('a commit with a stronger policy holds back what is after it, and nothing before it', () => {
    const strong = [exception(5, { acks: 'all' })]
    assert.equal(committed({}, { attested: lsns(9, 4) }, strong), 4)
    assert.equal(committed({}, { attested: lsns(9, 5) }, strong), 9)
  })

  test('a commit with a weaker policy is honoured when all before it are, and helps none after it', () => {
    const weak = [exception(5, { acks: 'none' })]
    assert.equal(committed({}, { attested: lsns(3, 0) }, weak), 3)
    assert.equal(committed({}, { attested: lsns(4, 0) }, weak), 5)
    const two = [exception(5, { acks: 'none' }), exception(6, { acks: 'none' })]
    assert.equal(committed({}, { attested: lsns(4, 0) }, two), 6)
  })

  test('a commit with its own durability is honoured too', () => {
    const memory = [exception(6, { durability: 'memory' })]
    assert.equal(committed({ acks: 'none' }, { ownDurableLsn: 5 as Lsn }, memory), 6)
    assert.equal(committed({ acks: 'none' }, { ownDurableLsn: 4 as Lsn }, memory), 4)
  })

  test('exceptions that are behind are forgotten', () => {
    const commitment = new Commitment({ committedLsn: 0 as Lsn, permanentLsn: 0 as Lsn })
    commitment.termRecord(1 as Lsn)
    commitment.addExceptions([exception(2, {}), exception(9, { acks: 'all' })])
    commitment.advance(rules, positions({ attested: lsns(10, 3) }))
    assert.equal(commitment.committedLsn, 8)
    assert.equal(commitment.exceptionsWaiting, 1)
  })

  test('permanent is what a majority has on disk, whatever the acks attest', () => {
    const commitment = new Commitment({ committedLsn: 0 as Lsn, permanentLsn: 0 as Lsn })
    commitment.termRecord(1 as Lsn)
    commitment.advance(
      { ...rules, acks: 'none', attest: 'received' },
      positions({ sites: 5, attested: lsns(9, 9, 9, 9), durable: lsns(6, 4, 2, 0) }),
    )
    assert.equal(commitment.committedLsn, 10)
    assert.equal(commitment.permanentLsn, 4)
  })
})
