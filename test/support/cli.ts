// The `coterie` command as a real process: the built one if it is newer than the sources (`npm test` builds first),
// else from the sources, which takes a second longer to start. What a test leaves running is killed at its end.

import { type ChildProcess, spawn } from 'node:child_process'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import type { TestContext } from 'node:test'
import { projectFolder } from '../../scripts/files.ts'
import { runCommand } from '../../src/cli/program.ts'
import { atEnd } from './at-end.ts'

const sources = join(projectFolder, 'src')
const built = join(projectFolder, 'dist/cli/main.js')

/** What Node is given to run the command. */
const command: readonly string[] = isBuilt()
  ? [built]
  : ['--import', import.meta.resolve('tsx'), join(sources, 'cli/main.ts')]

function isBuilt(): boolean {
  const builtMs = statSync(built, { throwIfNoEntry: false })?.mtimeMs
  if (builtMs === undefined) return false
  const files = readdirSync(sources, { recursive: true, encoding: 'utf8' })
  return files.every(
    (file) => (statSync(join(sources, file), { throwIfNoEntry: false })?.mtimeMs ?? 0) <= builtMs,
  )
}

export interface CliResult {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface CliOptions {
  /** Standard input; default empty. */
  readonly input?: string | Uint8Array
  readonly cwd?: string
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>
}

/** Runs the command to its end. */
export async function coterie(
  t: TestContext,
  args: readonly string[],
  options: CliOptions = {},
): Promise<CliResult> {
  const running = startCoterie(t, args, options)
  running.child.stdin?.end(options.input ?? '')
  return await running.ended
}

/**
 * Runs the command to its end in this process: the same but for the start of a process, which costs more than most verbs
 * do. For looking at other processes again and again, and where those are what is tested.
 */
export async function coterieHere(
  args: readonly string[],
  options: { readonly input?: string | Uint8Array; readonly interrupted?: AbortSignal } = {},
): Promise<CliResult> {
  const gathered = { stdout: '', stderr: '' }
  const stream = (name: 'stdout' | 'stderr'): PassThrough => {
    const through = new PassThrough()
    through.setEncoding('latin1').on('data', (text: string) => {
      gathered[name] += text
    })
    return through
  }
  // A database's own timers keep no process alive, nor does a pipe whose other end is here.
  const alive = setInterval(() => undefined, 60_000)
  const code = await runCommand(args, {
    stdin: Readable.from([Buffer.from(options.input ?? '')], { objectMode: false }),
    stdout: stream('stdout'),
    stderr: stream('stderr'),
    env: {},
    interrupted: options.interrupted ?? new AbortController().signal,
  })
  await new Promise((resolve) => setImmediate(resolve))
  clearInterval(alive)
  const text = (name: 'stdout' | 'stderr'): string => Buffer.from(gathered[name], 'latin1').toString('utf8')
  return { code, stdout: text('stdout'), stderr: text('stderr') }
}

/** Starts the command and leaves it running. */
export function startCoterie(t: TestContext, args: readonly string[], options: CliOptions = {}): RunningCli {
  const child = spawn(process.execPath, [...command, ...args], {
    cwd: options.cwd,
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1', ...options.env },
  })
  // A command that ends before it has read all of its input is no failure of the test.
  child.stdin?.on('error', () => undefined)
  const running = new RunningCli(child)
  atEnd(t, () => running.kill())
  return running
}

export class RunningCli {
  readonly child: ChildProcess
  readonly ended: Promise<CliResult>
  stdout = ''
  stderr = ''
  #over = false

  constructor(child: ChildProcess) {
    this.child = child
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
    })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
    })
    this.ended = new Promise((resolve, reject) => {
      child.on('error', reject)
      child.on('close', (code) => {
        this.#over = true
        resolve({ code, stdout: this.stdout, stderr: this.stderr })
      })
    })
  }

  /** Waits until standard output matches; fails with what there was if the process ends first. */
  async says(pattern: RegExp, timeoutMs = 30_000): Promise<RegExpExecArray> {
    const until = performance.now() + timeoutMs
    for (;;) {
      const match = pattern.exec(this.stdout)
      if (match !== null) return match
      if (this.#over || performance.now() > until) {
        throw new Error(
          `the command did not say ${pattern}; stdout:\n${this.stdout}\nstderr:\n${this.stderr}`,
        )
      }
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }

  async signal(name: NodeJS.Signals): Promise<CliResult> {
    this.child.kill(name)
    return await this.ended
  }

  async kill(): Promise<void> {
    if (!this.#over) await this.signal('SIGKILL')
  }
}
