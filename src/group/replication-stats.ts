// The figures of a site that replicates over the application's network (Berkeley DB's rep_stat).

import type { Counters } from '../replication/counters.ts'
import type { Site } from './site.ts'
import { type ReplicaStatus, replicaStatus } from './status.ts'

export interface ReplicationStats {
  readonly site: string
  readonly role: 'none' | 'master' | 'replica'
  /** It is a view, of every store or of some. */
  readonly view: 'full' | 'partial' | undefined
  readonly master: string | undefined
  readonly term: number
  readonly lastLsn: number
  readonly durableLsn: number
  readonly committedLsn: number
  readonly appliedLsn: number
  /** On a replica: it has all that its master had when it attached. */
  readonly synced: boolean
  /** On a master. */
  readonly replicas: readonly ReplicaStatus[]
  /** The sites that this one knows of. */
  readonly sites: readonly { readonly site: string; readonly term: number; readonly lastLsn: number }[]
  readonly counters: Readonly<Counters & { sendFailures: number; newSites: number; dupMasters: number }>
}

export function statsOf(
  site: Site,
  facts: {
    readonly role: 'none' | 'master' | 'replica'
    readonly sendFailures: number
    readonly newSites: number
    readonly dupMasters: number
  },
): ReplicationStats {
  const { core } = site
  const { role, ...counted } = facts
  return {
    site: site.site,
    role,
    view: site.view,
    master: core.heardMaster?.site,
    term: core.term,
    lastLsn: core.lastLsn,
    durableLsn: core.durableLsn,
    committedLsn: core.committedLsn,
    appliedLsn: core.appliedLsn,
    synced: core.isSynced,
    replicas: site.replicas.map((view) => replicaStatus(site, view)),
    sites: core.sites.map((view) => ({ site: view.site, term: view.term, lastLsn: view.last.lsn })),
    counters: { ...core.counters, ...counted },
  }
}
