// Views: replicas that never count, whole or with some of the stores only; kept in the database.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import {
  type Attachment,
  type AttachOptions,
  type Database,
  isCoterieError,
  type Master,
  open,
  restore,
  type StoreFilter,
} from '../../src/index.ts'
import { AppNet } from '../support/app-net.ts'
import { joinSite } from '../support/groups.ts'
import {
  addressOf,
  attachTo,
  collect,
  digestOf,
  failsWith,
  kinds,
  openAt,
  openFolder,
  openMemory,
  putMany,
  replicaOf,
  serveTcp,
} from '../support/sites.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

/** Keeps the stores whose names begin with k, and not the unnamed one. */
const keepsK: StoreFilter = (store) => store.startsWith('k')
const partial: AttachOptions = { view: { filter: keepsK } }

async function putIn(db: Database, store: string, count: number, value = 'v'): Promise<void> {
  const named = db.store(store)
  for (let i = 0; i < count; i++) await named.put(`row${i}`, `${value}${i}`)
}

async function applied(view: Database, master: Database): Promise<void> {
  const { lastLsn } = master.status()
  await waitUntil(() => view.status().appliedLsn >= lastLsn, { what: `LSN ${lastLsn} was applied` })
}

/** Every way to read says so; none says that there is nothing. */
async function assertNotKept(db: Database, name: string): Promise<void> {
  const store = name === '' ? db : db.store(name)
  const snapshot = await db.snapshot()
  const held = name === '' ? snapshot : snapshot.store(name)
  const reads: (() => unknown)[] = [
    () => store.get('row0'),
    () => store.getSync('row0'),
    () => store.getMany(['row0', 'none']),
    () => store.has('row0'),
    () => store.entries().all(),
    () => store.keys({ gte: 'row0' }).all(),
    () => store.values({ reverse: true }).all(),
    () => held.get('row0'),
    () => held.getSync('row0'),
    () => held.getMany(['row0']),
    () => held.has('row0'),
    () => held.entries().all(),
    () => held.keys().all(),
    () => held.values().all(),
  ]
  for (const read of reads) {
    const error = await failsWith('STORE_NOT_KEPT', read)
    assert.deepEqual([error.details, error.retryable], [{ store: name }, false])
  }
  await snapshot.close()
}

async function rowsIn(db: Database, store: string): Promise<number> {
  return (await db.store(store).keys().all()).length
}

for (const { kind, openOne } of kinds) {
  test(`[B10] a partial view ${kind} keeps what its filter lets in of a snapshot, of the log, and of what comes`, async (t) => {
    const source = await openOne(t, { segmentBytes: 65_536, retain: { bytes: 0 } })
    await putMany(source, 30)
    await putIn(source, 'kept', 20)
    await putIn(source, 'other', 20)
    const master = await serveTcp(source)
    const copy = await openOne(t, { site: 'v' })
    const asked: string[] = []
    const filter = (store: string): boolean => {
      asked.push(store)
      return keepsK(store)
    }
    const first = await replicaOf(t, master, copy, { view: { filter } })
    assert.equal((await first.attachment.synced).kind, 'snapshot')
    assert.equal(await rowsIn(copy, 'kept'), 20)
    assert.equal(await copy.store('kept').get('row7'), 'v7')
    assert.equal(await copy.store('kept').get('none'), undefined, 'a row that is missing is missing')
    for (const name of ['', 'other']) await assertNotKept(copy, name)
    assert.deepEqual(copy.status().view, { kind: 'partial', kept: ['kept'], declined: ['', 'other'] })
    assert.deepEqual(
      (await copy.stat()).map(({ name, rows }) => [name, rows]),
      [['kept', 20]],
    )

    // Live, in stores that are known, and in new ones.
    const { token } = await source.batch([
      { type: 'put', key: 'row7', value: 'live', store: 'kept' },
      { type: 'put', key: 'row7', value: 'live', store: 'other' },
      { type: 'put', key: 'row7', value: 'live', store: 'k-new' },
      { type: 'put', key: 'row7', value: 'live', store: 'new' },
      { type: 'del', key: 'row8', store: 'kept' },
      { type: 'del', key: 'row8', store: 'gone' },
      { type: 'put', key: 'row7', value: 'live' },
    ])
    assert.equal(await copy.store('kept').get('row7', { after: token }), 'live')
    assert.equal(await copy.store('kept').get('row8'), undefined)
    assert.equal(await copy.store('k-new').get('row7'), 'live')
    for (const name of ['', 'other', 'new', 'gone', 'never written']) await assertNotKept(copy, name)
    assert.deepEqual(await copy.store('k never written').keys().all(), [], 'kept, and empty')

    // From the log: away for a while.
    await first.attachment.stop()
    await putIn(source, 'kept', 20, 'later')
    await putIn(source, 'k-later', 5)
    await putIn(source, 'later', 5)
    const second = await replicaOf(t, master, copy, { view: { filter } })
    assert.equal((await second.attachment.synced).kind, 'incremental')
    await applied(copy, source)
    assert.equal(await copy.store('kept').get('row7'), 'later7')
    assert.equal(await rowsIn(copy, 'k-later'), 5)
    await assertNotKept(copy, 'later')

    // The log is whole, and with it the stream of changes; what is written has gone nowhere else.
    const { firstLsn, lastLsn } = copy.status()
    assert.equal(lastLsn, source.status().lastLsn)
    const changes = await collect(copy.changes({ from: firstLsn, live: false }))
    const theirs = await collect(source.changes({ from: firstLsn, live: false }))
    assert.deepEqual(changes, theirs)
    assert.ok(changes.some(({ writes }) => writes.some(({ store }) => store === 'later')))
    const verified = await copy.verify()
    assert.equal(verified.store.rows, 20 + 1 + 5)
    assert.ok(asked.filter((name) => name === 'kept').length <= 2, 'once, and once when it was given again')
    assert.ok(asked.every((name) => !name.includes('members')))
  })
}

test('[A26d B10] a view on disk knows what it keeps before anybody tells it again, and is attached with its filter only', async (t) => {
  const source = await openMemory(t)
  await putIn(source, 'kept', 3)
  await putIn(source, 'other', 3)
  const master = await serveTcp(source)
  const path = join(withTempFolder(t), 'view')
  const { attachment, db } = await replicaOf(t, master, { path, site: 'v' }, partial)
  await applied(db, source)
  await attachment.stop()
  await db.close()
  assert.match(
    readFileSync(join(path, 'state'), 'utf8'),
    /^\{"format":2,/,
    'an older program leaves it alone',
  )

  const again = await openAt(t, path)
  assert.equal(await again.store('kept').get('row1'), 'v1')
  assert.equal(await rowsIn(again, 'kept'), 3)
  for (const name of ['', 'other']) await assertNotKept(again, name)
  // Nothing has come of these: nobody can say yet.
  for (const name of ['k-unknown', 'unknown']) await assertNotKept(again, name)
  assert.deepEqual(again.status().view, { kind: 'partial', kept: ['kept'], declined: ['', 'other'] })

  await putIn(source, 'k-unknown', 2)
  await putIn(source, 'unknown', 2)
  const refusals: [AttachOptions, RegExp][] = [
    [{}, /only the filter says/],
    [{ view: true }, /never becomes a whole one/],
    [{ view: false }, /never becomes a participant/],
    [{ view: { filter: () => true } }, /decided once/],
    [{ view: { filter: () => false } }, /decided once/],
  ]
  for (const [options, why] of refusals) {
    const refused = attachTo(t, master, again, options)
    assert.match((await failsWith('INVALID_STATE', refused.synced)).message, why)
    assert.equal((await refused.stopped).cause?.code, 'INVALID_STATE')
  }
  assert.equal(master.replicas.length, 0)
  const { attachment: back } = await replicaOf(t, master, again, partial)
  await applied(again, source)
  assert.equal((await back.synced).kind, 'incremental')
  assert.equal(await rowsIn(again, 'k-unknown'), 2)
  for (const name of ['', 'other', 'unknown']) await assertNotKept(again, name)
})

/** Nothing that only a participant can do. */
async function assertOnlyAView(t: TestContext, db: Database, kind: 'full' | 'partial'): Promise<void> {
  const listen = 'tcp://127.0.0.1:0'
  const before = db.status()
  const calls: (() => Promise<unknown>)[] = [
    () => db.serve({ listen }),
    () => db.promote(),
    () => db.standalone(),
    () => db.takeOver(),
    () => db.join({ listen }),
  ]
  if (kind === 'partial') calls.push(() => db.backup(join(withTempFolder(t), 'part.backup')))
  for (const call of calls) {
    const error = await failsWith('INVALID_STATE', call)
    assert.match(error.message, /a view/)
    assert.deepEqual(error.details, { view: kind })
  }
  await failsWith('NOT_MASTER', db.put('x', '1'))
  await failsWith(
    'NOT_MASTER',
    db.transact((tx) => tx.get('x')),
  )
  const { role, term, attached, view } = db.status()
  assert.deepEqual([role, term, attached, view], ['replica', before.term, before.attached, before.view])
}

test('[B10] a view is a replica and nothing else, attached or not, today and after a restart', async (t) => {
  const source = await openMemory(t)
  await putIn(source, 'kept', 3)
  await source.put('a', '1')
  const master = await serveTcp(source)
  for (const [kind, options] of [['full', { view: true }] as const, ['partial', partial] as const]) {
    const path = join(withTempFolder(t), kind)
    const { attachment, db } = await replicaOf(t, master, { path, site: kind }, options)
    await applied(db, source)
    await failsWith('INVALID_STATE', attachment.takeOver())
    await assertOnlyAView(t, db, kind)
    assert.equal(attachment.db, db, 'and the attachment goes on')
    await source.put('b', '2')
    await applied(db, source)
    await attachment.stop()
    await assertOnlyAView(t, db, kind)
    await db.close()
    const again = await openAt(t, path)
    await assertOnlyAView(t, again, kind)
    await failsWith('INVALID_STATE', attachTo(t, master, again, { takeOver: true }).synced)
    await again.close()
  }
  for (const option of [{ takeOver: true }, { sync: true }] as const) {
    const refused = attachTo(t, master, { path: ':memory:' }, { view: true, ...option })
    await failsWith('OPTION_INVALID', refused.synced)
  }
  for (const view of [{}, { filter: 1 }, 'full', 1, null, { filter: keepsK, more: 1 }]) {
    await failsWith('OPTION_INVALID', attachTo(t, master, { path: ':memory:' }, { view } as never).synced)
  }
})

test('[B10] a full view has everything, and stays a view though nobody says so again; its backup is a site of its own', async (t) => {
  const source = await openMemory(t)
  await putMany(source, 10)
  const master = await serveTcp(source, { acks: 'none' })
  const path = join(withTempFolder(t), 'view')
  const first = await replicaOf(t, master, { path }, { view: true })
  await applied(first.db, source)
  assert.equal(await digestOf(first.db), await digestOf(source))
  await first.attachment.stop()
  await first.db.close()
  const again = await replicaOf(t, master, { path })
  assert.deepEqual(again.db.status().view, { kind: 'full', kept: [], declined: [] })
  assert.deepEqual(
    master.replicas.map(({ view }) => view),
    [true],
  )
  await failsWith('INVALID_STATE', attachAfter(t, again, master, { view: false }))
  await failsWith('INVALID_STATE', attachAfter(t, again, master, partial))
  const file = join(path, '..', 'view.backup')
  await again.db.backup(file)
  const restored = join(path, '..', 'restored')
  await restore(file, restored)
  const own = await openAt(t, restored)
  assert.equal(own.status().view, undefined)
  assert.equal(await digestOf(own), await digestOf(source))
  await own.put('its', 'own')
})

/** Ends an attachment and begins another one. */
async function attachAfter(
  t: TestContext,
  { attachment, db }: { attachment: Attachment<Database>; db: Database },
  master: Master,
  options: AttachOptions,
): Promise<unknown> {
  await attachment.stop()
  return await attachTo(t, master, db, options).synced
}

test('[B10] a view is counted by no policy, no quorum and no line of the status', async (t) => {
  const source = await openMemory(t, { site: 'm' })
  await putMany(source, 3)
  const master = await serveTcp(source, { acks: 'all' })
  const view = await replicaOf(t, master, { path: ':memory:', site: 'v' }, { view: true })
  assert.equal((await source.put('a', '1')).acks, 1, 'all that count is the master alone')
  await applied(view.db, source)
  assert.equal(source.status().canLose, 'can lose: 0 sites; no replica is attached')
  await master.setQuorum(1)
  const refused = await failsWith('NO_QUORUM', source.put('b', '1'))
  assert.deepEqual(refused.details, { have: 0, need: 1 })
  const gained = new Promise((resolve) => master.on('quorumGained', resolve))
  await replicaOf(t, master, { path: ':memory:', site: 'r' })
  await gained
  const { acks } = await source.put('b', '1')
  assert.equal(acks, 2, 'a participant is')
  const isView = new Map(master.replicas.map((each) => [each.site, each.view]))
  assert.deepEqual([isView.get('r'), isView.get('v')], [false, true])
})

test('a site that no master has let in as a view is what it was', async (t) => {
  const stranger = await openMemory(t)
  await stranger.put('x', '1')
  const strangers = await serveTcp(stranger)
  const db = await openFolder(t)
  await db.put('a', '1')
  const state = (): string => readFileSync(join(db.location, 'state'), 'utf8')
  await failsWith('FOREIGN_HISTORY', attachTo(t, strangers, db, { view: true }).synced)
  const gone = await serveTcp(await openMemory(t))
  const address = addressOf(gone)
  await gone.stop()
  const lost = attachTo(t, address, db, { view: true })
  await assert.rejects(lost.synced)
  await lost.stopped
  assert.equal(db.status().view, undefined)
  assert.match(state(), /^\{"format":1,/)
  await db.put('a', '2')
  // A database with records has rows of every store.
  const refused = attachTo(t, strangers, db, { ...partial, replace: true })
  assert.match((await failsWith('INVALID_STATE', refused.synced)).message, /has records/)
  // One without can still become anything.
  const path = join(withTempFolder(t), 'new')
  const early = attachTo(t, address, { path }, partial)
  await assert.rejects(early.synced)
  await early.stopped
  const fresh = await replicaOf(t, strangers, { path })
  assert.equal(fresh.db.status().view, undefined)
  assert.equal(await fresh.db.get('x'), '1')
})

test('[B10] a partial view whose data is replaced by another database keeps the same stores of that', async (t) => {
  const [first, second] = [await openMemory(t), await openMemory(t)]
  await putIn(first, 'kept', 3, 'first')
  await putIn(first, 'other', 3)
  await putIn(second, 'kept', 2, 'second')
  await putIn(second, 'k-more', 2)
  await putIn(second, 'other', 2)
  const [one, two] = [await serveTcp(first), await serveTcp(second)]
  const path = join(withTempFolder(t), 'view')
  const { attachment, db } = await replicaOf(t, one, { path }, partial)
  await attachment.stop()
  await failsWith('FOREIGN_HISTORY', attachTo(t, two, db, partial).synced)
  assert.equal(db.status().view?.kind, 'partial', 'it was one before')
  await failsWith('INVALID_STATE', attachTo(t, two, db, { replace: true }).synced)
  await failsWith('INVALID_STATE', attachTo(t, two, db, { replace: true, view: true }).synced)
  await replicaOf(t, two, db, { ...partial, replace: true })
  await applied(db, second)
  assert.deepEqual(await db.store('kept').values().all(), ['second0', 'second1'])
  assert.equal(await rowsIn(db, 'k-more'), 2)
  await assertNotKept(db, 'other')
  assert.equal((await db.digest()).rows, 4)
})

test('[B10] a participant may become a full view, and then never goes back', async (t) => {
  const source = await openMemory(t)
  await putMany(source, 3)
  const master = await serveTcp(source, { acks: 'none' })
  const { attachment, db } = await replicaOf(t, master, { path: ':memory:', site: 'p' })
  await attachment.stop()
  const { lsn: waiting } = await source.put('x', 'while it was away')
  assert.ok(source.status().permanentLsn < waiting, 'the master waits for whom it has met')
  const other = await replicaOf(t, master, { path: ':memory:', site: 'p' }, { view: true })
  await applied(other.db, source)
  await other.attachment.stop()
  await waitUntil(() => master.replicas.length === 0, { what: 'it has gone' })
  assert.ok(source.status().permanentLsn < waiting, 'and another site of that id says nothing of it')
  const back = await replicaOf(t, master, db, { view: true })
  await waitUntil(() => source.status().permanentLsn === waiting, { what: 'it waits for it no more' })
  assert.equal((await back.attachment.synced).kind, 'incremental')
  assert.deepEqual(db.status().view, { kind: 'full', kept: [], declined: [] })
  await back.attachment.stop()
  await assertOnlyAView(t, db, 'full')
})

test('[B10] a filter that fails ends the attachment with its cause, and not a row is skipped for it', async (t) => {
  const source = await openMemory(t)
  await putIn(source, 'kept', 3)
  const master = await serveTcp(source, { acks: 'none' })
  const failing = (bad: string, answer?: unknown): AttachOptions => ({
    view: {
      filter: (store) => {
        if (store !== bad) return true
        if (answer !== undefined) return answer as boolean
        throw new Error('cannot say')
      },
    },
  })
  // At once: nothing has begun.
  const early = attachTo(t, master, { path: ':memory:' }, failing(''))
  const error = await failsWith('VIEW_FILTER_FAILED', early.synced)
  assert.deepEqual([error.details, (error.cause as Error).message], [{ store: '' }, 'cannot say'])
  assert.equal((await early.stopped).reason, 'handshake-refused')
  // In a snapshot.
  const inSnapshot = attachTo(t, master, { path: ':memory:' }, failing('kept', 'maybe'))
  await failsWith('VIEW_FILTER_FAILED', inSnapshot.synced)
  const stopped = await inSnapshot.stopped
  assert.deepEqual([stopped.reason, stopped.cause?.code], ['apply-failed', 'VIEW_FILTER_FAILED'])
  // In a record, as it comes; and again where nobody has mended it.
  const path = join(withTempFolder(t), 'view')
  const { attachment, db } = await replicaOf(t, master, { path }, failing('bad'))
  await source.store('bad').put('x', '1')
  const live = await attachment.stopped
  assert.deepEqual([live.reason, live.cause?.code], ['apply-failed', 'VIEW_FILTER_FAILED'])
  assert.ok(db.status().appliedLsn < source.status().lastLsn)
  assert.equal(db.status().failure?.code, 'VIEW_FILTER_FAILED')
  await db.close()
  const again = attachTo(t, master, { path }, failing('bad'))
  assert.equal((await again.stopped).cause?.code, 'VIEW_FILTER_FAILED')
  await again.db.close()
  const mended = await replicaOf(t, master, { path }, { view: { filter: () => true } })
  await applied(mended.db, source)
  assert.equal(await mended.db.store('bad').get('x'), '1')
})

test('[B10] a partial view rewinds: what it kept comes back, and all that is lost is in the file', async (t) => {
  const a = await openMemory(t, { site: 'a' })
  await putIn(a, 'kept', 3)
  await putIn(a, 'other', 3)
  const old = await serveTcp(a, { sites: 3, acks: 'none' })
  const b = await replicaOf(t, old, { path: ':memory:', site: 'b' })
  const path = join(withTempFolder(t), 'view')
  const v = await replicaOf(t, old, { path, site: 'v' }, partial)
  await a.store('kept').put('row0', 'by all')
  await waitUntil(() => b.db.status().permanentLsn === a.status().lastLsn, { what: 'b had everything' })
  await b.attachment.stop()
  const agreed = b.db.status().lastLsn
  await a.batch([
    { type: 'put', key: 'row0', value: 'lost', store: 'kept' },
    { type: 'put', key: 'row0', value: 'lost', store: 'other' },
    { type: 'del', key: 'row1', store: 'kept' },
    { type: 'put', key: 'row0', value: 'lost', store: 'k-lost' },
  ])
  await a.store('other').put('row1', 'lost too')
  await applied(v.db, a)
  assert.equal(await v.db.store('kept').get('row0'), 'lost')
  assert.equal(v.db.status().permanentLsn, agreed, 'so the old values were kept')
  await v.attachment.stop()
  await v.db.close()
  await b.db.promote()
  const master = await serveTcp(b.db, { sites: 3, acks: 'none' })
  await b.db.store('kept').put('row2', 'new reign')
  const { attachment, db } = await replicaOf(t, master, { path }, partial)
  assert.equal((await attachment.synced).kind, 'rewound')
  await applied(db, b.db)
  assert.deepEqual(await db.store('kept').entries().all(), await b.db.store('kept').entries().all())
  assert.deepEqual(await db.store('k-lost').keys().all(), [])
  await assertNotKept(db, 'other')
  const [name] = readdirSync(join(path, 'lost'))
  const lines = readFileSync(join(path, 'lost', String(name)), 'utf8')
    .trim()
    .split('\n')
  assert.deepEqual(
    lines.map((line) => [JSON.parse(line).store, JSON.parse(line).value]),
    [
      ['kept', 'lost'],
      ['other', 'lost'],
      ['kept', undefined],
      ['k-lost', 'lost'],
      ['other', 'lost too'],
    ],
  )
})

test('[B10] a store that is made anew from the log has what the filter let in before, and nothing without it', async (t) => {
  const source = await openMemory(t)
  // Nothing commits before there is a second site, so that the view's log begins with the first record.
  const master = await serveTcp(source, { sites: 2 })
  const path = join(withTempFolder(t), 'view')
  const { attachment, db } = await replicaOf(t, master, { path }, partial)
  await replicaOf(t, master)
  await putIn(source, 'kept', 10)
  await putIn(source, 'other', 10)
  await applied(db, source)
  const digest = await digestOf(db)
  assert.equal(db.status().firstLsn, 1)
  await attachment.stop()
  await db.close()
  const store = readdirSync(path).find((name) => name.startsWith('store-'))
  rmSync(join(path, String(store)), { recursive: true })
  const rebuilt = await openAt(t, path)
  assert.equal(rebuilt.status().rebuilt || rebuilt.status().appliedLsn === 0, true)
  await assertNotKept(rebuilt, 'other')
  assert.equal(rebuilt.status().appliedLsn, 0, 'not a record is applied before it has its filter')
  await replicaOf(t, master, rebuilt, partial)
  await applied(rebuilt, source)
  assert.equal(await digestOf(rebuilt), digest)
  await assertNotKept(rebuilt, 'other')
})

test('[B10] rows of the database itself are kept whatever the filter says: who belongs to the group', async (t) => {
  const { db: source, group } = await joinSite(t, 'a')
  await source.put('a', '1')
  const { attachment, db } = await replicaOf(
    t,
    group.address,
    { path: join(withTempFolder(t), 'view'), site: 'v' },
    { view: { filter: () => false } },
  )
  await applied(db, source)
  const members = (): unknown => db.site.core.membership?.members
  assert.deepEqual(members(), source.site.core.membership?.members)
  assert.deepEqual(
    group.members.map(({ site }) => site),
    ['a'],
    'the view is none of them',
  )
  assert.ok((await db.digest()).rows > 0)
  assert.deepEqual(await db.stat(), [])
  await failsWith('TRANSFER_FAILED', group.transfer('v'))
  await attachment.stop()
  await db.close()
  const again = await openAt(t, db.location)
  assert.deepEqual(again.site.core.membership?.members, source.site.core.membership?.members)
  assert.equal((await again.verify()).store.rows, 1)
})

test('[B10] over a network of the application: views are not counted, elect nobody, are not elected, and keep what they keep', async (t) => {
  const net = new AppNet(t, 11)
  const two = { sites: 2 }
  const path = join(withTempFolder(t), 'v')
  const a = await net.site('a', two)
  const b = await net.site('b', two)
  const v = await net.site('v', { ...two, view: { filter: keepsK } }, { path })
  const f = await net.site('f', { ...two, view: true })
  await a.rep.start('master')
  for (const each of [v, f]) await failsWith('INVALID_STATE', each.rep.start('master'))
  for (const each of [b, v, f]) await each.rep.start('replica')
  await waitUntil(() => [b, v, f].every(({ rep }) => rep.stats().synced), { what: 'all have all' })
  assert.deepEqual(
    [a, b, v, f].map(({ rep }) => rep.stats().view),
    [undefined, undefined, 'partial', 'full'],
  )
  const receipt = await a.db.batch([
    { type: 'put', key: 'x', value: '1', store: 'kept' },
    { type: 'put', key: 'x', value: '1', store: 'other' },
  ])
  assert.equal(receipt.acks, 2, 'of a and b alone')
  await waitUntil(() => [b, v, f].every(({ db }) => db.status().appliedLsn === receipt.lsn), {
    what: 'applied',
  })
  assert.equal(await v.db.store('kept').get('x'), '1')
  await assertNotKept(v.db, 'other')
  assert.equal(await f.db.store('other').get('x'), '1')
  for (const each of [v, f]) await failsWith('INVALID_STATE', each.rep.elect())

  // Two of two vote: with b away nobody else does.
  net.cut('b')
  net.cut('a')
  await waitUntil(() => v.rep.master === undefined && b.rep.master === undefined, { what: 'a is gone' })
  net.heal('b')
  const outcome = await b.rep.elect()
  assert.equal(outcome.kind, 'unavailable', 'two views give no vote')
  net.heal('a')

  await v.db.close()
  const again = await open(path, { site: 'v' })
  const send = (): boolean => true
  try {
    await failsWith('INVALID_STATE', again.replication({ site: 'v', send }))
    await failsWith('INVALID_STATE', again.replication({ site: 'v', send, view: true }))
    await failsWith('INVALID_STATE', again.replication({ site: 'v', send, view: { filter: () => true } }))
    const rep = await again.replication({ site: 'v', send, view: { filter: keepsK } })
    await assert.rejects(rep.start('master'), (error) => isCoterieError(error, 'INVALID_STATE'))
    assert.equal(await again.store('kept').get('x'), '1')
  } finally {
    await again.close()
  }
})

test('[B10 B1] a partial view serves records to another replica, for its log is whole; rows come from the master', async (t) => {
  const net = new AppNet(t, 12)
  const three = { sites: 3, electionTimeoutMs: 60_000 }
  const a = await net.site('a', three)
  const b = await net.site('b', three)
  const c = await net.site('c', three)
  const v = await net.site('v', { ...three, view: { filter: keepsK } })
  await a.rep.start('master')
  for (const each of [b, c, v]) await each.rep.start('replica')
  await waitUntil(() => [b, c, v].every(({ rep }) => rep.stats().synced), { what: 'all have all' })
  // For a while nothing of the master reaches b. Then it asks for what it missed; whom, its network decides: the view.
  let isLosing = true
  net.onSend = (sent) => {
    if (isLosing && sent.from === 'a' && sent.to === 'b') return false
    if (sent.from !== 'b' || !sent.flags.anywhere) return undefined
    void net.deliver('v', sent)
    return false
  }
  await a.db.store('other').put('x', '1')
  const { lsn } = await a.db.store('other').put('x', '2')
  await waitUntil(() => v.db.status().permanentLsn >= lsn, {
    what: 'the view has them, and that they are permanent',
  })
  assert.ok(b.rep.stats().lastLsn < lsn)
  isLosing = false
  await waitUntil(() => b.db.store('other').getSync('x') === '2', { what: 'b has all of them' })
  assert.ok((v.db.status().counters.peerRepairs ?? 0) > 0, 'the view has served them')
  await assertNotKept(v.db, 'other')
})
