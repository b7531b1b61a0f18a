// kill -9 in the midst of a replica's first snapshot, of the replica or of the master, while the master writes on. The
// snapshot goes on or starts again; the replica has all of it or nothing, and is equal in the end.

import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import type { OpenOptions, ServeOptions } from '../../src/index.ts'
import { RemoteSite } from '../support/remote-site.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'
import { withSeed } from './kill-nine-rounds.ts'

const file = 'snapshot-install.test.ts'
const isLong = process.env.COTERIE_TEST_ALL === '1'
const kills = isLong ? 20 : 2
const preloadedBytes = isLong ? 6_000_000 : 3_000_000
const valueBytes = 200
const rowsAbout = isLong ? 20_000 : 10_000
// The log is short, so that a snapshot is what a replica needs; chunks are slow, so that there is time to kill.
const open: OpenOptions = { segmentBytes: 262_144, checkpointBytes: 262_144, retain: { bytes: 0 } }
const serve: ServeOptions = { listen: 'tcp://127.0.0.1:0', acks: 'none', chunkRecords: 200, chunkDelayMs: 5 }

interface Group {
  readonly folder: string
  readonly t: TestContext
  master: RemoteSite
  replica: RemoteSite
  address: string
}

async function startGroup(t: TestContext): Promise<Group> {
  const folder = withTempFolder(t)
  const master = new RemoteSite(t, { name: 'master' })
  await master.call('open', { path: join(folder, 'master'), open })
  const fill = { seed: 1, writers: 256, keys: rowsAbout, valueBytes, restMs: 0, silent: true }
  await master.call('startLoad', { ...fill, bytes: preloadedBytes })
  await master.call('loadEnded')
  const { address } = await master.call('serve', serve)
  await writeOn(master, 0)
  const group: Group = { folder, t, master, replica: master, address }
  await startReplica(group)
  return group
}

/** A light load, so that rows change while they are sent. */
async function writeOn(master: RemoteSite, seed: number): Promise<void> {
  const load = { writers: 8, keys: rowsAbout, valueBytes, restMs: 5, silent: true }
  await master.call('startLoad', { ...load, seed })
}

async function startReplica(group: Group): Promise<void> {
  group.replica = new RemoteSite(group.t, { name: 'replica' })
  const path = join(group.folder, 'replica')
  await group.replica.call('follow', { path, address: group.address, open })
}

/** Waits for the moment to kill: 0 is the beginning, 1 the last row, beyond it are the moments after that. */
async function waitForPart(replica: RemoteSite, part: number): Promise<void> {
  const rows = part * rowsAbout * 0.75
  await replica.noticed(
    (notice) =>
      notice.notice === 'synced' ||
      notice.notice === 'snapshotDone' ||
      (notice.notice === 'progress' && notice.unit === 'rows' && notice.done >= rows),
    { what: `at row ${Math.round(rows)} of the snapshot` },
  )
  // Progress is told now and then only.
  await new Promise((resolve) => {
    setTimeout(resolve, (part * 1000) % 200)
  })
}

/** Rows of a snapshot that the replica has told of. */
function rowsTold(replica: RemoteSite): number {
  const told = replica.notices.map((each) =>
    each.notice === 'progress' && each.unit === 'rows' ? each.done : 0,
  )
  return Math.max(0, ...told)
}

async function checkEqual({ master, replica }: Group): Promise<void> {
  await replica.noticed(({ notice }) => notice === 'synced', { what: 'synced' })
  await master.call('stopLoad')
  await waitUntil(
    async () => {
      const [there, here] = [await master.call('status'), await replica.call('status')]
      return there?.appliedLsn === there?.lastLsn && here?.appliedLsn === there?.lastLsn
    },
    { what: 'the replica has everything', everyMs: 20 },
  )
  assert.deepEqual(await replica.call('digest'), await master.call('digest'))
  assert.ok((await replica.call('verify')).rows > rowsAbout / 2)
}

test('[A5b A18a] a replica is killed at any moment of its first snapshot, and is equal in the end', async (t) => {
  await withSeed(t, file, async (seed) => {
    const random = new Prng(seed)
    const group = await startGroup(t)
    const found: string[] = []
    for (let kill = 1; kill <= kills; kill++) {
      await waitForPart(group.replica, random.fraction() * 1.4)
      await group.replica.kill()
      const had = group.replica.notices.some(({ notice }) => notice === 'snapshotDone')
      const before = rowsTold(group.replica)
      await startReplica(group)
      const synced = await group.replica.noticed(({ notice }) => notice === 'synced', { what: 'synced' })
      const kind = synced.notice === 'synced' ? synced.result.kind : ''
      found.push(`${had ? 'all' : before} rows, then ${kind}: ${rowsTold(group.replica)} rows`)
      await checkEqual(group)
      // The next kill meets a first snapshot again.
      await group.replica.kill()
      rmSync(join(group.folder, 'replica'), { recursive: true })
      await writeOn(group.master, kill)
      await startReplica(group)
    }
    t.diagnostic(`what the killed replica had: ${found.join('; ')}`)
  })
})

test('the master is killed in the midst of a snapshot and comes back: the replica is equal in the end', async (t) => {
  await withSeed(t, file, async (seed) => {
    const random = new Prng(seed)
    const group = await startGroup(t)
    await waitForPart(group.replica, random.fraction() * 0.9)
    await group.master.kill()
    group.master = new RemoteSite(t, { name: 'master again' })
    await group.master.call('open', { path: join(group.folder, 'master'), open })
    await group.master.call('serve', { ...serve, listen: group.address })
    await writeOn(group.master, 1)
    await checkEqual(group)
  })
})
