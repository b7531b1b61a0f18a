// What the master has said is committed and permanent. It may speak of records that are still on the way: what is
// learned here goes at most up to the end of the log.

import { type Lsn, noLsn } from '../base/lsn.ts'
import type { Attest } from '../base/policy.ts'
import type { CoreState } from './core-state.ts'

export class HeardCommit {
  readonly #state: CoreState
  #committedLsn = noLsn
  #permanentLsn = noLsn

  constructor(state: CoreState) {
    this.#state = state
  }

  hear({ committedLsn, permanentLsn }: { readonly committedLsn: Lsn; readonly permanentLsn: Lsn }): void {
    if (committedLsn > this.#committedLsn) this.#committedLsn = committedLsn
    if (permanentLsn > this.#permanentLsn) this.#permanentLsn = permanentLsn
  }

  /** To be called when something was heard, or the log has grown. */
  learn(attest: Attest): void {
    const { last } = this.#state
    const committedLsn = Math.min(this.#committedLsn, last.lsn) as Lsn
    const permanentLsn = Math.min(this.#permanentLsn, last.lsn) as Lsn
    // Where acks attest what was applied, waiting for the commit before applying would be waiting for oneself.
    const applyLsn = attest === 'applied' ? last.lsn : committedLsn
    this.#state.advance({ committedLsn, permanentLsn, applyLsn })
  }
}
