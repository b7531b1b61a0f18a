// The order of a log is the order in which its transactions happened, whatever keys they touch. So where LSNs are known
// (receipts say them), a history of transactions over many keys needs no search: the order is given, and three things
// must agree with it - who returned before whom began, what transactions read, and which prefix each reader was shown.
//
// A transaction of which nothing is known may have any LSN or none. It is placed as far as its readers place it; what
// stays open is never held against the history. It fails by naming the calls that cannot be, and is never wrong about a
// history that is right.

import { assert } from '../base/assert.ts'

/** One key and what was read or written there; undefined: it is not there, or is deleted. */
export type KeyValue = readonly [key: string, value: string | undefined]

export interface LoggedTransaction {
  /** In the order of invocation. */
  readonly id: number
  readonly invokedAt: number
  /** Set if it was answered. */
  readonly completedAt?: number
  readonly outcome: 'ok' | 'unknown' | 'failed'
  /** Of its record; of the state that it read if it wrote nothing. */
  readonly lsn?: number
  readonly reads: readonly KeyValue[]
  readonly writes: readonly KeyValue[]
  /**
   * Set on reads that need not be fresh but show a prefix of the log. Prefixes that are read one after the other under
   * one name (a site since its start, a session) never get shorter.
   */
  readonly prefixOf?: string
}

export interface OrderFault {
  readonly message: string
  readonly transactions: readonly LoggedTransaction[]
}

/** The LSNs that a transaction may have, both included. */
interface Span {
  from: number
  to: number
}

const forever = Number.POSITIVE_INFINITY

/**
 * Looks for what the order of the LSNs does not explain. Invariants of its input: no two writes put the same value
 * under one key; a transaction that read or wrote a key twice names what it found first and what it left.
 */
export function findOrderFault(transactions: readonly LoggedTransaction[]): OrderFault | undefined {
  return new Order(transactions).findFault()
}

class Order {
  readonly #transactions: readonly LoggedTransaction[]
  /** Writers of each key whose LSN is known, in its order. */
  readonly #known: Map<string, LoggedTransaction[]> = new Map()
  /** Who put a value: by key, then value. */
  readonly #writers: Map<string, Map<string, LoggedTransaction>> = new Map()
  readonly #spans: Map<LoggedTransaction, Span> = new Map()
  /** Writers of each key that may have any LSN or none. */
  readonly #unsure: Map<string, LoggedTransaction[]> = new Map()
  /** Deletes that may have happened, by key. */
  readonly #unsureDeletes: Map<string, LoggedTransaction[]> = new Map()

  constructor(transactions: readonly LoggedTransaction[]) {
    this.#transactions = transactions
    for (const transaction of transactions) this.#note(transaction)
    for (const writers of this.#known.values()) writers.sort((a, b) => lsnOf(a) - lsnOf(b))
  }

  #note(transaction: LoggedTransaction): void {
    const { writes, outcome, lsn } = transaction
    if (outcome === 'failed' || writes.length === 0) {
      for (const [key, value] of writes) if (value !== undefined) this.#nameWriter(key, value, transaction)
      return
    }
    assert(outcome !== 'ok' || lsn !== undefined, 'an acknowledged write has an LSN')
    this.#spans.set(transaction, lsn === undefined ? { from: 1, to: forever } : { from: lsn, to: lsn })
    for (const [key, value] of writes) {
      if (value !== undefined) this.#nameWriter(key, value, transaction)
      else if (lsn === undefined) push(this.#unsureDeletes, key, transaction)
      if (lsn !== undefined) push(this.#known, key, transaction)
      else if (value !== undefined) push(this.#unsure, key, transaction)
    }
  }

  #nameWriter(key: string, value: string, writer: LoggedTransaction): void {
    let values = this.#writers.get(key)
    if (values === undefined) {
      values = new Map()
      this.#writers.set(key, values)
    }
    assert(!values.has(value), 'no two writes put the same value under one key')
    values.set(value, writer)
  }

  findFault(): OrderFault | undefined {
    const fault = this.#sameLsn() ?? this.#realTime()
    if (fault !== undefined) return fault
    // The first round places the transactions of which nothing was known, the second judges with what it found.
    return this.#transactionReads() ?? this.#transactionReads() ?? this.#prefixReads()
  }

  #sameLsn(): OrderFault | undefined {
    const byLsn = new Map<number, LoggedTransaction>()
    for (const transaction of this.#transactions) {
      if (transaction.writes.length === 0 || transaction.lsn === undefined) continue
      if (transaction.outcome === 'failed') {
        return { message: 'a transaction that failed has an LSN', transactions: [transaction] }
      }
      const other = byLsn.get(transaction.lsn)
      if (other !== undefined) {
        return {
          message: `two transactions have LSN ${transaction.lsn}`,
          transactions: [other, transaction],
        }
      }
      byLsn.set(transaction.lsn, transaction)
    }
    return undefined
  }

  /** Who returned before another began comes before it in the log. */
  #realTime(): OrderFault | undefined {
    const begun = this.#transactions.filter((each) => each.lsn !== undefined && each.prefixOf === undefined)
    const ended = begun.filter((each) => each.outcome === 'ok')
    begun.sort((a, b) => a.invokedAt - b.invokedAt)
    ended.sort((a, b) => endOf(a) - endOf(b))
    let latest: LoggedTransaction | undefined
    let at = 0
    for (const transaction of begun) {
      for (let before = ended[at]; before !== undefined; before = ended[++at]) {
        if (endOf(before) >= transaction.invokedAt) break
        if (latest === undefined || lsnOf(before) > lsnOf(latest)) latest = before
      }
      if (latest === undefined) continue
      const isAfter = writes(transaction)
        ? lsnOf(transaction) > lsnOf(latest)
        : lsnOf(transaction) >= lsnOf(latest)
      if (isAfter) continue
      return {
        message: `LSN ${lsnOf(transaction)} was begun after LSN ${lsnOf(latest)} had been acknowledged`,
        transactions: [latest, transaction],
      }
    }
    return undefined
  }

  /** What a transaction read is what the log before it says. */
  #transactionReads(): OrderFault | undefined {
    for (const transaction of this.#transactions) {
      if (transaction.outcome === 'failed' || transaction.lsn === undefined) continue
      if (transaction.prefixOf !== undefined) continue
      const prefix = writes(transaction) ? transaction.lsn - 1 : transaction.lsn
      for (const [key, value] of transaction.reads) {
        const fault = this.#readAt(transaction, key, value, prefix)
        if (fault !== undefined) return fault
      }
    }
    return undefined
  }

  #readAt(
    reader: LoggedTransaction,
    key: string,
    value: string | undefined,
    prefix: number,
  ): OrderFault | undefined {
    const before = this.#knownUpTo(key, prefix)
    const expected = before === undefined ? undefined : writtenTo(before, key)
    const sinceLsn = before === undefined ? 0 : lsnOf(before)
    if (value === expected)
      return this.#nothingBetween(reader, key, value, { from: sinceLsn + 1, to: prefix })
    const writer = value === undefined ? undefined : this.#writers.get(key)?.get(value)
    if (value === undefined) {
      const unsure = (this.#unsureDeletes.get(key) ?? []).some((each) =>
        this.#overlaps(each, sinceLsn + 1, prefix),
      )
      if (unsure) return undefined
    } else if (writer !== undefined && writer.outcome === 'unknown' && writer.lsn === undefined) {
      const span = this.#spans.get(writer) as Span
      span.from = Math.max(span.from, sinceLsn + 1)
      span.to = Math.min(span.to, prefix)
      if (span.from <= span.to) return undefined
    }
    return {
      message: `${key} was read as ${value ?? 'nothing'} at LSN ${prefix}, where it is ${expected ?? 'nothing'}`,
      transactions: [before, writer, reader].filter((each) => each !== undefined),
    }
  }

  /** No write that must have happened stands between a value and its reader. */
  #nothingBetween(
    reader: LoggedTransaction,
    key: string,
    value: string | undefined,
    gap: Span,
  ): OrderFault | undefined {
    if (gap.from > gap.to) return undefined
    const unsure = value === undefined ? (this.#unsureDeletes.get(key) ?? []) : []
    if (unsure.some((each) => this.#overlaps(each, gap.from, gap.to))) return undefined
    for (const writer of this.#unsure.get(key) ?? []) {
      if (writer === reader) continue
      const span = this.#spans.get(writer)
      if (span === undefined || span.from < gap.from || span.to > gap.to) continue
      return {
        message: `${key} was read as ${value ?? 'nothing'} at LSN ${gap.to}, after another value had been read`,
        transactions: [writer, reader],
      }
    }
    return undefined
  }

  #overlaps(transaction: LoggedTransaction, from: number, to: number): boolean {
    const span = this.#spans.get(transaction)
    return span !== undefined && span.from <= to && span.to >= from
  }

  #knownUpTo(key: string, prefix: number): LoggedTransaction | undefined {
    const known = this.#known.get(key) ?? []
    let low = 0
    let high = known.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (lsnOf(known[middle] as LoggedTransaction) <= prefix) low = middle + 1
      else high = middle
    }
    return known[low - 1]
  }

  /** Each reader was shown some prefix, nothing of the future, and never less than before. */
  #prefixReads(): OrderFault | undefined {
    const begun = this.#transactions.filter(
      (each) => each.prefixOf !== undefined && each.outcome === 'ok' && !writes(each),
    )
    const ended = [...begun].sort((a, b) => endOf(a) - endOf(b))
    begun.sort((a, b) => a.invokedAt - b.invokedAt)
    /** The shortest prefix that explains each reader, given those before it: whatever is chosen longer helps nobody. */
    const shown = new Map<LoggedTransaction, number>()
    const longest = new Map<string, LoggedTransaction>()
    const shownTo = (reader: LoggedTransaction | undefined): number =>
      reader === undefined ? 0 : (shown.get(reader) ?? 0)
    let at = 0
    for (const reader of begun) {
      const name = reader.prefixOf as string
      for (let past = ended[at]; past !== undefined && endOf(past) < reader.invokedAt; past = ended[++at]) {
        const pastName = past.prefixOf as string
        if (shownTo(past) > shownTo(longest.get(pastName))) longest.set(pastName, past)
      }
      const spans = this.#prefixesOf(reader)
      if ('message' in spans) return spans
      const before = longest.get(name)
      const fitting = spans.find((span) => span.to >= shownTo(before))
      if (fitting === undefined) {
        return {
          message: `the prefix shown at ${name} went back: not even ${shownTo(before)} any more`,
          transactions: before === undefined ? [reader] : [before, reader],
        }
      }
      shown.set(reader, Math.max(fitting.from, shownTo(before)))
    }
    return undefined
  }

  /** The lengths that the prefix shown to a reader may have had, in order. */
  #prefixesOf(reader: LoggedTransaction): Span[] | OrderFault {
    const { lsn } = reader
    let spans: Span[] = [lsn === undefined ? { from: 0, to: forever } : { from: lsn, to: lsn }]
    for (const [key, value] of reader.reads) {
      const versions = this.#versionSpans(reader, key, value)
      if ('message' in versions) return versions
      spans = intersection(spans, versions)
      if (spans.length === 0) {
        return {
          message: `no prefix of the log has ${key} as ${value ?? 'nothing'} with all else that was read`,
          transactions: [reader],
        }
      }
    }
    return spans
  }

  /** The prefixes in which `key` is `value`, in order. */
  #versionSpans(reader: LoggedTransaction, key: string, value: string | undefined): Span[] | OrderFault {
    const known = this.#known.get(key) ?? []
    if (value === undefined) {
      if (this.#unsureDeletes.has(key)) return [{ from: 0, to: forever }]
      const spans: Span[] = [{ from: 0, to: lsnBefore(known[0]) }]
      known.forEach((each, i) => {
        if (writtenTo(each, key) === undefined) spans.push({ from: lsnOf(each), to: lsnBefore(known[i + 1]) })
      })
      return spans
    }
    const writer = this.#writers.get(key)?.get(value)
    const isFuture = writer !== undefined && writer.invokedAt > endOf(reader)
    if (writer === undefined || writer.outcome === 'failed' || isFuture) {
      const why = writer === undefined ? 'nobody wrote' : isFuture ? 'nobody had asked for yet' : 'had failed'
      return {
        message: `${key} was read as ${value}, which ${why}`,
        transactions: writer === undefined ? [reader] : [writer, reader],
      }
    }
    const span = this.#spans.get(writer) as Span
    return [{ from: span.from, to: lsnBefore(known.find((each) => lsnOf(each) > span.to)) }]
  }
}

/** What lies in both; each list is in order. */
function intersection(a: readonly Span[], b: readonly Span[]): Span[] {
  const both: Span[] = []
  for (let i = 0, j = 0; ; ) {
    const [one, other] = [a[i], b[j]]
    if (one === undefined || other === undefined) return both
    const from = Math.max(one.from, other.from)
    const to = Math.min(one.to, other.to)
    if (from <= to) both.push({ from, to })
    if (one.to < other.to) i++
    else j++
  }
}

function lsnBefore(transaction: LoggedTransaction | undefined): number {
  return transaction === undefined ? forever : lsnOf(transaction) - 1
}

function push(lists: Map<string, LoggedTransaction[]>, key: string, transaction: LoggedTransaction): void {
  const list = lists.get(key)
  if (list === undefined) lists.set(key, [transaction])
  else list.push(transaction)
}

function writes(transaction: LoggedTransaction): boolean {
  return transaction.writes.length > 0
}

function writtenTo(transaction: LoggedTransaction, key: string): string | undefined {
  return transaction.writes.find(([written]) => written === key)?.[1]
}

function lsnOf(transaction: LoggedTransaction): number {
  assert(transaction.lsn !== undefined, 'its LSN is known')
  return transaction.lsn
}

function endOf(transaction: LoggedTransaction): number {
  return transaction.completedAt ?? forever
}
