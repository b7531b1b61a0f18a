// The streams of the real host: bytes in order, gathered writes, back-pressure, and the codes of failures.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { isCoterieError } from '../../src/base/errors.ts'
import type { Stream, StreamHandlers } from '../../src/env/host.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'

const { streams, timers } = nodeHost()

async function pair(t: TestContext): Promise<{ near: Stream; far: Stream }> {
  let accept: (stream: Stream) => void = () => undefined
  const accepted = new Promise<Stream>((resolve) => {
    accept = resolve
  })
  const listener = await streams.listen({ host: '127.0.0.1', port: 0 }, (stream) => accept(stream))
  const near = await streams.connect({ host: '127.0.0.1', port: listener.port })
  const far = await accepted
  t.after(async () => {
    near.destroy()
    far.destroy()
    await listener.close()
  })
  return { near, far }
}

function collector(): { handlers: StreamHandlers; chunks: Uint8Array[]; closed: Promise<Error | undefined> } {
  const chunks: Uint8Array[] = []
  let report: (error: Error | undefined) => void = () => undefined
  const closed = new Promise<Error | undefined>((resolve) => {
    report = resolve
  })
  const handlers: StreamHandlers = {
    data: (bytes) => void chunks.push(bytes),
    drain: () => undefined,
    closed: (error) => report(error),
  }
  return { handlers, chunks, closed }
}

test('what one side writes the other reads, and an end is orderly on both', async (t) => {
  const { near, far } = await pair(t)
  const nearSide = collector()
  const farSide = collector()
  near.handlers = nearSide.handlers
  near.write([Buffer.from('a'), Buffer.from('bc')])
  near.write([Buffer.from('def')])
  near.end()
  await new Promise<void>((resolve) => timers.soon(resolve))
  far.handlers = farSide.handlers
  assert.equal(await farSide.closed, undefined)
  assert.equal(await nearSide.closed, undefined)
  assert.equal(Buffer.concat(farSide.chunks).toString(), 'abcdef')
  assert.match(far.remote, /^127\.0\.0\.1:\d+$/)
})

test('writes of one turn arrive in one chunk', async (t) => {
  const { near, far } = await pair(t)
  const nearSide = collector()
  const farSide = collector()
  near.handlers = nearSide.handlers
  far.handlers = farSide.handlers
  for (let i = 0; i < 100; i++) near.write([Uint8Array.of(i), Uint8Array.of(i)])
  near.end()
  await farSide.closed
  assert.equal(farSide.chunks.length, 1)
  assert.equal(farSide.chunks[0]?.length, 200)
})

test('a reader that pauses makes the writer wait, and drain tells when to go on', async (t) => {
  const { near, far } = await pair(t)
  let received = 0
  let sent = 0
  let resumed = false
  const drained = new Promise<void>((resolve) => {
    const drain = (): void => {
      if (near.bufferedBytes === 0 && resumed) resolve()
    }
    near.handlers = { data: () => undefined, drain, closed: () => undefined }
  })
  far.handlers = {
    data: (bytes) => {
      received += bytes.length
    },
    drain: () => undefined,
    closed: () => undefined,
  }
  far.pause()
  const block = new Uint8Array(1_048_576)
  for (let blocks = 0; blocks < 64; blocks++) {
    near.write([block])
    sent += block.length
    await new Promise<void>((resolve) => timers.soon(resolve))
  }
  assert.ok(near.bufferedBytes > 0)
  assert.ok(received < sent)
  resumed = true
  far.resume()
  await drained
  assert.equal(near.bufferedBytes, 0)
})

test('a stream that closed before it had handlers still reports its end', async (t) => {
  const { near } = await pair(t)
  const side = collector()
  near.destroy()
  await new Promise<void>((resolve) => timers.soon(resolve))
  near.handlers = side.handlers
  assert.equal(await side.closed, undefined)
})

test('a port in use is ADDRESS_IN_USE, and is free after the close', async () => {
  const first = await streams.listen({ host: '127.0.0.1', port: 0 }, () => undefined)
  const again = { host: '127.0.0.1', port: first.port }
  await assert.rejects(
    streams.listen(again, () => undefined),
    (error) => isCoterieError(error, 'ADDRESS_IN_USE'),
  )
  await first.close()
  const second = await streams.listen(again, () => undefined)
  assert.equal(second.port, first.port)
  await second.close()
  await second.close()
})

test('an address that cannot be is ADDRESS_INVALID', async () => {
  for (const bad of [
    { host: '127.0.0.1', port: 70_000 },
    { host: '192.0.2.1', port: 0 },
  ]) {
    await assert.rejects(
      streams.listen(bad, () => undefined),
      (error) => isCoterieError(error, 'ADDRESS_INVALID'),
    )
  }
  await assert.rejects(streams.connect({ host: '127.0.0.1', port: 70_000 }), (error) =>
    isCoterieError(error, 'ADDRESS_INVALID'),
  )
})

test('a refused connect is CONNECT_FAILED with its cause; an aborted one is ABORTED', async () => {
  const listener = await streams.listen({ host: '127.0.0.1', port: 0 }, () => undefined)
  const { port } = listener
  await listener.close()
  await assert.rejects(streams.connect({ host: '127.0.0.1', port }), (error) => {
    assert.ok(isCoterieError(error, 'CONNECT_FAILED'))
    assert.equal((error.cause as NodeJS.ErrnoException).code, 'ECONNREFUSED')
    return true
  })
  const controller = new AbortController()
  const connecting = streams.connect({ host: '127.0.0.1', port, signal: controller.signal })
  controller.abort()
  await assert.rejects(connecting, (error) => isCoterieError(error, 'ABORTED'))
  await assert.rejects(streams.connect({ host: '127.0.0.1', port, signal: AbortSignal.abort() }), (error) =>
    isCoterieError(error, 'ABORTED'),
  )
})
