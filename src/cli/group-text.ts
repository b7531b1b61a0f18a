// A group as a table: one line a site, as the site that was asked knows it.

import type { GroupSite, GroupStatus } from '../index.ts'
import { formatCount, formatMs, formatTable, printable } from './format.ts'

export function groupTable(group: GroupStatus): string {
  return formatTable(
    [
      { title: 'site' },
      { title: 'role' },
      { title: 'state' },
      { title: 'lsn', align: 'right' },
      { title: 'lag', align: 'right' },
      { title: 'ack p99', align: 'right' },
      { title: 'version' },
      { title: 'heard', align: 'right' },
      { title: 'address' },
    ],
    group.sites.map((each) => [
      printable(each.site),
      roleOf(each, group),
      stateOf(each),
      count(each.lastLsn),
      count(each.lagRecords),
      each.ackMs === undefined ? '' : formatMs(each.ackMs),
      printable(each.version ?? ''),
      heardText(each),
      printable(each.address),
    ]),
  )
}

export function electionsText(group: GroupStatus): string {
  const { members, majority } = group
  return `${majority} of ${members.length} ${members.length === 1 ? 'member' : 'members'}`
}

export function roleOf(site: GroupSite, group: GroupStatus): string {
  if (!site.isMember) return 'not a member'
  return site.site === group.master?.site ? 'master' : 'replica'
}

export function stateOf(site: GroupSite): string {
  return site.state === 'master' || site.state === 'replica' ? 'live' : site.state
}

function heardText(site: GroupSite): string {
  if (site.isSelf) return 'here'
  return site.heardMs === undefined ? 'never' : `${formatMs(site.heardMs)} ago`
}

function count(value: number | undefined): string {
  return value === undefined ? '' : formatCount(value)
}
