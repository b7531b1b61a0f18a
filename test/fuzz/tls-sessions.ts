// Sessions over TLS through a man in the middle who flips a byte, cuts the line, plays back what he has recorded, or sends
// each side what it has said itself. Both sides have a prefix of what was sent, whatever he does, and say why it ended.

import assert from 'node:assert/strict'
import * as net from 'node:net'
import { type TestContext, test } from 'node:test'
import { utf8Decode, utf8Encode } from '../../src/base/bytes.ts'
import { type CoterieError, isCoterieError } from '../../src/base/errors.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { parseAddress } from '../../src/transport/address.ts'
import { tlsTransport } from '../../src/transport/tls-transport.ts'
import type { Transport } from '../../src/transport/transport.ts'
import { atEnd } from '../support/at-end.ts'
import { Authority } from '../support/certificates.ts'
import { linked } from '../support/linked.ts'
import { waitUntil } from '../support/wait-until.ts'

const texts = ['one', 'two', 'three', 'four', 'five']
/** A flip in a length lets a side wait for bytes that do not come. */
const waitMs = 400

interface Middle {
  /** Bytes of this direction so far, and the chunk, which may be changed; false: the line is cut here. */
  readonly pass: (toServer: boolean, at: number, chunk: Buffer) => Buffer | false
}

interface Site {
  readonly transport: Transport
  readonly port: number
  readonly sessions: string[][]
  readonly refused: CoterieError[]
}

async function startSite(t: TestContext): Promise<Site> {
  const authority = new Authority()
  const tls = { ca: authority.cert, ...authority.issue({ name: 'a' }) }
  const transport = linked(tlsTransport(nodeHost()), { tls })
  const sessions: string[][] = []
  const refused: CoterieError[] = []
  const listener = await transport.listen({
    address: parseAddress('tls://127.0.0.1:0'),
    connectTimeoutMs: 60_000,
    onRefused: (error) => void refused.push(error),
    onConnection(connection) {
      const far: string[] = []
      sessions.push(far)
      connection.handlers = {
        message: (control) => {
          far.push(utf8Decode(control))
          if (far.length === texts.length) connection.send(utf8Encode('all'))
        },
        drain: () => undefined,
        closed: () => undefined,
      }
    },
  })
  atEnd(t, () => listener.close())
  return { transport, port: parseAddress(listener.address).port, sessions, refused }
}

/** Each connection to it goes on to `port`, through the middle. */
async function startMiddle(port: number, middle: Middle): Promise<{ port: number; close: () => void }> {
  const sockets = new Set<net.Socket>()
  const server = net.createServer((socket) => {
    const onward = net.connect({ host: '127.0.0.1', port })
    for (const each of [socket, onward]) {
      sockets.add(each)
      let at = 0
      const other = each === socket ? onward : socket
      each.on('data', (chunk: Buffer) => {
        const passed = middle.pass(each === socket, at, chunk)
        at += chunk.length
        if (passed !== false) other.write(passed)
        else for (const end of [socket, onward]) end.destroy()
      })
      each.on('error', () => undefined)
      each.on('close', () => other.destroy())
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as net.AddressInfo).port,
    close: () => {
      for (const each of sockets) each.destroy()
      server.close()
    },
  }
}

/** One session; what came of it. */
async function play(
  { transport, port }: Site,
  middle: Middle,
): Promise<'whole' | 'ended' | 'waiting' | 'refused'> {
  const between = await startMiddle(port, middle)
  let outcome: 'whole' | 'ended' | 'waiting' = 'waiting'
  try {
    const near = await transport.connect({
      address: parseAddress(`tls://127.0.0.1:${between.port}`),
      connectTimeoutMs: waitMs,
    })
    near.handlers = {
      message: (control) => {
        assert.equal(utf8Decode(control), 'all')
        outcome = 'whole'
      },
      drain: () => undefined,
      closed: () => {
        outcome = outcome === 'whole' ? outcome : 'ended'
      },
    }
    for (const text of texts) near.send(utf8Encode(text))
    const start = performance.now()
    await waitUntil(() => outcome !== 'waiting' || performance.now() - start > waitMs, { what: 'an outcome' })
    near.destroy()
    return outcome
  } catch (error) {
    assert.ok(isCoterieError(error), String(error))
    return 'refused'
  } finally {
    between.close()
  }
}

/** How many bytes go in each direction of a session as it is. */
async function lengthsOf(site: Site): Promise<{ to: number; from: number }> {
  const lengths = { to: 0, from: 0 }
  for (let tries = 0; ; tries++) {
    const outcome = await play(site, {
      pass: (toServer, at, chunk) => {
        lengths[toServer ? 'to' : 'from'] = at + chunk.length
        return chunk
      },
    })
    if (outcome === 'whole') return lengths
    assert.ok(tries < 20, 'a session as it is comes to its end')
  }
}

function assertPrefixes({ sessions }: Site, told: string): void {
  for (const far of sessions) assert.deepEqual(far, texts.slice(0, far.length), told)
}

/** `step`: of the bytes of a session one in so many is flipped, and the line is cut at one in so many. */
export function testTlsSessions(step: number): void {
  for (const how of ['flipped', 'the last one before the line is cut'] as const) {
    test(`[A25] whatever byte of a session over TLS is ${how}, both sides have a prefix`, async (t) => {
      const site = await startSite(t)
      const { to, from } = await lengthsOf(site)
      const places = Array.from({ length: Math.ceil((to + from) / step) }, (_, i) => i * step)
      const outcomes = new Map<string, number>()
      const work = async (): Promise<void> => {
        for (let place = places.pop(); place !== undefined; place = places.pop()) {
          const isVictim = place < to
          const victim = isVictim ? place : place - to
          const outcome = await play(site, {
            pass: (toServer, at, chunk) => {
              const offset = victim - at
              if (toServer !== isVictim || offset < 0 || offset >= chunk.length) return chunk
              if (how !== 'flipped') return false
              const flipped = Buffer.from(chunk)
              flipped[offset] = (flipped[offset] as number) ^ 0x10
              return flipped
            },
          })
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
          assertPrefixes(site, `byte ${place}`)
        }
      }
      await Promise.all(Array.from({ length: 8 }, work))
      t.diagnostic(`${to} and ${from} bytes: ${JSON.stringify([...outcomes])}`)
      // Behind the last message there is nothing that anybody waits for.
      assert.ok((outcomes.get('whole') ?? 0) < 0.1 * ((to + from) / step) + 2)
      assert.ok((outcomes.get('refused') ?? 0) > 0)
      await lengthsOf(site)
    })
  }

  test('[A25] a session over TLS that is played again, or back to its sender, is none', async (t) => {
    const site = await startSite(t)
    const said: { toServer: Buffer[]; toClient: Buffer[] } = { toServer: [], toClient: [] }
    const outcome = await play(site, {
      pass: (toServer, _, chunk) => {
        said[toServer ? 'toServer' : 'toClient'].push(Buffer.from(chunk))
        return chunk
      },
    })
    assert.equal(outcome, 'whole')
    const sessions = site.sessions.length
    for (const bytes of [said.toServer, said.toClient]) {
      const socket = net.connect({ host: '127.0.0.1', port: site.port })
      socket.on('error', () => undefined)
      socket.resume()
      socket.write(Buffer.concat(bytes))
      await new Promise<void>((resolve) => {
        socket.on('close', () => resolve())
      })
    }
    await waitUntil(() => site.refused.length >= 2, { what: 'both were refused' })
    for (const { code } of site.refused) assert.ok(['TLS_FAILED', 'CONNECTION_CLOSED'].includes(code), code)
    for (const answers of [said.toClient, undefined]) {
      const server = net.createServer((socket) => {
        socket.on('error', () => undefined)
        socket.on('data', (chunk) => void (answers === undefined ? socket.write(chunk) : undefined))
        if (answers !== undefined) socket.write(Buffer.concat(answers))
      })
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      atEnd(t, () => void server.close())
      const { port } = server.address() as net.AddressInfo
      const connecting = site.transport.connect({
        address: parseAddress(`tls://127.0.0.1:${port}`),
        connectTimeoutMs: 2000,
      })
      await assert.rejects(connecting, (error) => {
        assert.ok(isCoterieError(error), String(error))
        assert.ok(['TLS_FAILED', 'CONNECT_FAILED', 'CONNECT_TIMEOUT'].includes(error.code), error.code)
        return true
      })
    }
    assert.equal(site.sessions.length, sessions, 'nobody else came in')
  })
}
