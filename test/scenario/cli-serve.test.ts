// The command as real processes: serve, attach, and the other verbs through their control endpoint.

import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { tlsArguments } from '../support/certificates.ts'
import { coterie, coterieHere, type RunningCli, startCoterie } from '../support/cli.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

async function serving(
  t: TestContext,
  path: string,
  ...options: string[]
): Promise<{ cli: RunningCli; address: string }> {
  const cli = startCoterie(t, ['serve', path, '--listen', 'tcp://127.0.0.1:0', ...options])
  const [, address = ''] = await cli.says(/listening on (tcp:\/\/[\d.]+:\d+)/)
  return { cli, address }
}

async function ok(t: TestContext, args: readonly string[], input?: string): Promise<string> {
  const { code, stdout, stderr } = await coterie(t, args, input === undefined ? {} : { input })
  assert.equal(code, 0, `coterie ${args.join(' ')}: ${stderr}`)
  return stdout
}

/** In this process, on the databases that other processes have open. */
async function okHere(args: readonly string[], input?: string): Promise<string> {
  const { code, stdout, stderr } = await coterieHere(args, input === undefined ? {} : { input })
  assert.equal(code, 0, `coterie ${args.join(' ')}: ${stderr}`)
  return stdout
}

const statusOf = async (path: string): Promise<Record<string, unknown>> =>
  JSON.parse(await okHere(['status', path, '--json'])) as Record<string, unknown>

test('[C12 A12] serve and attach: a live copy, every verb through the running processes, an orderly end', async (t) => {
  const folder = withTempFolder(t)
  const [data, copy] = [join(folder, 'data'), join(folder, 'copy')]
  const { cli: server, address } = await serving(t, data, '--site', 'a', '--sites', '2')
  // `host:port`, as the model has it.
  const replica = startCoterie(t, ['attach', copy, address.replace('tcp://', ''), '--site', 'b'])
  await replica.says(/synced (snapshot|incremental|equal)/)
  await server.says(/b is synchronised/)

  const status = await statusOf(data)
  assert.equal(status.role, 'master')
  assert.equal(status.holderPid, server.child.pid)
  assert.match(await ok(t, ['status', data]), /^can lose: 1 site, 0 commits$/m)

  assert.match(await ok(t, ['put', data, 'city:1', 'Jakarta']), /on 2 sites\n$/)
  const hostile =
    '{"key":"h","value":"\\"q\\",\\n\\u2028 ✓","store":"s"}\n{"key64":"/wA=","value64":"AP8="}\n'
  await ok(t, ['load', data], hostile)
  assert.equal(await ok(t, ['get', data, 'city:1']), 'Jakarta\n')
  assert.equal(await ok(t, ['dump', data]), await dumpWhenEqual(copy, data))

  const refused = await coterie(t, ['put', copy, 'k', 'v', '--json'])
  assert.equal(refused.code, 4, refused.stderr)
  const { error } = JSON.parse(refused.stderr) as {
    error: { code: string; details: Record<string, unknown> }
  }
  assert.equal(error.code, 'NOT_MASTER')
  assert.equal(String(error.details.master).replace('tcp://', ''), address.replace('tcp://', ''))

  for (const path of [data, copy]) {
    assert.equal((JSON.parse(await okHere(['verify', path, '--json'])) as { ok: boolean }).ok, true)
    await okHere(['backup', path, join(folder, 'b.backup')])
    await okHere(['checkpoint', path])
  }
  const missing = await coterie(t, ['get', data, 'nothing'])
  assert.equal(missing.code, 7, missing.stderr)

  assert.equal((await replica.signal('SIGINT')).code, 0)
  assert.equal((await server.signal('SIGTERM')).code, 0)
  for (const path of [data, copy]) assert.equal(existsSync(join(path, 'control.json')), false)
  assert.equal(await ok(t, ['get', copy, 'city:1']), 'Jakarta\n')
})

test('[C12 A25 C10a] serve and attach over TLS, with a secret and compression, from files', async (t) => {
  const folder = withTempFolder(t)
  const overTls = tlsArguments(folder)
  const secret = join(folder, 'secret')
  writeFileSync(secret, 'what all sites of this test know\n')
  const options = (site: string): string[] => [
    ...overTls(site),
    '--secret-file',
    secret,
    '--compression',
    'deflate',
  ]
  const [data, copy] = [join(folder, 'data'), join(folder, 'copy')]
  const server = startCoterie(t, [
    'serve',
    data,
    '--listen',
    'tls://127.0.0.1:0',
    '--sites',
    '2',
    ...options('a'),
  ])
  const [address = ''] = await server.says(/tls:\/\/127\.0\.0\.1:\d+/)
  const replica = startCoterie(t, ['attach', copy, address, ...options('b')])
  await replica.says(/synced (snapshot|incremental|equal)/)
  assert.match(await ok(t, ['put', data, 'city:1', 'Jakarta']), /on 2 sites\n$/)
  const thief = await coterie(t, ['attach', join(folder, 'c'), address, ...options('x'), '--site', 'b'])
  assert.equal(thief.code, 6, thief.stderr)
  assert.match(thief.stdout + thief.stderr, /AUTH_FAILED/)
  assert.equal((await replica.signal('SIGINT')).code, 0)
  assert.equal((await server.signal('SIGTERM')).code, 0)
})

async function dumpWhenEqual(copy: string, data: string): Promise<string> {
  const { lastLsn } = await statusOf(data)
  await waitUntil(async () => Number((await statusOf(copy)).appliedLsn) >= Number(lastLsn), {
    what: 'the copy has applied all',
    everyMs: 50,
  })
  return await okHere(['dump', copy])
}

test('a replica finds its master again after a kill, by incremental catch-up, and log --follow sees new commits', async (t) => {
  const folder = withTempFolder(t)
  const [data, copy] = [join(folder, 'data'), join(folder, 'copy')]
  const first = await serving(t, data, '--site', 'a', '--acks', 'none')
  const replica = startCoterie(t, ['attach', copy, first.address, '--site', 'b', '--json'])
  await replica.says(/"event":"synced"/)
  await first.cli.signal('SIGKILL')
  await replica.says(/"event":"stopped"/)
  const again = startCoterie(t, ['serve', data, '--listen', first.address, '--acks', 'none'])
  await again.says(/listening on/)
  const follow = startCoterie(t, ['log', data, '--follow', '--json'])
  await follow.says(/"lsn":1,/)
  await okHere(['put', data, 'after', 'the kill'])
  await follow.says(new RegExp(`"key":"${Buffer.from('after').toString('base64')}"`))
  assert.equal((await follow.signal('SIGINT')).code, 0)
  await replica.says(/"event":"synced"[\s\S]*"event":"synced".*"kind":"(incremental|equal)"/)
  const events = replica.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { event: string; time: string })
  assert.ok(events.every((event) => typeof event.event === 'string' && !Number.isNaN(Date.parse(event.time))))
})

test('promote makes a running replica the master, which serves', async (t) => {
  const folder = withTempFolder(t)
  const [data, copy, third] = [join(folder, 'data'), join(folder, 'copy'), join(folder, 'third')]
  const { cli: server, address } = await serving(t, data, '--site', 'a', '--acks', 'none')
  await okHere(['put', data, 'k', 'v'])
  const replica = startCoterie(t, [
    'attach',
    copy,
    address,
    '--site',
    'b',
    '--listen',
    'tcp://127.0.0.1:0',
    '--acks',
    'none',
  ])
  await replica.says(/synced/)
  await server.signal('SIGKILL')
  await replica.says(/connection-lost/)
  const promoted = JSON.parse(await ok(t, ['promote', copy, '--json'])) as {
    term: number
    addresses: string[]
  }
  const [newAddress = ''] = promoted.addresses
  await replica.says(/master in term/)
  await okHere(['put', copy, 'k2', 'v2'])
  const follower = startCoterie(t, ['attach', third, newAddress, '--site', 'c'])
  await follower.says(/synced/)
  assert.equal((await statusOf(copy)).role, 'master')
  assert.equal((await replica.signal('SIGTERM')).code, 0)
})

test('what a connection cannot mend ends attach with 6, and the local data stays', async (t) => {
  const folder = withTempFolder(t)
  const [data, other] = [join(folder, 'data'), join(folder, 'other')]
  await okHere(['put', other, 'mine', 'kept'])
  const { address } = await serving(t, data, '--acks', 'none')
  const foreign = await coterie(t, ['attach', other, address])
  assert.equal(foreign.code, 6, foreign.stderr)
  assert.match(foreign.stderr, /FOREIGN_HISTORY[\s\S]*--replace/)
  assert.equal(await okHere(['get', other, 'mine']), 'kept\n')
  const nobody = await coterie(t, ['attach', join(folder, 'new'), '127.0.0.1:1', '--no-reconnect'])
  assert.equal(nobody.code, 6, nobody.stderr)
  assert.match(nobody.stderr, /CONNECT_FAILED/)
  const taken = await coterieHere(['serve', other, '--listen', address])
  assert.equal(taken.code, 6, taken.stderr)
  assert.match(taken.stderr, /ADDRESS_IN_USE/)
  const second = await coterieHere(['serve', data])
  assert.equal(second.code, 3, second.stderr)
  assert.match(second.stderr, /LOCKED/)
})

test('a control.json that a killed process left behind is ignored', async (t) => {
  const data = join(withTempFolder(t), 'data')
  const { cli } = await serving(t, data, '--acks', 'none')
  await okHere(['put', data, 'k', 'v'])
  const left = readFileSync(join(data, 'control.json'), 'utf8')
  await cli.signal('SIGKILL')
  assert.equal(existsSync(join(data, 'control.json')), true)
  assert.equal(await okHere(['get', data, 'k']), 'v\n')
  // Its pid may belong to another process by now; then nothing answers at the address.
  writeFileSync(join(data, 'control.json'), left.replace(/"pid":\d+/, `"pid":${process.pid}`))
  assert.equal(await okHere(['get', data, 'k']), 'v\n')
})

test('a reader that has had enough ends a scan without an error', async (t) => {
  const data = join(withTempFolder(t), 'data')
  const rows = Array.from({ length: 30_000 }, (_, i) => `{"key":"${i}","value":"${'v'.repeat(50)}"}`).join(
    '\n',
  )
  await okHere(['load', data], rows)
  const scan = startCoterie(t, ['scan', data])
  scan.child.stdout?.once('data', () => scan.child.stdout?.destroy())
  const { code, stderr } = await scan.ended
  assert.equal(stderr, '')
  assert.equal(code, 0)
})
