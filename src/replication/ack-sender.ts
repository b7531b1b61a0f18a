// The acks of a replica. ack-pacer.ts says when one is due; here is what it says.
//
// Invariant 6: an ack says only what the driver has reported; `durableLsn` moves in `Core.synced` alone.

import { type Lsn, noLsn, type Term } from '../base/lsn.ts'
import type { Attest } from '../base/policy.ts'
import { AckPacer, type AckPositions } from './ack-pacer.ts'
import type { PeerId } from './core-options.ts'
import type { CoreState } from './core-state.ts'

interface Attachment {
  readonly peer: PeerId
  readonly session: number
  readonly term: () => Term
}

const nothing: AckPositions = { receivedLsn: noLsn, durableLsn: noLsn, appliedLsn: noLsn }

export class AckSender {
  readonly #state: CoreState
  readonly #attachment: Attachment
  readonly #pacer: AckPacer
  /** Of the last heartbeat that asked for an ack. */
  #stamp = 0

  constructor(state: CoreState, attachment: Attachment) {
    this.#state = state
    this.#attachment = attachment
    this.#pacer = new AckPacer(state.timings.ackBytesMax)
  }

  get attest(): Attest {
    return this.#pacer.attest
  }

  agree(options: { readonly attest: Attest; readonly window: number }): void {
    this.#pacer.agree(options)
  }

  received(bytes: number): void {
    this.#pacer.received(bytes)
  }

  /** The master waits for everything up to `lsn`. */
  urgent(lsn: Lsn): void {
    this.#pacer.urgent(lsn)
  }

  stamped(stamp: number): void {
    this.#stamp = stamp
  }

  get #positions(): AckPositions {
    const { last, durableLsn, appliedLsn } = this.#state
    return { receivedLsn: last.lsn, durableLsn, appliedLsn }
  }

  send(): void {
    const positions = this.#positions
    this.#state.counters.acksSent++
    this.#send(positions, false)
    this.#pacer.acked(positions)
  }

  sendIfDue(): void {
    if (this.#pacer.isDue(this.#positions)) this.send()
  }

  /** The log or the store is being changed: the replica is there, and no more can be said. */
  sendBusy(): void {
    this.#send(nothing, true)
  }

  #send(positions: AckPositions, busy: boolean): void {
    const { peer, session, term } = this.#attachment
    const { receivedLsn, durableLsn, appliedLsn } = positions
    const stamp = this.#stamp
    this.#state.send(peer, {
      type: 'ack',
      session,
      term: term(),
      receivedLsn,
      durableLsn,
      appliedLsn,
      stamp,
      busy,
    })
  }
}
