// coterie verify: reads the whole log and the whole store and says whether they are sound. Changes nothing.

import type { Command } from 'commander'
import { type CommandRun, defineVerb } from '../command.ts'
import { formatBytes, formatCount } from '../format.ts'
import { viewText } from '../status-text.ts'
import { withPort } from './shared.ts'

export function defineVerify(program: Command, run: CommandRun): Command {
  return defineVerb(program, run, {
    usage: 'verify <path>',
    summary: 'read the whole log and store and check every checksum',
    description: 'Exits with 1 if there is damage, and says in which file and where. Changes nothing.',
    examples: [['coterie verify ./data', 'prints how much was checked']],
    action: async (context, [path = '']) => {
      await withPort(context, path, { create: false }, async (port) => {
        const bar = context.progress({ label: 'verify', unit: 'records' })
        const { log, store } = await port.verify((done, total) => bar.update(done, total))
        bar.stop()
        const { view } = await port.status()
        const partial = view?.kind === 'partial' ? view : undefined
        const segments = `${formatCount(log.segments)} ${log.segments === 1 ? 'segment' : 'segments'}`
        await context.output.result(
          { ok: true, log, store, ...(partial === undefined ? {} : { view: partial }) },
          [
            `log    ok: ${formatCount(log.records)} records, ${formatBytes(log.bytes)}, ${segments}`,
            `store  ok: ${formatCount(store.rows)} rows, ${formatBytes(store.bytes)}, digest ${store.digest}`,
            ...(partial === undefined ? [] : [`view   ${viewText(partial)}`]),
          ].join('\n'),
        )
      })
      return undefined
    },
  })
}
