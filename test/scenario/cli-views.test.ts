// The command with views: attached as one, and what the other verbs say of it.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { coterie, startCoterie } from '../support/cli.ts'
import { withTempFolder } from '../support/temp-folder.ts'

async function fails(t: TestContext, code: string, exitCode: number, args: readonly string[]): Promise<void> {
  const result = await coterie(t, [...args, '--json'])
  assert.equal(result.code, exitCode, `coterie ${args.join(' ')}: ${result.stdout}${result.stderr}`)
  const { error } = JSON.parse(result.stderr.trim().split('\n').at(-1) ?? '') as { error: { code: string } }
  assert.equal(error.code, code)
}

async function ok(t: TestContext, args: readonly string[], input?: string): Promise<string> {
  const { code, stdout, stderr } = await coterie(t, args, input === undefined ? {} : { input })
  assert.equal(code, 0, `coterie ${args.join(' ')}: ${stderr}`)
  return stdout
}

test('[B10] coterie attach --only-store keeps these stores, and every verb says that it has no others', async (t) => {
  const folder = withTempFolder(t)
  const [data, part] = [join(folder, 'data'), join(folder, 'part')]
  const rows = ['cities', 'rivers', undefined].map((store) => JSON.stringify({ key: 'k', value: 'v', store }))
  await ok(t, ['load', data], `${rows.join('\n')}\n`)
  const server = startCoterie(t, ['serve', data, '--listen', 'tcp://127.0.0.1:0'])
  const [, address = ''] = await server.says(/listening on (tcp:\/\/[\d.]+:\d+)/)
  const view = startCoterie(t, ['attach', part, address, '--site', 'v', '--only-store', 'cities'])
  await view.says(/synced snapshot/)

  assert.equal(await ok(t, ['get', part, 'k', '--store', 'cities']), 'v\n')
  await fails(t, 'STORE_NOT_KEPT', 1, ['get', part, 'k', '--store', 'rivers'])
  await fails(t, 'STORE_NOT_KEPT', 1, ['dump', part])
  assert.match(await ok(t, ['dump', part, '--store', 'cities']), /^\{[^\n]*"cities"[^\n]*\}\n$/)
  const words = /^view +partial; stores kept: cities; not kept: \(unnamed\), rivers$/m
  for (const verb of ['status', 'stat', 'verify']) assert.match(await ok(t, [verb, part]), words)
  await fails(t, 'INVALID_STATE', 1, ['backup', part, join(folder, 'b.backup')])
  assert.equal(existsSync(join(folder, 'b.backup')), false)
  for (const verb of ['promote', 'takeover']) await fails(t, 'INVALID_STATE', 1, [verb, part])
  // It has gone on all the same.
  await ok(t, ['put', data, 'k2', 'v2', '--store', 'cities'])
  assert.match(await ok(t, ['status', part]), /^role +replica, attached, read-only$/m)
  assert.equal((await view.signal('SIGINT')).code, 0)

  await fails(t, 'INVALID_STATE', 1, ['attach', part, address])
  await fails(t, 'INVALID_STATE', 1, ['attach', part, address, '--only-store', 'rivers'])
  await fails(t, 'USAGE', 2, ['attach', part, address, '--view', '--listen', 'tcp://127.0.0.1:0'])
  const again = startCoterie(t, ['attach', part, address, '--only-store', 'cities'])
  await again.says(/synced incremental|synced equal/)
  assert.equal((await again.signal('SIGINT')).code, 0)
  assert.equal((await server.signal('SIGTERM')).code, 0)
})
