// coterie members: who belongs to a group, and the removal of a site that will not come back.

import type { Command } from 'commander'
import { CoterieError } from '../../base/errors.ts'
import type { GroupSite, GroupStatus } from '../../index.ts'
import { type CommandRun, defineVerb } from '../command.ts'
import { formatTable, printable } from '../format.ts'
import { electionsText, roleOf, stateOf } from '../group-text.ts'
import type { DatabasePort } from '../port.ts'
import { withPort } from './shared.ts'

interface MembersOptions {
  readonly remove?: string
}

export function defineMembers(program: Command, run: CommandRun): Command {
  return defineVerb<MembersOptions>(program, run, {
    usage: 'members <path>',
    summary: 'print who belongs to the group, or remove a site from it for good',
    description:
      'A site becomes a member by `coterie join`, once it has the data. --remove works on the folder of the master,\n' +
      'while its `coterie join` runs. A removed site is counted in no majority any more; its id never comes back.',
    examples: [
      ['coterie members ./a', 'the members, in the order in which they came'],
      ['coterie members ./a --remove c', 'c is gone, and two of the two that are left are a majority'],
    ],
    options: (command) => {
      command.option('--remove <site>', 'the site that is to be a member no more')
    },
    action: async (context, [path = ''], options) => {
      await withPort(context, path, { create: false }, async (port) => {
        const { remove } = options
        if (remove !== undefined) await port.removeMember(remove)
        const group = await groupOf(port, path)
        const members = group.sites.filter((site) => site.isMember)
        await context.output.result({ members, majority: group.majority }, membersText(group, members))
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
  return `${table}\n\nmajority: ${electionsText(group)}`
}
