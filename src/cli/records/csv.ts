// CSV in and out, as RFC 4180 has it: a header, commas, quotes doubled, CRLF written, any line end read.
//
// CSV has no way to mark a binary field: a dump of values that are not UTF-8 needs --value-encoding base64 (or hex),
// and the load of it the same option. NDJSON needs neither.

import { stringify } from 'csv-stringify/sync'
import { decodeText } from '../encoding.ts'
import { CommandError } from '../exit-codes.ts'
import { csvRows } from './csv-rows.ts'
import { emptyRow, type Mapping } from './mapping.ts'
import type { DumpEncodings } from './ndjson.ts'
import { BadRecord, type DumpRow, type LoadRecord, type ReadItem } from './record.ts'

/** The first row names the columns. */
export async function* readCsv(
  source: AsyncIterable<Uint8Array>,
  mapping: Mapping,
): AsyncGenerator<ReadItem, void, undefined> {
  let columns: readonly string[] | undefined
  for await (const { line, bytesRead, fields } of csvRows(source)) {
    if (columns === undefined) {
      columns = headerOf(fields, line)
      continue
    }
    const outcome = typeof fields === 'string' ? fields : rowOutcome(fields, columns, mapping)
    yield { line, bytesRead, outcome: typeof outcome === 'string' ? new BadRecord(line, outcome) : outcome }
  }
}

function headerOf(fields: readonly string[] | string, line: number): readonly string[] {
  if (typeof fields === 'string') throw new BadRecord(line, `the header: ${fields}`)
  const seen = new Set<string>()
  for (const column of fields) {
    if (seen.has(column)) throw new BadRecord(line, `the header names "${column}" twice`)
    seen.add(column)
  }
  return fields
}

function rowOutcome(
  fields: readonly string[],
  columns: readonly string[],
  mapping: Mapping,
): LoadRecord | string {
  if (fields.length !== columns.length) return `${fields.length} columns; the header has ${columns.length}`
  const row = emptyRow()
  for (const [i, column] of columns.entries()) row[column] = fields[i]
  return mapping(row)
}

export interface CsvDumpOptions extends DumpEncodings {
  /** Adds the column `store`; needed as soon as there are named stores. */
  readonly withStore: boolean
}

export function csvHeader(options: CsvDumpOptions): string {
  return csvLine(options.withStore ? ['key', 'value', 'store'] : ['key', 'value'])
}

/** One row, line end included. Fails on bytes that the encoding cannot show. */
export function csvRow(record: DumpRow, options: CsvDumpOptions): string {
  const key = fieldText('key', record.key, options.keyEncoding)
  const value = fieldText('value', record.value, options.valueEncoding)
  return csvLine(options.withStore ? [key, value, record.store ?? ''] : [key, value])
}

function fieldText(name: 'key' | 'value', bytes: Uint8Array, encoding: DumpEncodings['keyEncoding']): string {
  const text = decodeText(bytes, encoding)
  if (text !== undefined) return text
  throw new CommandError(
    'USAGE',
    `a ${name} is not ${encoding === 'json' ? 'JSON' : 'UTF-8'} and CSV cannot hold it`,
    {
      hint: `give --${name}-encoding base64 here and at the load, or dump NDJSON, which needs no option`,
    },
  )
}

function csvLine(fields: readonly string[]): string {
  // A lone \r or \n needs quotes as much as the delimiter does.
  return stringify([fields as string[]], { record_delimiter: '\r\n', quoted_match: /[\r\n]/ })
}
