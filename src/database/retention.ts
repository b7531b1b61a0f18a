// How much of the log is kept beyond what anyone needs now, so that a replica that was away comes back by catching
// up instead of by a snapshot (eXtremeDB's trans_log_length).

import { type Lsn, lsnPlus } from '../base/lsn.ts'
import type { Log } from '../log/log.ts'
import { eachRecord } from '../log/record-reader.ts'

/** What any of these still covers is kept. */
export interface Retention {
  /** So many of the last transactions. Default 0. */
  readonly transactions?: number
  /** So many bytes of log. Default 256 MiB; 32 MiB in memory. */
  readonly bytes?: number
  /** Everything younger, in ms. Default 0. */
  readonly ms?: number
}

/** The oldest LSN that the setting wants kept. */
export async function retentionBound(log: Log, retain: Retention, wallMs: number): Promise<Lsn> {
  const records = log.lastLsn - log.firstLsn + 1
  if (records <= 0) return log.firstLsn
  let bound = lsnPlus(log.lastLsn, 1)
  if (retain.transactions !== undefined) bound = Math.min(bound, log.lastLsn - retain.transactions + 1) as Lsn
  if (retain.bytes !== undefined) {
    const kept = Math.ceil((retain.bytes / Math.max(1, log.bytes)) * records)
    bound = Math.min(bound, log.lastLsn - kept + 1) as Lsn
  }
  bound = Math.max(bound, log.firstLsn) as Lsn
  if (retain.ms !== undefined) bound = Math.min(bound, await firstYoungerThan(log, wallMs - retain.ms)) as Lsn
  return bound
}

/** By bisection over the records' times; the wall clock may have jumped, and then more is kept, never less. */
async function firstYoungerThan(log: Log, wallMs: number): Promise<Lsn> {
  let low: number = log.firstLsn
  let high: number = log.lastLsn + 1
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    if ((await timeOf(log, middle as Lsn)) < wallMs) low = middle + 1
    else high = middle
  }
  return low as Lsn
}

async function timeOf(log: Log, lsn: Lsn): Promise<number> {
  const batch = await log.read({ from: lsn, to: lsn, bytesMax: 1 })
  let time = 0
  eachRecord(batch.bytes, (_lsn, _term, wallMs) => {
    time = wallMs
  })
  return time
}
