// Commits per second and their latency: durable on two of three, in memory on two of three, in one process alone. The
// store of every site is applied meanwhile; what it still lacks at the end, and how long that takes, is in the table.

import type { ServeOptions } from '../src/index.ts'
import type { BenchOptions } from './options.ts'
import type { Group } from './table.ts'
import type { LoadResult } from './worker-calls.ts'
import { type Worker, withWorkers } from './workers.ts'

export type CommitGroup = 'durable' | 'memory' | 'alone'

const titles = {
  durable: 'Commits, durable on two of three (three processes)',
  memory: 'Commits, in memory on two of three (three processes)',
  alone: 'Commits, durable, one process alone',
} as const

const columns = [
  'committers',
  'commits/s',
  'p50 ms',
  'p99 ms',
  'loop p99 ms',
  'CPU us/commit',
  'lag: master',
  'lag: replicas',
  'caught up ms',
] as const

export function benchCommits(group: CommitGroup, options: BenchOptions): Promise<Group> {
  return withWorkers(options.folder, async (workers) => {
    const path = (name: string): string => (group === 'memory' ? ':memory:' : workers.path(name))
    const { keys, valueBytes } = options
    const master = workers.start()
    await master.call('open', { path: path('master') })
    await master.call('fill', { rows: keys, valueBytes })
    const replicas: Worker[] = []
    if (group !== 'alone') {
      const attest: ServeOptions = group === 'memory' ? { listen: '', attest: 'received' } : { listen: '' }
      const serve: ServeOptions = { ...attest, listen: 'tcp://127.0.0.1:0', acks: 'quorum', sites: 3 }
      const { address } = await master.call('serve', serve)
      for (const name of ['replica-1', 'replica-2']) {
        const replica = workers.start()
        replicas.push(replica)
        await replica.call('attach', { path: path(name), address })
      }
    }
    const rows: Record<string, number>[] = []
    for (const committers of options.committers) {
      rows.push(await measurePoint({ master, replicas, committers, options }))
    }
    for (const replica of replicas) await replica.call('close')
    await master.call('close')
    return {
      name: group,
      title: titles[group],
      columns,
      rows,
      note: 'loop: delay of the timers of the process with the load. lag: records not yet in the store when the load ended.',
    }
  })
}

async function measurePoint(point: {
  readonly master: Worker
  readonly replicas: readonly Worker[]
  readonly committers: number
  readonly options: BenchOptions
}): Promise<Record<string, number>> {
  const { master, replicas, committers, options } = point
  const { seconds, warmUpSeconds, keys, valueBytes } = options
  const load: LoadResult = await master.call('load', { committers, seconds, warmUpSeconds, keys, valueBytes })
  const { lastLsn } = load
  const caughtUp = await Promise.all(
    [master, ...replicas].map((worker) => worker.call('caughtUp', { lsn: lastLsn })),
  )
  const lagOfReplicas = caughtUp.slice(1).map(({ lagRecords }) => lagRecords)
  return {
    committers,
    'commits/s': load.commits / load.seconds,
    'p50 ms': load.p50Ms,
    'p99 ms': load.p99Ms,
    'loop p99 ms': load.loopDelayP99Ms,
    'CPU us/commit': load.cpuUsPerCommit,
    'lag: master': load.lagRecords,
    'lag: replicas': Math.max(0, ...lagOfReplicas),
    'caught up ms': Math.max(...caughtUp.map(({ ms }) => ms)),
  }
}
