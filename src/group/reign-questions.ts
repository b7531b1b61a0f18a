// Readers that must not read from a master that was unseated without knowing it: each asks, and waits until the core has
// heard from a majority that this site was still master when it asked.

import { CoterieError } from '../base/errors.ts'
import type { SiteSteps } from './site-steps.ts'

interface Asker {
  readonly question: number
  readonly resolve: () => void
  readonly reject: (error: CoterieError) => void
}

export class ReignQuestions {
  readonly #site: SiteSteps
  #question = 0
  /** In the order of their questions. */
  #askers: Asker[] = []

  constructor(site: SiteSteps) {
    this.#site = site
  }

  /** NOT_MASTER if the reign ends before the answer is there. */
  ask(): Promise<void> {
    return new Promise((resolve, reject) => {
      const question = ++this.#question
      this.#askers.push({ question, resolve, reject })
      this.#site.step(() => this.#site.core.confirmReign({ question, now: this.#site.now() }))
    })
  }

  /** The core has the answer to all questions up to this one. */
  confirmed(question: number): void {
    const answered = this.#askers.filter((asker) => asker.question <= question)
    this.#askers = this.#askers.filter((asker) => asker.question > question)
    for (const asker of answered) asker.resolve()
  }

  reignOver(why: string): void {
    const askers = this.#askers
    this.#askers = []
    for (const asker of askers) asker.reject(new CoterieError('NOT_MASTER', why))
  }
}
