// How long a group is without a master: three real processes, the master under load is killed with SIGKILL, and the
// time runs from there to the first commit that its successor acknowledges, as a fourth process sees it. The killed
// one is started again each time. All timings are the defaults of `join`.
//
// A killed process closes its connections, which the others notice at once. So a fifth as often the master is frozen
// instead: as with a machine that is gone, the others notice nothing but silence.

import { sleep } from './load.ts'
import type { BenchOptions } from './options.ts'
import { keyBytes } from './rows.ts'
import type { Group } from './table.ts'
import { type Worker, type Workers, withWorkers } from './workers.ts'

const names = ['a', 'b', 'c'] as const
const anyPort = 'tcp://127.0.0.1:0'
const committers = 16
const keysMax = 10_000
/** Between the return of the killed site and the next kill: at least this, and a drawn time more. */
const calmMs = 400
const drawnMs = 600
const waitMsMax = 30_000
const killsForOneFreeze = 5
const bars = '▁▂▃▄▅▆▇█'
const barMs = 20

interface Site {
  readonly name: string
  worker: Worker
  address: string
}

interface Sample {
  readonly masterMs: number
  readonly commitMs: number
  readonly backMs: number
}

export function benchFailover(options: BenchOptions): Promise<Group> {
  return withWorkers(options.folder, async (workers) => {
    const group = new FailoverGroup(workers, options)
    await group.start()
    const kills = await group.failOvers(options.failovers, 'kill')
    const freezes = await group.failOvers(Math.ceil(options.failovers / killsForOneFreeze), 'freeze')
    const commits = await group.commitsPerSecond()
    const commitMs = kills.map((sample) => sample.commitMs)
    return {
      name: 'failover',
      title: `Failover of a group of three, ${committers} committers: ${kills.length} x kill -9 of the master`,
      columns: ['until', 'times', 'p10 ms', 'p50 ms', 'p90 ms', 'max ms'],
      rows: [
        row('kill -9 to another master', kills.map(masterMsOf)),
        row('kill -9 to its first commit', commitMs),
        row('kill -9 to three sites in step again', kills.map(backMsOf)),
        row('SIGSTOP to another master', freezes.map(masterMsOf)),
        row('SIGSTOP to its first commit', freezes.map(commitMsOf)),
      ],
      note: [
        `kill -9 to first commit: ${histogramLine(commitMs)}`,
        `heartbeats 100 ms, election timeout 300 ms; ${keyBytes} + ${options.valueBytes} B a commit, ` +
          `${Math.round(commits).toLocaleString('en-US')} commits/s at the end`,
      ].join('\n'),
      samples: {
        killMasterMs: kills.map(masterMsOf),
        killCommitMs: commitMs,
        freezeMasterMs: freezes.map(masterMsOf),
        freezeCommitMs: freezes.map(commitMsOf),
      },
    }
  })
}

const masterMsOf = (sample: Sample): number => sample.masterMs
const commitMsOf = (sample: Sample): number => sample.commitMs
const backMsOf = (sample: Sample): number => sample.backMs

class FailoverGroup {
  readonly #workers: Workers
  readonly #load: { readonly committers: number; readonly keys: number; readonly valueBytes: number }
  readonly #sites: Site[] = []
  #term = 0

  constructor(workers: Workers, options: BenchOptions) {
    const { keys, valueBytes } = options
    this.#workers = workers
    this.#load = { committers, keys: Math.min(keys, keysMax), valueBytes }
  }

  async start(): Promise<void> {
    for (const name of names) {
      this.#sites.push({ name, worker: this.#workers.start(), address: anyPort })
    }
    for (const site of this.#sites) await this.#join(site)
    await this.#findMaster()
  }

  async failOvers(times: number, how: 'kill' | 'freeze'): Promise<Sample[]> {
    const samples: Sample[] = []
    for (let time = 0; time < times; time++) samples.push(await this.#failOver(how))
    return samples
  }

  async #failOver(how: 'kill' | 'freeze'): Promise<Sample> {
    await sleep(calmMs + Math.random() * drawnMs)
    // A group on a busy machine may have changed its master meanwhile, by itself.
    const victim = await this.#findMaster()
    const others = this.#sites.filter((site) => site !== victim)
    const answers = others.map((site) => site.worker.call('firstCommit', { after: this.#term }))
    // The one that does not become master answers in a later round, or never.
    for (const answer of answers) answer.catch(() => undefined)
    const killedAt = performance.now()
    const killed = how === 'kill' ? victim.worker.kill() : victim.worker.freeze()
    const first = await inTime(Promise.race(answers), `a commit after the death of ${victim.name}`)
    const commitMs = performance.now() - killedAt
    await killed
    await victim.worker.kill()
    victim.worker = this.#workers.start()
    await this.#join(victim)
    const backMs = performance.now() - killedAt
    return { masterMs: commitMs - first.sinceElectedMs, commitMs, backMs }
  }

  async commitsPerSecond(): Promise<number> {
    const { worker } = await this.#findMaster()
    const before = await worker.call('reign')
    const startedAt = performance.now()
    await sleep(1000)
    const after = await worker.call('reign')
    return ((after.commits - before.commits) * 1000) / (performance.now() - startedAt)
  }

  async #join(site: Site): Promise<void> {
    const seeds = this.#sites.filter((each) => each !== site && each.address !== anyPort)
    const { address } = await inTime(
      site.worker.call('join', {
        path: this.#workers.path(site.name),
        site: site.name,
        listen: site.address,
        seeds: seeds.map((each) => each.address),
        load: this.#load,
      }),
      `site ${site.name} to join`,
    )
    site.address = address
  }

  async #findMaster(): Promise<Site> {
    const until = performance.now() + waitMsMax
    for (;;) {
      const reigns = await Promise.all(this.#sites.map((site) => site.worker.call('reign')))
      const at = reigns.findIndex((reign) => reign.isMaster && reign.commits > 0)
      const site = this.#sites[at]
      if (site !== undefined) {
        this.#term = reigns[at]?.term ?? 0
        return site
      }
      if (performance.now() > until) throw new Error('the group has no master')
      await sleep(20)
    }
  }
}

async function inTime<T>(answer: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${waitMsMax} ms for ${what}`)), waitMsMax)
  })
  try {
    return await Promise.race([answer, late])
  } finally {
    clearTimeout(timer)
  }
}

function row(until: string, values: readonly number[]): Record<string, number | string> {
  const sorted = [...values].sort((left, right) => left - right)
  const at = (part: number): number => sorted[Math.ceil(sorted.length * part) - 1] ?? Number.NaN
  const { length: times } = values
  return { until, times, 'p10 ms': at(0.1), 'p50 ms': at(0.5), 'p90 ms': at(0.9), 'max ms': at(1) }
}

/** One character for each 20 ms from the least to the most. */
function histogramLine(values: readonly number[]): string {
  const columns = values.map((value) => Math.floor(value / barMs))
  const first = Math.min(...columns)
  const counts = Array.from<number>({ length: Math.max(...columns) - first + 1 }).fill(0)
  for (const column of columns) counts[column - first] = (counts[column - first] ?? 0) + 1
  const most = Math.max(...counts)
  const line = counts.map((count) => (count === 0 ? ' ' : bars[Math.ceil((count / most) * bars.length) - 1]))
  return `${first * barMs} ms |${line.join('')}| ${(first + counts.length) * barMs} ms, ${barMs} ms a column`
}
