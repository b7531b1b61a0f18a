// What the tests of the log share: a host with real files, timers that fire by hand, and faults on demand.

import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { RecordBatch, RecordPlace } from '../../src/base/batch.ts'
import { utf8Decode, utf8Encode } from '../../src/base/bytes.ts'
import { type Lsn, toTerm } from '../../src/base/lsn.ts'
import { encodeMembers, type Members } from '../../src/base/membership.ts'
import type { Clock, OpenFile, Timer, Timers } from '../../src/env/host.ts'
import { NodeFiles } from '../../src/env/node/node-files.ts'
import { BatchBuilder } from '../../src/log/batch-builder.ts'
import { Log, type LogOptions } from '../../src/log/log.ts'
import { membersKey } from '../../src/log/members-record.ts'
import { placeBeforeAll, recordHeaderBytes, recordKind } from '../../src/log/record-format.ts'
import { decodeRecord, eachRecord, type LogRecord } from '../../src/log/record-reader.ts'
import type { RecoveryReport } from '../../src/log/recovery.ts'
import { atEnd } from './at-end.ts'

export const databaseId = '0f9d8c7b-6a59-4847-b635-2413f2e1d0c9'

/** Timers that fire when a test says so, and a wall clock that moves by one millisecond a look. */
export class ManualTimers implements Timers {
  #waiting: { readonly ms: number; readonly callback: () => void }[] = []

  after(ms: number, callback: () => void): Timer {
    const entry = { ms, callback }
    this.#waiting.push(entry)
    return {
      cancel: () => {
        this.#waiting = this.#waiting.filter((other) => other !== entry)
      },
    }
  }

  soon(callback: () => void): void {
    setImmediate(callback)
  }

  /** Fires the timers that were set for `ms`; returns how many. */
  fire(ms: number): number {
    const due = this.#waiting.filter((entry) => entry.ms === ms)
    this.#waiting = this.#waiting.filter((entry) => entry.ms !== ms)
    for (const entry of due) entry.callback()
    return due.length
  }
}

export interface FileCall {
  readonly name: 'write' | 'sync' | 'open' | 'rename' | 'remove' | 'syncFolder' | 'close'
  readonly path: string
  readonly at: number
  readonly bytes: number
}

/** `partialBytes` of a write are done before it fails. */
export interface Fault {
  readonly error: Error
  readonly partialBytes?: number
}

export function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: made by the test`), { code })
}

/** Real files, with a say in every change: `fault` may fail it, `calls` remembers it. */
export class FaultyFiles extends NodeFiles {
  readonly calls: FileCall[] = []
  fault: (call: FileCall) => Fault | undefined = () => undefined
  /** Syncs wait here until the test lets them go, if set. */
  holdSyncs = false
  readonly heldSyncs: (() => void)[] = []
  /** Syncs succeed and do nothing: for tests that open hundreds of logs and look at what is in them only. */
  skipSyncs = false
  /** Reads wait here, likewise. */
  holdReads = false
  readonly heldReads: (() => void)[] = []

  override async open(file: string, mode: 'read' | 'write' | 'create'): Promise<OpenFile> {
    if (mode === 'create') this.#check('open', file)
    return new FaultyOpenFile(this, await super.open(file, mode))
  }

  override async rename(from: string, to: string): Promise<void> {
    this.#check('rename', from)
    await super.rename(from, to)
  }

  override async remove(file: string): Promise<void> {
    this.#check('remove', file)
    await super.remove(file)
  }

  override async syncFolder(folder: string): Promise<void> {
    this.#check('syncFolder', folder)
    if (!this.skipSyncs) await super.syncFolder(folder)
  }

  faultOf(call: FileCall): Fault | undefined {
    this.calls.push(call)
    return this.fault(call)
  }

  #check(name: FileCall['name'], path: string): void {
    const fault = this.faultOf({ name, path, at: 0, bytes: 0 })
    if (fault !== undefined) throw fault.error
  }
}

class FaultyOpenFile implements OpenFile {
  readonly path: string
  readonly #files: FaultyFiles
  readonly #file: OpenFile

  constructor(files: FaultyFiles, file: OpenFile) {
    this.path = file.path
    this.#files = files
    this.#file = file
  }

  async read(into: Uint8Array, at: number): Promise<number> {
    if (this.#files.holdReads) await new Promise<void>((resolve) => this.#files.heldReads.push(resolve))
    return await this.#file.read(into, at)
  }

  write(parts: readonly Uint8Array[], at: number, done: (error: Error | null) => void): void {
    const all = Buffer.concat(parts)
    const fault = this.#files.faultOf({ name: 'write', path: this.path, at, bytes: all.length })
    if (fault === undefined) this.#file.write(parts, at, done)
    else this.#file.write([all.subarray(0, fault.partialBytes ?? 0)], at, () => done(fault.error))
  }

  sync(done: (error: Error | null) => void): void {
    const fault = this.#files.faultOf({ name: 'sync', path: this.path, at: 0, bytes: 0 })
    if (fault !== undefined) setImmediate(() => done(fault.error))
    else if (this.#files.skipSyncs) setImmediate(() => done(null))
    else if (this.#files.holdSyncs) this.#files.heldSyncs.push(() => this.#file.sync(done))
    else this.#file.sync(done)
  }

  truncate(bytes: number): Promise<void> {
    return this.#file.truncate(bytes)
  }

  async close(): Promise<void> {
    await this.#file.close()
    const fault = this.#files.faultOf({ name: 'close', path: this.path, at: 0, bytes: 0 })
    if (fault !== undefined) throw fault.error
  }
}

export interface TestHost {
  readonly files: FaultyFiles
  readonly timers: ManualTimers
  readonly clock: Clock
}

export function testHost(): TestHost {
  let wallMs = 1_700_000_000_000
  const now = (): number => performance.now()
  return { files: new FaultyFiles(), timers: new ManualTimers(), clock: { now, wall: () => wallMs++ } }
}

/** Builds records as a master would; the first one begins term 1 of site `a`. */
export class Writer {
  readonly builder: BatchBuilder
  #term: number
  #count = 0

  constructor(previous: RecordPlace = placeBeforeAll) {
    this.builder = new BatchBuilder({ databaseId, previous, initialBytes: 4096 })
    this.#term = previous.term
  }

  /** A batch that begins a new term. */
  reign(site: string, term: number = this.#term + 1): RecordBatch {
    this.#term = term
    this.builder.begin({ term: toTerm(term), wallMs: 1_700_000_000_000, kind: recordKind.term })
    this.builder.payload(utf8Encode(site))
    this.builder.end()
    return this.builder.cut() as RecordBatch
  }

  /** Of one members record; not cut, so that others can be in its batch. */
  addMembers(members: Members): void {
    this.builder.begin({ term: toTerm(this.#term), wallMs: 1_700_000_000_000, kind: recordKind.members })
    this.builder.put(membersKey, encodeMembers(members))
    this.builder.end()
  }

  /** A batch of commits, one put each: key `k<n>`, value of `valueBytes`. */
  commits(count: number, valueBytes = 20): RecordBatch {
    for (let i = 0; i < count; i++) {
      this.#count++
      this.builder.begin({
        term: toTerm(this.#term),
        wallMs: 1_700_000_000_000 + this.#count,
        kind: recordKind.commit,
      })
      this.builder.put(utf8Encode(`k${this.#count}`), sampleBytes(this.#count, valueBytes))
      this.builder.end()
    }
    return this.builder.cut() as RecordBatch
  }
}

/** Bytes that depend on `seed` and never repeat a header by chance. */
export function sampleBytes(seed: number, bytes: number): Uint8Array {
  const value = new Uint8Array(bytes)
  let state = (seed * 2_654_435_761) >>> 0
  for (let i = 0; i < bytes; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    value[i] = state >>> 24
  }
  return value
}

export interface OpenLog {
  readonly log: Log
  readonly recovery: RecoveryReport
  readonly host: TestHost
}

/** Opens a log that the test's end closes. */
export async function openLog(
  t: TestContext,
  options: Partial<LogOptions> & { readonly folder: string; readonly testHost?: TestHost },
): Promise<OpenLog> {
  const { testHost: given, ...rest } = options
  const host = given ?? testHost()
  const { log, recovery } = await Log.open({ host, databaseId, segmentBytes: 16_384, ...rest })
  atEnd(t, async () => {
    host.files.fault = () => undefined
    host.files.holdSyncs = false
    host.files.holdReads = false
    const closing = log.close()
    for (const release of [...host.files.heldSyncs, ...host.files.heldReads]) release()
    // A test may leave the log poisoned or stalled, which its close tells.
    await closing.catch(() => {})
  })
  return { log, recovery, host }
}

/** Appends and waits until it is durable. */
export async function store(log: Log, batch: RecordBatch): Promise<void> {
  log.append(batch)
  await log.whenDurable(batch.lastLsn)
}

/** What a `kill -9` would leave: the files as the operating system has them now. */
export function copyFolder(from: string, to: string): string {
  cpSync(from, to, { recursive: true })
  return to
}

export function segmentFiles(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.seg'))
    .sort()
    .map((name) => join(folder, name))
}

export function segmentFile(folder: string, index = 0): string {
  const path = segmentFiles(folder).at(index)
  if (path === undefined) throw new Error(`there is no segment ${index} in ${folder}`)
  return path
}

/** All files of a folder by name, to show that nothing was changed. */
export function contentOf(folder: string): Record<string, string> {
  const content: Record<string, string> = {}
  if (!existsSync(folder)) return content
  for (const name of readdirSync(folder)) content[name] = readFileSync(join(folder, name)).toString('base64')
  return content
}

/** Changes the content of a file in place. */
export function changeFile(path: string, change: (bytes: Buffer) => void): void {
  const bytes = readFileSync(path)
  change(bytes)
  writeFileSync(path, bytes)
}

export function recordsOf(batch: RecordBatch): LogRecord[] {
  const records: LogRecord[] = []
  eachRecord(batch.bytes, (_lsn, _term, _wallMs, _kind, payloadStart) => {
    records.push(decodeRecord(batch.bytes, payloadStart - recordHeaderBytes))
  })
  return records
}

/** All records of a log, read in steps of `bytesMax`, from disk or memory. */
export async function readAll(log: Log, bytesMax = 1000): Promise<LogRecord[]> {
  const records: LogRecord[] = []
  let from = log.firstLsn
  while (from <= log.lastLsn) {
    const batch = await log.read({ from, bytesMax })
    records.push(...recordsOf(batch))
    from = (batch.lastLsn + 1) as Lsn
  }
  return records
}

/** A record in a few words: `3 k2=20`, `1 term 1 a`. */
export function brief(record: LogRecord): string {
  if (record.kind === 'term') return `${record.lsn} term ${record.term} ${record.site}`
  if (record.kind === 'members') {
    return `${record.lsn} members ${record.members.members.map(({ site }) => site).join(' ')}`
  }
  const writes = record.writes.map((write) => `${utf8Decode(write.key)}=${write.value?.length ?? 'del'}`)
  return `${record.lsn} ${writes.join(' ')}`
}

export function lsn(value: number): Lsn {
  return value as Lsn
}
