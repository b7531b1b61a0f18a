// coterie bench: how fast a database is on this machine, in this one process. The bench over three processes is
// `npm run bench` in a checkout of the project.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Command } from 'commander'
import type { Database } from '../../index.ts'
import { type CommandRun, defineVerb, type VerbContext } from '../command.ts'
import { formatCount, formatTable } from '../format.ts'
import { library } from '../library.ts'
import { durationMs, oneOf } from '../options.ts'

interface BenchOptions {
  readonly duration: number
  readonly durability: 'sync' | 'written' | 'memory'
  readonly folder?: string
}

interface BenchRow {
  readonly what: string
  readonly perSecond: number
  readonly p50Ms: number | undefined
  readonly p99Ms: number | undefined
}

const committers = [1, 64, 1024] as const
const value = 'v'.repeat(100)
const keyOf = (n: number): string => `bench:${String(n).padStart(10, '0')}`

export function defineBench(program: Command, run: CommandRun): Command {
  return defineVerb<BenchOptions>(program, run, {
    usage: 'bench',
    summary: 'measure commits and reads of one process on this machine',
    description:
      'Keys of 16 bytes, values of 100, in a temporary folder. Replication is measured by `npm run bench` in a\n' +
      'checkout of the project.',
    examples: [
      ['coterie bench', 'a table in about six seconds'],
      ['coterie bench --folder /mnt/data --json', 'on the disk that matters, as JSON'],
    ],
    options: (command) => {
      command
        .option('--duration <time>', 'of each measurement', durationMs, 1500)
        .option('--durability <how>', 'sync, written or memory', oneOf(['sync', 'written', 'memory']), 'sync')
        .option('--folder <path>', 'where to make the temporary folder; default: that of the system')
    },
    action: async (context, _args, options) => {
      const folder = await mkdtemp(join(options.folder ?? tmpdir(), 'coterie-bench-'))
      try {
        const { open } = await library()
        const db = await open(join(folder, 'data'), { durability: options.durability })
        try {
          const rows = await measureAll(context, db, options)
          await context.output.result({ durability: options.durability, rows }, tableOf(rows))
        } finally {
          await db.close()
        }
      } finally {
        await rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
      }
      return undefined
    },
  })
}

async function measureAll(context: VerbContext, db: Database, options: BenchOptions): Promise<BenchRow[]> {
  const rows: BenchRow[] = []
  const steps = committers.length + 2
  const bar = context.progress({ label: 'bench', unit: 'records', total: steps })
  let written = 0
  for (const count of committers) {
    const measured = await measure(context, options.duration, count, () => db.put(keyOf(written++), value))
    rows.push({ what: `commits, ${formatCount(count)} at once`, ...measured })
    bar.update(rows.length)
  }
  const random = (): string => keyOf(Math.floor(Math.random() * written))
  rows.push({
    what: 'point reads',
    ...(await measure(context, options.duration, 16, () => db.get(random()))),
  })
  bar.update(rows.length)
  const ranges = await measure(context, options.duration, 4, () =>
    db.entries({ gte: random(), limit: 20 }).all(),
  )
  rows.push({ what: 'ranges of 20 rows', ...ranges })
  bar.stop()
  return rows
}

async function measure(
  context: VerbContext,
  durationMsEach: number,
  atOnce: number,
  work: () => Promise<unknown>,
): Promise<Omit<BenchRow, 'what'>> {
  const times: number[] = []
  const startedAt = performance.now()
  const until = startedAt + durationMsEach
  const worker = async (): Promise<void> => {
    for (let at = performance.now(); at < until && !context.io.interrupted.aborted; ) {
      await work()
      const now = performance.now()
      times.push(now - at)
      at = now
    }
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  context.io.interrupted.throwIfAborted()
  const elapsed = performance.now() - startedAt
  times.sort((a, b) => a - b)
  return {
    perSecond: Math.round((times.length * 1000) / elapsed),
    p50Ms: times[Math.floor(times.length * 0.5)],
    p99Ms: times[Math.floor(times.length * 0.99)],
  }
}

function tableOf(rows: readonly BenchRow[]): string {
  const ms = (time: number | undefined): string => (time === undefined ? '' : time.toFixed(time < 1 ? 3 : 1))
  return formatTable(
    [
      { title: '' },
      { title: 'per second', align: 'right' },
      { title: 'p50 ms', align: 'right' },
      { title: 'p99 ms', align: 'right' },
    ],
    rows.map((row) => [row.what, formatCount(row.perSecond), ms(row.p50Ms), ms(row.p99Ms)]),
  )
}
