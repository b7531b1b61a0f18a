// Records and batches in memory: what the builder writes, the readers read, and verification lets through.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { AssertionFailure } from '../../src/base/assert.ts'
import type { RecordBatch, RecordPlace } from '../../src/base/batch.ts'
import { utf8Decode, utf8Encode } from '../../src/base/bytes.ts'
import { crc32 } from '../../src/base/checksum.ts'
import { CoterieError } from '../../src/base/errors.ts'
import { limits } from '../../src/base/limits.ts'
import { type Lsn, noTerm, type Term, toLsn, toTerm } from '../../src/base/lsn.ts'
import { BatchBuilder } from '../../src/log/batch-builder.ts'
import { joinBatches, splitRecords, takeRecords } from '../../src/log/batch-slice.ts'
import {
  databaseSeed,
  placeAt,
  placeBeforeAll,
  readU32,
  recordField,
  recordKind,
  samePlace,
} from '../../src/log/record-format.ts'
import { decodeRecord, eachRecord, eachWrite } from '../../src/log/record-reader.ts'
import { verifyBatch } from '../../src/log/verify-batch.ts'
import { brief, databaseId, recordsOf, sampleBytes, Writer } from '../support/log-fixture.ts'

const commitOfTerm0 = { term: noTerm, wallMs: 0, kind: recordKind.commit }

function builderAt(previous: RecordPlace, initialBytes = 64): BatchBuilder {
  return new BatchBuilder({ databaseId, previous, initialBytes })
}

/** Gives a changed record a right checksum again, as a buggy or hostile sender would. */
function seal(bytes: Uint8Array, start: number): void {
  const length = readU32(bytes, start + recordField.length)
  const crc = crc32(bytes.subarray(start + 4, start + length), databaseSeed(databaseId))
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(start, crc, true)
}

describe('BatchBuilder', () => {
  it('writes records that read back as they were put in', () => {
    const builder = builderAt(placeBeforeAll)
    builder.begin({ term: toTerm(7), wallMs: 1_700_000_000_123, kind: recordKind.term })
    builder.payload(utf8Encode('site-ä'))
    const first = builder.end()
    builder.begin({ term: toTerm(7), wallMs: 1_700_000_000_124, kind: recordKind.commit })
    builder.put(utf8Encode('key'), utf8Encode('value'))
    builder.del(utf8Encode('gone'))
    builder.put(utf8Encode('empty'), new Uint8Array(0))
    const second = builder.end()
    const batch = builder.cut() as RecordBatch
    assert.deepEqual(batch.previous, placeBeforeAll)
    assert.deepEqual([batch.firstLsn, batch.lastLsn], [1, 2])
    assert.deepEqual(batch.last, second)
    assert.deepEqual(second, placeAt(batch.bytes, 38 + 1))
    const [term, commit] = recordsOf(batch)
    assert.deepEqual(term, {
      lsn: 1,
      term: 7,
      wallMs: 1_700_000_000_123,
      crc: first.crc,
      previousCrc: 0,
      bytes: 39,
      kind: 'term',
      site: 'site-ä',
    })
    assert.ok(commit?.kind === 'commit')
    assert.equal(commit.previousCrc, first.crc)
    assert.equal(commit.wallMs, 1_700_000_000_124)
    assert.deepEqual(
      commit.writes.map((write) => [write.op, utf8Decode(write.key), write.value && utf8Decode(write.value)]),
      [
        ['put', 'key', 'value'],
        ['del', 'gone', undefined],
        ['put', 'empty', ''],
      ],
    )
  })

  it('writes LSNs beyond 32 bits and the largest term', () => {
    const previous = { lsn: toLsn(2 ** 40 + 5), term: toTerm(0xffff_ffff), crc: 0xffff_fffe }
    const builder = builderAt(previous)
    builder.begin({ ...commitOfTerm0, term: previous.term, wallMs: 2 ** 47 + 3 })
    builder.end()
    const batch = builder.cut() as RecordBatch
    const [record] = recordsOf(batch)
    assert.equal(record?.lsn, 2 ** 40 + 6)
    assert.equal(record?.term, 0xffff_ffff)
    assert.equal(record?.previousCrc, 0xffff_fffe)
    assert.equal(record?.wallMs, 2 ** 47 + 3)
    assert.equal(verifyBatch(batch.bytes, { databaseId, previous }).ok, true)
  })

  it('never writes again to bytes that it handed out, whatever it grows to', () => {
    const builder = builderAt(placeBeforeAll, 256)
    const handedOut: { readonly batch: RecordBatch; readonly copy: Uint8Array }[] = []
    for (let i = 0; i < 200; i++) {
      for (let j = 0; j <= i % 4; j++) {
        builder.begin(commitOfTerm0)
        builder.put(utf8Encode(`key ${i} ${j}`), sampleBytes(i * 10 + j, (i * 37) % 900))
        if (i % 7 === 3) builder.abandon()
        else builder.end()
      }
      const batch = builder.cut()
      assert.equal(batch === undefined, i % 7 === 3)
      if (batch !== undefined) handedOut.push({ batch, copy: batch.bytes.slice() })
    }
    let previous: RecordPlace = placeBeforeAll
    for (const { batch, copy } of handedOut) {
      assert.deepEqual(batch.bytes, copy)
      const verified = verifyBatch(batch.bytes, { databaseId, previous })
      assert.ok(verified.ok)
      previous = verified.batch.last
    }
    assert.equal(previous.lsn, builder.lastLsn)
  })

  it('counts whole records only', () => {
    const builder = builderAt(placeBeforeAll)
    assert.equal(builder.isEmpty, true)
    builder.begin(commitOfTerm0)
    builder.put(utf8Encode('k'), utf8Encode('v'))
    assert.equal(builder.recordBytes, 41)
    assert.deepEqual([builder.isEmpty, builder.bytes, builder.lastLsn], [true, 0, 0])
    builder.end()
    assert.deepEqual([builder.isEmpty, builder.bytes, builder.lastLsn], [false, 41, 1])
    builder.cut()
    assert.deepEqual([builder.isEmpty, builder.bytes, builder.lastLsn], [true, 0, 1])
    assert.equal(builder.cut(), undefined)
  })

  it('goes on from another place after a reset, without what was not cut', () => {
    const builder = builderAt(placeBeforeAll)
    builder.begin(commitOfTerm0)
    builder.end()
    const place = { lsn: toLsn(41), term: toTerm(3), crc: 99 }
    builder.reset(place)
    assert.equal(builder.isEmpty, true)
    builder.begin({ ...commitOfTerm0, term: place.term })
    builder.end()
    const batch = builder.cut() as RecordBatch
    assert.deepEqual(batch.previous, place)
    assert.equal(batch.firstLsn, 42)
    assert.equal(verifyBatch(batch.bytes, { databaseId, previous: place }).ok, true)
  })

  it('refuses calls out of order, and terms that change without a term record', () => {
    const builder = builderAt(placeBeforeAll)
    assert.throws(() => builder.put(utf8Encode('k'), utf8Encode('v')), AssertionFailure)
    assert.throws(() => builder.end(), AssertionFailure)
    assert.throws(() => builder.abandon(), AssertionFailure)
    assert.throws(() => builder.begin({ ...commitOfTerm0, term: toTerm(1) }), AssertionFailure)
    assert.throws(() => builder.begin({ ...commitOfTerm0, kind: recordKind.term }), AssertionFailure)
    assert.throws(() => builder.begin({ ...commitOfTerm0, kind: 4 }), AssertionFailure)
    builder.begin(commitOfTerm0)
    assert.throws(() => builder.begin(commitOfTerm0), AssertionFailure)
    assert.throws(() => builder.cut(), AssertionFailure)
    assert.throws(() => builder.payload(utf8Encode('x')), AssertionFailure)
    assert.throws(() => builder.put(new Uint8Array(65_536), new Uint8Array(0)), AssertionFailure)
  })
})

describe('slices of batches', () => {
  const writer = new Writer()
  const batch = joinBatches([writer.reign('a'), writer.commits(3), writer.commits(2)])

  it('take whole records only, and know their places', () => {
    const part = takeRecords(batch, { from: 2 as Lsn, to: 4 as Lsn, bytesMax: 1000 }) as RecordBatch
    assert.deepEqual(recordsOf(part).map(brief), ['2 k1=20', '3 k2=20', '4 k3=20'])
    assert.equal(verifyBatch(part.bytes, { databaseId, previous: part.previous }).ok, true)
    assert.ok(samePlace(part.last, placeAt(part.bytes, part.bytes.length - 61)))
    const narrow = takeRecords(batch, { from: 2 as Lsn, to: 6 as Lsn, bytesMax: 130 }) as RecordBatch
    assert.equal(narrow.lastLsn, 3)
  })

  it('of one record each are the records, in their order', () => {
    const parts = splitRecords(batch)
    assert.deepEqual(
      parts.map((part) => [part.firstLsn, part.lastLsn, part.previous.lsn]),
      [1, 2, 3, 4, 5, 6].map((lsn) => [lsn, lsn, lsn - 1]),
    )
    for (const part of parts) {
      assert.equal(verifyBatch(part.bytes, { databaseId, previous: part.previous }).ok, true)
    }
    assert.deepEqual(joinBatches(parts).bytes, batch.bytes)
  })

  it('are the batch itself if all is wanted, and nothing if nothing fits', () => {
    assert.equal(takeRecords(batch, { from: 1 as Lsn, to: 6 as Lsn, bytesMax: batch.bytes.length }), batch)
    assert.equal(takeRecords(batch, { from: 1 as Lsn, to: 6 as Lsn, bytesMax: 10 }), undefined)
  })
})

describe('eachWrite', () => {
  it('refuses a write of an unknown kind instead of skipping it', () => {
    const builder = builderAt(placeBeforeAll)
    builder.begin(commitOfTerm0)
    builder.put(utf8Encode('k'), utf8Encode('v'))
    builder.end()
    const batch = builder.cut() as RecordBatch
    for (const change of [
      (bytes: Uint8Array) => bytes.fill(3, 32, 33),
      (bytes: Uint8Array) => bytes.fill(9, 33, 34),
      (bytes: Uint8Array) => bytes.fill(9, 35, 36),
    ]) {
      const bytes = batch.bytes.slice()
      change(bytes)
      const read = (): void => eachWrite(bytes, 32, bytes.length, () => {})
      assert.throws(read, (error) => error instanceof CoterieError && error.code === 'FORMAT_UNSUPPORTED')
      assert.throws(
        () => decodeRecord(bytes),
        (error) => error instanceof CoterieError && error.details.lsn === 1,
      )
      seal(bytes, 0)
      assert.deepEqual(verifyBatch(bytes, { databaseId, previous: placeBeforeAll }), {
        ok: false,
        reason: 'a commit record holds a malformed write',
        at: 0,
      })
    }
  })
})

describe('verifyBatch', () => {
  const writer = new Writer()
  const reign = writer.reign('a')
  const batch = writer.commits(3)
  const options = { databaseId, previous: batch.previous }

  function refusal(bytes: Uint8Array, given: Parameters<typeof verifyBatch>[1] = options): string {
    const result = verifyBatch(bytes, given)
    return result.ok ? 'accepted' : `${result.at}: ${result.reason}`
  }

  it('gives back the batch', () => {
    const result = verifyBatch(batch.bytes, options)
    assert.deepEqual(result, { ok: true, batch })
  })

  it('derives the place before the batch if only its term is known', () => {
    const result = verifyBatch(batch.bytes, { databaseId, previousTerm: toTerm(1) })
    assert.deepEqual(result, { ok: true, batch })
    assert.equal(verifyBatch(reign.bytes, { databaseId, previousTerm: noTerm }).ok, true)
    assert.match(refusal(reign.bytes, { databaseId, previousTerm: toTerm(1) }), /no record that could follow/)
    assert.match(refusal(batch.bytes, { databaseId, previousTerm: toTerm(2) }), /0: its term falls/)
    assert.match(refusal(batch.bytes, { databaseId, previousTerm: noTerm }), /terms change with term records/)
    assert.match(
      refusal(new Uint8Array(31), { databaseId, previousTerm: noTerm }),
      /no record that could follow/,
    )
  })

  it('refuses another database, another place and another chain', () => {
    assert.match(refusal(batch.bytes, { ...options, databaseId: 'other' }), /0: its checksum is wrong/)
    const { previous } = batch
    assert.match(refusal(batch.bytes, { databaseId, previous: placeBeforeAll }), /0: its LSN is not the next/)
    const otherChain = { ...previous, crc: previous.crc ^ 1 }
    assert.match(
      refusal(batch.bytes, { databaseId, previous: otherChain }),
      /does not follow the record before/,
    )
    const laterTerm = { ...previous, term: toTerm(2) }
    assert.match(refusal(batch.bytes, { databaseId, previous: laterTerm }), /0: its term falls/)
  })

  it('refuses a batch whose second record is a gap, a repetition or of another chain', () => {
    const parts = recordsOf(batch)
    const size = parts[0]?.bytes as number
    const [a, b, c] = [0, 1, 2].map((i) => batch.bytes.subarray(i * size, (i + 1) * size)) as Uint8Array[]
    for (const order of [
      [a, c],
      [a, a],
      [a, b, b],
    ]) {
      assert.match(refusal(Buffer.concat(order as Uint8Array[])), /its LSN is not the next/)
    }
    const changed = new Uint8Array(Buffer.concat([a as Uint8Array, b as Uint8Array]))
    changed[size - 1] = (changed[size - 1] as number) ^ 1
    seal(changed, 0)
    assert.match(refusal(changed), new RegExp(`^${size}: it does not follow the record before it`))
  })

  it('refuses what is empty, cut short, zero, a mark, too long or of an unknown kind', () => {
    assert.match(refusal(new Uint8Array(0)), /there is no record/)
    assert.match(refusal(batch.bytes.subarray(0, 20)), /0: it is cut short/)
    assert.match(refusal(batch.bytes.subarray(0, -1)), /it is cut short/)
    assert.match(refusal(new Uint8Array(64)), /0: it is empty/)
    const changed = (at: number, value: number): Uint8Array => {
      const bytes = batch.bytes.slice(0, 61)
      bytes[at] = value
      seal(bytes, 0)
      return bytes
    }
    assert.match(refusal(changed(recordField.kind, 255)), /a durable mark does not belong here/)
    assert.match(refusal(changed(recordField.kind, 4)), /its kind is not known/)
    assert.match(refusal(changed(recordField.kind, recordKind.members)), /its members cannot be read/)
    assert.match(refusal(changed(recordField.flags, 1)), /its flags are not known/)
    assert.match(refusal(changed(recordField.kind, recordKind.term)), /terms change with term records/)
    const huge = batch.bytes.slice()
    new DataView(huge.buffer).setUint32(recordField.length, limits.transactionBytesMax + 33, true)
    assert.match(refusal(huge), /its length is impossible/)
  })

  it('refuses a term record without a proper site id', () => {
    for (const site of [new Uint8Array(0), new Uint8Array(65).fill(65), new Uint8Array([0xff, 0xfe])]) {
      const builder = builderAt(placeBeforeAll, 256)
      builder.begin({ term: toTerm(1), wallMs: 0, kind: recordKind.term })
      builder.payload(site)
      builder.end()
      const { bytes } = builder.cut() as RecordBatch
      assert.match(refusal(bytes, { databaseId, previous: placeBeforeAll }), /does not hold a site id/)
    }
  })

  it('survives any bytes, and any flip or truncation of a batch is refused', () => {
    const whole = joinBatches([reign, batch])
    const given = { databaseId, previous: placeBeforeAll }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.integer({ min: 0, max: 9 }), (bytes, term) => {
        assert.equal(verifyBatch(bytes, given).ok, false)
        assert.equal(verifyBatch(bytes, { databaseId, previousTerm: term as Term }).ok, false)
      }),
      { numRuns: process.env.COTERIE_TEST_ALL === '1' ? 2000 : 700 },
    )
    for (let at = 0; at < whole.bytes.length; at++) {
      for (const mask of [1, 0x80, 0xff]) {
        const bytes = whole.bytes.slice()
        bytes[at] = (bytes[at] as number) ^ mask
        assert.equal(verifyBatch(bytes, given).ok, false, `byte ${at} flipped by ${mask}`)
      }
      const result = verifyBatch(whole.bytes.subarray(0, at), given)
      // A cut between two records leaves a shorter batch, which is right.
      if (result.ok)
        assert.deepEqual(recordsOf(result.batch), recordsOf(whole).slice(0, result.batch.lastLsn))
    }
  })

  it('gives the same records or none for a batch that was spliced and changed at random', () => {
    const whole = joinBatches([reign, batch])
    const expected = recordsOf(whole)
    const change = fc.record({ at: fc.nat(whole.bytes.length - 1), bytes: fc.uint8Array({ maxLength: 40 }) })
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), fc.nat(400), (changes, length) => {
        const bytes = whole.bytes.slice(0, Math.max(1, length))
        for (const { at, bytes: put } of changes)
          bytes.set(put.subarray(0, Math.max(0, bytes.length - at)), Math.min(at, bytes.length))
        const result = verifyBatch(bytes, { databaseId, previous: placeBeforeAll })
        if (result.ok) assert.deepEqual(recordsOf(result.batch), expected.slice(0, result.batch.lastLsn))
      }),
      { numRuns: process.env.COTERIE_TEST_ALL === '1' ? 2000 : 700 },
    )
  })

  it('accepts what any sequence of puts and deletes builds, with all its bytes', () => {
    const write = fc.record({
      key: fc.uint8Array({ minLength: 1, maxLength: 90 }),
      value: fc.option(fc.uint8Array()),
    })
    fc.assert(
      fc.property(fc.array(fc.array(write, { maxLength: 5 }), { minLength: 1, maxLength: 5 }), (commits) => {
        const builder = builderAt(placeBeforeAll, 64)
        for (const writes of commits) {
          builder.begin(commitOfTerm0)
          for (const { key, value } of writes) value === null ? builder.del(key) : builder.put(key, value)
          builder.end()
        }
        const built = builder.cut() as RecordBatch
        const result = verifyBatch(built.bytes, { databaseId, previous: placeBeforeAll })
        assert.deepEqual(result, { ok: true, batch: built })
        const read: { key: number[]; value: number[] | null }[][] = []
        eachRecord(built.bytes, (_lsn, _term, _wallMs, _kind, start, end) => {
          const writes: { key: number[]; value: number[] | null }[] = []
          eachWrite(built.bytes, start, end, (key, value) => {
            writes.push({ key: [...key], value: value === undefined ? null : [...value] })
          })
          read.push(writes)
        })
        const expected = commits.map((writes) =>
          writes.map(({ key, value }) => ({ key: [...key], value: value === null ? null : [...value] })),
        )
        assert.deepEqual(read, expected)
      }),
      { numRuns: 300 },
    )
  })
})
