// Messages come as they were sent.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { compareBytes, utf8Encode } from '../base/bytes.ts'
import { limits } from '../base/limits.ts'
import { Prng } from '../base/prng.ts'
import { parseAddress } from '../transport/address.ts'
import type { Connection } from '../transport/transport.ts'
import { hasCode, type Tested } from './pair.ts'
import { type ReceivedMessage, Recorder, sendUntil } from './recorder.ts'

export function testMessages(tested: Tested): void {
  const { name, transport, skip, isReliable, largestMessageBytes, arranged, freshAddress, pairOf } = tested
  describe(`transport ${name}: messages`, () => {
    test('arrive whole and in order, both ways, whatever their size', { skip }, async (t) => {
      const { near, nearSide, far, farSide } = await pairOf(t)
      near.acceptFramesUpTo(10_000_000)
      far.acceptFramesUpTo(10_000_000)
      const prng = new Prng(1)
      const sizes = [
        0, 1, 11, 12, 13, 63, 64, 65, 4095, 4096, 4097, 65_535, 65_536, 65_537, 300_000, 1_000_000,
      ]
      const sent = Array.from({ length: 200 }, () => ({
        control: prng.bytes(prng.pick([0, 1, 64, 65, 5000, prng.below(100)])),
        payload: prng.bytes(prng.pick([0, 0, 0, prng.below(200), prng.pick(sizes)])),
      }))
      for (const { control, payload } of sent) {
        near.send(control, payload)
        far.send(control, payload)
      }
      for (const side of [nearSide, farSide]) {
        await side.until((s) => s.messages.length === sent.length, 'all messages')
        const taken = arranged(side.messages)
        arranged(sent).forEach((message, i) => {
          const received = taken[i]
          assert.ok(received !== undefined)
          assert.equal(compareBytes(received.control, message.control), 0, `control ${i}`)
          assert.equal(compareBytes(received.payload, message.payload), 0, `payload ${i}`)
        })
      }
    })

    test('arrive whole and unaltered one by one, whatever their size', async (t) => {
      const { near, far, farSide } = await pairOf(t)
      far.acceptFramesUpTo(1_000_000)
      const prng = new Prng(4)
      for (const [i, bytes] of [0, 1, 100, 1100, 1200, 1300, 1500, 9000, 65_536, 300_000].entries()) {
        const control = prng.bytes(20)
        const payload = prng.bytes(bytes)
        const isIt = (message: ReceivedMessage): boolean => compareBytes(message.control, control) === 0
        await sendUntil(() => near.send(control, payload), {
          at: farSide,
          condition: (side) => side.messages.some(isIt),
          what: `message ${i} of ${bytes} bytes`,
          isReliable,
        })
        const received = farSide.messages.find(isIt)
        assert.equal(compareBytes((received as ReceivedMessage).payload, payload), 0)
      }
    })

    test(`of ${largestMessageBytes / 1_048_576} MiB arrive, and bytes and times are counted`, {
      skip,
    }, async (t) => {
      const { near, far, farSide } = await pairOf(t)
      far.acceptFramesUpTo(limits.frameBytesMax)
      const payload = new Prng(2).bytes(largestMessageBytes)
      const before = far.lastHeardMs
      near.send(utf8Encode('big'), payload)
      await farSide.until((side) => side.messages.length === 1, 'the big message')
      assert.equal(compareBytes((farSide.messages[0] as { payload: Uint8Array }).payload, payload), 0)
      assert.ok(near.bytesOut >= payload.length && far.bytesIn >= payload.length)
      assert.ok(far.lastHeardMs >= before)
    })

    test('that are tiny arrive in their thousands', { skip }, async (t) => {
      const { near, far, farSide } = await pairOf(t)
      const count = 20_000
      let sum = 0
      farSide.onMessage = (control) => {
        sum += control[0] as number
      }
      for (let i = 0; i < count; i++) near.send(Uint8Array.of(i % 7))
      await farSide.until((side) => side.messages.length === count, 'all messages')
      assert.equal(
        sum,
        Array.from({ length: count }, (_, i) => i % 7).reduce((a, b) => a + b),
      )
      assert.equal(far.bufferedBytes, 0)
    })

    test('are not delivered before there are handlers, and are not lost either', { skip }, async (t) => {
      const received = new Recorder()
      let far: Connection | undefined
      const listener = await transport.listen({
        address: freshAddress(),
        onConnection(connection) {
          far = connection
          connection.handlers = received
          connection.send(utf8Encode('greeting'))
        },
      })
      const near = await transport.connect({
        address: parseAddress(listener.address),
        connectTimeoutMs: 5000,
      })
      t.after(async () => {
        near.destroy()
        far?.destroy()
        await listener.close()
      })
      near.send(utf8Encode('first'))
      await received.until((side) => side.messages.length === 1, 'the first message')
      const nearSide = new Recorder()
      near.handlers = nearSide
      await nearSide.until((side) => side.messages.length === 1, 'the greeting')
      assert.deepEqual(nearSide.texts, ['greeting'])
    })

    test('above the bound of the receiver end the connection with FRAME_INVALID, and only that one', async (t) => {
      const { near, nearSide, far, farSide, listener } = await pairOf(t)
      far.acceptFramesUpTo(1000)
      await sendUntil(() => near.send(new Uint8Array(500), new Uint8Array(500)), {
        at: farSide,
        condition: (side) => side.messages.length >= 1,
        what: 'the message at the bound',
        isReliable,
      })
      await sendUntil(() => near.send(new Uint8Array(500), new Uint8Array(501)), {
        at: farSide,
        condition: (side) => side.closes === 1,
        what: 'the end',
        isReliable,
      })
      hasCode('FRAME_INVALID')(farSide.closedWith)
      await nearSide.until((side) => side.closes === 1, 'the end at the sender')
      const again = await transport.connect({
        address: parseAddress(listener.address),
        connectTimeoutMs: 5000,
      })
      again.destroy()
    })
  })
}
