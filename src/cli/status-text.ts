// The status of a site as text: positions, replicas, the group, and what could be lost now.

import type { ReplicaStatus, ViewStatus } from '../index.ts'
import { formatBytes, formatCount, formatPairs, formatTable } from './format.ts'
import { electionsText, groupTable } from './group-text.ts'
import type { PortStatus } from './port.ts'

const positions = [
  'lastLsn',
  'durableLsn',
  'committedLsn',
  'permanentLsn',
  'appliedLsn',
  'checkpointLsn',
  'firstLsn',
] as const

export function statusText(status: PortStatus, holderPid: number | undefined): string {
  const { group } = status
  const pairs: [string, string][] = [
    ['role', roleText(status)],
    ['site', status.site],
    ['term', String(status.term)],
  ]
  if (status.addresses.length > 0) pairs.push(['serves at', status.addresses.join(', ')])
  if (status.view !== undefined) pairs.push(['view', viewText(status.view)])
  const master = group === undefined ? status.master : masterText(group)
  if (master !== undefined) pairs.push(['master', master])
  if (group !== undefined) pairs.push(['majority', electionsText(group)])
  if (status.databaseId !== undefined) pairs.push(['database', status.databaseId])
  for (const name of positions) pairs.push([name, formatCount(status[name])])
  pairs.push(['log', formatBytes(status.logBytes)])
  if (status.waitingCommits > 0) pairs.push(['waiting commits', formatCount(status.waitingCommits)])
  if (holderPid !== undefined) pairs.push(['process', String(holderPid)])
  for (const name of ['failure', 'stall'] as const) {
    const error = status[name]
    if (error !== undefined) pairs.push([name, `${error.code}: ${error.message}`])
  }
  for (const file of status.lost) pairs.push(['lost transactions', file])
  return [formatPairs(pairs), ...tables(status), '', status.canLose].join('\n')
}

function roleText({ group, role, attached, writable }: PortStatus): string {
  return `${group?.role ?? role}${attached ? ', attached' : ''}${writable ? '' : ', read-only'}`
}

/** What a view keeps, and what it does not. */
export function viewText({ kind, kept, declined }: ViewStatus): string {
  if (kind === 'full') return 'of every store'
  const names = (stores: readonly string[]): string =>
    stores.length === 0 ? 'none' : stores.map((name) => (name === '' ? '(unnamed)' : name)).join(', ')
  return `partial; stores kept: ${names(kept)}; not kept: ${names(declined)}`
}

function masterText({ master }: NonNullable<PortStatus['group']>): string {
  return master === undefined ? 'none is known' : `${master.site} at ${master.address}`
}

/** The sites of a group say all that the replicas of its master would. */
function tables({ group, replicas }: PortStatus): string[] {
  if (group !== undefined) return ['', groupTable(group)]
  return replicas.length === 0 ? [] : ['', replicasTable(replicas)]
}

function replicasTable(replicas: readonly ReplicaStatus[]): string {
  return formatTable(
    [
      { title: 'replica' },
      { title: 'state' },
      { title: 'durable', align: 'right' },
      { title: 'applied', align: 'right' },
      { title: 'lag', align: 'right' },
      { title: 'lag bytes', align: 'right' },
      { title: 'round trip', align: 'right' },
      { title: 'address' },
    ],
    replicas.map((replica) => [
      replica.site,
      replica.view ? `${replica.state}, view` : replica.state,
      formatCount(replica.durableLsn),
      formatCount(replica.appliedLsn),
      formatCount(replica.lagRecords),
      formatBytes(replica.lagBytes),
      replica.roundTripMs === undefined ? '' : `${replica.roundTripMs.toFixed(1)} ms`,
      replica.address ?? '',
    ]),
  )
}
