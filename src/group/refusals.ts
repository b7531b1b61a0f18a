// When a refusal is final. A group turns a site away for what it is - removed, wiped, of another history - but any one
// answer may come from a site that is itself behind. So a site gives up only when it was never taken in and is told so
// again and again; that it was removed it believes at once, since only an operator does that.

import type { ErrorCode } from '../base/errors.ts'
import { mayGoOnAlone } from '../base/membership.ts'
import type { Site } from './site.ts'

/** No waiting helps against these. */
const lasting: ReadonlySet<ErrorCode> = new Set(['SITE_WIPED', 'FOREIGN_HISTORY', 'REWIND_REFUSED'])
const timesMin = 3
/** The same refusal is told again after so long. */
const tellAgainMs = 5_000

export class Refusals {
  readonly #site: Site
  readonly #electionTimeoutMs: number
  #wasTakenIn = false
  #count = 0
  #firstAt = 0
  #told: { readonly code: ErrorCode; readonly at: number } | undefined

  constructor(options: { readonly site: Site; readonly electionTimeoutMs: number }) {
    this.#site = options.site
    this.#electionTimeoutMs = options.electionTimeoutMs
  }

  /** A master has accepted this site, or it reigns itself. */
  takenIn(): void {
    this.#wasTakenIn = true
    this.#count = 0
    this.#told = undefined
  }

  /** What to make of a refusal. */
  refused(code: ErrorCode): { readonly isNews: boolean; readonly isFinal: boolean } {
    const now = this.#site.now()
    const told = this.#told
    const isNews = told?.code !== code || now - told.at >= tellAgainMs
    if (isNews) this.#told = { code, at: now }
    // Whoever is heard as master has not turned it away; others may be strangers.
    const { core, site } = this.#site
    const heard = core.heardMaster
    // But of two that went on alone the other one may have taken this one off the list, which reigns all the same.
    const isAlone = heard?.site === site && mayGoOnAlone(core.membership)
    if (heard !== undefined && !(isAlone && code === 'MEMBER_REMOVED')) return { isNews, isFinal: false }
    if (code === 'MEMBER_REMOVED') return { isNews, isFinal: true }
    if (!lasting.has(code) || this.#wasTakenIn) return { isNews, isFinal: false }
    if (this.#count === 0) this.#firstAt = now
    this.#count++
    const isFinal = this.#count >= timesMin && now - this.#firstAt >= 2 * this.#electionTimeoutMs
    return { isNews, isFinal }
  }
}
