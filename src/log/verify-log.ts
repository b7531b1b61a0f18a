// Reads a whole log again, as far as it is durable: what `coterie verify` and scrubbing run.

import { type Lsn, lsnPlus } from '../base/lsn.ts'
import { toLogError } from './file-io.ts'
import type { LogFolder } from './log-folder.ts'
import { damaged, unsupported } from './log-reader.ts'
import type { LogState } from './log-state.ts'
import { RecordChecker } from './record-checker.ts'
import { recordKind, samePlace } from './record-format.ts'
import type { Segment } from './segment.ts'
import { scanSegment } from './segment-scan.ts'

export interface VerifyProgress {
  readonly records: number
  /** Of the records. */
  readonly bytes: number
  readonly segments: number
}

/** Trimming waits meanwhile. `onProgress` is called after each segment. */
export async function verifySegments(options: {
  readonly folder: LogFolder
  readonly state: LogState
  readonly onProgress?: (progress: VerifyProgress) => void
}): Promise<VerifyProgress> {
  const { folder, state } = options
  let progress: VerifyProgress = { records: 0, bytes: 0, segments: 0 }
  for (const segment of [...state.segments]) {
    try {
      const found = await verifySegment(folder, segment)
      progress = {
        records: progress.records + found.records,
        bytes: progress.bytes + found.bytes,
        segments: progress.segments + 1,
      }
    } catch (thrown) {
      throw toLogError(thrown, `${segment.path} could not be read`)
    }
    options.onProgress?.(progress)
  }
  return progress
}

async function verifySegment(
  folder: LogFolder,
  segment: Segment,
): Promise<{ records: number; bytes: number }> {
  const { path, previous, dataEnd, last, markSeed, headerBytes } = segment
  const { databaseId } = folder
  const checker = new RecordChecker({ databaseId, markSeed, previous })
  let records = 0
  let bytes = 0
  const end = await segment.read(folder.files, async (file) => {
    const result = await folder.readHeader(file)
    if (
      !result.ok ||
      !samePlace(result.header.previous, previous) ||
      result.header.databaseId !== databaseId
    ) {
      const reason = result.ok ? 'the header is that of another segment' : `the header: ${result.reason}`
      throw damaged({ file: path, offset: 0, lsn: segment.firstLsn, reason })
    }
    return await scanSegment(file, {
      checker,
      from: headerBytes,
      to: dataEnd,
      visit: (_bytes, _at, length) => {
        if (checker.kind !== recordKind.mark) {
          records++
          bytes += length
        }
        return true
      },
    })
  })
  if (end.stop === 'unsupported') throw unsupported({ file: path, offset: end.offset, reason: end.reason })
  if (!samePlace(checker.place, last)) {
    const lsn: Lsn = lsnPlus(checker.place.lsn, 1)
    throw damaged({ file: path, offset: end.offset, lsn, reason: end.reason })
  }
  return { records, bytes }
}
