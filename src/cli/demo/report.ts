// What the demo found, as data and as words.

import { formatBytes, formatCount, formatMs, formatTable } from '../format.ts'
import type { SiteResults, WrongRow } from './messages.ts'

export interface Step {
  /** Acknowledged cities when it happened, in percent of all. */
  readonly percent: number
  readonly words: string
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
  readonly load: { readonly ms: number; readonly commitsPerSecond: number; readonly bytes: number }
  readonly catchUp: { readonly kind: string; readonly transactions: number; readonly ms: number }
  readonly snapshot: {
    readonly kind: string
    readonly bytes: number
    readonly ms: number
    readonly mbPerSecond: number
  }
  readonly masterRestart: {
    /** From the kill to serving again. */
    readonly servingMs: number
    /** From the kill to the first commit that is acknowledged again. */
    readonly commitMs: number
  }
  readonly unknown: { readonly total: number; readonly wereCommitted: number; readonly wereNot: number }
  /** Writes that a living master did not acknowledge (no quorum for a moment, say) and that were sent again. */
  readonly sentAgainBesides: number
  readonly checkMs: number
  readonly totalMs: number
  readonly steps: readonly Step[]
}

const lostShownMax = 10

export function reportText(report: DemoReport): string {
  const { load, catchUp, snapshot, masterRestart, unknown } = report
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
  return [
    '',
    sites,
    '',
    `load            ${formatCount(report.acknowledged)} commits, ${formatBytes(load.bytes)}, in ${formatMs(load.ms)}: ` +
      `${formatCount(load.commitsPerSecond)} commits/s, kills and restarts included`,
    `catch-up        ${catchUp.kind}, ${formatCount(catchUp.transactions)} transactions in ${formatMs(catchUp.ms)}`,
    `snapshot        ${formatBytes(snapshot.bytes)} in ${formatMs(snapshot.ms)}: ${snapshot.mbPerSecond.toFixed(1)} MB/s, while loading`,
    `master restart  serving after ${formatMs(masterRestart.servingMs)}, first commit after ${formatMs(masterRestart.commitMs)}`,
    `unknown         ${formatCount(unknown.total)} outcomes at the master's death: ${formatCount(unknown.wereCommitted)} had become ` +
      `permanent, ${formatCount(unknown.wereNot)} had not; all were written again under the same keys`,
    `digests         ${report.digestsEqual ? `equal on all ${report.sites.length} sites` : 'DIFFERENT'}`,
    `time            ${formatMs(report.totalMs)}, seed ${report.seed}`,
    ...lostText(report),
    '',
    `acknowledged ${formatCount(report.acknowledged)}, lost ${formatCount(report.lost)}`,
  ].join('\n')
}

function lostText(report: DemoReport): string[] {
  const lines = report.lostRows
    .slice(0, lostShownMax)
    .map((row) => `lost on ${row.site}: ${row.key}: ${row.reason}`)
  const more = report.lostRows.length - lines.length
  if (lines.length === 0) return []
  return ['', ...lines, ...(more > 0 ? [`and ${formatCount(more)} more`] : [])]
}
