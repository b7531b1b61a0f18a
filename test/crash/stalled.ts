// A replica that stands still while its master writes on: what waits for it is kept in the log, not in memory.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { OpenOptions, ServeOptions } from '../../src/index.ts'
import { RemoteSite } from '../support/remote-site.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

// Small caches, so that filling them does not look like growth.
const open: OpenOptions = { cacheBytes: 1_048_576, storeCacheBytes: 4_194_304 }
const lookMs = 150

export interface StalledOptions {
  /** As much as it takes until the write buffers of the store have been filled, which is not the growth looked for. */
  readonly warmUpMegabytes: number
  readonly megabytes: number
  /** Less than what is written: else even a master that kept it all in memory would pass. */
  readonly growthMegabytesMax: number
  /** How long the master waits for a sign of life before it sends the replica away. */
  readonly silenceTimeoutMs: number
}

export async function stallOneReplica(t: TestContext, options: StalledOptions): Promise<void> {
  const folder = withTempFolder(t)
  const [master, awake, asleep] = ['master', 'awake', 'asleep'].map(
    (name) => new RemoteSite(t, { name }),
  ) as [RemoteSite, RemoteSite, RemoteSite]
  const serve: ServeOptions = {
    listen: 'tcp://127.0.0.1:0',
    acks: 'quorum',
    sites: 3,
    silenceTimeoutMs: options.silenceTimeoutMs,
  }
  await master.call('open', { path: join(folder, 'master'), open })
  const { address } = await master.call('serve', serve)
  for (const replica of [awake, asleep]) {
    await replica.call('follow', { path: join(folder, replica.name), address, open })
    await replica.noticed(({ notice }) => notice === 'synced', { what: 'synced' })
  }
  const before = await mostMemory(master, { seed: 1, bytes: options.warmUpMegabytes * 1e6 })
  asleep.freeze()
  const meanwhile = await mostMemory(master, { seed: 2, bytes: options.megabytes * 1e6 })
  const growth = meanwhile - before
  t.diagnostic(
    `${options.megabytes} MB written; the master grew from ${inMiB(before)} to ${inMiB(meanwhile)}`,
  )
  assert.ok(growth < options.growthMegabytesMax * 1e6, `the master's memory grew by ${inMiB(growth)}`)

  const seen = asleep.notices.length
  asleep.thaw()
  await waitUntil(
    async () => {
      const there = await master.call('status')
      const here = await asleep.call('status')
      return here?.appliedLsn === there?.lastLsn && there?.appliedLsn === there?.lastLsn
    },
    { what: 'the replica that stood still has caught up', timeoutMs: 60_000, everyMs: 30 },
  )
  const kinds = asleep.notices
    .slice(seen)
    .map((notice) => (notice.notice === 'synced' ? notice.result.kind : ''))
  assert.ok(!kinds.includes('snapshot'), 'the log still has what it missed')
  assert.deepEqual(await asleep.call('digest'), await master.call('digest'))
}

/** Writes, and meanwhile looks how large the master's process is; the most that was seen. */
async function mostMemory(master: RemoteSite, options: { seed: number; bytes: number }): Promise<number> {
  const load = { writers: 64, keys: 5_000, valueBytes: 8_000, restMs: 0, silent: true }
  await master.call('startLoad', { ...load, ...options })
  let writing = true
  const ended = master.call('loadEnded').finally(() => {
    writing = false
  })
  let most = 0
  while (writing) {
    most = Math.max(most, await master.call('memoryBytes'))
    await new Promise((resolve) => {
      setTimeout(resolve, lookMs)
    })
  }
  const { unknown, refused } = await ended
  assert.deepEqual(
    { unknown, refused },
    { unknown: 0, refused: {} },
    'commits go on without the stalled replica',
  )
  return most
}

function inMiB(bytes: number): string {
  return `${Math.round(bytes / 1_048_576)} MiB`
}
