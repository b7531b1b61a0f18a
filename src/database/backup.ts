// Backup and restore: one file with all rows at one LSN, made while writing goes on.
//
//   magic (8 bytes) | frame* ; frame = u32 length | u32 crc32 of the content | content
//   first frame: the manifest, JSON; then frames of rows (base/row-run.ts); an empty frame; the totals, JSON
//
// The file is written under another name and renamed when it is whole and synced, so a file that bears its name is
// a whole backup. Restoring makes a new site: same database and history, a new id; so it can open alone, or attach
// to a master of that database and catch up.

import { assert } from '../base/assert.ts'
import { emptyBytes, equalBytes, utf8Decode, utf8Encode } from '../base/bytes.ts'
import { crc32 } from '../base/checksum.ts'
import { asError, CoterieError } from '../base/errors.ts'
import type { HistoryEntry } from '../base/history.ts'
import { noLsn, toLsn, toTerm } from '../base/lsn.ts'
import { decodeRows, encodeRows } from '../base/row-run.ts'
import type { Files, Host, OpenFile } from '../env/host.ts'
import { Log } from '../log/log.ts'
import { digestOf } from '../store/digest.ts'
import type { Row, StoreEngine } from '../store/store.ts'
import { DatabaseFolder } from './database-folder.ts'
import type { Engine } from './engine.ts'
import { newIncarnation, newSiteId } from './site-id.ts'

const magic = utf8Encode('COTBAK1\n')
const framedRows = 1000
const framedBytesMax = 256 * 1024
const frameHeaderBytes = 8
const restoredGeneration = 1
const frameContentBytesMax = 64 * 1024 * 1024

export interface BackupProgress {
  readonly rows: number
  readonly bytes: number
  /** Size of what is read, where it is known beforehand. */
  readonly bytesTotal?: number
}

export interface BackupOptions {
  readonly onProgress?: (progress: BackupProgress) => void
  readonly signal?: AbortSignal
}

export interface BackupResult {
  readonly lsn: number
  readonly term: number
  readonly rows: number
  readonly bytes: number
  readonly digest: string
}

interface Manifest {
  readonly format: 1
  readonly databaseId: string
  readonly lsn: number
  readonly term: number
  readonly crc: number
  readonly history: readonly HistoryEntry[]
  readonly createdMs: number
}

interface Totals {
  readonly rows: number
  readonly bytes: number
  readonly digest: string
}

/** Writes a backup of now. Errors: IO_ERROR, DISK_FULL, ABORTED; nothing bears the file's name then. */
export async function writeBackup(
  engine: Engine,
  options: BackupOptions & { readonly files: Files; readonly path: string },
): Promise<BackupResult> {
  const { clock } = engine.host
  const { files, path } = options
  assert(!engine.keptStores.isPartial, 'a backup has every store')
  assertNotAborted(options.signal)
  const partial = `${path}.partial`
  const snapshot = await engine.snapshot()
  try {
    const { meta } = snapshot.rows
    if (meta === undefined) throw new CoterieError('INVALID_STATE', 'there is nothing to back up yet')
    const writer = await FrameWriter.create(files, partial)
    try {
      const manifest: Manifest = {
        format: 1,
        databaseId: meta.databaseId,
        lsn: meta.appliedLsn,
        term: meta.appliedTerm,
        crc: meta.appliedCrc,
        history: meta.history,
        createdMs: clock.wall(),
      }
      await writer.frame(jsonBytes(manifest))
      const rows = snapshot.rows.iterate({})
      let count = 0
      for (let chunk = await rows.next(framedRows); chunk.length > 0; chunk = await rows.next(framedRows)) {
        assertNotAborted(options.signal)
        for (const part of splitBySize(chunk)) await writer.frame(encodeRows(part))
        count += chunk.length
        options.onProgress?.({ rows: count, bytes: writer.bytes })
      }
      await rows.close()
      const { digest } = await digestOf(snapshot.rows)
      await writer.frame(emptyBytes)
      await writer.frame(jsonBytes({ rows: count, bytes: writer.bytes, digest } satisfies Totals))
      await writer.finish()
      await files.rename(partial, path)
      await files.syncFolder(files.join(path, '..'))
      return { lsn: meta.appliedLsn, term: meta.appliedTerm, rows: count, bytes: writer.bytes, digest }
    } catch (error) {
      await writer.discard()
      throw error
    }
  } finally {
    await snapshot.close()
  }
}

function assertNotAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) {
    throw new CoterieError('ABORTED', 'the backup was aborted', { cause: signal.reason })
  }
}

function splitBySize(rows: readonly Row[]): Row[][] {
  const parts: Row[][] = [[]]
  let bytes = 0
  for (const row of rows) {
    if (bytes > framedBytesMax) {
      parts.push([])
      bytes = 0
    }
    parts.at(-1)?.push(row)
    bytes += row[0].length + row[1].length
  }
  return parts.filter((part) => part.length > 0)
}

/**
 * Makes a database in `location` (which must be new or empty) from a backup. BACKUP_INVALID if the file is damaged
 * or incomplete: the folder is then left without a database.
 */
export async function restoreBackup(options: {
  readonly host: Host
  readonly storeEngine: StoreEngine
  readonly file: string
  readonly location: string
  readonly site: string | undefined
  readonly holder: string
  readonly onProgress?: (progress: BackupProgress) => void
}): Promise<BackupResult> {
  const { host, storeEngine, file } = options
  const { files } = host
  const folder = await DatabaseFolder.open({
    files,
    path: options.location,
    holder: options.holder,
    create: true,
  })
  try {
    if (folder.state !== undefined) {
      throw new CoterieError(
        'INVALID_STATE',
        `there is a database in ${folder.path} already; nothing was changed`,
      )
    }
    const reader = await FrameReader.open(files, file)
    try {
      return await restoreFrom(reader, folder, {
        host,
        storeEngine,
        site: options.site,
        onProgress: options.onProgress,
      })
    } catch (error) {
      if (folder.state === undefined) {
        await storeEngine.destroy(folder.storePath(restoredGeneration))
        await files.removeTree(folder.logPath(restoredGeneration))
      }
      throw error
    } finally {
      await reader.close()
    }
  } finally {
    await folder.release()
  }
}

async function restoreFrom(
  reader: FrameReader,
  folder: DatabaseFolder,
  options: {
    readonly host: Host
    readonly storeEngine: StoreEngine
    readonly site: string | undefined
    readonly onProgress: ((progress: BackupProgress) => void) | undefined
  },
): Promise<BackupResult> {
  const { host, storeEngine } = options
  const manifest = reader.json<Manifest>(await reader.frame())
  if (manifest.format !== 1) {
    throw new CoterieError('FORMAT_UNSUPPORTED', `backup format ${String(manifest.format)} is not known`)
  }
  const generation = restoredGeneration
  const storePath = folder.storePath(generation)
  await storeEngine.destroy(storePath)
  const store = await storeEngine.open(storePath)
  let count = 0
  let digest: string
  const place = { lsn: toLsn(manifest.lsn), term: toTerm(manifest.term), crc: manifest.crc }
  try {
    for (let content = await reader.frame(); content.length > 0; content = await reader.frame()) {
      const rows = decodeRows(content)
      if (rows === undefined) throw reader.invalid('a frame does not hold whole rows')
      await store.write({ writes: rows.map(([key, value]) => ({ key, value })) })
      count += rows.length
      options.onProgress?.({ rows: count, bytes: reader.at, bytesTotal: reader.size })
    }
    const totals = reader.json<Totals>(await reader.frame())
    await store.write({
      writes: [],
      meta: {
        databaseId: manifest.databaseId,
        appliedLsn: place.lsn,
        appliedTerm: place.term,
        appliedCrc: place.crc,
        readableLsn: noLsn,
        history: manifest.history,
      },
    })
    const rows = store.snapshot()
    ;({ digest } = await digestOf(rows))
    await rows.close()
    if (count !== totals.rows || digest !== totals.digest)
      throw reader.invalid('the rows do not match the totals')
    await store.flush()
  } finally {
    await store.close()
  }
  const { log } = await Log.open({
    host,
    folder: folder.logPath(generation),
    databaseId: manifest.databaseId,
    start: { place, history: manifest.history },
  })
  await log.close()
  await folder.saveState(() => ({
    format: 1,
    databaseId: manifest.databaseId,
    site: options.site ?? newSiteId(host.random),
    term: manifest.term,
    termMaster: undefined,
    vote: undefined,
    promiseMs: 0,
    incarnation: newIncarnation(host.random),
    inGroup: false,
    view: undefined,
    role: 'standalone',
    sites: undefined,
    master: undefined,
    generation,
    staging: undefined,
    aside: [],
    cleanEnd: undefined,
    createdMs: host.clock.wall(),
  }))
  return { lsn: manifest.lsn, term: manifest.term, rows: count, bytes: reader.at, digest }
}

function jsonBytes(value: unknown): Uint8Array {
  return utf8Encode(JSON.stringify(value))
}

class FrameWriter {
  readonly #files: Files
  readonly #file: OpenFile
  #isClosed = false
  bytes = 0

  private constructor(files: Files, file: OpenFile) {
    this.#files = files
    this.#file = file
  }

  static async create(files: Files, path: string): Promise<FrameWriter> {
    const writer = new FrameWriter(files, await files.open(path, 'create'))
    await writer.#file.truncate(0)
    await writer.#write([magic])
    return writer
  }

  async frame(content: Uint8Array): Promise<void> {
    const header = new Uint8Array(frameHeaderBytes)
    const view = new DataView(header.buffer)
    view.setUint32(0, content.length, true)
    view.setUint32(4, crc32(content), true)
    await this.#write([header, content])
  }

  #write(parts: readonly Uint8Array[]): Promise<void> {
    const at = this.bytes
    for (const part of parts) this.bytes += part.length
    return settled((done) => this.#file.write(parts, at, done))
  }

  async finish(): Promise<void> {
    await settled((done) => this.#file.sync(done))
    this.#isClosed = true
    await this.#file.close()
  }

  async discard(): Promise<void> {
    if (!this.#isClosed) await this.#file.close()
    await this.#files.remove(this.#file.path)
  }
}

function settled(start: (done: (error: Error | null) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    start((error) => (error === null ? resolve() : reject(error)))
  })
}

class FrameReader {
  readonly #file: OpenFile
  readonly size: number
  at = 0

  private constructor(file: OpenFile, size: number) {
    this.#file = file
    this.size = size
  }

  static async open(files: Files, path: string): Promise<FrameReader> {
    const size = await files.size(path)
    if (size === undefined)
      throw new CoterieError('BACKUP_INVALID', `there is no file ${path}`, { details: { file: path } })
    const reader = new FrameReader(await files.open(path, 'read'), size)
    if (size < magic.length || !equalBytes(await reader.#take(magic.length), magic)) {
      await reader.close()
      throw reader.invalid('this is not a backup')
    }
    return reader
  }

  async frame(): Promise<Uint8Array> {
    const header = await this.#take(frameHeaderBytes)
    const view = new DataView(header.buffer, header.byteOffset)
    const length = view.getUint32(0, true)
    if (length > frameContentBytesMax) throw this.invalid('a frame claims to be larger than any is')
    const content = await this.#take(length)
    if (crc32(content) !== view.getUint32(4, true)) throw this.invalid('a checksum does not match')
    return content
  }

  async #take(length: number): Promise<Uint8Array> {
    if (this.at + length > this.size) throw this.invalid('the file ends too early')
    const bytes = new Uint8Array(length)
    let read = 0
    while (read < length) {
      const count = await this.#file.read(bytes.subarray(read), this.at + read)
      if (count === 0) throw this.invalid('the file ends too early')
      read += count
    }
    this.at += length
    return bytes
  }

  json<T>(content: Uint8Array): T {
    try {
      return JSON.parse(utf8Decode(content)) as T
    } catch (cause) {
      throw this.invalid(asError(cause).message)
    }
  }

  invalid(why: string): CoterieError {
    return new CoterieError('BACKUP_INVALID', `${this.#file.path}: ${why} (at byte ${this.at})`, {
      details: { file: this.#file.path, offset: this.at },
    })
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}
