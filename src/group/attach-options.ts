// The options of `attachMaster`, and their checks.

import { abortSignal, anything, type OptionRules, objectOf, truth, wholeNumber } from '../base/options.ts'
import { type LinkOptions, linkRules } from '../transport/link-options.ts'
import type { TakeOverOptions } from './taking-over.ts'

export interface AttachOptions extends LinkOptions {
  /** Stops at once when it aborts; `stopped` then says `cancelled`. */
  readonly signal?: AbortSignal
  /** How long the master may take to answer. Default 10,000; then CONNECT_TIMEOUT. */
  readonly connectTimeoutMs?: number
  /** How long the handshake may take. Default 60,000. */
  readonly initialTimeoutMs?: number
  /** The attachment ends when nothing is heard of the master for so long. Default: what the master says. */
  readonly silenceTimeoutMs?: number
  /** Sets local data of another history aside, where else the attach is refused. Nothing is deleted. */
  readonly replace?: boolean
  /** Commits of an asynchronous master wait for this replica too (eXtremeDB's FORCE_SYNC). */
  readonly sync?: boolean
  /**
   * Becomes master once it is synchronised (eXtremeDB's FORCE_MASTER): `stopped` then says `became-master`. With
   * `listen` this database serves from then on (`db.master`).
   */
  readonly takeOver?: true | TakeOverOptions
  /** How received transactions are gathered into one change of the store. */
  readonly applyBatch?: { readonly transactions?: number; readonly bytes?: number; readonly delayMs?: number }
}

export const attachRules: OptionRules = {
  ...linkRules,
  signal: abortSignal,
  connectTimeoutMs: wholeNumber(1),
  initialTimeoutMs: wholeNumber(1),
  silenceTimeoutMs: wholeNumber(10),
  replace: truth,
  sync: truth,
  // Its own rules are checked by `checkTakeOver`, with better words.
  takeOver: anything,
  applyBatch: objectOf({
    transactions: wholeNumber(1, 1_000_000),
    bytes: wholeNumber(1),
    delayMs: wholeNumber(0, 60_000),
  }),
}
