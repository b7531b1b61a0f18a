// The same story over every transport, with the same end: a replica attaches, and is told and counted in the same way; it
// stops in order; its line goes dead without a word, both sides notice by silence alone, and it comes back; its process
// goes away; the master does. And a group over datagrams loses its master without a word, as one over streams does.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { type AttachOptions, type Database, registerTransport, type Transport } from '../../src/index.ts'
import { parseAddress } from '../../src/transport/address.ts'
import type { LinkOptions } from '../../src/transport/link-options.ts'
import { LossyNetwork } from '../../src/transport/lossy.ts'
import { MemoryNetwork, memoryTransport } from '../../src/transport/memory-transport.ts'
import { atEnd } from '../support/at-end.ts'
import { Authority } from '../support/certificates.ts'
import { CutHost } from '../support/cut-host.ts'
import { losesItsMaster } from '../support/groups.ts'
import { addressOf, attachTo, openMemory } from '../support/sites.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

const secret = 'a secret of the master and its replicas'
const key = new Uint8Array(32).fill(9)
const authority = new Authority()
const silenceTimeoutMs = 1500

/** The line between the two, which a test can cut. */
interface Line {
  readonly host?: CutHost['host']
  /** The end of a connection is told even while it is cut: who notices later hears of it. */
  readonly tellsEnds?: boolean
  cut(): void
  heal(): void
}

interface Kind {
  readonly listen: (t: TestContext) => string
  readonly linkOf: (site: string) => LinkOptions
  /** Default: the network of the host that both have. */
  readonly line?: () => Line
}

const plain = (): LinkOptions => ({})

/** A transport of a program's own, over messages in memory that are all lost while its line is cut. */
const own = new LossyNetwork({ prng: new Prng(1), timers: nodeHost().timers })
registerTransport(
  'alike',
  overMemory(own.wrap(memoryTransport(nodeHost(), { network: new MemoryNetwork() }), 'site')),
)
let names = 0

function overMemory(inner: Transport): Transport {
  const there = (text: string) => parseAddress(text.replace('alike:', 'memory:'))
  return {
    scheme: 'alike',
    listen: async (options) => {
      const listener = await inner.listen({ ...options, address: there(options.address.text) })
      return { address: options.address.text, close: () => listener.close() }
    },
    connect: (options) => inner.connect({ ...options, address: there(options.address.text) }),
  }
}

const kinds: Readonly<Record<string, Kind>> = {
  tcp: { listen: () => 'tcp://127.0.0.1:0', linkOf: plain },
  'tcp with a secret and deflate': {
    listen: () => 'tcp://127.0.0.1:0',
    linkOf: () => ({ secret, compression: 'deflate' }),
  },
  pipe: { listen: (t) => join(withTempFolder(t), 's'), linkOf: plain },
  tls: {
    listen: () => 'tls://127.0.0.1:0',
    linkOf: (name) => ({ tls: { ca: authority.cert, ...authority.issue({ name }) } }),
  },
  udp: { listen: () => 'udp://127.0.0.1:0', linkOf: plain },
  'udp with a key': { listen: () => 'udp://127.0.0.1:0', linkOf: () => ({ key }) },
  'one of its own': {
    listen: () => `alike://master-${++names}`,
    linkOf: plain,
    line: () => ({
      tellsEnds: true,
      cut: () => own.cut({ from: 'site', to: 'site' }),
      heal: () => own.heal(),
    }),
  },
}

function lineOf({ line }: Kind): Line {
  if (line !== undefined) return line()
  const net = new CutHost()
  return { host: net.host, cut: () => net.cut(), heal: () => net.heal() }
}

for (const [name, kind] of Object.entries(kinds)) {
  test(`[A6 A14 A21 A23a] over ${name} a link lives, falls silent, comes back and ends as over any other`, async (t) => {
    const line = lineOf(kind)
    const network = line.host === undefined ? {} : { host: line.host }
    const source = await openMemory(t, { site: 'a', ...network })
    const listen = kind.listen(t)
    const serve = { listen, sites: 2, silenceTimeoutMs, heartbeatMs: 50, ...kind.linkOf('a') }
    const master = await source.serve(serve)
    atEnd(t, () => master.stop())
    const told: string[] = []
    master.on('attached', ({ site }) => told.push(`attached ${site}`))
    master.on('detached', ({ site, code }) => told.push(`detached ${site} ${code}`))
    const db: Database = await openMemory(t, { site: 'b', ...network })
    const options: AttachOptions = { ...kind.linkOf('b'), replace: true }
    const attach = (): ReturnType<typeof attachTo> => attachTo(t, addressOf(master), db, options)

    const first = attach()
    assert.equal((await first.synced).kind, 'snapshot')
    assert.equal((await source.put('k', '1')).acks, 2)
    await first.stop()
    assert.equal((await first.stopped).reason, 'stopped')
    await waitUntil(() => told.length === 2, { what: 'the master has heard of it' })

    const second = attach()
    assert.equal((await second.synced).kind, 'equal')
    line.cut()
    const lost = await second.stopped
    await waitUntil(() => told.length === 4, { what: 'the master has given it up' })
    assert.equal(lost.reason, 'connection-lost')
    const codes = [lost.cause?.code ?? '', told.pop()?.split(' ').at(-1) ?? '']
    const ended = codes.filter((code) => code !== 'SILENCE_TIMEOUT')
    assert.ok(ended.length <= (line.tellsEnds === true ? 1 : 0), `${codes}`)
    await source.put('k', '2', { acks: 'none' })

    line.heal()
    const third = attach()
    assert.deepEqual((await third.synced).kind, 'incremental')
    assert.equal((await source.put('k', '3')).acks, 2)
    await db.close()
    await waitUntil(() => told.length === 5, { what: 'the master knows that it is closed' })

    const other = await openMemory(t, { site: 'b' })
    const fourth = attachTo(t, addressOf(master), other, options)
    await fourth.synced
    await master.stop()
    assert.equal((await fourth.stopped).reason, 'detached-by-master')
    assert.deepEqual(told, [
      'attached b',
      'detached b DETACHED',
      'attached b',
      'attached b',
      'detached b DETACHED',
      'attached b',
    ])
  })
}

for (const [what, link] of [
  ['udp://', {}],
  ['udp:// with a key', { key }],
] as const) {
  test(`[A23e] over ${what}, a group loses its master without a word, elects another, and takes it back`, async (t) => {
    await losesItsMaster(t, () => ({ listen: 'udp://127.0.0.1:0', ...link }))
  })
}
