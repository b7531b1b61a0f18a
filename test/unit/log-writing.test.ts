// Appending: group commit, what becomes durable when, and what happens when the disk does not do what it should.

import assert from 'node:assert/strict'
import { copyFileSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { AssertionFailure } from '../../src/base/assert.ts'
import type { RecordBatch } from '../../src/base/batch.ts'
import { type CoterieError, isCoterieError } from '../../src/base/errors.ts'
import { Log } from '../../src/log/log.ts'
import {
  brief,
  copyFolder,
  databaseId,
  type FileCall,
  lsn,
  openLog,
  readAll,
  segmentFile,
  segmentFiles,
  store,
  systemError,
  testHost,
  Writer,
} from '../support/log-fixture.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

const segmentBytes = 16_384

/** What a restart finds in a copy of the folder as it is now. */
async function recordsAfterKill(folder: string, copy: string): Promise<string[]> {
  copyFolder(folder, copy)
  const host = testHost()
  host.files.skipSyncs = true
  const { log } = await Log.open({ host, folder: copy, databaseId, segmentBytes })
  const records = (await readAll(log)).map(brief)
  await log.close()
  return records
}

function writesOf(calls: readonly FileCall[]): FileCall[] {
  return calls.filter((call) => call.name === 'write' && call.path.endsWith('.seg'))
}

describe('group commit', () => {
  it('has one write and one sync under way, and takes what gathers meanwhile in one go', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const { log, host } = await openLog(t, { folder })
    const durable: number[] = []
    log.onDurable = (durableLsn) => durable.push(durableLsn)
    const writer = new Writer()
    host.files.calls.length = 0
    host.files.holdSyncs = true
    log.append(writer.reign('a'))
    for (let i = 0; i < 50; i++) log.append(writer.commits(2))
    await waitUntil(() => host.files.heldSyncs.length === 1, { what: 'the first sync is under way' })
    assert.equal(writesOf(host.files.calls).length, 1)
    assert.deepEqual([log.durableLsn, log.lastLsn, durable.length], [0, 101, 0])
    const all = log.pendingBytes
    host.files.heldSyncs.shift()?.()
    await waitUntil(() => host.files.heldSyncs.length === 1, { what: 'the second sync is under way' })
    assert.equal(log.durableLsn, 1)
    assert.equal(log.pendingBytes, all - 33)
    host.files.heldSyncs.shift()?.()
    await log.whenDurable(lsn(101))
    assert.deepEqual(durable, [1, 101])
    assert.equal(log.pendingBytes, 0)
    assert.equal(writesOf(host.files.calls).length, 2)
    assert.equal(host.files.calls.filter((call) => call.name === 'sync').length, 2)
  })

  it('tells of durable LSNs in order, to the owner first', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const { log } = await openLog(t, { folder })
    const told: string[] = []
    log.onDurable = (durableLsn) => told.push(`owner ${durableLsn}`)
    const writer = new Writer()
    log.append(writer.reign('a'))
    const waits = [3, 1, 2].map((n) => log.whenDurable(lsn(n)).then(() => told.push(`waiter ${n}`)))
    log.append(writer.commits(2))
    await Promise.all(waits)
    assert.deepEqual(told, ['owner 1', 'waiter 1', 'owner 3', 'waiter 3', 'waiter 2'])
    await log.whenDurable(lsn(2))
  })

  it('refuses a batch that does not follow', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const { log } = await openLog(t, { folder })
    const writer = new Writer()
    const first = writer.reign('a')
    const second = writer.commits(1)
    assert.throws(() => log.append(second), AssertionFailure)
    log.append(first)
    assert.throws(() => log.append(first), AssertionFailure)
    assert.throws(() => log.append({ ...second, previous: { ...second.previous, crc: 1 } }), AssertionFailure)
    await store(log, second)
    assert.deepEqual((await readAll(log)).map(brief), ['1 term 1 a', '2 k1=20'])
  })

  it('writes a mark in front of a flush if more has become durable, and only then', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const { log, host } = await openLog(t, { folder })
    const writer = new Writer()
    const sizes = async (batch: RecordBatch): Promise<number> => {
      host.files.calls.length = 0
      await store(log, batch)
      return (writesOf(host.files.calls)[0] as FileCall).bytes - batch.bytes.length
    }
    assert.equal(await sizes(writer.reign('a')), 0)
    assert.equal(await sizes(writer.commits(1)), 32)
    assert.equal(await sizes(writer.commits(1)), 32)
    assert.equal(host.timers.fire(50), 1)
    await waitUntil(() => host.files.calls.length === 3, { what: 'the idle mark is written' })
    assert.equal(await sizes(writer.commits(1)), 0)
    assert.equal(host.timers.fire(50), 1)
    assert.equal(host.timers.fire(50), 0, 'nothing more to mark')
    await log.close()
    assert.equal((await openLog(t, { folder })).recovery.records, 4)
  })
})

describe('segments', () => {
  it('roll over when they are full, in whole records, whatever the sizes', async (t) => {
    const base = withTempFolder(t)
    const folder = join(base, 'log')
    const { log } = await openLog(t, { folder, tailBytes: 0 })
    const writer = new Writer()
    await store(log, writer.reign('a'))
    const sizes = [1, 5000, 12_000, 12_100, 12_150, 12_170, 1, 700, 40, 3000, 9000, 9000]
    for (const size of sizes) await store(log, writer.commits(2, size))
    const expected = [
      '1 term 1 a',
      ...sizes.flatMap((size) => [size, size]).map((size, i) => `${i + 2} k${i + 1}=${size}`),
    ]
    assert.deepEqual((await readAll(log)).map(brief), expected)
    assert.deepEqual(await recordsAfterKill(folder, join(base, 'killed')), expected)
    assert.ok(segmentFiles(folder).length > 8)
    for (const file of segmentFiles(folder)) assert.ok(statSync(file).size <= segmentBytes)
  })

  it('are one record large if the record is larger than a segment, also the very first', async (t) => {
    const base = withTempFolder(t)
    const folder = join(base, 'log')
    const { log } = await openLog(t, { folder, tailBytes: 0 })
    const writer = new Writer()
    log.append(writer.commits(1, 50_000))
    log.append(writer.reign('a'))
    log.append(writer.commits(1, 1_500_000))
    log.append(writer.commits(1, 10))
    await log.whenDurable(lsn(4))
    const expected = ['1 k1=50000', '2 term 1 a', '3 k2=1500000', '4 k3=10']
    assert.deepEqual((await readAll(log)).map(brief), expected)
    assert.deepEqual(await recordsAfterKill(folder, join(base, 'killed')), expected)
    assert.equal(segmentFiles(folder).length, 4)
    assert.deepEqual((await log.verify()).segments, 4)
    await log.close()
    const sizes = segmentFiles(folder).map((file) => statSync(file).size)
    assert.ok((sizes[0] as number) < 60_000 && (sizes[2] as number) < 1_600_000)
  })

  it('take one append of many segments apart, and each is synced before the next is begun', async (t) => {
    const base = withTempFolder(t)
    const folder = join(base, 'log')
    const { log, host } = await openLog(t, { folder, tailBytes: 0 })
    const durable: number[] = []
    log.onDurable = (durableLsn) => durable.push(durableLsn)
    const writer = new Writer()
    log.append(writer.reign('a'))
    await store(log, writer.commits(600, 100))
    const files = segmentFiles(folder)
    assert.ok(files.length > 5)
    assert.equal(durable.length, files.length + 1)
    for (const file of files.slice(0, -1)) {
      const calls = host.files.calls.filter((call) => call.path === file && call.name !== 'close')
      assert.equal(calls.at(-1)?.name, 'sync')
    }
    assert.equal((await readAll(log)).length, 601)
    assert.equal((await recordsAfterKill(folder, join(base, 'killed'))).length, 601)
  })

  it('are filled with zeros ahead of the data, in growing steps', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const { log, host } = await openLog(t, { folder, segmentBytes: 4 << 20 })
    const writer = new Writer()
    await store(log, writer.reign('a'))
    assert.equal(statSync(segmentFile(folder)).size, 256 << 10)
    const sizes = new Set<number>()
    for (let i = 0; i < 40; i++) {
      await store(log, writer.commits(10, 10_000))
      sizes.add(statSync(segmentFile(folder)).size)
    }
    assert.deepEqual(
      [...sizes],
      [256, 512, 1024, 2048, 4096].map((kib) => kib << 10),
    )
    assert.equal(log.bytes, 4 << 20)
    const rest = readFileSync(segmentFile(folder)).subarray((await log.locationOf(log.lastLsn)).end)
    assert.ok(rest.every((byte) => byte === 0))
    assert.ok(host.files.calls.length > 0)
  })
})

describe('a failed sync', () => {
  it('poisons the log for good', async (t) => {
    const base = withTempFolder(t)
    const folder = join(base, 'log')
    const { log, host } = await openLog(t, { folder })
    const poisons: CoterieError[] = []
    const durable: number[] = []
    log.onPoisoned = (error) => poisons.push(error)
    log.onDurable = (durableLsn) => durable.push(durableLsn)
    const writer = new Writer()
    await store(log, writer.reign('a'))
    const cause = systemError('EIO')
    let failures = 0
    host.files.fault = (call) => {
      if (call.name !== 'sync' || failures > 0) return undefined
      failures++
      return { error: cause }
    }
    log.append(writer.commits(1))
    const wait = log.whenDurable(lsn(3))
    log.append(writer.commits(1))
    await assert.rejects(wait, (error) => isCoterieError(error, 'LOG_POISONED') && error.cause === cause)
    assert.equal(poisons.length, 1)
    assert.equal(log.poisoned, poisons[0])
    assert.throws(
      () => log.append(writer.commits(1)),
      (error) => error === poisons[0],
    )
    await assert.rejects(log.whenDurable(lsn(2)), (error) => error === poisons[0])
    await log.whenDurable(lsn(1))
    await log.close()
    assert.deepEqual(durable, [1])
    assert.equal(log.durableLsn, 1)
    const found = await recordsAfterKill(folder, join(base, 'killed'))
    assert.deepEqual(found, ['1 term 1 a', '2 k1=20'].slice(0, found.length))
  })

  it('with ENOSPC poisons all the same: what reached the disk is unknown', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const { log, host } = await openLog(t, { folder })
    const writer = new Writer()
    host.files.fault = (call) => (call.name === 'sync' ? { error: systemError('ENOSPC') } : undefined)
    log.append(writer.reign('a'))
    await assert.rejects(log.whenDurable(lsn(1)), (error) => isCoterieError(error, 'LOG_POISONED'))
    assert.equal(log.isStalled, false)
  })

  it('of a new segment or its folder poisons before a record goes into it', async (t) => {
    for (const failing of ['sync', 'syncFolder'] as const) {
      const base = withTempFolder(t)
      const folder = join(base, 'log')
      const { log, host } = await openLog(t, { folder })
      const writer = new Writer()
      await store(log, writer.reign('a'))
      await store(log, writer.commits(1, 11_000))
      host.files.fault = (call) =>
        call.name === failing && !call.path.endsWith('.seg') ? { error: systemError('EIO') } : undefined
      log.append(writer.commits(1, 11_000))
      await assert.rejects(log.whenDurable(lsn(3)), (error) => isCoterieError(error, 'LOG_POISONED'))
      host.files.fault = () => undefined
      assert.equal((await recordsAfterKill(folder, join(base, 'killed'))).length, 2)
    }
  })
})

describe('a failed close of a full segment', () => {
  it('poisons, and the sync that is under way then makes nothing durable', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const { log, host } = await openLog(t, { folder, tailBytes: 0 })
    const { files } = host
    const writer = new Writer()
    await store(log, writer.reign('a'))
    await store(log, writer.commits(1, 11_000))
    files.holdReads = true
    const reading = log.read({ from: lsn(1), bytesMax: 0 })
    await waitUntil(() => files.heldReads.length === 1, { what: 'a read keeps the old segment open' })
    const old = segmentFile(folder)
    files.fault = (call) =>
      call.name === 'close' && call.path === old ? { error: systemError('EIO') } : undefined
    files.holdSyncs = true
    log.append(writer.commits(1, 11_000))
    await waitUntil(() => files.heldSyncs.length === 1, { what: 'the new segment is prepared' })
    files.heldSyncs.shift()?.()
    await waitUntil(() => files.heldSyncs.length === 1, { what: 'the record is on its way' })
    files.heldReads.shift()?.()
    await reading
    await waitUntil(() => log.poisoned !== undefined, { what: 'the log is poisoned' })
    const wait = log.whenDurable(lsn(3))
    await assert.rejects(wait, (error) => error === log.poisoned)
    files.heldSyncs.shift()?.()
    await log.close()
    assert.equal(log.durableLsn, 2)
  })
})

describe('a failed write', () => {
  it('other than for want of space poisons, and what it wrote in part is cut', async (t) => {
    const base = withTempFolder(t)
    const folder = join(base, 'log')
    const { log, host } = await openLog(t, { folder })
    const writer = new Writer()
    await store(log, writer.reign('a'))
    host.files.fault = (call) =>
      call.name === 'write' ? { error: systemError('EIO'), partialBytes: 50 } : undefined
    log.append(writer.commits(1))
    await assert.rejects(log.whenDurable(lsn(2)), (error) => isCoterieError(error, 'LOG_POISONED'))
    assert.deepEqual(await recordsAfterKill(folder, join(base, 'killed')), ['1 term 1 a'])
  })

  it('of an idle mark poisons, unless it only lacks space', async (t) => {
    for (const code of ['EIO', 'ENOSPC']) {
      const folder = join(withTempFolder(t), 'log')
      const { log, host } = await openLog(t, { folder })
      let isPoisoned = false
      log.onPoisoned = () => {
        isPoisoned = true
      }
      const writer = new Writer()
      await store(log, writer.reign('a'))
      host.files.fault = () => ({ error: systemError(code), partialBytes: 9 })
      host.files.calls.length = 0
      host.timers.fire(50)
      await waitUntil(() => host.files.calls.length === 1, { what: 'the mark is written' })
      host.files.fault = () => undefined
      if (code === 'EIO') {
        await waitUntil(() => isPoisoned, { what: 'the log is poisoned' })
      } else {
        await store(log, writer.commits(1))
        assert.equal(isPoisoned, false)
      }
    }
  })
})

describe('a full disk', () => {
  for (const where of ['zeros', 'records', 'segment'] as const) {
    it(`at ${where} stalls the log, loses nothing, and passes`, async (t) => {
      const base = withTempFolder(t)
      const folder = join(base, 'log')
      const bytes = where === 'segment' ? segmentBytes : 1 << 20
      const { log, host } = await openLog(t, { folder, segmentBytes: bytes })
      const events: string[] = []
      log.onStalled = (error) => events.push(`stalled ${error.code}`)
      log.onResumed = () => events.push('resumed')
      log.onPoisoned = () => events.push('poisoned')
      log.onDurable = (durableLsn) => events.push(`durable ${durableLsn}`)
      const writer = new Writer()
      await store(log, writer.reign('a'))
      const isFull = (call: FileCall): boolean => {
        if (call.name !== 'write') return false
        if (where === 'segment') return call.path.endsWith('prepared')
        return (where === 'zeros') === call.at >= 256 << 10
      }
      host.files.fault = (call) =>
        isFull(call) ? { error: systemError('ENOSPC'), partialBytes: 777 } : undefined
      const sizes = where === 'records' ? [100] : [10_000, 250_000]
      for (const size of sizes) log.append(writer.commits(1, size))
      await waitUntil(() => log.isStalled, { what: 'the log has stalled' })
      log.append(writer.commits(1, 10))
      assert.equal(host.timers.fire(500), 1)
      await waitUntil(() => host.timers.fire(500) === 1, { what: 'it has tried again in vain' })
      const { durableLsn } = log
      assert.ok(durableLsn < log.lastLsn)
      const killed = await recordsAfterKill(folder, join(base, 'killed'))
      assert.ok(killed.length >= durableLsn)
      assert.ok((await readAll(log)).length === log.lastLsn, 'reads go on')
      host.files.fault = () => undefined
      await waitUntil(
        () => {
          host.timers.fire(500)
          return log.durableLsn === log.lastLsn
        },
        { what: 'all is durable' },
      )
      assert.deepEqual(
        events.filter((event) => !event.startsWith('durable')),
        ['stalled DISK_FULL', 'resumed'],
      )
      assert.equal(log.isStalled, false)
      await store(log, writer.commits(1, 10))
      const expected = (await readAll(log)).map(brief)
      assert.deepEqual(await recordsAfterKill(folder, join(base, 'after')), expected)
    })
  }

  it('gives way to a smaller step of zeros before the log stalls', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const { log, host } = await openLog(t, { folder, segmentBytes: 4 << 20 })
    const writer = new Writer()
    await store(log, writer.reign('a'))
    host.files.fault = (call) =>
      call.name === 'write' && call.bytes >= 256 << 10 ? { error: systemError('EDQUOT') } : undefined
    await store(log, writer.commits(1, 200_000))
    await store(log, writer.commits(1, 200_000))
    assert.equal(log.isStalled, false)
    assert.ok(statSync(segmentFile(folder)).size < 450_000)
  })

  it('ends a close with an error if it does not pass', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const { log, host } = await openLog(t, { folder })
    const writer = new Writer()
    await store(log, writer.reign('a'))
    host.files.fault = (call) => (call.name === 'write' ? { error: systemError('ENOSPC') } : undefined)
    log.append(writer.commits(1))
    await waitUntil(() => log.isStalled, { what: 'the log has stalled' })
    const wait = assert.rejects(log.whenDurable(lsn(2)), (error) => isCoterieError(error, 'CLOSED'))
    await assert.rejects(log.close(), (error) => isCoterieError(error, 'DISK_FULL'))
    await wait
  })

  it('lets a close finish if it passes just then', async (t) => {
    const base = withTempFolder(t)
    const folder = join(base, 'log')
    const { log, host } = await openLog(t, { folder })
    const writer = new Writer()
    host.files.fault = (call) => (call.name === 'write' ? { error: systemError('ENOSPC') } : undefined)
    log.append(writer.reign('a'))
    await waitUntil(() => log.isStalled, { what: 'the log has stalled' })
    host.files.fault = () => undefined
    await log.close()
    assert.deepEqual(await recordsAfterKill(folder, join(base, 'killed')), ['1 term 1 a'])
  })
})

describe('close', () => {
  it('makes durable what is pending, and then refuses everything', async (t) => {
    const base = withTempFolder(t)
    const folder = join(base, 'log')
    const { log } = await openLog(t, { folder })
    const writer = new Writer()
    log.append(writer.reign('a'))
    for (let i = 0; i < 100; i++) log.append(writer.commits(3, 300))
    const closing = log.close()
    const closed = (error: unknown): boolean => isCoterieError(error, 'CLOSED')
    assert.throws(() => log.append(writer.commits(1)), closed)
    await closing
    await log.close()
    assert.equal(log.durableLsn, 301)
    await assert.rejects(log.read({ from: lsn(1), bytesMax: 1 }), closed)
    await assert.rejects(log.truncateAfter(lsn(1)), closed)
    assert.equal((await recordsAfterKill(folder, join(base, 'killed'))).length, 301)
  })

  it('rejects if its own sync fails', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const { log, host } = await openLog(t, { folder })
    const writer = new Writer()
    await store(log, writer.reign('a'))
    host.files.fault = (call) => (call.name === 'sync' ? { error: systemError('EIO') } : undefined)
    await assert.rejects(log.close(), (error) => isCoterieError(error, 'LOG_POISONED'))
  })
})

describe('a recycled segment', () => {
  it('never gives back a record of its former use, wherever the new ones end', async (t) => {
    const base = withTempFolder(t)
    const folder = join(base, 'log')
    const { log, host } = await openLog(t, { folder, tailBytes: 0 })
    const writer = new Writer()
    await store(log, writer.reign('a'))
    // Equal sizes: new records end exactly where old ones begin, which is when they could be taken for the next.
    for (let i = 0; i < 30; i++) await store(log, writer.commits(5, 200))
    const before = segmentFiles(folder).length
    assert.ok((await log.trimBefore(log.lastLsn)).removedSegments >= 2)
    const spare = join(folder, 'spare-2')
    const stale = join(base, 'stale')
    copyFileSync(spare, stale)
    host.files.calls.length = 0
    const from = log.lastLsn
    while (!host.files.calls.some((call) => call.name === 'rename')) await store(log, writer.commits(1, 200))
    const staleBytes = readFileSync(stale)
    for (let i = 0; i < 40; i++) {
      await store(log, writer.commits(1, 200))
      const now = readFileSync(segmentFile(folder, -1))
      if (i < 30) assert.ok(now.subarray(-3000).equals(staleBytes.subarray(-3000)), 'the end is stale')
      const found = await recordsAfterKill(folder, join(base, `killed-${i}`))
      assert.deepEqual(found, (await readAll(log)).map(brief))
      const { recovery } = await openLog(t, { folder: copyFolder(folder, join(base, `again-${i}`)) })
      assert.equal(recovery.cut, undefined, 'stale bytes behind the end are no torn tail')
    }
    assert.ok(log.lastLsn > from && before > 3)
  })

  it('is cut like any other if its tail is torn', async (t) => {
    const base = withTempFolder(t)
    const folder = join(base, 'log')
    const { log, host } = await openLog(t, { folder, tailBytes: 0 })
    const writer = new Writer()
    await store(log, writer.reign('a'))
    for (let i = 0; i < 30; i++) await store(log, writer.commits(5, 200))
    await log.trimBefore(log.lastLsn)
    host.files.calls.length = 0
    while (!host.files.calls.some((call) => call.name === 'rename')) await store(log, writer.commits(1, 200))
    await store(log, writer.commits(3, 100))
    const records = (await readAll(log)).map(brief)
    const place = await log.locationOf(log.lastLsn)
    const stale = readFileSync(place.file)
    for (let at = place.offset; at < place.end; at += 5) {
      const copy = copyFolder(folder, join(base, `torn-${at}`))
      const torn = Buffer.from(stale)
      // What was not written is what the file held before: anything.
      for (let i = at; i < place.end + 32; i++) torn[i] = (i * 31) & 0xff
      writeFileSync(segmentFile(copy, -1), torn)
      const { log: again, recovery } = await openLog(t, { folder: copy })
      assert.deepEqual((await readAll(again)).map(brief), records.slice(0, -1))
      assert.equal(recovery.cut?.offset, place.offset)
      const after = readFileSync(segmentFile(copy, -1)).subarray(place.offset)
      assert.ok(
        after.every((byte) => byte === 0),
        'what is behind the cut is zeroed',
      )
    }
  })
})
