// One process at a time has a folder open; the lock belongs to the process and goes with it, however it ends.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { attachMaster, isCoterieError, open } from '../../src/index.ts'
import { atEnd } from '../support/at-end.ts'
import { RemoteSite } from '../support/remote-site.ts'
import { withTempFolder } from '../support/temp-folder.ts'

function lockedBy(pid: number | undefined): (error: unknown) => boolean {
  return (error) =>
    isCoterieError(error, 'LOCKED') && error.details.pid === pid && error.message.includes(`${pid}`)
}

test('a second process gets LOCKED with the pid of the first, and the folder once that was killed', async (t) => {
  const path = join(withTempFolder(t), 'data')
  const first = new RemoteSite(t, { name: 'first' })
  await first.call('open', { path })
  await assert.rejects(open(path), lockedBy(first.pid))
  first.freeze()
  await assert.rejects(open(path), lockedBy(first.pid), 'a process that stands still still has its folder')
  first.thaw()
  await first.kill()
  const db = await open(path)
  atEnd(t, () => db.close())
  await db.put('a', '1')
  await assert.rejects(open(path), lockedBy(process.pid), 'a second handle of one process is refused too')
})

test('a replica cannot be made of a folder that another process has open', async (t) => {
  const folder = withTempFolder(t)
  const path = join(folder, 'data')
  const first = new RemoteSite(t, { name: 'first' })
  await first.call('open', { path })
  const master = await open(join(folder, 'master'))
  atEnd(t, () => master.close())
  const { addresses } = await master.serve({ listen: 'tcp://127.0.0.1:0' })
  const attachment = attachMaster({ path }, addresses[0] as string)
  await assert.rejects(attachment.synced, lockedBy(first.pid))
  const stopped = await attachment.stopped
  assert.equal(stopped.cause?.code, 'LOCKED')
})

test('the lock is free as soon as the process that had it has closed the database', async (t) => {
  const path = join(withTempFolder(t), 'data')
  const first = new RemoteSite(t, { name: 'first' })
  await first.call('open', { path })
  await first.call('close')
  const db = await open(path)
  await db.close()
})
