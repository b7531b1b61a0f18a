// A replica answers a gap request in its master's place (Berkeley DB's client-to-client synchronisation): on networks
// where another replica is nearer than the master, or the master has enough to do.
//
// Invariant: it gives only records that it knows to be permanent. Those are in the log of every master of its term and
// of later ones, so whoever asks may take them from anybody of its database. What it cannot give it does not answer:
// the next request goes to the master.

import type { Lsn } from '../base/lsn.ts'
import type { PeerId } from './core-options.ts'
import type { CoreState } from './core-state.ts'
import { bulkHints, ignore, type StepResult, stepOk } from './effects.ts'
import type { LogReadAnswer } from './feed.ts'
import type { GapRequest } from './messages.ts'

/** Replicas that are being read for at a time. */
const readsMax = 16

export class PeerServing {
  readonly #state: CoreState
  /** The sessions of those that are being read for. */
  readonly #reads: Map<PeerId, number> = new Map()

  constructor(state: CoreState) {
    this.#state = state
  }

  request(request: GapRequest, from: PeerId): StepResult {
    const state = this.#state
    const { term, firstLsn, permanentLsn, durableLsn, timings } = state
    if (request.term !== term) return ignore('the request is of another term')
    const end = Math.min(permanentLsn, durableLsn, request.to === 0 ? permanentLsn : request.to) as Lsn
    if (request.from < firstLsn || request.from > end) return ignore('this site cannot serve these records')
    if (this.#reads.has(from) || this.#reads.size >= readsMax) return ignore('enough is being read')
    this.#reads.set(from, request.session)
    state.counters.peerRepairs++
    state.emit({ kind: 'readLog', peer: from, from: request.from, to: end, bytesMax: timings.readBytesMax })
    return stepOk
  }

  logRead(peer: PeerId, answer: LogReadAnswer): void {
    const session = this.#reads.get(peer)
    this.#reads.delete(peer)
    if (session === undefined || 'error' in answer || answer.batch === undefined) return
    const state = this.#state
    const { batch } = answer
    // What was read may have been undone meanwhile; it cannot be what this site knew to be permanent.
    if (batch.lastLsn > state.permanentLsn) return
    const { term, committedLsn, permanentLsn } = state
    const { previous, lastLsn, bytes } = batch
    const hints = { ...bulkHints, permanentLsn: lastLsn }
    state.sendBulk(
      peer,
      { type: 'append', session, term, previous, lastLsn, committedLsn, permanentLsn, ackNow: false },
      bytes,
      hints,
    )
  }
}
