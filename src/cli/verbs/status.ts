// coterie status: the role, the positions, the replicas and what could be lost now.

import type { Command } from 'commander'
import { type CommandRun, defineVerb } from '../command.ts'
import { statusText } from '../status-text.ts'
import { withPort } from './shared.ts'

interface StatusOptions {
  readonly outcome?: string
}

export function defineStatus(program: Command, run: CommandRun): Command {
  return defineVerb<StatusOptions>(program, run, {
    usage: 'status <path>',
    summary: 'print role, positions, replicas, and what could be lost now',
    examples: [
      ['coterie status ./data', 'works too while `coterie serve` or `attach` runs on it'],
      ['coterie status ./data --outcome <token>', 'what became of a commit: applied, pending or lost'],
    ],
    options: (command) => {
      command.option('--outcome <token>', 'print what became of the commit with this token, and nothing else')
    },
    action: async (context, [path = ''], options) => {
      await withPort(context, path, { create: false }, async (port) => {
        const token = options.outcome
        if (token !== undefined) {
          const outcome = await port.outcome(token)
          await context.output.result({ token, outcome }, outcome)
          return
        }
        const status = await port.status()
        const { holderPid } = port
        await context.output.result({ ...status, holderPid }, statusText(status, holderPid))
      })
      return undefined
    },
  })
}
