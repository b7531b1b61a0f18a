// What clients were told: their calls on the master can be put in an order, that order is the order of the LSNs, and
// sites that are not the master show prefixes of it that never get shorter.

import type { Operation, Place } from './history.ts'
import type { Ledger } from './ledger.ts'
import { callOf, findRegisterFault } from './linearizable.ts'
import { findOrderFault, type LoggedTransaction } from './lsn-order.ts'
import type { BenchView, Sight, SiteJudge } from './sight.ts'

export class HistoriesAreLinearisable implements SiteJudge {
  readonly name = 'linearisability'

  atEnd(bench: BenchView): void {
    const { history } = bench.world
    const known = history.map((operation) => settled(operation, bench.ledger))
    const fault = findRegisterFault(known)
    if (fault === undefined) return
    bench.violate(this, `${fault.key}: ${fault.message}\n${fault.operations.map(callOf).join('\n')}`)
  }
}

/**
 * An operation of which the client knows nothing and the log all. Of a pair: what was committed by one site alone and undone
 * has not happened, and what was read while such a thing stood there is not judged.
 */
function settled(operation: Operation, ledger: Ledger): Operation {
  const { outcome, kind, lsn, term, completedAt, places } = operation
  if (places?.some((place) => isUndone(place, ledger)) === true) {
    return { ...operation, outcome: kind === 'read' ? 'unknown' : 'failed' }
  }
  // Whatever became of a read that was not answered, nobody knows what it found.
  if (kind === 'read' && operation.code !== undefined) return { ...operation, outcome: 'unknown' }
  if (outcome !== 'unknown' || kind === 'read' || lsn === undefined || term === undefined) return operation
  if (lsn > ledger.permanentLsn) return operation
  if (ledger.permanentRecord(lsn)?.place.term === term) return operation
  return { ...operation, outcome: 'failed', completedAt: completedAt ?? operation.invokedAt }
}

function isUndone({ lsn, term }: Place, ledger: Ledger): boolean {
  // At the end of a run of two sites all that there is is permanent: what lies beyond is gone.
  return ledger.permanentRecord(lsn)?.place.term !== term
}

export class ReadsFollowTheLog implements SiteJudge {
  readonly name = 'order of reads'
  /** When each process of a site came up: prefixes may be shorter after a crash. */
  readonly #starts: Map<string, number[]> = new Map()

  moved(sight: Sight, bench: BenchView): void {
    if (!sight.isNew) return
    const { name } = sight.site
    const starts = this.#starts.get(name)
    if (starts === undefined) this.#starts.set(name, [bench.world.nowMs])
    else starts.push(bench.world.nowMs)
  }

  atEnd(bench: BenchView): void {
    const { ledger } = bench
    const transactions: LoggedTransaction[] = []
    for (const operation of bench.world.history) {
      const transaction = this.#transactionOf(operation, ledger)
      if (transaction !== undefined) transactions.push(transaction)
    }
    const fault = findOrderFault(transactions)
    if (fault === undefined) return
    const shown = fault.transactions.map((each) => JSON.stringify(each).slice(0, 400)).join('\n')
    bench.violate(this, `${fault.message}\n${shown}`)
  }

  #transactionOf(operation: Operation, ledger: Ledger): LoggedTransaction | undefined {
    const { id, kind, key, value, before, invokedAt, completedAt, lsn, term, site } = operation
    const { outcome } = settled(operation, ledger)
    const base = { id, invokedAt, ...(completedAt === undefined ? {} : { completedAt }) }
    if (kind === 'read') {
      if (outcome !== 'ok') return undefined
      const reads = [[key, value]] as const
      if (operation.stale === true) {
        const prefixOf = `${site}, process ${this.#processAt(site, invokedAt)}`
        return { ...base, outcome, prefixOf, reads, writes: [] }
      }
      return lsn === undefined ? undefined : { ...base, outcome, lsn, reads, writes: [] }
    }
    const isInLog =
      lsn !== undefined && term !== undefined && ledger.permanentRecord(lsn)?.place.term === term
    const writes = [[key, value]] as const
    const knowsBefore = kind === 'transact' && (outcome === 'ok' || isInLog) && 'before' in operation
    const reads = knowsBefore ? ([[key, before]] as const) : []
    if (outcome === 'failed') return { ...base, outcome, reads: [], writes }
    if (outcome === 'ok' && lsn === undefined) return undefined
    return { ...base, outcome, ...(outcome === 'ok' || isInLog ? { lsn: lsn as number } : {}), reads, writes }
  }

  #processAt(site: string, atMs: number): number {
    return this.#starts.get(site)?.filter((startMs) => startMs <= atMs).length ?? 0
  }
}
