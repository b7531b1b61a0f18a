// coterie archive: removes log segments that nobody needs any more.

import type { Command } from 'commander'
import { type CommandRun, defineVerb } from '../command.ts'
import { resultPairs } from './result-pairs.ts'
import { withPort } from './shared.ts'

export function defineArchive(program: Command, run: CommandRun): Command {
  return defineVerb(program, run, {
    usage: 'archive <path>',
    summary: 'remove log segments that nobody needs any more',
    description:
      'Keeps what recovery, attached replicas and running snapshots still need, and nothing for replicas that are\n' +
      'away: one whose next record is gone gets a snapshot when it comes back.',
    examples: [['coterie archive ./data', 'prints how many segments went and the first LSN that is left']],
    action: async (context, [path = '']) => {
      const result = await withPort(context, path, { create: false }, (port) => port.archive())
      await context.output.result(result, resultPairs(result))
      return undefined
    },
  })
}
