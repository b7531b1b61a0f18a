// Measures the store floor: what applying costs, how fast rows are read, scanned and loaded, what overlay and row
// cache cost, what LevelDB's settings do, and what a kill -9 leaves. The numbers behind the defaults in src/store.
//
//   node --import tsx bench/store.ts [apply] [applier] [reads] [scans] [bulk] [maps] [settings] [crash]
//
// Default: all. ROWS (default 1,000,000) sets the size of the stores. CPU is that of the whole process, threads of
// LevelDB included; wall-clock rates depend on what else runs on the machine.

import { fork } from 'node:child_process'
import * as fs from 'node:fs'
import * as os from 'node:os'
import * as path from 'node:path'
import { fileURLToPath } from 'node:url'
import { ClassicLevel } from 'classic-level'
import type { RecordBatch } from '../src/base/batch.ts'
import { type Lsn, toLsn, toTerm } from '../src/base/lsn.ts'
import { nodeHost } from '../src/env/node/node-host.ts'
import { BatchBuilder } from '../src/log/batch-builder.ts'
import { placeBeforeAll, recordKind } from '../src/log/record-format.ts'
import { Applier } from '../src/store/applier.ts'
import { classicLevelEngine } from '../src/store/classic-level-engine.ts'
import { digestOf } from '../src/store/digest.ts'
import { keyText } from '../src/store/key-text.ts'
import { memoryEngine } from '../src/store/memory-engine.ts'
import { Overlay } from '../src/store/overlay.ts'
import { RowCache } from '../src/store/row-cache.ts'
import type { RowWrite, Store, StoreEngine, StoreMeta } from '../src/store/store.ts'

const rowCount = Number(process.env.ROWS ?? 1_000_000)
const { files, timers } = nodeHost()
/** The writer that is killed gets its folder from its parent. */
const isWriter = process.argv[2] === '--write'
const folder = isWriter ? '' : fs.mkdtempSync(path.join(os.tmpdir(), 'coterie-bench-'))

/** 16 bytes, scattered over the key space. */
function rowKey(n: number): Uint8Array {
  const key = new Uint8Array(16)
  const view = new DataView(key.buffer)
  key[0] = 1
  view.setUint32(1, Math.imul(n, 0x9e37_79b1))
  view.setUint32(5, n)
  view.setUint32(9, ~n)
  return key
}

const someValue = new Uint8Array(100).map((_, i) => (i * 7919) & 255)

let seed = 12345
function random(below: number): number {
  seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
  return Math.floor((seed / 2 ** 32) * below)
}

const randomKeys = (count: number): Uint8Array[] =>
  Array.from({ length: count }, () => rowKey(random(rowCount)))

function metaAt(lsn: number): StoreMeta {
  return {
    databaseId: 'bench',
    appliedLsn: toLsn(lsn),
    appliedTerm: toTerm(1),
    appliedCrc: 1,
    readableLsn: toLsn(0),
    history: oneHistory,
  }
}
const oneHistory = [{ term: toTerm(1), firstLsn: toLsn(1), site: 'a' }]

interface Measured {
  readonly perSecond: number
  readonly cpuUs: number
}

async function measure(count: number, run: () => unknown): Promise<Measured> {
  const cpu = process.cpuUsage()
  const start = performance.now()
  await run()
  const ms = performance.now() - start
  const used = process.cpuUsage(cpu)
  return { perSecond: (count / ms) * 1000, cpuUs: (used.user + used.system) / count }
}

/** CPU of the main thread: on a busy machine wall-clock time says nothing about who held up the loop. */
function mainThreadMs(): number {
  try {
    const [nanoseconds] = fs.readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'latin1').split(' ')
    return Number(nanoseconds) / 1e6
  } catch {
    // Not on Linux: wall-clock time has to do.
    return performance.now()
  }
}

function title(text: string): void {
  console.log(`\n${text}`)
}

function line(name: string, { perSecond, cpuUs }: Measured, more = ''): void {
  const rate = Math.round(perSecond).toLocaleString('en-US')
  console.log(`  ${name.padEnd(46)} ${rate.padStart(12)}/s ${cpuUs.toFixed(2).padStart(8)} us CPU ${more}`)
}

function engines(): StoreEngine[] {
  return [classicLevelEngine({ files, timers }), memoryEngine()]
}

let locations = 0
const freshLocation = (): string => path.join(folder, `store-${++locations}`)

async function loaded(engine: StoreEngine, location = freshLocation()): Promise<Store> {
  const store = await engine.open(location)
  // In no order, as a database that has lived for a while.
  for (let at = 0; at < rowCount; at += 10_000) {
    const writes = Array.from({ length: Math.min(10_000, rowCount - at) }, (_, i) => ({
      key: rowKey(at + i),
      value: someValue,
    }))
    await store.write({ writes, meta: metaAt(at + writes.length) })
  }
  return store
}

async function close(engine: StoreEngine, store: Store, location: string): Promise<void> {
  await store.close()
  await engine.destroy(location)
}

// ---- apply: store.write ----------------------------------------------------------------------------------------

type Preparing = 'as it comes' | 'dedupe' | 'dedupe + sort'

function prepare(keys: readonly Uint8Array[], how: Preparing): RowWrite[] {
  if (how === 'as it comes') return keys.map((key) => ({ key, value: someValue }))
  const byText = new Map<string, RowWrite>()
  for (const key of keys) byText.set(keyText(key), { key, value: someValue })
  if (how === 'dedupe') return [...byText.values()]
  return [...byText.keys()].sort((a, b) => (a < b ? -1 : 1)).map((text) => byText.get(text) as RowWrite)
}

async function benchApply(): Promise<void> {
  title(
    `apply: store.write, random puts over ${rowCount.toLocaleString('en-US')} rows, 16 B keys, 100 B values`,
  )
  for (const engine of engines()) {
    const location = freshLocation()
    const store = await loaded(engine, location)
    const count = 1_000_000
    for (const size of [256, 1024, 4096, 8192, 16_384, 65_536]) {
      for (const how of ['as it comes', 'dedupe', 'dedupe + sort'] as const) {
        if (how !== 'as it comes' && size !== 8192 && size !== 65_536) continue
        const keys = randomKeys(count)
        let worstMs = 0
        const measured = await measure(count, async () => {
          for (let at = 0; at < count; at += size) {
            const start = performance.now()
            await store.write({ writes: prepare(keys.slice(at, at + size), how), meta: metaAt(at + 1) })
            worstMs = Math.max(worstMs, performance.now() - start)
          }
        })
        line(`${engine.name}, batches of ${size}, ${how}`, measured, `worst batch ${worstMs.toFixed(0)} ms`)
      }
    }
    await close(engine, store, location)
  }
}

// ---- applier: from log records to the store --------------------------------------------------------------------

function recordsOf(options: { records: number; putsEach: number; keys: number }): RecordBatch[] {
  const builder = new BatchBuilder({ databaseId: 'bench', previous: placeBeforeAll })
  builder.begin({ term: toTerm(1), wallMs: 1, kind: recordKind.term })
  builder.payload(Uint8Array.of(97))
  builder.end()
  const batches: RecordBatch[] = []
  for (let n = 0; n < options.records; n++) {
    builder.begin({ term: toTerm(1), wallMs: 1, kind: recordKind.commit })
    for (let i = 0; i < options.putsEach; i++) builder.put(rowKey(random(options.keys)), someValue)
    builder.end()
    if (n % 500 === 499) batches.push(builder.cut() as RecordBatch)
  }
  const last = builder.cut()
  return last === undefined ? batches : [...batches, last]
}

async function benchApplier(): Promise<void> {
  title('applier: from records to the store, all of it; per put')
  for (const engine of engines()) {
    const plain = { putsEach: 1, keys: rowCount, permanent: true, cached: 0, batchWritesMax: 4096 }
    for (const what of [
      ...[512, 2048, 4096, 8192, 16_384].map((batchWritesMax) => ({
        ...plain,
        batchWritesMax,
        name: `1 put each, batchWritesMax ${batchWritesMax}`,
      })),
      { ...plain, name: '1 put each, 100,000 rows in the cache', cached: 100_000 },
      { ...plain, name: '1 put each, on 1000 hot keys', keys: 1000 },
      { ...plain, name: '20 puts each', putsEach: 20 },
      { ...plain, name: '1 put each, not permanent (undo)', permanent: false },
    ]) {
      const location = freshLocation()
      const count = 400_000
      const batches = recordsOf({ records: count / what.putsEach, ...what })
      const store = await loaded(engine, location)
      await store.write({
        writes: [],
        meta: { ...metaAt(0), appliedCrc: 0, appliedTerm: toTerm(0), history: [] },
      })
      const cache = new RowCache()
      for (let n = 0; n < what.cached; n++) cache.fill(keyText(rowKey(n)), someValue, cache.ticket())
      const applier = new Applier({
        store,
        databaseId: 'bench',
        timers,
        cache,
        batchWritesMax: what.batchWritesMax,
        queueBytesMax: 2 ** 40,
        source: () => Promise.reject(new Error('everything was offered')),
        onApplied: () => {},
        onFailed: (error) => {
          throw error
        },
      })
      let longestMs = 0
      let last = mainThreadMs()
      const watch = setInterval(() => {
        const now = mainThreadMs()
        longestMs = Math.max(longestMs, now - last)
        last = now
      }, 0)
      const to = (batches[batches.length - 1] as RecordBatch).lastLsn
      const measured = await measure(count, async () => {
        for (const batch of batches) applier.offer(batch)
        applier.advance({ to, permanentLsn: what.permanent ? to : toLsn(0) })
        await applier.whenApplied(to)
      })
      clearInterval(watch)
      line(`${engine.name}, ${what.name}`, measured, `longest turn ${longestMs.toFixed(1)} ms`)
      await applier.close()
      await close(engine, store, location)
    }
  }
}

// ---- reads -----------------------------------------------------------------------------------------------------

async function benchReads(): Promise<void> {
  title(`reads: random rows of ${rowCount.toLocaleString('en-US')}`)
  for (const engine of engines()) {
    const location = freshLocation()
    const store = await loaded(engine, location)
    const count = 200_000
    const keys = randomKeys(count)
    const absent = Array.from({ length: count }, (_, n) => rowKey(rowCount + n))
    const snapshot = store.snapshot()
    const groups = (size: number): Uint8Array[][] =>
      Array.from({ length: Math.ceil(count / size) }, (_, i) => keys.slice(i * size, (i + 1) * size))
    const run = async (name: string, reads: number, read: () => unknown): Promise<void> =>
      line(`${engine.name}, ${name}`, await measure(reads, read))
    for (const key of keys) store.getSync(key)
    await run('getSync', count, () => keys.map((key) => store.getSync(key)))
    await run('getSync of absent rows', count, () => absent.map((key) => store.getSync(key)))
    await run('getSync of a snapshot', count, () => keys.map((key) => snapshot.getSync(key)))
    await run('get, one at a time', 20_000, async () => {
      for (const key of keys.slice(0, 20_000)) await store.get(key)
    })
    await run('get, 64 at a time', count, async () => {
      for (const group of groups(64)) await Promise.all(group.map((key) => store.get(key)))
    })
    for (const size of [10, 100, 1000]) {
      await run(`getMany of ${size}`, count, async () => {
        for (const group of groups(size)) await store.getMany(group)
      })
    }
    const cache = new RowCache({ bytesMax: 2 ** 30 })
    const readThrough = (key: Uint8Array): void => {
      const text = keyText(key)
      if (cache.get(text) !== undefined) return
      const ticket = cache.ticket()
      cache.fill(text, store.getSync(key), ticket)
    }
    await run('through the row cache, cold', count, () => keys.forEach(readThrough))
    await run('through the row cache, warm', count, () => keys.forEach(readThrough))
    await snapshot.close()
    await close(engine, store, location)
  }
}

// ---- scans -----------------------------------------------------------------------------------------------------

async function benchScans(): Promise<void> {
  title(`scans of ${rowCount.toLocaleString('en-US')} rows, per row`)
  for (const engine of engines()) {
    const location = freshLocation()
    const store = await loaded(engine, location)
    const snapshot = store.snapshot()
    for (const reverse of [false, true]) {
      for (const rows of reverse ? [1000] : [32, 100, 250, 1000, 2000, 4000, 16_000]) {
        const measured = await measure(rowCount, async () => {
          const iterator = snapshot.iterate({ reverse })
          while ((await iterator.next(rows)).length > 0);
          await iterator.close()
        })
        line(`${engine.name}, next(${rows})${reverse ? ' in reverse' : ''}`, measured)
      }
    }
    line(`${engine.name}, digest`, await measure(rowCount, () => digestOf(snapshot)))
    const starts = randomKeys(5000)
    const short = await measure(starts.length, async () => {
      for (const gte of starts) {
        const iterator = snapshot.iterate({ gte, limit: 20 })
        await iterator.next(20)
        await iterator.close()
      }
    })
    line(`${engine.name}, scans of 20 rows, per scan`, short)
    await snapshot.close()
    await close(engine, store, location)
  }
  await scanLevel()
}

/** What the binding itself offers, to see what the engine leaves on the table. */
async function scanLevel(): Promise<void> {
  title('scans of LevelDB itself (no checks of rows), per row')
  const location = freshLocation()
  const level = new ClassicLevel<Uint8Array, Uint8Array>(location, {
    keyEncoding: 'view',
    valueEncoding: 'view',
    compression: false,
    writeBufferSize: 33_554_432,
    maxFileSize: 8_388_608,
  })
  await level.open()
  for (let at = 0; at < rowCount; at += 10_000) {
    const batch = level.batch()
    for (let n = at; n < Math.min(rowCount, at + 10_000); n++) batch.put(rowKey(n), someValue)
    await batch.write()
  }
  for (const encoding of ['view', 'buffer', 'utf8']) {
    for (const [rows, highWaterMarkBytes] of [
      [100, 16_384],
      [1000, 16_384],
      [1000, 1_048_576],
      [4000, 4_194_304],
      [16_000, 8_388_608],
    ] as const) {
      for (const fillCache of [false, true]) {
        if (encoding !== 'view' && (fillCache || rows !== 1000 || highWaterMarkBytes < 1_048_576)) continue
        const measured = await measure(rowCount, async () => {
          const iterator = level.iterator<unknown, unknown>({
            keyEncoding: encoding,
            valueEncoding: encoding,
            highWaterMarkBytes,
            fillCache,
          })
          while ((await iterator.nextv(rows)).length > 0);
          await iterator.close()
        })
        line(
          `nextv(${rows}) up to ${highWaterMarkBytes >> 10} KiB, ${encoding}, fillCache ${fillCache}`,
          measured,
        )
      }
    }
  }
  await level.close()
  fs.rmSync(location, { recursive: true })
}

// ---- bulk load -------------------------------------------------------------------------------------------------

async function benchBulk(): Promise<void> {
  title(`bulk load of ${rowCount.toLocaleString('en-US')} sorted rows, as a snapshot is installed`)
  const keys = Array.from({ length: rowCount }, (_, n) => rowKey(n)).sort(Buffer.compare)
  for (const engine of engines()) {
    for (const size of [1000, 10_000, 50_000]) {
      const location = freshLocation()
      const store = await engine.open(location)
      const measured = await measure(rowCount, async () => {
        for (let at = 0; at < rowCount; at += size) {
          await store.write({ writes: keys.slice(at, at + size).map((key) => ({ key, value: someValue })) })
        }
      })
      const flushed = await measure(1, () => store.flush())
      const bytes = await store.approximateBytes()
      line(
        `${engine.name}, batches of ${size}`,
        measured,
        `then flush ${(1000 / flushed.perSecond).toFixed(0)} ms, ${(bytes / 1e6).toFixed(0)} MB`,
      )
      await close(engine, store, location)
    }
  }
}

// ---- overlay and row cache -------------------------------------------------------------------------------------

async function benchMaps(): Promise<void> {
  title('overlay and row cache; keys of 16 B as text, made before')
  const rounds = 5
  for (const entries of [10_000, 65_536]) {
    const texts = Array.from({ length: entries }, (_, n) => keyText(rowKey(n)))
    const misses = Array.from({ length: entries }, (_, n) => keyText(rowKey(n + entries)))
    for (const perBatch of [16, 1000]) {
      let overlay = new Overlay()
      let lsn = 0
      const fill = (): void => {
        overlay = new Overlay()
        lsn = 0
        for (const text of texts) {
          overlay.set(text, someValue, ++lsn as Lsn)
          if (lsn % perBatch === 0) overlay.sealGeneration()
        }
      }
      const name = `overlay of ${entries}, sealed each ${perBatch}`
      const times = async (what: string, run: () => void): Promise<void> => {
        run()
        const measured = await measure(entries * rounds, () => {
          for (let i = 0; i < rounds; i++) run()
        })
        line(`${name}: ${what}`, measured, `${(1e9 / measured.perSecond).toFixed(0)} ns`)
      }
      await times('set', fill)
      await times('get, hit', () => {
        for (const text of texts) overlay.get(text)
      })
      await times('get, miss', () => {
        for (const text of misses) overlay.get(text)
      })
      await times('getAt, hit', () => {
        for (const text of texts) overlay.getAt(text, lsn as Lsn)
      })
    }
    // In steady state: 20 batches behind, as the applier leaves it.
    const overlay = new Overlay()
    let lsn = 0
    const steady = await measure(2_000_000, () => {
      for (let n = 0; n < 2_000_000; n++) {
        overlay.set(texts[n % entries] as string, someValue, ++lsn as Lsn)
        if (n % 64 === 0) overlay.sealGeneration()
        if (n % 4096 === 0 && lsn > entries) overlay.dropThrough((lsn - entries) as Lsn)
      }
    })
    line(`overlay, set with ${entries} pending`, steady, `${(1e9 / steady.perSecond).toFixed(0)} ns`)
    const cache = new RowCache()
    for (const text of texts) cache.fill(text, someValue, cache.ticket())
    const hits = await measure(entries * 50, () => {
      for (let i = 0; i < 50; i++) for (const text of texts) cache.get(text)
    })
    line(`row cache of ${entries}: hit`, hits, `${(1e9 / hits.perSecond).toFixed(0)} ns`)
    const fresh = await measure(entries * 10, () => {
      for (let i = 0; i < 10; i++) for (let n = 0; n < entries; n++) cache.get(keyText(rowKey(n)))
    })
    line(`row cache of ${entries}: hit, text made for it`, fresh, `${(1e9 / fresh.perSecond).toFixed(0)} ns`)
    const missed = await measure(entries * 10, () => {
      for (let i = 0; i < 10; i++) for (const text of misses) cache.get(text)
    })
    line(`row cache of ${entries}: miss`, missed, `${(1e9 / missed.perSecond).toFixed(0)} ns`)
  }
  const cache = new RowCache()
  const texts = Array.from({ length: rowCount }, (_, n) => keyText(rowKey(n)))
  const filled = await measure(rowCount, () => {
    for (const text of texts) cache.fill(text, someValue, cache.ticket())
  })
  line(
    'row cache: fill, with eviction',
    filled,
    `${(1e9 / filled.perSecond).toFixed(0)} ns, keeps ${cache.count}`,
  )
}

// ---- LevelDB's settings ----------------------------------------------------------------------------------------

async function benchSettings(): Promise<void> {
  title('LevelDB itself: 3,000,000 random puts in batches of 8192, then 200,000 random getSync')
  for (const settings of [
    {},
    { compression: true },
    { writeBufferSize: 4 },
    { writeBufferSize: 16 },
    { writeBufferSize: 64 },
    { maxFileSize: 2 },
    { maxFileSize: 32 },
    { blockSize: 1024 },
    { blockSize: 16_384 },
    { blockRestartInterval: 4 },
  ]) {
    const used = { compression: false, writeBufferSize: 32, maxFileSize: 8, ...settings }
    const location = freshLocation()
    const level = new ClassicLevel<Uint8Array, Uint8Array>(location, {
      keyEncoding: 'view',
      valueEncoding: 'view',
      cacheSize: 67_108_864,
      ...used,
      writeBufferSize: used.writeBufferSize * 1_048_576,
      maxFileSize: used.maxFileSize * 1_048_576,
    })
    await level.open()
    const count = 3_000_000
    let worstMs = 0
    const written = await measure(count, async () => {
      for (let at = 0; at < count; at += 8192) {
        const start = performance.now()
        const batch = level.batch()
        for (let i = 0; i < 8192; i++) batch.put(rowKey(random(rowCount)), someValue)
        await batch.write()
        worstMs = Math.max(worstMs, performance.now() - start)
      }
    })
    const keys = randomKeys(200_000)
    for (const key of keys) level.getSync(key)
    const read = await measure(keys.length, () => keys.map((key) => level.getSync(key)))
    const name =
      Object.entries(settings).map(([key, value]) => `${key} ${value}`)[0] ?? 'as the engine has it'
    line(`${name}: puts`, written, `worst batch ${worstMs.toFixed(0)} ms`)
    line(`${name}: getSync`, read)
    await level.close()
    fs.rmSync(location, { recursive: true })
  }
}

// ---- kill -9 ---------------------------------------------------------------------------------------------------

async function benchCrash(): Promise<void> {
  title('kill -9 while batches of 1000 puts are written as fast as they go')
  const location = freshLocation()
  for (let round = 1; round <= 3; round++) {
    const child = fork(fileURLToPath(import.meta.url), ['--write', location], {
      execArgv: ['--import', import.meta.resolve('tsx')],
    })
    let told = 0
    child.on('message', (lsn) => {
      told = lsn as number
    })
    await new Promise((resolve) => setTimeout(resolve, 4000))
    child.kill('SIGKILL')
    await new Promise((resolve) => child.on('exit', resolve))
    const engine = classicLevelEngine({ files, timers })
    const start = performance.now()
    const store = await engine.open(location)
    const ms = performance.now() - start
    const megabytes = (await store.approximateBytes()) / 1e6
    const found = store.meta?.appliedLsn ?? 0
    console.log(
      `  round ${round}: told of batch ${told}, found ${found}; opened in ${ms.toFixed(0)} ms, ${megabytes.toFixed(0)} MB`,
    )
    await store.close()
  }
  title('opening a store, with all of its tables verified')
  const size = await measure(1, async () => {
    const store = await classicLevelEngine({ files, timers }).open(location)
    await store.close()
  })
  const unverified = await measure(1, async () => {
    const store = await classicLevelEngine({ files, timers, verifyBytesMax: 0 }).open(location)
    await store.close()
  })
  console.log(
    `  ${(1000 / size.perSecond).toFixed(0)} ms; with verifyBytesMax 0 ${(1000 / unverified.perSecond).toFixed(0)} ms`,
  )
}

async function writeForEver(location: string): Promise<never> {
  const store = await classicLevelEngine({ files, timers }).open(location)
  for (let lsn = (store.meta?.appliedLsn ?? 0) + 1; ; lsn++) {
    const writes = Array.from({ length: 1000 }, (_, i) => ({ key: rowKey(lsn * 1000 + i), value: someValue }))
    await store.write({ writes, meta: metaAt(lsn) })
    process.send?.(lsn)
  }
}

const benches: Record<string, () => Promise<void>> = {
  apply: benchApply,
  applier: benchApplier,
  reads: benchReads,
  scans: benchScans,
  bulk: benchBulk,
  maps: benchMaps,
  settings: benchSettings,
  crash: benchCrash,
}

if (isWriter) await writeForEver(process.argv[3] as string)
try {
  const chosen = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(benches)
  for (const name of chosen) {
    const bench = benches[name]
    if (bench === undefined) throw new Error(`there is no bench ${name}: ${Object.keys(benches).join(', ')}`)
    await bench()
  }
} finally {
  fs.rmSync(folder, { recursive: true, force: true })
}
