// Every decoder of what a transport has carried, given any bytes, and good ones with some of them changed: messages and
// what the core makes of them, records, rows, members, the control endpoint. Each answers with a value or an error of
// ours; what it takes is written as the same bytes again; nothing is read past its end, and nothing is thrown later by
// what was found good.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { concatBytes, equalBytes, utf8Encode } from '../../src/base/bytes.ts'
import { crc32 } from '../../src/base/checksum.ts'
import { isCoterieError } from '../../src/base/errors.ts'
import type { Lsn, Term } from '../../src/base/lsn.ts'
import { decodeMembers, encodeMembers } from '../../src/base/membership.ts'
import { decodeRows, encodeRows } from '../../src/base/row-run.ts'
import { decodeHead, encodeHead } from '../../src/cli/control/protocol.ts'
import {
  decodeRows as decodeControlRows,
  encodeRows as encodeControlRows,
} from '../../src/cli/control/rows-codec.ts'
import { changesIn } from '../../src/database/changes.ts'
import { Multicasting } from '../../src/group/multicasting.ts'
import { recordCodec } from '../../src/group/record-codec.ts'
import { joinBatches } from '../../src/log/batch-slice.ts'
import { membershipsOf } from '../../src/log/members-record.ts'
import {
  databaseSeed,
  placeBeforeAll,
  readU32,
  recordField,
  recordHeaderBytes,
  recordKind,
} from '../../src/log/record-format.ts'
import { eachRecord } from '../../src/log/record-reader.ts'
import { decodeMessage, encodeMessage, protocolVersion } from '../../src/replication/message-codec.ts'
import { countRows } from '../../src/replication/snapshot-rows.ts'
import { FrameReader, frameCrc, frameHeaderBytes, writeFrameHeader } from '../../src/transport/frame.ts'
import { anyMessage } from '../support/any-message.ts'
import { databaseId, Writer } from '../support/log-fixture.ts'
import { changed, changes } from './changes.ts'
import { coreInputs } from './core-inputs.ts'

function assertMessage(bytes: Uint8Array): void {
  const result = decodeMessage(bytes)
  if (result.ok) assert.ok(equalBytes(encodeMessage(result.message), bytes), result.message.type)
  else assert.ok(result.code === 'FRAME_INVALID' || result.code === 'PROTOCOL_INCOMPATIBLE')
}

/** A log with a record of each kind, as it goes over the wire. */
const records = ((): Uint8Array => {
  const writer = new Writer()
  const reign = writer.reign('site-a')
  writer.addMembers({ members: [{ site: 'a', address: 'tcp://h:1', incarnation: 'i' }], removed: ['old'] })
  writer.builder.begin({ term: 1 as Term, wallMs: 1, kind: recordKind.commit })
  writer.builder.put(utf8Encode('key'), utf8Encode('value'))
  writer.builder.del(utf8Encode('gone'))
  writer.builder.end()
  return joinBatches([reign, writer.commits(3, 12)]).bytes
})()

/** Gives every record that can be found in them a right checksum again, as a hostile sender would. */
function sealed(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let previousCrc = 0
  for (let at = 0; at + recordHeaderBytes <= bytes.length; ) {
    const length = readU32(bytes, at + recordField.length)
    if (length < recordHeaderBytes || at + length > bytes.length) break
    view.setUint32(at + recordField.previousCrc, previousCrc, true)
    previousCrc = crc32(bytes.subarray(at + recordField.length, at + length), databaseSeed(databaseId))
    view.setUint32(at + recordField.crc, previousCrc, true)
    at += length
  }
  return bytes
}

/** What was verified is read by the core, the applier, change streams and the log, none of which looks twice. */
function assertRecords(bytes: Uint8Array): void {
  const verified = recordCodec.verify(bytes, { databaseId, previous: placeBeforeAll })
  if (!verified.ok) {
    assert.notEqual(verified.reason, '')
    return
  }
  const { batch, reigns } = verified
  assert.equal(batch.bytes.length, bytes.length)
  let last = 0
  eachRecord(bytes, (lsn, _term, _wallMs, _kind, start, end) => {
    assert.equal(lsn, last + 1)
    last = lsn
    assert.ok(start <= end && end <= bytes.length)
  })
  assert.equal(last, batch.lastLsn)
  changesIn(bytes)
  membershipsOf(batch)
  for (const { firstLsn } of reigns) assert.ok(firstLsn <= last)
  const split = recordCodec.split(batch)
  assert.equal(split.length, last)
  if (last > 1) assert.equal(recordCodec.dropThrough(batch, 1 as Lsn).firstLsn, 2)
}

const goodRows = encodeRows([
  [utf8Encode('a'), utf8Encode('1')],
  [utf8Encode('bb'), new Uint8Array(0)],
  [utf8Encode('c'), new Uint8Array(40)],
])

function assertRows(bytes: Uint8Array): void {
  const rows = decodeRows(bytes)
  assert.equal(rows?.length, countRows(bytes))
  if (rows !== undefined) assert.ok(equalBytes(encodeRows(rows), bytes))
}

const goodMembers = encodeMembers({
  members: [
    { site: 'a', address: 'tcp://h:1', incarnation: 'i' },
    { site: 'b', address: '', incarnation: 'j' },
  ],
  removed: ['c'],
})

function assertMembers(bytes: Uint8Array): void {
  const members = decodeMembers(bytes)
  if (members === undefined) return
  assert.deepEqual(decodeMembers(encodeMembers(members)), members)
  assert.equal(new Set(members.members.map(({ site }) => site)).size, members.members.length)
}

const goodHeads = [
  encodeHead({ type: 'call', id: 7, method: 'write', params: { acks: 'none', list: [1, null] } }),
  encodeHead({ type: 'more', id: 7, credit: 3 }),
]

function assertHead(bytes: Uint8Array): void {
  try {
    assert.equal(typeof decodeHead(bytes).type, 'string')
  } catch (error) {
    assert.ok(isCoterieError(error, 'FRAME_INVALID'), String(error))
  }
}

const goodControlRows = encodeControlRows([
  { store: 'ä', key: Uint8Array.of(1, 2), value: Uint8Array.of(3) },
  { store: undefined, key: Uint8Array.of(1), value: undefined },
])

function assertControlRows(bytes: Uint8Array): void {
  try {
    assert.ok(equalBytes(encodeControlRows(decodeControlRows(bytes)), bytes))
  } catch (error) {
    assert.ok(isCoterieError(error, 'FRAME_INVALID'), String(error))
  }
}

const controls = [utf8Encode('one'), utf8Encode('the second'), utf8Encode('3')]
const goodFrames = concatBytes(
  controls.flatMap((control, i) => {
    const header = new Uint8Array(frameHeaderBytes)
    const payload = new Uint8Array(i * 20).fill(i)
    const crc = frameCrc(control, payload.length)
    writeFrameHeader(header, 0, { controlBytes: control.length, payloadBytes: payload.length, crc })
    return [header, control, payload]
  }),
)

/** A payload has checksums of its own; all else that comes out is what went in, from the first on. */
function assertFrames(bytes: Uint8Array, pieceBytes: number): void {
  const reader = new FrameReader({ boundBytes: 1000 })
  let taken = 0
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    reader.push(bytes.subarray(at, at + pieceBytes))
    for (;;) {
      const found = reader.next()
      if (found === 'invalid') {
        assert.equal(reader.error?.code, 'FRAME_INVALID')
        return
      }
      if (found !== 'frame') break
      assert.ok(equalBytes(reader.control, controls[taken] ?? new Uint8Array(0)), `frame ${taken}`)
      assert.equal(reader.payload.length, taken * 20)
      taken++
    }
  }
}

function checkAll(numRuns: number, good: fc.Arbitrary<Uint8Array>, judge: (bytes: Uint8Array) => void): void {
  const property = fc.property(good, changes, fc.uint8Array({ maxLength: 200 }), (bytes, by, any) => {
    judge(changed(bytes, by))
    judge(any)
  })
  fc.assert(property, { numRuns })
}

/** By the name of the decoder. */
export const messageDecoders: Readonly<Record<string, (numRuns: number) => void>> = {
  'messages, and those of a group': (numRuns) => {
    checkAll(numRuns, anyMessage.map(encodeMessage), assertMessage)
  },

  'messages of any bytes behind a good beginning': (numRuns) => {
    const property = fc.property(
      fc.uint8Array({ minLength: 2, maxLength: 200 }),
      fc.nat(22),
      (bytes, type) => {
        bytes[0] = type
        bytes[1] = protocolVersion
        assertMessage(bytes)
      },
    )
    fc.assert(property, { numRuns })
  },

  'messages at the core, in every role': (numRuns) => coreInputs(numRuns),

  'records, with wrong checksums': (numRuns) => checkAll(numRuns, fc.constant(records), assertRecords),

  'records, with right ones': (numRuns) => {
    checkAll(numRuns, fc.constant(records), (bytes) => assertRecords(sealed(bytes)))
  },

  'rows of a snapshot': (numRuns) => checkAll(numRuns, fc.constant(goodRows), assertRows),

  members: (numRuns) => checkAll(numRuns, fc.constant(goodMembers), assertMembers),

  'frames that look good': (numRuns) => {
    const property = fc.property(changes, fc.integer({ min: 1, max: 200 }), (by, pieceBytes) => {
      assertFrames(changed(goodFrames, by), pieceBytes)
    })
    fc.assert(property, { numRuns })
  },

  'what comes by a shared channel': (numRuns) => {
    const multicasting = new Multicasting()
    const joins = fc.sample(
      anyMessage.filter(({ type }) => type === 'join'),
      { numRuns: 20, seed: 3 },
    )
    for (const [peer, join] of joins.entries()) multicasting.sends(peer, encodeMessage(join))
    checkAll(numRuns, anyMessage.map(encodeMessage), (bytes) => {
      const own = multicasting.received(1, bytes)
      if (own === undefined) return
      const { message, ok } = { message: undefined, ...decodeMessage(own) }
      assert.ok(!ok || message?.type === 'append')
      assert.equal(own.length, bytes.length)
    })
  },

  'heads of the control endpoint': (numRuns) => {
    checkAll(numRuns, fc.constantFrom(...goodHeads), assertHead)
  },

  'rows of the control endpoint': (numRuns) => {
    checkAll(numRuns, fc.constant(goodControlRows), assertControlRows)
  },
}
