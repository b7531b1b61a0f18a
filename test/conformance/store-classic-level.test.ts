// What the store on disk must withstand: kill -9, lost writes after a power cut, and damage in every kind of file.
// It may refuse, or come back with an earlier state; it never shows a state that has not been.

import assert from 'node:assert/strict'
import {
  closeSync,
  cpSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { ClassicLevel } from 'classic-level'
import { CoterieError } from '../../src/base/errors.ts'
import { toLsn } from '../../src/base/lsn.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { type ClassicLevelEngineOptions, classicLevelEngine } from '../../src/store/classic-level-engine.ts'
import { ClassicLevelStore } from '../../src/store/classic-level-store.ts'
import type { Level } from '../../src/store/classic-level-view.ts'
import { crc32c } from '../../src/store/crc32c.ts'
import {
  applyVersionEdit,
  LevelLogParser,
  type LevelVersion,
  logBlockBytes,
} from '../../src/store/level-format.ts'
import type { Store } from '../../src/store/store.ts'
import { atEnd } from '../support/at-end.ts'
import { startChild } from '../support/child.ts'
import { FaultyFiles, systemError } from '../support/log-fixture.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'
import { allRows, bytes, hasCode, metaAt, put } from './store-suite.ts'
import { assertPrefix, keptRows, lastKey, rowKey, rowValue } from './store-writer-rows.ts'

const { files, timers } = nodeHost()
const isLong = process.env.COTERIE_TEST_ALL === '1'
const writerUrl = new URL('./store-writer-child.ts', import.meta.url)

function openStore(
  t: TestContext,
  location: string,
  options?: Partial<ClassicLevelEngineOptions>,
): Promise<Store> {
  const opening = classicLevelEngine({ files, timers, ...options }).open(location)
  atEnd(t, async () => {
    await opening.then((store) => store.close()).catch(() => undefined)
  })
  return opening
}

/** Writes batches of the writer's rows up to `last`. */
async function writeBatches(store: Store, last: number): Promise<void> {
  for (let n = (store.meta?.appliedLsn ?? 0) + 1; n <= last; n++) {
    await store.write({
      writes: [
        { key: rowKey(n), value: rowValue(n) },
        { key: lastKey, value: bytes(String(n)) },
        { key: rowKey(n - keptRows), value: undefined },
      ],
      meta: metaAt(n),
    })
  }
}

/** A copy of the files as they are now, as a crash would leave them. */
function crashCopy(location: string, name: string): string {
  const copy = `${location}-${name}`
  rmSync(copy, { recursive: true, force: true })
  cpSync(location, copy, { recursive: true })
  rmSync(join(copy, 'LOCK'), { force: true })
  return copy
}

function filesOf(location: string, pattern: RegExp): string[] {
  return readdirSync(location)
    .filter((name) => pattern.test(name))
    .sort()
    .map((name) => join(location, name))
}

function damage(path: string, change: (content: Buffer) => Buffer | undefined): void {
  const content = readFileSync(path)
  writeFileSync(path, change(content) ?? content)
}

function flipBit(path: string, at: number): void {
  damage(path, (content) => {
    content[at] = (content[at] as number) ^ (1 << (at & 7))
    return undefined
  })
}

/** Opens and checks; refusal counts as well. Returns the LSN, or undefined if it was refused. */
async function openAsPrefix(
  location: string,
  options?: Partial<ClassicLevelEngineOptions>,
): Promise<number | undefined> {
  let store: Store
  try {
    store = await classicLevelEngine({ files, timers, ...options }).open(location)
  } catch (error) {
    assert.ok(hasCode('STORE_FAILED')(error), String(error))
    return undefined
  }
  try {
    return await assertPrefix(store)
  } finally {
    await store.close()
  }
}

test('a killed writer leaves a prefix with all it was told is written, again and again', async (t) => {
  const location = join(withTempFolder(t), 'store')
  let expected = 0
  for (let round = 1; round <= 4; round++) {
    const child = startChild(t, writerUrl, { args: [location] })
    while (expected < round * 900) expected = await child.next<number>({ what: 'telling of a batch' })
    await child.kill()
    const store = await openStore(t, location)
    const last = await assertPrefix(store)
    assert.ok(last >= expected, `told of ${expected}, found ${last}`)
    expected = last
    await store.close()
  }
})

test('wherever the log is cut off or loses a page, what is left is a prefix', async (t) => {
  const location = join(withTempFolder(t), 'store')
  const store = await openStore(t, location)
  await writeBatches(store, 1200)
  const whole = crashCopy(location, 'whole')
  await store.close()
  const [log] = filesOf(whole, /\.log$/)
  assert.ok(log !== undefined)
  const size = readFileSync(log).length
  let prefixes = 0
  for (let round = 0; round < 24; round++) {
    const copy = crashCopy(whole, 'damaged')
    const path = log.replace(whole, copy)
    const at = Math.floor((size * (round + 0.3)) / 24)
    if (round % 3 === 0) truncateSync(path, at)
    // A page that was never written reads as zeros.
    else if (round % 3 === 1) damage(path, (content) => content.fill(0, at & ~4095, (at & ~4095) + 4096))
    else flipBit(path, at)
    const last = await openAsPrefix(copy)
    assert.ok(last !== undefined && last < 1200, `round ${round}: ${last}`)
    if (last > 0) prefixes++
    assert.equal(await openAsPrefix(copy), last, 'it stays as it is')
  }
  assert.ok(prefixes > 15)
})

/** The records of a log file, whole. */
function logRecords(path: string): Uint8Array[] {
  const content = readFileSync(path)
  const records: Uint8Array[] = []
  const parser = new LevelLogParser({
    keepBytes: Number.POSITIVE_INFINITY,
    onRecord: (_, record) => records.push(record) > 0,
  })
  for (let at = 0; at < content.length; at += logBlockBytes) {
    parser.block(content.subarray(at, at + logBlockBytes), at)
  }
  assert.equal(parser.problem, undefined)
  return records
}

/** A log file of LevelDB with these records, cut into fragments as LevelDB does. */
function encodeLog(records: readonly Uint8Array[]): Buffer {
  const parts: Buffer[] = []
  let left = logBlockBytes
  for (const record of records) {
    let at = 0
    do {
      if (left < 7) {
        parts.push(Buffer.alloc(left))
        left = logBlockBytes
      }
      const length = Math.min(record.length - at, left - 7)
      const [begins, ends] = [at === 0, at + length === record.length]
      const kind = begins ? (ends ? 1 : 2) : ends ? 4 : 3
      const fragment = Buffer.alloc(7 + length)
      fragment.writeUInt16LE(length, 4)
      fragment[6] = kind
      fragment.set(record.subarray(at, at + length), 7)
      const crc = crc32c(fragment, 6)
      fragment.writeUInt32LE((((crc >>> 15) | (crc << 17)) + 0xa282_ead8) >>> 0, 0)
      parts.push(fragment)
      left -= fragment.length
      at += length
    } while (at < record.length)
  }
  return Buffer.concat(parts)
}

test('of two logs the later one counts only if nothing of the earlier one is missing', async (t) => {
  const location = join(withTempFolder(t), 'store')
  const store = await openStore(t, location)
  await writeBatches(store, 1000)
  const whole = crashCopy(location, 'whole')
  await store.close()
  const [log] = filesOf(whole, /\.log$/)
  assert.ok(log !== undefined)
  const records = logRecords(log)
  assert.equal(records.length, 1000)
  const twoLogs = (earlier: Uint8Array[], later: Uint8Array[], name: string): string => {
    const copy = crashCopy(whole, name)
    writeFileSync(log.replace(whole, copy), encodeLog(earlier))
    writeFileSync(join(copy, '000900.log'), encodeLog(later))
    return copy
  }
  const [first, second] = [records.slice(0, 600), records.slice(600)]
  assert.equal(await openAsPrefix(twoLogs(first, second, 'intact')), 1000)
  assert.equal(
    await openAsPrefix(twoLogs(first.slice(0, 500), second, 'short')),
    500,
    'ends too early, undamaged',
  )
  assert.equal(await openAsPrefix(twoLogs([], second, 'empty')), 0, 'lost its content')
  assert.equal(
    await openAsPrefix(twoLogs(first, second.slice(1), 'late')),
    600,
    'the later one begins too late',
  )

  // LevelDB alone takes the short one with a hole: that is why the files are checked first.
  const copy = twoLogs(first.slice(0, 500), second, 'alone')
  const level = new ClassicLevel<Uint8Array, Uint8Array>(copy, { keyEncoding: 'view', valueEncoding: 'view' })
  assert.equal(await level.get(rowKey(550)), undefined)
  assert.notEqual(await level.get(rowKey(700)), undefined)
  await level.close()
})

/** A closed store of several tables, and a few rows in the log. */
async function storeOfTables(t: TestContext, last = 3000): Promise<string> {
  const location = join(withTempFolder(t), 'store')
  const store = await openStore(t, location, { writeBufferBytes: 65_536 })
  await writeBatches(store, last)
  await store.close()
  return location
}

/** The tables that count: others are left over from a compaction that the end of the store cut short. */
function liveTables(location: string): string[] {
  const version: LevelVersion = { logNumber: 0, previousLogNumber: 0, lastSequence: 0, tables: new Map() }
  const manifest = join(location, readFileSync(join(location, 'CURRENT'), 'utf8').trim())
  for (const record of logRecords(manifest)) assert.ok(applyVersionEdit(version, record))
  assert.ok(version.tables.size > 0)
  return filesOf(location, /\.ldb$/).filter((path) =>
    version.tables.has(Number(/(\d+)\.ldb$/.exec(path)?.[1])),
  )
}

test('a flipped bit anywhere in a table is found when the store is opened', async (t) => {
  const location = await storeOfTables(t)
  for (const table of liveTables(location).slice(isLong ? -3 : -2)) {
    const size = readFileSync(table).length
    for (let round = 0; round < 12; round++) {
      const copy = crashCopy(location, 'damaged')
      // The last 48 bytes, the footer, have padding that says nothing.
      const at = round < 3 ? size - 1 - round * 2 : Math.floor(((size - 48) * (round - 3 + 0.5)) / 9)
      flipBit(table.replace(location, copy), at)
      await assert.rejects(openStore(t, copy), hasCode('STORE_FAILED'), `${table} at ${at} of ${size}`)
    }
  }
})

/**
 * Damages the value of each of these rows, wherever the tables have it; returns how many were found. In place: LevelDB
 * has the files mapped.
 */
function rotValues(location: string, rows: Iterable<number>): number {
  let found = 0
  for (const table of filesOf(location, /\.ldb$/)) {
    const content = readFileSync(table)
    const file = openSync(table, 'r+')
    for (const n of rows) {
      const at = content.indexOf(rowValue(n))
      if (at < 0) continue
      writeSync(file, Uint8Array.of((content[at + 5] as number) ^ 4), 0, 1, at + 5)
      found++
    }
    closeSync(file)
  }
  return found
}

test('a table that is cut off or missing is found when the store is opened', async (t) => {
  const location = await storeOfTables(t)
  const [table] = liveTables(location).slice(-1)
  assert.ok(table !== undefined)
  const cut = crashCopy(location, 'cut')
  damage(table.replace(location, cut), (content) => content.subarray(0, -100))
  await assert.rejects(openStore(t, cut), hasCode('STORE_FAILED'))
  const missing = crashCopy(location, 'missing')
  rmSync(table.replace(location, missing))
  await assert.rejects(openStore(t, missing), hasCode('STORE_FAILED'))
})

test('beyond the bound of what open verifies, a damaged value is found when it is read', async (t) => {
  const location = await storeOfTables(t)
  const rotten = [2000, 2100, 2200, 2300]
  assert.ok(rotValues(location, rotten) >= rotten.length)
  await assert.rejects(openStore(t, crashCopy(location, 'verified')), hasCode('STORE_FAILED'))
  for (const n of rotten) {
    const store = await openStore(t, crashCopy(location, `unverified-${n}`), { verifyBytesMax: 0 })
    assert.deepEqual(Buffer.from(store.getSync(rowKey(1999)) ?? bytes()), Buffer.from(rowValue(1999)))
    const snapshot = store.snapshot()
    if (n === 2000) assert.throws(() => store.getSync(rowKey(n)), hasCode('STORE_FAILED'))
    else if (n === 2100) await assert.rejects(store.get(rowKey(n)), hasCode('STORE_FAILED'))
    else if (n === 2200)
      await assert.rejects(snapshot.getMany([rowKey(1), rowKey(n)]), hasCode('STORE_FAILED'))
    else await assert.rejects(allRows(snapshot, {}, 100), hasCode('STORE_FAILED'))
    await snapshot.close()
    await store.close()
  }
})

test('a value that rots under an open store poisons it, then only close works, and the next open finds it', async (t) => {
  const location = await storeOfTables(t)
  const store = await openStore(t, location, { verifyBytesMax: 0 })
  const isFound = (): boolean => {
    rotValues(location, [2500])
    try {
      store.getSync(rowKey(2500))
      return false
    } catch (error) {
      assert.ok(hasCode('STORE_FAILED')(error))
      return true
    }
  }
  // A compaction under way may just have copied the good value to a table that is not there yet.
  await waitUntil(isFound, { what: 'the damage is found' })
  const calls: (() => Promise<unknown>)[] = [
    () => store.get(rowKey(1)),
    () => store.getMany([rowKey(1)]),
    () => store.write({ writes: [put(bytes(1), bytes(1))] }),
    () => store.flush(),
    () => store.undoAfter(toLsn(0)),
    async () => store.snapshot(),
    async () => store.getSync(rowKey(1)),
  ]
  for (const call of calls) await assert.rejects(call, hasCode('STORE_FAILED'))
  await store.close()
  await assert.rejects(openStore(t, location, { verifyBytesMax: 0 }), hasCode('STORE_FAILED'))
})

test('after two ends in a row that were not orderly, every byte is verified', async (t) => {
  const location = await storeOfTables(t)
  const open = async (): Promise<Store> => openStore(t, location, { verifyBytesMax: 0 })
  const crash = async (): Promise<void> => {
    const store = await open()
    const copy = crashCopy(location, 'crashed')
    await store.close()
    rmSync(location, { recursive: true })
    cpSync(copy, location, { recursive: true })
  }
  assert.ok(rotValues(location, [2500]) > 0)
  await crash()
  await (await open()).close()
  await crash()
  await crash()
  await assert.rejects(open(), hasCode('STORE_FAILED'))
})

test('trouble that is no damage does not look like damage', async (t) => {
  const location = await storeOfTables(t)
  for (const [system, code] of [
    ['ENOSPC', 'DISK_FULL'],
    ['EMFILE', 'IO_ERROR'],
  ] as const) {
    const faulty = new FaultyFiles()
    const fileError = new CoterieError(code, system)
    faulty.fault = ({ name }) => (name === 'open' ? { error: fileError } : undefined)
    await assert.rejects(openStore(t, location, { files: faulty }), hasCode(code))
  }
  const store = await openStore(t, location)
  assert.equal(await assertPrefix(store), 3000)
})

test('wherever the manifest is cut off or damaged, the store is refused or is a prefix', async (t) => {
  const location = await storeOfTables(t)
  const [manifest] = filesOf(location, /^MANIFEST/)
  assert.ok(manifest !== undefined)
  const size = readFileSync(manifest).length
  const rounds = isLong ? 200 : 24
  let refused = 0
  for (let round = 0; round < rounds; round++) {
    const copy = crashCopy(location, 'damaged')
    const path = manifest.replace(location, copy)
    const at = Math.floor((size * (round + 0.5)) / rounds)
    if (round % 2 === 0) truncateSync(path, at)
    else flipBit(path, at)
    if ((await openAsPrefix(copy)) === undefined) refused++
  }
  assert.ok(refused > rounds / 2, `${refused} refused`)
})

test('with CURRENT missing or wrong the store is refused and nothing is deleted', async (t) => {
  const location = await storeOfTables(t)
  for (const content of [undefined, '', 'MANIFEST-000001', 'MANIFEST-999999\n', 'nonsense\n']) {
    const copy = crashCopy(location, 'damaged')
    const path = join(copy, 'CURRENT')
    if (content === undefined) rmSync(path)
    else writeFileSync(path, content)
    const before = readdirSync(copy)
    await assert.rejects(openStore(t, copy), hasCode('STORE_FAILED'))
    assert.deepEqual(readdirSync(copy), before)
  }
})

test('a store that was only just begun when its process died is begun anew', async (t) => {
  const location = join(withTempFolder(t), 'store')
  await (await openStore(t, location)).close()
  rmSync(join(location, 'CURRENT'))
  const store = await openStore(t, location)
  assert.equal(store.meta, undefined)
})

test('a second handle on the same files is refused before it touches any', async (t) => {
  const location = join(withTempFolder(t), 'store')
  const store = await openStore(t, location)
  await writeBatches(store, 10)
  const [log] = filesOf(location, /\.log$/)
  assert.ok(log !== undefined)
  // As in the middle of a write.
  const torn = readFileSync(log).length - 3
  truncateSync(log, torn)
  await assert.rejects(openStore(t, location), hasCode('LOCKED'))
  assert.equal(readFileSync(log).length, torn)
  await store.close()
  await (await openStore(t, location)).close()
})

test('flush syncs every log and the folder, and a sync that fails poisons the store', async (t) => {
  const location = join(withTempFolder(t), 'store')
  const faulty = new FaultyFiles()
  const store = await openStore(t, location, { files: faulty, writeBufferBytes: 65_536 })
  await writeBatches(store, 1500)
  faulty.calls.length = 0
  await store.flush()
  const synced = faulty.calls.filter(({ name }) => name === 'sync').map(({ path }) => path)
  // Logs that LevelDB has deleted by now were done with.
  for (const log of filesOf(location, /\.log$/)) assert.ok(synced.includes(log), log)
  assert.ok(faulty.calls.some(({ name, path }) => name === 'syncFolder' && path === location))
  faulty.fault = ({ name }) => (name === 'sync' ? { error: systemError('EIO') } : undefined)
  await assert.rejects(store.flush(), hasCode('STORE_FAILED'))
  await assert.rejects(store.write({ writes: [] }), hasCode('STORE_FAILED'))
})

test('a write that LevelDB refuses poisons the store; writes behind it are not tried', async (t) => {
  const location = join(withTempFolder(t), 'store')
  const level: Level = new ClassicLevel<Uint8Array, Uint8Array>(location, {
    keyEncoding: 'view',
    valueEncoding: 'view',
  })
  await level.open()
  const cause = new Error('IO error: no space left on device')
  let tried = 0
  const refusing = new Proxy(level, {
    get(target, name) {
      if (name === 'batch') {
        return () => ({
          put: () => {},
          del: () => {},
          write: () => {
            tried++
            return Promise.reject(cause)
          },
        })
      }
      const member = Reflect.get(target, name) as unknown
      return typeof member === 'function' ? member.bind(target) : member
    },
  })
  const store = await ClassicLevelStore.over({
    level: refusing,
    location,
    files,
    timers,
    onClosed: async ({ healthy }) => assert.equal(healthy, false),
  })
  let visible = false
  const first = store.write({
    writes: [put(bytes(1), bytes(1))],
    meta: metaAt(1),
    onVisible: () => {
      visible = true
    },
  })
  const second = store.write({ writes: [put(bytes(1), bytes(2))], meta: metaAt(2) })
  await assert.rejects(first, (error) => {
    assert.ok(error instanceof CoterieError)
    assert.equal(error.cause, cause)
    assert.equal(error.details.diskFull, true)
    return true
  })
  await assert.rejects(second, hasCode('STORE_FAILED'))
  assert.equal(tried, 1)
  assert.equal(visible, false)
  assert.throws(() => store.meta === undefined && store.getSync(bytes(1)), hasCode('STORE_FAILED'))
  await store.close()
})

test('a big batch is handed over in slices and is one change all the same', async (t) => {
  const location = join(withTempFolder(t), 'store')
  let turns = 0
  const counting = {
    ...timers,
    soon: (callback: () => void) => {
      turns++
      timers.soon(callback)
    },
  }
  const store = await openStore(t, location, { timers: counting })
  const writes = Array.from({ length: 50_000 }, (_, n) => put(rowKey(n), bytes(n & 255)))
  const writing = store.write({ writes, meta: metaAt(1) })
  for (let looks = 0; looks < 5; looks++) {
    await new Promise((resolve) => setImmediate(resolve))
    if (store.meta === undefined) assert.equal(store.getSync(rowKey(0)), undefined)
  }
  await writing
  assert.ok(turns >= 10)
  for (const n of [0, 1, 25_000, 49_999]) assert.equal(store.getSync(rowKey(n))?.[0], n & 255)
})

test('opening a store checks its files without changing any that is whole', async (t) => {
  const location = await storeOfTables(t)
  const contents = (): Map<string, number> =>
    new Map(filesOf(location, /\.ldb$/).map((path) => [path, crc32c(readFileSync(path))]))
  const before = contents()
  const store = await openStore(t, location)
  assert.equal(await assertPrefix(store), 3000)
  await store.close()
  // LevelDB compacts when it likes: tables go and others come, but none that was there becomes another.
  const after = contents()
  const kept = [...before].filter(([path]) => after.has(path))
  assert.ok(kept.length > 0)
  for (const [path, crc] of kept) assert.equal(after.get(path), crc, path)
  assert.ok(existsSync(join(location, 'CURRENT')))
})
