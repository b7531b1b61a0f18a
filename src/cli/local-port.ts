// A database that this process has open, as the verbs see it.

import { CoterieError } from '../base/errors.ts'
import type {
  BackupProgress,
  Database,
  ElectResult,
  Group,
  LogRecord,
  Progress,
  Receipt,
  ServeOptions,
  Snapshot,
  TwoSites,
} from '../index.ts'
import { toBase64 } from './encoding.ts'
import type {
  DatabasePort,
  LogLine,
  LogRequest,
  PortDigest,
  PortProgress,
  PortPromoted,
  PortReceipt,
  PortStat,
  PortStatus,
  PortTakenOver,
  PortTakeOverOptions,
  PortTransferred,
  PortVerified,
  PortWrite,
  ReadOptions,
  RowsRequest,
  TransferOptions,
  WriteOptions,
} from './port.ts'
import type { DumpRow } from './records/record.ts'
import { pause } from './signals.ts'

/** Keys and values are bytes to the command; `viewEncodings` opens a database so. */
export type ByteDatabase = Database<Uint8Array, Uint8Array>

export const viewEncodings = { keyEncoding: 'view', valueEncoding: 'view' } as const

const batchRowsMax = 500
const batchBytesMax = 262_144
/** How often `log --follow` looks for new records. */
const followMs = 100

const empty = new Uint8Array(0)

/** How a process makes its database the master. */
export interface BecomingMaster {
  promote(): Promise<PortPromoted>
  takeOver(options: PortTakeOverOptions): Promise<PortTakenOver>
}

/** `serve`: how the database serves afterwards, where it listens. */
export async function takeOver(
  db: ByteDatabase,
  options: PortTakeOverOptions,
  serve: Partial<ServeOptions> = {},
): Promise<PortTakenOver> {
  const { listen = [], advertise, timeoutMs } = options
  const { term, lsn, pausedMs, master } = await db.takeOver({
    ...serve,
    ...(listen.length === 0 ? {} : { listen }),
    ...(advertise === undefined ? {} : { advertise }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  })
  return { term, lsn, pausedMs, addresses: master?.addresses ?? [] }
}

export class LocalPort implements DatabasePort {
  readonly holderPid: undefined = undefined
  readonly #db: ByteDatabase
  readonly #becoming: BecomingMaster

  /** `becoming`: what a running process does beyond changing the role of the database, such as serving it. */
  constructor(db: ByteDatabase, becoming?: BecomingMaster) {
    this.#db = db
    this.#becoming = becoming ?? {
      promote: async () => ({ ...(await db.promote()), addresses: [] }),
      takeOver: (options) => takeOver(db, options),
    }
  }

  get(key: Uint8Array, options: ReadOptions): Promise<Uint8Array | undefined> {
    const { store } = options
    return store === undefined ? this.#db.get(key) : this.#db.store<Uint8Array, Uint8Array>(store).get(key)
  }

  async write(writes: readonly PortWrite[], options: WriteOptions): Promise<PortReceipt> {
    const operations = writes.map(({ store, key, value }) => {
      const named = store === undefined ? {} : { store }
      return value === undefined
        ? ({ type: 'del', key, ...named } as const)
        : ({ type: 'put', key, value, ...named } as const)
    })
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
    return plainReceipt(await this.#db.batch(operations, given))
  }

  async *rows(request: RowsRequest, signal: AbortSignal): AsyncGenerator<DumpRow[], void, undefined> {
    const snapshot: Snapshot<Uint8Array, Uint8Array> = await this.#db.snapshot()
    try {
      const gathered = new RowGatherer()
      let left = request.limit ?? Number.POSITIVE_INFINITY
      for (const name of request.stores) {
        if (left <= 0) break
        const store = snapshot.store<Uint8Array, Uint8Array>(name ?? '')
        const range = rangeOf(request, left)
        const rows = request.values ? store.entries(range) : withoutValues(store.keys(range))
        for await (const [key, value] of rows) {
          left--
          const batch = gathered.take({ store: name, key, value })
          if (batch !== undefined) yield batch
          if (signal.aborted) return
        }
      }
      const rest = gathered.rest()
      if (rest.length > 0) yield rest
    } finally {
      await snapshot.close()
    }
  }

  async storeNames(): Promise<readonly string[]> {
    return (await this.#db.storeNames()).filter((name) => name !== '')
  }

  async *records(request: LogRequest, signal: AbortSignal): AsyncGenerator<LogLine[], void, undefined> {
    const bounds = new LogBounds(request)
    for (;;) {
      let lines: LogLine[] = []
      for await (const record of this.#db.records(bounds.next())) {
        bounds.passed(record)
        lines.push(logLine(record))
        if (lines.length >= batchRowsMax) {
          yield lines
          lines = []
        }
        if (signal.aborted) return
      }
      if (lines.length > 0) yield lines
      if (!request.follow || bounds.done || signal.aborted) return
      await pause(followMs, signal)
    }
  }

  status(): Promise<PortStatus> {
    return Promise.resolve({ ...this.#db.status() })
  }

  async stat(): Promise<PortStat> {
    const stores = await this.#db.stat()
    const { logBytes, firstLsn, lastLsn, checkpointLsn, view } = this.#db.status()
    const ofView = view === undefined ? {} : { view }
    return { stores, ...ofView, logBytes, firstLsn, lastLsn, checkpointLsn }
  }

  verify(onProgress: PortProgress): Promise<PortVerified> {
    return this.#db.verify({ onProgress: told(onProgress) })
  }

  digest(onProgress: PortProgress): Promise<PortDigest> {
    return this.#db.digest({ onProgress: told(onProgress) })
  }

  async checkpoint(): Promise<Record<string, unknown>> {
    return { ...(await this.#db.checkpoint()) }
  }

  async archive(): Promise<Record<string, unknown>> {
    return { ...(await this.#db.archive()) }
  }

  async backup(file: string, onProgress: PortProgress): Promise<Record<string, unknown>> {
    return {
      ...(await this.#db.backup(file, {
        onProgress: (progress) => onProgress(...progressFigures(progress)),
      })),
    }
  }

  promote(): Promise<PortPromoted> {
    return this.#becoming.promote()
  }

  takeOver(options: PortTakeOverOptions): Promise<PortTakenOver> {
    return this.#becoming.takeOver(options)
  }

  async transfer(site: string, options: TransferOptions): Promise<PortTransferred> {
    const { timeoutMs } = options
    return await this.#group().transfer(site, timeoutMs === undefined ? {} : { timeoutMs })
  }

  async removeMember(site: string): Promise<void> {
    await this.#group().removeMember(site)
  }

  async setTwoSites(twoSites: TwoSites): Promise<void> {
    await this.#group().setTwoSites(twoSites)
  }

  async elect(): Promise<ElectResult> {
    return await this.#group().elect()
  }

  #group(): Group {
    const { group } = this.#db
    if (group !== undefined) return group
    throw new CoterieError('INVALID_STATE', 'no process has joined a group with this folder')
  }

  outcome(token: string): Promise<string> {
    return this.#db.outcome(token)
  }

  close(): Promise<void> {
    return this.#db.close()
  }
}

/** A receipt computes its token when it is asked for; what leaves the process has it. */
export function plainReceipt(receipt: Receipt): PortReceipt {
  const { lsn, term, token, acks, detached } = receipt
  return { lsn, term, token, acks, detached }
}

export function progressFigures(progress: BackupProgress): [done: number, total: number | undefined] {
  return [progress.bytes, progress.bytesTotal]
}

function told(onProgress: PortProgress): (progress: Progress) => void {
  return ({ done, total }) => onProgress(done, total)
}

function rangeOf(request: RowsRequest, left: number): Record<string, unknown> {
  const { gt, gte, lt, lte, reverse } = request
  const range: Record<string, unknown> = { reverse: reverse === true }
  for (const [name, bound] of Object.entries({ gt, gte, lt, lte }))
    if (bound !== undefined) range[name] = bound
  if (Number.isFinite(left)) range.limit = left
  return range
}

async function* withoutValues(
  keys: AsyncIterable<Uint8Array>,
): AsyncGenerator<[Uint8Array, Uint8Array], void, undefined> {
  for await (const key of keys) yield [key, empty]
}

/** Rows in batches, bounded in rows and in bytes. */
class RowGatherer {
  #rows: DumpRow[] = []
  #bytes = 0

  take(row: DumpRow): DumpRow[] | undefined {
    this.#rows.push(row)
    this.#bytes += row.key.length + row.value.length
    return this.#rows.length >= batchRowsMax || this.#bytes >= batchBytesMax ? this.rest() : undefined
  }

  rest(): DumpRow[] {
    const rows = this.#rows
    this.#rows = []
    this.#bytes = 0
    return rows
  }
}

/** Where the next look at the log begins and ends. */
class LogBounds {
  readonly #to: number | undefined
  #from: number | undefined
  #left: number | undefined

  constructor(request: LogRequest) {
    this.#from = request.from
    this.#to = request.to
    this.#left = request.limit
  }

  next(): { from?: number; to?: number; limit?: number } {
    return {
      ...(this.#from === undefined ? {} : { from: this.#from }),
      ...(this.#to === undefined ? {} : { to: this.#to }),
      ...(this.#left === undefined ? {} : { limit: this.#left }),
    }
  }

  passed(record: LogRecord): void {
    this.#from = record.lsn + 1
    if (this.#left !== undefined) this.#left--
  }

  get done(): boolean {
    if (this.#left !== undefined && this.#left <= 0) return true
    return this.#to !== undefined && this.#from !== undefined && this.#from > this.#to
  }
}

function logLine(record: LogRecord): LogLine {
  const { lsn, term, kind, bytes, time, committed, site, members } = record
  const writes = record.writes.map((write) => ({
    type: write.type,
    store: write.store,
    key: toBase64(write.key),
    ...(write.type === 'put' ? { valueBytes: write.value.length } : {}),
  }))
  return {
    lsn,
    term,
    kind,
    bytes,
    time,
    committed,
    writes,
    ...(site === undefined ? {} : { site }),
    ...(members === undefined ? {} : { members }),
  }
}
