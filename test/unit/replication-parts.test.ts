// The small parts of the replication core that have a state of their own.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import type { RecordBatch, RecordPlace } from '../../src/base/batch.ts'
import type { Lsn, Term } from '../../src/base/lsn.ts'
import { encodeRows } from '../../src/base/row-run.ts'
import { AckPacer } from '../../src/replication/ack-pacer.ts'
import { HeldRecords } from '../../src/replication/held-records.ts'
import { LagMeter } from '../../src/replication/lag-meter.ts'
import { RecentRecords } from '../../src/replication/recent-records.ts'
import { countRows } from '../../src/replication/snapshot-rows.ts'

const lsn = (value: number): Lsn => value as Lsn

function batch(first: number, last: number, bytes = 10): RecordBatch {
  const place = (at: number): RecordPlace => ({ lsn: lsn(at), term: 1 as Term, crc: at })
  return {
    bytes: new Uint8Array(bytes),
    firstLsn: lsn(first),
    lastLsn: lsn(last),
    previous: place(first - 1),
    last: place(last),
  }
}

describe('held records', () => {
  const options = { bytesMax: 50, batchesMax: 4 }
  const held = (first: number, last: number, bytes?: number) => ({
    batch: batch(first, last, bytes),
    reigns: [],
  })

  test('come out in order, once what is before them is there', () => {
    const records = new HeldRecords(options)
    for (const [first, last] of [
      [9, 9],
      [5, 6],
      [7, 8],
    ] as const) {
      records.hold(held(first, last))
    }
    assert.equal(records.firstLsn, 5)
    assert.equal(records.take(lsn(4)), undefined)
    assert.deepEqual(
      [5, 7, 9].map((next) => records.take(lsn(next))?.batch.lastLsn),
      [6, 8, 9],
    )
    assert.equal(records.bytes, 0)
  })

  test('are bounded in bytes and in number, and none is held twice', () => {
    const records = new HeldRecords(options)
    records.hold(held(5, 5))
    records.hold(held(5, 5))
    records.hold(held(5, 7, 20))
    assert.deepEqual([records.count, records.bytes], [1, 20])
    records.hold(held(9, 9, 31))
    assert.equal(records.count, 1)
    for (const first of [10, 12, 14, 16]) records.hold(held(first, first, 1))
    assert.equal(records.count, 4)
  })
})

describe('recent records', () => {
  test('give the batch that has an LSN, and keep no more than they may', () => {
    const recent = new RecentRecords({ bytesMax: 40, batchesMax: 3 })
    for (let i = 0; i < 5; i++) recent.add(batch(1 + 2 * i, 2 + 2 * i))
    assert.equal(recent.find(lsn(4)), undefined)
    assert.equal(recent.find(lsn(5))?.firstLsn, 5)
    assert.equal(recent.find(lsn(10))?.firstLsn, 9)
    assert.equal(recent.find(lsn(11)), undefined)
    recent.add(batch(11, 11, 500))
    assert.equal(recent.find(lsn(10)), undefined)
    assert.equal(recent.find(lsn(11))?.lastLsn, 11)
  })
})

describe('the lag meter', () => {
  test('never says less than the truth, and is exact while it has few samples', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat({ max: 5_000 }), { minLength: 1, maxLength: 300 }),
        fc.nat(),
        (sizes, at) => {
          const meter = new LagMeter(lsn(0))
          for (const [i, bytes] of sizes.entries()) meter.add(lsn(i + 1), bytes, i)
          const acked = at % (sizes.length + 1)
          const truth = sizes.slice(acked).reduce((sum, bytes) => sum + bytes, 0)
          assert.equal(meter.bytesAfter(lsn(acked)), truth)
          assert.equal(meter.msAfter(lsn(acked), 1_000), acked === sizes.length ? 0 : 1_000 - acked)
        },
      ),
      { numRuns: 100 },
    )
  })

  test('stays small however long the lag, and still errs on the safe side by little', () => {
    const meter = new LagMeter(lsn(0))
    const count = 200_000
    for (let i = 1; i <= count; i++) meter.add(lsn(i), 100, i)
    assert.ok(meter.samples <= 1_024)
    for (const acked of [0, 1, 777, 150_000, count]) {
      const truth = (count - acked) * 100
      const said = meter.bytesAfter(lsn(acked))
      assert.ok(said >= truth && said <= truth + count, `${said} for ${truth}`)
    }
    meter.forgetThrough(lsn(count))
    assert.equal(meter.samples, 0)
    assert.equal(meter.bytesAfter(lsn(count)), 0)
  })
})

describe('the ack pacer', () => {
  const at = (received: number, durable: number, applied = 0) => ({
    receivedLsn: lsn(received),
    durableLsn: lsn(durable),
    appliedLsn: lsn(applied),
  })

  test('acknowledges every record that qualifies, or one in n', () => {
    const pacer = new AckPacer(1_000)
    assert.equal(pacer.isDue(at(5, 0)), false)
    assert.equal(pacer.isDue(at(5, 1)), true)
    pacer.acked(at(5, 1))
    assert.equal(pacer.isDue(at(6, 1)), false)
    pacer.agree({ attest: 'durable', window: 3 })
    assert.equal(pacer.isDue(at(6, 3)), false)
    assert.equal(pacer.isDue(at(6, 4)), true)
  })

  test('at once where the master asks, but not before the record qualifies', () => {
    const pacer = new AckPacer(1_000)
    pacer.agree({ attest: 'applied', window: 10 })
    pacer.urgent(lsn(4))
    assert.equal(pacer.isDue(at(9, 9, 3)), false)
    assert.equal(pacer.isDue(at(9, 9, 4)), true)
    pacer.acked(at(9, 9, 4))
    assert.equal(pacer.isDue(at(9, 9, 5)), false)
  })

  test('and after so many bytes, which free the window of the master', () => {
    const pacer = new AckPacer(1_000)
    pacer.agree({ attest: 'durable', window: 100 })
    pacer.received(999)
    assert.equal(pacer.isDue(at(9, 9)), false)
    pacer.received(1)
    assert.equal(pacer.isDue(at(9, 9)), true)
  })
})

test('a chunk is counted only if its rows are whole', () => {
  const bytes = encodeRows([
    [new Uint8Array([1]), new Uint8Array([2, 3])],
    [new Uint8Array([4, 5]), new Uint8Array(0)],
  ])
  assert.equal(countRows(bytes), 2)
  assert.equal(countRows(new Uint8Array(0)), 0)
  for (let length = 1; length < bytes.length; length++) {
    const count = countRows(bytes.subarray(0, length))
    assert.equal(count, length === 9 ? 1 : undefined, `${length} bytes`)
  }
})
