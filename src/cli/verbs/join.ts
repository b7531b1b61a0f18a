// coterie join: a site of a group that elects its own master, until a signal ends it.

import type { Command } from 'commander'
import type { Group, GroupEnd } from '../../index.ts'
import { type CommandRun, defineVerb, type VerbContext } from '../command.ts'
import type { EventLines } from '../event-lines.ts'
import type { ExitCode } from '../exit-codes.ts'
import { exitCodeOfGroup, printGroupEnd, printGroupEvents } from '../group-events.ts'
import { type JoiningOptions, joiningOptions, toJoinOptions } from '../joining.ts'
import { type SiteOptions, siteOptions, withRunningSite } from '../running-site.ts'
import { whenAborted } from '../signals.ts'

type JoinVerbOptions = JoiningOptions & SiteOptions

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
      siteOptions(command)
      joiningOptions(command)
    },
    action: async (context, [path = ''], options) => await join(context, path, options),
  })
}

async function join(context: VerbContext, path: string, options: JoinVerbOptions): Promise<ExitCode> {
  return await withRunningSite(context, { ...options, path }, async ({ db, lines, offer, withdraw }) => {
    const group = await db.join(toJoinOptions(options))
    printGroupEvents(group, lines, (progress) => context.progress(progress))
    const { addresses } = group
    lines.print(
      'joining',
      { site: db.siteId, addresses, pid: process.pid },
      `site ${db.siteId} listens on ${addresses.join(', ')}`,
    )
    printWhatWas(group, lines)
    await offer()
    const end = await endOf(group, context, withdraw)
    printGroupEnd(end, lines)
    if (end.cause !== undefined) context.output.error(end.cause)
    return exitCodeOfGroup(end)
  })
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
async function endOf(group: Group, context: VerbContext, withdraw: () => Promise<void>): Promise<GroupEnd> {
  await Promise.race([group.stopped, whenAborted(context.io.interrupted)])
  await withdraw()
  await group.leave()
  return await group.stopped
}
