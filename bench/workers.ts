// The worker processes of one bench, and the folder that they write to. Whatever happens, `end` leaves neither behind.

import { type ChildProcess, fork } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { WorkerAnswer, WorkerCalls } from './worker-calls.ts'

interface Waiting {
  readonly resolve: (result: unknown) => void
  readonly reject: (error: Error) => void
}

export class Worker {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, Waiting>()
  readonly #exited: Promise<void>
  #lastId = 0

  constructor() {
    this.#child = fork(fileURLToPath(new URL('./worker.ts', import.meta.url)), {
      execArgv: ['--import', import.meta.resolve('tsx')],
      serialization: 'advanced',
    })
    this.#child.on('message', (message) => {
      const answer = message as WorkerAnswer
      const waiting = this.#waiting.get(answer.id)
      this.#waiting.delete(answer.id)
      if ('error' in answer) waiting?.reject(new Error(answer.error))
      else waiting?.resolve(answer.result)
    })
    this.#exited = new Promise((resolve) => {
      this.#child.on('exit', (code, signal) => {
        const error = new Error(`a worker ended (code ${code}, signal ${signal})`)
        for (const waiting of this.#waiting.values()) waiting.reject(error)
        this.#waiting.clear()
        resolve()
      })
    })
  }

  call<Verb extends keyof WorkerCalls>(
    verb: Verb,
    ...argument: Parameters<WorkerCalls[Verb]>
  ): Promise<ReturnType<WorkerCalls[Verb]>> {
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve: (result) => resolve(result as ReturnType<WorkerCalls[Verb]>), reject })
      this.#child.send({ id, verb, argument: argument[0] }, (error) => {
        if (error === null) return
        this.#waiting.delete(id)
        reject(error)
      })
    })
  }

  /** It stands still: nothing tells the others, not even the end of a connection. */
  freeze(): void {
    this.#child.kill('SIGSTOP')
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGKILL')
    await this.#exited
  }
}

export class Workers {
  readonly folder: string
  readonly #workers: Worker[] = []

  constructor(parent: string) {
    this.folder = mkdtempSync(join(parent, 'coterie-bench-'))
  }

  start(): Worker {
    const worker = new Worker()
    this.#workers.push(worker)
    return worker
  }

  path(name: string): string {
    return join(this.folder, name)
  }

  async end(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.kill()))
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  }
}

/** Gives `body` its workers and takes them back. */
export async function withWorkers<T>(parent: string, body: (workers: Workers) => Promise<T>): Promise<T> {
  const workers = new Workers(parent)
  const interrupted = (): void => {
    void workers.end().then(() => process.exit(130))
  }
  process.once('SIGINT', interrupted)
  try {
    return await body(workers)
  } finally {
    process.off('SIGINT', interrupted)
    await workers.end()
  }
}
