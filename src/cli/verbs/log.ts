// coterie log: the records of the log, one a line.

import type { Command } from 'commander'
import { type CommandRun, defineVerb } from '../command.ts'
import { asUtf8, toBase64 } from '../encoding.ts'
import { formatCount, printable } from '../format.ts'
import { wholeNumber } from '../options.ts'
import type { LogLine, LogWrite } from '../port.ts'
import { withPort } from './shared.ts'

interface LogOptions {
  readonly from?: number
  readonly to?: number
  readonly limit?: number
  readonly follow?: boolean
}

export function defineLog(program: Command, run: CommandRun): Command {
  return defineVerb<LogOptions>(program, run, {
    usage: 'log <path>',
    summary: 'print the records of the log',
    description:
      'A line is LSN, term, time, kind, bytes and the first keys that the record writes; of a term its master, of a\n' +
      'change of the group its members. Values are not shown: see `coterie dump`. With --json, a line has all keys, in\n' +
      'base64, with the sizes of the values.',
    examples: [
      ['coterie log ./data --from 1000 --limit 20', 'twenty records from LSN 1000 on'],
      ['coterie log ./data --follow', 'goes on with new commits until it is interrupted'],
    ],
    options: (command) => {
      command
        .option('--from <lsn>', 'the first record; default: the oldest there is', wholeNumber(1))
        .option('--to <lsn>', 'the last record', wholeNumber(1))
        .option('--limit <records>', 'at most so many', wholeNumber())
        .option('-f, --follow', 'go on with new records as they are committed')
    },
    action: async (context, [path = ''], options) => {
      const line = context.output.json ? (record: LogLine) => JSON.stringify(record) : logText
      await withPort(context, path, { create: false }, async (port) => {
        const request = { ...options, follow: options.follow === true }
        for await (const batch of port.records(request, context.signal)) {
          for (const record of batch) await context.output.text(`${line(record)}\n`)
          if (request.follow) await context.output.flush()
        }
      })
      // --follow ends by an interruption and by nothing else: then it is no failure.
      if (options.follow !== true) context.io.interrupted.throwIfAborted()
      return undefined
    },
  })
}

const writesShownMax = 3
const kindAndBytesWidth = 18

function logText(record: LogLine): string {
  const { writes } = record
  const shown = record.site === undefined ? [] : [`master ${record.site}`]
  if (record.members !== undefined) shown.push(membersText(record.members))
  shown.push(...writes.slice(0, writesShownMax).map(writeText))
  if (writes.length > writesShownMax) shown.push(`and ${formatCount(writes.length - writesShownMax)} more`)
  return [
    String(record.lsn).padStart(10),
    String(record.term).padStart(4),
    new Date(record.time).toISOString(),
    record.kind + `${formatCount(record.bytes)} B`.padStart(kindAndBytesWidth - record.kind.length),
    `${shown.join(', ')}${record.committed ? '' : '  (not committed)'}`,
  ]
    .join('  ')
    .trimEnd()
}

function membersText({ members, removed }: NonNullable<LogLine['members']>): string {
  const sites = members.map(({ site, address }) => `${printable(site)} at ${printable(address)}`)
  const gone = removed.length === 0 ? '' : `; removed: ${removed.map(printable).join(', ')}`
  return `${sites.join(', ')}${gone}`
}

function writeText(write: LogWrite): string {
  const bytes = Buffer.from(write.key, 'base64')
  const text = asUtf8(bytes)
  const key = text === undefined ? `base64:${toBase64(bytes)}` : printable(text)
  const store = write.store === '' ? '' : `${printable(write.store)}/`
  return `${write.type} ${store}${key}`
}
