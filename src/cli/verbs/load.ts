// coterie load: rows from NDJSON or CSV.

import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import type { Command } from 'commander'
import { type CommandRun, defineVerb, type VerbContext } from '../command.ts'
import { formatCount, formatMs, formatRate } from '../format.ts'
import { oneOf, wholeNumber } from '../options.ts'
import { readCsv } from '../records/csv.ts'
import { type LoadResult, loadRecords } from '../records/load.ts'
import { createMapping } from '../records/mapping.ts'
import { readNdjson } from '../records/ndjson.ts'
import {
  type EncodingOptions,
  encodingOptions,
  type StoreOption,
  storeOption,
  toWriteOptions,
  type WriteVerbOptions,
  withPort,
  writeOptions,
} from './shared.ts'

interface LoadVerbOptions extends StoreOption, EncodingOptions, WriteVerbOptions {
  readonly format?: 'ndjson' | 'csv'
  readonly key?: string
  readonly value?: string
  readonly valueFields?: string
  readonly batch: number
  readonly inFlight: number
  readonly skipBad?: boolean
}

/** Bad lines that are shown one by one; the rest are only counted. */
const skippedShownMax = 10

export function defineLoad(program: Command, run: CommandRun): Command {
  return defineVerb<LoadVerbOptions>(program, run, {
    usage: 'load <path> [file]',
    summary: 'write the rows of an NDJSON or CSV file, or of standard input',
    description:
      'NDJSON: {"key": ..., "value": ..., "store": ...} a line, as `coterie dump` writes it; "key64" and "value64"\n' +
      'are base64. A value that is not text is stored as its JSON. CSV: the first row names the columns.\n' +
      'With --key, any rows: the key is made from their fields and the value is the whole row as JSON.\n' +
      'A line that does not parse ends the load, after all before it are committed. Creates the database.',
    examples: [
      ['coterie load ./data rows.ndjson', 'loads what dump has written'],
      ["coterie load ./data cities.csv --key 'city:{cityId}'", 'a key from a column, the row as JSON'],
      [
        "zcat big.ndjson.gz | coterie load ./data --key '{id}' --skip-bad",
        'from standard input, bad lines counted',
      ],
    ],
    options: (command) => {
      storeOption(command)
      encodingOptions(command)
      command
        .option(
          '--format <format>',
          'ndjson or csv; default: by the name of the file, else ndjson',
          oneOf(['ndjson', 'csv']),
        )
        .option('--key <template>', "the key of a row, such as 'city:{cityId}'; {{ and }} are braces")
        .option('--value <template>', 'with --key: the value as text instead of JSON')
        .option('--value-fields <names>', 'with --key: only these fields, parted by commas, as JSON')
        .option('--batch <rows>', 'rows of one transaction', wholeNumber(1, 100_000), 1000)
        .option('--in-flight <count>', 'transactions under way at once', wholeNumber(1, 1024), 8)
        .option('--skip-bad', 'pass over lines that do not parse, and count them')
      writeOptions(command)
    },
    action: async (context, [path = '', file], options) => {
      const mapping = createMapping({
        ...options,
        keyTemplate: options.key,
        valueTemplate: options.value,
        valueFields: options.valueFields?.split(',').map((name) => name.trim()),
      })
      const source = await openSource(context, file)
      const items = (options.format ?? formatOf(file)) === 'csv' ? readCsv : readNdjson
      try {
        await withPort(context, path, { create: true }, async (port) => {
          const bar = context.progress({ label: 'load', unit: 'bytes', total: source.bytes })
          const skipped = { shown: 0 }
          const result = await loadRecords(port, items(source.stream, mapping), {
            ...options,
            skipBad: options.skipBad === true,
            write: toWriteOptions(options),
            signal: context.signal,
            onProgress: (bytesRead) => bar.update(bytesRead),
            onSkipped: (bad) => {
              if (skipped.shown++ < skippedShownMax) {
                context.output.warn(`line ${formatCount(bad.line)} skipped: ${bad.message}`)
              }
            },
          })
          bar.stop()
          await report(context, result, bar.elapsedMs)
        })
      } finally {
        source.stream.destroy()
      }
      return undefined
    },
  })
}

interface Source {
  readonly stream: Readable
  readonly bytes: number | undefined
}

/** An interruption closes the source, so that a wait for input ends. */
async function openSource(context: VerbContext, file: string | undefined): Promise<Source> {
  const standard = file === undefined || file === '-'
  const bytes = standard ? undefined : (await stat(file)).size
  const stream = standard ? context.io.stdin : createReadStream(file, { highWaterMark: 262_144 })
  const close = (): void => {
    stream.destroy()
  }
  context.signal.addEventListener('abort', close, { once: true })
  return { stream, bytes }
}

export function formatOf(file: string | undefined): 'ndjson' | 'csv' {
  return file?.toLowerCase().endsWith('.csv') === true ? 'csv' : 'ndjson'
}

async function report(context: VerbContext, result: LoadResult, ms: number): Promise<void> {
  const { loaded, skipped } = result
  const skippedText =
    skipped === 0 ? '' : `, ${formatCount(skipped)} bad ${skipped === 1 ? 'line' : 'lines'} skipped`
  const rate = formatRate((loaded * 1000) / Math.max(ms, 1), 'records')
  await context.output.result(
    { ...result, ms: Math.round(ms) },
    `loaded ${formatCount(loaded)} ${loaded === 1 ? 'record' : 'records'} in ${formatMs(ms)} (${rate})${skippedText}`,
  )
}
