// The small parts that the engines are made of: key texts, checksums, checks of rows, rows of the engine's own.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { compareBytes } from '../../src/base/bytes.ts'
import { isCoterieError } from '../../src/base/errors.ts'
import { type Lsn, toLsn, toTerm } from '../../src/base/lsn.ts'
import { crc32c } from '../../src/store/crc32c.ts'
import { keyBytes, keyText, portableText } from '../../src/store/key-text.ts'
import {
  decodeMeta,
  decodeUndo,
  encodeMeta,
  encodeUndo,
  isDataKey,
  lsnOfUndoKey,
  undoKey,
} from '../../src/store/own-rows.ts'
import { checkBytes, RowSealer, unsealRow } from '../../src/store/row-check.ts'
import { UndoLsns } from '../../src/store/undo-lsns.ts'

test('texts of keys order as the keys, come back as the same bytes, and do not depend on Buffer', () => {
  const every = Uint8Array.from({ length: 256 }, (_, i) => i)
  assert.ok(Buffer.from(every).equals(keyBytes(keyText(every))))
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 20 }), fc.uint8Array({ maxLength: 20 }), (a, b) => {
      const [textA, textB] = [keyText(a), keyText(b)]
      assert.deepEqual(keyBytes(textA), a)
      assert.equal(Math.sign(compareBytes(a, b)), textA < textB ? -1 : textA > textB ? 1 : 0)
    }),
  )
  const long = new Uint8Array(32_768).map((_, i) => (i * 31) & 255)
  assert.equal(portableText(long), keyText(long))
  assert.equal(keyText(new Uint8Array(0)), '')
})

test('crc32c gives the published check values, in one go or in parts', () => {
  assert.equal(crc32c(Buffer.from('123456789')), 0xe306_9283)
  assert.equal(crc32c(new Uint8Array(32)), 0x8a91_36aa)
  assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8_ab43)
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd_794e)
  const bytes = Uint8Array.from({ length: 1000 }, (_, i) => (i * i) & 255)
  for (const cut of [0, 1, 7, 8, 9, 500, 1000]) {
    assert.equal(crc32c(bytes, cut, 1000, crc32c(bytes, 0, cut)), crc32c(bytes))
  }
})

test('a sealed value comes back only under its key, whole and unchanged', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 20 }),
      fc.uint8Array({ maxLength: 60 }),
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      (key, value, at, change) => {
        const sealed = new RowSealer(value.length + checkBytes).seal(key, value)
        assert.deepEqual(unsealRow(key, sealed), value)
        const damaged = sealed.slice()
        damaged[at % sealed.length] = (damaged[at % sealed.length] as number) ^ change
        assert.equal(unsealRow(key, damaged), undefined)
        const otherKey = key.slice()
        otherKey[at % key.length] = (otherKey[at % key.length] as number) ^ change
        assert.equal(unsealRow(otherKey, sealed), undefined)
        assert.equal(unsealRow(key, sealed.subarray(0, -1)), undefined)
        assert.equal(unsealRow(key.subarray(0, -1), sealed), undefined)
      },
    ),
  )
  assert.equal(unsealRow(Uint8Array.of(1), new Uint8Array(3)), undefined)
})

test('sealed values of one block do not touch each other', () => {
  const rows = [0, 1, 39, 40, 41, 100].map((length, i) => ({
    key: Uint8Array.of(1, i),
    value: new Uint8Array(length).fill(i + 1),
  }))
  const sealer = new RowSealer(rows.reduce((sum, { value }) => sum + value.length + checkBytes, 0))
  const sealed = rows.map(({ key, value }) => sealer.seal(key, value))
  for (const [i, { key, value }] of rows.entries()) {
    assert.deepEqual(unsealRow(key, sealed[i] as Uint8Array), value)
  }
})

test('undo keys order as LSNs and lie outside the data keys', () => {
  const lsns = [1, 2, 255, 256, 0xffff_ffff, 0x1_0000_0000, 2 ** 53 - 1].map(toLsn)
  const keys = lsns.map(undoKey)
  assert.deepEqual([...keys].sort(compareBytes), keys)
  assert.deepEqual(keys.map(lsnOfUndoKey), lsns)
  assert.ok(keys.every((key) => !isDataKey(key)))
  assert.ok(isDataKey(Uint8Array.of(200)))
  assert.ok(!isDataKey(new Uint8Array(0)))
})

test('undo of any kind comes back as it was', () => {
  const entry = fc
    .tuple(
      fc.uint8Array({ minLength: 1, maxLength: 12 }),
      fc.option(fc.uint8Array({ maxLength: 12 }), { nil: undefined }),
    )
    .map(([key, before]) => ({ key, before }))
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 10 }), (entries) => {
      assert.deepEqual(decodeUndo(encodeUndo(entries)), entries)
    }),
  )
})

test('a meta of another format is refused as such', () => {
  const meta = {
    databaseId: 'd',
    appliedLsn: toLsn(1),
    appliedTerm: toTerm(1),
    appliedCrc: 1,
    readableLsn: toLsn(0),
    history: [],
  }
  assert.deepEqual(decodeMeta(encodeMeta(meta), []), meta)
  const later = Buffer.from(Buffer.from(encodeMeta(meta)).toString().replace('"format":1', '"format":2'))
  assert.throws(
    () => decodeMeta(later, []),
    (error) => isCoterieError(error, 'FORMAT_UNSUPPORTED'),
  )
})

test('the list of undo is that of a plain set, whatever is added and forgotten', () => {
  const lsnArbitrary = fc.nat(4000).map(toLsn)
  const step = fc.record({
    add: fc.oneof(
      fc.uniqueArray(lsnArbitrary, { maxLength: 5 }),
      // A long run, as it comes while nothing becomes permanent.
      fc
        .tuple(lsnArbitrary, fc.nat(1500))
        .map(([from, count]) => Array.from({ length: count }, (_, i) => toLsn(from + i))),
    ),
    to: fc.option(lsnArbitrary, { nil: undefined }),
    after: fc.option(lsnArbitrary, { nil: undefined }),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), lsnArbitrary, (steps, asked) => {
      const list = new UndoLsns()
      const set = new Set<Lsn>()
      for (const { add, to, after } of steps) {
        const batch = {
          writes: [],
          undo: add.map((lsn) => ({ lsn, entries: [] })),
          ...(to === undefined ? {} : { forgetUndoTo: to }),
          ...(after === undefined ? {} : { forgetUndoAfter: after }),
        }
        const gone = [...set].filter(
          (lsn) => (to !== undefined && lsn <= to) || (after !== undefined && lsn > after),
        )
        assert.deepEqual(
          list.forgottenBy(batch),
          gone.sort((a, b) => a - b),
        )
        list.apply(batch)
        for (const lsn of gone) set.delete(lsn)
        for (const lsn of add) set.add(lsn)
        const expected = [...set].filter((lsn) => lsn > asked).sort((a, b) => b - a)
        assert.deepEqual(list.after(asked), expected)
        assert.equal(list.oldest, [...set].sort((a, b) => a - b)[0])
      }
    }),
  )
})
