// coterie transfer: the master of a group hands its mastership over to another site, at an exact LSN.

import type { Command } from 'commander'
import { type CommandRun, defineVerb } from '../command.ts'
import { formatCount, formatMs } from '../format.ts'
import { durationMs } from '../options.ts'
import { withPort } from './shared.ts'

interface TransferVerbOptions {
  readonly timeout?: number
}

export function defineTransfer(program: Command, run: CommandRun): Command {
  return defineVerb<TransferVerbOptions>(program, run, {
    usage: 'transfer <path> <site>',
    summary: 'hand the mastership of a group over to another site',
    description:
      'On the folder of the master, while its `coterie join` runs. Writes wait for some milliseconds, commits under way\n' +
      'are settled first, and nothing is lost. If it fails, the old master goes on as if nothing had been asked.',
    examples: [['coterie transfer ./a b', 'b is the master when it returns']],
    options: (command) => {
      command.option(
        '--timeout <time>',
        'give up, and go on as before, after so long; default 10s',
        durationMs,
      )
    },
    action: async (context, [path = '', site = ''], options) => {
      const result = await withPort(context, path, { create: false }, (port) =>
        port.transfer(site, { timeoutMs: options.timeout }),
      )
      const { term, lsn, pausedMs } = result
      await context.output.result(
        result,
        `${result.site} is master in term ${term}, after lsn ${formatCount(lsn)}; writes waited ${formatMs(pausedMs)}`,
      )
      return undefined
    },
  })
}
