// coterie promote: the operator makes this site the master.

import type { Command } from 'commander'
import { type CommandRun, defineVerb } from '../command.ts'
import { formatCount } from '../format.ts'
import { withPort } from './shared.ts'

export function definePromote(program: Command, run: CommandRun): Command {
  return defineVerb(program, run, {
    usage: 'promote <path>',
    summary: 'make this site the master, in a new term, by hand',
    description:
      'For a replica whose master is gone for good. Promote the site that has the most: the highest term of its last\n' +
      'record, then the highest lastLsn (`coterie log`, `coterie status`). Promote only one: the old master, when it comes back, gives up what the new one does not have, to a file.\n' +
      'A running `coterie attach` goes on as the master, and serves if it was given --listen.',
    examples: [['coterie promote ./copy', 'then: coterie serve ./copy --listen tcp://0.0.0.0:10000']],
    action: async (context, [path = '']) => {
      const promoted = await withPort(context, path, { create: false }, (port) => port.promote())
      const serving = promoted.addresses.length === 0 ? '' : `, serving on ${promoted.addresses.join(', ')}`
      await context.output.result(promoted, `master in term ${formatCount(promoted.term)}${serving}`)
      return undefined
    },
  })
}
