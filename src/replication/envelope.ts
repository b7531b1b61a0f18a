// What every message begins with.

import type { Term } from '../base/lsn.ts'

export interface Envelope {
  /** Of the attachment that it belongs to; 0 where it belongs to none. */
  readonly session: number
  /** The sender's. */
  readonly term: Term
}
