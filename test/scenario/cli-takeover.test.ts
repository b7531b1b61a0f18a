// coterie takeover as real processes: serve, two that attach, and the verb through the control endpoint of one of them.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { coterie, coterieHere, startCoterie } from '../support/cli.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

/** In this process, on the databases that other processes have open. */
async function json(args: readonly string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await coterieHere([...args, '--json'])
  assert.equal(code, 0, `coterie ${args.join(' ')}: ${stderr}`)
  return JSON.parse(stdout) as Record<string, unknown>
}

const anyPort = 'tcp://127.0.0.1:0'

test('[A9a C12] coterie takeover: the old serve ends, the new one serves, the third goes over by itself', async (t) => {
  const folder = withTempFolder(t)
  const [data, copy, third] = [join(folder, 'data'), join(folder, 'copy'), join(folder, 'third')]
  const server = startCoterie(t, ['serve', data, '--listen', anyPort, '--site', 'a'])
  const [, address = ''] = await server.says(/listening on (tcp:\/\/[\d.]+:\d+)/)
  const heir = startCoterie(t, ['attach', copy, address, '--site', 'b', '--listen', anyPort])
  const other = startCoterie(t, ['attach', third, address, '--site', 'c'])
  await heir.says(/synced/)
  await other.says(/synced/)
  await json(['put', data, 'k', '1'])

  const nobody = await coterieHere(['takeover', data, '--json'])
  assert.equal(nobody.code, 1, nobody.stderr)
  assert.match(nobody.stderr, /INVALID_STATE/)

  const { code, stdout, stderr } = await coterie(t, ['takeover', copy, '--json'])
  assert.equal(code, 0, stderr)
  const taken = JSON.parse(stdout) as Record<string, unknown>
  assert.equal(taken.term, 2)
  assert.ok(typeof taken.pausedMs === 'number')
  const [newAddress = ''] = taken.addresses as string[]
  assert.notEqual(newAddress, address)
  await heir.says(/became-master/)
  await heir.says(/master in term 2, listening on/)
  await server.says(/b asks to take over/)
  await server.says(new RegExp(`replaced by b at lsn .* the master is now at ${newAddress}`))
  assert.equal((await server.ended).code, 4)

  await other.says(new RegExp(`connected to ${newAddress}`))
  await other.says(/the master is b, term 2/)
  await json(['put', copy, 'k', '2'])
  const status = async (path: string): Promise<Record<string, unknown>> => await json(['status', path])
  const { lastLsn } = await status(copy)
  const follows = async (): Promise<boolean> => (await status(third)).appliedLsn === lastLsn
  await waitUntil(follows, { what: 'the third has it', timeoutMs: 60_000 })

  // The folder of the old master is a replica now, and says where to go.
  const refused = await coterieHere(['put', data, 'k', '3', '--json'])
  assert.equal(refused.code, 4, refused.stderr)
  assert.ok(refused.stderr.includes(newAddress), refused.stderr)

  // And on to the third, which was not told where to listen.
  await json(['takeover', third, '--listen', anyPort])
  await heir.says(/replaced by c/)
  assert.equal((await status(third)).role, 'master')
  assert.equal((await other.signal('SIGTERM')).code, 0)
})
