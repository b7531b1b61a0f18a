// Whether this site is still the master, asked of a majority of the members: what a read that must not be stale waits
// for. A master that was paused or cut off does not know that another one has been elected. An ack of its own term,
// for a heartbeat that was sent after the question, says that its sender had voted for nobody else until then; so
// does each of a majority, so nobody else had been elected when the question was asked.
//
// One round serves all questions that came before it began; those that come meanwhile wait for the next.

import type { Progress } from './progress.ts'

interface Round {
  /** Questions up to this one are answered by it. */
  readonly upTo: number
  /** The stamp that each attachment was asked with. */
  readonly asked: Map<number, number>
  readonly heard: Set<string>
}

export class ReignCheck {
  #round: Round | undefined
  #askedTo = 0
  #answeredTo = 0

  /** Questions wait. */
  get isWaiting(): boolean {
    return this.#askedTo > this.#answeredTo
  }

  /** Notes a question, the numbers of which grow. True: a round is to be begun. */
  ask(question: number): boolean {
    this.#askedTo = question
    return this.#round === undefined
  }

  begin(): void {
    this.#round = { upTo: this.#askedTo, asked: new Map(), heard: new Set() }
  }

  /** The heartbeat with this stamp asks the replica, unless it was asked before. */
  asked(progress: Progress, stamp: number): void {
    const asked = this.#round?.asked
    if (asked !== undefined && !asked.has(progress.session)) asked.set(progress.session, stamp)
  }

  isAsked(progress: Progress): boolean {
    return this.#round === undefined || this.#round.asked.has(progress.session)
  }

  heard(progress: Progress, stamp: number): void {
    const round = this.#round
    const asked = round?.asked.get(progress.session)
    if (round !== undefined && asked !== undefined && stamp >= asked) round.heard.add(progress.site)
  }

  /** The last question that is answered now, if the round has come to its end. */
  review(isMajority: (heard: ReadonlySet<string>) => boolean): number | undefined {
    const round = this.#round
    if (round === undefined || !isMajority(round.heard)) return undefined
    this.#round = undefined
    this.#answeredTo = round.upTo
    return round.upTo
  }
}
