// The loss of any one message only delays. A story with every way to come into step is told once whole, and then once
// for each message in it, with that message lost; no attachment may end by it, and the logs must be equal in time.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { CoreCluster } from '../support/core-cluster.ts'

interface Told {
  readonly messages: number
  readonly kinds: ReadonlySet<string>
}

/** A fresh site by snapshot, one by rewind, one by stream; then writes, and silence. */
function tell(options: { lost: (number: number) => boolean; repeated?: boolean; patienceMs?: number }): Told {
  const network = options.repeated === true ? { duplication: 1, reorders: true, delayMaxMs: 20 } : {}
  const cluster = new CoreCluster({
    seed: 5,
    network,
    timings: { inflightBytesMax: 400, recentBytesMax: 100 },
  })
  const kinds = new Set<string>()
  for (const name of ['a', 'b', 'c', 'd']) cluster.add(name, name === 'a' ? { databaseId: 'db' } : {})
  cluster.serve('a', { sites: 3, acks: 'none' })
  cluster.follow('b', 'a')
  cluster.follow('c', 'a')
  cluster.run(100)
  cluster.get('a').write(['k1=a', 'k2=b', 'k3=c', 'n=d', 'o=e'])
  cluster.run(600)
  cluster.part([cluster.get('a')], [cluster.get('b'), cluster.get('c')])
  cluster.get('a').write(['tail=1', 'tail=2'])
  cluster.run(50)
  cluster.crash('a')
  cluster.heal()
  cluster.run(20)
  cluster.serve('b', { sites: 3, chunkRecords: 2 })
  cluster.restart('a')
  cluster.run(20)
  let messages = 0
  cluster.drops = (_from, _to, message) => {
    kinds.add(message.type)
    return options.lost(messages++)
  }
  const ended: string[] = []
  cluster.onEffect = (site, effect) => {
    if (effect.kind === 'stopped') ended.push(`${site.name} ${effect.message}`)
  }
  for (let i = 0; i < 8; i++) cluster.get('b').write([`k${i}=${i}`])
  for (const name of ['a', 'c', 'd']) cluster.follow(name, 'b')
  for (let i = 0; i < 12; i++) {
    cluster.run(15)
    cluster.get('b').write([`k${i % 5}=${i}`, `m${i}=${i}`])
  }
  const { lsn } = cluster.get('b').last
  const isDone = cluster.runUntil(options.patienceMs ?? 4_000, () =>
    [...cluster.sites.values()].every(
      (site) => site.core.appliedLsn === lsn && site.core.committedLsn === lsn,
    ),
  )
  assert.deepEqual(ended, [], 'no attachment ends')
  assert.ok(isDone, 'all come into step')
  for (const site of cluster.sites.values()) {
    assert.equal(site.last.crc, cluster.get('b').last.crc)
    assert.equal(site.storeText(), cluster.get('b').storeText())
  }
  return { messages, kinds }
}

describe('a transport that loses messages', () => {
  const whole = tell({ lost: () => false })

  test('the story has every message of an attachment in it', () => {
    const kinds = [
      'join',
      'accept',
      'ack',
      'append',
      'heartbeat',
      'snapshotBegin',
      'snapshotRows',
      'snapshotAck',
    ]
    for (const kind of [...kinds, 'snapshotEnd']) assert.ok(whole.kinds.has(kind), kind)
  })

  test('the loss of any one message only delays', () => {
    for (let lost = 0; lost < whole.messages; lost++) {
      try {
        tell({ lost: (number) => number === lost })
      } catch (error) {
        throw new Error(`message ${lost} is lost`, { cause: error })
      }
    }
  })

  test('so does the loss of any three in a row, and of every third', () => {
    for (let lost = 0; lost < whole.messages; lost++) {
      try {
        tell({ lost: (number) => number >= lost && number < lost + 3 })
      } catch (error) {
        throw new Error(`messages ${lost} to ${lost + 2} are lost`, { cause: error })
      }
    }
    for (const rest of [0, 1, 2]) tell({ lost: (number) => number % 3 === rest, patienceMs: 30_000 })
  })

  test('a message that comes twice, and late, changes nothing', () => {
    tell({ lost: () => false, repeated: true })
  })
})
