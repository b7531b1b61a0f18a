// Addresses, the registry, and the pieces of a byte stream: what each text means, and what is refused with which words.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isCoterieError } from '../../src/base/errors.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { parseAddress } from '../../src/transport/address.ts'
import { memoryTransport } from '../../src/transport/memory-transport.ts'
import { TransportRegistry } from '../../src/transport/registry.ts'
import { tcpTransport } from '../../src/transport/tcp-transport.ts'

const valid: readonly [string, { scheme: string; host: string; port: number; text: string }][] = [
  ['127.0.0.1:4711', { scheme: 'tcp', host: '127.0.0.1', port: 4711, text: 'tcp://127.0.0.1:4711' }],
  ['tcp://db-1.example:1', { scheme: 'tcp', host: 'db-1.example', port: 1, text: 'tcp://db-1.example:1' }],
  ['TCP://Host:0', { scheme: 'tcp', host: 'Host', port: 0, text: 'tcp://Host:0' }],
  ['[::1]:65535', { scheme: 'tcp', host: '::1', port: 65_535, text: 'tcp://[::1]:65535' }],
  [
    'tcp://[fe80::1%eth0]:9',
    { scheme: 'tcp', host: 'fe80::1%eth0', port: 9, text: 'tcp://[fe80::1%eth0]:9' },
  ],
  ['tls://a:2', { scheme: 'tls', host: 'a', port: 2, text: 'tls://a:2' }],
  ['udp://a:2', { scheme: 'udp', host: 'a', port: 2, text: 'udp://a:2' }],
  ['memory://site-a', { scheme: 'memory', host: 'site-a', port: 0, text: 'memory://site-a' }],
  [
    '/run/coterie.sock',
    { scheme: 'pipe', host: '/run/coterie.sock', port: 0, text: 'pipe:/run/coterie.sock' },
  ],
  ['pipe:/a b', { scheme: 'pipe', host: '/a b', port: 0, text: 'pipe:/a b' }],
  ['pipe:///a', { scheme: 'pipe', host: '/a', port: 0, text: 'pipe:/a' }],
  ['quic://a:7', { scheme: 'quic', host: 'a', port: 7, text: 'quic://a:7' }],
]

for (const [text, expected] of valid) {
  test(`${text} is ${expected.text}`, () => {
    assert.deepEqual(parseAddress(text), expected)
    assert.deepEqual(parseAddress(expected.text), expected)
  })
}

const invalid = [
  '',
  'host',
  ':1',
  'host:',
  'host:65536',
  'host:123456',
  'host:1x',
  '::1:4711',
  'tcp://',
  'tcp://host',
  'tcp://host:1/path',
  'tcp://user@host:1',
  'tcp://ho st:1',
  'host:1\n',
  'memory://',
  'pipe:relative',
  'pipe:',
  '/',
]

for (const text of invalid) {
  test(`${JSON.stringify(text)} is no address`, () => {
    assert.throws(
      () => parseAddress(text),
      (error) => {
        assert.ok(isCoterieError(error, 'ADDRESS_INVALID'))
        assert.equal(error.details.address, text)
        return true
      },
    )
  })
}

test('a scheme without a transport is refused, and the answer names those that there are', () => {
  const registry = new TransportRegistry([tcpTransport(nodeHost())])
  registry.register(memoryTransport(nodeHost()))
  assert.equal(registry.get('tcp').scheme, 'tcp')
  assert.deepEqual(registry.schemes, ['tcp', 'memory'])
  assert.throws(
    () => registry.get(parseAddress('udp://a:1').scheme),
    (error) => isCoterieError(error, 'ADDRESS_INVALID') && /udp.*tcp:\/\/, memory:\/\//.test(error.message),
  )
  assert.throws(() => registry.register(tcpTransport(nodeHost())), TypeError)
})
