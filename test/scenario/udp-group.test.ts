// Replication over udp://: groups, catching up and snapshots, through a network that loses a fifth of all datagrams,
// repeats and reorders others. What is lost of live records the core repairs; long messages are repeated below it.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { AttachOptions, Database, ServeOptions } from '../../src/index.ts'
import { atEnd } from '../support/at-end.ts'
import { groupOf, settledMaster, whenEqual, writeAnywhere } from '../support/groups.ts'
import { addressOf, attachTo, digestOf, openMemory, putMany } from '../support/sites.ts'
import { startUdpProxy, type UdpFaults, type UdpProxy } from '../support/udp-proxy.ts'
import { waitUntil } from '../support/wait-until.ts'

const key = new Uint8Array(32).fill(5)
const bad: UdpFaults = { dropChance: 0.2, duplicateChance: 0.05, delayChance: 0.1, delayMsMax: 10 }

async function serving(
  t: TestContext,
  options: Partial<ServeOptions> = {},
): Promise<{ db: Database; address: string }> {
  const db: Database = await openMemory(t, { site: 'master' })
  const master = await db.serve({ listen: 'udp://127.0.0.1:0', key, ...options })
  atEnd(t, () => master.stop())
  return { db, address: addressOf(master) }
}

async function replica(
  t: TestContext,
  through: { readonly site: string; readonly address: string },
  options: AttachOptions = {},
): Promise<Database> {
  const target = { path: ':memory:', site: through.site }
  const attachment = attachTo(t, through.address, target, { key, ...options })
  await attachment.synced
  return attachment.db
}

async function converged(master: Database, replicas: readonly Database[]): Promise<void> {
  await waitUntil(() => replicas.every((db) => db.status().appliedLsn === master.status().lastLsn), {
    what: 'all replicas have everything',
    timeoutMs: 60_000,
  })
  for (const db of replicas) assert.equal(await digestOf(db), await digestOf(master))
}

test('[A4c A23e] three sites over udp:// elect a master, commit, and have the same', async (t) => {
  const sites = await groupOf(t, ['a', 'b', 'c'], { listen: 'udp://127.0.0.1:0', key })
  for (let i = 0; i < 50; i++) await writeAnywhere(sites, `key ${i}`, `value ${i}`)
  const master = await settledMaster(sites)
  assert.match(master.group.address, /^udp:/)
  await whenEqual(sites)
})

test('[A23e] a quorum commits through 20 % of loss, and replicas catch up', async (t) => {
  const { db, address } = await serving(t, { sites: 3 })
  const proxies: UdpProxy[] = []
  const replicas: Database[] = []
  for (const [i, site] of ['b', 'c'].entries()) {
    const proxy = await startUdpProxy(t, address, { seed: i + 1, faults: bad })
    proxies.push(proxy)
    replicas.push(await replica(t, { site, address: proxy.address }))
  }
  const writes = Array.from({ length: 200 }, (_, i) =>
    db.put(`key ${i % 50}`, `value ${i} ${'x'.repeat((i * 37) % 3000)}`, { ackTimeoutMs: 60_000 }),
  )
  const receipts = await Promise.all(writes)
  assert.ok(
    receipts.every(({ acks }) => acks >= 1),
    'each was acknowledged by a replica',
  )
  await putMany(db, 300, 'later')
  await converged(db, replicas)
  for (const { counts } of proxies) assert.ok(counts.dropped > 10, `${counts.dropped} were lost`)
})

test('[A23e] a snapshot of some MB arrives through 20 % of loss, while the master goes on writing', async (t) => {
  const { db, address } = await serving(t)
  const value = 'v'.repeat(4000)
  for (let batch = 0; batch < 10; batch++) {
    await db.batch(
      Array.from({ length: 100 }, (_, i) => ({
        type: 'put' as const,
        key: `row ${batch} ${i}`,
        value: `${batch} ${i} ${value}`,
      })),
    )
  }
  const proxy = await startUdpProxy(t, address, { seed: 9, faults: bad })
  const attaching = replica(t, { site: 'b', address: proxy.address })
  let isDone = false
  const writing = (async (): Promise<void> => {
    for (let i = 0; !isDone; i++) {
      await db.put(`live ${i % 20}`, `${i}`, { acks: 'none' })
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  })()
  const copy = await attaching.finally(() => {
    isDone = true
  })
  await writing
  await converged(db, [copy])
  assert.ok(proxy.counts.toClient * 1200 > 4_000_000, 'some MB went through')
})
