// A master and its replicas over every kind of link, and those who may not come in.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { atEnd } from '../support/at-end.ts'
import {
  addressOf,
  attachTo,
  digestOf,
  failsWith,
  openMemory,
  putMany,
  replicaOf,
  serveTcp,
} from '../support/sites.ts'
import { withTempFolder } from '../support/temp-folder.ts'

const secret = 'a secret of the master and its replicas'

test('[A25] a replica that knows the secret attaches; one that does not, or has none, is told why', async (t) => {
  const source = await openMemory(t, { site: 'a' })
  await putMany(source, 20)
  const master = await serveTcp(source, { sites: 2, secret })
  const { db } = await replicaOf(t, addressOf(master), { path: ':memory:', site: 'b' }, { secret })
  const { token } = await source.put('after', '1')
  await db.get('after', { after: token })
  assert.equal(await digestOf(db), await digestOf(source))
  for (const options of [{ secret: `${secret}?` }, {}]) {
    const attachment = attachTo(t, addressOf(master), { path: ':memory:', site: 'c' }, options)
    const { reason, cause } = await attachment.stopped
    assert.equal(reason, 'handshake-refused')
    await failsWith('AUTH_FAILED', Promise.reject(cause))
  }
  assert.equal(master.replicas.length, 1)
})

test('[A4b A23d] a replica attaches over a pipe, by its path alone', async (t) => {
  const path = join(withTempFolder(t), 'db.sock')
  const source = await openMemory(t, { site: 'a' })
  await putMany(source, 20)
  const master = await source.serve({ listen: path, sites: 2, secret })
  atEnd(t, () => master.stop())
  assert.deepEqual(master.addresses, [`pipe:${path}`])
  const { db } = await replicaOf(t, path, { path: ':memory:', site: 'b' }, { secret })
  const { token } = await source.put('after', '1')
  await db.get('after', { after: token })
  assert.equal(await digestOf(db), await digestOf(source))
})

test('protection that an address has no use for is refused, by name', async (t) => {
  const source = await openMemory(t, { site: 'a' })
  const error = await failsWith('OPTION_INVALID', source.serve({ listen: 'memory://links', secret }))
  assert.equal(error.details.option, 'secret')
  const attachment = attachTo(t, 'memory://links', { path: ':memory:', site: 'b' }, { secret })
  await failsWith('OPTION_INVALID', attachment.synced)
})
