// coterie attach --in-turn as real processes: a master, one in the middle, one below. The one in the middle is killed and
// comes back, and is then promoted.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { tlsArguments } from '../support/certificates.ts'
import { coterieHere, type RunningCli, startCoterie } from '../support/cli.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

/** In this process, on the databases that other processes have open. */
async function ok(args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await coterieHere(args)
  assert.equal(code, 0, `coterie ${args.join(' ')}: ${stderr}`)
  return stdout
}

async function statusOf(path: string): Promise<Record<string, unknown>> {
  return JSON.parse(await ok(['status', path, '--json'])) as Record<string, unknown>
}

async function sameAs(path: string, other: string): Promise<void> {
  const { lastLsn } = await statusOf(other)
  const has = async (): Promise<boolean> => (await statusOf(path)).appliedLsn === lastLsn
  await waitUntil(has, { what: `${path} has what ${other} has`, everyMs: 50 })
  assert.equal(await ok(['dump', path]), await ok(['dump', other]))
}

test('[A26c C12 A25] attach --in-turn over TLS: killed in the middle, back, and promoted', async (t) => {
  const folder = withTempFolder(t)
  const as = tlsArguments(folder)
  const [top, middle, below] = [join(folder, 'top'), join(folder, 'middle'), join(folder, 'below')]
  const master = startCoterie(t, ['serve', top, '--listen', 'tls://127.0.0.1:0', ...as('a')])
  const [address = ''] = await master.says(/tls:\/\/127\.0\.0\.1:\d+/)
  await ok(['put', top, 'k', '1'])

  const inTurn = (listen: string): RunningCli =>
    startCoterie(t, ['attach', middle, address, '--in-turn', '--listen', listen, ...as('b')])
  const first = inTurn('tls://127.0.0.1:0')
  const [, place = ''] = await first.says(/serving in turn, listening on (tls:\/\/127\.0\.0\.1:\d+)/)
  const leaf = startCoterie(t, ['attach', below, place, ...as('c')])
  await leaf.says(/synced snapshot/)
  // Its master is the one at the top, although the certificate on its connection is that of the middle.
  await leaf.says(/the master is a, term 1/)
  await first.says(/c is synchronised/)
  const text = await ok(['status', middle])
  assert.ok(text.includes(place), text)
  assert.match(text, /replica, attached, read-only/)

  await first.signal('SIGKILL')
  await ok(['put', top, 'k', '2'])
  const second = inTurn(place)
  await second.says(/serving in turn/)
  await leaf.says(/synced (incremental|equal)/)
  await ok(['put', top, 'k', '3'])
  await sameAs(below, top)

  assert.equal((await master.signal('SIGTERM')).code, 0)
  const promoted = JSON.parse(await ok(['promote', middle, '--json'])) as { addresses: string[] }
  assert.deepEqual(promoted.addresses, [place])
  await second.says(/master in term 2, listening on/)
  await leaf.says(/the master is b, term 2/)
  await ok(['put', middle, 'k', '4'])
  await sameAs(below, middle)
  assert.equal((await leaf.signal('SIGTERM')).code, 0)
  assert.equal((await second.signal('SIGTERM')).code, 0)
})

test('attach --in-turn needs --listen', async (t) => {
  const { code, stderr } = await coterieHere([
    'attach',
    join(withTempFolder(t), 'x'),
    '127.0.0.1:1',
    '--in-turn',
  ])
  assert.equal(code, 2, stderr)
  assert.match(stderr, /OPTION_INVALID.*--listen|--listen/)
})
