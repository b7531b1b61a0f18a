// What of a broken snapshot is kept, so that a later attachment can go on with it.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import type { RecordPlace } from '../../src/base/batch.ts'
import type { HistoryEntry } from '../../src/base/history.ts'
import { toLsn, toTerm } from '../../src/base/lsn.ts'
import { encodeRows } from '../../src/base/row-run.ts'
import { SnapshotStaging } from '../../src/group/snapshot-staging.ts'
import { openAt } from '../support/sites.ts'
import { withTempFolder } from '../support/temp-folder.ts'

const databaseId = '0f9d8c7b6a5948473625241302f1e0d9'
const reigns: readonly HistoryEntry[] = [
  { term: toTerm(1), firstLsn: toLsn(1), site: 'a' },
  { term: toTerm(2), firstLsn: toLsn(5), site: 'b' },
  { term: toTerm(7), firstLsn: toLsn(40), site: 'c' },
]
const base: RecordPlace = { lsn: toLsn(9), term: toTerm(2), crc: 9 }
const history = reigns.slice(0, 2)
const rows = (key: string): readonly Uint8Array[] => [encodeRows([[Buffer.from(key), Buffer.from('v')]])]

test('[A5b] a broken snapshot knows the newest record that a row of it is of, whatever parts it came in', async (t) => {
  const db = await openAt(t, join(withTempFolder(t), 'db'))
  const { engine } = db.site
  const begun = new SnapshotStaging(engine)
  const first = { lsn: base.lsn, reign: reigns[1] }
  await begun.prepare({ databaseId, base, history, newest: first, resume: false })
  assert.equal(await begun.resumable(), undefined, 'there is nothing to go on with')
  await begun.storeRows(rows('k1'))
  const left = await begun.resumable()
  assert.deepEqual(left, { databaseId, base, reign: reigns[1], newest: first, afterKey: left?.afterKey })
  await begun.release()

  const later = { lsn: toLsn(61), reign: reigns[2] }
  const again = new SnapshotStaging(engine)
  assert.deepEqual((await again.resumable())?.newest, first)
  await again.prepare({ databaseId, base, history, newest: later, resume: true })
  // Also where no row of that part ever came.
  assert.deepEqual((await again.resumable())?.newest, later)
  await again.storeRows(rows('k2'))
  await again.release()

  const last = new SnapshotStaging(engine)
  const resumed = await last.resumable()
  assert.deepEqual(resumed, {
    databaseId,
    base,
    reign: reigns[1],
    newest: later,
    afterKey: resumed?.afterKey,
  })
  assert.deepEqual(Buffer.from(resumed?.afterKey ?? []).toString(), 'k2')
  await last.discard()
  assert.equal(await last.resumable(), undefined)
})
