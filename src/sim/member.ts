// How a simulated site takes part in its group once its database is open: it joins, and says what it sees.

import type { CoterieError } from '../base/errors.ts'
import type { Database } from '../group/database.ts'
import type { Group } from '../group/group.ts'
import type { Stage } from './stage.ts'

export interface EnterOptions {
  readonly db: Database
  readonly site: {
    readonly name: string
    readonly address: string
    readonly priority: number
    /** It is told to found the group. */
    readonly founds: boolean
  }
  readonly stage: Stage
  /** The group has turned the site away for good. */
  readonly onRefused: (cause: CoterieError) => void
}

export async function enterGroup({ db, site, stage, onRefused }: EnterOptions): Promise<Group> {
  const { settings, clockSkew } = stage
  const group = await db.join({
    site: site.name,
    listen: site.address,
    seeds: stage.seeds,
    start: site.founds ? 'master' : 'election',
    priority: site.priority,
    attest: settings.attest,
    heartbeatMs: settings.heartbeatMs,
    electionTimeoutMs: settings.electionTimeoutMs,
    silenceTimeoutMs: settings.silenceTimeoutMs,
    ackTimeoutMs: settings.ackTimeoutMs,
    ...(settings.twoSites === undefined ? {} : { twoSites: settings.twoSites }),
    ...(settings.leaseMs === 0 ? {} : { leases: { durationMs: settings.leaseMs, clockSkew } }),
  })
  group.stopped.then(
    ({ reason, cause }) => {
      if (cause !== undefined && (reason === 'refused' || reason === 'removed')) onRefused(cause)
    },
    () => stage.violate('defect', `${site.name}: stopped rejected`),
  )
  group.on('handedOver', ({ site: to, lsn }) => stage.handedOver.push({ from: site.name, to, lsn }))
  if (stage.isTold) {
    group.onAny((type, detail) => {
      if (type !== 'siteConnected' && type !== 'siteLost') stage.tell(site.name, `${type} ${textOf(detail)}`)
    })
  }
  return group
}

function textOf(detail: unknown): string {
  if (detail instanceof Error) return detail.message
  return (
    JSON.stringify(detail, (_key, value: unknown) => (value instanceof Error ? value.message : value)) ?? ''
  )
}
