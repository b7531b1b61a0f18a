// Whether a master takes writes now: enough replicas in step, none too far behind, no blocking snapshot. Pure.

import type { Gate, ServeSettings } from './core-options.ts'

export interface GateFacts {
  /** Voting replicas in step. */
  readonly inStep: number
  /** Bytes that the slowest of them lags; only asked for in async mode. */
  readonly lagBytes: () => number
  readonly snapshots: number
  readonly isHandingOver: boolean
}

const open: Gate = { open: true }

export const notMaster: Gate = { open: false, code: 'NOT_MASTER', wait: false, have: 0, need: 0 }

export function decideGate(settings: ServeSettings, facts: GateFacts): Gate {
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
export function sameGate(a: Gate, b: Gate): boolean {
  if (a.open || b.open) return a.open === b.open
  return a.code === b.code && a.wait === b.wait
}
