// Tokens name one commit for ever, on every site of the group: database, LSN, and the reign it was written in.
// Whoever holds one can ask later what became of the commit (`outcome`), or read at least up to it (`after`).

import { utf8Encode } from '../base/bytes.ts'
import { crc32 } from '../base/checksum.ts'
import { CoterieError } from '../base/errors.ts'
import { entryAt, type History } from '../base/history.ts'
import { type Lsn, type Term, toLsn, toTerm } from '../base/lsn.ts'

/** What became of a commit: permanent and applied here; not decided yet; or rolled back for good. */
export type Outcome = 'applied' | 'pending' | 'lost'

export interface ParsedToken {
  readonly lsn: Lsn
  readonly term: Term
  readonly siteHash: number
}

/** For example `3f2a9c01-18d-2-9ae0b1c4`: database, LSN, term, master; hexadecimal. */
export function makeToken(options: { databaseId: string; lsn: Lsn; term: Term; site: string }): string {
  const { databaseId, lsn, term, site } = options
  return `${databaseId.slice(0, 8)}-${lsn.toString(16)}-${term.toString(16)}-${siteHash(site).toString(16)}`
}

/** TOKEN_INVALID for anything else than a token of this database. */
export function parseToken(token: string, databaseId: string): ParsedToken {
  const match = /^([0-9a-f]{8})-([0-9a-f]{1,14})-([0-9a-f]{1,8})-([0-9a-f]{1,8})$/.exec(String(token))
  if (match === null) throw new CoterieError('TOKEN_INVALID', 'this is not a token')
  if (match[1] !== databaseId.slice(0, 8)) {
    throw new CoterieError('TOKEN_INVALID', 'the token is of another database')
  }
  const lsn = Number.parseInt(match[2] as string, 16)
  if (!Number.isSafeInteger(lsn)) throw new CoterieError('TOKEN_INVALID', 'this is not a token')
  return {
    lsn: toLsn(lsn),
    term: toTerm(Number.parseInt(match[3] as string, 16)),
    siteHash: Number.parseInt(match[4] as string, 16),
  }
}

/**
 * What this site knows of a commit from its history alone. Two records with one LSN and one reign are the same
 * record, so the history is enough; the record itself may have been trimmed long ago.
 */
export function outcomeOf(
  token: ParsedToken,
  log: { readonly history: History; readonly lastLsn: Lsn; readonly committedLsn: Lsn },
): Outcome {
  if (token.lsn <= log.lastLsn) {
    const decided = token.lsn <= log.committedLsn
    const reign = entryAt(log.history, token.lsn)
    if (reign === undefined) {
      throw new CoterieError('TOKEN_INVALID', 'the token is older than the history that this site keeps')
    }
    if (!decided) return 'pending'
    return reign.term === token.term && siteHash(reign.site) === token.siteHash ? 'applied' : 'lost'
  }
  // The log ends before the token's record. If a later reign has been committed, its master never had the record.
  const last = log.history.at(-1)
  const superseded = last !== undefined && last.term > token.term && last.firstLsn <= log.committedLsn
  return superseded ? 'lost' : 'pending'
}

function siteHash(site: string): number {
  return crc32(utf8Encode(site))
}
