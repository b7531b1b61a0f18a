// What goes by a shared channel and what does not, on messages that the core really makes: the places that
// multicasting.ts looks at are held against the codec here.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Lsn, Term } from '../../src/base/lsn.ts'
import { Multicasting } from '../../src/group/multicasting.ts'
import { decodeMessage, encodeMessage } from '../../src/replication/message-codec.ts'
import type { Connection, SharedChannel } from '../../src/transport/transport.ts'

interface Sent {
  readonly control: Uint8Array
  readonly rec: Uint8Array
}

function channelOf(hearers: number): { channel: SharedChannel; sent: Sent[]; connection: Connection } {
  const sent: Sent[] = []
  const channel: SharedChannel = {
    hearers,
    send: (control, rec) => {
      sent.push({ control, rec })
      return true
    },
  }
  return { channel, sent, connection: { channel } as unknown as Connection }
}

function append(options: { session: number; last: number; term?: number; ackNow?: boolean }): Uint8Array {
  const { session, last, term = 3, ackNow = false } = options
  return encodeMessage({
    type: 'append',
    session,
    term: term as Term,
    previous: { lsn: (last - 1) as Lsn, term: term as Term, crc: 77 },
    lastLsn: last as Lsn,
    committedLsn: 5 as Lsn,
    permanentLsn: 4 as Lsn,
    ackNow,
  })
}

test('a live batch goes to the channel once, and all who hear it are served', () => {
  const multicasting = new Multicasting()
  const { sent, connection } = channelOf(3)
  for (let last = 10; last < 13; last++) {
    const rec = new Uint8Array(8)
    for (const peer of [1, 2, 3]) {
      const control = append({ session: 100 + peer, last })
      assert.equal(multicasting.send(peer, connection, { control, rec }), true)
    }
  }
  assert.equal(sent.length, 3)
})

test('what is older than the last live batch, or is sent to a replica again, goes by its own connection', () => {
  const multicasting = new Multicasting()
  const { sent, connection } = channelOf(3)
  const rec = new Uint8Array(8)
  const send = (peer: number, last: number, bytes = rec): boolean =>
    multicasting.send(peer, connection, { control: append({ session: peer, last }), rec: bytes })
  assert.equal(send(1, 20), true)
  assert.equal(send(1, 20), false, 'a repair of the same batch')
  assert.equal(send(2, 20), true)
  assert.equal(send(3, 19, new Uint8Array(4)), false, 'a replica that catches up')
  assert.equal(send(3, 20, new Uint8Array(4)), false)
  assert.equal(sent.length, 1)
})

test('a message that differs in more than the session is another message', () => {
  const multicasting = new Multicasting()
  const { sent, connection } = channelOf(2)
  const rec = new Uint8Array(8)
  const control = append({ session: 1, last: 20 })
  assert.equal(multicasting.send(1, connection, { control, rec }), true)
  const other = append({ session: 2, last: 20, ackNow: true })
  assert.equal(multicasting.send(2, connection, { control: other, rec }), false)
  const newTerm = append({ session: 1, last: 8, term: 4 })
  assert.equal(multicasting.send(1, connection, { control: newTerm, rec: new Uint8Array(1) }), true)
  assert.equal(sent.length, 2)
})

test('with one hearer, without a channel, and for anything but Append it does nothing', () => {
  const multicasting = new Multicasting()
  const { connection } = channelOf(1)
  const control = append({ session: 1, last: 20 })
  const rec = new Uint8Array(8)
  assert.equal(multicasting.send(1, connection, { control, rec }), false)
  assert.equal(multicasting.send(1, {} as Connection, { control, rec }), false)
  const rows = encodeMessage({
    type: 'snapshotRows',
    session: 1,
    term: 3 as Term,
    index: 1,
    count: 1,
    crc: 1,
  })
  assert.equal(multicasting.send(1, channelOf(2).connection, { control: rows, rec }), false)
})

test('the receiving side puts in the session of its own Join, and takes nothing but Append', () => {
  const multicasting = new Multicasting()
  const control = append({ session: 1, last: 20 })
  assert.equal(multicasting.received(9, control), undefined, 'it has not asked to join')
  const join = encodeMessage({
    type: 'join',
    session: 4242,
    term: 0 as Term,
    site: 's',
    incarnation: 'i',
    address: '',
    firstLsn: 1 as Lsn,
    last: { lsn: 0 as Lsn, term: 0 as Term, crc: 0 },
    durableLsn: 0 as Lsn,
    permanentLsn: 0 as Lsn,
    history: [],
    databaseId: undefined,
    mixed: undefined,
    resume: undefined,
    replace: false,
    snapshot: false,
    forceSync: false,
    view: false,
    member: false,
    leaseMs: 0,
  })
  multicasting.sends(9, join)
  const own = multicasting.received(9, control)
  assert.ok(own !== undefined)
  assert.deepEqual(own, append({ session: 4242, last: 20 }))
  const decoded = decodeMessage(own)
  assert.ok(decoded.ok && decoded.message.session === 4242)
  assert.equal(multicasting.received(9, join), undefined)
  multicasting.forget(9)
  assert.equal(multicasting.received(9, control), undefined)
})
