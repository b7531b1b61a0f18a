// coterie serve: opens a database as the master and lets others attach, until a signal ends it.

import type { Command } from 'commander'
import { type CommandRun, defineVerb, type VerbContext } from '../command.ts'
import type { ExitCode } from '../exit-codes.ts'
import { type SiteOptions, siteOptions, withRunningSite } from '../running-site.ts'
import {
  exitCodeOfServing,
  printMasterEvents,
  printServeEnd,
  type ServingOptions,
  servingOptions,
  toServeOptions,
} from '../serving.ts'
import { whenAborted } from '../signals.ts'

type ServeVerbOptions = ServingOptions & SiteOptions

const defaultListen = 'tcp://127.0.0.1:0'

export function defineServe(program: Command, run: CommandRun): Command {
  return defineVerb<ServeVerbOptions>(program, run, {
    usage: 'serve <path>',
    summary: 'open a database as the master and let replicas attach',
    description:
      'Prints the addresses, then a line for each event. Ends in good order on SIGINT or SIGTERM. Meanwhile the other\n' +
      'verbs work on the same path through this process. Creates the database where there is none; promotes a\n' +
      'replica that is not attached.',
    examples: [
      [
        'coterie serve ./data --listen tcp://0.0.0.0:10000 --sites 3',
        'a commit is acknowledged when two of three have it',
      ],
      ['coterie serve ./data', 'listens on a free port of this machine and prints it'],
    ],
    options: (command) => {
      servingOptions(command, `where to listen; may be given again; default ${defaultListen}`)
      siteOptions(command)
    },
    action: async (context, [path = ''], options) => await serve(context, path, options),
  })
}

async function serve(context: VerbContext, path: string, options: ServeVerbOptions): Promise<ExitCode> {
  return await withRunningSite(context, { ...options, path }, async ({ db, lines, offer, withdraw }) => {
    const master = await db.serve(toServeOptions(options, options.listen ?? [defaultListen]))
    printMasterEvents(master, lines)
    await offer()
    const { term } = db.status()
    const { addresses } = master
    lines.print(
      'serving',
      { site: db.siteId, term, addresses, pid: process.pid },
      `site ${db.siteId} is master in term ${term}, listening on ${addresses.join(', ')}`,
    )
    await Promise.race([master.stopped, whenAborted(context.io.interrupted)])
    await withdraw()
    await master.stop()
    const end = await master.stopped
    printServeEnd(end, lines)
    return exitCodeOfServing(end)
  })
}
