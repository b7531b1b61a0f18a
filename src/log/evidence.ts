// Looks through what stands behind the last good entry of a segment for proof that something there was durable.
//
// A torn tail and damage look alike at the place where they start. What tells them apart stands behind: a durable
// mark that was written later and names the record, or records in a later segment. Nothing behind the place can
// be parsed, so the search tries every offset.

import { crc32 } from '../base/checksum.ts'
import type { Lsn } from '../base/lsn.ts'
import { noLsn } from '../base/lsn.ts'
import type { OpenFile } from '../env/host.ts'
import { isAllZero, readFully } from './file-io.ts'
import {
  databaseSeed,
  isRecordKind,
  markBytes,
  readMark,
  readU32,
  readU64,
  recordBytesMax,
  recordField,
  recordHeaderBytes,
} from './record-format.ts'

const windowBytes = 1_048_576

export interface Remainder {
  /** The highest LSN that a mark in there attests; 0 if there is no valid mark. */
  readonly markedLsn: Lsn
  /** Behind the last byte that is not zero; `from` if all are. */
  readonly nonZeroEnd: number
}

/** Searches `[from, to)` of a segment. */
export async function searchRemainder(
  file: OpenFile,
  options: { readonly from: number; readonly to: number; readonly markSeed: number },
): Promise<Remainder> {
  const { from, to, markSeed } = options
  let markedLsn: Lsn = noLsn
  let nonZeroEnd = from
  const bytes = new Uint8Array(Math.min(windowBytes, Math.max(to - from, 0)))
  // Windows overlap by a mark less one byte, so that no mark falls between two.
  for (let at = from; at < to; at += windowBytes - markBytes + 1) {
    const count = await readFully(file, bytes.subarray(0, Math.min(bytes.length, to - at)), at)
    const window = bytes.subarray(0, count)
    if (isAllZero(window)) continue
    nonZeroEnd = at + endOfNonZero(window)
    const found = highestMark(window, markSeed)
    if (found > markedLsn) markedLsn = found
  }
  return { markedLsn, nonZeroEnd }
}

/** True if a record of the database with an LSN of `from` or later stands anywhere in the file. */
export async function holdsRecord(
  file: OpenFile,
  options: { readonly fileBytes: number; readonly databaseId: string; readonly from: Lsn },
): Promise<boolean> {
  const seed = databaseSeed(options.databaseId)
  const bytes = new Uint8Array(options.fileBytes)
  const end = await readFully(file, bytes, 0)
  const lsnMax = options.from + Math.ceil(end / recordHeaderBytes)
  for (let at = 0; at + recordHeaderBytes <= end; at++) {
    if (!isRecordKind(bytes[at + recordField.kind] as number)) continue
    const length = readU32(bytes, at + recordField.length)
    if (length < recordHeaderBytes || length > recordBytesMax || length > end - at) continue
    const lsn = readU64(bytes, at + recordField.lsn)
    if (lsn < options.from || lsn > lsnMax) continue
    const crc = crc32(bytes.subarray(at + recordField.length, at + length), seed)
    if (crc === readU32(bytes, at + recordField.crc)) return true
  }
  return false
}

/** The length field of a mark, by which marks are found fast. */
const markLengthPattern = new Uint8Array([markBytes, 0, 0, 0])

function highestMark(window: Uint8Array, markSeed: number): Lsn {
  const searchable = Buffer.from(window.buffer, window.byteOffset, window.length)
  let highest: Lsn = noLsn
  let at = searchable.indexOf(markLengthPattern)
  while (at >= 0) {
    const lsn = readMark(window, at - recordField.length, markSeed)
    if (lsn !== undefined && lsn > highest) highest = lsn
    at = searchable.indexOf(markLengthPattern, at + 1)
  }
  return highest
}

function endOfNonZero(window: Uint8Array): number {
  let end = window.length
  while (end > 0 && window[end - 1] === 0) end--
  return end
}
