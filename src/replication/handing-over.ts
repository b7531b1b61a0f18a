// A master that hands over: writes wait until one replica has everything on its disk and everything is committed; then
// the master gives up its reign, for good, before the replica may take the next one. docs/protocol.md, "Hand-over".
//
// Invariant: the term that is given away is on this disk, as the other site's, before it is told. So there is no
// moment at which both could write, and none at which an acknowledged record is not with whoever writes next. Until
// that point everything can be called off, and the master goes on as if nothing had been asked.

import type { ErrorCode } from '../base/errors.ts'
import type { Attachments } from './attachments.ts'
import type { CoreState } from './core-state.ts'
import type { Progress } from './progress.ts'
import type { Timings } from './timings.ts'

/** Who is to be handed the mastership. */
export interface Heir {
  readonly site: string
  /** Where the site can be reached, if it said. */
  readonly address: string
  readonly deadline: number
}

interface HandOverProblem {
  readonly code: ErrorCode
  readonly message: string
}

/** The hand-over that a master is at, from its being asked for to its end. */
export class HandingOver {
  readonly #state: CoreState
  readonly #attachments: Attachments
  #heir: Heir | undefined
  /** Writers wait since the driver took effects so often. */
  #pausedAtTake: number | undefined

  constructor(state: CoreState, attachments: Attachments) {
    this.#state = state
    this.#attachments = attachments
  }

  get heir(): Heir | undefined {
    return this.#heir
  }

  begin(heir: Heir): void {
    this.#heir = heir
  }

  get #progress(): Progress | undefined {
    return this.#heir === undefined ? undefined : this.#attachments.ofSite(this.#heir.site)
  }

  /** Writers wait as soon as the heir is in step, until it is done or called off. */
  get isPausing(): boolean {
    return this.#progress?.inStep === true
  }

  /** Notes whether writers wait. True: from now on they do. */
  paused(isPausing: boolean): boolean {
    if (!isPausing) this.#pausedAtTake = undefined
    if (!isPausing || this.#pausedAtTake !== undefined) return false
    this.#pausedAtTake = this.#state.takes
    return true
  }

  /** Why it must be called off; undefined while there is hope. */
  get problem(): HandOverProblem | undefined {
    const { now, timings } = this.#state
    const heir = this.#heir
    return heir && handOverProblem(heir, { progress: this.#progress, now, timings })
  }

  /** Tells the heir. True if there was something to call off. */
  callOff(code: ErrorCode, message: string): boolean {
    const progress = this.#progress
    if (progress !== undefined) {
      const { term } = this.#state
      const { peer, session } = progress
      this.#state.send(peer, { type: 'handoverRefused', session, term, code, message })
    }
    return this.#fail(code, message)
  }

  /** The reign has ended, and not by this. */
  failed(message: string): void {
    this.#fail('TRANSFER_FAILED', message)
  }

  /** The reign has ended by this. */
  done(): void {
    this.#heir = undefined
  }

  #fail(code: ErrorCode, message: string): boolean {
    const heir = this.#heir
    if (heir === undefined) return false
    this.#heir = undefined
    this.#state.event({ kind: 'handOverFailed', site: heir.site, code, message })
    return true
  }

  /** The replica that everything has come to; undefined while it has not. */
  get ready(): Progress | undefined {
    const { takes, last, durableLsn, committedLsn } = this.#state
    // The driver has heard that writers wait, and has handed on what it had gathered.
    if (this.#pausedAtTake === undefined || takes === this.#pausedAtTake) return undefined
    const progress = this.#progress
    if (progress === undefined) return undefined
    return isHandOverReady(progress, { lastLsn: last.lsn, durableLsn, committedLsn }) ? progress : undefined
  }
}

function handOverProblem(
  heir: Heir,
  facts: { readonly progress: Progress | undefined; readonly now: number; readonly timings: Timings },
): HandOverProblem | undefined {
  const { progress, now, timings } = facts
  if (progress === undefined) {
    return { code: 'TRANSFER_FAILED', message: `site ${heir.site} is not attached any more` }
  }
  const silentMs = now - progress.heardAt
  if (silentMs > Math.max(timings.electionTimeoutMs, 2 * timings.heartbeatMs)) {
    return {
      code: 'TRANSFER_FAILED',
      message: `nothing was heard of site ${heir.site} for ${silentMs} ms`,
    }
  }
  if (now >= heir.deadline) {
    return { code: 'TRANSFER_FAILED', message: `site ${heir.site} did not catch up in time` }
  }
  return undefined
}

/** The other site has all there is on its disk, and all there is has been committed. */
function isHandOverReady(
  progress: Progress,
  positions: { readonly lastLsn: number; readonly durableLsn: number; readonly committedLsn: number },
): boolean {
  const { lastLsn, durableLsn, committedLsn } = positions
  return (
    progress.state === 'live' &&
    progress.durableLsn === lastLsn &&
    durableLsn === lastLsn &&
    committedLsn === lastLsn
  )
}
