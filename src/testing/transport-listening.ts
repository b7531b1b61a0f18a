// Listeners and those who connect to them.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { utf8Encode } from '../base/bytes.ts'
import { parseAddress } from '../transport/address.ts'
import { hasCode, type Tested } from './pair.ts'
import { sendUntil } from './recorder.ts'

export function testListening({
  name,
  transport,
  isReliable,
  freshAddress,
  deadAddress,
  pairOf,
}: Tested): void {
  describe(`transport ${name}: listening and connecting`, () => {
    test('a listener names its address; two cannot have one; after the close it is free', async (t) => {
      const first = await transport.listen({
        address: freshAddress(),
        onConnection: (c) => c.destroy(),
      })
      const address = parseAddress(first.address)
      assert.equal(address.scheme, transport.scheme)
      assert.equal(address.text, first.address)
      await assert.rejects(
        transport.listen({ address, onConnection: (c) => c.destroy() }),
        hasCode('ADDRESS_IN_USE'),
      )
      await first.close()
      await first.close()
      await assert.rejects(transport.connect({ address, connectTimeoutMs: 5000 }), hasCode('CONNECT_FAILED'))
      const second = await transport.listen({ address, onConnection: (c) => c.destroy() })
      t.after(() => second.close())
      assert.equal(second.address, first.address)
    })

    test('closing the listener leaves its connections open', async (t) => {
      const { near, farSide, listener } = await pairOf(t)
      await listener.close()
      await sendUntil(() => near.send(utf8Encode('still here')), {
        at: farSide,
        condition: (side) => side.messages.length >= 1,
        what: 'the message',
        isReliable,
      })
    })

    test('connections know both ends and the version', async (t) => {
      const { near, far, listener } = await pairOf(t)
      assert.equal(near.remote, listener.address)
      assert.equal(near.local, undefined)
      assert.equal(far.local, listener.address)
      assert.ok(far.remote.startsWith(`${transport.scheme}:`))
      assert.equal(near.protocolVersion, far.protocolVersion)
    })

    test('where nobody listens a connect fails with CONNECT_FAILED', async () => {
      const address = await deadAddress()
      await assert.rejects(transport.connect({ address, connectTimeoutMs: 5000 }), hasCode('CONNECT_FAILED'))
    })

    test('an aborted connect is ABORTED, before and while it is under way', async (t) => {
      const { listener } = await pairOf(t)
      const address = parseAddress(listener.address)
      const reason = new Error('changed my mind')
      await assert.rejects(
        transport.connect({ address, connectTimeoutMs: 5000, signal: AbortSignal.abort(reason) }),
        (error) => hasCode('ABORTED')(error) && (error as Error).cause === reason,
      )
      const controller = new AbortController()
      const connecting = transport.connect({ address, connectTimeoutMs: 5000, signal: controller.signal })
      controller.abort(reason)
      await assert.rejects(connecting, hasCode('ABORTED'))
      const open = new AbortController()
      const near = await transport.connect({ address, connectTimeoutMs: 5000, signal: open.signal })
      open.abort()
      assert.equal(near.send(utf8Encode('a later abort changes nothing')), true)
      near.destroy()
    })
  })
}
