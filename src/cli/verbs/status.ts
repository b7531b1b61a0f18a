// coterie status: the role, the positions, the replicas and what could be lost now.

import type { Command } from 'commander'
import type { ReplicaStatus } from '../../index.ts'
import { type CommandRun, defineVerb } from '../command.ts'
import { formatBytes, formatCount, formatPairs, formatTable } from '../format.ts'
import type { PortStatus } from '../port.ts'
import { withPort } from './shared.ts'

interface StatusOptions {
  readonly outcome?: string
}

export function defineStatus(program: Command, run: CommandRun): Command {
  return defineVerb<StatusOptions>(program, run, {
    usage: 'status <path>',
    summary: 'print role, positions, replicas, and what could be lost now',
    examples: [
      ['coterie status ./data', 'works too while `coterie serve` or `attach` runs on it'],
      ['coterie status ./data --outcome <token>', 'what became of a commit: applied, pending or lost'],
    ],
    options: (command) => {
      command.option('--outcome <token>', 'print what became of the commit with this token, and nothing else')
    },
    action: async (context, [path = ''], options) => {
      await withPort(context, path, { create: false }, async (port) => {
        const token = options.outcome
        if (token !== undefined) {
          const outcome = await port.outcome(token)
          await context.output.result({ token, outcome }, outcome)
          return
        }
        const status = await port.status()
        const { holderPid } = port
        await context.output.result({ ...status, holderPid }, statusText(status, holderPid))
      })
      return undefined
    },
  })
}

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
  const pairs: [string, string][] = [
    ['role', `${status.role}${status.attached ? ', attached' : ''}${status.writable ? '' : ', read-only'}`],
    ['site', status.site],
    ['term', String(status.term)],
  ]
  if (status.master !== undefined) pairs.push(['master', status.master])
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
  const replicas = status.replicas.length === 0 ? [] : ['', replicasTable(status.replicas)]
  return [formatPairs(pairs), ...replicas, '', status.canLose].join('\n')
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
      replica.state,
      formatCount(replica.durableLsn),
      formatCount(replica.appliedLsn),
      formatCount(replica.lagRecords),
      formatBytes(replica.lagBytes),
      replica.roundTripMs === undefined ? '' : `${replica.roundTripMs.toFixed(1)} ms`,
      replica.address ?? '',
    ]),
  )
}
