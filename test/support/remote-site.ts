// A site in a process of its own, as a test holds it: calls go there and come back, receipts arrive as they are made,
// and the process can be killed, frozen, and started again on its folder.

import type { TestContext } from 'node:test'
import { type Child, type ChildExit, startChild } from './child.ts'
import type { Settled, SiteAnswer, SiteCalls, SiteNotice } from './site-messages.ts'
import { waitUntil } from './wait-until.ts'

const script = new URL('./site-process.ts', import.meta.url)
const callTimeoutMs = 90_000
const silenceMs = 3_600_000

/** The site's answer with an error. */
export class RemoteError extends Error {
  readonly code: string | undefined

  constructor(message: string, code: string | undefined) {
    super(message)
    this.code = code
  }
}

interface Waiting {
  readonly resolve: (result: unknown) => void
  readonly reject: (error: Error) => void
}

export interface RemoteSiteOptions {
  readonly name: string
  /** The network namespace that its process runs in; default that of the test. */
  readonly namespace?: string
  /** Called in the order of arrival. */
  readonly onNotice?: (notice: SiteNotice) => void
}

export class RemoteSite {
  readonly name: string
  readonly acknowledged: Settled[] = []
  readonly unknown: Settled[] = []
  /** All but receipts. */
  readonly notices: SiteNotice[] = []
  readonly #child: Child
  readonly #onNotice: (notice: SiteNotice) => void
  readonly #waiting = new Map<number, Waiting>()
  readonly #pumping: Promise<void>
  #lastId = 0
  #ended = false

  constructor(t: TestContext, options: RemoteSiteOptions) {
    this.name = options.name
    this.#onNotice = options.onNotice ?? ((): void => undefined)
    const { namespace } = options
    this.#child = startChild(t, script, namespace === undefined ? {} : { namespace })
    this.#pumping = this.#pump()
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  get hasEnded(): boolean {
    return this.#ended
  }

  get stderr(): string {
    return this.#child.stderr
  }

  async #pump(): Promise<void> {
    for (;;) {
      let message: SiteAnswer | SiteNotice
      try {
        message = await this.#child.next({ what: 'a message', timeoutMs: silenceMs })
      } catch (error) {
        this.#ended = true
        for (const waiting of this.#waiting.values()) waiting.reject(error as Error)
        this.#waiting.clear()
        return
      }
      if ('id' in message) this.#settle(message)
      else this.#take(message)
    }
  }

  #settle(answer: SiteAnswer): void {
    const waiting = this.#waiting.get(answer.id)
    this.#waiting.delete(answer.id)
    if ('result' in answer) waiting?.resolve(answer.result)
    else waiting?.reject(new RemoteError(`${this.name}: ${answer.error.message}`, answer.error.code))
  }

  #take(notice: SiteNotice): void {
    if (notice.notice === 'acknowledged') this.acknowledged.push(...notice.commits)
    else if (notice.notice === 'unknown') this.unknown.push(...notice.commits)
    else this.notices.push(notice)
    this.#onNotice(notice)
  }

  /** Rejects with a `RemoteError`, or with the child's stderr when it ends or does not answer. */
  async call<Verb extends keyof SiteCalls>(
    verb: Verb,
    ...argument: Parameters<SiteCalls[Verb]>
  ): Promise<ReturnType<SiteCalls[Verb]>> {
    if (this.#ended) throw new Error(`${this.name} has ended; its stderr:\n${this.stderr}`)
    const id = ++this.#lastId
    const answered = new Promise<unknown>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
    })
    this.#child.send({ id, verb, argument: argument[0] })
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      const fail = (): void =>
        reject(new Error(`${this.name} did not answer '${verb}' in ${callTimeoutMs} ms`))
      timer = setTimeout(fail, callTimeoutMs)
    })
    try {
      return (await Promise.race([answered, late])) as ReturnType<SiteCalls[Verb]>
    } finally {
      clearTimeout(timer)
    }
  }

  /** Every message that it sent before is read when this resolves. */
  async kill(): Promise<ChildExit> {
    const exit = await this.#child.kill('SIGKILL')
    await this.#pumping
    return exit
  }

  /** Stops the process where it stands; it keeps its sockets and its lock. */
  freeze(): void {
    process.kill(this.pid as number, 'SIGSTOP')
  }

  thaw(): void {
    process.kill(this.pid as number, 'SIGCONT')
  }

  /** Waits for a notice that has not been seen before `since` notices were there. */
  async noticed(
    wanted: (notice: SiteNotice) => boolean,
    options: { readonly what: string; readonly since?: number; readonly timeoutMs?: number },
  ): Promise<SiteNotice> {
    const { what, since = 0, timeoutMs = 60_000 } = options
    let found: SiteNotice | undefined
    const looked = (): boolean => {
      found = this.notices.slice(since).find(wanted)
      if (found === undefined && this.#ended) throw new Error(`${this.name} ended before ${what}`)
      return found !== undefined
    }
    try {
      await waitUntil(looked, { what: `site ${this.name} is ${what}`, timeoutMs })
    } catch (error) {
      throw new Error(`${(error as Error).message}; it said ${this.#lately}; its stderr:\n${this.stderr}`, {
        cause: error,
      })
    }
    return found as SiteNotice
  }

  get #lately(): string {
    return JSON.stringify(this.notices.slice(-5)).slice(0, 2000)
  }
}
