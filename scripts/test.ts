// Runs the tests with Node's runner, which writes the summary and decides the exit code.
//
//   npm test                   all but the long ones (`*.long.test.ts`)
//   npm test -- log crash      those whose path contains `log` or `crash`
//   npm run test:all           the long ones too, with COTERIE_TEST_ALL=1, by which tests choose their rounds
//
// Two files run at a time: many of them start processes of their own.

import { spawn } from 'node:child_process'
import { filesIn, projectFolder } from './files.ts'

const options = process.argv.slice(2).filter((argument) => argument.startsWith('-'))
const filters = process.argv.slice(2).filter((argument) => !argument.startsWith('-'))
const all = options.includes('--all')
const stray = options.find((option) => option !== '--all')
const matching = filesIn('test', '.test.ts').filter(
  (file) => filters.length === 0 || filters.some((filter) => file.includes(filter)),
)
const files = matching.filter((file) => all || !file.endsWith('.long.test.ts'))

if (stray !== undefined) fail(`unknown option ${stray}; there is only --all`)
else if (files.length === 0) {
  const leftOut = matching.length === 0 ? '' : `; ${matching.join(', ')} is long and needs --all`
  fail(`no test file matches ${filters.join(' ') || 'test/**/*.test.ts'}${leftOut}`)
} else run()

function run(): void {
  // A hang must end in the runner's summary too, long before whoever runs this loses patience.
  const timeoutMs = all ? 3_600_000 : 300_000
  const flags = ['--test-concurrency=2', '--test-reporter=spec', `--test-timeout=${timeoutMs}`]
  const runner = spawn(process.execPath, ['--import', 'tsx', '--test', ...flags, ...files], {
    cwd: projectFolder,
    stdio: 'inherit',
    env: all ? { ...process.env, COTERIE_TEST_ALL: '1' } : process.env,
  })
  runner.on('error', (error) => fail(error.message))
  runner.on('exit', (code) => {
    process.exitCode = code ?? 1
  })
}

function fail(message: string): void {
  console.error(`test: ${message}`)
  process.exitCode = 2
}
