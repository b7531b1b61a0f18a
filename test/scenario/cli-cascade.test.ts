// coterie attach --in-turn as real processes: a master, one in the middle, one below. The one in the middle is killed and
// comes back, and is then promoted.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { tlsArguments } from '../support/certificates.ts'
import { coterie, type RunningCli, startCoterie } from '../support/cli.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

async function ok(t: TestContext, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await coterie(t, args)
  assert.equal(code, 0, `coterie ${args.join(' ')}: ${stderr}`)
  return stdout
}

async function statusOf(t: TestContext, path: string): Promise<Record<string, unknown>> {
  return JSON.parse(await ok(t, ['status', path, '--json'])) as Record<string, unknown>
}

async function sameAs(t: TestContext, path: string, other: string): Promise<void> {
  const { lastLsn } = await statusOf(t, other)
  const has = async (): Promise<boolean> => (await statusOf(t, path)).appliedLsn === lastLsn
  await waitUntil(has, { what: `${path} has what ${other} has`, everyMs: 1000, timeoutMs: 60_000 })
  assert.equal(await ok(t, ['dump', path]), await ok(t, ['dump', other]))
}

test('[A26c C12 A25] attach --in-turn over TLS: killed in the middle, back, and promoted', async (t) => {
  const folder = withTempFolder(t)
  const as = tlsArguments(folder)
  const [top, middle, below] = [join(folder, 'top'), join(folder, 'middle'), join(folder, 'below')]
  const master = startCoterie(t, ['serve', top, '--listen', 'tls://127.0.0.1:0', ...as('a')])
  const [address = ''] = await master.says(/tls:\/\/127\.0\.0\.1:\d+/)
  await ok(t, ['put', top, 'k', '1'])

  const inTurn = (listen: string): RunningCli =>
    startCoterie(t, ['attach', middle, address, '--in-turn', '--listen', listen, ...as('b')])
  const first = inTurn('tls://127.0.0.1:0')
  const [, place = ''] = await first.says(/serving in turn, listening on (tls:\/\/127\.0\.0\.1:\d+)/)
  const leaf = startCoterie(t, ['attach', below, place, ...as('c')])
  await leaf.says(/synced snapshot/)
  // Its master is the one at the top, although the certificate on its connection is that of the middle.
  await leaf.says(/the master is a, term 1/)
  await first.says(/c is synchronised/)
  const text = await ok(t, ['status', middle])
  assert.ok(text.includes(place), text)
  assert.match(text, /replica, attached, read-only/)

  await first.signal('SIGKILL')
  await ok(t, ['put', top, 'k', '2'])
  const second = inTurn(place)
  await second.says(/serving in turn/)
  await leaf.says(/synced (incremental|equal)/)
  await ok(t, ['put', top, 'k', '3'])
  await sameAs(t, below, top)

  assert.equal((await master.signal('SIGTERM')).code, 0)
  const promoted = JSON.parse(await ok(t, ['promote', middle, '--json'])) as { addresses: string[] }
  assert.deepEqual(promoted.addresses, [place])
  await second.says(/master in term 2, listening on/)
  await leaf.says(/the master is b, term 2/)
  await ok(t, ['put', middle, 'k', '4'])
  await sameAs(t, below, middle)
  assert.equal((await leaf.signal('SIGTERM')).code, 0)
  assert.equal((await second.signal('SIGTERM')).code, 0)
})

test('attach --in-turn needs --listen', async (t) => {
  const { code, stderr } = await coterie(t, [
    'attach',
    join(withTempFolder(t), 'x'),
    '127.0.0.1:1',
    '--in-turn',
  ])
  assert.equal(code, 2, stderr)
  assert.match(stderr, /OPTION_INVALID.*--listen|--listen/)
})
