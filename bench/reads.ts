// Reads in the process that has the database open: points, with the row cache and without it, and ranges.

import type { BenchOptions } from './options.ts'
import type { Group } from './table.ts'
import type { ReadOptions } from './worker-calls.ts'
import { type Worker, withWorkers } from './workers.ts'

const hotKeys = 10_000
const inFlight = 64

interface Point {
  readonly where: 'disk' | 'memory'
  readonly cached: boolean
  readonly what: ReadOptions['what']
}

export function benchReads(options: BenchOptions): Promise<Group> {
  const points: Point[] = [
    { where: 'disk', cached: true, what: 'getSync' },
    { where: 'disk', cached: true, what: 'get' },
    { where: 'disk', cached: false, what: 'getSync' },
    { where: 'disk', cached: false, what: 'get' },
    { where: 'memory', cached: false, what: 'getSync' },
    { where: 'memory', cached: false, what: 'get' },
  ]
  return withWorkers(options.folder, async (workers) => {
    const disk = await filled(workers.start(), workers.path('disk'), options)
    const memory = await filled(workers.start(), ':memory:', options)
    const rows: Record<string, string | number>[] = []
    for (const { where, cached, what } of points) {
      const worker = where === 'disk' ? disk : memory
      if (where === 'disk') await reopen(worker, workers.path('disk'), cached)
      const { keys, seconds } = options
      const { perSecond } = await worker.call('read', {
        what,
        rows: keys,
        keys: cached ? Math.min(hotKeys, keys) : keys,
        inFlight: what === 'get' ? inFlight : 1,
        seconds,
      })
      const cache = where === 'memory' ? '-' : cached ? 'hit' : 'none'
      rows.push({ store: where, read: what, 'row cache': cache, 'reads/s': perSecond })
    }
    return {
      name: 'reads',
      title: `Point reads, ${options.keys.toLocaleString('en-US')} rows`,
      columns: ['store', 'read', 'row cache', 'reads/s'],
      rows,
      note: `hit: ${hotKeys.toLocaleString('en-US')} keys that were read before. none: random keys, cacheBytes 0. get: ${inFlight} in flight.`,
    }
  })
}

export function benchRanges(options: BenchOptions): Promise<Group> {
  return withWorkers(options.folder, async (workers) => {
    const rows: Record<string, string | number>[] = []
    for (const where of ['disk', 'memory'] as const) {
      const path = where === 'disk' ? workers.path('disk') : ':memory:'
      const worker = await filled(workers.start(), path, options)
      if (where === 'disk') await reopen(worker, path, true)
      const { keys, seconds } = options
      const read = (what: ReadOptions['what']): Promise<{ perSecond: number }> =>
        worker.call('read', { what, rows: keys, keys, inFlight: 1, seconds })
      rows.push({ store: where, read: 'for await (entries())', 'rows/s': (await read('entries')).perSecond })
      rows.push({ store: where, read: 'entries().all()', 'rows/s': (await read('all')).perSecond })
      const scans = (await read('scan20')).perSecond
      rows.push({ store: where, read: '20 rows from a random key', 'rows/s': scans * 20, 'scans/s': scans })
    }
    return {
      name: 'ranges',
      title: `Range reads, ${options.keys.toLocaleString('en-US')} rows`,
      columns: ['store', 'read', 'rows/s', 'scans/s'],
      rows,
    }
  })
}

async function filled(worker: Worker, path: string, options: BenchOptions): Promise<Worker> {
  await worker.call('open', { path })
  await worker.call('fill', { rows: options.keys, valueBytes: options.valueBytes })
  return worker
}

async function reopen(worker: Worker, path: string, cached: boolean): Promise<void> {
  await worker.call('close')
  await worker.call('open', { path, ...(cached ? {} : { open: { cacheBytes: 0 } }) })
}
