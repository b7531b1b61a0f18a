// The simulator as a command: `npm run sim -- --seeds 1000 [--first S]`. Each seed is one group of the real code on
// simulated machines, with its load, its faults and its judges. The first line of a failure replays it.
//
// Ends with code 1 if a judge found something, 2 if it was called wrongly.

import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { SimReport } from './history.ts'
import { type RegressionSeed, regressionSeeds } from './regression-seeds.ts'
import {
  runTask,
  type SeedResult,
  type SeedSettings,
  type SeedTask,
  SeedWorkers,
  serveTasks,
} from './seed-workers.ts'
import { type RunKind, runKinds } from './stage.ts'

const usage = `usage: npm run sim -- [--seeds 100] [--first 1] [options]
  --kind K          group; below: with sites that hang below it; served: a master by hand; pair: a group of two, either of
                    which goes on alone (drawn from the seed)
  --sites 3|5|7     sites of the group (drawn from the seed)
  --seconds S       length of the phase in which things break, in simulated seconds (120; 60 where it is no group alone)
  --jobs N          seeds at a time (as many as there are processors)
  --faults a,b      these faults and no others (drawn from the seed)
  --trace           tells the story, line by line; one seed at a time
  --twice           runs each seed twice and compares what happened
  --paranoid        copies every message, to find senders that change what they have sent
  --regressions     the seeds that ever failed, before the others
  --keep-going      goes on after a failure
  --json            one line of JSON for each seed`

interface Settings {
  readonly seeds: number
  readonly first: number
  readonly jobs: number
  readonly trace: boolean
  readonly twice: boolean
  readonly regressions: boolean
  readonly keepGoing: boolean
  readonly json: boolean
  readonly run: SeedSettings
}

async function main(): Promise<void> {
  const settings = readSettings()
  if (settings === undefined) return
  const summary = new Summary()
  const startedMs = Date.now()
  let failed = 0
  const done = (result: SeedResult): void => {
    summary.add(result)
    if (settings.json) console.log(JSON.stringify(result))
    const fault = faultOf(result)
    if (fault !== undefined) {
      failed++
      // Whoever reads the JSON finds the fault in it: nothing else goes between its lines.
      const tell = settings.json ? console.error : console.log
      tell(`seed ${result.seed} failed: ${replayLine(result, settings)}\n  ${fault}`)
    }
    if (!settings.json) showProgress(summary.seeds, settings.seeds, failed, startedMs)
  }
  await runAll(settings, () => failed === 0 || settings.keepGoing, done)
  if (process.stderr.isTTY === true) process.stderr.write('\r\x1b[K')
  if (!settings.json) console.log(summary.text((Date.now() - startedMs) / 1000))
  process.exitCode = failed === 0 ? 0 : 1
}

async function runAll(
  settings: Settings,
  mayGoOn: () => boolean,
  done: (result: SeedResult) => void,
): Promise<void> {
  const { seeds, first, jobs, twice, run } = settings
  const known = settings.regressions
    ? regressionSeeds.map(({ seed, found: _found, ...drawn }) => ({ seed, drawn }))
    : []
  let given = 0
  const next = (): SeedTask | undefined => {
    if (!mayGoOn()) return undefined
    const again = known.shift()
    if (again !== undefined) return { seed: again.seed, settings: { ...run, ...again.drawn }, twice }
    return given < seeds ? { seed: first + given++, settings: run, twice } : undefined
  }
  if (settings.trace || jobs === 1) {
    const trace = settings.trace ? (line: string): void => console.log(line) : undefined
    for (let task = next(); task !== undefined; task = next()) done(await runTask(task, trace))
    return
  }
  const workers = new SeedWorkers(fileURLToPath(import.meta.url))
  try {
    await workers.run({ jobs, next, done })
  } finally {
    workers.endAll()
  }
}

function faultOf(result: SeedResult): string | undefined {
  if ('crash' in result) return result.crash
  const { violation } = result
  return violation && `${violation.judge} at ${(violation.atMs / 1000).toFixed(3)} s: ${violation.message}`
}

function replayLine(result: SeedResult, settings: Settings): string {
  const { seed } = result
  // One that failed once comes again in the row of the others, where it may be of another kind.
  const isKnown = (each: RegressionSeed): boolean =>
    each.seed === seed && (!('kind' in result) || each.kind === result.kind)
  const known = settings.regressions ? regressionSeeds.find(isKnown) : undefined
  const run: SeedSettings = { ...settings.run, ...known }
  const options: string[] = [`--seeds 1 --first ${seed}`]
  if (run.kind !== undefined) options.push(`--kind ${run.kind}`)
  if (run.sites !== undefined) options.push(`--sites ${run.sites}`)
  if (run.simulatedMs !== undefined) options.push(`--seconds ${run.simulatedMs / 1000}`)
  if (run.faults !== undefined) options.push(`--faults ${run.faults.join(',')}`)
  if (run.paranoid === true) options.push('--paranoid')
  return `npm run sim -- ${options.join(' ')} --trace`
}

function showProgress(seeds: number, of: number, failed: number, startedMs: number): void {
  const perSecond = seeds / ((Date.now() - startedMs) / 1000)
  const line = `${seeds} of ${of} seeds, ${failed} failed, ${perSecond.toFixed(2)} a second`
  if (process.stderr.isTTY === true) process.stderr.write(`\r\x1b[K${line}`)
  else if (seeds % 100 === 0) console.log(line)
}

class Summary {
  seeds = 0
  #simulatedMs = 0
  #events = 0
  #commits = 0
  #failovers = 0
  readonly #faults: Map<string, number> = new Map()

  add(result: SeedResult): void {
    this.seeds++
    if (!('crash' in result)) this.#addReport(result)
  }

  #addReport(report: SimReport): void {
    this.#simulatedMs += report.simulatedMs
    this.#events += report.events
    this.#commits += report.commits
    this.#failovers += report.failovers
    for (const [kind, count] of Object.entries(report.faults)) {
      this.#faults.set(kind, (this.#faults.get(kind) ?? 0) + count)
    }
  }

  text(seconds: number): string {
    const hours = this.#simulatedMs / 3_600_000
    const faults = [...this.#faults].sort(([, a], [, b]) => b - a)
    const total = faults.reduce((sum, [, count]) => sum + count, 0)
    return [
      `seeds        ${this.seeds} (${(this.seeds / seconds).toFixed(2)} a second)`,
      `simulated    ${hours.toFixed(2)} hours in ${seconds.toFixed(0)} s (${((hours * 3600) / seconds).toFixed(0)} times as fast)`,
      `events       ${this.#events.toLocaleString('en')}`,
      `commits      ${this.#commits.toLocaleString('en')} acknowledged`,
      `failovers    ${this.#failovers.toLocaleString('en')}`,
      `faults       ${total.toLocaleString('en')}: ${faults.map(([kind, count]) => `${kind} ${count}`).join(', ')}`,
    ].join('\n')
  }
}

/** Undefined: there is nothing to run, and what was wrong with the call has been said. */
function readSettings(): Settings | undefined {
  try {
    const { values } = parseArgs({
      options: {
        seeds: { type: 'string', default: '100' },
        first: { type: 'string', default: '1' },
        kind: { type: 'string' },
        sites: { type: 'string' },
        seconds: { type: 'string' },
        jobs: { type: 'string' },
        faults: { type: 'string' },
        trace: { type: 'boolean', default: false },
        twice: { type: 'boolean', default: false },
        paranoid: { type: 'boolean', default: false },
        regressions: { type: 'boolean', default: false },
        'keep-going': { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    })
    if (values.help) {
      console.log(usage)
      return undefined
    }
    const { kind, sites, seconds, jobs, faults, paranoid } = values
    const run: { -readonly [Key in keyof SeedSettings]: SeedSettings[Key] } = { paranoid }
    if (kind !== undefined) run.kind = runKind(kind)
    if (sites !== undefined) run.sites = groupSize(sites)
    if (seconds !== undefined) run.simulatedMs = wholeNumber('seconds', seconds) * 1000
    if (faults !== undefined) run.faults = faults.split(',')
    const seeds = wholeNumber('seeds', values.seeds)
    return {
      seeds,
      first: wholeNumber('first', values.first),
      jobs: Math.min(seeds, jobs === undefined ? availableParallelism() : wholeNumber('jobs', jobs)),
      trace: values.trace,
      twice: values.twice,
      regressions: values.regressions,
      keepGoing: values['keep-going'],
      json: values.json,
      run,
    }
  } catch (error) {
    console.error(`sim: ${(error as Error).message}\n${usage}`)
    process.exitCode = 2
    return undefined
  }
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text)
  if (Number.isSafeInteger(value) && value > 0) return value
  throw new TypeError(`--${name} takes a whole number, not ${text}`)
}

function runKind(text: string): RunKind {
  const kind = runKinds.find((each) => each === text)
  if (kind !== undefined) return kind
  throw new TypeError(`--kind takes ${runKinds.join(', ')}`)
}

function groupSize(text: string): 3 | 5 | 7 {
  const value = wholeNumber('sites', text)
  if (value === 3 || value === 5 || value === 7) return value
  throw new TypeError('--sites takes 3, 5 or 7')
}

if (process.argv.includes('--worker')) serveTasks()
else await main()
