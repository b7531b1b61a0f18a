// How a connection ends, and what each side hears of it.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { utf8Encode } from '../base/bytes.ts'
import { parseAddress } from '../transport/address.ts'
import { hasCode, type Tested } from './pair.ts'
import { Recorder } from './recorder.ts'

export function testEnds({ name, transport, skip, pairOf }: Tested): void {
  describe(`transport ${name}: the end`, () => {
    test('in order: what was sent arrives first, and neither side reports an error', { skip }, async (t) => {
      const { near, nearSide, farSide } = await pairOf(t)
      for (let i = 0; i < 100; i++) near.send(utf8Encode(String(i)), new Uint8Array(1000))
      const ended = near.end()
      assert.equal(near.send(utf8Encode('late')), false)
      await ended
      await farSide.until((side) => side.closes === 1, 'the end')
      assert.equal(farSide.messages.length, 100)
      assert.equal(farSide.closedWith, undefined)
      await nearSide.until((side) => side.closes === 1, 'the end on this side')
      assert.equal(nearSide.closedWith, undefined)
      await near.end()
      assert.equal(nearSide.closes, 1)
    })

    test('by both sides at once comes to its end', async (t) => {
      const { near, nearSide, far, farSide } = await pairOf(t)
      near.send(utf8Encode('x'))
      far.send(utf8Encode('y'))
      await Promise.all([near.end(), far.end()])
      await nearSide.until((side) => side.closes === 1, 'the end')
      await farSide.until((side) => side.closes === 1, 'the end')
      assert.equal(nearSide.closedWith ?? farSide.closedWith, undefined)
    })

    test('an ending side drops what comes in and still takes it', async (t) => {
      const { near, nearSide, far, farSide } = await pairOf(t)
      const ended = near.end()
      far.send(utf8Encode('too late'), new Uint8Array(200_000))
      await ended
      await farSide.until((side) => side.closes === 1, 'the end')
      assert.equal(nearSide.messages.length, 0)
    })

    test('by destroy: this side reports the reason, the other one learns of the end', async (t) => {
      const { near, nearSide, farSide } = await pairOf(t)
      near.destroy(new Error('the reason'))
      near.destroy(new Error('another'))
      await nearSide.until((side) => side.closes === 1, 'the end')
      hasCode('CONNECTION_CLOSED')(nearSide.closedWith)
      assert.equal(String(nearSide.closedWith?.cause), 'Error: the reason')
      await farSide.until((side) => side.closes === 1, 'the end on the other side')
      assert.equal(near.send(utf8Encode('x')), false)
      assert.equal(nearSide.closes, 1)
    })

    test('from within a message handler: nothing more is delivered', { skip }, async (t) => {
      const { near, far, farSide } = await pairOf(t)
      farSide.onMessage = () => far.destroy()
      for (let i = 0; i < 10; i++) near.send(utf8Encode(String(i)))
      await farSide.until((side) => side.closes === 1, 'the end')
      assert.equal(farSide.messages.length, 1)
      assert.equal(farSide.closedWith, undefined)
    })

    test('is told to handlers that come after it', async (t) => {
      const { listener } = await pairOf(t)
      const late = await transport.connect({
        address: parseAddress(listener.address),
        connectTimeoutMs: 5000,
      })
      late.destroy()
      await new Promise((resolve) => setTimeout(resolve, 10))
      const side = new Recorder()
      late.handlers = side
      await side.until((s) => s.closes === 1, 'the end')
    })
  })
}
