// What the demo found, as data and as words.

import { formatBytes, formatCount, formatMs, formatTable } from '../format.ts'
import type { SiteResults, WrongRow } from './messages.ts'

/** One kill of the master and what came of it. */
export interface Kill {
  readonly killed: string
  readonly master: string
  /** From the kill until the demo hears of the new master ... */
  readonly masterMs: number
  /** ... and until the first commit is acknowledged by it. */
  readonly commitMs: number
  /** Commits acknowledged before the kill, since the first; all of them were looked up on the new master. */
  readonly acknowledged: number
  /** Of those, the ones that it did not have. */
  readonly lost: number
  /** Commits under way at the kill, and those of them that had become permanent. */
  readonly unknown: number
  readonly wereCommitted: number
}

export interface Failover extends Kill {
  /** How the killed site came back. */
  readonly comeback: Comeback
}

export interface Comeback {
  readonly kind: string
  readonly transactions: number
  /** From the start of its process until it has all that the group has. */
  readonly ms: number
  /** Transactions of its own that the group never had, and that it gave up. None was acknowledged. */
  readonly rewound: number
}

export interface SiteReport extends Readonly<SiteResults['digest']> {
  readonly site: string
  readonly checked: number
  readonly wrong: number
}

export interface DemoReport {
  readonly seed: number
  readonly cities: number
  readonly acknowledged: number
  readonly lost: number
  readonly digestsEqual: boolean
  readonly lostRows: readonly (WrongRow & { readonly site: string })[]
  readonly sites: readonly SiteReport[]
  readonly failovers: readonly Failover[]
  /** Changes of master that no kill explains. */
  readonly otherChanges: number
  readonly load: { readonly ms: number; readonly commitsPerSecond: number; readonly bytes: number }
  /** Writes that a living site did not acknowledge (no quorum for a moment, say) and that were sent again. */
  readonly sentAgainBesides: number
  readonly canLose: string
  readonly checkMs: number
  readonly totalMs: number
}

const lostShownMax = 10

export function killText(kill: Kill): string {
  const { killed, master, masterMs, acknowledged, lost } = kill
  return (
    `kill -9 ${killed} -> ${master} master in ${formatCount(masterMs)} ms, ` +
    `acknowledged ${formatCount(acknowledged)}, lost ${formatCount(lost)}`
  )
}

export function comebackText(site: string, comeback: Comeback): string {
  const { kind, transactions, ms, rewound } = comeback
  const gaveUp = rewound === 0 ? '' : `, gave up ${formatCount(rewound)} that nobody had acknowledged`
  return `  ${site} is back in ${formatMs(ms)}: ${kind}, ${formatCount(transactions)} transactions${gaveUp}`
}

export function reportText(report: DemoReport): string {
  const { load, failovers } = report
  const sites = formatTable(
    [
      { title: 'site' },
      { title: 'rows', align: 'right' },
      { title: 'digest' },
      { title: 'lsn', align: 'right' },
      { title: 'receipts checked', align: 'right' },
      { title: 'wrong', align: 'right' },
    ],
    report.sites.map((site) => [
      site.site,
      formatCount(site.rows),
      site.digest,
      formatCount(site.lsn),
      formatCount(site.checked),
      formatCount(site.wrong),
    ]),
  )
  const unknown = failovers.reduce((sum, each) => sum + each.unknown, 0)
  const wereCommitted = failovers.reduce((sum, each) => sum + each.wereCommitted, 0)
  return [
    '',
    sites,
    '',
    `load       ${formatCount(report.acknowledged)} commits, ${formatBytes(load.bytes)}, in ${formatMs(load.ms)}: ` +
      `${formatCount(load.commitsPerSecond)} commits/s, kills and restarts included`,
    `failovers  new master after ${spread(failovers.map((each) => each.masterMs))}, first commit after ` +
      `${spread(failovers.map((each) => each.commitMs))}`,
    ...(report.otherChanges === 0
      ? []
      : [`           ${formatCount(report.otherChanges)} more changes of master, without a kill`]),
    `unknown    ${formatCount(unknown)} commits under way at the kills: ${formatCount(wereCommitted)} had become ` +
      `permanent, ${formatCount(unknown - wereCommitted)} had not; all were written again under the same keys`,
    `status     ${report.canLose}`,
    `digests    ${report.digestsEqual ? `equal on all ${report.sites.length} sites` : 'DIFFERENT'}` +
      ', over all rows: the cities, and the one that holds the members of the group',
    `time       ${formatMs(report.totalMs)}, seed ${report.seed}`,
    ...lostText(report),
    '',
    `acknowledged ${formatCount(report.acknowledged)}, lost ${formatCount(report.lost)}`,
  ].join('\n')
}

/** `151 ms`, or from the least to the most. */
function spread(values: readonly number[]): string {
  const [least, most] = [Math.min(...values), Math.max(...values)]
  return values.length < 2 ? `${formatCount(most)} ms` : `${formatCount(least)} to ${formatCount(most)} ms`
}

function lostText(report: DemoReport): string[] {
  const lines = report.lostRows
    .slice(0, lostShownMax)
    .map((row) => `lost on ${row.site}: ${row.key}: ${row.reason}`)
  const more = report.lostRows.length - lines.length
  if (lines.length === 0) return []
  return ['', ...lines, ...(more > 0 ? [`and ${formatCount(more)} more`] : [])]
}
