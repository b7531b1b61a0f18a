// A database that a verb keeps open until a signal: what happens to it is printed, and the other verbs reach it through
// this process's endpoint.

import type { Command } from 'commander'
import type { VerbContext } from './command.ts'
import { ControlServer } from './control/control-server.ts'
import { printDatabaseEvents } from './database-events.ts'
import { EventLines } from './event-lines.ts'
import type { ExitCode } from './exit-codes.ts'
import { library } from './library.ts'
import { type ByteDatabase, LocalPort, viewEncodings } from './local-port.ts'
import { oneOf } from './options.ts'

export interface SiteOptions {
  readonly site?: string
  readonly durability?: 'sync' | 'written' | 'memory'
}

export interface RunningSite {
  readonly db: ByteDatabase
  readonly lines: EventLines
  /** From now on other processes reach the database through this one; a database in memory they do not. */
  offer(): Promise<void>
  /** Nobody asks this process any more. */
  withdraw(): Promise<void>
}

export function siteOptions(command: Command): void {
  command
    .option('--site <id>', 'the durable id of this site, given once; default: a random one')
    .option(
      '--durability <how>',
      'of commits here: sync (default), written or memory',
      oneOf(['sync', 'written', 'memory']),
    )
}

/** Opens the database, runs, and closes it, however that ends. */
export async function withRunningSite(
  context: VerbContext,
  target: SiteOptions & { readonly path: string },
  run: (running: RunningSite) => Promise<ExitCode>,
): Promise<ExitCode> {
  const lines = new EventLines(context.output)
  const { path, site, durability } = target
  const { open } = await library()
  const db: ByteDatabase = await open<Uint8Array, Uint8Array>(path, {
    ...viewEncodings,
    ...(site === undefined ? {} : { site }),
    ...(durability === undefined ? {} : { durability }),
  })
  let control: ControlServer | undefined
  const offer = async (): Promise<void> => {
    if (path === ':memory:') return
    control = await ControlServer.start({ host: context.host, location: path, port: new LocalPort(db) })
  }
  const withdraw = async (): Promise<void> => {
    await control?.stop()
  }
  try {
    printDatabaseEvents(db, lines)
    return await run({ db, lines, offer, withdraw })
  } finally {
    await withdraw()
    await db.close()
    await lines.end()
  }
}
