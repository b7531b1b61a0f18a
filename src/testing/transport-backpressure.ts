// Whoever takes nothing stops whoever sends, and little is held meanwhile.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { utf8Decode, utf8Encode } from '../base/bytes.ts'
import { Prng } from '../base/prng.ts'
import type { Tested } from './pair.ts'

export function testBackpressure({ name, skip, arranged, pairOf }: Tested): void {
  describe(`transport ${name}: backpressure`, () => {
    test('a receiver that pauses stops a sender that heeds false; drain sends it on', { skip }, async (t) => {
      const { near, nearSide, far, farSide } = await pairOf(t)
      far.pause()
      // Of chance, and what comes again does so after more than a window: no compression makes it smaller.
      const bytes = 100_000
      const random = new Prng(3).bytes(60 * bytes)
      const payloadOf = (i: number): Uint8Array => random.subarray((i % 60) * bytes, ((i % 60) + 1) * bytes)
      const count = 250
      let sent = 0
      let mostBuffered = 0
      const sendOn = (): void => {
        while (sent < count) {
          const hasRoom = near.send(Uint8Array.of(sent & 255), payloadOf(sent))
          sent++
          mostBuffered = Math.max(mostBuffered, near.bufferedBytes)
          if (!hasRoom) return
        }
      }
      nearSide.drain = sendOn
      let last = -1
      sendOn()
      while (sent !== last) {
        last = sent
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
      assert.ok(sent < count, 'the sender was stopped')
      assert.equal(farSide.messages.length, 0)
      assert.ok(near.bufferedBytes > 0)
      far.resume()
      await farSide.until((side) => side.messages.length === count, 'all messages')
      const expected = Array.from({ length: count }, (_, i) => ({
        control: Uint8Array.of(i & 255),
        payload: payloadOf(i),
      }))
      const taken = arranged(farSide.messages)
      arranged(expected).forEach(({ control }, i) => {
        assert.equal(taken[i]?.control[0], control[0])
      })
      assert.ok(mostBuffered < 2_000_000, `${mostBuffered} bytes were buffered`)
    })

    test('a pause inside a message handler holds back the very next message', { skip }, async (t) => {
      const { near, far, farSide } = await pairOf(t)
      farSide.onMessage = () => far.pause()
      for (let i = 0; i < 5; i++) near.send(utf8Encode(String(i)))
      for (let i = 1; i <= 5; i++) {
        await farSide.until((side) => side.messages.length >= i, `message ${i}`)
        await new Promise((resolve) => setImmediate(resolve))
        assert.equal(farSide.messages.length, i)
        far.resume()
      }
      const texts = arranged(farSide.messages).map(({ control }) => utf8Decode(control))
      assert.deepEqual(texts, ['0', '1', '2', '3', '4'])
    })

    test('a resume inside a message handler does not nest deliveries', { skip }, async (t) => {
      const { near, far, farSide } = await pairOf(t)
      let depth = 0
      let deepest = 0
      farSide.onMessage = () => {
        deepest = Math.max(deepest, ++depth)
        far.pause()
        far.resume()
        depth--
      }
      for (let i = 0; i < 100; i++) near.send(utf8Encode(String(i)))
      await farSide.until((side) => side.messages.length === 100, 'all messages')
      assert.equal(deepest, 1)
    })
  })
}
