// What the core reports, in the words of a group's events. Only what needs no decision: the rest is in group.ts.

import type { Emitter } from '../base/emitter.ts'
import { isSameTwoSites, type Membership, memberOf } from '../base/membership.ts'
import type { CoreEvent } from '../replication/effects.ts'
import type { GroupEvents } from './events.ts'
import { tellSync } from './sync-events.ts'

export function tellCoreEvent(group: Emitter<GroupEvents>, event: CoreEvent): void {
  switch (event.kind) {
    case 'electionBegun':
      group.emit('electionBegun', { round: event.round })
      return
    case 'electionFailed': {
      const { reason, have, need } = event
      group.emit('electionFailed', { reason, have, need })
      return
    }
    case 'voted':
      group.emit('voted', { term: event.term, site: event.site })
      return
    case 'handedOver':
      group.emit('handedOver', { site: event.site, term: event.term, lsn: event.lsn })
      return
    case 'duplicateMaster':
      group.emit('duplicateMaster', { term: event.term, site: event.site })
      return
    case 'siteRefused':
    case 'replicaRefused':
      group.emit('siteRefused', { site: event.site, code: event.code, message: event.message })
      return
    default:
      tellSync(group, event)
  }
}

/** Who has come and who has gone from one list of members to the next. */
export function tellMembers(
  group: Emitter<GroupEvents>,
  before: Membership | undefined,
  after: Membership | undefined,
): void {
  for (const { site, address } of after?.members ?? []) {
    if (memberOf(before, site) === undefined) group.emit('memberAdded', { site, address })
  }
  for (const { site } of before?.members ?? []) {
    if (memberOf(after, site) === undefined) group.emit('memberRemoved', { site })
  }
  const { twoSites = 'strict' } = after ?? {}
  if (before !== undefined && !isSameTwoSites(before.twoSites, twoSites)) group.emit('twoSites', { twoSites })
}
