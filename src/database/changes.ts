// The change stream: committed transactions in the order of the log, from any LSN that the log still holds, and then
// live (eXtremeDB's Data Relay). Reading at the consumer's pace is all the back-pressure there is: nothing is
// buffered for a slow one; one that falls behind what the log keeps gets LOG_TRIMMED and starts from a snapshot.

import type { RecordPlace } from '../base/batch.ts'
import { CoterieError } from '../base/errors.ts'
import { type Lsn, lsnPlus } from '../base/lsn.ts'
import { abortSignal, checkOptions, type OptionRules, truth, wholeNumber } from '../base/options.ts'
import { recordKind } from '../log/record-format.ts'
import { eachRecord, eachWrite } from '../log/record-reader.ts'
import type { Engine } from './engine.ts'
import { splitWholeKey } from './key-space.ts'

/** One write of a committed transaction. Keys and values are bytes: each store has encodings of its own. */
export type ChangeWrite =
  | { readonly type: 'put'; readonly store: string; readonly key: Uint8Array; readonly value: Uint8Array }
  | { readonly type: 'del'; readonly store: string; readonly key: Uint8Array }

/** One committed transaction. To go on after it, ask for `from: lsn + 1`. */
export interface Change {
  readonly lsn: Lsn
  readonly term: number
  /** The master's wall clock when it committed, ms since 1970. */
  readonly time: number
  readonly writes: readonly ChangeWrite[]
}

export interface ChangesOptions {
  /** The first LSN wanted. Default: the next commit. */
  readonly from?: number
  /** Go on when the present end is reached. Default true. */
  readonly live?: boolean
  readonly signal?: AbortSignal
}

const changesRules: OptionRules = { from: wholeNumber(1), live: truth, signal: abortSignal }
const readBytesMax = 256 * 1024

/** From the moment of this call on, though nothing is read before the first change is asked for. */
export function readChanges(
  engine: Engine,
  options: ChangesOptions,
): AsyncGenerator<Change, void, undefined> {
  checkOptions('changes', options, changesRules)
  engine.assertOpen()
  return changesFrom(engine, (options.from ?? lsnPlus(engine.committedLsn, 1)) as Lsn, options)
}

async function* changesFrom(
  engine: Engine,
  from: Lsn,
  options: ChangesOptions,
): AsyncGenerator<Change, void, undefined> {
  let next = from
  let before: RecordPlace | undefined
  for (;;) {
    if (options.signal?.aborted === true) {
      throw new CoterieError('ABORTED', 'the change stream was aborted', { cause: options.signal.reason })
    }
    engine.assertOpen()
    if (engine.failure !== undefined) throw engine.failure
    const committed = engine.committedLsn
    if (next > committed) {
      if (options.live === false) return
      if (before !== undefined && before.lsn > engine.parts.log.lastLsn) throw takenBack(before.lsn)
      await engine.whenCommitted(next, options.signal)
      continue
    }
    const batch = await engine.parts.log.read({ from: next, to: committed, bytesMax: readBytesMax })
    if (before !== undefined && batch.previous.crc !== before.crc) throw takenBack(before.lsn)
    before = batch.last
    for (const change of changesIn(batch.bytes)) if (change.lsn <= committed) yield change
    next = lsnPlus(Math.min(batch.lastLsn, committed) as Lsn, 1)
  }
}

/** A rewind under the stream: it must not go on as if what it gave out still stood. */
function takenBack(lsn: Lsn): CoterieError {
  return new CoterieError(
    'INVALID_STATE',
    `records up to LSN ${lsn} were given out and then taken back by a rewind: start again from a snapshot`,
    { details: { lsn } },
  )
}

/** The transactions of users in a run of records: what the group writes for itself is none of them. */
export function changesIn(bytes: Uint8Array): Change[] {
  const changes: Change[] = []
  eachRecord(bytes, (lsn, term, time, kind, start, end) => {
    if (kind !== recordKind.commit) return
    const writes: ChangeWrite[] = []
    eachWrite(bytes, start, end, (wholeKey, value) => {
      const { storeName, key } = splitWholeKey(wholeKey)
      writes.push(
        value === undefined
          ? { type: 'del', store: storeName, key }
          : { type: 'put', store: storeName, key, value },
      )
    })
    changes.push({ lsn, term, time, writes })
  })
  return changes
}
