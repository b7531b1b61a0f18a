// Shows that the simulator finds bugs: plants those of `src/sim/mutants.ts`, one at a time, into a copy of the sources,
// and runs seeds on it until a judge objects.
//
//   npm run sim:mutants                          all of them
//   npm run sim:mutants -- --only vote,sync      those whose name contains `vote` or `sync`
//   npm run sim:mutants -- --seeds 400           the budget of each; a mutant that survives it fails the run
//   npm run sim:mutants -- --first 1000          from another seed on
//
// The sources as they are run first, and must survive: else what the judges object to is no planted bug. The copies
// stand in `.mutants/`, which goes at the end, however it ends.

import { type ChildProcess, spawn } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { type Mutant, mutants, plantIn } from '../src/sim/mutants.ts'
import { projectFolder } from './files.ts'

const copies = join(projectFolder, '.mutants')
const control: Mutant = { name: 'none', why: 'the sources as they are', file: '', find: '', replace: '' }

interface Verdict {
  readonly mutant: Mutant
  /** Undefined: it survived. */
  readonly caughtBy: string | undefined
  readonly seeds: number
  readonly seconds: number
}

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    seeds: { type: 'string', default: '400' },
    first: { type: 'string', default: '1' },
    jobs: { type: 'string', default: '2' },
    control: { type: 'string', default: '20' },
  },
})
const running = new Set<ChildProcess>()
process.on('SIGINT', () => {
  for (const child of running) child.kill('SIGKILL')
  process.exitCode = 130
})

try {
  rmSync(copies, { recursive: true, force: true })
  process.exitCode = await main()
} finally {
  rmSync(copies, { recursive: true, force: true })
}

async function main(): Promise<number> {
  const wanted = values.only?.split(',')
  const chosen = mutants.filter(({ name }) => wanted?.some((part) => name.includes(part)) ?? true)
  // All are planted before any runs: one that does not fit is found at once.
  const copied = [control, ...chosen].map((mutant) => ({ mutant, folder: plant(mutant) }))
  const [first, ...others] = copied as [(typeof copied)[0], ...typeof copied]
  const clean = await run(first.mutant, first.folder, Number(values.control))
  show(clean)
  if (clean.caughtBy !== undefined) return 1
  const verdicts: Verdict[] = []
  const work = async (): Promise<void> => {
    for (let next = others.shift(); next !== undefined; next = others.shift()) {
      const verdict = await run(next.mutant, next.folder, Number(values.seeds))
      rmSync(next.folder, { recursive: true, force: true })
      verdicts.push(verdict)
      show(verdict)
    }
  }
  await Promise.all(Array.from({ length: Number(values.jobs) }, work))
  const survivors = verdicts.filter(({ caughtBy }) => caughtBy === undefined)
  const counts = verdicts.map(({ seeds }) => seeds).sort((a, b) => a - b)
  console.log(
    `${verdicts.length - survivors.length} of ${verdicts.length} mutants caught; seeds at the median ${counts[counts.length >> 1] ?? 0}, at most ${counts.at(-1) ?? 0}`,
  )
  for (const { mutant } of survivors) console.log(`SURVIVED: ${mutant.name} (${mutant.why})`)
  return survivors.length === 0 ? 0 : 1
}

/** A copy of the sources with one bug; returns its folder. */
function plant(mutant: Mutant): string {
  const folder = join(copies, mutant.name)
  mkdirSync(folder, { recursive: true })
  cpSync(join(projectFolder, 'src'), join(folder, 'src'), { recursive: true })
  cpSync(join(projectFolder, 'package.json'), join(folder, 'package.json'))
  if (mutant.file === '') return folder
  const path = join(folder, 'src', mutant.file)
  writeFileSync(path, plantIn(readFileSync(path, 'utf8'), mutant))
  return folder
}

/** Runs seeds until a judge objects or the budget is used up. */
async function run(mutant: Mutant, folder: string, seeds: number): Promise<Verdict> {
  const startedMs = Date.now()
  const script = join(folder, 'src', 'sim', 'main.ts')
  const options = ['--seeds', `${seeds}`, '--first', values.first, '--jobs', '1', '--json']
  // Those that were planted first are found in groups alone. What is planted nowhere is looked for everywhere.
  if (mutant !== control) options.push('--kind', mutant.kind ?? 'group')
  const child = spawn(process.execPath, ['--import', 'tsx', script, ...options], {
    cwd: projectFolder,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running.add(child)
  let ran = 0
  let caughtBy: string | undefined
  let errors = ''
  child.stderr.on('data', (bytes: Buffer) => {
    errors += bytes.toString()
  })
  for await (const line of createInterface({ input: child.stdout })) {
    if (!line.startsWith('{')) continue
    ran++
    const report = JSON.parse(line) as { violation?: { judge: string }; crash?: string }
    caughtBy ??= report.violation?.judge ?? (report.crash === undefined ? undefined : 'a crash')
  }
  running.delete(child)
  // A run that ends its process says nothing of any judge.
  if (caughtBy === undefined && ran < seeds) {
    throw new Error(`${mutant.name}: its process ended after ${ran} of ${seeds} seeds\n${errors}`)
  }
  return { mutant, caughtBy, seeds: ran, seconds: (Date.now() - startedMs) / 1000 }
}

function show({ mutant, caughtBy, seeds, seconds }: Verdict): void {
  const name = mutant.name.padEnd(34)
  const after = `${seeds} ${seeds === 1 ? 'seed' : 'seeds'}`.padStart(10)
  const time = `${seconds.toFixed(0)} s`.padStart(6)
  const judge = caughtBy ?? (mutant === control ? 'nobody, as it must be' : 'NOBODY')
  console.log(`${name} ${after} ${time}  caught by ${judge}`)
}
