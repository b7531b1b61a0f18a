// A closed loop of committers in the master's own process: each puts one row, waits for its receipt, and puts the next.

import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { Database } from '../src/index.ts'
import { Histogram } from './histogram.ts'
import { Draw, makeKeys, makeValues } from './rows.ts'
import type { LoadOptions, LoadResult } from './worker-calls.ts'

const delayResolutionMs = 1

export async function runLoad(db: Database, options: LoadOptions): Promise<LoadResult> {
  const keys = makeKeys(options.keys)
  const values = makeValues(options.valueBytes)
  const draw = new Draw(options.keys, options.committers)
  let histogram = new Histogram()
  let running = true
  let turn = 0
  const commit = async (): Promise<void> => {
    while (running) {
      const key = keys[draw.next()] as string
      const value = values[turn++ & 1023] as string
      const startedAt = performance.now()
      await db.put(key, value)
      histogram.add(performance.now() - startedAt)
    }
  }
  const committers = Promise.all(Array.from({ length: options.committers }, commit))
  // A committer that fails ends the run at once.
  const failed = committers.then(() => undefined)
  await Promise.race([failed, sleep(options.warmUpSeconds * 1000)])

  histogram = new Histogram()
  const delay = monitorEventLoopDelay({ resolution: delayResolutionMs })
  delay.enable()
  const cpuBefore = process.cpuUsage()
  const startedAt = performance.now()
  await Promise.race([failed, sleep(options.seconds * 1000)])
  const seconds = (performance.now() - startedAt) / 1000
  const measured = histogram
  histogram = new Histogram()
  const commits = measured.count
  const cpu = process.cpuUsage(cpuBefore)
  delay.disable()
  running = false
  const { lastLsn, appliedLsn } = db.status()
  await committers
  return {
    commits,
    seconds,
    p50Ms: measured.percentile(0.5),
    p99Ms: measured.percentile(0.99),
    // The monitor measures whole intervals of its timer.
    loopDelayP99Ms: Math.max(0, delay.percentile(99) / 1e6 - delayResolutionMs),
    cpuUsPerCommit: (cpu.user + cpu.system) / Math.max(1, commits),
    lastLsn: db.status().lastLsn,
    lagRecords: lastLsn - appliedLsn,
  }
}

export async function writeExactly(
  db: Database,
  options: {
    readonly commits: number
    readonly committers: number
    readonly keys: number
    readonly valueBytes: number
  },
): Promise<void> {
  const keys = makeKeys(options.keys)
  const values = makeValues(options.valueBytes)
  const draw = new Draw(options.keys)
  let left = options.commits
  const commit = async (): Promise<void> => {
    while (left > 0) {
      left--
      await db.put(keys[draw.next()] as string, values[left & 1023] as string)
    }
  }
  await Promise.all(Array.from({ length: options.committers }, commit))
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms)
  })
}
