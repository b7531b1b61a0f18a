// Runs the tests with Node's runner, which writes the summary and decides the exit code.
//
//   npm test                   all but the long ones (`*.long.test.ts`)
//   npm test -- log crash      those whose path contains `log` or `crash`
//   npm run test:all           the long ones too, with COTERIE_TEST_ALL=1, by which tests choose their rounds
//
// The sources and the tests are compiled into `.build/` first, unchecked: types are what `npm run check` is for. Four files
// run at a time: many of them wait for processes of their own. The runner starts a process for each file, and the half
// second that it takes to load everything is more than most unit tests need; so those share a few processes.

import { spawn, spawnSync } from 'node:child_process'
import { cpSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { filesIn, projectFolder } from './files.ts'

const copy = join(projectFolder, '.build')
const unitProcesses = 4

const asked = process.argv.slice(2).filter((argument) => argument.startsWith('-'))
const filters = process.argv.slice(2).filter((argument) => !argument.startsWith('-'))
const all = asked.includes('--all')
const stray = asked.find((option) => option !== '--all')
const matching = filesIn('test', '.test.ts').filter(
  (file) => filters.length === 0 || filters.some((filter) => file.includes(filter)),
)
const files = matching.filter((file) => all || !file.endsWith('.long.test.ts'))

if (stray !== undefined) fail(`unknown option ${stray}; there is only --all`)
else if (files.length === 0) {
  const leftOut = matching.length === 0 ? '' : `; ${matching.join(', ')} is long and needs --all`
  fail(`no test file matches ${filters.join(' ') || 'test/**/*.test.ts'}${leftOut}`)
} else if (compile()) run()
else fail('the sources do not compile')

/** Once for all: hundreds of processes, tests and what they start, would each translate what they load. */
function compile(): boolean {
  rmSync(copy, { recursive: true, force: true })
  const compiler = join(projectFolder, 'node_modules/typescript/bin/tsc')
  const { status } = spawnSync(process.execPath, [compiler, '-p', 'tsconfig.tests.json', '--noCheck'], {
    cwd: projectFolder,
    stdio: 'inherit',
  })
  cpSync(join(projectFolder, 'package.json'), join(copy, 'package.json'))
  return status === 0
}

function run(): void {
  // A hang must end in the runner's summary too, long before whoever runs this loses patience.
  const timeoutMs = all ? 3_600_000 : 300_000
  const flags = ['--test-concurrency=4', '--test-reporter=spec', `--test-timeout=${timeoutMs}`]
  const compiled = together(files).map((file) => join(copy, file.replace(/\.ts$/, '.js')))
  // Stack traces name the files that one reads.
  const options = ['--enable-source-maps', '--test', ...flags, ...compiled]
  const runner = spawn(process.execPath, options, {
    cwd: projectFolder,
    stdio: 'inherit',
    env: all ? { ...process.env, COTERIE_TEST_ALL: '1' } : process.env,
  })
  runner.on('error', (error) => fail(error.message))
  runner.on('exit', (code) => {
    process.exitCode = code ?? 1
  })
}

/** Unit tests in a few files that import them, and all other tests as they are. */
function together(paths: readonly string[]): string[] {
  const isUnit = (path: string): boolean => path.startsWith(join('test', 'unit'))
  const units = paths.filter(isUnit)
  if (units.length <= unitProcesses) return [...paths]
  const groups = Array.from({ length: unitProcesses }, (_, at) => {
    const group = join('test', `unit-${at + 1}.test.js`)
    const mine = units.filter((_each, index) => index % unitProcesses === at)
    const imports = mine.map((path) => `import './unit/${basename(path, '.ts')}.js'\n`)
    writeFileSync(join(copy, group), imports.join(''))
    return group
  })
  return [...groups, ...paths.filter((path) => !isUnit(path))]
}

function fail(message: string): void {
  console.error(`test: ${message}`)
  process.exitCode = 2
}
