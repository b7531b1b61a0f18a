// How long a replica takes to get everything: a new one, by a snapshot; and one that was away, by the log.

import { median } from './histogram.ts'
import type { BenchOptions } from './options.ts'
import { keyBytes } from './rows.ts'
import type { Group } from './table.ts'
import type { SyncTimes } from './worker-calls.ts'
import { withWorkers } from './workers.ts'

const listen = 'tcp://127.0.0.1:0'

export function benchSync(options: BenchOptions): Promise<Group> {
  const shapes = options.quick
    ? [{ rows: 20_000, valueBytes: 100, repeats: 1 }]
    : [
        { rows: 1_000_000, valueBytes: 100, repeats: 3 },
        { rows: 200_000, valueBytes: 1024, repeats: 3 },
      ]
  return withWorkers(options.folder, async (workers) => {
    const table: Record<string, string | number>[] = []
    for (const { rows, valueBytes, repeats } of shapes) {
      const master = workers.start()
      await master.call('open', { path: workers.path(`master-${valueBytes}`) })
      await master.call('fill', { rows, valueBytes })
      const { address } = await master.call('serve', { listen, acks: 'none' })
      const times: SyncTimes[] = []
      for (let repeat = 0; repeat < repeats; repeat++) {
        const replica = workers.start()
        times.push(
          await replica.call('attach', { path: workers.path(`replica-${valueBytes}-${repeat}`), address }),
        )
        await replica.kill()
      }
      await master.kill()
      const ms = median(times.map(({ syncedMs }) => syncedMs))
      const megabytes = (rows * (keyBytes + valueBytes)) / 1e6
      table.push({
        data: `${rows.toLocaleString('en-US')} x ${valueBytes} B`,
        kind: times[0]?.kind ?? '',
        seconds: ms / 1000,
        'rows/s': rows / (ms / 1000),
        'MB/s': megabytes / (ms / 1000),
        'all repeats, s': times.map(({ syncedMs }) => (syncedMs / 1000).toFixed(2)).join(' '),
      })
    }
    return {
      name: 'sync',
      title: 'Initial sync of a new replica, on disk, from attachMaster to synced',
      columns: ['data', 'kind', 'seconds', 'rows/s', 'MB/s', 'all repeats, s'],
      rows: table,
    }
  })
}

export function benchCatchUp(options: BenchOptions): Promise<Group> {
  const commits = options.quick ? 5000 : 200_000
  const repeats = options.quick ? 1 : 3
  const { keys, valueBytes } = options
  return withWorkers(options.folder, async (workers) => {
    const master = workers.start()
    const replica = workers.start()
    await master.call('open', { path: workers.path('master') })
    const { address } = await master.call('serve', { listen, acks: 'none' })
    const path = workers.path('replica')
    await replica.call('attach', { path, address })
    const times: SyncTimes[] = []
    for (let repeat = 0; repeat < repeats; repeat++) {
      await replica.call('detach')
      await master.call('write', { commits, committers: 1024, keys, valueBytes })
      const result = await replica.call('attach', { path, address })
      if (result.kind !== 'incremental') throw new Error(`the replica came back by '${result.kind}'`)
      times.push(result)
    }
    const syncedMs = median(times.map((each) => each.syncedMs))
    const appliedMs = median(times.map((each) => each.appliedMs))
    const rows = [
      {
        until: 'synced (durable at the replica)',
        seconds: syncedMs / 1000,
        'records/s': commits / (syncedMs / 1000),
      },
      { until: 'applied (readable)', seconds: appliedMs / 1000, 'records/s': commits / (appliedMs / 1000) },
    ]
    return {
      name: 'catchup',
      title: `Catch-up with ${commits.toLocaleString('en-US')} missed commits of ${valueBytes} B, from attachMaster on`,
      columns: ['until', 'seconds', 'records/s'],
      rows,
      note: `median of ${repeats}: ${times.map((each) => (each.syncedMs / 1000).toFixed(2)).join(' ')} s`,
    }
  })
}
