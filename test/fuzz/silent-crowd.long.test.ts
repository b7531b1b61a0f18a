// Ten thousand connections that say nothing, from another process, on real sockets: each costs a bounded place for a
// bounded time, and the site does its work meanwhile. Over UDP they are ten thousand hellos that were let in.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { parseAddress } from '../../src/transport/address.ts'
import type { LinkOptions } from '../../src/transport/link-options.ts'
import { transportDefaults } from '../../src/transport/transport.ts'
import { udpBounds } from '../../src/transport/udp/bounds.ts'
import { UdpListener } from '../../src/transport/udp/udp-listener.ts'
import { udpTransport } from '../../src/transport/udp/udp-transport.ts'
import { Authority } from '../support/certificates.ts'
import { type Child, startChild } from '../support/child.ts'
import { addressOf, openMemory, replicaOf } from '../support/sites.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

const crowd = 10_000
/** Far below what ten thousand sockets that are kept would take. */
const growthBytesMax = 48 * 1_048_576
const { halfOpenMax } = transportDefaults

interface Place {
  readonly listen: string
  /** What a site of this id is given to come in. */
  readonly linkOf: (site: string) => LinkOptions
  /** What the crowd connects to, where it is no port. */
  readonly path?: string
}

const places: Readonly<Record<string, (t: TestContext) => Place>> = {
  tcp: () => ({ listen: 'tcp://127.0.0.1:0', linkOf: () => ({}) }),
  'tcp with a secret': () => ({
    listen: 'tcp://127.0.0.1:0',
    linkOf: () => ({ secret: 'a secret of the tests' }),
  }),
  pipe: (t) => {
    const path = join(withTempFolder(t), 'pipe')
    return { listen: `pipe:${path}`, linkOf: () => ({}), path }
  },
  tls: () => {
    const authority = new Authority()
    return {
      listen: 'tls://127.0.0.1:0',
      linkOf: (name) => ({ tls: { ca: authority.cert, ...authority.issue({ name }) } }),
    }
  },
}

// Each takes as long as a silent connection is borne.
for (const [name, place] of Object.entries(places)) {
  test(`${crowd} connections that say nothing cost little, and end by themselves: ${name}`, async (t) => {
    const { listen, linkOf, path } = place(t)
    const db = await openMemory(t, { site: 'a' })
    const master = await db.serve({ listen, sites: 2, ...linkOf('a') })
    const address = addressOf(master)
    const { db: copy } = await replicaOf(t, address, { path: ':memory:', site: 'b' }, linkOf('b'))
    await db.put('before', '1')
    const heapBefore = process.memoryUsage().heapUsed
    const child = startChild(t, new URL('../support/stranger-crowd.ts', import.meta.url), {
      args: [String(crowd), path ?? new URL(address.replace(/^\w+:/, 'http:')).port],
    })
    let open = 0
    let begun = 0
    let isOver = false
    const listenToChild = async (): Promise<void> => {
      while (!isOver) {
        const told = await child.next<{ open: number; begun?: number; isOver: boolean }>({
          what: 'tells of its connections',
          timeoutMs: 60_000,
        })
        open = told.open
        begun = told.begun ?? begun
        isOver = told.isOver
      }
    }
    const listening = listenToChild()
    await waitUntil(() => begun === crowd || isOver, { what: 'all have connected', timeoutMs: 60_000 })
    assert.equal((await db.put('meanwhile', '2')).acks, 2, 'commits go on')
    await waitUntil(() => open <= halfOpenMax, {
      what: `no more than ${halfOpenMax} of them are kept`,
      timeoutMs: 60_000,
    })
    const grownBytes = process.memoryUsage().heapUsed - heapBefore
    assert.ok(grownBytes < growthBytesMax, `the heap grew by ${grownBytes} bytes`)
    const newcomer = await replicaOf(t, address, { path: ':memory:', site: 'c' }, linkOf('c'))
    await waitUntil(() => newcomer.db.getSync('meanwhile') === '2', {
      what: 'who has something to say comes in',
    })
    await waitUntil(() => isOver, { what: 'the last of them have ended', timeoutMs: 60_000 })
    await listening
    assert.equal(copy.getSync('before'), '1')
  })
}

function helloCrowd(t: TestContext, port: string, key: Uint8Array | undefined): Child {
  const keyHex = key === undefined ? [] : [Buffer.from(key).toString('hex')]
  return startChild(t, new URL('../support/hello-crowd.ts', import.meta.url), {
    args: [String(crowd), port, ...keyHex],
  })
}

async function allAccepted(child: Child, onCount: (accepted: number) => void): Promise<void> {
  for (let accepted = 0; accepted < crowd; onCount(accepted)) {
    const told = await child.next<{ accepted: number }>({ what: 'tells of its hellos', timeoutMs: 60_000 })
    accepted = told.accepted
  }
}

for (const [name, key] of [
  ['udp', undefined],
  ['udp with a key', new Uint8Array(32).fill(7)],
] as const) {
  const linkOptions: LinkOptions = key === undefined ? {} : { key }

  test(`${crowd} connections that say nothing cost little, and end by themselves: ${name}`, async (t) => {
    const db = await openMemory(t, { site: 'a' })
    const master = await db.serve({ listen: 'udp://127.0.0.1:0', sites: 2, ...linkOptions })
    const address = addressOf(master)
    const { db: copy } = await replicaOf(t, address, { path: ':memory:', site: 'b' }, linkOptions)
    await db.put('before', '1')
    const heapBefore = process.memoryUsage().heapUsed
    const child = helloCrowd(t, new URL(address.replace(/^\w+:/, 'http:')).port, key)
    const ended = (): number => db.status().counters.strangersRefused ?? 0
    let come = 0
    const listening = allAccepted(child, (accepted) => {
      come = accepted
    })
    await waitUntil(() => come > 0, { what: 'the crowd has begun', timeoutMs: 60_000 })
    assert.equal((await db.put('meanwhile', '2')).acks, 2, 'commits go on')
    await listening
    // Each that was let in was told of when it ended, so all the others are still held.
    assert.ok(crowd - ended() <= halfOpenMax, `${crowd - ended()} of them are kept`)
    const grownBytes = process.memoryUsage().heapUsed - heapBefore
    assert.ok(grownBytes < growthBytesMax, `the heap grew by ${grownBytes} bytes`)
    const newcomer = await replicaOf(t, address, { path: ':memory:', site: 'c' }, linkOptions)
    await waitUntil(() => newcomer.db.getSync('meanwhile') === '2', {
      what: 'who has something to say comes in',
    })
    await waitUntil(() => ended() >= crowd, { what: 'the last of them have ended', timeoutMs: 60_000 })
    assert.equal(copy.getSync('before'), '1')
  })

  test(`a listener never holds more than ${halfOpenMax} of ${crowd} that were let in: ${name}`, async (t) => {
    let most = 0
    let ended = 0
    const listener = await udpTransport(nodeHost()).listen({
      address: parseAddress('udp://127.0.0.1:0'),
      link: { identity: () => ({ site: 'a', databaseId: undefined }), ...linkOptions },
      onConnection: () => assert.fail('nobody has said anything'),
      onRefused: () => {
        ended++
        most = Math.max(most, (listener as UdpListener).halfOpen)
      },
    })
    t.after(() => listener.close())
    assert.ok(listener instanceof UdpListener)
    const child = helloCrowd(t, new URL(listener.address.replace(/^\w+:/, 'http:')).port, key)
    await allAccepted(child, () => {
      most = Math.max(most, listener.halfOpen)
    })
    t.diagnostic(`${most} at most`)
    assert.ok(most <= halfOpenMax)
    await waitUntil(() => listener.halfOpen === 0, {
      what: `none is kept ${udpBounds.halfOpenMs} ms after the last`,
      timeoutMs: 60_000,
    })
    assert.ok(ended >= crowd)
  })
}
