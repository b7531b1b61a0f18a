// Whether a master takes writes now: enough replicas in step, none too far behind, no blocking snapshot, no hand-over.

import type { Gate, ServeSettings } from './core-options.ts'
import type { CoreState } from './core-state.ts'

interface GateFacts {
  /** Voting replicas in step. */
  readonly inStep: number
  /** Bytes that the slowest of them lags; only asked for in async mode. */
  readonly lagBytes: () => number
  readonly snapshots: number
  readonly isHandingOver: boolean
}

const open: Gate = { open: true }

export const notMaster: Gate = { open: false, code: 'NOT_MASTER', wait: false, have: 0, need: 0 }

/** The gate of one master. It tells when it opens and closes, and when the quorum comes and goes. */
export class WriteGate {
  readonly #state: CoreState
  #gate = open
  #hadQuorum = false

  constructor(state: CoreState) {
    this.#state = state
  }

  get gate(): Gate {
    return this.#gate
  }

  /** Where no quorum is asked for, there is one: nobody needs to be told that it was gained. */
  configured({ quorum }: ServeSettings): void {
    this.#hadQuorum ||= quorum === 0
  }

  review(settings: ServeSettings, facts: GateFacts): void {
    const { inStep } = facts
    const { quorum } = settings
    const hasQuorum = inStep >= quorum
    if (hasQuorum !== this.#hadQuorum) {
      this.#hadQuorum = hasQuorum
      this.#state.event({ kind: hasQuorum ? 'quorumGained' : 'quorumLost', have: inStep, need: quorum })
    }
    const gate = decideGate(settings, facts)
    if (!sameGate(gate, this.#gate)) this.#state.event({ kind: 'gate', gate })
    this.#gate = gate
  }
}

function decideGate(settings: ServeSettings, facts: GateFacts): Gate {
  if (facts.isHandingOver) return { open: false, code: 'HANDING_OVER', wait: true, have: 0, need: 0 }
  const { quorum, initialSync, mode, maxLagBytes, onFull } = settings
  if (facts.inStep < quorum) {
    return { open: false, code: 'NO_QUORUM', wait: false, have: facts.inStep, need: quorum }
  }
  if (initialSync === 'blocking' && facts.snapshots > 0) {
    return { open: false, code: 'SYNCING', wait: true, have: facts.snapshots, need: 0 }
  }
  if (mode === 'async' && onFull !== 'detach') {
    const lagBytes = facts.lagBytes()
    if (lagBytes > maxLagBytes) {
      return { open: false, code: 'LAG_EXCEEDED', wait: onFull === 'wait', have: lagBytes, need: maxLagBytes }
    }
  }
  return open
}

/** Whether a writer would notice the difference. */
function sameGate(a: Gate, b: Gate): boolean {
  if (a.open || b.open) return a.open === b.open
  return a.code === b.code && a.wait === b.wait
}
