// Wrong use of what serve, attachMaster, join and registerTransport take: an error with a code that names the option and
// says what to give, and nothing is left open by it.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { attachMaster, CoterieError, isCoterieError, registerTransport } from '../../src/index.ts'
import { openMemory } from '../support/sites.ts'
import { withTempFolder } from '../support/temp-folder.ts'

const listen = 'tcp://127.0.0.1:0'
const udp = 'udp://127.0.0.1:0'
const key = new Uint8Array(32)

/** Options, the option that is named, and what the message says. */
type Wrong = readonly [options: Record<string, unknown>, option: string, message: RegExp]

const wrongForAll: readonly Wrong[] = [
  [{ listen, key: 'x'.repeat(32) }, 'key', /'key' must be bytes \(a Uint8Array\)/],
  [{ listen: udp, key: new Uint8Array(31) }, 'key', /'key' must have 32 bytes, not 31/],
  [{ listen, secret: 'short' }, 'secret', /'secret' must be text or bytes .* of at least 16 bytes/],
  [{ listen, key }, 'key', /has no use for 'key'/],
  [{ listen, multicast: '239.1.2.3:4711' }, 'multicast', /tcp: has no use for 'multicast'/],
  [{ listen, insecure: true }, 'insecure', /tcp: has no use for 'insecure'/],
  [{ listen: udp, compression: 'deflate' }, 'compression', /udp: has no use for 'compression'/],
  [{ listen: udp, key, multicast: '10.0.0.1:4711' }, 'multicast', /'multicast' must be a group and a port/],
  [{ listen: udp, key, multicast: '[ff02::1]:4711' }, 'multicast', /of the family of the address: IPv4/],
  [{ listen, compression: 'lz4' }, 'compression', /'compression' must be one of "none", "deflate", "zstd"/],
  [{ listen, tls: { cert: 'c', key: 'k' } }, 'tls', /'tls' must be an object with 'ca'/],
]

const wrongForServe: readonly Wrong[] = [
  [{}, 'listen', /needs 'listen'/],
  [{ listen, sites: Number.NaN }, 'sites', /'sites' must be a whole number/],
  [{ listen, heartbeatMs: 5001 }, 'heartbeatMs', /at most half of 'silenceTimeoutMs' \(10000\)/],
  [
    { listen, heartbeatMs: 300, silenceTimeoutMs: 500 },
    'heartbeatMs',
    /at most half of 'silenceTimeoutMs' \(500\)/,
  ],
]

const wrongForJoin: readonly Wrong[] = [
  [{}, 'listen', /needs 'listen'/],
  [{ listen, advertise: 'tcp://127.0.0.1:0' }, 'advertise', /at which port/],
  [{ listen, heartbeatMs: 200 }, 'heartbeatMs', /must be at most half of 'electionTimeoutMs'/],
  [{ listen, silenceTimeoutMs: 200 }, 'silenceTimeoutMs', /must be at least 'electionTimeoutMs' \(300\)/],
]

const wrongForAttach: readonly Wrong[] = [
  [{ takeOver: false }, 'takeOver', /'takeOver' must be true, or an object/],
  [{ view: { filter: 1 } }, 'view', /'view' must be true, false or \{ filter\(store\) \}$/],
  [{ view: {} }, 'view', /'view' must be true, false or/],
]

function names(option: string, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(isCoterieError(error, 'OPTION_INVALID'), `${error}`)
    assert.equal(error.details.option, option)
    assert.match(error.message, message)
    return true
  }
}

test('serve, attachMaster and join name the option that is wrong, and say what to give', async (t) => {
  const db = await openMemory(t, { site: 'm' })
  for (const [options, option, message] of [...wrongForAll, ...wrongForServe]) {
    await assert.rejects(db.serve(options as never), names(option, message), `serve ${option}`)
  }
  for (const [options, option, message] of [...wrongForAll, ...wrongForJoin]) {
    await assert.rejects(db.join(options as never), names(option, message), `join ${option}`)
  }
  for (const [options, option, message] of [...wrongForAll, ...wrongForAttach]) {
    const { listen: address = 'tcp://127.0.0.1:1', ...rest } = options
    const to = String(address).replace(/:0$/, ':1')
    const attachment = attachMaster({ path: ':memory:' }, to, rest)
    // A group is bound when a socket is there, and over UDP nobody is needed for that.
    await assert.rejects(attachment.synced, names(option, message), `attachMaster ${option}`)
    await attachment.stopped
  }
  await db.serve({ listen })
})

test('an option of a link must be for one of several addresses', async (t) => {
  const db = await openMemory(t, { site: 'm' })
  await using master = await db.serve({ listen: [listen, udp], compression: 'deflate', key })
  assert.equal(master.addresses.length, 2)
})

test('no options and no address are a TypeError that says so', async (t) => {
  const db = await openMemory(t, { site: 'm' })
  for (const options of [undefined, null, []]) {
    await assert.rejects(db.serve(options as never), {
      name: 'TypeError',
      message: /options must be an object/,
    })
  }
  for (const address of [undefined, 5, [listen]]) {
    assert.throws(() => attachMaster(db, address as never), {
      name: 'TypeError',
      message: /address .* must be text/,
    })
  }
  assert.throws(() => attachMaster(db, listen, null as never), {
    name: 'TypeError',
    message: /options must be/,
  })
  assert.throws(() => db.on('role', 5 as never), { name: 'TypeError', message: /listener of 'role'/ })
})

test('addresses that cannot be: the code, and why', async (t) => {
  const db = await openMemory(t, { site: 'm' })
  const folder = withTempFolder(t)
  writeFileSync(join(folder, 'file'), '')
  const cases: readonly (readonly [string, RegExp])[] = [
    [join(folder, 'no', 'folder', 'socket'), /there is no folder .*no.folder$/],
    [join(folder, 'file'), /it is no socket/],
    [join(folder, 'x'.repeat(120)), /has at most \d+ bytes/],
    ['tcp://127.0.0.1', /it is not host:port/],
    ['nosuch://x', /no transport for nosuch:\/\//],
  ]
  for (const [address, message] of cases) {
    const refused = { code: 'ADDRESS_INVALID', message }
    await assert.rejects(db.serve({ listen: address }), refused, address)
    await assert.rejects(db.serve({ listen: [listen, address] }), refused, address)
  }
  for (const seed of ['nosuch://x', 'tcp://127.0.0.1']) {
    await assert.rejects(db.join({ listen, seeds: [seed] }), { code: 'ADDRESS_INVALID' })
    await assert.rejects(db.join({ listen, advertise: seed }), { code: 'ADDRESS_INVALID' })
  }
})

test('a short silence timeout brings its own heartbeat: a replica that has nothing to say stays', async (t) => {
  const db = await openMemory(t, { site: 'm' })
  await using master = await db.serve({ listen, sites: 2, silenceTimeoutMs: 400 })
  const detached: unknown[] = []
  master.on('detached', (event) => detached.push(event))
  await using attachment = attachMaster({ path: ':memory:' }, master.addresses[0] as string)
  await attachment.synced
  await new Promise((resolve) => setTimeout(resolve, 1200))
  assert.deepEqual(detached, [])
})

test('a transport is not asked for protection that it does not declare', async (t) => {
  const asked = async (): Promise<never> => {
    throw new CoterieError('CONNECT_FAILED', 'it was asked')
  }
  registerTransport('declared', { scheme: 'declared', takes: ['key'], listen: asked, connect: asked })
  const db = await openMemory(t, { site: 'm' })
  const secret = 'a secret that is long enough'
  const refused = names('secret', /declared: has no use for 'secret'/)
  await assert.rejects(db.serve({ listen: 'declared://x', secret }), refused)
  await assert.rejects(attachMaster(db, 'declared://x', { secret }).synced, refused)
  await assert.rejects(attachMaster(db, 'declared://x', { key }).synced, { code: 'CONNECT_FAILED' })
})

test('registerTransport takes a whole transport only', () => {
  const listenAndConnect = { listen() {}, connect() {} }
  const cases: readonly (readonly [unknown, unknown, RegExp])[] = [
    [undefined, undefined, /no scheme/],
    ['zz', undefined, /must have the functions listen\(\) and connect\(\)/],
    ['zz', { scheme: 'zz', listen() {} }, /must have the functions/],
    ['zz', { scheme: 'yy', ...listenAndConnect }, /is for yy:\/\//],
    [
      'zz',
      { scheme: 'zz', takes: ['password'], ...listenAndConnect },
      /'takes' .* list of link options: tls, secret/,
    ],
    ['zz', { scheme: 'zz', takes: 'secret', ...listenAndConnect }, /'takes'/],
    ['tcp', { scheme: 'tcp', ...listenAndConnect }, /already/],
  ]
  for (const [scheme, transport, message] of cases) {
    assert.throws(() => registerTransport(scheme as never, transport as never), {
      name: 'TypeError',
      message,
    })
  }
})
