// Rows that belong to the database itself: who the members of its group are. Their keys begin with a byte that the
// name of no store can give, so that no program can reach them. They are data like any other (log, undo, snapshot,
// digest, backup), and hidden wherever users look at rows.

import { membersKey as membersKeyBytes, systemKeyByte } from '../log/members-record.ts'
import { latin1, type WholeKey } from './key-space.ts'

/** The row that has the members. */
export const membersKey: WholeKey = { bytes: membersKeyBytes, text: latin1(membersKeyBytes) }

/** Whether a whole key is the database's own. */
export function isSystemKey(wholeKey: Uint8Array): boolean {
  return wholeKey[0] === systemKeyByte
}
