// The one loop that runs what the core asks for: the core is told something, and then its effects are run, in order.
//
// Here is held that no vote and no new term leaves this site before it is on disk, and by shape: `persist` is a barrier.
// While its save is under way the loop stands still, so nothing that the core has left behind it - a vote, a message of
// the new term, a record - has any way out. An ack needs no barrier: what it says to be durable the core knows from
// `Site.durable` alone, that is after the sync.
//
// How it fails: an error thrown by the core or by an effect, and a state file that cannot be written, fail the engine.
// The site then takes no more writes, and nothing behind the barrier is ever run.

import { type CoterieError, isCoterieError } from '../base/errors.ts'
import type { Engine } from '../database/engine.ts'
import type { Effect } from '../replication/effects.ts'
import type { Standing } from './standing.ts'

type Persist = Extract<Effect, { kind: 'persist' }>

export interface EffectLoopOptions {
  readonly engine: Engine
  /** Where terms and votes are made durable. */
  readonly standing: Standing
  /** What the core has left since it was last asked. */
  readonly takeEffects: () => readonly Effect[]
  /** Runs one effect, at once; what takes longer is begun, and answers the core by a later step. */
  readonly perform: (effect: Exclude<Effect, Persist>) => void
  /** All is run that could be. */
  readonly onSettled: () => void
}

export class EffectLoop {
  readonly #options: EffectLoopOptions
  readonly #engine: Engine
  #effects: readonly Effect[] = []
  #effectAt = 0
  #settling = false
  /** A `persist` is on its way to the disk. */
  #barrier = false
  #idleWaiters: (() => void)[] = []

  constructor(options: EffectLoopOptions) {
    this.#options = options
    this.#engine = options.engine
  }

  /** Tells the core something and runs what follows from it. A thrown error stops the site. */
  step(tell: () => unknown): void {
    if (this.#engine.failure !== undefined) return
    try {
      tell()
    } catch (error) {
      this.#engine.fail(error)
      return
    }
    this.#settle()
  }

  /** As `step`, where the core may say no: its refusal is the caller's, and the site goes on. */
  attempt(tell: () => unknown): void {
    let refusal: CoterieError | undefined
    this.step(() => {
      try {
        tell()
      } catch (error) {
        if (!isCoterieError(error)) throw error
        refusal = error
      }
    })
    if (refusal !== undefined) throw refusal
  }

  #settle(): void {
    if (this.#settling || this.#barrier) return
    this.#settling = true
    try {
      while (!this.#barrier && this.#nextEffects()) {
        const effect = this.#effects[this.#effectAt++] as Effect
        if (effect.kind === 'persist') this.#persist(effect)
        else this.#options.perform(effect)
      }
    } catch (error) {
      this.#engine.fail(error)
    } finally {
      this.#settling = false
    }
    if (!this.#barrier) this.wakeIdle()
    this.#options.onSettled()
  }

  #nextEffects(): boolean {
    if (this.#effectAt < this.#effects.length) return true
    this.#effects = this.#options.takeEffects()
    this.#effectAt = 0
    return this.#effects.length > 0
  }

  #persist(effect: Persist): void {
    this.#barrier = true
    const { term, master: termMaster, vote, promiseMs } = effect
    const promised = { term, termMaster, vote, promiseMs }
    this.#options.standing.saveWhenRoom(promised).then(
      () => {
        this.#barrier = false
        this.#settle()
      },
      (error: unknown) => {
        this.#barrier = false
        this.#engine.fail(error)
        this.wakeIdle()
      },
    )
  }

  /** Resolves when every effect so far has been run, barriers included. */
  async idle(): Promise<void> {
    // Asked from within an effect: those behind it come first, and one of them may be a barrier.
    if (this.#settling) await Promise.resolve()
    this.#settle()
    while (this.#barrier && this.#engine.failure === undefined) {
      await new Promise<void>((resolve) => {
        this.#idleWaiters.push(resolve)
      })
      this.#engine.assertOpen()
    }
    if (this.#engine.failure !== undefined) throw this.#engine.failure
  }

  /** Whoever waits in `idle` looks again: the loop has come through, or the site has failed. */
  wakeIdle(): void {
    const waiters = this.#idleWaiters
    this.#idleWaiters = []
    for (const wake of waiters) wake()
  }
}
