// A byte of a record that is flipped on its way, where nothing below looks at it: both sides are rid of the connection at
// once, and a new one repairs it.

import assert from 'node:assert/strict'
import * as net from 'node:net'
import { type TestContext, test } from 'node:test'
import { atEnd } from '../support/at-end.ts'
import { addressOf, attachTo, digestOf, openMemory, serveTcp } from '../support/sites.ts'
import { waitUntil } from '../support/wait-until.ts'

const needle = Buffer.from('a value that somebody changes on its way')

/** Passes bytes on, and flips one of the needle's where it is told to. */
async function startMeddler(t: TestContext, target: number): Promise<{ port: number; isArmed: boolean }> {
  const meddler = { port: 0, isArmed: false }
  const server = net.createServer((socket) => {
    const onward = net.connect(target, '127.0.0.1')
    atEnd(t, () => void [socket, onward].map((each) => each.destroy()))
    socket.on('data', (chunk) => void onward.write(chunk))
    onward.on('data', (chunk: Buffer) => {
      const at = meddler.isArmed ? chunk.indexOf(needle) : -1
      if (at >= 0) {
        chunk[at] = (chunk[at] as number) ^ 1
        meddler.isArmed = false
      }
      socket.write(chunk)
    })
    for (const [each, other] of [
      [socket, onward],
      [onward, socket],
    ] as const) {
      each.on('error', () => undefined)
      each.on('close', () => other.destroy())
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  atEnd(t, () => void server.close())
  meddler.port = (server.address() as net.AddressInfo).port
  return meddler
}

test('[A7a] a record that is damaged on its way costs a connection, and no silence', async (t) => {
  const source = await openMemory(t, { site: 'a' })
  const master = await serveTcp(source, { sites: 2, silenceTimeoutMs: 3_600_000 })
  const { port } = new URL(addressOf(master).replace('tcp:', 'http:'))
  const meddler = await startMeddler(t, Number(port))
  const db = await openMemory(t, { site: 'b' })
  const options = { replace: true, silenceTimeoutMs: 3_600_000 }
  const first = attachTo(t, `tcp://127.0.0.1:${meddler.port}`, db, options)
  await first.synced
  meddler.isArmed = true
  const { lsn } = await source.put('k', needle.toString(), { acks: 'none' })
  const { reason, cause } = await first.stopped
  assert.equal(reason, 'connection-lost')
  assert.match(String(cause), /verify|checksum/)
  assert.equal(db.status().lastLsn, lsn - 1)
  await waitUntil(() => master.replicas.length === 0, { what: 'the master knows that it is gone' })
  const second = attachTo(t, `tcp://127.0.0.1:${meddler.port}`, db, options)
  assert.equal((await second.synced).kind, 'incremental')
  assert.equal(await digestOf(db), await digestOf(source))
})
