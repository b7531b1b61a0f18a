// The control endpoint: calls and streams through it, who is let in, and what it survives.

import assert from 'node:assert/strict'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { describe, type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import fc from 'fast-check'
import { CoterieError, isCoterieError } from '../../src/base/errors.ts'
import { ControlClient } from '../../src/cli/control/control-client.ts'
import { type ControlFile, controlFilePath, readControlFile } from '../../src/cli/control/control-file.ts'
import { ControlServer } from '../../src/cli/control/control-server.ts'
import { encodeHead, proofOf } from '../../src/cli/control/protocol.ts'
import { decodeRows, encodeRows } from '../../src/cli/control/rows-codec.ts'
import type { DatabasePort, PortWrite, RowsRequest } from '../../src/cli/port.ts'
import type { DumpRow } from '../../src/cli/records/record.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { parseAddress } from '../../src/transport/address.ts'
import { tcpTransport } from '../../src/transport/tcp-transport.ts'
import type { Connection } from '../../src/transport/transport.ts'
import { atEnd } from '../support/at-end.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

const host = nodeHost()

/** A port that remembers what it was asked and answers from memory. */
class FakePort {
  readonly written: PortWrite[][] = []
  readonly requests: RowsRequest[] = []
  yielded = 0
  ended = false
  batches = 20
  writing: Promise<void> = Promise.resolve()

  get(key: Uint8Array): Promise<Uint8Array | undefined> {
    return Promise.resolve(key[0] === 0xff ? undefined : Uint8Array.of(...key, 0x00, 0xff))
  }

  async write(writes: readonly PortWrite[]): Promise<unknown> {
    this.written.push(
      writes.map(({ store, key, value }) => ({ store, key: key.slice(), value: value?.slice() })),
    )
    await this.writing
    if (writes[0]?.store === 'refused') {
      throw new CoterieError('NOT_MASTER', 'this is a replica', { details: { master: 'tcp://127.0.0.1:1' } })
    }
    if (writes[0]?.store === 'broken') throw new Error('a plain error')
    return { lsn: 7, term: 1, token: 't', acks: 1, detached: [] }
  }

  async *rows(request: RowsRequest): AsyncGenerator<DumpRow[]> {
    this.requests.push(request)
    try {
      for (let i = 0; i < this.batches; i++) {
        this.yielded++
        yield [{ store: undefined, key: Uint8Array.of(i + 1), value: new Uint8Array(10) }]
        await delay(0)
      }
    } finally {
      this.ended = true
    }
  }

  async verify(onProgress: (done: number, total?: number) => void): Promise<unknown> {
    onProgress(1, 2)
    onProgress(2, 2)
    return await Promise.resolve({ log: {}, store: {} })
  }
}

async function startServer(
  t: TestContext,
): Promise<{ folder: string; port: FakePort; server: ControlServer }> {
  const folder = withTempFolder(t)
  const port = new FakePort()
  const server = await ControlServer.start({ host, location: folder, port: port as unknown as DatabasePort })
  atEnd(t, () => server.stop())
  return { folder, port, server }
}

async function connected(t: TestContext, folder: string): Promise<ControlClient> {
  const client = await ControlClient.connect(folder, host)
  assert.ok(client !== undefined, 'the endpoint answers')
  atEnd(t, () => client.close())
  return client
}

const signal = new AbortController().signal
const file = (folder: string): ControlFile =>
  JSON.parse(readFileSync(controlFilePath(folder), 'utf8')) as ControlFile

describe('through the endpoint', () => {
  test('reads, writes, progress and errors arrive as they are', async (t) => {
    const { folder, port } = await startServer(t)
    const client = await connected(t, folder)
    assert.equal(client.holderPid, process.pid)
    assert.deepEqual(
      Buffer.from((await client.get(Uint8Array.of(1, 2), {})) ?? []),
      Buffer.from([1, 2, 0, 0xff]),
    )
    assert.equal(await client.get(Uint8Array.of(0xff), {}), undefined)
    const receipt = await client.write([{ store: 's', key: Uint8Array.of(1), value: undefined }], {
      acks: 'none',
    })
    assert.equal(receipt.lsn, 7)
    assert.deepEqual(port.written[0]?.[0]?.value, undefined)
    await assert.rejects(
      client.write([{ store: 'refused', key: Uint8Array.of(1), value: undefined }], {}),
      (error) => {
        assert.ok(isCoterieError(error, 'NOT_MASTER'))
        assert.equal(error.retryable, true)
        assert.deepEqual(error.details, { master: 'tcp://127.0.0.1:1' })
        return true
      },
    )
    await assert.rejects(client.write([{ store: 'broken', key: Uint8Array.of(1), value: undefined }], {}), {
      message: 'a plain error',
    })
    const progress: unknown[] = []
    await client.verify((done, total) => progress.push([done, total]))
    assert.deepEqual(progress, [
      [1, 2],
      [2, 2],
    ])
  })

  test('a stream comes whole and in order, with its bounds as bytes', async (t) => {
    const { folder, port } = await startServer(t)
    const client = await connected(t, folder)
    const keys: number[] = []
    const request = { stores: [undefined, 's'], gte: Uint8Array.of(0, 0xff), values: true, limit: 5 }
    for await (const batch of client.rows(request, signal))
      for (const row of batch) keys.push(row.key[0] ?? 0)
    assert.deepEqual(
      keys,
      Array.from({ length: 20 }, (_, i) => i + 1),
    )
    const [asked] = port.requests
    assert.deepEqual(asked?.stores, [undefined, 's'])
    assert.deepEqual(Buffer.from(asked?.gte ?? []), Buffer.from([0, 0xff]))
    assert.equal(asked?.limit, 5)
  })

  test('a slow reader of a stream holds its source back, and leaving it ends the source', async (t) => {
    const { folder, port } = await startServer(t)
    port.batches = 100_000
    const client = await connected(t, folder)
    for await (const batch of client.rows({ stores: [undefined], values: true }, signal)) {
      assert.equal(batch.length, 1)
      await delay(100)
      break
    }
    await waitUntil(() => port.ended, { what: 'the source has ended' })
    assert.ok(port.yielded <= 10, `${port.yielded} batches were read ahead`)
  })

  test('a server that stops ends the calls; a write that was under way has an unknown outcome', async (t) => {
    const { folder, port, server } = await startServer(t)
    const client = await connected(t, folder)
    let release = (): void => undefined
    port.writing = new Promise((resolve) => {
      release = resolve
    })
    atEnd(t, () => release())
    const write = client.write([{ store: undefined, key: Uint8Array.of(1), value: undefined }], {})
    write.catch(() => undefined)
    await waitUntil(() => port.written.length === 1, { what: 'the write has arrived' })
    await server.stop()
    await assert.rejects(write, { code: 'OUTCOME_UNKNOWN' })
    await assert.rejects(client.status(), { code: 'CONNECTION_CLOSED' })
    assert.equal(await ControlClient.connect(folder, host), undefined)
  })
})

describe('who is let in', () => {
  test('control.json is for its owner only, and goes with the server', async (t) => {
    const { folder, server } = await startServer(t)
    assert.equal(statSync(controlFilePath(folder)).mode & 0o777, 0o600)
    assert.equal((await readControlFile(folder))?.pid, process.pid)
    await server.stop()
    assert.equal(await readControlFile(folder), undefined)
  })

  test('a wrong secret is refused before any call is heard', async (t) => {
    const { folder, port } = await startServer(t)
    const content = file(folder)
    writeFileSync(controlFilePath(folder), JSON.stringify({ ...content, secret: '0'.repeat(64) }))
    assert.equal(await ControlClient.connect(folder, host), undefined)
    assert.equal(port.written.length, 0)
  })

  test('a proof by the wrong secret, no proof, or a call before it, ends the connection', async (t) => {
    const { folder, port } = await startServer(t)
    const write = { type: 'call', id: 1, method: 'write', params: {} } as const
    const rows = encodeRows([{ store: undefined, key: Uint8Array.of(1), value: undefined }])
    const hello = { type: 'hello', protocol: 'coterie-control', version: 1, nonce: 'n' } as const
    const steps: readonly ((peer: RawPeer) => Promise<void>)[] = [
      (peer) => peer.say(write, rows),
      async (peer) => {
        await peer.say(hello)
        await peer.say(write, rows)
      },
      async (peer) => {
        await peer.say(hello)
        await peer.heard(1)
        const nonce = String(peer.messages[0]?.nonce)
        await peer.say({ type: 'proof', proof: proofOf('wrong', 'client', 'n', nonce) })
        await peer.say(write, rows)
      },
      async (peer) => {
        await peer.say(hello)
        await peer.heard(1)
        // What the server said of itself is no proof of the client.
        await peer.say({ type: 'proof', proof: String(peer.messages[0]?.proof) })
        await peer.say(write, rows)
      },
      (peer) => peer.say({ ...hello, version: 99 }),
      (peer) => peer.say({ ...hello, nonce: 'x'.repeat(5000) }),
    ]
    for (const [i, step] of steps.entries()) {
      const peer = await RawPeer.connect(t, file(folder).address)
      await step(peer)
      await waitUntil(() => peer.closed, { what: `connection ${i} is closed` })
    }
    assert.equal(port.written.length, 0)
    const client = await connected(t, folder)
    assert.equal((await client.write(decodeRows(rows), {})).lsn, 7)
  })

  test('a file whose process is gone, or that is none, is ignored', async (t) => {
    const { folder } = await startServer(t)
    const content = file(folder)
    for (const text of [JSON.stringify({ ...content, pid: 2 ** 22 + 1 }), '{"pid":', 'null', '[]', '{}']) {
      writeFileSync(controlFilePath(folder), text)
      assert.equal(await readControlFile(folder), undefined, text)
    }
    writeFileSync(controlFilePath(folder), JSON.stringify({ ...content, address: 'tcp://127.0.0.1:1' }))
    assert.equal(await ControlClient.connect(folder, host), undefined)
  })

  test('wrong parameters of a call are refused by name and do not end the connection', async (t) => {
    const { folder, port } = await startServer(t)
    const client = await connected(t, folder)
    const bad = { stores: ['s', 7], values: true } as unknown as RowsRequest
    const read = async (): Promise<void> => {
      for await (const batch of client.rows(bad, signal)) assert.fail(`${batch.length} rows`)
    }
    await assert.rejects(read(), { code: 'OPTION_INVALID', message: /'stores'/ })
    assert.equal(port.requests.length, 0)
    assert.equal(await client.get(Uint8Array.of(0xff), {}), undefined)
  })
})

describe('rows as bytes', () => {
  test('come back as they were', () => {
    const bytes = fc.uint8Array({ maxLength: 20 })
    const row = fc.record({
      store: fc.option(fc.string({ unit: 'grapheme' }), { nil: undefined }),
      key: bytes,
      value: fc.option(bytes, { nil: undefined }),
    })
    const plain = (rows: readonly PortWrite[]): unknown =>
      rows.map(({ store, key, value }) => [store, [...key], value === undefined ? undefined : [...value]])
    fc.assert(
      fc.property(fc.array(row, { maxLength: 6 }), (rows) => {
        assert.deepEqual(plain(decodeRows(encodeRows(rows))), plain(rows))
      }),
    )
  })

  test('that are cut or garbled are refused, never read past their end', () => {
    const whole = encodeRows([{ store: 'ab', key: Uint8Array.of(1, 2, 3), value: Uint8Array.of(4) }])
    for (let length = 1; length < whole.length; length++) {
      assert.throws(() => decodeRows(whole.subarray(0, length)), { code: 'FRAME_INVALID' }, `${length}`)
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (garbage) => {
        try {
          decodeRows(garbage)
        } catch (error) {
          assert.ok(isCoterieError(error, 'FRAME_INVALID'))
        }
      }),
    )
  })
})

/** A peer that says what it likes. */
class RawPeer {
  readonly messages: Record<string, unknown>[] = []
  closed = false
  readonly #connection: Connection

  private constructor(connection: Connection) {
    this.#connection = connection
    connection.handlers = {
      message: (control) => {
        this.messages.push(JSON.parse(Buffer.from(control).toString()) as Record<string, unknown>)
      },
      drain: () => undefined,
      closed: () => {
        this.closed = true
      },
    }
  }

  static async connect(t: TestContext, address: string): Promise<RawPeer> {
    const connection = await tcpTransport(host).connect({
      address: parseAddress(address),
      connectTimeoutMs: 10_000,
    })
    atEnd(t, () => connection.destroy())
    return new RawPeer(connection)
  }

  say(head: Parameters<typeof encodeHead>[0], payload?: Uint8Array): Promise<void> {
    this.#connection.send(encodeHead(head), payload)
    return Promise.resolve()
  }

  heard(count: number): Promise<void> {
    return waitUntil(() => this.messages.length >= count || this.closed, { what: 'the server has answered' })
  }
}
