// Replication over datagrams through the command: the key from a file, live records to a group.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { coterie, startCoterie } from '../support/cli.ts'
import { withTempFolder } from '../support/temp-folder.ts'

test('[C12 A4c A24] serve and attach over udp:// with a key and a group', async (t) => {
  const folder = withTempFolder(t)
  const key = join(folder, 'key')
  writeFileSync(key, `${randomBytes(32).toString('hex')}\n`)
  const port = 20_000 + (randomBytes(2).readUInt16LE() % 20_000)
  const link = ['--key-file', key, '--multicast', `239.77.1.2:${port}`]
  const [data, copy] = [join(folder, 'data'), join(folder, 'copy')]
  const listen = ['--listen', 'udp://127.0.0.1:0', '--sites', '2', '--site', 'a']
  const server = startCoterie(t, ['serve', data, ...listen, ...link])
  const [address = ''] = await server.says(/udp:\/\/127\.0\.0\.1:\d+/)
  const replica = startCoterie(t, ['attach', copy, address, '--site', 'b', ...link])
  await replica.says(/synced (snapshot|incremental|equal)/)
  const put = await coterie(t, ['put', data, 'city:1', 'Jakarta'])
  assert.match(put.stdout, /on 2 sites\n$/, put.stderr)
  assert.equal((await replica.signal('SIGINT')).code, 0)
  assert.equal((await server.signal('SIGTERM')).code, 0)
})
