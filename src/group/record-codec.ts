// The record format, as the replication core needs it: the core itself knows no formats (it imports only base/).

import { assert } from '../base/assert.ts'
import type { HistoryEntry } from '../base/history.ts'
import { lsnPlus } from '../base/lsn.ts'
import { splitRecords, takeRecords } from '../log/batch-slice.ts'
import { recordKind } from '../log/record-format.ts'
import { eachRecord, siteOf } from '../log/record-reader.ts'
import { verifyBatch } from '../log/verify-batch.ts'
import type { RecordCodec } from '../replication/core-options.ts'

export const recordCodec: RecordCodec = {
  verify(bytes, options) {
    const verified = verifyBatch(bytes, options)
    if (!verified.ok) return { ok: false, reason: verified.reason }
    const reigns: HistoryEntry[] = []
    eachRecord(bytes, (lsn, term, _wallMs, kind, start, end) => {
      if (kind !== recordKind.term) return
      const site = siteOf(bytes, start, end)
      if (site !== undefined) reigns.push({ term, firstLsn: lsn, site })
    })
    return { ok: true, batch: verified.batch, reigns }
  },

  dropThrough(batch, lsn) {
    const rest = takeRecords(batch, {
      from: lsnPlus(lsn, 1),
      to: batch.lastLsn,
      bytesMax: Number.MAX_SAFE_INTEGER,
    })
    assert(rest !== undefined, 'records are left to be taken')
    return rest
  },

  split: splitRecords,
}
