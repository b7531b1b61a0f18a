// Reading back: from memory and from disk, across segments, and what rot after the start looks like.

import assert from 'node:assert/strict'
import { truncateSync } from 'node:fs'
import { basename, join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { AssertionFailure } from '../../src/base/assert.ts'
import { CoterieError, isCoterieError } from '../../src/base/errors.ts'
import { placeBeforeAll } from '../../src/log/record-format.ts'
import { verifyBatch } from '../../src/log/verify-batch.ts'
import {
  brief,
  changeFile,
  databaseId,
  lsn,
  type OpenLog,
  openLog,
  readAll,
  recordsOf,
  segmentFiles,
  store,
  Writer,
} from '../support/log-fixture.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

interface Sample extends OpenLog {
  readonly folder: string
  readonly writer: Writer
  readonly expected: string[]
}

/** 121 records in several segments and several terms; marks in front of most flushes. */
async function sample(
  t: TestContext,
  options: { tailBytes?: number; segmentBytes?: number } = {},
): Promise<Sample> {
  const folder = join(withTempFolder(t), 'log')
  const opened = await openLog(t, { folder, ...options })
  const writer = new Writer()
  const expected: string[] = []
  const add = async (batch: ReturnType<Writer['commits']>): Promise<void> => {
    expected.push(...recordsOf(batch).map(brief))
    await store(opened.log, batch)
  }
  await add(writer.reign('a'))
  for (let i = 0; i < 29; i++) {
    await add(i % 10 === 9 ? writer.reign(`s${i}`) : writer.commits(4, 300 + i))
  }
  return { ...opened, folder, writer, expected }
}

describe('read', () => {
  it('gives the same records from memory, from disk and from both', async (t) => {
    for (const tailBytes of [0, 7000, 1 << 20]) {
      const { log, expected } = await sample(t, { tailBytes })
      assert.equal(log.lastLsn, expected.length)
      for (const bytesMax of [0, 500, 3000, 1 << 20]) {
        assert.deepEqual((await readAll(log, bytesMax)).map(brief), expected, `${tailBytes} ${bytesMax}`)
      }
    }
  })

  it('from any LSN to any other gives a batch that verifies and follows its previous place', async (t) => {
    for (const tailBytes of [0, 1 << 20]) {
      const { log, expected } = await sample(t, { tailBytes })
      for (let from = 1; from <= log.lastLsn; from += 3) {
        for (const to of [from, from + 1, from + 7, 10_000]) {
          const batch = await log.read({ from: lsn(from), to: lsn(to), bytesMax: 2000 })
          assert.equal(batch.firstLsn, from)
          assert.ok(batch.lastLsn <= to)
          assert.ok(batch.bytes.length <= 2000)
          const { previous } = batch
          assert.deepEqual(verifyBatch(batch.bytes, { databaseId, previous }), { ok: true, batch })
          assert.deepEqual(recordsOf(batch).map(brief), expected.slice(from - 1, batch.lastLsn))
          assert.deepEqual(await log.placeOf(lsn(from - 1)), previous)
        }
      }
    }
  })

  it('gives one record however large, and finds its way past it', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const { log } = await openLog(t, { folder, tailBytes: 0, segmentBytes: 8 << 20 })
    const writer = new Writer()
    await store(log, writer.reign('a'))
    for (const size of [10, 3_000_000, 10, 70_000, 200_000, 5]) await store(log, writer.commits(1, size))
    for (let n = 1; n <= log.lastLsn; n++) {
      const batch = await log.read({ from: lsn(n), bytesMax: 0 })
      assert.deepEqual([batch.firstLsn, batch.lastLsn], [n, n])
    }
    const batch = await log.read({ from: lsn(3), bytesMax: 100_000 })
    assert.deepEqual([batch.firstLsn, batch.lastLsn], [3, 3])
    assert.equal((await readAll(log, 10_000_000)).length, 7)
  })

  it('serves what is not durable yet', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const { log, host } = await openLog(t, { folder, tailBytes: 0 })
    const writer = new Writer()
    await store(log, writer.reign('a'))
    host.files.holdSyncs = true
    log.append(writer.commits(2))
    log.append(writer.commits(2))
    assert.equal(log.durableLsn, 1)
    const expected = ['2 k1=20', '3 k2=20', '4 k3=20', '5 k4=20']
    const pending = async (from: number): Promise<string[]> =>
      recordsOf(await log.read({ from: lsn(from), bytesMax: 10_000 })).map(brief)
    assert.deepEqual(await pending(2), expected)
    await waitUntil(() => host.files.heldSyncs.length === 1, { what: 'the first sync is under way' })
    host.files.heldSyncs.shift()?.()
    await log.whenDurable(lsn(3))
    assert.deepEqual(await pending(4), expected.slice(2), 'only what is durable may leave the memory')
    await waitUntil(() => host.files.heldSyncs.length === 1, { what: 'the second sync is under way' })
    host.files.heldSyncs.shift()?.()
    await log.whenDurable(lsn(5))
    assert.deepEqual((await readAll(log)).map(brief).length, 5)
  })

  it('goes on while records are appended and segments roll over and are let go', async (t) => {
    const { log, writer } = await sample(t, { tailBytes: 0 })
    const readers = [0, 500, 100_000].map(async (bytesMax) => {
      for (let i = 0; i < 40; i++) {
        const from = Math.max(log.firstLsn, log.durableLsn - 30 - i)
        const batch = await log.read({ from: lsn(from), bytesMax })
        assert.equal(batch.firstLsn, from)
      }
    })
    for (let i = 0; i < 40; i++) {
      await store(log, writer.commits(5, 400))
      if (i % 8 === 7) await log.trimBefore(lsn(log.lastLsn - 100))
    }
    await Promise.all(readers)
    assert.ok(log.firstLsn > 1)
  })

  it('refuses records that are trimmed, and records that never were', async (t) => {
    const { log } = await sample(t)
    await log.trimBefore(lsn(50))
    const { firstLsn } = log
    assert.ok(firstLsn > 1 && firstLsn <= 50)
    for (const read of [
      () => log.read({ from: lsn(1), bytesMax: 1 }),
      () => log.placeOf(lsn(firstLsn - 2)),
      () => log.locationOf(lsn(1)),
    ]) {
      await assert.rejects(read(), (error) => {
        assert.ok(isCoterieError(error, 'LOG_TRIMMED'), String(error))
        assert.equal(error.details.firstLsn, firstLsn)
        return true
      })
    }
    assert.equal((await log.placeOf(lsn(firstLsn - 1))).lsn, firstLsn - 1)
    await assert.rejects(log.read({ from: lsn(log.lastLsn + 1), bytesMax: 1 }), AssertionFailure)
  })

  it('of an empty log knows the place before it', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const { log } = await openLog(t, { folder })
    assert.deepEqual(await log.placeOf(lsn(0)), placeBeforeAll)
    assert.deepEqual([log.firstLsn, log.lastLsn], [1, 0])
  })
})

describe('rot after the start', () => {
  it('is met by reads at the record, with its place, and the records around it are served', async (t) => {
    const { log, expected } = await sample(t, { tailBytes: 0 })
    const place = await log.locationOf(lsn(30))
    const original = new Map<number, number>()
    for (let at = place.offset; at < place.end; at += 7) {
      changeFile(place.file, (bytes) => {
        original.set(at, bytes[at] as number)
        bytes[at] = (bytes[at] as number) ^ 2
      })
      const isDamage = (error: unknown): boolean => {
        assert.ok(error instanceof CoterieError, String(error))
        assert.equal(error.code, 'LOG_DAMAGED')
        const { file, offset, lsn: at30 } = error.details
        assert.deepEqual({ file, offset, lsn: at30 }, { file: place.file, offset: place.offset, lsn: 30 })
        return true
      }
      await assert.rejects(log.read({ from: lsn(30), bytesMax: 1000 }), isDamage)
      await assert.rejects(log.verify(), isDamage)
      const before = await log.read({ from: lsn(26), bytesMax: 100_000 })
      assert.deepEqual(recordsOf(before).map(brief), expected.slice(25, 29))
      changeFile(place.file, (bytes) => {
        bytes[at] = original.get(at) as number
      })
    }
    assert.equal(log.poisoned, undefined)
    assert.deepEqual((await readAll(log)).map(brief), expected)
  })

  it('is met when a file has become shorter', async (t) => {
    const { log } = await sample(t, { tailBytes: 0 })
    const place = await log.locationOf(lsn(30))
    truncateSync(place.file, place.offset + 40)
    await assert.rejects(log.read({ from: lsn(30), bytesMax: 0 }), (error) =>
      isCoterieError(error, 'LOG_DAMAGED'),
    )
    await assert.rejects(log.verify(), (error) => isCoterieError(error, 'LOG_DAMAGED'))
  })
})

describe('verify', () => {
  it('reads all that is durable and tells how far it is', async (t) => {
    const { log, folder, expected, writer, host } = await sample(t)
    const seen: number[] = []
    const result = await log.verify((progress) => seen.push(progress.records))
    const bytes = (await readAll(log)).reduce((sum, record) => sum + record.bytes, 0)
    assert.deepEqual(result, { records: expected.length, bytes, segments: segmentFiles(folder).length })
    assert.equal(seen.length, result.segments)
    assert.deepEqual(
      seen,
      [...seen].sort((a, b) => a - b),
    )
    host.files.holdSyncs = true
    log.append(writer.commits(3))
    assert.equal((await log.verify()).records, expected.length)
  })

  it('checks the headers of segments, too', async (t) => {
    const { log, folder } = await sample(t)
    const file = segmentFiles(folder)[1] as string
    changeFile(file, (bytes) => {
      bytes[40] = (bytes[40] as number) ^ 1
    })
    await assert.rejects(log.verify(), (error) => {
      assert.ok(isCoterieError(error, 'LOG_DAMAGED'))
      assert.equal(error.details.offset, 0)
      assert.equal(error.details.lsn, Number(basename(file, '.seg')))
      return true
    })
  })
})
