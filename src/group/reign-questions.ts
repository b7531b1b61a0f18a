// Readers that must not read from a master that was unseated without knowing it. Where its lease holds, nobody else can
// have been elected. Else each asks, and waits until the core has heard from a majority that this site was still master
// when it asked.

import { CoterieError, isCoterieError } from '../base/errors.ts'
import { aborted } from '../database/aborted.ts'
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

  /**
   * Whoever reads after it reads nothing older than what was committed anywhere when it was called: what earlier masters
   * committed is committed here together with the first record of this reign. It need not be looked at again after the
   * read: a master that is elected in between commits only what comes later. LEASE_EXPIRED, NO_QUORUM, NOT_MASTER,
   * ABORTED.
   */
  async newest(signal: AbortSignal | undefined): Promise<void> {
    const { engine, core } = this.#site
    const { reignLsn } = core
    if (reignLsn === undefined) throw new CoterieError('NOT_MASTER', 'the reign of this site has not begun')
    const timeUp = new AbortController()
    const timer = engine.host.timers.after(engine.ackTimeoutMs, () => timeUp.abort())
    // Whichever ends the wait, nothing of it is left behind.
    const end = signal === undefined ? timeUp.signal : AbortSignal.any([timeUp.signal, signal])
    try {
      const asked = core.mayBeDeposed ? this.ask() : undefined
      await aborted(Promise.all([asked, engine.whenCommitted(reignLsn, end)]), end)
    } catch (error) {
      if (!timeUp.signal.aborted || !isCoterieError(error, 'ABORTED')) throw error
      throw this.#tooFew(error)
    } finally {
      timer.cancel()
    }
  }

  #tooFew(cause: CoterieError): CoterieError {
    const { engine, core } = this.#site
    const message = `no majority of the sites has confirmed within ${engine.ackTimeoutMs} ms that this one is still master`
    return new CoterieError(core.hasLeases ? 'LEASE_EXPIRED' : 'NO_QUORUM', message, { cause })
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
