// npm run bench: how fast commits, reads, syncs and failovers are, over real processes on loopback and on the disk of this machine.
// Prints a table for each group as it comes and writes everything to a JSON file. `npm run bench -- --help` says more.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { benchCommits } from './commits.ts'
import { benchFailover } from './failovers.ts'
import { type Machine, machineLine, measureMachine } from './machine.ts'
import { type BenchOptions, type GroupName, readOptions, usage } from './options.ts'
import { benchRedis, redisVersion } from './peers.ts'
import { benchRanges, benchReads } from './reads.ts'
import { benchCatchUp, benchSync } from './syncs.ts'
import { type Group, printGroup } from './table.ts'
import { benchTakeOver } from './takeovers.ts'
import { withWorkers } from './workers.ts'

const project = fileURLToPath(new URL('..', import.meta.url))

const benches: Readonly<Record<GroupName, (options: BenchOptions) => Promise<Group>>> = {
  durable: (options) => benchCommits('durable', options),
  memory: (options) => benchCommits('memory', options),
  alone: (options) => benchCommits('alone', options),
  reads: benchReads,
  ranges: benchRanges,
  sync: benchSync,
  catchup: benchCatchUp,
  failover: benchFailover,
  takeover: benchTakeOver,
}

async function run(options: BenchOptions): Promise<void> {
  const machine = await withWorkers(options.folder, measureMachine)
  console.log(`${machineLine(machine)}\n`)
  const groups: Group[] = []
  const add = (group: Group): void => {
    groups.push(group)
    console.log(printGroup(group))
  }
  for (const name of options.only) add(await benches[name](options))
  if (options.peers) await runPeers(options, add)
  save(options, machine, groups)
}

async function runPeers(options: BenchOptions, add: (group: Group) => void): Promise<void> {
  const version = redisVersion()
  if (version === undefined) {
    console.log('Peers: none was found (redis-server is not on the PATH)\n')
    return
  }
  for (const kind of ['durable', 'memory'] as const) {
    if (options.only.includes(kind)) add(await benchRedis(kind, version, options))
  }
}

function save(options: BenchOptions, machine: Machine, groups: readonly Group[]): void {
  const at = new Date().toISOString()
  const file = options.json ?? join(project, 'bench', 'results', `${at.replaceAll(':', '-')}.json`)
  mkdirSync(dirname(file), { recursive: true })
  const { version } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8')) as { version: string }
  writeFileSync(file, `${JSON.stringify({ at, version, machine, options, groups }, undefined, 2)}\n`)
  console.log(`written to ${file}`)
}

async function main(): Promise<void> {
  let options: BenchOptions | undefined
  try {
    options = readOptions(process.argv.slice(2))
  } catch (error) {
    console.error(`bench: ${(error as Error).message}\n\n${usage}`)
    process.exitCode = 2
    return
  }
  if (options === undefined) console.log(usage)
  else if (existsSync(join(project, 'dist', 'index.js'))) await run(options)
  else {
    console.error('bench: there is no build; run `npm run bench`, or `npm run build` before this')
    process.exitCode = 2
  }
}

await main()
