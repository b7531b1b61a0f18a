// The command with views: attached as one, and what the other verbs say of it.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { coterieHere, startCoterie } from '../support/cli.ts'
import { withTempFolder } from '../support/temp-folder.ts'

async function fails(code: string, exitCode: number, args: readonly string[]): Promise<void> {
  const result = await coterieHere([...args, '--json'])
  assert.equal(result.code, exitCode, `coterie ${args.join(' ')}: ${result.stdout}${result.stderr}`)
  const { error } = JSON.parse(result.stderr.trim().split('\n').at(-1) ?? '') as { error: { code: string } }
  assert.equal(error.code, code)
}

/** In this process; what other processes have open is reached through them. */
async function ok(args: readonly string[], input?: string): Promise<string> {
  const { code, stdout, stderr } = await coterieHere(args, input === undefined ? {} : { input })
  assert.equal(code, 0, `coterie ${args.join(' ')}: ${stderr}`)
  return stdout
}

test('[B10] coterie attach --only-store keeps these stores, and every verb says that it has no others', async (t) => {
  const folder = withTempFolder(t)
  const [data, part] = [join(folder, 'data'), join(folder, 'part')]
  const rows = ['cities', 'rivers', undefined].map((store) => JSON.stringify({ key: 'k', value: 'v', store }))
  await ok(['load', data], `${rows.join('\n')}\n`)
  const server = startCoterie(t, ['serve', data, '--listen', 'tcp://127.0.0.1:0'])
  const [, address = ''] = await server.says(/listening on (tcp:\/\/[\d.]+:\d+)/)
  const view = startCoterie(t, ['attach', part, address, '--site', 'v', '--only-store', 'cities'])
  await view.says(/synced snapshot/)

  assert.equal(await ok(['get', part, 'k', '--store', 'cities']), 'v\n')
  await fails('STORE_NOT_KEPT', 1, ['get', part, 'k', '--store', 'rivers'])
  await fails('STORE_NOT_KEPT', 1, ['dump', part])
  assert.match(await ok(['dump', part, '--store', 'cities']), /^\{[^\n]*"cities"[^\n]*\}\n$/)
  const words = /^view +partial; stores kept: cities; not kept: \(unnamed\), rivers$/m
  for (const verb of ['status', 'stat', 'verify']) assert.match(await ok([verb, part]), words)
  await fails('INVALID_STATE', 1, ['backup', part, join(folder, 'b.backup')])
  assert.equal(existsSync(join(folder, 'b.backup')), false)
  for (const verb of ['promote', 'takeover']) await fails('INVALID_STATE', 1, [verb, part])
  // It has gone on all the same.
  await ok(['put', data, 'k2', 'v2', '--store', 'cities'])
  assert.match(await ok(['status', part]), /^role +replica, attached, read-only$/m)
  assert.equal((await view.signal('SIGINT')).code, 0)

  await fails('INVALID_STATE', 1, ['attach', part, address])
  await fails('INVALID_STATE', 1, ['attach', part, address, '--only-store', 'rivers'])
  await fails('USAGE', 2, ['attach', part, address, '--view', '--listen', 'tcp://127.0.0.1:0'])
  const again = startCoterie(t, ['attach', part, address, '--only-store', 'cities'])
  await again.says(/synced incremental|synced equal/)
  assert.equal((await again.signal('SIGINT')).code, 0)
  assert.equal((await server.signal('SIGTERM')).code, 0)
})
