// coterie restore: a new database from a backup.

import type { Command } from 'commander'
import { type CommandRun, defineVerb } from '../command.ts'
import { library } from '../library.ts'
import { progressFigures } from '../local-port.ts'
import { resultPairs } from './result-pairs.ts'

export function defineRestore(program: Command, run: CommandRun): Command {
  return defineVerb(program, run, {
    usage: 'restore <file> <path>',
    summary: 'make a new database from a backup',
    description:
      'The directory must be empty or absent. The result is a new site of the same database: open it alone, or\n' +
      'attach it to a master and it catches up from the log.',
    examples: [['coterie restore monday.backup ./data', 'prints LSN, rows and digest']],
    action: async (context, [file = '', path = '']) => {
      const bar = context.progress({ label: 'restore', unit: 'bytes' })
      const { restore } = await library()
      const result = await restore(file, path, {
        onProgress: (progress) => bar.update(...progressFigures(progress)),
      })
      bar.stop()
      await context.output.result({ path, ...result }, resultPairs({ path, ...result }))
      return undefined
    },
  })
}
