// coterie scan: a range of rows, in order.

import type { Command } from 'commander'
import { afterPrefix } from '../../base/bytes.ts'
import { type CommandRun, defineVerb } from '../command.ts'
import { decodeText, encodeText, jsonField, type TextEncoding, toBase64 } from '../encoding.ts'
import { usageError } from '../exit-codes.ts'
import { printable } from '../format.ts'
import { wholeNumber } from '../options.ts'
import type { RowsRequest } from '../port.ts'
import type { DumpRow } from '../records/record.ts'
import { type EncodingOptions, encodingOptions, type StoreOption, storeOption, withPort } from './shared.ts'

interface ScanOptions extends StoreOption, EncodingOptions {
  readonly gt?: string
  readonly gte?: string
  readonly lt?: string
  readonly lte?: string
  readonly prefix?: string
  readonly reverse?: boolean
  readonly limit?: number
  readonly keys?: boolean
  readonly values?: boolean
}

export function defineScan(program: Command, run: CommandRun): Command {
  return defineVerb<ScanOptions>(program, run, {
    usage: 'scan <path>',
    summary: 'print the rows of a range in the order of their keys',
    description:
      'A line is the key, a tab and the value, with control characters escaped; bytes that are not UTF-8 are shown\n' +
      'as base64 after `base64:`. With --json, a line is {"key", "value"}, or "key64" and "value64" in base64.',
    examples: [
      ['coterie scan ./data --prefix city: --limit 10', 'the first ten keys that start with city:'],
      ['coterie scan ./data --gte a --lt b --reverse --keys', 'keys from a up to b, the last first'],
    ],
    options: (command) => {
      storeOption(command)
      encodingOptions(command)
      command
        .option('--gt <key>', 'keys after this one')
        .option('--gte <key>', 'keys from this one on')
        .option('--lt <key>', 'keys before this one')
        .option('--lte <key>', 'keys up to this one')
        .option('--prefix <text>', 'keys that start so')
        .option('--reverse', 'from the last key to the first')
        .option('--limit <rows>', 'at most so many', wholeNumber())
        .option('--keys', 'keys only')
        .option('--values', 'values only')
    },
    action: async (context, [path = ''], options) => {
      const request = rangeRequest(options)
      const line = context.output.json ? jsonLine(options) : textLine(options)
      await withPort(context, path, { create: false }, async (port) => {
        for await (const batch of port.rows(request, context.signal)) {
          for (const row of batch) await context.output.text(line(row))
        }
      })
      context.io.interrupted.throwIfAborted()
      return undefined
    },
  })
}

function rangeRequest(options: ScanOptions): RowsRequest {
  const { gt, gte, lt, lte, prefix } = options
  if (gt !== undefined && gte !== undefined) throw usageError('--gt and --gte exclude each other')
  if (lt !== undefined && lte !== undefined) throw usageError('--lt and --lte exclude each other')
  if (options.keys === true && options.values === true)
    throw usageError('--keys and --values exclude each other')
  const bound = (text: string | undefined, what: string): Uint8Array | undefined =>
    text === undefined ? undefined : encodeText(text, options.keyEncoding, what)
  const shared = {
    stores: [options.store],
    reverse: options.reverse,
    limit: options.limit,
    values: options.keys !== true,
  }
  if (prefix === undefined) {
    return {
      ...shared,
      gt: bound(gt, '--gt'),
      gte: bound(gte, '--gte'),
      lt: bound(lt, '--lt'),
      lte: bound(lte, '--lte'),
    }
  }
  if ([gt, gte, lt, lte].some((text) => text !== undefined)) {
    throw usageError('--prefix excludes --gt, --gte, --lt and --lte')
  }
  if (options.keyEncoding === 'json') throw usageError('--prefix does not work with --key-encoding json')
  const start = encodeText(prefix, options.keyEncoding, '--prefix')
  return start.length === 0 ? shared : { ...shared, gte: start, lt: afterPrefix(start) }
}

function jsonLine(options: ScanOptions): (row: DumpRow) => string {
  return ({ key, value }) => {
    const fields = {
      ...(options.values === true ? {} : jsonField('key', key, options.keyEncoding)),
      ...(options.keys === true ? {} : jsonField('value', value, options.valueEncoding)),
    }
    return `${JSON.stringify(fields)}\n`
  }
}

function textLine(options: ScanOptions): (row: DumpRow) => string {
  return ({ key, value }) => {
    const parts: string[] = []
    if (options.values !== true) parts.push(shown(key, options.keyEncoding))
    if (options.keys !== true) parts.push(shown(value, options.valueEncoding))
    return `${parts.join('\t')}\n`
  }
}

function shown(bytes: Uint8Array, encoding: TextEncoding): string {
  const text = decodeText(bytes, encoding)
  return text === undefined ? `base64:${toBase64(bytes)}` : printable(text)
}
