// coterie members: who belongs to a group, and the removal of a site that will not come back.

import type { Command } from 'commander'
import { CoterieError } from '../../base/errors.ts'
import type { GroupSite, GroupStatus, TwoSites } from '../../index.ts'
import { type CommandRun, defineVerb } from '../command.ts'
import { formatTable, printable } from '../format.ts'
import { electionsText, roleOf, stateOf } from '../group-text.ts'
import { twoSitesMode, twoSitesText } from '../options.ts'
import type { DatabasePort } from '../port.ts'
import { withPort } from './shared.ts'

interface MembersOptions {
  readonly remove?: string
  readonly twoSites?: TwoSites
}

export function defineMembers(program: Command, run: CommandRun): Command {
  return defineVerb<MembersOptions>(program, run, {
    usage: 'members <path>',
    summary: 'print who belongs to the group, or remove a site from it for good',
    description:
      'A site becomes a member by `coterie join`, once it has the data. --remove works on the folder of the master,\n' +
      'while its `coterie join` runs. A removed site is counted in no majority any more; its id never comes back.\n' +
      '--two-sites, there too, says what two members do while one of them is away. strict: nothing, a majority of two\n' +
      'is both. available: the other one goes on alone; what the earlier of two masters committed meanwhile is undone,\n' +
      'and kept in a file. prefer:<site>: so, too, but that site is master whenever it can be, and keeps its commits.',
    examples: [
      ['coterie members ./a', 'the members, in the order in which they came'],
      ['coterie members ./a --remove c', 'c is gone, and two of the two that are left are a majority'],
      ['coterie members ./a --two-sites available', 'the one that is left goes on'],
    ],
    options: (command) => {
      command
        .option('--remove <site>', 'the site that is to be a member no more')
        .option('--two-sites <mode>', 'strict, available or prefer:<site>', twoSitesMode)
    },
    action: async (context, [path = ''], options) => {
      await withPort(context, path, { create: false }, async (port) => {
        const { remove, twoSites } = options
        if (remove !== undefined) await port.removeMember(remove)
        if (twoSites !== undefined) await port.setTwoSites(twoSites)
        const group = await groupOf(port, path)
        const members = group.sites.filter((site) => site.isMember)
        await context.output.result(
          { members, majority: group.majority, twoSites: group.twoSites },
          membersText(group, members),
        )
      })
      return undefined
    },
  })
}

async function groupOf(port: DatabasePort, path: string): Promise<GroupStatus> {
  const { group } = await port.status()
  if (group !== undefined) return group
  throw new CoterieError('INVALID_STATE', `no process has joined a group with ${path}`)
}

/** Said only where it is of account. */
function pairText({ members, twoSites }: GroupStatus): string {
  return members.length === 2 || twoSites !== 'strict' ? `\ntwo sites: ${twoSitesText(twoSites)}` : ''
}

function membersText(group: GroupStatus, members: readonly GroupSite[]): string {
  const table = formatTable(
    [{ title: 'site' }, { title: 'role' }, { title: 'state' }, { title: 'address' }],
    members.map((site) => [
      printable(site.site),
      roleOf(site, group),
      stateOf(site),
      printable(site.address),
    ]),
  )
  return `${table}\n\nmajority: ${electionsText(group)}${pairText(group)}`
}
