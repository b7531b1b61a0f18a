// coterie elect: holds an election in a group whose sites hold none by themselves.

import type { Command } from 'commander'
import type { ElectResult } from '../../index.ts'
import { type CommandRun, defineVerb } from '../command.ts'
import { exitCodes } from '../exit-codes.ts'
import { failureWords } from '../group-events.ts'
import { withPort } from './shared.ts'

export function defineElect(program: Command, run: CommandRun): Command {
  return defineVerb<Record<string, never>>(program, run, {
    usage: 'elect <path>',
    summary: 'hold an election in a group whose sites hold none by themselves',
    description:
      'On the folder of a member, while its `coterie join --no-elections` runs, and no master is heard. The member that\n' +
      'has the most becomes master if a majority votes for it; otherwise the verb fails and nothing has changed.',
    examples: [['coterie elect ./a', 'who is master when it returns']],
    action: async (context, [path = '']) => {
      const result = await withPort(context, path, { create: false }, (port) => port.elect())
      await context.output.result(result, electionText(result))
      return result.kind === 'unavailable' ? exitCodes.notMaster : undefined
    },
  })
}

function electionText(result: ElectResult): string {
  if (result.kind !== 'unavailable') return `${result.master} is master in term ${result.term}`
  const { have, need } = result
  return `nobody was elected: ${failureWords[result.reason]} (${have} of ${need})`
}
