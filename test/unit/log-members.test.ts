// Members records in the log: what it says of the group, after appends, restarts, torn writes, cuts at either end.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { AssertionFailure } from '../../src/base/assert.ts'
import type { RecordBatch } from '../../src/base/batch.ts'
import { utf8Encode } from '../../src/base/bytes.ts'
import { crc32 } from '../../src/base/checksum.ts'
import { CoterieError } from '../../src/base/errors.ts'
import { toTerm } from '../../src/base/lsn.ts'
import { encodeMembers, type Members } from '../../src/base/membership.ts'
import { joinBatches, takeRecords } from '../../src/log/batch-slice.ts'
import { Log } from '../../src/log/log.ts'
import { membershipsOf, membersKey } from '../../src/log/members-record.ts'
import {
  databaseSeed,
  placeBeforeAll,
  recordField,
  recordHeaderBytes,
  recordKind,
} from '../../src/log/record-format.ts'
import { verifyBatch } from '../../src/log/verify-batch.ts'
import {
  brief,
  changeFile,
  contentOf,
  copyFolder,
  databaseId,
  lsn,
  openLog,
  readAll,
  recordsOf,
  segmentFile,
  segmentFiles,
  store,
  testHost,
  Writer,
} from '../support/log-fixture.ts'
import { withTempFolder } from '../support/temp-folder.ts'

const incarnation = '3f2a9c01b7d4e865'

function membersOf(...sites: string[]): Members {
  return {
    members: sites.map((site) => ({ site, address: `tcp://${site}:1`, incarnation })),
    removed: ['gone'],
  }
}

function sitesOf(log: Pick<Log, 'memberships'>): string[] {
  return log.memberships.map(({ lsn: at, members }) => `${at} ${members.map(({ site }) => site).join(' ')}`)
}

/** LSN 1 a reign, then at each LSN named a members record, commits between and behind them, up to `last`. */
function batchWith(writer: Writer, changes: Record<number, Members>, last: number): RecordBatch[] {
  const batches = [writer.reign('a')]
  for (let next = 2; next <= last; next++) {
    const members = changes[next]
    if (members === undefined) batches.push(writer.commits(1, 500))
    else {
      writer.addMembers(members)
      batches.push(writer.builder.cut() as RecordBatch)
    }
  }
  return batches
}

/** A record in a batch of its own, its checksum made right again after a change. */
function sealed(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  view.setUint32(recordField.length, bytes.length, true)
  view.setUint32(recordField.crc, crc32(bytes.subarray(recordField.length), databaseSeed(databaseId)), true)
  return bytes
}

describe('a batch with members', () => {
  it('says what the last members record in it says, from the builder and after verification', () => {
    const writer = new Writer()
    const plain = writer.reign('a')
    assert.equal('membership' in plain, false)
    writer.addMembers(membersOf('a'))
    writer.addMembers(membersOf('a', 'b'))
    const batch = writer.commits(2)
    assert.deepEqual(batch.membership, { ...membersOf('a', 'b'), lsn: 3 })
    assert.deepEqual(membershipsOf(batch), [
      { ...membersOf('a'), lsn: 2 },
      { ...membersOf('a', 'b'), lsn: 3 },
    ])
    assert.deepEqual(recordsOf(batch).map(brief), ['2 members a', '3 members a b', '4 k1=20', '5 k2=20'])
    const verified = verifyBatch(batch.bytes, { databaseId, previous: plain.last })
    assert.deepEqual(verified, { ok: true, batch })
    assert.equal('membership' in writer.commits(1), false)
  })

  it('keeps it in the parts that have such a record, and in none else', () => {
    const writer = new Writer()
    const reign = writer.reign('a')
    writer.addMembers(membersOf('a'))
    const one = writer.commits(1)
    writer.addMembers(membersOf('a', 'b'))
    const two = writer.commits(2)
    const whole = joinBatches([reign, one, two])
    assert.deepEqual(whole.membership, two.membership)
    const part = (from: number, to: number): number | undefined =>
      takeRecords(whole, { from: lsn(from), to: lsn(to), bytesMax: 10_000 })?.membership?.lsn
    assert.deepEqual(
      [part(1, 6), part(1, 1), part(1, 2), part(1, 3), part(3, 3), part(3, 4), part(4, 6), part(5, 6)],
      [4, undefined, 2, 2, undefined, 4, 4, undefined],
    )
    assert.equal(joinBatches([one, writer.commits(1)]).membership?.lsn, 2)
  })

  it('forgets the members of records that never leave the builder', () => {
    const writer = new Writer()
    const reign = writer.reign('a')
    writer.addMembers(membersOf('a', 'b'))
    writer.builder.reset(reign.last)
    assert.equal('membership' in writer.commits(1), false)
  })

  it('takes one put of readable members, and the builder asserts it', () => {
    const begin = (): Writer => {
      const writer = new Writer()
      writer.reign('a')
      writer.builder.begin({ term: toTerm(1), wallMs: 1, kind: recordKind.members })
      return writer
    }
    const good = encodeMembers(membersOf('a'))
    const attempts: ((writer: Writer) => void)[] = [
      () => {},
      ({ builder }) => builder.put(utf8Encode('members'), good),
      ({ builder }) => builder.put(membersKey, utf8Encode('{}')),
      ({ builder }) => {
        builder.put(membersKey, good)
        builder.put(membersKey, good)
      },
      ({ builder }) => builder.del(membersKey),
      ({ builder }) => builder.payload(good),
    ]
    for (const attempt of attempts) {
      const writer = begin()
      assert.throws(() => {
        attempt(writer)
        writer.builder.end()
      }, AssertionFailure)
    }
    const writer = new Writer()
    writer.reign('a')
    const kind = recordKind.members
    assert.throws(() => writer.builder.begin({ term: toTerm(2), wallMs: 1, kind }), AssertionFailure)
  })

  it('is refused from the network if its members cannot be read, or its term grows', () => {
    const writer = new Writer()
    const { last: previous } = writer.reign('a')
    writer.addMembers(membersOf('a'))
    const { bytes } = writer.builder.cut() as RecordBatch
    const refusal = (changed: Uint8Array): string => {
      const result = verifyBatch(changed, { databaseId, previous })
      assert.ok(!result.ok)
      assert.equal(result.at, 0)
      return result.reason
    }
    const keyAt = recordHeaderBytes + 7
    const changes: ((copy: Uint8Array) => Uint8Array)[] = [
      (copy) => copy.subarray(0, recordHeaderBytes),
      (copy) => copy.subarray(0, recordHeaderBytes + 5),
      (copy) => copy.subarray(0, copy.length - 1),
      (copy) => copy.fill(1, keyAt, keyAt + 1),
      (copy) => copy.fill(0x20, keyAt + membersKey.length),
      (copy) => copy.fill(0xff, keyAt + membersKey.length),
      (copy) => copy.fill(2, recordHeaderBytes, recordHeaderBytes + 1),
      (copy) => copy.fill(9, recordHeaderBytes + 1, recordHeaderBytes + 2),
      (copy) => Uint8Array.of(...copy, ...copy.subarray(recordHeaderBytes)),
    ]
    for (const change of changes) {
      assert.equal(refusal(sealed(change(bytes.slice()).slice())), 'its members cannot be read')
    }
    const raised = bytes.slice()
    raised[recordField.term] = 2
    assert.match(refusal(sealed(raised)), /terms change with term records/)
    assert.ok(verifyBatch(sealed(bytes.slice()), { databaseId, previous }).ok)
  })
})

describe('the members of a log', () => {
  it('hold from the append on, before the sync, and are found again by recovery in all segments', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const { log, host } = await openLog(t, { folder, tailBytes: 0 })
    assert.deepEqual([log.memberships, log.membership], [[], undefined])
    const batches = batchWith(new Writer(), { 5: membersOf('a'), 50: membersOf('a', 'b') }, 80)
    for (const batch of batches.slice(0, -1)) await store(log, batch)
    const [last] = batches.slice(-1) as [RecordBatch]
    assert.deepEqual(sitesOf(log), ['5 a', '50 a b'])
    assert.deepEqual(log.membership, { ...membersOf('a', 'b'), lsn: 50 })
    await store(log, last)
    host.files.holdSyncs = true
    const writer = new Writer(log.last)
    writer.addMembers(membersOf('a', 'b', 'c'))
    log.append(writer.builder.cut() as RecordBatch)
    assert.equal(log.durableLsn, 80)
    assert.deepEqual(sitesOf(log).at(-1), '81 a b c')
    host.files.holdSyncs = false
    for (const release of host.files.heldSyncs) release()
    await log.close()
    assert.ok(segmentFiles(folder).length >= 3)
    const { log: again } = await openLog(t, { folder, tailBytes: 0 })
    assert.deepEqual(sitesOf(again), ['5 a', '50 a b', '81 a b c'])
    assert.deepEqual(again.membership, { ...membersOf('a', 'b', 'c'), lsn: 81 })
    // What is read back says so, too.
    const read: RecordBatch = await again.read({ from: lsn(45), bytesMax: 100_000 })
    assert.ok(read.lastLsn >= 50)
    assert.equal(read.membership?.lsn, 50)
    assert.equal('membership' in (await again.read({ from: lsn(6), to: lsn(8), bytesMax: 5000 })), false)
    assert.equal((await readAll(again)).filter(({ kind }) => kind === 'members').length, 3)
    assert.equal((await again.verify()).records, 81)
  })

  it('are all there when one batch brings several', async (t) => {
    const { log } = await openLog(t, { folder: join(withTempFolder(t), 'log') })
    const writer = new Writer()
    await store(log, writer.reign('a'))
    writer.addMembers(membersOf('a'))
    writer.addMembers(membersOf('a', 'b'))
    await store(log, writer.commits(3))
    assert.deepEqual(sitesOf(log), ['2 a', '3 a b'])
    await log.truncateAfter(lsn(2))
    assert.deepEqual(sitesOf(log), ['2 a'])
  })

  it('are those before a torn members record', async (t) => {
    const base = withTempFolder(t)
    const { log } = await openLog(t, { folder: join(base, 'log') })
    for (const batch of batchWith(new Writer(), { 2: membersOf('a'), 4: membersOf('a', 'b') }, 4)) {
      await store(log, batch)
    }
    const { offset, end } = await log.locationOf(lsn(4))
    for (const at of [offset, offset + recordHeaderBytes + 3, end - 1]) {
      const torn = copyFolder(join(base, 'log'), join(base, `torn-${at}`))
      changeFile(segmentFile(torn), (bytes) => bytes.fill(0, at))
      const { log: again, recovery } = await openLog(t, { folder: torn })
      assert.equal(again.lastLsn, 3)
      assert.equal(recovery.cut === undefined, at === offset)
      assert.deepEqual(sitesOf(again), ['2 a'])
    }
  })

  it('go back with a truncation, to any record before, also after a restart', async (t) => {
    const base = withTempFolder(t)
    const { log } = await openLog(t, { folder: join(base, 'log') })
    const changes = { 3: membersOf('a'), 30: membersOf('a', 'b'), 60: membersOf('b') }
    for (const batch of batchWith(new Writer(), changes, 80)) await store(log, batch)
    await log.close()
    const expected: [number, string[]][] = [
      [80, ['3 a', '30 a b', '60 b']],
      [60, ['3 a', '30 a b', '60 b']],
      [59, ['3 a', '30 a b']],
      [29, ['3 a']],
      [2, []],
    ]
    for (const [to, sites] of expected) {
      const folder = copyFolder(join(base, 'log'), join(base, `to-${to}`))
      const { log: cut } = await openLog(t, { folder })
      await cut.truncateAfter(lsn(to))
      assert.deepEqual(sitesOf(cut), sites)
      await cut.close()
      const { log: again } = await openLog(t, { folder })
      assert.deepEqual(sitesOf(again), sites)
      const writer = new Writer(again.last)
      const reign = writer.reign('z', 9)
      writer.addMembers(membersOf('z'))
      again.append(joinBatches([reign, writer.builder.cut() as RecordBatch]))
      assert.deepEqual(sitesOf(again), [...sites, `${to + 2} z`])
    }
  })

  it('hold on when their record is trimmed; after a restart the log knows of those that it has', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const { log } = await openLog(t, { folder })
    const changes = { 3: membersOf('a'), 5: membersOf('a', 'b'), 70: membersOf('b') }
    for (const batch of batchWith(new Writer(), changes, 80)) await store(log, batch)
    assert.ok((await log.trimBefore(lsn(60))).removedSegments >= 1)
    assert.ok(log.firstLsn > 5 && log.firstLsn <= 60)
    assert.deepEqual(sitesOf(log), ['5 a b', '70 b'])
    await log.truncateAfter(lsn(65))
    assert.deepEqual(sitesOf(log), ['5 a b'])
    await log.close()
    const { log: again } = await openLog(t, { folder })
    assert.deepEqual(sitesOf(again), [])
    assert.equal(again.membership, undefined)
  })

  it('are not guessed: what this version cannot read is refused, and nothing is changed', async (t) => {
    const folder = join(withTempFolder(t), 'log')
    const { log } = await openLog(t, { folder })
    const writer = new Writer()
    await store(log, writer.reign('a'))
    writer.addMembers(membersOf('a'))
    await store(log, writer.builder.cut() as RecordBatch)
    const { offset, end } = await log.locationOf(lsn(2))
    await log.close()
    changeFile(segmentFile(folder), (bytes) => {
      bytes.fill(0x20, end - 5, end)
      sealed(bytes.subarray(offset, end))
    })
    const before = contentOf(folder)
    const error = await Log.open({ host: testHost(), folder, databaseId, segmentBytes: 16_384 }).then(
      () => undefined,
      (thrown: unknown) => thrown,
    )
    assert.ok(error instanceof CoterieError && error.code === 'FORMAT_UNSUPPORTED', String(error))
    assert.match(error.message, /members of a members record cannot be read/)
    assert.equal(error.details.offset, offset)
    assert.deepEqual(contentOf(folder), before)
  })

  it('are none in a new log, and in one that begins behind a snapshot', async (t) => {
    const { last } = new Writer().reign('a')
    const start = { place: last, history: [{ term: toTerm(1), firstLsn: lsn(1), site: 'a' }] }
    const { log } = await openLog(t, { folder: join(withTempFolder(t), 'log'), start })
    assert.deepEqual([log.firstLsn, log.memberships, log.membership], [2, [], undefined])
    assert.notDeepEqual(last, placeBeforeAll)
  })
})
