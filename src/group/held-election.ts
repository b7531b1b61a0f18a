// An election that the application asks for (Berkeley DB's rep_elect): one at a time, decided by what the core reports.

import { CoterieError } from '../base/errors.ts'
import { aborted } from '../database/aborted.ts'
import type { ElectionFailure } from '../replication/effects.ts'
import type { Site } from './site.ts'

export type ElectResult =
  /** This site has won: in a group its reign begins, in the Base API with `start('master')`. */
  | { readonly kind: 'elected'; readonly master: string; readonly term: number }
  /** Another site is master. */
  | { readonly kind: 'other'; readonly master: string; readonly term: number }
  | {
      readonly kind: 'unavailable'
      /**
       * `no-majority`: fewer sites were heard than votes are needed; `nobody-electable`: none of them may become
       * master; `no-votes`: too few votes were given; `deferred`: another site has more, and did not take its turn;
       * `leased`: a lease that this site has granted may hold still.
       */
      readonly reason: ElectionFailure
      readonly have: number
      readonly need: number
    }

/** Longer than any election with the largest timeout. */
const electionMsMax = 24 * 3_600_000

export class HeldElection {
  readonly #site: Site
  #decide: ((result: ElectResult) => void) | undefined
  #giveUp: ((error: CoterieError) => void) | undefined

  constructor(site: Site) {
    this.#site = site
  }

  /** INVALID_STATE; what `close` says; ABORTED: then it goes on, and nobody waits for it. */
  async hold(options: { readonly votes?: number; readonly signal?: AbortSignal }): Promise<ElectResult> {
    const { votes, signal } = options
    const site = this.#site
    if (site.engine.failure !== undefined) throw site.engine.failure
    const heard = site.core.heardMaster
    if (heard !== undefined) return { kind: 'other', master: heard.site, term: heard.term }
    if (this.#decide !== undefined) throw new CoterieError('INVALID_STATE', 'elect: an election is under way')
    // Won, and told: the reign has not begun yet.
    const won = site.core.electedTerm
    if (won !== undefined) return { kind: 'elected', master: site.site, term: won }
    const decided = new Promise<ElectResult>((resolve, reject) => {
      this.#decide = resolve
      this.#giveUp = reject
    })
    // Whoever has stopped waiting hears of no end.
    decided.catch(() => undefined)
    // The process stays until it is decided, which every election is: each of its phases has a bound.
    const holds = site.engine.host.timers.after(electionMsMax, () => undefined, { keepsAlive: true })
    try {
      site.attempt(() =>
        site.core.holdElection({ ...(votes === undefined ? {} : { votes }), now: site.now() }),
      )
      return await aborted(decided, signal)
    } catch (error) {
      if (signal?.aborted !== true) this.#decide = undefined
      throw error
    } finally {
      holds.cancel()
    }
  }

  /** Nothing decides it any more. */
  close(why: CoterieError): void {
    const giveUp = this.#decide === undefined ? undefined : this.#giveUp
    this.#decide = undefined
    giveUp?.(why)
  }

  decided(result: ElectResult): void {
    const decide = this.#decide
    this.#decide = undefined
    const isSelf = result.kind === 'other' && result.master === this.#site.site
    decide?.(isSelf ? { ...result, kind: 'elected' } : result)
  }
}
