// What every transport must do, run over each of them. Waits are for conditions, with a bound that only a broken
// transport reaches.

import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { utf8Decode, utf8Encode } from '../../src/base/bytes.ts'
import { type CoterieError, type ErrorCode, isCoterieError } from '../../src/base/errors.ts'
import { limits } from '../../src/base/limits.ts'
import { Prng } from '../../src/base/prng.ts'
import { type Address, parseAddress } from '../../src/transport/address.ts'
import type { Connection, ConnectionHandlers, Listener, Transport } from '../../src/transport/transport.ts'

export interface TransportUnderTest {
  readonly name: string
  readonly transport: Transport
  /** An address to listen on that no other test uses. */
  freshAddress(): Address
  /** An address where nobody listens. */
  deadAddress(): Promise<Address>
}

/** Everything that a connection told, for waiting on. */
export class Recorder implements ConnectionHandlers {
  readonly messages: { readonly control: Uint8Array; readonly payload: Uint8Array }[] = []
  drains = 0
  closes = 0
  closedWith: CoterieError | undefined
  onMessage: ((control: Uint8Array, payload: Uint8Array) => void) | undefined
  #changed: (() => void)[] = []

  message(control: Uint8Array, payload: Uint8Array): void {
    this.messages.push({ control, payload })
    this.onMessage?.(control, payload)
    this.#wake()
  }

  drain(): void {
    this.drains++
    this.#wake()
  }

  closed(error: CoterieError | undefined): void {
    this.closes++
    this.closedWith = error
    this.#wake()
  }

  get texts(): string[] {
    return this.messages.map(({ control }) => utf8Decode(control))
  }

  async until(condition: (recorder: this) => boolean, what: string): Promise<void> {
    const failed = setTimeout(() => {
      this.#failure = new Error(`waited in vain for ${what}`)
      this.#wake()
    }, 10_000)
    try {
      while (!condition(this)) {
        await new Promise<void>((resolve) => this.#changed.push(resolve))
        if (this.#failure !== undefined) throw this.#failure
      }
    } finally {
      clearTimeout(failed)
    }
  }

  #failure: Error | undefined

  #wake(): void {
    const changed = this.#changed
    this.#changed = []
    for (const resolve of changed) resolve()
  }
}

export interface Pair {
  readonly near: Connection
  readonly nearSide: Recorder
  readonly far: Connection
  readonly farSide: Recorder
  readonly listener: Listener
}

export async function connectPair(t: TestContext, transport: Transport, address: Address): Promise<Pair> {
  const farSide = new Recorder()
  const nearSide = new Recorder()
  let accepted: (connection: Connection) => void = () => undefined
  const accepting = new Promise<Connection>((resolve) => {
    accepted = resolve
  })
  const listener = await transport.listen({
    address,
    onConnection(connection) {
      connection.handlers = farSide
      accepted(connection)
    },
  })
  const near = await transport.connect({ address: parseAddress(listener.address), connectTimeoutMs: 5000 })
  near.handlers = nearSide
  const far = await accepting
  t.after(async () => {
    near.destroy()
    far.destroy()
    await listener.close()
  })
  return { near, nearSide, far, farSide, listener }
}

export function hasCode(code: ErrorCode): (error: unknown) => boolean {
  return (error) => {
    assert.ok(isCoterieError(error, code), `${String(error)} has the code ${code}`)
    return true
  }
}

export function transportConformance(under: TransportUnderTest): void {
  const { transport } = under
  const pairOf = (t: TestContext): Promise<Pair> => connectPair(t, transport, under.freshAddress())

  describe(`transport ${under.name}: messages`, () => {
    test('arrive whole and in order, both ways, whatever their size', async (t) => {
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
        sent.forEach((message, i) => {
          const received = side.messages[i]
          assert.ok(received !== undefined)
          assert.equal(Buffer.compare(received.control, message.control), 0, `control ${i}`)
          assert.equal(Buffer.compare(received.payload, message.payload), 0, `payload ${i}`)
        })
      }
    })

    test('of 30 MiB arrive, and bytes and times are counted', async (t) => {
      const { near, far, farSide } = await pairOf(t)
      far.acceptFramesUpTo(limits.frameBytesMax)
      const payload = new Prng(2).bytes(30 * 1_048_576)
      const before = far.lastHeardMs
      near.send(utf8Encode('big'), payload)
      await farSide.until((side) => side.messages.length === 1, 'the big message')
      assert.equal(Buffer.compare((farSide.messages[0] as { payload: Uint8Array }).payload, payload), 0)
      assert.ok(near.bytesOut >= payload.length && far.bytesIn >= payload.length)
      assert.ok(far.lastHeardMs >= before)
    })

    test('that are tiny arrive in their thousands', async (t) => {
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

    test('are not delivered before there are handlers, and are not lost either', async (t) => {
      const received = new Recorder()
      let far: Connection | undefined
      const listener = await transport.listen({
        address: under.freshAddress(),
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
      near.send(new Uint8Array(500), new Uint8Array(500))
      await farSide.until((side) => side.messages.length === 1, 'the message at the bound')
      near.send(new Uint8Array(500), new Uint8Array(501))
      await farSide.until((side) => side.closes === 1, 'the end')
      hasCode('FRAME_INVALID')(farSide.closedWith)
      await nearSide.until((side) => side.closes === 1, 'the end at the sender')
      const again = await transport.connect({
        address: parseAddress(listener.address),
        connectTimeoutMs: 5000,
      })
      again.destroy()
    })
  })

  describe(`transport ${under.name}: backpressure`, () => {
    test('a receiver that pauses stops a sender that heeds false; drain sends it on', async (t) => {
      const { near, nearSide, far, farSide } = await pairOf(t)
      far.pause()
      // Of chance: no compression makes it smaller.
      const payload = new Prng(3).bytes(100_000)
      const count = 600
      let sent = 0
      let mostBuffered = 0
      const sendOn = (): void => {
        while (sent < count) {
          const hasRoom = near.send(Uint8Array.of(sent & 255), payload)
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
      farSide.messages.forEach(({ control }, i) => {
        assert.equal(control[0], i & 255)
      })
      assert.ok(mostBuffered < 2_000_000, `${mostBuffered} bytes were buffered`)
    })

    test('a pause inside a message handler holds back the very next message', async (t) => {
      const { near, far, farSide } = await pairOf(t)
      farSide.onMessage = () => far.pause()
      for (let i = 0; i < 5; i++) near.send(utf8Encode(String(i)))
      for (let i = 1; i <= 5; i++) {
        await farSide.until((side) => side.messages.length >= i, `message ${i}`)
        await new Promise((resolve) => setImmediate(resolve))
        assert.equal(farSide.messages.length, i)
        far.resume()
      }
      assert.deepEqual(farSide.texts, ['0', '1', '2', '3', '4'])
    })

    test('a resume inside a message handler does not nest deliveries', async (t) => {
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

  describe(`transport ${under.name}: the end`, () => {
    test('in order: what was sent arrives first, and neither side reports an error', async (t) => {
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

    test('from within a message handler: nothing more is delivered', async (t) => {
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

  describe(`transport ${under.name}: listening and connecting`, () => {
    test('a listener names its address; two cannot have one; after the close it is free', async (t) => {
      const first = await transport.listen({
        address: under.freshAddress(),
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
      near.send(utf8Encode('still here'))
      await farSide.until((side) => side.messages.length === 1, 'the message')
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
      const address = await under.deadAddress()
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
