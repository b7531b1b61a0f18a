// coterie serve: opens a database as the master and lets others attach, until a signal ends it.

import type { Command } from 'commander'
import { type CommandRun, defineVerb, type VerbContext } from '../command.ts'
import { ControlServer } from '../control/control-server.ts'
import { printDatabaseEvents } from '../database-events.ts'
import { EventLines } from '../event-lines.ts'
import type { ExitCode } from '../exit-codes.ts'
import { library } from '../library.ts'
import { type ByteDatabase, LocalPort, viewEncodings } from '../local-port.ts'
import { oneOf } from '../options.ts'
import {
  exitCodeOfServing,
  printMasterEvents,
  printServeEnd,
  type ServingOptions,
  servingOptions,
  toServeOptions,
} from '../serving.ts'
import { whenAborted } from '../signals.ts'

interface ServeVerbOptions extends ServingOptions {
  readonly site?: string
  readonly durability?: 'sync' | 'written' | 'memory'
}

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
      command
        .option('--site <id>', 'the durable id of this site, given once; default: a random one')
        .option(
          '--durability <how>',
          'of commits here: sync (default), written or memory',
          oneOf(['sync', 'written', 'memory']),
        )
    },
    action: async (context, [path = ''], options) => await serve(context, path, options),
  })
}

async function serve(context: VerbContext, path: string, options: ServeVerbOptions): Promise<ExitCode> {
  const lines = new EventLines(context.output)
  const { site, durability } = options
  const { open } = await library()
  const db: ByteDatabase = await open<Uint8Array, Uint8Array>(path, {
    ...viewEncodings,
    ...(site === undefined ? {} : { site }),
    ...(durability === undefined ? {} : { durability }),
  })
  let control: ControlServer | undefined
  try {
    printDatabaseEvents(db, lines)
    const master = await db.serve(toServeOptions(options, options.listen ?? [defaultListen]))
    printMasterEvents(master, lines)
    if (path !== ':memory:') {
      control = await ControlServer.start({ host: context.host, location: path, port: new LocalPort(db) })
    }
    const { term } = db.status()
    const { addresses } = master
    lines.print(
      'serving',
      { site: db.siteId, term, addresses, pid: process.pid },
      `site ${db.siteId} is master in term ${term}, listening on ${addresses.join(', ')}`,
    )
    await Promise.race([master.stopped, whenAborted(context.io.interrupted)])
    await control?.stop()
    await master.stop()
    const end = await master.stopped
    printServeEnd(end, lines)
    return exitCodeOfServing(end)
  } finally {
    await control?.stop()
    await db.close()
    await lines.end()
  }
}
