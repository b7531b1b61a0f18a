// Runs seeds in processes of their own, as many at a time as wanted: a run keeps one processor busy, and a seed that
// takes its process with it (out of memory, an endless loop) is told from one that fails.

import { type ChildProcess, fork } from 'node:child_process'
import type { SimReport } from './history.ts'
import { createJudges } from './judges.ts'
import { type RunSeedOptions, runSeed } from './run-seed.ts'

/** What a run needs to know beside its seed. */
export type SeedSettings = Pick<RunSeedOptions, 'kind' | 'sites' | 'simulatedMs' | 'paranoid' | 'faults'>

export interface SeedTask {
  readonly seed: number
  readonly settings: SeedSettings
  /** Runs it a second time and compares. */
  readonly twice: boolean
}

/** A seed for which there is nothing but this to say has not been judged. */
export interface SeedCrash {
  readonly seed: number
  readonly crash: string
}

export type SeedResult = SimReport | SeedCrash

/** A seed that takes longer than this, in real time, will not end. */
const seedMsMax = 900_000

export async function runTask(task: SeedTask, trace?: (line: string) => void): Promise<SimReport> {
  const options = { ...task.settings, seed: task.seed }
  const report = await runSeed({
    ...options,
    judges: createJudges(),
    ...(trace === undefined ? {} : { trace }),
  })
  if (!task.twice || report.violation !== undefined) return report
  const again = await runSeed({ ...options, judges: createJudges() })
  if (again.fingerprint === report.fingerprint) return report
  const message = `a second run went another way: ${report.fingerprint} and then ${again.fingerprint}`
  return { ...report, violation: { judge: 'determinism', message, atMs: 0 } }
}

/** The life of a worker: seeds come as messages, and reports go back. */
export function serveTasks(): void {
  // Nobody is left to be told anything.
  process.on('disconnect', () => process.exit())
  process.on('message', (task: SeedTask) => {
    runTask(task).then(
      (report) => process.send?.(report),
      (error: unknown) => process.send?.({ seed: task.seed, crash: String((error as Error).stack ?? error) }),
    )
  })
}

export class SeedWorkers {
  readonly #script: string
  readonly #workers: Set<ChildProcess> = new Set()

  /** `script` is started with `--worker` and calls `serveTasks`. */
  constructor(script: string) {
    this.#script = script
  }

  /** Runs tasks as they come from `next`, `jobs` at a time, until it returns undefined. */
  async run(options: {
    readonly jobs: number
    readonly next: () => SeedTask | undefined
    readonly done: (result: SeedResult) => void
  }): Promise<void> {
    await Promise.all(Array.from({ length: options.jobs }, () => this.#work(options)))
  }

  async #work(options: {
    readonly next: () => SeedTask | undefined
    readonly done: (result: SeedResult) => void
  }): Promise<void> {
    let worker: ChildProcess | undefined
    for (let task = options.next(); task !== undefined; task = options.next()) {
      worker ??= this.#start()
      const result = await ask(worker, task)
      if ('crash' in result) {
        this.#end(worker)
        worker = undefined
      }
      options.done(result)
    }
    if (worker !== undefined) this.#end(worker)
  }

  #start(): ChildProcess {
    const worker = fork(this.#script, ['--worker'], { execArgv: process.execArgv })
    this.#workers.add(worker)
    return worker
  }

  #end(worker: ChildProcess): void {
    this.#workers.delete(worker)
    worker.kill('SIGKILL')
  }

  endAll(): void {
    for (const worker of this.#workers) this.#end(worker)
  }
}

function ask(worker: ChildProcess, task: SeedTask): Promise<SeedResult> {
  return new Promise((resolve) => {
    const settle = (result: SeedResult): void => {
      clearTimeout(timer)
      worker.off('message', settle)
      worker.off('exit', exited)
      resolve(result)
    }
    const exited = (code: number | null, signal: string | null): void =>
      settle({ seed: task.seed, crash: `its process ended: ${signal ?? `code ${code}`}` })
    const timer = setTimeout(() => {
      settle({ seed: task.seed, crash: `it did not end within ${seedMsMax / 1000} s` })
    }, seedMsMax)
    worker.on('message', settle)
    worker.on('exit', exited)
    worker.send(task)
  })
}
