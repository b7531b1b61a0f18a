// Walks the entries of a segment file through a window, for recovery and `verify`.
//
// The walk stops at the first entry that the checker does not take. What that means - the clean end, a torn tail,
// damage - is not for the walk to say.

import { assert } from '../base/assert.ts'
import type { OpenFile } from '../env/host.ts'
import { readFully } from './file-io.ts'
import { entryStop, type RecordChecker } from './record-checker.ts'
import { recordHeaderBytes } from './record-format.ts'

const windowBytesDefault = 1_048_576

/** Called for each entry that the checker took; false ends the walk. `bytes` is reused: copy what must last. */
export type EntryVisitor = (bytes: Uint8Array, at: number, length: number, fileOffset: number) => boolean

export interface ScanEnd {
  readonly stop: 'end' | 'visitor' | 'zeros' | 'invalid' | 'unsupported'
  /** Where the walk stopped: the first byte not taken. */
  readonly offset: number
  readonly reason: string
}

/** Walks from `from` to `to`, which is the end of the file or of the data in it. */
export async function scanSegment(
  file: OpenFile,
  options: {
    readonly checker: RecordChecker
    readonly from: number
    readonly to: number
    readonly visit: EntryVisitor
  },
): Promise<ScanEnd> {
  const { checker, to, visit } = options
  let bytes = new Uint8Array(Math.min(windowBytesDefault, Math.max(to - options.from, recordHeaderBytes)))
  let offset = options.from
  while (to - offset >= recordHeaderBytes) {
    const wanted = Math.min(bytes.length, to - offset)
    const end = await readFully(file, bytes.subarray(0, wanted), offset)
    const moreBytes = end < wanted ? 0 : to - offset - end
    let at = 0
    let taken = checker.check(bytes, at, end, moreBytes)
    while (taken > 0) {
      const goOn = visit(bytes, at, taken, offset + at)
      at += taken
      if (!goOn) return { stop: 'visitor', offset: offset + at, reason: '' }
      if (at === end) break
      taken = checker.check(bytes, at, end, moreBytes)
    }
    offset += at
    if (taken > 0) {
      if (moreBytes === 0) break
    } else if (taken === entryStop.incomplete) {
      assert(moreBytes > 0, 'an incomplete entry goes on in the file')
      if (checker.neededBytes > bytes.length) bytes = new Uint8Array(checker.neededBytes)
    } else {
      return stopped(taken, offset, checker.reason)
    }
  }
  return { stop: 'end', offset, reason: 'the file ends' }
}

function stopped(taken: number, offset: number, reason: string): ScanEnd {
  if (taken === entryStop.zeros) return { stop: 'zeros', offset, reason: 'there is nothing' }
  return { stop: taken === entryStop.unsupported ? 'unsupported' : 'invalid', offset, reason }
}
