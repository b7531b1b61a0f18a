// coterie dump: all rows as NDJSON or CSV, from one snapshot.
//
// A file appears under its name only when it is whole: a dump that breaks off leaves no half file to be loaded later.

import { createWriteStream } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import type { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import type { Command } from 'commander'
import { CoterieError } from '../../base/errors.ts'
import { type CommandRun, defineVerb, type VerbContext } from '../command.ts'
import { CommandError, usageError } from '../exit-codes.ts'
import { formatBytes, formatCount, formatMs } from '../format.ts'
import { collect, oneOf } from '../options.ts'
import { Output } from '../output.ts'
import type { DatabasePort } from '../port.ts'
import { type CsvDumpOptions, csvHeader, csvRow } from '../records/csv.ts'
import { ndjsonLine } from '../records/ndjson.ts'
import type { DumpRow } from '../records/record.ts'
import { formatOf } from './load.ts'
import { type EncodingOptions, encodingOptions, withPort } from './shared.ts'

interface DumpOptions extends EncodingOptions {
  readonly format?: 'ndjson' | 'csv'
  readonly store?: readonly string[]
}

interface Dumped {
  readonly rows: number
  readonly bytes: number
}

export function defineDump(program: Command, run: CommandRun): Command {
  return defineVerb<DumpOptions>(program, run, {
    usage: 'dump <path> [file]',
    summary: 'write all rows as NDJSON or CSV to a file or to standard output',
    description:
      'The rows are those of one moment, whatever is written meanwhile. `coterie load` reads both formats back to\n' +
      'the same bytes. NDJSON marks what is not UTF-8 as "key64" and "value64"; CSV cannot, and needs\n' +
      '--value-encoding base64 for such values, here and at the load.',
    examples: [
      ['coterie dump ./data rows.ndjson', 'all stores'],
      ['coterie dump ./data --format csv --store users > users.csv', 'one store as CSV'],
    ],
    options: (command) => {
      encodingOptions(command)
      command
        .option(
          '--format <format>',
          'ndjson or csv; default: by the name of the file, else ndjson',
          oneOf(['ndjson', 'csv']),
        )
        .option('--store <name>', "only this store ('' is the unnamed one); may be given again", collect)
    },
    action: async (context, [path = '', file], options) => {
      const format = options.format ?? formatOf(file)
      const standard = file === undefined || file === '-'
      if (standard && context.output.json && format === 'csv') {
        throw usageError('--json and --format csv exclude each other on standard output')
      }
      const bar = context.progress({ label: 'dump', unit: 'rows' })
      const dumped = await withPort(context, path, { create: false }, (port) => {
        const dump = (output: Output): Promise<Dumped> =>
          dumpRows(context, port, output, { ...options, format }, (rows, total) => bar.update(rows, total))
        return standard ? dump(context.output) : dumpToFile(context, file, dump)
      })
      bar.stop()
      const words = `dumped ${formatCount(dumped.rows)} rows, ${formatBytes(dumped.bytes)}, in ${formatMs(bar.elapsedMs)}`
      if (!standard)
        await context.output.result({ file, format, ...dumped, ms: Math.round(bar.elapsedMs) }, words)
      return undefined
    },
  })
}

async function dumpRows(
  context: VerbContext,
  port: DatabasePort,
  output: Output,
  options: DumpOptions & { readonly format: 'ndjson' | 'csv' },
  onProgress: (rows: number, total: number | undefined) => void,
): Promise<Dumped> {
  const known = await port.stat()
  if (options.store === undefined && known.view?.kind === 'partial') {
    const message = 'this is a partial view, which has not every store: name those to dump by --store'
    throw new CoterieError('STORE_NOT_KEPT', message)
  }
  const named = known.stores.map((store) => store.name).filter((name) => name !== '')
  const stores = options.store ?? ['', ...named]
  const total = known.stores
    .filter((store) => stores.includes(store.name))
    .reduce((sum, store) => sum + store.rows, 0)
  let bytes = 0
  let rows = 0
  const write = async (text: string): Promise<void> => {
    bytes += Buffer.byteLength(text)
    await output.text(text)
  }
  const csv: CsvDumpOptions = {
    ...options,
    withStore: stores.some((name) => name !== '') && stores.length > 1,
  }
  const line = (row: DumpRow): string =>
    options.format === 'csv' ? csvRow(row, csv) : ndjsonLine(row, options)
  if (options.format === 'csv') await write(csvHeader(csv))
  const request = { stores: stores.map((name) => (name === '' ? undefined : name)), values: true }
  for await (const batch of port.rows(request, context.signal)) {
    for (const row of batch) await write(line(row))
    rows += batch.length
    onProgress(rows, total)
  }
  if (context.io.interrupted.aborted)
    throw new CommandError('INTERRUPTED', 'interrupted; the dump is not whole')
  await output.flush()
  return { rows, bytes }
}

async function dumpToFile(
  context: VerbContext,
  file: string,
  dump: (output: Output) => Promise<Dumped>,
): Promise<Dumped> {
  const part = `${file}.part`
  const stream: Writable = createWriteStream(part, { flush: true })
  const written = finished(stream)
  // Awaited below; a failure before that must not count as unhandled.
  written.catch(() => undefined)
  const output = new Output({ stdout: stream, stderr: context.output.stderr, json: false, debug: false })
  try {
    const dumped = await dump(output)
    stream.end()
    await written
    await rename(part, file)
    return dumped
  } catch (error) {
    stream.destroy()
    await written.catch(() => undefined)
    await rm(part, { force: true })
    throw error
  }
}
