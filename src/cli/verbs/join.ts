// coterie join: a site of a group that elects its own master, until a signal ends it.

import type { Command } from 'commander'
import type { Group, GroupEnd } from '../../index.ts'
import { type CommandRun, defineVerb, type VerbContext } from '../command.ts'
import { ControlServer } from '../control/control-server.ts'
import { printDatabaseEvents } from '../database-events.ts'
import { EventLines } from '../event-lines.ts'
import type { ExitCode } from '../exit-codes.ts'
import { exitCodeOfGroup, printGroupEnd, printGroupEvents } from '../group-events.ts'
import { type JoiningOptions, joiningOptions, toJoinOptions } from '../joining.ts'
import { library } from '../library.ts'
import { type ByteDatabase, LocalPort, viewEncodings } from '../local-port.ts'
import { oneOf } from '../options.ts'
import { whenAborted } from '../signals.ts'

interface JoinVerbOptions extends JoiningOptions {
  readonly site?: string
  readonly durability?: 'sync' | 'written' | 'memory'
}

export function defineJoin(program: Command, run: CommandRun): Command {
  return defineVerb<JoinVerbOptions>(program, run, {
    usage: 'join <path>',
    summary: 'be a site of a group that elects its own master',
    description:
      'Without --seed it founds a group, or goes on with the one that the folder belongs to; with --seed it joins the\n' +
      'group of those sites. Prints a line for each event. Ends in good order on SIGINT or SIGTERM and stays a member;\n' +
      '`coterie members --remove` makes it one no more. Meanwhile the other verbs work on the same path through this\n' +
      'process.',
    examples: [
      ['coterie join ./a --site a --listen tcp://10.0.0.1:10000', 'founds a group'],
      ['coterie join ./b --site b --listen tcp://10.0.0.2:10000 --seed tcp://10.0.0.1:10000', 'joins it'],
      ['coterie join ./a --listen tcp://10.0.0.1:10000', 'later: the folder knows the others'],
    ],
    options: (command) => {
      command.option('--site <id>', 'the durable id of this site, given once; default: a random one')
      joiningOptions(command)
      command.option(
        '--durability <how>',
        'of commits here: sync (default), written or memory',
        oneOf(['sync', 'written', 'memory']),
      )
    },
    action: async (context, [path = ''], options) => await join(context, path, options),
  })
}

async function join(context: VerbContext, path: string, options: JoinVerbOptions): Promise<ExitCode> {
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
    const group = await db.join(toJoinOptions(options))
    printGroupEvents(group, lines, (progress) => context.progress(progress))
    const { addresses } = group
    lines.print(
      'joining',
      { site: db.siteId, addresses, pid: process.pid },
      `site ${db.siteId} listens on ${addresses.join(', ')}`,
    )
    printWhatWas(group, lines)
    if (path !== ':memory:') {
      control = await ControlServer.start({ host: context.host, location: path, port: new LocalPort(db) })
    }
    const end = await endOf(group, context, () => control?.stop())
    printGroupEnd(end, lines)
    if (end.cause !== undefined) context.output.error(end.cause)
    return exitCodeOfGroup(end)
  } finally {
    await control?.stop()
    await db.close()
    await lines.end()
  }
}

/** What had happened before anybody could listen: a site that founds a group is its master at once. */
function printWhatWas(group: Group, lines: EventLines): void {
  const { master, role, term } = group
  if (master === undefined) return
  const { site, address } = master
  lines.print('newMaster', { site, term, address }, `the master is ${site}, term ${term}, at ${address}`)
  if (role === 'master') lines.print('master', { term }, `this site is master in term ${term}`)
}

/** Waits for a signal, or for what else ends the membership; after it nobody asks this process any more. */
async function endOf(
  group: Group,
  context: VerbContext,
  stopControl: () => Promise<void> | undefined,
): Promise<GroupEnd> {
  await Promise.race([group.stopped, whenAborted(context.io.interrupted)])
  await stopControl()
  await group.leave()
  return await group.stopped
}
