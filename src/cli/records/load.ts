// The load: records gathered into transactions, several of which are under way at once. A bad line ends it (after what
// came before is committed) or is counted and passed over.
//
// Memory holds at most `inFlight + 1` batches, each bounded in records and in bytes.

import { asError } from '../../base/errors.ts'
import { CommandError, exitCodeOf } from '../exit-codes.ts'
import { formatCount } from '../format.ts'
import type { DatabasePort, WriteOptions } from '../port.ts'
import { BadRecord, type LoadRecord, type ReadItem } from './record.ts'

export interface LoadOptions {
  /** Records of one transaction. */
  readonly batch: number
  /** Transactions under way at once. */
  readonly inFlight: number
  readonly skipBad: boolean
  readonly write: WriteOptions
  readonly signal: AbortSignal
  readonly onProgress: (bytesRead: number, loaded: number) => void
  /** Called for the bad lines that are passed over. */
  readonly onSkipped: (bad: BadRecord) => void
}

export interface LoadResult {
  readonly loaded: number
  readonly skipped: number
  readonly transactions: number
  /** Of the last transaction; 0 if there was none. */
  readonly lsn: number
}

/** A transaction carries at most so many bytes, one record of any size excepted. */
const batchBytesMax = 4_194_304

export async function loadRecords(
  port: Pick<DatabasePort, 'write'>,
  items: AsyncIterable<ReadItem>,
  options: LoadOptions,
): Promise<LoadResult> {
  const run = new LoadRun(port, options)
  let reason: BadRecord | undefined
  let stopped = false
  try {
    for await (const item of items) {
      stopped = options.signal.aborted
      if (stopped || run.failure !== undefined) break
      if (item.outcome instanceof BadRecord) {
        if (!options.skipBad) {
          reason = item.outcome
          break
        }
        run.skipped++
        options.onSkipped(item.outcome)
        continue
      }
      await run.take(item.outcome, item.bytesRead)
    }
  } catch (error) {
    // A bad header of a CSV file, which no skipping helps; or the source was closed by the interruption.
    if (error instanceof BadRecord) reason = error
    else if (options.signal.aborted) stopped = true
    else run.fail(error)
  }
  // What was read before an interruption is kept too: its lines count as loaded.
  await run.finish()
  if (run.failure !== undefined) throw failed(run, run.failure.error)
  if (reason !== undefined) throw badLine(run, reason)
  if (stopped) throw interrupted(run)
  return run.result()
}

class LoadRun {
  readonly #port: Pick<DatabasePort, 'write'>
  readonly #options: LoadOptions
  readonly #underWay = new Set<Promise<void>>()
  #batch: LoadRecord[] = []
  #batchBytes = 0
  #loaded = 0
  #transactions = 0
  #lsn = 0
  skipped = 0
  failure: { readonly error: unknown } | undefined

  constructor(port: Pick<DatabasePort, 'write'>, options: LoadOptions) {
    this.#port = port
    this.#options = options
  }

  async take(record: LoadRecord, bytesRead: number): Promise<void> {
    const bytes = record.key.length + (record.value?.length ?? 0)
    if (this.#batch.length > 0 && this.#batchBytes + bytes > batchBytesMax) await this.#send()
    this.#batch.push(record)
    this.#batchBytes += bytes
    if (this.#batch.length >= this.#options.batch) await this.#send()
    this.#options.onProgress(bytesRead, this.#loaded)
  }

  fail(error: unknown): void {
    this.failure ??= { error }
  }

  async finish(): Promise<void> {
    if (this.failure === undefined) await this.#send()
    await Promise.all(this.#underWay)
  }

  result(): LoadResult {
    return { loaded: this.#loaded, skipped: this.skipped, transactions: this.#transactions, lsn: this.#lsn }
  }

  async #send(): Promise<void> {
    if (this.#batch.length === 0 || this.failure !== undefined) return
    const batch = this.#batch
    this.#batch = []
    this.#batchBytes = 0
    const work = this.#commit(batch).finally(() => this.#underWay.delete(work))
    this.#underWay.add(work)
    if (this.#underWay.size >= this.#options.inFlight) await Promise.race(this.#underWay)
  }

  async #commit(batch: readonly LoadRecord[]): Promise<void> {
    try {
      const receipt = await this.#port.write(batch, this.#options.write)
      this.#loaded += batch.length
      this.#transactions++
      this.#lsn = Math.max(this.#lsn, receipt.lsn)
    } catch (error) {
      this.fail(error)
    }
  }
}

function badLine(run: LoadRun, bad: BadRecord): CommandError {
  const { loaded, skipped } = run.result()
  return new CommandError(
    'LOAD_FAILED',
    `line ${formatCount(bad.line)}: ${bad.message}; ${loadedText(loaded)}`,
    {
      hint: '--skip-bad passes over such lines and counts them',
      details: { line: bad.line, reason: bad.message, loaded, skipped },
    },
  )
}

function failed(run: LoadRun, thrown: unknown): CommandError {
  const { loaded, skipped } = run.result()
  const error = asError(thrown)
  const code = (error as { code?: unknown }).code
  return new CommandError('LOAD_FAILED', `${error.message}; ${loadedText(loaded)}`, {
    details: { loaded, skipped, ...(typeof code === 'string' ? { code } : {}) },
    cause: error,
    exitCode: exitCodeOf(error),
  })
}

function interrupted(run: LoadRun): CommandError {
  const { loaded, skipped } = run.result()
  return new CommandError('INTERRUPTED', `interrupted; ${loadedText(loaded)}`, {
    details: { loaded, skipped },
  })
}

function loadedText(loaded: number): string {
  return `${formatCount(loaded)} ${loaded === 1 ? 'record' : 'records'} loaded`
}
