// When a replica acknowledges: for each record that qualifies, or once for n where a window is agreed, or at once
// where the master asks. It decides only when; what an ack says are the positions that the driver has reported.

import { type Lsn, noLsn } from '../base/lsn.ts'
import type { Attest } from '../base/policy.ts'

export interface AckPositions {
  readonly receivedLsn: Lsn
  readonly durableLsn: Lsn
  readonly appliedLsn: Lsn
}

export class AckPacer {
  readonly #bytesMax: number
  #attest: Attest = 'durable'
  #window = 1
  #ackedLsn = noLsn
  #urgentLsn = noLsn
  #bytes = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  get attest(): Attest {
    return this.#attest
  }

  agree(options: { attest: Attest; window: number }): void {
    this.#attest = options.attest
    this.#window = options.window
  }

  received(bytes: number): void {
    this.#bytes += bytes
  }

  /** The master waits for everything up to `lsn`. */
  urgent(lsn: Lsn): void {
    if (lsn > this.#urgentLsn) this.#urgentLsn = lsn
  }

  isDue(positions: AckPositions): boolean {
    // The master's window for this replica is freed by what was received, whatever the acks attest.
    if (this.#bytes >= this.#bytesMax) return true
    const lsn = this.#attested(positions)
    if (lsn <= this.#ackedLsn) return false
    return (
      lsn - this.#ackedLsn >= this.#window || (lsn >= this.#urgentLsn && this.#ackedLsn < this.#urgentLsn)
    )
  }

  acked(positions: AckPositions): void {
    this.#ackedLsn = this.#attested(positions)
    this.#bytes = 0
  }

  #attested(positions: AckPositions): Lsn {
    if (this.#attest === 'received') return positions.receivedLsn
    return this.#attest === 'durable' ? positions.durableLsn : positions.appliedLsn
  }
}
