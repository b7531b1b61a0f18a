// The options of `attachMaster`, and their checks.

import { CoterieError } from '../base/errors.ts'
import { abortSignal, checkOptions, type OptionRules, objectOf, truth, wholeNumber } from '../base/options.ts'
import { type LinkOptions, linkRules } from '../transport/link-options.ts'
import type { TakeOverOptions } from './taking-over.ts'
import { type ViewOption, viewRule } from './views.ts'

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
  /**
   * Makes this site a view, for ever: it is never counted by a policy or a quorum, and never becomes master. `true`: with
   * every store; `{ filter(store) }`: with those only that the filter answers true for. Default: a participant, or what
   * the database is already. A partial view is given its filter at each attach. See docs/views.md.
   */
  readonly view?: ViewOption
  /** How received transactions are gathered into one change of the store. */
  readonly applyBatch?: { readonly transactions?: number; readonly bytes?: number; readonly delayMs?: number }
}

const attachRules: OptionRules = {
  ...linkRules,
  signal: abortSignal,
  connectTimeoutMs: wholeNumber(1),
  initialTimeoutMs: wholeNumber(1),
  silenceTimeoutMs: wholeNumber(10),
  replace: truth,
  sync: truth,
  view: viewRule,
  // Its own rules are checked by `checkTakeOver`, with better words.
  takeOver: (value) =>
    value === true || (typeof value === 'object' && value !== null)
      ? undefined
      : 'true, or an object of options of serve()',
  applyBatch: objectOf({
    transactions: wholeNumber(1, 1_000_000),
    bytes: wholeNumber(1),
    delayMs: wholeNumber(0, 60_000),
  }),
}

/** OPTION_UNKNOWN, OPTION_INVALID. What `takeOver` has is checked elsewhere. */
export function checkAttach(options: AttachOptions): void {
  checkOptions('attachMaster', options, attachRules)
  if (options.view === undefined || options.view === false) return
  for (const option of ['sync', 'takeOver'] as const) {
    if (options[option] === undefined || options[option] === false) continue
    const why = option === 'sync' ? 'no commit waits for one' : 'it never becomes master'
    const message = `attachMaster: a view cannot have '${option}', because ${why}`
    throw new CoterieError('OPTION_INVALID', message, { details: { option } })
  }
}
