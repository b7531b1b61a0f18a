// A database and its folder: opened again after an orderly end and after a crash, locked, destroyed, saved, damaged.

import assert from 'node:assert/strict'
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { crc32 } from 'node:zlib'
import { type Database, open, restore } from '../../src/index.ts'
import { collect, digestOf, failsWith, openAt, openFolder, openMemory, putMany } from '../support/sites.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

function flipByte(path: string, at: number): void {
  const bytes = readFileSync(path)
  bytes[at] = (bytes[at] as number) ^ 0x20
  writeFileSync(path, bytes)
}

/** State and log with their content, to show that nothing was changed or deleted. LevelDB keeps its files itself. */
function imageOf(folder: string): string[] {
  const image: string[] = []
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (!entry.isFile() || entry.name === 'lock' || entry.parentPath.includes('store-')) continue
    image.push(`${path} ${crc32(readFileSync(path))}`)
  }
  return image.toSorted((one, other) => (one < other ? -1 : 1))
}

function logFiles(folder: string): string[] {
  return readdirSync(join(folder, 'log-1'))
    .filter((name) => statSync(join(folder, 'log-1', name)).size > 0)
    .sort()
    .map((name) => join(folder, 'log-1', name))
}

test('what was acknowledged is there after an orderly end, with the same identity', async (t) => {
  const path = join(withTempFolder(t), 'deep', 'down', 'db')
  const first = await openAt(t, path)
  await putMany(first, 100)
  const { siteId, databaseId } = first
  const digest = await digestOf(first)
  const { token } = await first.put('last', 'one')
  await first.close()
  const second = await openAt(t, path)
  assert.equal(second.siteId, siteId)
  assert.equal(second.databaseId, databaseId)
  assert.equal(await second.get('last'), 'one')
  assert.equal(await second.outcome(token), 'applied')
  await second.del('last')
  assert.equal(await digestOf(second), digest)
  assert.equal(second.status().term, 2)
  await second.close()
  await failsWith('OPTION_INVALID', open(path, { site: 'somebody else' }))
  const third = await openAt(t, path, { site: siteId, create: false })
  assert.equal((await third.keys().all()).length, 100)
})

test('what was acknowledged is there after a crash at any moment', async (t) => {
  const folder = withTempFolder(t)
  const db = await openFolder(t, { segmentBytes: 65_536, checkpointBytes: 65_536 })
  const acknowledged = new Map<string, string>()
  let isWriting = true
  let count = 0
  const writer = async (who: number): Promise<void> => {
    for (let i = 0; isWriting; i++) {
      const key = `w${who}-${i % 50}`
      const value = `${who}/${i}/${'x'.repeat(200)}`
      await db.put(key, value)
      acknowledged.set(key, value)
      count++
    }
  }
  const writers = [0, 1, 2, 3].map(writer)
  for (let round = 0; round < 4; round++) {
    const goal = count + 100
    await waitUntil(() => count > goal, { what: 'more was acknowledged' })
    const known = new Map(acknowledged)
    // The copy is made in one turn of this process; the threads of the store may write meanwhile, as in a crash.
    const image = join(folder, `crash-${round}`)
    cpSync(db.location, image, { recursive: true })
    const after = await openAt(t, image)
    for (const [key, value] of known) {
      const found = await after.get(key)
      assert.ok(found !== undefined && numberOf(found) >= numberOf(value), `${key} of round ${round}`)
    }
    const { log, store } = await after.verify()
    assert.ok(log.records > 0)
    assert.equal(store.digest, await digestOf(after))
    await after.close()
  }
  isWriting = false
  await Promise.all(writers)
})

function numberOf(value: string): number {
  return Number(value.split('/')[1])
}

test('a folder is open once, also within one process; the refusal names the holder', async (t) => {
  const db = await openFolder(t)
  const error = await failsWith('LOCKED', open(db.location))
  assert.equal(error.details.pid, process.pid)
  assert.equal(error.retryable, true)
  await db.put('a', '1')
  await db.close()
  const again = await openAt(t, db.location)
  assert.equal(await again.get('a'), '1')
})

test('[A8] a destroyed database is gone, and its handle is closed', async (t) => {
  const db = await openFolder(t)
  await db.put('a', '1')
  await db.destroy()
  assert.equal(existsSync(db.location), false)
  await failsWith('CLOSED', db.get('a'))
  await failsWith('CLOSED', db.destroy())
  await db.close()
  const next = await openAt(t, db.location)
  assert.equal(await next.get('a'), undefined)
  assert.notEqual(next.databaseId, db.databaseId)
  await failsWith('CLOSED', db.destroy())
  assert.equal(existsSync(db.location), true)
})

test('destroy leaves alone what is not the database’s', async (t) => {
  const db = await openFolder(t)
  await db.put('a', '1')
  writeFileSync(join(db.location, 'notes.txt'), 'mine')
  await db.destroy()
  assert.deepEqual(readdirSync(db.location), ['notes.txt'])
})

test('await using closes the database', async (t) => {
  const path = join(withTempFolder(t), 'db')
  {
    await using db = await open(path)
    await db.put('a', '1')
  }
  await using again = await open(path, { create: false })
  assert.equal(await again.get('a'), '1')
})

test('a folder that is no database is refused, and left as it is', async (t) => {
  const folder = withTempFolder(t)
  await failsWith('NOT_A_DATABASE', open(join(folder, 'nothing'), { create: false }))
  assert.equal(existsSync(join(folder, 'nothing')), false)
  writeFileSync(join(folder, 'thesis.txt'), 'three years')
  await failsWith('NOT_A_DATABASE', open(folder))
  assert.deepEqual(readdirSync(folder), ['thesis.txt'])
  await failsWith('OPTION_UNKNOWN', open(join(folder, 'x'), { createIfMissing: true } as never))
  await failsWith('OPTION_INVALID', open(join(folder, 'x'), { durability: 'never' as never }))
  await failsWith('OPTION_INVALID', open(join(folder, 'x'), { valueEncoding: 'utf7' }))
  await failsWith('OPTION_INVALID', open(join(folder, 'x'), { site: 's'.repeat(65) }))
  await failsWith('OPTION_INVALID', open(join(folder, 'x'), { retain: { days: 3 } as never }))
  await assert.rejects(open(''), TypeError)
  assert.equal(existsSync(join(folder, 'x')), false)
})

test('[D8a] a damaged, missing or newer state file is refused, and nothing is changed', async (t) => {
  const db = await openFolder(t)
  await db.put('a', '1')
  await db.close()
  const state = join(db.location, 'state')
  const good = readFileSync(state)
  flipByte(state, 20)
  const damaged = imageOf(db.location)
  await failsWith('STATE_DAMAGED', open(db.location))
  assert.deepEqual(imageOf(db.location), damaged)
  rmSync(state)
  const missing = imageOf(db.location)
  await failsWith('STATE_DAMAGED', open(db.location))
  assert.deepEqual(imageOf(db.location), missing)
  const newer = (good.toString('utf8').split('\n')[0] as string).replace('"format":1', '"format":3')
  writeFileSync(state, `${newer}\n${crc32(newer).toString(16)}\n`)
  await failsWith('FORMAT_UNSUPPORTED', open(db.location))
  writeFileSync(state, good)
  const again = await openAt(t, db.location)
  assert.equal(await again.get('a'), '1')
})

test('[D7b] a damaged byte of the log is found at open, with its file and offset, and nothing is deleted', async (t) => {
  const db = await openFolder(t)
  await putMany(db, 50)
  await db.close()
  const [file] = logFiles(db.location) as [string]
  const at = readFileSync(file).indexOf('row0020')
  assert.ok(at > 0)
  flipByte(file, at)
  const image = imageOf(db.location)
  const error = await failsWith('LOG_DAMAGED', open(db.location))
  assert.equal(error.details.file, file)
  const offset = error.details.offset as number
  assert.ok(offset <= at && offset > at - 200, `offset ${offset} is that of the record with byte ${at}`)
  assert.equal(error.details.lsn, 22)
  assert.deepEqual(imageOf(db.location), image)
  await failsWith('LOG_DAMAGED', open(db.location))
  flipByte(file, at)
  const again = await openAt(t, db.location)
  assert.equal((await again.keys().all()).length, 50)
})

test('[D7b] verify reads log and store of an open database, and says where damage is', async (t) => {
  const db = await openFolder(t)
  await putMany(db, 50)
  const progress: number[] = []
  const good = await db.verify({ onProgress: ({ done }) => progress.push(done) })
  assert.equal(good.log.records, 51)
  assert.equal(good.store.rows, 50)
  assert.equal(progress.at(-1), 51)
  const [file] = logFiles(db.location) as [string]
  const at = readFileSync(file).indexOf('row0030')
  flipByte(file, at)
  const error = await failsWith('LOG_DAMAGED', db.verify())
  assert.equal(error.details.file, file)
  assert.equal(error.details.lsn, 32)
  assert.equal(await db.get('row0030'), '30')
  flipByte(file, at)
  await db.verify()
})

test('a torn end of the log is cut, and reported', async (t) => {
  const db = await openFolder(t)
  await putMany(db, 50)
  const image = join(withTempFolder(t), 'crash')
  cpSync(db.location, image, { recursive: true })
  const [file] = logFiles(image) as [string]
  const at = readFileSync(file).lastIndexOf('row0049')
  truncateSync(file, at + 3)
  rmSync(join(image, 'store-1'), { recursive: true })
  const after = await openAt(t, image)
  assert.equal((await after.keys().all()).length, 49)
  const recovery = after.status().recovery as { cut?: { lsn: number; file: string } }
  assert.equal(recovery.cut?.lsn, 51)
  assert.equal(recovery.cut?.file, file)
})

test('a damaged store is made anew from the log; where the log is too short, nothing is changed', async (t) => {
  const db = await openFolder(t, { segmentBytes: 65_536 })
  await putMany(db, 200)
  const digest = await digestOf(db)
  await db.close()
  const store = join(db.location, 'store-1')
  for (const name of readdirSync(store)) {
    if (/\.(ldb|log)$/.test(name) && statSync(join(store, name)).size > 0) flipByte(join(store, name), 40)
  }
  flipByte(join(store, 'CURRENT'), 2)
  const again = await openAt(t, db.location, { segmentBytes: 65_536, retain: { bytes: 0 } })
  assert.equal(await digestOf(again), digest)
  assert.equal(again.status().rebuilt, true)
  const value = 'x'.repeat(1000)
  for (let i = 0; i < 300; i++) await again.put(`more${i}`, value)
  const { firstLsn } = await again.archive()
  assert.ok(firstLsn > 1)
  await again.close()
  flipByte(join(store, 'CURRENT'), 2)
  const image = imageOf(db.location)
  const error = await failsWith('STORE_FAILED', open(db.location))
  assert.equal(error.details.firstLsn, firstLsn)
  assert.deepEqual(imageOf(db.location), image)
  flipByte(join(store, 'CURRENT'), 2)
  const third = await openAt(t, db.location)
  assert.equal((await third.keys().all()).length, 500)
  assert.equal(third.status().rebuilt, false)
})

test('[D7a] a checkpoint lets the log go that nobody needs; archive keeps nothing beyond', async (t) => {
  const segmentBytes = 65_536
  const db = await openFolder(t, { segmentBytes, retain: { transactions: 500 } })
  const value = 'x'.repeat(500)
  for (let i = 0; i < 10; i++) {
    await db.batch([{ type: 'put', key: 'all', value: String(i) }])
    await Promise.all(Array.from({ length: 100 }, (_, n) => db.put(`k${n}`, value)))
  }
  const { lastLsn } = db.status()
  assert.equal(db.status().firstLsn, 1)
  const kept = await db.checkpoint()
  assert.equal(kept.lsn, lastLsn)
  assert.ok(kept.firstLsn > 1 && kept.firstLsn <= lastLsn - 500 + 1, 'the retention setting is kept')
  assert.equal(db.status().checkpointLsn, lastLsn)
  const archived = await db.archive()
  assert.ok(archived.removedSegments > 0)
  assert.ok(archived.firstLsn > kept.firstLsn)
  assert.equal(db.status().firstLsn, archived.firstLsn)
  await failsWith('LOG_TRIMMED', db.changes({ from: 1 }).next())
  await db.close()
  const again = await openAt(t, db.location, { segmentBytes })
  assert.equal(await again.get('all'), '9')
  assert.equal((await again.keys().all()).length, 101)
})

test('[D7a] the log does not grow without bound: checkpoints are made as it grows', async (t) => {
  const db = await openFolder(t, { segmentBytes: 65_536, checkpointBytes: 65_536, retain: { bytes: 65_536 } })
  const value = 'x'.repeat(2000)
  for (let i = 0; i < 30; i++) {
    await Promise.all(Array.from({ length: 20 }, (_, n) => db.put(`k${n}`, value)))
  }
  await waitUntil(() => db.status().firstLsn > 300, { what: 'older log was removed' })
  assert.ok(db.status().logBytes < 12 * 65_536)
})

test('[A18c] what retain says is kept: transactions, bytes or time', async (t) => {
  const value = 'x'.repeat(1000)
  const fill = async (db: Database): Promise<void> => {
    for (let i = 0; i < 10; i++)
      await Promise.all(Array.from({ length: 50 }, (_, n) => db.put(`k${n}`, value)))
    await db.checkpoint()
  }
  const none = await openMemory(t, { segmentBytes: 65_536, retain: {} })
  await fill(none)
  assert.ok(none.status().firstLsn > 400)
  const bytes = await openMemory(t, { segmentBytes: 65_536, retain: { bytes: 300_000 } })
  await fill(bytes)
  assert.ok(bytes.status().firstLsn > 1 && bytes.status().firstLsn < 300)
  const time = await openMemory(t, { segmentBytes: 65_536, retain: { ms: 3_600_000 } })
  await fill(time)
  assert.equal(time.status().firstLsn, 1)
})

test('[D7f] a backup made while writing goes on holds one state; restored, it is a site of its own', async (t) => {
  const folder = withTempFolder(t)
  const db = await openFolder(t)
  await putMany(db, 500)
  let isWriting = true
  const invariant = async (): Promise<void> => {
    for (let i = 0; isWriting; i++) {
      await db.batch([
        { type: 'put', key: 'left', value: String(i) },
        { type: 'put', key: 'right', value: String(i) },
      ])
    }
  }
  const writing = invariant()
  const file = join(folder, 'a.backup')
  const progress: number[] = []
  const made = await db.backup(file, { onProgress: ({ rows }) => progress.push(rows) })
  isWriting = false
  await writing
  assert.equal(progress.at(-1), made.rows)
  assert.equal(existsSync(`${file}.partial`), false)
  const restored = await restore(file, join(folder, 'copy'))
  assert.deepEqual({ ...restored, bytes: 0 }, { ...made, bytes: 0 })
  const copy = await openAt(t, join(folder, 'copy'))
  assert.equal(await digestOf(copy), made.digest)
  assert.equal(await copy.get('left'), await copy.get('right'))
  assert.equal(copy.databaseId, db.databaseId)
  assert.notEqual(copy.siteId, db.siteId)
  assert.equal(copy.status().lastLsn, made.lsn)
  assert.equal((await copy.put('new', '1')).lsn, made.lsn + 2)
  await failsWith('LOCKED', restore(file, copy.location))
  await copy.close()
  await failsWith('INVALID_STATE', restore(file, copy.location))
  await failsWith('OPTION_UNKNOWN', restore(file, join(folder, 'c2'), { force: true } as never))
  await failsWith('OPTION_INVALID', restore(file, ':memory:'))
})

test('[D7f] a damaged, truncated or foreign backup is refused, and the folder is as new', async (t) => {
  const folder = withTempFolder(t)
  const db = await openMemory(t)
  await putMany(db, 1500)
  const file = join(folder, 'good.backup')
  const made = await db.backup(file)
  const good = readFileSync(file)
  const target = join(folder, 'copy')
  const bad = join(folder, 'bad.backup')
  const cuts = [0, 5, 8, 12, 100, 5000, good.length - 40, good.length - 1]
  for (const length of cuts) {
    writeFileSync(bad, good.subarray(0, length))
    await failsWith('BACKUP_INVALID', restore(bad, target))
    assert.deepEqual(readdirSync(target), ['lock'], `after a cut at ${length}`)
  }
  for (const at of [0, 9, 13, 20, 300, 5000, good.length - 30, good.length - 2]) {
    const flipped = Buffer.from(good)
    flipped[at] = (flipped[at] as number) ^ 1
    writeFileSync(bad, flipped)
    await failsWith('BACKUP_INVALID', restore(bad, target))
    assert.deepEqual(readdirSync(target), ['lock'], `after a flip at ${at}`)
  }
  await failsWith('BACKUP_INVALID', restore(join(folder, 'none.backup'), target))
  await restore(file, target)
  const copy = await openAt(t, target)
  assert.equal(await digestOf(copy), made.digest)
})

test('[D7f] an aborted or failed backup leaves no file of its name', async (t) => {
  const folder = withTempFolder(t)
  const db = await openMemory(t)
  await putMany(db, 2500)
  const file = join(folder, 'x.backup')
  await failsWith('ABORTED', db.backup(file, { signal: AbortSignal.abort() }))
  const controller = new AbortController()
  const aborted = db.backup(file, { signal: controller.signal, onProgress: () => controller.abort() })
  await failsWith('ABORTED', aborted)
  assert.deepEqual(readdirSync(folder), [])
  mkdirSync(file)
  await assert.rejects(db.backup(file))
  assert.deepEqual(readdirSync(folder), ['x.backup'])
  await failsWith('IO_ERROR', db.backup(join(folder, 'no', 'such', 'folder')))
})

test('a database whose last commit is still under way closes after it', async (t) => {
  const db = await openFolder(t)
  await db.put('a', '1')
  const late = [db.put('b', '2'), db.put('c', '3')]
  await db.close()
  const receipts = await Promise.all(late)
  assert.equal(receipts.length, 2)
  const again = await openAt(t, db.location)
  assert.equal((await again.keys().all()).join(''), 'abc')
  assert.deepEqual((await collect(again.changes({ from: 1, live: false }))).length, 3)
})
