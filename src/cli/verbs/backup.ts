// coterie backup: one file with all rows of one moment, taken while writing goes on.

import { resolve } from 'node:path'
import type { Command } from 'commander'
import { type CommandRun, defineVerb } from '../command.ts'
import { resultPairs } from './result-pairs.ts'
import { withPort } from './shared.ts'

export function defineBackup(program: Command, run: CommandRun): Command {
  return defineVerb(program, run, {
    usage: 'backup <path> <file>',
    summary: 'write all rows of this moment to one checksummed file',
    description: 'Goes on while others write. `coterie restore` reads the file.',
    examples: [['coterie backup ./data monday.backup', 'prints LSN, rows, bytes and digest']],
    action: async (context, [path = '', file = '']) => {
      const target = resolve(file)
      const bar = context.progress({ label: 'backup', unit: 'bytes' })
      const result = await withPort(context, path, { create: false }, (port) =>
        port.backup(target, (done, total) => bar.update(done, total)),
      )
      bar.stop()
      await context.output.result({ file: target, ...result }, resultPairs({ file, ...result }))
      return undefined
    },
  })
}
