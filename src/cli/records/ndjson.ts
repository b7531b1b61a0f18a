// NDJSON in and out: one JSON object a line. Empty lines are skipped. Bytes that are not UTF-8 make a bad line, never
// replacement characters: a load must not change what it loads.

import { utf8Decode } from '../../base/bytes.ts'
import { jsonField, type TextEncoding } from '../encoding.ts'
import { linesOf } from './lines.ts'
import type { Mapping, Row } from './mapping.ts'
import { BadRecord, type DumpRow, type LoadRecord, type ReadItem } from './record.ts'

export async function* readNdjson(
  source: AsyncIterable<Uint8Array>,
  mapping: Mapping,
  lineBytesMax?: number,
): AsyncGenerator<ReadItem, void, undefined> {
  for await (const line of linesOf(source, lineBytesMax)) {
    const { number, bytesRead, bytes } = line
    if (bytes?.length === 0) continue
    const outcome = bytes === undefined ? 'the line is too long' : recordOf(bytes, mapping)
    yield {
      line: number,
      bytesRead,
      outcome: typeof outcome === 'string' ? new BadRecord(number, outcome) : outcome,
    }
  }
}

function recordOf(bytes: Uint8Array, mapping: Mapping): LoadRecord | string {
  let text: string
  try {
    text = utf8Decode(bytes)
  } catch {
    return 'not UTF-8'
  }
  let row: unknown
  try {
    row = JSON.parse(text)
  } catch (error) {
    return `not JSON: ${(error as Error).message}`
  }
  if (typeof row !== 'object' || row === null || Array.isArray(row)) return 'not a JSON object'
  return mapping(row as Row, bytes)
}

export interface DumpEncodings {
  readonly keyEncoding: TextEncoding
  readonly valueEncoding: TextEncoding
}

/** One line, newline included. The default store goes without a name. */
export function ndjsonLine(record: DumpRow, encodings: DumpEncodings): string {
  const store = record.store === undefined ? {} : { store: record.store }
  const key = jsonField('key', record.key, encodings.keyEncoding)
  const value = jsonField('value', record.value, encodings.valueEncoding)
  return `${JSON.stringify({ ...store, ...key, ...value })}\n`
}
