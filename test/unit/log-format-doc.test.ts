// The worked hexdump in docs/log-format.md is what a real log holds, byte for byte.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { projectFolder } from '../../scripts/files.ts'
import type { RecordBatch } from '../../src/base/batch.ts'
import { utf8Encode } from '../../src/base/bytes.ts'
import { noTerm, toTerm } from '../../src/base/lsn.ts'
import { BatchBuilder } from '../../src/log/batch-builder.ts'
import { Log } from '../../src/log/log.ts'
import { placeBeforeAll, recordKind } from '../../src/log/record-format.ts'
import { databaseId, segmentFile, store, testHost } from '../support/log-fixture.ts'
import { withTempFolder } from '../support/temp-folder.ts'

const documentPath = join(projectFolder, 'docs/log-format.md')
const wallMs = 1_700_000_000_000

/** Two flushes: a reign that begins and one commit; then another commit, which a mark precedes. */
async function writeExample(folder: string): Promise<void> {
  const host = { ...testHost(), clock: { now: () => 0, wall: () => wallMs } }
  const { log } = await Log.open({ host, folder, databaseId, segmentBytes: 8192 })
  const builder = new BatchBuilder({ databaseId, previous: placeBeforeAll })
  assert.equal(log.last.term, noTerm)
  builder.begin({ term: toTerm(1), wallMs, kind: recordKind.term })
  builder.payload(utf8Encode('a'))
  builder.end()
  builder.begin({ term: toTerm(1), wallMs, kind: recordKind.commit })
  builder.put(utf8Encode('n'), utf8Encode('42'))
  builder.del(utf8Encode('m'))
  builder.end()
  await store(log, builder.cut() as RecordBatch)
  builder.begin({ term: toTerm(1), wallMs: wallMs + 1, kind: recordKind.commit })
  builder.put(utf8Encode('n'), utf8Encode('43'))
  builder.end()
  await store(log, builder.cut() as RecordBatch)
  await log.close()
}

/** As `hexdump -C` prints it: repeated lines are an asterisk. */
function hexdump(bytes: Uint8Array): string {
  const lines: string[] = []
  let before = ''
  for (let at = 0; at < bytes.length; at += 16) {
    const row = [...bytes.subarray(at, at + 16)]
    const hex = row.map((byte) => byte.toString(16).padStart(2, '0'))
    const text = row.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '.')).join('')
    const content = `${hex.slice(0, 8).join(' ')}  ${hex.slice(8).join(' ')}  |${text}|`
    if (content !== before) lines.push(`${at.toString(16).padStart(8, '0')}  ${content}`)
    else if (lines.at(-1) !== '*') lines.push('*')
    before = content
  }
  return [...lines, bytes.length.toString(16).padStart(8, '0')].join('\n')
}

it('docs/log-format.md shows the bytes that the log writes', async (t) => {
  const folder = join(withTempFolder(t), 'log')
  await writeExample(folder)
  const expected = hexdump(readFileSync(segmentFile(folder)))
  const document = readFileSync(documentPath, 'utf8')
  const shown = /```hexdump\n([\s\S]*?)\n```/.exec(document)?.[1]
  assert.equal(shown, expected)
})
