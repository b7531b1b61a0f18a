// Checks LevelDB's files before LevelDB opens them, because it is more trusting than a replica may be.
//
// - Its binding does not verify the checksums of tables. So they are verified here.
// - After a power cut any of the writes since the last sync may be missing. LevelDB skips a damaged part of its log
//   and goes on behind it, which would leave a store with a hole. Here the log is cut at the first record that
//   does not verify or does not follow the one before, so that what is left is a prefix, as after a crash.
// - With the file `CURRENT` gone it would begin a new store and delete the tables.
//
// Damage that cannot be cut off is STORE_FAILED: the caller discards the store and rebuilds it. A log that was cut
// too short (damage in a part that had been synced) is found by the LSN: the database compares it with its own log.

import { CoterieError } from '../base/errors.ts'
import type { Files, OpenFile } from '../env/host.ts'
import {
  applyVersionEdit,
  type BlockPlace,
  batchSequence,
  blockTrailerBytes,
  blockVerifies,
  LevelLogParser,
  type LevelVersion,
  logBlockBytes,
  placesInIndex,
  readFooter,
  tableFooterBytes,
} from './level-format.ts'

export interface LevelCheckOptions {
  readonly files: Files
  readonly location: string
  /**
   * Data blocks are verified up to so many bytes, newest tables first (about 1 GB/s). Of the rest only the blocks
   * that decide whether a row is found; their values have checks of their own (row-check.ts).
   */
  readonly tableBytesMax: number
}

export interface LevelCheck {
  /** False: there is no store yet. */
  readonly found: boolean
  readonly tables: number
  readonly tableBytes: number
  readonly verifiedBytes: number
  /** Bytes of log cut off; 0 for none. */
  readonly cutBytes: number
}

const readBytes = 1_048_576
const nothingFound: LevelCheck = { found: false, tables: 0, tableBytes: 0, verifiedBytes: 0, cutBytes: 0 }

/** Rejects with STORE_FAILED where the files are damaged. Cuts damaged logs, durably. */
export async function checkLevelFiles(options: LevelCheckOptions): Promise<LevelCheck> {
  const { files, location } = options
  const names = await files.list(location)
  if (names === undefined) return nothingFound
  const current = await files.readAll(files.join(location, 'CURRENT'))
  if (current === undefined) {
    await refuseLeftovers(files, location, names)
    return nothingFound
  }
  const version = await readVersion(options, current)
  const cutBytes = await checkLogs(options, { version, names })
  const tables = await checkTables(options, { version, names })
  return { found: true, cutBytes, ...tables }
}

function damaged(file: string, what: string, offset?: number): CoterieError {
  return new CoterieError('STORE_FAILED', `${file} is damaged: ${what}`, {
    details: offset === undefined ? { file } : { file, offset },
  })
}

async function withFile<T>(
  files: Files,
  path: string,
  mode: 'read' | 'write',
  run: (file: OpenFile) => Promise<T>,
): Promise<T> {
  const file = await files.open(path, mode)
  try {
    return await run(file)
  } finally {
    await file.close()
  }
}

/** Without CURRENT there may be the beginnings of a store, but nothing that holds data. */
async function refuseLeftovers(files: Files, location: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const path = files.join(location, name)
    const isTable = /^\d+\.(ldb|sst)$/.test(name)
    const isLog = /^\d+\.log$/.test(name) && ((await files.size(path)) ?? 0) > 0
    if (isTable || isLog) throw damaged(files.join(location, 'CURRENT'), 'it is missing')
  }
}

async function readVersion(options: LevelCheckOptions, current: Uint8Array): Promise<LevelVersion> {
  const { files, location } = options
  const name = /^(MANIFEST-\d+)\n$/.exec(String.fromCharCode(...current.subarray(0, 64)))?.[1]
  if (name === undefined) throw damaged(files.join(location, 'CURRENT'), 'it names no manifest')
  const path = files.join(location, name)
  const bytes = await files.readAll(path)
  if (bytes === undefined) throw damaged(path, 'it is missing')
  const version: LevelVersion = { logNumber: 0, previousLogNumber: 0, lastSequence: 0, tables: new Map() }
  const parser = new LevelLogParser({
    keepBytes: Number.POSITIVE_INFINITY,
    onRecord: (_, edit) => applyVersionEdit(version, edit),
  })
  for (let at = 0; at < bytes.length; at += logBlockBytes) {
    parser.block(bytes.subarray(at, at + logBlockBytes), at)
  }
  // The end may be torn, as a crash leaves it; nothing relies on an edit before it is synced.
  const torn = parser.problem !== undefined && bytes.length - parser.goodBytes < logBlockBytes
  if (parser.goodBytes === 0 || (parser.problem !== undefined && !(torn && isTorn(parser.problem)))) {
    throw damaged(path, parser.problem ?? 'it is empty', parser.goodBytes)
  }
  return version
}

/** What a crash in the middle of a write looks like, where the file ends with it. */
function isTorn(problem: string): boolean {
  return problem === 'a record goes beyond its block' || problem === 'a record header is cut off'
}

interface FoundFiles {
  readonly version: LevelVersion
  readonly names: readonly string[]
}

/** Cuts the live logs at the first damage; returns how many bytes went. */
async function checkLogs(options: LevelCheckOptions, { version, names }: FoundFiles): Promise<number> {
  const { files, location } = options
  const numbers = names
    .map((name) => /^(\d+)\.log$/.exec(name)?.[1])
    .filter((digits) => digits !== undefined)
    .map((digits) => ({ number: Number(digits), path: files.join(location, `${digits}.log`) }))
    .filter(({ number }) => number >= version.logNumber || number === version.previousLogNumber)
    .sort((a, b) => a.number - b.number)
  const progress = { next: 0, before: version.lastSequence + 1 }
  for (const [i, { path }] of numbers.entries()) {
    const size = (await files.size(path)) ?? 0
    const goodBytes = await withFile(files, path, 'read', (file) => checkLog(file, size, progress))
    const isLast = i === numbers.length - 1
    // A log is left only when it is full: an empty one that others follow has lost its content.
    if (goodBytes === size && (isLast || size > 0)) continue
    return await cutLogs(options, { path, goodBytes, later: numbers.slice(i + 1).map((log) => log.path) })
  }
  return 0
}

/** The sequence number that comes next; where the first record begins is known only as "not after `before`". */
interface Progress {
  next: number
  readonly before: number
}

async function checkLog(file: OpenFile, size: number, progress: Progress): Promise<number> {
  const parser = new LevelLogParser({
    keepBytes: 12,
    onRecord: (_, head) => {
      const sequence = batchSequence(head)
      if (sequence === undefined) return false
      const { first, count } = sequence
      if (progress.next === 0 ? first > progress.before : first !== progress.next) return false
      progress.next = first + count
      return true
    },
  })
  const chunk = new Uint8Array(Math.min(readBytes, Math.max(size, 1)))
  for (let at = 0; at < size && parser.problem === undefined; at += chunk.length) {
    const got = await file.read(chunk, at)
    for (let block = 0; block < got; block += logBlockBytes) {
      parser.block(chunk.subarray(block, Math.min(block + logBlockBytes, got)), at + block)
    }
  }
  return parser.goodBytes
}

interface LogCut {
  readonly path: string
  readonly goodBytes: number
  readonly later: readonly string[]
}

async function cutLogs(options: LevelCheckOptions, { path, goodBytes, later }: LogCut): Promise<number> {
  const { files, location } = options
  let cutBytes = 0
  // The last first: a crash in between leaves a prefix too.
  for (const name of [...later].reverse()) {
    cutBytes += (await files.size(name)) ?? 0
    await files.remove(name)
  }
  await files.syncFolder(location)
  cutBytes += ((await files.size(path)) ?? 0) - goodBytes
  await withFile(files, path, 'write', async (file) => {
    await file.truncate(goodBytes)
    await new Promise<void>((resolve, reject) => {
      file.sync((error) => (error === null ? resolve() : reject(error)))
    })
  })
  return cutBytes
}

type TableCheck = Pick<LevelCheck, 'tables' | 'tableBytes' | 'verifiedBytes'>

async function checkTables(options: LevelCheckOptions, { version, names }: FoundFiles): Promise<TableCheck> {
  const { files, location } = options
  const paths = new Map<number, string>()
  for (const name of names) {
    const digits = /^(\d+)\.(?:ldb|sst)$/.exec(name)?.[1]
    if (digits !== undefined) paths.set(Number(digits), files.join(location, name))
  }
  let tableBytes = 0
  let verifiedBytes = 0
  for (const [number, size] of [...version.tables].sort(([a], [b]) => b - a)) {
    const path = paths.get(number)
    if (path === undefined) throw damaged(files.join(location, `table ${number}`), 'it is missing')
    const found = await files.size(path)
    if (found !== size) throw damaged(path, `it has ${found} bytes instead of ${size}`)
    const whole = verifiedBytes + size <= options.tableBytesMax
    await withFile(files, path, 'read', (file) => checkTable(file, { size, whole }))
    tableBytes += size
    if (whole) verifiedBytes += size
  }
  return { tables: version.tables.size, tableBytes, verifiedBytes }
}

async function readExactly(file: OpenFile, at: number, bytes: number): Promise<Uint8Array> {
  const into = new Uint8Array(bytes)
  const got = await file.read(into, at)
  if (got !== bytes) throw damaged(file.path, 'it is too short', at)
  return into
}

async function checkTable(
  file: OpenFile,
  table: { readonly size: number; readonly whole: boolean },
): Promise<void> {
  const footerAt = table.size - tableFooterBytes
  if (footerAt < 0) throw damaged(file.path, 'it is too short for a table')
  const footer = readFooter(await readExactly(file, footerAt, tableFooterBytes))
  if (footer === undefined) throw damaged(file.path, 'its footer makes no sense', footerAt)
  const readIndex = async (place: BlockPlace): Promise<BlockPlace[]> => {
    if (place.offset + place.bytes + blockTrailerBytes > footerAt) {
      throw damaged(file.path, 'an index lies outside', place.offset)
    }
    const bytes = await readExactly(file, place.offset, place.bytes + blockTrailerBytes)
    const places = blockVerifies(bytes, 0, place.bytes)
      ? placesInIndex(bytes.subarray(0, place.bytes))
      : undefined
    if (places === undefined) throw damaged(file.path, 'an index does not verify', place.offset)
    return places
  }
  const dataBlocks = await readIndex(footer.index)
  const filterBlocks = await readIndex(footer.metaIndex)
  // Blocks lie without gaps, so that nothing in the file goes unchecked.
  let end = 0
  for (const { offset, bytes } of [...dataBlocks, ...filterBlocks, footer.metaIndex, footer.index]) {
    if (offset !== end) throw damaged(file.path, 'its blocks do not lie side by side', end)
    end += bytes + blockTrailerBytes
  }
  if (end !== footerAt) throw damaged(file.path, 'its blocks do not lie side by side', end)
  await checkBlocks(file, filterBlocks)
  if (table.whole) await checkBlocks(file, dataBlocks)
}

/** Reads neighbours together: a read for each block would cost more than its checksum. */
async function checkBlocks(file: OpenFile, places: readonly BlockPlace[]): Promise<void> {
  for (let i = 0; i < places.length; ) {
    const start = (places[i] as BlockPlace).offset
    let next = i
    let end = start
    while (next < places.length && (next === i || end - start < readBytes)) {
      const { offset, bytes } = places[next] as BlockPlace
      end = offset + bytes + blockTrailerBytes
      next++
    }
    const read = await readExactly(file, start, end - start)
    for (; i < next; i++) {
      const { offset, bytes } = places[i] as BlockPlace
      if (!blockVerifies(read, offset - start, bytes)) {
        throw damaged(file.path, 'a block does not verify', offset)
      }
    }
  }
}
