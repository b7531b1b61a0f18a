// The log of one database at one site: the records, the order of their durability, and the way back to them.
//
// Start here. Appending is synchronous and durability comes later, in order (log-writer.ts); reading serves every
// record that was appended (log-tail.ts, log-reader.ts); opening verifies everything (recovery.ts). What can go
// wrong is told apart: a full disk stalls the log and passes, a failed sync poisons it for good, a record that
// rotted is LOG_DAMAGED when it is met, and the log never drops a durable record by itself.

import { assert } from '../base/assert.ts'
import type { RecordBatch, RecordPlace } from '../base/batch.ts'
import { CoterieError } from '../base/errors.ts'
import type { History } from '../base/history.ts'
import { type Lsn, lsnPlus, noLsn } from '../base/lsn.ts'
import type { Membership } from '../base/membership.ts'
import type { Files, Host } from '../env/host.ts'
import { toLogError } from './file-io.ts'
import { LogFolder } from './log-folder.ts'
import { damaged, locateInSegment, type RecordLocation, readSegment } from './log-reader.ts'
import { LogState } from './log-state.ts'
import { LogTail } from './log-tail.ts'
import { LogWriter } from './log-writer.ts'
import { placeBeforeAll } from './record-format.ts'
import { type Recovered, type RecoveryReport, recover } from './recovery.ts'
import type { Segment } from './segment.ts'
import { isInLog, trim, truncate } from './truncation.ts'
import { type VerifyProgress, verifySegments } from './verify-log.ts'

const segmentBytesDefault = 67_108_864
const segmentBytesMin = 8192
const tailBytesDefault = 8_388_608

export interface LogOptions {
  readonly host: Pick<Host, 'files' | 'timers' | 'clock'>
  /** Created if it does not exist. Holds nothing but the log. */
  readonly folder: string
  readonly databaseId: string
  /** Default 64 MiB. A larger record gets a segment of its own size. */
  readonly segmentBytes?: number
  /** How much of what was appended last stays in memory for readers. Default 8 MiB; more while it is not durable. */
  readonly tailBytes?: number
  /** What is known from elsewhere to have been durable: the log is damaged if it ends before. */
  readonly durableAtLeast?: Lsn
  /** Where a new log begins, if not at LSN 1: behind a snapshot. There must be no log. */
  readonly start?: LogStart
}

export interface LogStart {
  /** The last record that the snapshot contains. */
  readonly place: RecordPlace
  /** Of the records up to there. */
  readonly history: History
}

export interface LogRead {
  readonly from: Lsn
  /** The last LSN wanted. Default: the last there is. */
  readonly to?: Lsn
  /** No more than this, except that one record always comes. */
  readonly bytesMax: number
}

export class Log {
  readonly #folder: LogFolder
  readonly #state: LogState
  readonly #writer: LogWriter
  #exclusive: Promise<unknown> = Promise.resolve()
  #truncation: Promise<void> | undefined
  #closing: Promise<void> | undefined

  /** Called after each write, before its sync: the records up to here outlive the process. */
  onWritten: (writtenLsn: Lsn) => void = () => {}
  /** Called after each sync with the new durable LSN, in order. Set it once, before the first append. */
  onDurable: (durableLsn: Lsn) => void = () => {}
  /** Called once. Nothing becomes durable after it; `error.cause` is what the operating system said. */
  onPoisoned: (error: CoterieError) => void = () => {}
  /** The disk is full (DISK_FULL). What was appended stays queued and is tried again every 500 ms. */
  onStalled: (error: CoterieError) => void = () => {}
  /** There is space again, and the queue moves. */
  onResumed: () => void = () => {}

  private constructor(options: {
    readonly host: Pick<Host, 'timers' | 'clock'>
    readonly folder: LogFolder
    readonly state: LogState
    readonly markedLsn: Lsn
  }) {
    this.#folder = options.folder
    this.#state = options.state
    this.#writer = new LogWriter({
      host: options.host,
      folder: options.folder,
      state: options.state,
      markedLsn: options.markedLsn,
      events: {
        written: (lsn) => this.onWritten(lsn),
        durable: (lsn) => this.onDurable(lsn),
        poisoned: (error) => this.onPoisoned(error),
        stalled: (error) => this.onStalled(error),
        resumed: () => this.onResumed(),
      },
    })
  }

  /** Opens the log in `folder`, or begins one. Errors: LOG_DAMAGED, FORMAT_UNSUPPORTED, DISK_FULL, IO_ERROR. */
  static async open(options: LogOptions): Promise<{ log: Log; recovery: RecoveryReport }> {
    const { host, databaseId, start } = options
    const segmentBytes = options.segmentBytes ?? segmentBytesDefault
    assert(segmentBytes >= segmentBytesMin, 'a segment has room for its header and records')
    const folder = new LogFolder({ files: host.files, path: options.folder, databaseId, segmentBytes })
    try {
      await host.files.makeFolder(options.folder)
      const { segments: names, spares, leftovers } = await folder.content()
      if (start !== undefined && names.length > 0) {
        throw new CoterieError('INVALID_STATE', `${options.folder} holds a log already`)
      }
      const durableAtLeast = options.durableAtLeast ?? noLsn
      const found = await recover({ folder, names, durableAtLeast })
      await folder.removePaths(leftovers)
      if (found !== undefined) await folder.adoptSpares(spares)
      else await folder.removePaths(spares)
      const recovered = found ?? (await begin(folder, { names, durableAtLeast, start }))
      const state = new LogState({
        databaseId,
        tail: new LogTail(options.tailBytes ?? tailBytesDefault),
        segments: recovered.segments,
        last: recovered.last,
        history: recovered.history,
        memberships: recovered.memberships,
      })
      const log = new Log({ host, folder, state, markedLsn: recovered.markedLsn })
      return { log, recovery: { created: found === undefined, ...recovered.report } }
    } catch (thrown) {
      throw toLogError(thrown, `the log in ${options.folder} could not be opened`)
    }
  }

  /** True if there is a log in `folder`. */
  static async exists(options: {
    readonly host: { readonly files: Files }
    readonly folder: string
  }): Promise<boolean> {
    const { files } = options.host
    const folder = new LogFolder({ files, path: options.folder, databaseId: '', segmentBytes: 0 })
    return (await folder.content()).segments.length > 0
  }

  get databaseId(): string {
    return this.#state.databaseId
  }

  /** The oldest record kept; `lastLsn + 1` if there is none. */
  get firstLsn(): Lsn {
    return this.#state.firstLsn
  }

  get last(): RecordPlace {
    return this.#state.last
  }

  get lastLsn(): Lsn {
    return this.#state.last.lsn
  }

  get durableLsn(): Lsn {
    return this.#state.durableLsn
  }

  get history(): History {
    return this.#state.history
  }

  /** Of the members records in the log, in order; and of the last one that was trimmed from it while it was open. */
  get memberships(): readonly Membership[] {
    return this.#state.memberships
  }

  /** The last of them: it holds from its append on. Undefined: the log has none, and the store may have a row. */
  get membership(): Membership | undefined {
    const { memberships } = this.#state
    return memberships[memberships.length - 1]
  }

  /** The size of the segment files. */
  get bytes(): number {
    let bytes = 0
    for (const segment of this.#state.segments) bytes += segment.fileBytes
    return bytes
  }

  /** Appended and not yet durable. The owner holds writers back when it grows. */
  get pendingBytes(): number {
    return this.#writer.pendingBytes
  }

  get poisoned(): CoterieError | undefined {
    return this.#writer.poison
  }

  /** True between `onStalled` and `onResumed`. */
  get isStalled(): boolean {
    return this.#writer.isStalled
  }

  /** Takes a batch that follows `last`. Throws LOG_POISONED or CLOSED; nothing is kept of the batch then. */
  append(batch: RecordBatch): void {
    this.#assertOpen()
    this.#writer.append(batch)
  }

  /** Resolves when `lsn` is synced. Rejects with LOG_POISONED or CLOSED. */
  whenDurable(lsn: Lsn): Promise<void> {
    return this.#writer.whenDurable(lsn)
  }

  /**
   * Whole records from `from` on, verified, synced or not: one at least, then as many as `bytesMax`, `to` and the
   * end of a segment allow. Errors: LOG_TRIMMED, LOG_DAMAGED, FORMAT_UNSUPPORTED, IO_ERROR, CLOSED.
   */
  async read(options: LogRead): Promise<RecordBatch> {
    await this.#readable()
    const { from, bytesMax } = options
    const state = this.#state
    assert(from <= state.last.lsn, 'a read begins with a record that was appended')
    const to = options.to ?? state.last.lsn
    assert(from <= to, 'a read ends where it begins, or later')
    if (from < state.firstLsn) throw this.#trimmed(from)
    if (state.tail.has(from)) return state.tail.read({ from, to, bytesMax })
    const { files, databaseId } = this.#folder
    return await readSegment({ files, databaseId, segment: this.#segmentOf(from), from, to, bytesMax })
  }

  /** The place of a record in the log, or of the one before the first. Errors as for `read`. */
  async placeOf(lsn: Lsn): Promise<RecordPlace> {
    await this.#readable()
    const state = this.#state
    if (lsn === state.last.lsn) return state.last
    const first = state.segments[0]
    if (lsn === first?.previous.lsn) return first.previous
    return (await this.read({ from: lsn, to: lsn, bytesMax: 0 })).last
  }

  /** The file and offset of a durable record. Errors as for `read`. */
  async locationOf(lsn: Lsn): Promise<RecordLocation> {
    await this.#readable()
    const state = this.#state
    assert(lsn <= state.durableLsn, 'a record stands in a file when it is durable')
    if (lsn < state.firstLsn) throw this.#trimmed(lsn)
    const { files, databaseId } = this.#folder
    const segment = this.#segmentOf(lsn)
    try {
      return await locateInSegment({ files, databaseId, segment, lsn })
    } catch (thrown) {
      throw toLogError(thrown, `${segment.path} could not be read`)
    }
  }

  /**
   * Takes the records after `lsn` out of the log, durably. Nothing may be pending, and nothing appended until it
   * resolves. Errors: DISK_FULL (nothing was changed), LOG_DAMAGED, LOG_POISONED, IO_ERROR.
   */
  async truncateAfter(lsn: Lsn): Promise<void> {
    this.#assertOpen()
    assert(isInLog(this.#state, lsn), 'a log is truncated after one of its records')
    if (lsn === this.#state.last.lsn) return
    await this.#exclusively(async () => {
      await this.#writer.hold()
      this.#truncation = truncate({ folder: this.#folder, state: this.#state, writer: this.#writer, lsn })
      try {
        await this.#truncation
      } finally {
        this.#truncation = undefined
        this.#writer.release()
      }
    })
  }

  /**
   * Lets whole segments go whose records are all below `bound`, which is asked for anew before each. `onLetGo` is told
   * of each where the log begins from then on, before the file goes. Errors: IO_ERROR.
   */
  async trimBefore(
    bound: Lsn | (() => Lsn),
    onLetGo: (firstLsn: Lsn) => void = () => undefined,
  ): Promise<{ removedSegments: number }> {
    this.#assertOpen()
    return await this.#exclusively(async () => {
      const removedSegments = await trim({
        folder: this.#folder,
        state: this.#state,
        writer: this.#writer,
        bound: typeof bound === 'function' ? bound : () => bound,
        onLetGo,
      })
      return { removedSegments }
    })
  }

  /** Reads and verifies all that is durable. Throws LOG_DAMAGED at the first record that does not verify. */
  async verify(onProgress?: (progress: VerifyProgress) => void): Promise<VerifyProgress> {
    this.#assertOpen()
    return await this.#exclusively(() =>
      verifySegments({ folder: this.#folder, state: this.#state, ...(onProgress && { onProgress }) }),
    )
  }

  /** Writes and syncs what is pending first, unless the log is poisoned. Rejects if that could not be done. */
  close(): Promise<void> {
    this.#closing ??= this.#exclusively(() => this.#writer.close())
    return this.#closing
  }

  async #readable(): Promise<void> {
    this.#assertOpen()
    while (this.#truncation !== undefined) {
      // Its failure is told to whoever truncates; here only its end matters.
      await this.#truncation.catch(() => {})
    }
  }

  #assertOpen(): void {
    if (this.#closing !== undefined) throw new CoterieError('CLOSED', 'the log is closed')
  }

  #segmentOf(lsn: Lsn): Segment {
    const segment = this.#state.segmentOf(lsn)
    // A truncation that failed half way has poisoned the log and taken segments with it.
    if (lsn > segment.last.lsn && this.poisoned !== undefined) throw this.poisoned
    return segment
  }

  #trimmed(lsn: Lsn): CoterieError {
    const { firstLsn } = this.#state
    return new CoterieError(
      'LOG_TRIMMED',
      `record ${lsn} is no longer in the log, which begins at ${firstLsn}`,
      {
        details: { firstLsn },
      },
    )
  }

  /** One at a time of what changes or walks the list of segments. */
  #exclusively<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#exclusive.then(run, run)
    this.#exclusive = result.catch(() => {})
    return result
  }
}

/** A new log: at LSN 1, or where the owner says. */
async function begin(
  folder: LogFolder,
  options: {
    readonly names: readonly { readonly path: string; readonly firstLsn: Lsn }[]
    readonly durableAtLeast: Lsn
    readonly start: LogStart | undefined
  },
): Promise<Recovered> {
  const previous = options.start?.place ?? placeBeforeAll
  const history = options.start?.history ?? []
  const firstLsn = lsnPlus(previous.lsn, 1)
  if (options.durableAtLeast >= firstLsn) {
    throw damaged({ file: folder.path, offset: 0, lsn: firstLsn, reason: 'there is no segment' })
  }
  const torn = options.names[0]
  if (torn !== undefined && torn.firstLsn !== firstLsn) {
    const reason = 'the only segment has no header and begins elsewhere'
    throw damaged({ file: torn.path, offset: 0, lsn: torn.firstLsn, reason })
  }
  await folder.removePaths(options.names.map((name) => name.path))
  const segment = await folder.create({ previous, history, recordBytes: 0 })
  return {
    segments: [segment],
    last: previous,
    history,
    memberships: [],
    markedLsn: noLsn,
    report: {
      firstLsn,
      lastLsn: previous.lsn,
      segments: 1,
      records: 0,
      removedFiles: options.names.map((name) => name.path),
    },
  }
}
