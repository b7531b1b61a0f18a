// coterie takeover: the replica of a running `coterie attach` becomes master in its master's place.

import type { Command } from 'commander'
import { type CommandRun, defineVerb } from '../command.ts'
import { formatCount, formatMs } from '../format.ts'
import { collect, durationMs } from '../options.ts'
import { withPort } from './shared.ts'

interface TakeOverVerbOptions {
  readonly listen?: readonly string[]
  readonly advertise?: string
  readonly timeout?: number
}

export function defineTakeOver(program: Command, run: CommandRun): Command {
  return defineVerb<TakeOverVerbOptions>(program, run, {
    usage: 'takeover <path>',
    summary: 'make this replica the master, with the consent of its master',
    description:
      'On the folder of a running `coterie attach`. The old master settles what is under way, gives up, and says where\n' +
      'the new one is; its other replicas go there by themselves, and its `coterie serve` ends. Writes wait for some\n' +
      'milliseconds and nothing is lost. If it fails, the old master goes on as if nothing had been asked.\n' +
      'If the master is gone, use `coterie promote`.',
    examples: [
      ['coterie takeover ./copy', 'serves where `coterie attach` was told to listen'],
      ['coterie takeover ./copy --listen tcp://db2:10000', 'serves there'],
    ],
    options: (command) => {
      command
        .option(
          '--listen <address>',
          'serve here instead of where `attach` was told to; may be given again',
          collect,
        )
        .option('--advertise <address>', 'where the others reach it; default: the first that it listens on')
        .option('--timeout <time>', 'how long the master may take to answer; default 10s', durationMs)
    },
    action: async (context, [path = ''], options) => {
      const { listen, advertise, timeout } = options
      const taken = await withPort(context, path, { create: false }, (port) =>
        port.takeOver({ listen, advertise, timeoutMs: timeout }),
      )
      const { term, lsn, pausedMs, addresses } = taken
      const serving = addresses.length === 0 ? '' : `, serving on ${addresses.join(', ')}`
      const paused = pausedMs === undefined ? '' : `; writes waited ${formatMs(pausedMs)}`
      await context.output.result(
        taken,
        `master in term ${formatCount(term)}, after lsn ${formatCount(lsn)}${serving}${paused}`,
      )
      return undefined
    },
  })
}
