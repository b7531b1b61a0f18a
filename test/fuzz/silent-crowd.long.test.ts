// Ten thousand connections that say nothing, from another process, on real sockets: each costs a bounded place for a
// bounded time, and the site does its work meanwhile.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { LinkOptions } from '../../src/transport/link-options.ts'
import { transportDefaults } from '../../src/transport/transport.ts'
import { Authority } from '../support/certificates.ts'
import { startChild } from '../support/child.ts'
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
