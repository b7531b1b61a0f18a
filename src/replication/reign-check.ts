// Whether this site is still the master, asked of a majority of the members: what a read that must not be stale waits
// for. A master that was paused or cut off does not know that another one has been elected. An ack of its own term,
// for a heartbeat that was sent after the question, says that its sender had voted for nobody else until then; so
// does each of a majority, so nobody else had been elected when the question was asked.
//
// One round serves all questions that came before it began; those that come meanwhile wait for the next.

import type { Attachments } from './attachments.ts'
import type { CoreState } from './core-state.ts'
import type { Progress } from './progress.ts'
import type { Voters } from './voters.ts'

interface Round {
  /** Questions up to this one are answered by it. */
  readonly upTo: number
  /** The stamp that each attachment was asked with. */
  readonly asked: Map<number, number>
  readonly heard: Set<string>
}

interface ReignCheckOptions {
  readonly state: CoreState
  readonly voters: Voters
  readonly attachments: Attachments
  /** Sends a replica a heartbeat that it acknowledges at once. */
  readonly ask: (progress: Progress) => void
}

export class ReignCheck {
  readonly #options: ReignCheckOptions
  #round: Round | undefined
  #askedTo = 0
  #answeredTo = 0

  constructor(options: ReignCheckOptions) {
    this.#options = options
  }

  /** Questions wait. */
  get #isWaiting(): boolean {
    return this.#askedTo > this.#answeredTo
  }

  /** The numbers of questions grow. Answered by the effect `reignConfirmed` with this one or a later one, or by none. */
  confirm(question: number): void {
    this.#askedTo = question
    if (this.#round === undefined) this.#begin()
  }

  #begin(): void {
    const { attachments, ask } = this.#options
    this.#round = { upTo: this.#askedTo, asked: new Map(), heard: new Set() }
    for (const progress of attachments.all()) if (progress.votes) ask(progress)
    this.#review()
  }

  /** The heartbeat with this stamp asks the replica, unless it was asked before. */
  asked(progress: Progress, stamp: number): void {
    const asked = this.#round?.asked
    if (asked !== undefined && !asked.has(progress.session)) asked.set(progress.session, stamp)
  }

  /** A replica that votes has not been asked in this round: it attached meanwhile. */
  isToBeAsked(progress: Progress): boolean {
    return progress.votes && this.#round?.asked.has(progress.session) === false
  }

  heard(progress: Progress, stamp: number): void {
    if (!this.#isWaiting) return
    const round = this.#round
    const asked = round?.asked.get(progress.session)
    if (round !== undefined && asked !== undefined && stamp >= asked) round.heard.add(progress.site)
    this.#review()
  }

  /** Answers, if the round has come to its end. */
  #review(): void {
    const { state, voters } = this.#options
    const round = this.#round
    if (round === undefined || !voters.areMajority((site) => round.heard.has(site))) return
    this.#round = undefined
    this.#answeredTo = round.upTo
    state.emit({ kind: 'reignConfirmed', question: round.upTo })
    if (this.#isWaiting) this.#begin()
  }
}
