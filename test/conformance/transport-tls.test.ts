// TLS: the common suite, and every way in which two sides do not believe each other. Both must say why.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import * as net from 'node:net'
import { type TestContext, test } from 'node:test'
import * as tls from 'node:tls'
import { type CoterieError, isCoterieError } from '../../src/base/errors.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { parseAddress } from '../../src/transport/address.ts'
import type { LinkSettings, TlsOptions } from '../../src/transport/link-options.ts'
import { tcpTransport } from '../../src/transport/tcp-transport.ts'
import { tlsTransport } from '../../src/transport/tls-transport.ts'
import type { Connection, Listener, ListenOptions } from '../../src/transport/transport.ts'
import { Authority } from '../support/certificates.ts'
import { linked } from '../support/linked.ts'
import { waitUntil } from '../support/wait-until.ts'
import { connectPair, hasCode, transportConformance } from './transport-suite.ts'

const host = nodeHost()
const transport = tlsTransport(host)
const anyPort = parseAddress('tls://127.0.0.1:0')
const authority = new Authority()
const ca = authority.cert
const ours: TlsOptions = { ca, ...authority.issue({ name: 'site-a', dns: ['a.example', 'other-id'] }) }
const stranger = new Authority('an authority that nobody trusts')

transportConformance({
  name: 'tls',
  transport: linked(transport, { tls: ours }),
  freshAddress: () => anyPort,
  deadAddress: async () => {
    const listener = await listen({ tls: ours }).then(({ listener: each }) => each)
    await listener.close()
    return parseAddress(listener.address)
  },
})

type Link = Omit<LinkSettings, 'identity'>

function settings(link: Link): LinkSettings {
  return { ...link, identity: () => ({ site: 'a', databaseId: undefined }) }
}

async function listen(
  link: Link,
  over = transport,
  options: Partial<ListenOptions> = {},
): Promise<{ listener: Listener; refused: CoterieError[]; accepted: Connection[] }> {
  const refused: CoterieError[] = []
  const accepted: Connection[] = []
  const listener = await over.listen({
    address: over.scheme === 'tls' ? anyPort : parseAddress('tcp://127.0.0.1:0'),
    link: settings(link),
    ...options,
    onConnection(connection) {
      accepted.push(connection)
      connection.handlers = { message: () => undefined, drain: () => undefined, closed: () => undefined }
    },
    onRefused: (error) => void refused.push(error),
  })
  return { listener, refused, accepted }
}

/** What both sides say of a connection that must not come about: first who connected, then who listened. */
async function bothErrors(
  t: TestContext,
  options: { readonly listening: Link; readonly connecting: Link; readonly plain?: 'listener' | 'connector' },
): Promise<readonly [CoterieError, CoterieError]> {
  const { listening, connecting, plain } = options
  const { listener, refused, accepted } = await listen(
    listening,
    plain === 'listener' ? tcpTransport(host) : transport,
  )
  t.after(() => listener.close())
  const { port } = parseAddress(listener.address)
  const scheme = plain === 'connector' ? 'tcp' : 'tls'
  const over = plain === 'connector' ? tcpTransport(host) : transport
  let failure: unknown
  try {
    const connection = await over.connect({
      address: parseAddress(`${scheme}://127.0.0.1:${port}`),
      connectTimeoutMs: 10_000,
      link: settings(connecting),
    })
    connection.destroy()
  } catch (error) {
    failure = error
  }
  await waitUntil(() => refused.length > 0, { what: 'the listener has refused' })
  assert.equal(accepted.length, 0)
  assert.ok(isCoterieError(failure), String(failure))
  return [failure, refused[0] as CoterieError]
}

function assertTls(error: CoterieError, reason: string, words: RegExp): void {
  hasCode('TLS_FAILED')(error)
  assert.equal(error.details.reason, reason)
  assert.match(error.message, words)
}

test('[A25 A4b] both sides know the names that the other one has proved', async (t) => {
  const theirs: TlsOptions = { ca, ...authority.issue({ name: 'site-b' }) }
  const { listener, accepted } = await listen({ tls: ours })
  t.after(() => listener.close())
  const near = await transport.connect({
    address: parseAddress(listener.address),
    connectTimeoutMs: 10_000,
    link: settings({ tls: theirs }),
  })
  t.after(() => near.destroy())
  await waitUntil(() => accepted.length === 1, { what: 'the other side is open' })
  assert.deepEqual(near.peerNames, ['site-a', 'a.example', 'other-id'])
  assert.deepEqual(accepted[0]?.peerNames, ['site-b'])
  accepted[0]?.destroy()
})

test('without `bindSite` the names bind nobody', async (t) => {
  const free = linked(transport, { tls: { ...ours, bindSite: false } })
  const { near, far } = await connectPair(t, free, anyPort)
  assert.equal(near.peerNames ?? far.peerNames, undefined)
})

test('a connector that an authority of ours has not signed for is told so', async (t) => {
  const evil: TlsOptions = { ca, ...stranger.issue({ name: 'site-a' }) }
  const [near, far] = await bothErrors(t, { listening: { tls: ours }, connecting: { tls: evil } })
  assertTls(near, 'untrusted', /refuses this side's certificate/)
  assertTls(far, 'untrusted', /the other side's certificate is not to be believed/)
})

test('a listener that an authority of ours has not signed for is told so', async (t) => {
  const wary: TlsOptions = { ...ours, ca: stranger.cert }
  const [near, far] = await bothErrors(t, { listening: { tls: ours }, connecting: { tls: wary } })
  assertTls(near, 'untrusted', /the other side's certificate is not to be believed/)
  assertTls(far, 'untrusted', /refuses this side's certificate/)
})

test('a certificate that has expired, or is not valid yet, is refused on either side', async (t) => {
  const spans = [
    { fromDays: -10, toDays: -1 },
    { fromDays: 1, toDays: 10 },
  ]
  for (const span of spans) {
    const old: TlsOptions = { ca, ...authority.issue({ name: 'site-b', ...span }) }
    const [near, far] = await bothErrors(t, { listening: { tls: ours }, connecting: { tls: old } })
    assertTls(near, 'expired', /refuses this side's certificate: it has expired/)
    assertTls(far, 'expired', /not to be believed: it holds from/)
    const [connector, listener] = await bothErrors(t, { listening: { tls: old }, connecting: { tls: ours } })
    assertTls(connector, 'expired', /not to be believed: it holds from/)
    assertTls(listener, 'expired', /refuses this side's certificate: it has expired/)
  }
})

test('a certificate of another name than the address, or than `serverName`, is refused', async (t) => {
  const elsewhere: TlsOptions = { ca, ...authority.issue({ name: 'site-b', ips: ['192.0.2.1'] }) }
  const cases: readonly { listening: TlsOptions; connecting: TlsOptions }[] = [
    { listening: elsewhere, connecting: ours },
    { listening: ours, connecting: { ...ours, serverName: 'b.example' } },
  ]
  for (const { listening, connecting } of cases) {
    const [near, far] = await bothErrors(t, {
      listening: { tls: listening },
      connecting: { tls: connecting },
    })
    assertTls(near, 'name', /bears another name/)
    assertTls(far, 'name', /refuses this side's certificate: it bears another name/)
  }
  const named = linked(transport, { tls: { ...ours, serverName: 'a.example' } })
  await connectPair(t, named, anyPort)
})

test('who speaks no TLS to a port of TLS is told so, and so is the port', async (t) => {
  const [near, far] = await bothErrors(t, { listening: { tls: ours }, connecting: {}, plain: 'connector' })
  assertTls(near, 'plain', /speaks TLS only: its address begins with tls:/)
  assertTls(far, 'plain', /the other side does not speak TLS/)
})

test('who speaks TLS to a plain port is told so, and so is the port', async (t) => {
  const [near, far] = await bothErrors(t, { listening: {}, connecting: { tls: ours }, plain: 'listener' })
  assertTls(near, 'plain', /the other side does not speak TLS/)
  assertTls(far, 'plain', /the other side speaks TLS, and this side does not/)
})

test('sides without a version of TLS in common are TLS_FAILED', async (t) => {
  const ciphered = { ...ours, ciphers: 'ECDHE-RSA-AES128-GCM-SHA256:@SECLEVEL=1' }
  const { listener, refused } = await listen({ tls: { ...ours, minVersion: 'TLSv1.3' } })
  t.after(() => listener.close())
  const { port } = parseAddress(listener.address)
  const socket = tls.connect({
    host: '127.0.0.1',
    port,
    maxVersion: 'TLSv1.2',
    ca,
    ciphers: ciphered.ciphers,
  })
  const [error] = (await once(socket, 'error')) as [Error]
  assert.match(error.message, /version/i)
  await waitUntil(() => refused.length > 0, { what: 'the listener has refused' })
  hasCode('TLS_FAILED')(refused[0])
})

test('a client of TLS without a certificate does not come in', async (t) => {
  const { listener, refused, accepted } = await listen({ tls: ours })
  t.after(() => listener.close())
  const socket = tls.connect({ host: '127.0.0.1', port: parseAddress(listener.address).port, ca })
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => void chunks.push(chunk))
  await once(socket, 'close')
  assert.equal(Buffer.concat(chunks)[14], 4)
  assertTls(refused[0] as CoterieError, 'missing', /there is none/)
  assert.equal(accepted.length, 0)
})

test('TLS with a secret demands both', async (t) => {
  const secret = 'beside the certificates, a secret'
  const both = linked(transport, { tls: ours, secret })
  const { near, farSide } = await connectPair(t, both, anyPort)
  near.send(Uint8Array.of(1))
  await farSide.until((side) => side.messages.length === 1, 'a message')
  const [nearError, farError] = await bothErrors(t, {
    listening: { tls: ours, secret },
    connecting: { tls: ours },
  })
  hasCode('AUTH_FAILED')(nearError)
  hasCode('AUTH_FAILED')(farError)
})

test('of too many peers that never finish the handshake of TLS the oldest is dropped', async (t) => {
  const { listener, refused } = await listen({ tls: ours }, transport, { halfOpenMax: 3 })
  t.after(() => listener.close())
  const { port } = parseAddress(listener.address)
  const sockets = Array.from({ length: 5 }, (_, i) => {
    const socket = net.connect(port, '127.0.0.1')
    socket.on('error', () => undefined)
    // Half of them begin with what a record of TLS begins with.
    if (i % 2 === 0) socket.write(Buffer.from('1603010200010001fc0303', 'hex'))
    return socket
  })
  t.after(() => {
    for (const socket of sockets) socket.destroy()
  })
  await waitUntil(() => refused.length === 2, { what: 'two were dropped' })
  const near = await transport.connect({
    address: parseAddress(listener.address),
    connectTimeoutMs: 10_000,
    link: settings({ tls: ours }),
  })
  near.destroy()
})

test('options of TLS that cannot be used are OPTION_INVALID, and none at all is, too', async () => {
  const bad: readonly (TlsOptions | undefined)[] = [
    undefined,
    { ...ours, key: 'no key' },
    { ...ours, ciphers: 'NONE' },
  ]
  for (const each of bad) {
    const link = each === undefined ? {} : { tls: each }
    await assert.rejects(listen(link), hasCode('OPTION_INVALID'))
    const address = parseAddress('tls://127.0.0.1:9')
    await assert.rejects(
      transport.connect({ address, connectTimeoutMs: 1000, link: settings(link) }),
      hasCode('OPTION_INVALID'),
    )
  }
})
