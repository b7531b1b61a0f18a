// A site of a group in a worker of the bench: it commits without a pause while it is master, and remembers when the
// first commit of each of its reigns was acknowledged.

import type { Database, Group } from '../src/index.ts'
import { Draw, makeKeys, makeValues } from './rows.ts'
import type { FirstCommit, GroupLoad } from './worker-calls.ts'

/** What commits end with when the site is master no more. */
const endsReign: ReadonlySet<unknown> = new Set(['NOT_MASTER', 'NO_MASTER', 'OUTCOME_UNKNOWN'])

interface Waiter {
  readonly after: number
  readonly resolve: (commit: FirstCommit) => void
}

export class GroupWorker {
  readonly #db: Database
  readonly #load: GroupLoad
  readonly #keys: readonly string[]
  readonly #values: readonly string[]
  #group: Group | undefined
  #reign: { readonly term: number; readonly electedAt: number; commits: number } | undefined
  #waiters: Waiter[] = []

  constructor(db: Database, load: GroupLoad) {
    this.#db = db
    this.#load = load
    this.#keys = makeKeys(load.keys)
    this.#values = makeValues(load.valueBytes)
  }

  /** Resolves with the address when this site has its data. */
  async join(options: { listen: string; seeds: readonly string[] }): Promise<string> {
    const group = await this.#db.join(options)
    this.#group = group
    group.on('master', ({ term }) => this.#begin(term))
    if (group.role === 'master') this.#begin(group.term)
    await group.ready
    return group.addresses[0] as string
  }

  firstCommit(after: number): Promise<FirstCommit> {
    return new Promise((resolve) => {
      this.#waiters.push({ after, resolve })
    })
  }

  reign(): { isMaster: boolean; term: number; commits: number } {
    const isMaster = this.#group?.role === 'master'
    return { isMaster, term: this.#reign?.term ?? 0, commits: this.#reign?.commits ?? 0 }
  }

  #begin(term: number): void {
    if (this.#reign?.term === term) return
    this.#reign = { term, electedAt: performance.now(), commits: 0 }
    for (let committer = 0; committer < this.#load.committers; committer++) {
      void this.#commit(term, new Draw(this.#keys.length, committer + 1))
    }
  }

  /** Ends with the reign; any other error ends the worker, and with it the bench. */
  async #commit(term: number, draw: Draw): Promise<void> {
    try {
      for (let turn = 0; this.#reign?.term === term; turn++) {
        await this.#db.put(this.#keys[draw.next()] as string, this.#values[turn & 1023] as string)
        this.#committed(term)
      }
    } catch (error) {
      const { code } = error as { readonly code?: unknown }
      if (!endsReign.has(code)) throw error
    }
  }

  #committed(term: number): void {
    const reign = this.#reign
    if (reign === undefined || reign.term !== term) return
    reign.commits++
    if (reign.commits > 1) return
    const commit = { term, sinceElectedMs: performance.now() - reign.electedAt }
    const due = this.#waiters.filter((waiter) => waiter.after < term)
    this.#waiters = this.#waiters.filter((waiter) => waiter.after >= term)
    for (const { resolve } of due) resolve(commit)
  }
}
