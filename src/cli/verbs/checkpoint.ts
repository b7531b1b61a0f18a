// coterie checkpoint: makes the store durable, so that older log may go.

import type { Command } from 'commander'
import { type CommandRun, defineVerb } from '../command.ts'
import { resultPairs } from './result-pairs.ts'
import { withPort } from './shared.ts'

export function defineCheckpoint(program: Command, run: CommandRun): Command {
  return defineVerb(program, run, {
    usage: 'checkpoint <path>',
    summary: 'make the store durable up to now, so that older log may go',
    examples: [['coterie checkpoint ./data', 'prints up to which LSN the store is durable']],
    action: async (context, [path = '']) => {
      const result = await withPort(context, path, { create: false }, (port) => port.checkpoint())
      await context.output.result(result, resultPairs(result))
      return undefined
    },
  })
}
