// Messages to bytes and back: every message comes back as it was, and no bytes make the decoder throw.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { limits } from '../../src/base/limits.ts'
import type { Lsn, Term } from '../../src/base/lsn.ts'
import {
  decodeMessage,
  encodeMessage,
  knownCode,
  protocolVersion,
} from '../../src/replication/message-codec.ts'
import { messageLimits } from '../../src/replication/message-limits.ts'
import type { Message } from '../../src/replication/messages.ts'
import { anyMessage } from '../support/any-message.ts'

const rounds = process.env.COTERIE_TEST_ALL === '1' ? 100_000 : 500

function decoded(bytes: Uint8Array): Message {
  const result = decodeMessage(bytes)
  assert.ok(result.ok, result.ok ? '' : result.reason)
  return result.message
}

/** One message of each type, small. */
function samples(): Message[] {
  const found = new Map<string, Message>()
  for (const each of fc.sample(anyMessage, { numRuns: 800, seed: 7 })) {
    const before = found.get(each.type)
    if (before === undefined || encodeMessage(each).length > encodeMessage(before).length)
      found.set(each.type, each)
  }
  return [...found.values()]
}

describe('the message codec', () => {
  test('every message comes back as it was', () => {
    fc.assert(
      fc.property(anyMessage, (each) => {
        assert.deepEqual(decoded(encodeMessage(each)), structuredClone(each))
      }),
      { numRuns: rounds },
    )
  })

  test('every kind of message was tried', () => {
    assert.equal(samples().length, 20)
  })

  test('a message cut short anywhere is refused, and so is one with a byte too many', () => {
    for (const each of samples()) {
      const bytes = encodeMessage(each)
      for (let length = 0; length < bytes.length; length++) {
        assert.equal(decodeMessage(bytes.subarray(0, length)).ok, false, `${each.type} of ${length} bytes`)
      }
      assert.equal(decodeMessage(Uint8Array.from([...bytes, 0])).ok, false, `${each.type} with a byte more`)
    }
  })

  test('a message with any one bit changed never throws, and what is accepted can be encoded again', () => {
    for (const each of samples()) {
      const bytes = encodeMessage(each)
      for (let bit = 0; bit < bytes.length * 8; bit++) {
        const changed = bytes.slice()
        changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7))
        const result = decodeMessage(changed)
        if (result.ok) assert.deepEqual(encodeMessage(result.message), changed)
      }
    }
  })

  test('any bytes at all never throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat({ max: 22 }), (bytes, type) => {
        decodeMessage(bytes)
        const typed = Uint8Array.from(bytes)
        typed[0] = type
        typed[1] = protocolVersion
        decodeMessage(typed)
      }),
      { numRuns: rounds },
    )
  })

  test('another version is told from a malformed message', () => {
    const bytes = encodeMessage({
      type: 'gapRequest',
      session: 1,
      term: 1 as Term,
      from: 1 as Lsn,
      to: 0 as Lsn,
    })
    bytes[1] = protocolVersion + 1
    const result = decodeMessage(bytes)
    assert.equal(result.ok, false)
    assert.equal(!result.ok && result.code, 'PROTOCOL_INCOMPATIBLE')
  })

  test('positions that contradict each other are refused', () => {
    const ack = { type: 'ack' as const, session: 1, term: 1 as Term, stamp: 0, busy: false }
    const bad: Message[] = [
      { ...ack, receivedLsn: 1 as Lsn, durableLsn: 2 as Lsn, appliedLsn: 0 as Lsn },
      { type: 'gapRequest', session: 1, term: 1 as Term, from: 5 as Lsn, to: 4 as Lsn },
      { type: 'snapshotAck', session: 1, term: 1 as Term, storedIndex: 2, receivedIndex: 1 },
    ]
    for (const each of bad) assert.equal(decodeMessage(encodeMessage(each)).ok, false, each.type)
  })

  test('messages of a group that contradict themselves are refused', () => {
    const start = { lsn: 0 as Lsn, term: 0 as Term, crc: 0 }
    const last = { lsn: 4 as Lsn, term: 2 as Term, crc: 9 }
    const link = { session: 0, term: 3 as Term, databaseId: 'db', site: 'a' }
    const request: Message = { type: 'voteRequest', ...link, last, handover: false }
    const canvass: Message = {
      type: 'canvass',
      ...link,
      answer: false,
      round: 1,
      last,
      priority: 1,
      tiebreak: 0,
    }
    const hello: Message = {
      type: 'hello',
      ...link,
      answer: false,
      incarnation: 'i',
      address: '',
      priority: 1,
      version: '',
      activity: 'alone',
      grouped: false,
      last,
      durableLsn: 4 as Lsn,
      appliedLsn: 4 as Lsn,
      committedLsn: 4 as Lsn,
      ackMicros: 0,
      view: false,
      data: new Uint8Array(),
      master: undefined,
    }
    const handover: Message = { type: 'handover', session: 1, term: 3 as Term, lsn: 4 as Lsn, grouped: true }
    for (const good of [request, canvass, hello, handover]) {
      assert.equal(decodeMessage(encodeMessage(good)).ok, true, good.type)
    }
    const bad: Message[] = [
      { ...request, term: 2 as Term },
      { ...request, session: 5 },
      { ...canvass, session: 5 },
      { ...hello, session: 5 },
      { ...hello, committedLsn: 5 as Lsn },
      { ...hello, last: start },
      { ...hello, master: { site: 'b', term: 0 as Term, address: '' } },
      { ...handover, session: 0 },
      { ...handover, lsn: 0 as Lsn },
    ]
    for (const each of bad) assert.equal(decodeMessage(encodeMessage(each)).ok, false, JSON.stringify(each))
  })

  test('a number beyond the safe integers and a term beyond its range are refused', () => {
    const bytes = encodeMessage({
      type: 'gapRequest',
      session: 1,
      term: 1 as Term,
      from: 1 as Lsn,
      to: 0 as Lsn,
    })
    const far = bytes.slice()
    far.fill(0xff, 12, 20)
    assert.equal(decodeMessage(far).ok, false)
    const late = bytes.slice()
    late.fill(0xff, 8, 12)
    assert.equal(decodeMessage(late).ok, false)
  })

  test('a text that is too long is cut at a whole character', () => {
    const detach = {
      type: 'detach' as const,
      session: 1,
      term: 1 as Term,
      fromMaster: true,
      code: 'DETACHED',
      master: '',
    }
    const message_ = decoded(encodeMessage({ ...detach, message: 'ü'.repeat(1_000) }))
    assert.equal(
      message_.type === 'detach' && message_.message,
      'ü'.repeat(messageLimits.messageBytesMax / 2),
    )
  })

  test('the longest Join fits into a frame of the handshake', () => {
    const site = 's'.repeat(limits.siteIdBytesMax)
    const history = Array.from({ length: limits.historyEntriesMax + 5 }, (_, i) => ({
      term: (i + 1) as Term,
      firstLsn: (i + 1) as Lsn,
      site,
    }))
    const last = { lsn: 9_000 as Lsn, term: (limits.historyEntriesMax + 5) as Term, crc: 1 }
    const reign = { term: 1 as Term, firstLsn: 1 as Lsn, site }
    const bytes = encodeMessage({
      type: 'join',
      session: 1,
      term: last.term,
      databaseId: site,
      site,
      incarnation: site,
      address: 'a'.repeat(messageLimits.addressBytesMax),
      member: true,
      leaseMs: 1000,
      history,
      firstLsn: 1 as Lsn,
      last,
      durableLsn: 1 as Lsn,
      permanentLsn: 1 as Lsn,
      replace: true,
      snapshot: true,
      forceSync: true,
      view: true,
      mixed: { lsn: 1 as Lsn, reign },
      resume: {
        databaseId: site,
        base: { lsn: 1 as Lsn, term: 1 as Term, crc: 1 },
        reign,
        newest: { lsn: 1 as Lsn, reign },
        afterKey: new Uint8Array(messageLimits.storeKeyBytesMax),
      },
    })
    assert.ok(bytes.length <= limits.handshakeFrameBytesMax)
    const back = decoded(bytes)
    assert.equal(back.type === 'join' && back.history.length, limits.historyEntriesMax)
  })

  test('a code that we do not know becomes one that we do', () => {
    assert.equal(knownCode('NO_QUORUM', 'DETACHED'), 'NO_QUORUM')
    assert.equal(knownCode('toString', 'DETACHED'), 'DETACHED')
  })
})
