// A node process that a test starts, talks to over IPC, and kills. Whatever happens, it is gone when the test ends.
// What it wrote to stderr is in the error of whoever waited for it in vain.

import { type ChildProcess, fork } from 'node:child_process'
import { existsSync } from 'node:fs'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { atEnd } from './at-end.ts'

export interface ChildOptions {
  readonly args?: readonly string[]
  /** Added to the environment of the test. */
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  /** Runs in this network namespace of Linux; needs the right to enter it. */
  readonly namespace?: string
}

export interface ChildExit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface NextOptions {
  readonly what: string
  /** Default 20,000. */
  readonly timeoutMs?: number
}

/**
 * Starts `script`: a path, or a URL such as `new URL('./child.ts', import.meta.url)`. TypeScript runs through tsx; from
 * the compiled copy of the tests, what stands beside it is compiled too.
 */
export function startChild(t: TestContext, script: string | URL, options: ChildOptions = {}): Child {
  const named = script instanceof URL ? fileURLToPath(script) : script
  const path = existsSync(named) ? named : named.replace(/\.ts$/, '.js')
  const loader = path.endsWith('.ts') ? ['--import', import.meta.resolve('tsx')] : []
  const { namespace } = options
  // `ip` enters the namespace and becomes node: the id of the process, signals and IPC are as without it.
  const start =
    namespace === undefined
      ? { execArgv: loader }
      : { execPath: 'ip', execArgv: ['netns', 'exec', namespace, process.execPath, ...loader] }
  const child = fork(path, [...(options.args ?? [])], {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    ...start,
    serialization: 'advanced',
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  const wrapped = new Child(child)
  atEnd(t, async () => {
    await wrapped.kill()
  })
  return wrapped
}

export class Child {
  /** Resolves when the process has ended and all that it wrote is read; never rejects. */
  readonly exited: Promise<ChildExit>
  readonly #child: ChildProcess
  readonly #messages: unknown[] = []
  #wake: () => void = () => {}
  #exit: ChildExit | undefined
  #stdout = ''
  #stderr = ''

  constructor(child: ChildProcess) {
    this.#child = child
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout += text
    })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text
    })
    child.on('message', (message) => {
      this.#messages.push(message)
      this.#wake()
    })
    this.exited = new Promise((resolve) => {
      const end = (exit: ChildExit): void => {
        this.#exit = exit
        this.#wake()
        resolve(exit)
      }
      child.on('close', (code, signal) => end({ code, signal }))
      child.on('error', (error) => {
        this.#stderr += `${error}\n`
        if (child.pid === undefined) end({ code: null, signal: null })
      })
    })
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  get stdout(): string {
    return this.#stdout
  }

  get stderr(): string {
    return this.#stderr
  }

  /** A message to the child: anything that can be cloned. */
  send(message: object | string | number | boolean): void {
    this.#child.send(message)
  }

  /**
   * The next message from the child that nobody has taken yet. Messages that came before the process ended are still
   * handed out. One caller at a time. Throws, with the child's stderr, when it ends or stays silent instead.
   */
  async next<Message = unknown>({ what, timeoutMs = 20_000 }: NextOptions): Promise<Message> {
    let timedOut = false
    const timer = setTimeout(() => {
      timedOut = true
      this.#wake()
    }, timeoutMs)
    try {
      while (this.#messages.length === 0) {
        if (this.#exit !== undefined) throw this.#failure(`ended instead of ${what}`)
        if (timedOut) throw this.#failure(`was silent for ${timeoutMs} ms instead of ${what}`)
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
      }
      return this.#messages.shift() as Message
    } finally {
      clearTimeout(timer)
    }
  }

  /** Sends the signal to this process alone and waits for its end. Nothing happens if it has ended. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<ChildExit> {
    if (this.#exit === undefined) this.#child.kill(signal)
    return await this.exited
  }

  #failure(what: string): Error {
    const how = this.#exit === undefined ? '' : ` (code ${this.#exit.code}, signal ${this.#exit.signal})`
    return new Error(`the child ${this.pid} ${what}${how}; its stderr:\n${this.#stderr || '(nothing)'}`)
  }
}
