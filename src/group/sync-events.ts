// How a site comes into step, as every face tells it in the same words: the core's events to those of the face.

import type { CoreEvent } from '../replication/effects.ts'
import type { AttachmentEvents } from './events.ts'

type SyncEvents = Pick<AttachmentEvents, 'syncBegin' | 'syncProgress' | 'snapshotDone' | 'synced'>

/** A face that has these events among its own. */
export interface SyncTeller {
  emit<Name extends keyof SyncEvents>(name: Name, detail: SyncEvents[Name]): void
}

/** Other events are left to the face. */
export function tellSync(face: SyncTeller, event: CoreEvent): void {
  switch (event.kind) {
    case 'syncBegin':
      face.emit('syncBegin', { kind: event.how, from: event.from, to: event.to })
      return
    case 'syncProgress': {
      const { unit, done, total, bytes } = event
      face.emit('syncProgress', { unit, done, total, bytes })
      return
    }
    case 'snapshotDone':
      face.emit('snapshotDone', { rows: event.rows, bytes: event.bytes, lsn: event.lsn })
      return
    case 'synced': {
      const { how, from, to, transactions, bytes, ms } = event
      face.emit('synced', { kind: how, from, to, transactions, bytes, ms })
      return
    }
    default:
  }
}
