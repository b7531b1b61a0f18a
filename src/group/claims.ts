// Under which id a site takes part is its own claim, and where its connection proves who it is (TLS), the claim must be
// among the names that are proved. It is looked at before the core sees the message, so a borrowed id changes nothing:
// the connection ends with AUTH_FAILED, and both sides are told.

import { CoterieError } from '../base/errors.ts'
import type { Term } from '../base/lsn.ts'
import { decodeMessage, encodeMessage, messageTypeOf } from '../replication/message-codec.ts'
import type { Message, MessageType } from '../replication/messages.ts'

/** Those by which a sender says who it is. */
const claiming: ReadonlySet<MessageType> = new Set([
  'join',
  'accept',
  'hello',
  'canvass',
  'voteRequest',
  'vote',
])

export interface BorrowedId {
  readonly site: string
  readonly error: CoterieError
  /** For the sender of the claim. */
  readonly answer: Uint8Array
  /**
   * For the own core, where the claim was an answer that it waits for: that the master has refused. Undefined: nothing.
   */
  readonly instead: Uint8Array | undefined
}

/** Undefined: the message claims nothing, or what is proved. */
export function borrowedId(
  control: Uint8Array,
  proved: readonly string[],
  term: Term,
): BorrowedId | undefined {
  const type = messageTypeOf(control)
  if (type === undefined || !claiming.has(type)) return undefined
  const decoded = decodeMessage(control)
  // What is malformed is the core's to refuse.
  if (!decoded.ok) return undefined
  const { message } = decoded
  const site = claimedId(message)
  if (site === undefined || proved.includes(site)) return undefined
  const names = proved.length === 0 ? 'no name' : proved.join(', ')
  const text = `the certificate of the site that calls itself '${site}' bears ${names}`
  const error = new CoterieError('AUTH_FAILED', text, { details: { site, names: proved } })
  const refusal = refuse(message, term, text)
  const isAnswer = message.type === 'accept'
  return {
    site,
    error,
    answer: isAnswer ? detach(message, term, text) : refusal,
    instead: isAnswer ? refusal : undefined,
  }
}

/** Who passes a log on names its master; it is itself the last on the way. */
function claimedId(message: Message): string | undefined {
  if (message.type === 'accept' && message.route !== undefined) return message.route.via.at(-1)
  return 'site' in message ? message.site : undefined
}

function refuse({ session }: Message, term: Term, message: string): Uint8Array {
  return encodeMessage({ type: 'refuse', session, term, code: 'AUTH_FAILED', message, master: '' })
}

/** As a replica leaves its master. */
function detach({ session }: Message, term: Term, message: string): Uint8Array {
  const reason = { code: 'AUTH_FAILED', message, master: '', fromMaster: false } as const
  return encodeMessage({ type: 'detach', session, term, ...reason })
}
