// coterie stat: how much is in the database.

import type { Command } from 'commander'
import { type CommandRun, defineVerb } from '../command.ts'
import { formatBytes, formatCount, formatPairs, formatTable } from '../format.ts'
import type { PortDigest, PortStat } from '../port.ts'
import { viewText } from '../status-text.ts'
import { withPort } from './shared.ts'

interface StatOptions {
  readonly digest?: boolean
}

export function defineStat(program: Command, run: CommandRun): Command {
  return defineVerb<StatOptions>(program, run, {
    usage: 'stat <path>',
    summary: 'print the stores with their rows and bytes, and the figures of the log',
    examples: [
      ['coterie stat ./data', 'rows and bytes of each store'],
      ['coterie stat ./data --digest', 'and a digest: equal on all sites that have applied the same LSN'],
    ],
    options: (command) => {
      command.option('--digest', 'also a digest of all rows')
    },
    action: async (context, [path = ''], options) => {
      await withPort(context, path, { create: false }, async (port) => {
        const stat = await port.stat()
        let digest: PortDigest | undefined
        if (options.digest === true) {
          const bar = context.progress({ label: 'digest', unit: 'rows' })
          digest = await port.digest((done, total) => bar.update(done, total))
          bar.stop()
        }
        await context.output.result(digest === undefined ? stat : { ...stat, digest }, statText(stat, digest))
      })
      return undefined
    },
  })
}

function statText(stat: PortStat, digest: PortDigest | undefined): string {
  const table = formatTable(
    [{ title: 'store' }, { title: 'rows', align: 'right' }, { title: 'bytes', align: 'right' }],
    stat.stores.map(({ name, rows, bytes }) => [
      name === '' ? '(unnamed)' : name,
      formatCount(rows),
      formatBytes(bytes),
    ]),
  )
  const figures: [string, string][] = []
  for (const [name, value] of Object.entries(stat)) {
    if (typeof value === 'number') {
      figures.push([name, name.endsWith('Bytes') ? formatBytes(value) : formatCount(value)])
    } else if (typeof value === 'string') {
      figures.push([name, value])
    }
  }
  if (stat.view !== undefined) figures.push(['view', viewText(stat.view)])
  if (digest !== undefined) figures.push(['digest', `${digest.digest} at lsn ${formatCount(digest.lsn)}`])
  return figures.length === 0 ? table : `${table}\n\n${formatPairs(figures)}`
}
