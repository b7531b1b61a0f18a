// For how long nobody can commit while mastership changes hands on purpose: two real processes, each with its own
// committers, take over from each other in turn. The pause is the longest gap between two acknowledged commits, whoever
// acknowledged them, from the moment of asking until some time after the new master's first.

import { sleep } from './load.ts'
import type { BenchOptions } from './options.ts'
import { keyBytes } from './rows.ts'
import type { Group } from './table.ts'
import { machineMs } from './takeover-load.ts'
import { type Worker, withWorkers } from './workers.ts'

const committers = 64
const keysMax = 10_000
const calmMs = 300
/** How long after the takeover gaps still count. */
const afterMs = 150

interface Site {
  readonly worker: Worker
  readonly path: string
  address: string
}

interface Sample {
  readonly gapMs: number
  readonly askedMs: number
}

export function benchTakeOver(options: BenchOptions): Promise<Group> {
  const { valueBytes } = options
  const load = { committers, keys: Math.min(options.keys, keysMax), valueBytes }
  return withWorkers(options.folder, async (workers) => {
    const sites = ['a', 'b'].map((name): Site => {
      return { worker: workers.start(), path: workers.path(name), address: '' }
    })
    let [master, heir] = sites as [Site, Site]
    for (const { worker, path } of sites) await worker.call('open', { path })
    master.address = (await master.worker.call('serve', { listen: 'tcp://127.0.0.1:0' })).address
    await heir.worker.call('attach', { path: heir.path, address: master.address })
    for (const { worker } of sites) await worker.call('takeOverLoad', load)
    const samples: Sample[] = []
    let perSecond = 0
    for (let round = 0; round < options.takeovers; round++) {
      const startedAt = machineMs()
      await sleep(calmMs)
      perSecond = (await acknowledged([master], startedAt)).length / ((machineMs() - startedAt) / 1000)
      const askedAt = machineMs()
      const { address, pausedMs } = await heir.worker.call('takeOver')
      heir.address = address
      await sleep(afterMs)
      samples.push({ gapMs: longestGap(await acknowledged(sites, askedAt)), askedMs: pausedMs })
      ;[master, heir] = [heir, master]
      await heir.worker.call('attach', { path: heir.path, address: master.address })
    }
    const gapMs = samples.map((each) => each.gapMs)
    const askedMs = samples.map((each) => each.askedMs)
    return {
      name: 'takeover',
      title: `${samples.length} takeovers back and forth between two sites on disk, ${committers} committers`,
      columns: ['', 'p50 ms', 'p90 ms', 'max ms'],
      rows: [
        { '': 'longest gap between acknowledged commits', ...spread(gapMs) },
        { '': 'from asking until the new master writes', ...spread(askedMs) },
      ],
      note:
        `${keyBytes} + ${valueBytes} B a commit, synced on both sites; ` +
        `${Math.round(perSecond).toLocaleString('en-US')} commits/s before the last`,
      samples: { gapMs, askedMs },
    }
  })
}

async function acknowledged(sites: readonly Site[], fromMs: number): Promise<number[]> {
  const all = await Promise.all(sites.map(({ worker }) => worker.call('acknowledgedSince', { fromMs })))
  return all.flat().sort((one, other) => one - other)
}

function longestGap(times: readonly number[]): number {
  let longest = 0
  for (let i = 1; i < times.length; i++) {
    longest = Math.max(longest, (times[i] as number) - (times[i - 1] as number))
  }
  if (times.length < 2) throw new Error('no commit was acknowledged around a takeover')
  return longest
}

function spread(values: readonly number[]): Record<string, number> {
  const sorted = [...values].sort((one, other) => one - other)
  const at = (part: number): number =>
    sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * part) - 1)] ?? 0
  return { 'p50 ms': at(0.5), 'p90 ms': at(0.9), 'max ms': sorted.at(-1) ?? 0 }
}
