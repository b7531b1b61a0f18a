// What a message of the application's network came to, as the application is told (Berkeley DB's results of
// rep_process_message).
//
// Invariant: `isPerm` never comes before the sync: it waits for the log's own word. Its LSNs do not fall within a term.

import { isCoterieError } from '../base/errors.ts'
import type { Lsn } from '../base/lsn.ts'
import type { StepResult } from '../replication/effects.ts'
import { decodeMessage } from '../replication/message-codec.ts'
import type { Site } from './site.ts'

/**
 * What a message came to, with the meaning of Berkeley DB's `rep_process_message`.
 *
 * - `ok`: nothing is to be done.
 * - `ignore`: it is of no use any more, or not meant for this site; `reason` is for people.
 * - `isPerm`: every record up to `lsn` is durable here. `lsn` is the largest, whichever message completed it.
 * - `notPerm`: the message had records up to `lsn`, and they are not in the log here: held, or left aside.
 * - `newSite`: a site that was not known; `data` is what it says of itself.
 * - `holdElection`: another site wants an election: call `elect`.
 * - `dupMaster`: another site is master. In a later term: this one has stepped down; call `elect`, or do nothing. In the
 *   same term, which only `start('master')` without an election brings about: both go on, until `start('replica')`.
 * - `joinFailure`: this site cannot follow the master; `reason` says why, and nothing was changed.
 * - `wouldRewind`: the master lacks what this site has after `lsn`, and `autoRewind` is false.
 */
export type ProcessResult =
  | { readonly kind: 'ok' | 'dupMaster' | 'holdElection' }
  | { readonly kind: 'ignore'; readonly reason: string }
  | { readonly kind: 'isPerm' | 'notPerm' | 'wouldRewind'; readonly lsn: number }
  | { readonly kind: 'newSite'; readonly site: string; readonly data: Uint8Array }
  | { readonly kind: 'joinFailure'; readonly code: string; readonly reason: string }

export class MessageResults {
  readonly #site: Site
  /** Sites that the application has been told of. */
  readonly #known = new Set<string>()
  /** The last `isPerm`. */
  #told: { readonly term: number; readonly lsn: number } = { term: 0, lsn: 0 }

  constructor(site: Site) {
    this.#site = site
  }

  /** Sites that were new. */
  get newSites(): number {
    return this.#known.size
  }

  /** `result` is what the core said of the message. Rejects with the failure of the log. */
  async of(result: StepResult, control: Uint8Array): Promise<ProcessResult> {
    switch (result.kind) {
      case 'isPerm':
        return await this.#whenPermanent(result.lsn)
      case 'ok':
        return this.#newlyPermanent() ?? { kind: 'ok' }
      case 'ignore': {
        const lsn = this.#skippedLsn(control)
        return lsn === undefined ? result : { kind: 'notPerm', lsn }
      }
      case 'newSite':
        // A Join tells less than the greeting before it did.
        if (this.#known.has(result.site)) return { kind: 'ok' }
        this.#known.add(result.site)
        return result
      default:
        return result
    }
  }

  /** Never before the sync. */
  async #whenPermanent(lsn: Lsn): Promise<ProcessResult> {
    const { engine, core } = this.#site
    try {
      await engine.parts.log.whenDurable(lsn)
    } catch (error) {
      if (engine.failure !== undefined) throw engine.failure
      if (!isCoterieError(error)) throw error
      return { kind: 'notPerm', lsn }
    }
    // A new master may have had it undone meanwhile.
    return core.durableLsn < lsn ? { kind: 'notPerm', lsn } : this.#isPerm(core.durableLsn)
  }

  /** What has become durable here by no record of its own: a snapshot has brought it. */
  #newlyPermanent(): ProcessResult | undefined {
    const { durableLsn, term, isSynced } = this.#site.core
    const told = this.#told.term === term ? this.#told.lsn : 0
    // Before it is in step its log may have a tail that the master does not know.
    return !isSynced || durableLsn <= told ? undefined : this.#isPerm(durableLsn)
  }

  #isPerm(lsn: number): ProcessResult {
    this.#told = { term: this.#site.core.term, lsn }
    return { kind: 'isPerm', lsn }
  }

  /** Of records that came when they could not be taken - before the attach, in its midst - and are not here. */
  #skippedLsn(control: Uint8Array): number | undefined {
    const decoded = decodeMessage(control)
    if (!decoded.ok || decoded.message.type !== 'append') return undefined
    const { term, lastLsn } = decoded.message
    const { core } = this.#site
    return term >= core.term && lastLsn > core.lastLsn ? lastLsn : undefined
  }
}
