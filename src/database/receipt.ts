// What a commit resolves to.

import type { Lsn, Term } from '../base/lsn.ts'
import { makeToken } from './token.ts'

/** Facts that all receipts of one reign share, so that a receipt itself stays small. */
export interface Reign {
  readonly databaseId: string
  readonly site: string
  readonly term: Term
}

export const nobody: readonly string[] = []

/** Proof of a commit: where its record stands and how many sites had it when it resolved. */
export class Receipt {
  /** The commit's LSN. A transaction that wrote nothing has that of the state it read. */
  readonly lsn: Lsn
  /** Sites, this one included, known to have the record as the group's `attest` asks when the commit resolved. */
  readonly acks: number
  /** Sites that were detached while this commit waited for them (eXtremeDB's code 433). */
  readonly detached: readonly string[]
  readonly #reign: Reign

  constructor(lsn: Lsn, reign: Reign, acks: number, detached: readonly string[]) {
    this.lsn = lsn
    this.acks = acks
    this.detached = detached
    this.#reign = reign
  }

  get term(): Term {
    return this.#reign.term
  }

  /** Names this commit on every site, for ever: see `outcome()` and `get(key, { after })`. */
  get token(): string {
    const { databaseId, site, term } = this.#reign
    return makeToken({ databaseId, lsn: this.lsn, term, site })
  }

  toJSON(): { lsn: number; term: number; token: string; acks: number; detached: readonly string[] } {
    return { lsn: this.lsn, term: this.term, token: this.token, acks: this.acks, detached: this.detached }
  }
}
