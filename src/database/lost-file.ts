// Transactions that a rewind takes back are not discarded: they are written to a file that an operator can read and
// replay (`coterie load` takes it), before anything is undone. One JSON object a line, one line a write; the same
// rewind done again after a crash writes the same file.

import { utf8Encode } from '../base/bytes.ts'
import { type Lsn, lsnPlus } from '../base/lsn.ts'
import type { Log } from '../log/log.ts'
import { type ChangeWrite, changesIn } from './changes.ts'
import type { DatabaseFolder } from './database-folder.ts'

export interface LostReport {
  readonly file: string
  readonly from: Lsn
  readonly to: Lsn
  readonly transactions: number
}

/** Writes the transactions after `after` to a file; durable when it resolves. Undefined if there are none. */
export async function keepLost(
  folder: DatabaseFolder,
  log: Log,
  after: Lsn,
): Promise<LostReport | undefined> {
  const from = Math.max(lsnPlus(after, 1), log.firstLsn) as Lsn
  const lines: string[] = []
  let transactions = 0
  for (let next = from; next <= log.lastLsn; ) {
    const batch = await log.read({ from: next, bytesMax: 1024 * 1024 })
    for (const { lsn, term, time, writes } of changesIn(batch.bytes)) {
      transactions++
      for (const write of writes) lines.push(JSON.stringify({ lsn, term, time, ...writeFields(write) }))
    }
    next = lsnPlus(batch.lastLsn, 1)
  }
  if (transactions === 0) return undefined
  const { files } = folder
  await files.makeFolder(folder.lostPath)
  const file = files.join(folder.lostPath, `term-${log.last.term}-lsn-${from}-${log.lastLsn}.ndjson`)
  await files.replace(file, utf8Encode(`${lines.join('\n')}\n`))
  return { file, from, to: log.lastLsn, transactions }
}

function writeFields(write: ChangeWrite): Record<string, string> {
  const fields: Record<string, string> = { type: write.type }
  if (write.store !== '') fields.store = write.store
  const keyText = asText(write.key)
  if (keyText === undefined) fields.key64 = Buffer.from(write.key).toString('base64')
  else fields.key = keyText
  if (write.type === 'put') {
    const valueText = asText(write.value)
    if (valueText === undefined) fields.value64 = Buffer.from(write.value).toString('base64')
    else fields.value = valueText
  }
  return fields
}

/** The text, if the bytes are exactly the UTF-8 of one. */
function asText(bytes: Uint8Array): string | undefined {
  const buffer = Buffer.from(bytes)
  const text = buffer.toString('utf8')
  return Buffer.from(text, 'utf8').equals(buffer) ? text : undefined
}
