// Taking records out at either end: rewinds and trims, with a crash at every step of them, and the history.

import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { AssertionFailure } from '../../src/base/assert.ts'
import type { RecordBatch } from '../../src/base/batch.ts'
import { isCoterieError } from '../../src/base/errors.ts'
import { limits } from '../../src/base/limits.ts'
import { Log } from '../../src/log/log.ts'
import {
  brief,
  changeFile,
  copyFolder,
  databaseId,
  lsn,
  openLog,
  readAll,
  recordsOf,
  segmentFiles,
  store,
  systemError,
  type TestHost,
  testHost,
  Writer,
} from '../support/log-fixture.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

const segmentBytes = 16_384

interface Sample {
  readonly base: string
  readonly folder: string
  readonly expected: readonly string[]
}

/** A closed log of 82 records and two reigns in several segments. */
async function sample(t: TestContext): Promise<Sample> {
  const base = withTempFolder(t)
  const folder = join(base, 'log')
  const { log } = await openLog(t, { folder })
  const writer = new Writer()
  const batches: RecordBatch[] = [writer.reign('a')]
  for (let i = 0; i < 10; i++) batches.push(writer.commits(4, 500))
  batches.push(writer.reign('b'))
  for (let i = 0; i < 10; i++) batches.push(writer.commits(4, 500))
  for (const batch of batches) await store(log, batch)
  await log.close()
  assert.ok(segmentFiles(folder).length >= 4)
  return { base, folder, expected: batches.flatMap(recordsOf).map(brief) }
}

async function found(folder: string): Promise<{ records: string[]; log: Log; cut: unknown }> {
  const host = testHost()
  host.files.skipSyncs = true
  const { log, recovery } = await Log.open({ host, folder, databaseId, segmentBytes, tailBytes: 0 })
  const records = (await readAll(log)).map(brief)
  await log.close()
  return { records, log, cut: recovery.cut }
}

/** Every change fails from the one with this number on, as when the process dies there. */
function dieAt(host: TestHost, step: number): void {
  let calls = 0
  host.files.fault = (call) => {
    if (call.name === 'close') return undefined
    calls++
    return calls > step ? { error: new Error('the process has died') } : undefined
  }
}

describe('truncateAfter', () => {
  it('takes out everything behind any record, and the log goes on from there', async (t) => {
    const { base, folder, expected } = await sample(t)
    for (const last of [0, 1, 2, 21, 22, 23, 24, 41, 42, 43, 81, 82]) {
      const copy = copyFolder(folder, join(base, `after-${last}`))
      const { log } = await openLog(t, { folder: copy })
      const place = await log.placeOf(lsn(last))
      await log.truncateAfter(lsn(last))
      assert.deepEqual([log.lastLsn, log.durableLsn, log.last], [last, last, place])
      assert.deepEqual(
        log.history.map((entry) => entry.site),
        ['a', 'b'].slice(0, last < 1 ? 0 : last < 42 ? 1 : 2),
      )
      assert.deepEqual((await readAll(log)).map(brief), expected.slice(0, last))
      const killed = copyFolder(copy, join(base, `killed-${last}`))
      const restarted = await found(killed)
      assert.deepEqual(restarted.records, expected.slice(0, last))
      assert.equal(restarted.cut, undefined)
      const writer = new Writer(place)
      const reign = writer.reign('c', 9)
      await store(log, reign)
      const more = writer.commits(30, 700)
      await store(log, more)
      await log.close()
      const again = await found(copy)
      assert.deepEqual(again.records, [
        ...expected.slice(0, last),
        ...recordsOf(reign).map(brief),
        ...recordsOf(more).map(brief),
      ])
      assert.deepEqual(again.log.history.at(-1), { term: 9, firstLsn: last + 1, site: 'c' })
    }
  })

  it('leaves a log that opens, and nothing but a beginning of it, wherever the process dies', async (t) => {
    const { base, folder, expected } = await sample(t)
    let step = 0
    for (let isDone = false; !isDone; step++) {
      const copy = copyFolder(folder, join(base, `step-${step}`))
      const { log, host } = await openLog(t, { folder: copy })
      dieAt(host, step)
      try {
        await log.truncateAfter(lsn(30))
        isDone = true
      } catch (error) {
        assert.ok(isCoterieError(error), String(error))
        if (log.poisoned === undefined) {
          assert.deepEqual((await readAll(log)).map(brief), expected, 'nothing was changed')
        } else {
          const codes = ['LOG_POISONED', 'IO_ERROR'] as const
          const reading = log.read({ from: lsn(82), bytesMax: 0 })
          await reading.catch((failure) => assert.ok(codes.some((code) => isCoterieError(failure, code))))
        }
      }
      const { records } = await found(copyFolder(copy, join(base, `killed-${step}`)))
      assert.deepEqual(records, expected.slice(0, records.length), `step ${step}`)
      assert.ok(records.length >= 30)
      if (isDone) assert.equal(records.length, 30)
    }
    assert.ok(step > 8, 'the process died at every step')
  })

  it('changes nothing on a full disk, and can be tried again', async (t) => {
    const { folder, expected } = await sample(t)
    const { log, host } = await openLog(t, { folder })
    host.files.fault = (call) => (call.name === 'write' ? { error: systemError('ENOSPC') } : undefined)
    await assert.rejects(log.truncateAfter(lsn(30)), (error) => isCoterieError(error, 'DISK_FULL'))
    host.files.fault = () => undefined
    assert.equal(log.poisoned, undefined)
    assert.deepEqual((await readAll(log)).map(brief), expected)
    await log.truncateAfter(lsn(30))
    assert.deepEqual((await readAll(log)).map(brief), expected.slice(0, 30))
  })

  it('asserts that nothing is pending and that the record is there', async (t) => {
    const { folder } = await sample(t)
    const { log, host } = await openLog(t, { folder })
    await assert.rejects(log.truncateAfter(lsn(83)), AssertionFailure)
    await log.trimBefore(lsn(60))
    await assert.rejects(log.truncateAfter(lsn(log.firstLsn - 2)), AssertionFailure)
    host.files.holdSyncs = true
    log.append(new Writer(log.last).commits(1))
    await assert.rejects(log.truncateAfter(lsn(70)), AssertionFailure)
    assert.equal(log.lastLsn, 83)
  })

  it('waits for reads under way, and reads wait for it', async (t) => {
    const { folder, expected } = await sample(t)
    const { log } = await openLog(t, { folder, tailBytes: 0 })
    const before = log.read({ from: lsn(70), bytesMax: 0 })
    const truncation = log.truncateAfter(lsn(40))
    await new Promise((resolve) => setImmediate(resolve))
    const after = log.read({ from: lsn(40), bytesMax: 10_000 })
    assert.deepEqual(recordsOf(await before).map(brief), [expected[69]])
    await truncation
    assert.deepEqual(recordsOf(await after).map(brief), [expected[39]])
  })

  it('of records that were only ever in memory and of marks leaves no evidence behind', async (t) => {
    const base = withTempFolder(t)
    const folder = join(base, 'log')
    const { log, host } = await openLog(t, { folder })
    const writer = new Writer()
    await store(log, writer.reign('a'))
    for (let i = 0; i < 5; i++) {
      await store(log, writer.commits(3))
      host.timers.fire(50)
    }
    await log.truncateAfter(lsn(4))
    assert.equal((await found(copyFolder(folder, join(base, 'killed')))).records.length, 4)
    const { file, offset } = await log.locationOf(lsn(4))
    await log.close()
    assert.equal((await found(copyFolder(folder, join(base, 'closed')))).records.length, 4)
    changeFile(file, (bytes) => {
      bytes[offset + 40] = (bytes[offset + 40] as number) ^ 1
    })
    await assert.rejects(
      found(folder),
      (error) => isCoterieError(error, 'LOG_DAMAGED'),
      'marks are written anew',
    )
  })
})

describe('trimBefore', () => {
  it('lets only whole segments go, keeps two of them as spares, and uses those again', async (t) => {
    const { folder, expected } = await sample(t)
    const { log } = await openLog(t, { folder, tailBytes: 0 })
    const firstLsns = segmentFiles(folder).map((file) => Number(file.slice(-20, -4)))
    assert.deepEqual(await log.trimBefore(lsn((firstLsns[1] as number) - 1)), { removedSegments: 0 })
    assert.equal(log.firstLsn, 1)
    assert.deepEqual(await log.trimBefore(lsn(firstLsns[1] as number)), { removedSegments: 1 })
    assert.equal(log.firstLsn, firstLsns[1])
    assert.deepEqual(await log.trimBefore(lsn(1_000_000)), { removedSegments: firstLsns.length - 2 })
    assert.equal(log.firstLsn, firstLsns.at(-1))
    const spares = (): string[] => readdirSync(folder).filter((name) => name.startsWith('spare-'))
    assert.equal(spares().length, 2)
    assert.deepEqual((await readAll(log)).map(brief), expected.slice(log.firstLsn - 1))
    const writer = new Writer(log.last)
    await store(log, writer.commits(60, 500))
    assert.equal(spares().length, 0)
    await log.close()
    const again = await found(folder)
    assert.equal(again.records.length, 82 + 60 - (firstLsns.at(-1) as number) + 1)
    assert.deepEqual(
      again.log.history.map((entry) => entry.site),
      ['a', 'b'],
      'the history outlives the records',
    )
  })

  it('asks for its bound before each segment, and tells first where the log begins', async (t) => {
    const { folder } = await sample(t)
    const { log } = await openLog(t, { folder, tailBytes: 0 })
    const firstLsns = segmentFiles(folder).map((file) => Number(file.slice(-20, -4)))
    const told: number[] = []
    let bound = log.lastLsn
    const { removedSegments } = await log.trimBefore(
      () => bound,
      (firstLsn) => {
        assert.equal(segmentFiles(folder).length, firstLsns.length, 'the file is there still')
        told.push(firstLsn)
        // Somebody comes meanwhile, and needs all that there is.
        bound = firstLsn
      },
    )
    assert.equal(removedSegments, 1)
    assert.deepEqual(told, [firstLsns[1]])
    assert.equal(log.firstLsn, firstLsns[1])
  })

  it('waits for the reads in a segment before its file may be used again', async (t) => {
    const { folder, expected } = await sample(t)
    const { log, host } = await openLog(t, { folder, tailBytes: 0 })
    host.files.holdReads = true
    const reading = log.read({ from: lsn(1), bytesMax: 5000 })
    await waitUntil(() => host.files.heldReads.length === 1, { what: 'the read is under way' })
    host.files.calls.length = 0
    const trimming = log.trimBefore(lsn(82))
    await assert.rejects(log.read({ from: lsn(1), bytesMax: 1 }), (error) =>
      isCoterieError(error, 'LOG_TRIMMED'),
    )
    // More calls to the file system than the trim needs to get as far as its rename.
    for (let i = 0; i < 20; i++) await host.files.size(folder)
    assert.deepEqual(host.files.calls, [], 'nothing is renamed yet')
    host.files.holdReads = false
    host.files.heldReads.shift()?.()
    const batch = await reading
    assert.deepEqual(recordsOf(batch).map(brief), expected.slice(0, batch.lastLsn))
    assert.ok((await trimming).removedSegments > 2)
  })

  it('leaves a log without a gap wherever the process dies', async (t) => {
    const { base, folder, expected } = await sample(t)
    let step = 0
    for (let isDone = false; !isDone; step++) {
      const copy = copyFolder(folder, join(base, `step-${step}`))
      const { log, host } = await openLog(t, { folder: copy })
      dieAt(host, step)
      try {
        await log.trimBefore(lsn(82))
        isDone = true
      } catch (error) {
        assert.ok(isCoterieError(error, 'IO_ERROR'), String(error))
      }
      const { records } = await found(copyFolder(copy, join(base, `killed-${step}`)))
      assert.deepEqual(records, expected.slice(-records.length), `step ${step}`)
    }
    assert.ok(step > 4)
  })

  it('that cannot rename keeps the segment in the log', async (t) => {
    const { folder, expected } = await sample(t)
    const { log, host } = await openLog(t, { folder, tailBytes: 0 })
    host.files.fault = (call) => (call.name === 'rename' ? { error: systemError('EACCES') } : undefined)
    await assert.rejects(log.trimBefore(lsn(82)), (error) => isCoterieError(error, 'IO_ERROR'))
    host.files.fault = () => undefined
    assert.equal(log.poisoned, undefined)
    assert.deepEqual((await readAll(log)).map(brief), expected)
  })

  it('leaves spares of another segment size alone until they are replaced', async (t) => {
    const { folder } = await sample(t)
    const { log } = await openLog(t, { folder })
    await log.trimBefore(lsn(82))
    await log.close()
    const { log: smaller } = await openLog(t, { folder, segmentBytes: 8192 })
    await store(smaller, new Writer(smaller.last).commits(60, 500))
    assert.ok(!readdirSync(folder).some((name) => name.startsWith('spare-')))
    await smaller.close()
    const { log: again } = await openLog(t, { folder })
    assert.equal(again.lastLsn, 142)
  })
})

describe('the history', () => {
  it('holds each reign, through segments, restarts and cuts', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const { log } = await openLog(t, { folder })
    const writer = new Writer()
    // Without waits: when a segment begins, later reigns are in the log already, but not in its header.
    for (let term = 1; term <= 30; term++) {
      log.append(writer.reign(`site-${term}`, term * 2))
      log.append(writer.commits(4, 300))
    }
    await log.whenDurable(log.lastLsn)
    const all = log.history
    assert.equal(all.length, 30)
    assert.deepEqual(all[2], { term: 6, firstLsn: 11, site: 'site-3' })
    await log.trimBefore(lsn(100))
    assert.deepEqual(log.history, all)
    await log.close()
    const { log: again } = await openLog(t, { folder })
    assert.deepEqual(again.history, all)
    await again.truncateAfter(lsn(120))
    assert.deepEqual(again.history, all.slice(0, 24))
    await again.close()
    assert.deepEqual((await found(folder)).log.history, all.slice(0, 24))
  })

  it('forgets the oldest reigns beyond its bound', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const { log } = await openLog(t, { folder, segmentBytes: 1 << 20 })
    const writer = new Writer()
    const count = limits.historyEntriesMax + 5
    for (let term = 1; term <= count; term++)
      log.append(writer.reign('a-site-with-a-name-of-some-length', term))
    await log.whenDurable(log.lastLsn)
    assert.equal(log.history.length, limits.historyEntriesMax)
    assert.equal(log.history[0]?.term, 6)
    // A segment with the longest header there can be.
    await store(log, writer.commits(3, 400_000))
    await log.close()
    assert.ok(segmentFiles(folder).length >= 2)
    const { log: again } = await openLog(t, { folder, segmentBytes: 1 << 20 })
    assert.deepEqual(again.history, log.history)
    await again.trimBefore(again.lastLsn)
    await again.close()
    assert.deepEqual((await openLog(t, { folder, segmentBytes: 1 << 20 })).log.history, log.history)
  })
})
