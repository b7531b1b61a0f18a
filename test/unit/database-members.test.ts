// Who belongs to the group, as the database keeps it: a row of its own that no user sees, and the record that says so.

import assert from 'node:assert/strict'
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { crc32 } from 'node:zlib'
import { AssertionFailure } from '../../src/base/assert.ts'
import type { RecordBatch } from '../../src/base/batch.ts'
import { limits } from '../../src/base/limits.ts'
import { type Lsn, noLsn, toLsn, toTerm } from '../../src/base/lsn.ts'
import { encodeMembers, type Members, type Membership } from '../../src/base/membership.ts'
import { encodeRows } from '../../src/base/row-run.ts'
import { LocalPort, viewEncodings } from '../../src/cli/local-port.ts'
import { DatabaseFolder } from '../../src/database/database-folder.ts'
import { Engine, type Replicator } from '../../src/database/engine.ts'
import { KeySpace, type WholeKey } from '../../src/database/key-space.ts'
import { keepLost } from '../../src/database/lost-file.ts'
import type { Receipt } from '../../src/database/receipt.ts'
import { readSiteState, type SiteState } from '../../src/database/site-state.ts'
import { isSystemKey, membersKey } from '../../src/database/system-keys.ts'
import { WriteSet } from '../../src/database/write-set.ts'
import { memoryHost } from '../../src/env/memory/memory-host.ts'
import { NodeFiles } from '../../src/env/node/node-files.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { SnapshotStaging } from '../../src/group/snapshot-staging.ts'
import { restore } from '../../src/index.ts'
import { classicLevelEngine } from '../../src/store/classic-level-engine.ts'
import { memoryEngine } from '../../src/store/memory-engine.ts'
import type { Row } from '../../src/store/store.ts'
import { atEnd } from '../support/at-end.ts'
import { collect, digestOf, failsWith, keepAlive, openAt, openFolder } from '../support/sites.ts'
import { withTempFolder } from '../support/temp-folder.ts'

const databaseId = '0f9d8c7b6a5948473625241302f1e0d9'
const incarnation = '3f2a9c01b7d4e865'

function membersOf(...sites: string[]): Members {
  return { members: sites.map((site) => ({ site, address: `tcp://${site}:1`, incarnation })), removed: ['x'] }
}

function described(membership: Membership | undefined): string | undefined {
  return membership && `${membership.lsn} ${membership.members.map(({ site }) => site).join(' ')}`
}

function wholeKey(key: string): WholeKey {
  return new KeySpace('').wholeKey(key, { isUtf8: true, encode: utf8, decode: String } as never)
}

function utf8(text: unknown): Uint8Array {
  return Buffer.from(String(text))
}

/** A driver that commits what is durable, up to where the test lets it. */
class Driver implements Replicator {
  readonly engine: Engine
  readonly proposals: RecordBatch[] = []
  commitMax = Number.MAX_SAFE_INTEGER
  permanentMax = Number.MAX_SAFE_INTEGER

  constructor(engine: Engine) {
    this.engine = engine
  }

  commit(durableLsn: Lsn = this.engine.parts.log.durableLsn): void {
    const committedLsn = Math.max(this.engine.committedLsn, Math.min(durableLsn, this.commitMax)) as Lsn
    const permanentLsn = Math.max(this.engine.permanentLsn, Math.min(committedLsn, this.permanentMax)) as Lsn
    this.engine.commitTo({ committedLsn, permanentLsn, applyLsn: committedLsn, acks: 1, detached: [] })
  }

  becomeWriter(): Promise<void> {
    return Promise.reject(new Error('the test says who writes'))
  }
  confirmReign(): undefined {
    return undefined
  }
  whenNewest(): undefined {
    return undefined
  }
  gate(): { open: true } {
    return { open: true }
  }
  proposed(batch: RecordBatch): void {
    this.proposals.push(batch)
  }
  written(): void {}
  durable(durableLsn: Lsn): void {
    this.commit(durableLsn)
  }
  applied(): void {}
  failed(): void {}
  stalled(): void {}
  retainFrom(): undefined {
    return undefined
  }
  trimmed(): void {}
}

const newState: SiteState = {
  format: 1,
  databaseId,
  site: 'a',
  term: 0,
  termMaster: undefined,
  vote: undefined,
  promiseMs: 0,
  incarnation,
  inGroup: false,
  view: undefined,
  role: 'standalone',
  sites: undefined,
  master: undefined,
  generation: 1,
  staging: undefined,
  aside: [],
  cleanEnd: undefined,
  createdMs: 1,
}

interface TestSite {
  readonly engine: Engine
  readonly driver: Driver
}

type Opener = (options?: { readonly segmentBytes?: number }) => Promise<TestSite>

/** Opens the same engine again and again; what is open at the end of the test is closed. */
function openerOf(t: TestContext, kind: 'in memory' | 'on disk'): Opener {
  keepAlive(t)
  const base = nodeHost()
  const host = kind === 'on disk' ? base : memoryHost({ base })
  const path = kind === 'on disk' ? join(withTempFolder(t), 'db') : '/db'
  const storeEngine = kind === 'on disk' ? classicLevelEngine({ files: host.files }) : memoryEngine()
  return async ({ segmentBytes = 65_536 } = {}) => {
    const folder = await DatabaseFolder.open({ files: host.files, path, holder: '{}', create: true })
    if (folder.state === undefined) await folder.saveState(() => newState)
    const engine = new Engine({
      host,
      folder,
      storeEngine,
      durability: 'sync',
      segmentBytes,
      cacheBytes: undefined,
      retain: {},
      checkpointBytes: 1 << 30,
      overlayWritesMax: 1000,
    })
    const driver = new Driver(engine)
    engine.replicator = driver
    atEnd(t, () => closed(engine))
    const parts = await engine.openParts({ databaseId, generation: 1, durableAtLeast: noLsn })
    assert.equal(engine.membership, undefined, 'a generation counts when it is put to use')
    engine.useParts(parts, { databaseId, permanentLsn: parts.permanentLsn })
    return { engine, driver }
  }
}

async function closed(engine: Engine): Promise<void> {
  if (engine.closed) return
  await engine.close()
  await engine.folder.release()
}

async function reign(engine: Engine, site: string): Promise<void> {
  const term = toTerm(engine.parts.log.last.term + 1)
  await engine.beginReign({ databaseId, site, term }, { firstRecord: true, isStillMaster: () => true })
}

function bytesOf(bytes: Uint8Array | undefined): Uint8Array | undefined {
  return bytes && new Uint8Array(bytes)
}

async function storedIn(engine: Engine): Promise<Uint8Array | undefined> {
  return bytesOf(await engine.parts.store.get(membersKey.bytes))
}

function put(engine: Engine, key: string, value: string): Promise<Receipt> {
  const writes = new WriteSet()
  writes.set(wholeKey(key), utf8(value))
  return engine.submit(writes, undefined)
}

async function applied(engine: Engine, lsn: Lsn = engine.committedLsn): Promise<void> {
  await engine.parts.applier.whenApplied(lsn)
}

for (const kind of ['in memory', 'on disk'] as const) {
  describe(`members ${kind}`, () => {
    it('commit like a transaction, hold from the log on, and reach the store', async (t) => {
      const open = openerOf(t, kind)
      const { engine, driver } = await open()
      await reign(engine, 'a')
      driver.commitMax = 1
      const first = engine.submitMembers(membersOf('a'))
      const commit = put(engine, 'k', '1')
      const second = engine.submitMembers(membersOf('a', 'b'))
      assert.equal(engine.membership, undefined, 'the records are gathered and not in the log yet')
      engine.flush()
      assert.equal(described(engine.membership), '4 a b', 'in force before it is durable')
      assert.equal(described(driver.proposals.at(-1)?.membership), '4 a b')
      assert.equal(driver.proposals[0]?.membership, undefined)
      assert.deepEqual(bytesOf(engine.readLatestSync(membersKey)), encodeMembers(membersOf('a', 'b')))
      await engine.parts.log.whenDurable(4 as Lsn)
      assert.equal(engine.committedLsn, 1)
      driver.commitMax = Number.MAX_SAFE_INTEGER
      driver.commit()
      const receipts = await Promise.all([first, commit, second])
      assert.deepEqual(
        receipts.map(({ lsn, term }) => [lsn, term]),
        [
          [2, 1],
          [3, 1],
          [4, 1],
        ],
      )
      await applied(engine)
      assert.deepEqual(await storedIn(engine), encodeMembers(membersOf('a', 'b')))
      await closed(engine)
      const again = await open()
      assert.equal(described(again.engine.membership), '4 a b')
    })

    it('have an unknown outcome where a commit has', async (t) => {
      const { engine, driver } = await openerOf(t, kind)()
      await reign(engine, 'a')
      driver.commitMax = 1
      const receipt = engine.submitMembers(membersOf('a'))
      engine.flush()
      engine.endReign('another site has become master', { unseated: true })
      const error = await failsWith('OUTCOME_UNKNOWN', receipt)
      assert.equal(error.details.lsn, 2)
      assert.equal(described(engine.membership), '2 a', 'it is in the log, whatever becomes of it')
      await failsWith('NOT_MASTER', engine.submitMembers(membersOf('b')))
    })

    it('never reach the log if another site reigns before they are handed on', async (t) => {
      const { engine } = await openerOf(t, kind)()
      await reign(engine, 'a')
      const receipt = engine.submitMembers(membersOf('a'))
      engine.endReign('another site has become master', { unseated: true })
      await failsWith('OUTCOME_UNKNOWN', receipt)
      assert.equal(engine.membership, undefined)
      await reign(engine, 'a')
      await put(engine, 'k', '1')
      assert.equal(engine.membership, undefined)
      assert.equal(engine.readLatestSync(membersKey), undefined)
    })

    it('that nobody could read are refused, and writing goes on', async (t) => {
      const { engine } = await openerOf(t, kind)()
      await reign(engine, 'a')
      await assert.rejects(engine.submitMembers(membersOf('a', 'a')), AssertionFailure)
      const many = Array.from({ length: limits.membersMax + 1 }, (_, i) => `s${i}`)
      await assert.rejects(engine.submitMembers(membersOf(...many)), AssertionFailure)
      await engine.submitMembers(membersOf('a'))
      assert.equal(described(engine.membership), '2 a')
    })

    it('come out of the store where the log has let go of them', async (t) => {
      const open = openerOf(t, kind)
      const { engine } = await open()
      await reign(engine, 'a')
      await engine.submitMembers(membersOf('a', 'b'))
      for (let i = 0; i < 60; i++) await put(engine, `k${i}`, 'v'.repeat(3000))
      await engine.checkpoint()
      const { firstLsn } = engine.parts.log
      assert.ok(firstLsn > 2, 'the record is trimmed')
      assert.equal(described(engine.membership), '2 a b', 'this handle still knows of it')
      await closed(engine)
      const again = await open()
      assert.equal(again.engine.parts.log.membership, undefined)
      assert.equal(described(again.engine.membership), `${firstLsn - 1} a b`)
      // A later one in the log takes its place, and gives it back when it is taken back.
      await reign(again.engine, 'a')
      again.driver.permanentMax = again.engine.permanentLsn
      const { lsn } = await again.engine.submitMembers(membersOf('b'))
      assert.equal(described(again.engine.membership), `${lsn} b`)
      await applied(again.engine, lsn)
      again.engine.endReign('the test', { unseated: false })
      await again.engine.rewind((lsn - 1) as Lsn)
      assert.equal(described(again.engine.membership), `${firstLsn - 1} a b`)
      assert.deepEqual(await storedIn(again.engine), encodeMembers(membersOf('a', 'b')))
    })

    for (const isApplied of [true, false]) {
      it(`go back with a rewind, ${isApplied ? 'applied' : 'not applied yet'}`, async (t) => {
        const open = openerOf(t, kind)
        const { engine, driver } = await open()
        await reign(engine, 'a')
        await engine.submitMembers(membersOf('a'))
        await put(engine, 'k', '1')
        await applied(engine)
        driver.permanentMax = 3
        if (!isApplied) driver.commitMax = 3
        const lost = engine.submitMembers(membersOf('a', 'b'))
        const expired = isApplied ? lost : failsWith('OUTCOME_UNKNOWN', lost)
        engine.flush()
        await engine.parts.log.whenDurable(4 as Lsn)
        await applied(engine)
        engine.endReign('the test', { unseated: false })
        await expired
        assert.equal(engine.parts.appliedLsn, isApplied ? 4 : 3)
        assert.equal(described(engine.membership), '4 a b')
        await engine.rewind(3 as Lsn)
        assert.equal(described(engine.membership), '2 a')
        assert.deepEqual(await storedIn(engine), encodeMembers(membersOf('a')))
        await engine.rewind(3 as Lsn)
        await closed(engine)
        assert.equal(described((await open()).engine.membership), '2 a')
      })
    }

    it('go back on the disk of the store before the log is cut, and nothing is applied meanwhile', async (t) => {
      const { engine, driver } = await openerOf(t, kind)()
      await reign(engine, 'a')
      await engine.submitMembers(membersOf('a'))
      await put(engine, 'k', '1')
      driver.permanentMax = 3
      await put(engine, 'k', '2')
      await applied(engine)
      engine.endReign('the test', { unseated: false })
      const { store, log } = engine.parts
      const { undoAfter, flush } = store
      const ends: number[] = []
      store.undoAfter = async (lsn) => {
        // As the word of a master that comes late, and then whoever waits for what it said.
        driver.commit()
        await sleep(100)
        return await undoAfter.call(store, lsn)
      }
      store.flush = async () => {
        await flush.call(store)
        ends.push(store.meta?.appliedLsn ?? 0, log.lastLsn)
      }
      await engine.rewind(3 as Lsn)
      assert.deepEqual(ends, [3, 4])
      assert.equal(log.lastLsn, 3)
      await sleep(100)
      assert.equal(engine.failure, undefined)
      assert.equal(engine.parts.appliedLsn, 3)
    })

    it('come with a snapshot, from the moment that it is put to use', async (t) => {
      const { engine } = await openerOf(t, kind)()
      await reign(engine, 'a')
      await engine.submitMembers(membersOf('a'))
      engine.endReign('the test', { unseated: false })
      const { last, history } = engine.parts.log
      const base = { ...last, lsn: toLsn(77) }
      const staging = new SnapshotStaging(engine)
      const newest = { lsn: base.lsn, reign: history.at(-1) }
      await staging.prepare({ databaseId, base, history, newest, resume: false })
      const row: Row = [membersKey.bytes, encodeMembers(membersOf('a', 'b'))]
      await staging.storeRows([encodeRows([row])])
      const generation = await staging.complete({
        databaseId,
        base,
        history,
        readableLsn: noLsn,
        segmentBytes: undefined,
      })
      const parts = await engine.openParts({ databaseId, generation, durableAtLeast: base.lsn })
      assert.equal(described(engine.membership), '2 a')
      const before = engine.useParts(parts, { databaseId, permanentLsn: noLsn })
      assert.equal(described(engine.membership), '77 a b')
      await before?.close({ waitForReaders: true })
    })

    it('come into the overlay of a reign that begins with their record not applied', async (t) => {
      const { engine, driver } = await openerOf(t, kind)()
      await reign(engine, 'a')
      driver.commitMax = 1
      const expired = failsWith('OUTCOME_UNKNOWN', engine.submitMembers(membersOf('a')))
      engine.flush()
      await engine.parts.log.whenDurable(2 as Lsn)
      engine.endReign('the test', { unseated: false })
      await expired
      await reign(engine, 'a')
      assert.equal(engine.committedLsn, 1)
      assert.deepEqual(bytesOf(engine.readLatestSync(membersKey)), encodeMembers(membersOf('a')))
    })

    it('are no transaction of a user among those that a rewind takes back', async (t) => {
      const { engine, driver } = await openerOf(t, kind)()
      await reign(engine, 'a')
      driver.permanentMax = 1
      await engine.submitMembers(membersOf('a'))
      const { folder, parts } = engine
      assert.equal(await keepLost(folder, parts.log, 1 as Lsn), undefined)
      await put(engine, 'k', '1')
      const lost = await keepLost(folder, parts.log, 1 as Lsn)
      assert.equal(lost?.transactions, 1)
      const lines = Buffer.from((await folder.files.readAll(lost.file)) as Uint8Array).toString()
      assert.deepEqual(lines.trim().split('\n').length, 1)
      assert.match(lines, /"key":"k"/)
    })
  })
}

test('the space of system keys is out of reach of every store name', () => {
  assert.equal(isSystemKey(membersKey.bytes), true)
  for (const name of ['', 'members', '\u00ff', '\u00ffmembers', 'x'.repeat(limits.storeNameBytesMax)]) {
    const space = new KeySpace(name)
    assert.equal(isSystemKey(space.prefix), false)
    const all = space.rowRange({}, { encode: utf8 } as never)
    assert.ok(Buffer.compare(all.lt as Uint8Array, membersKey.bytes) < 0)
  }
  assert.throws(() => new KeySpace('x'.repeat(limits.storeNameBytesMax + 1)), /at most 200 bytes/)
  assert.throws(() => new KeySpace('x'.repeat(255)), /at most 200 bytes/)
})

test('users see the rows that they wrote, and members only as records of the log', async (t) => {
  const db = await openFolder(t)
  const named = 'y'.repeat(limits.storeNameBytesMax)
  await db.put('k', '1')
  await db.store(named).put('n', '2')
  const before = { digest: await digestOf(db), stat: await db.stat() }
  const changes = collect(db.changes({ from: 1, live: false }))
  const { lsn } = await db.site.engine.submitMembers(membersOf('a', 'b'))
  await db.put('l', '3')
  assert.equal((await changes).length, 2)
  assert.deepEqual(await db.storeNames(), ['', named])
  assert.deepEqual((await db.stat())[1], before.stat[1])
  assert.deepEqual(await db.entries().all(), [
    ['k', '1'],
    ['l', '3'],
  ])
  assert.deepEqual(await db.keys({ reverse: true, limit: 1 }).all(), ['l'])
  assert.deepEqual(await db.store(named).entries().all(), [['n', '2']])
  const all = await collect(db.changes({ from: 1, live: false }))
  assert.deepEqual(
    all.flatMap(({ writes }) => writes.map(({ key }) => Buffer.from(key).toString())),
    ['k', 'n', 'l'],
  )
  assert.equal(
    all.some((change) => change.lsn === lsn),
    false,
  )
  await db.del('l')
  assert.notEqual(await digestOf(db), before.digest, 'the digest has the members in it')
  const [record] = await collect(db.records({ from: lsn, to: lsn }))
  assert.deepEqual([record?.kind, record?.members, record?.writes], ['members', membersOf('a', 'b'), []])
  const [commit] = await collect(db.records({ from: lsn + 1, limit: 1 }))
  assert.deepEqual([commit?.kind, commit?.members], ['commit', undefined])
})

test('the port of the command has members as records of the log, and no rows of them', async (t) => {
  const db = await openAt<Uint8Array, Uint8Array>(t, join(withTempFolder(t), 'db'), viewEncodings)
  await db.put(utf8('k'), utf8('1'))
  const { lsn } = await db.site.engine.submitMembers(membersOf('a'))
  const port = new LocalPort(db)
  const { signal } = new AbortController()
  const lines = (await collect(port.records({ from: lsn, follow: false }, signal))).flat()
  assert.deepEqual(
    lines.map((line) => [line.kind, line.members, line.writes]),
    [['members', membersOf('a'), []]],
  )
  assert.deepEqual(await port.storeNames(), [])
  assert.deepEqual(
    (await port.stat()).stores.map(({ name, rows }) => [name, rows]),
    [['', 1]],
  )
})

test('a crash leaves the members, and a backup takes them along to a site with an incarnation of its own', async (t) => {
  const folder = withTempFolder(t)
  const db = await openFolder(t)
  await db.put('k', '1')
  const { lsn } = await db.site.engine.submitMembers(membersOf('a', 'b'))
  cpSync(db.location, join(folder, 'crashed'), { recursive: true })
  const crashed = await openAt(t, join(folder, 'crashed'))
  assert.equal(described(crashed.site.engine.membership), `${lsn} a b`)
  assert.equal(crashed.site.engine.folder.state?.incarnation, db.site.engine.folder.state?.incarnation)
  await db.put('l', '2')
  const backup = await db.backup(join(folder, 'backup'))
  await restore(join(folder, 'backup'), join(folder, 'restored'))
  const restored = await openAt(t, join(folder, 'restored'))
  assert.equal(described(restored.site.engine.membership), `${backup.lsn} a b`)
  assert.deepEqual(await restored.storeNames(), [''])
  const own = restored.site.engine.folder.state?.incarnation
  assert.match(String(own), /^[0-9a-f]{16}$/)
  assert.notEqual(own, db.site.engine.folder.state?.incarnation)
})

describe('the state of a site', () => {
  const stateOf = (location: string): Promise<SiteState | undefined> =>
    readSiteState(new NodeFiles(), join(location, 'state'))

  it('has an incarnation that is drawn once, and keeps vote and group', async (t) => {
    const db = await openFolder(t)
    const other = await openFolder(t)
    const { folder } = db.site.engine
    const drawn = folder.state?.incarnation as string
    assert.match(drawn, /^[0-9a-f]{16}$/)
    assert.notEqual(other.site.engine.folder.state?.incarnation, drawn)
    assert.deepEqual([folder.state?.vote, folder.state?.inGroup], [undefined, false])
    await db.put('k', '1')
    await db.close()
    const closedFolder = await DatabaseFolder.open({
      files: new NodeFiles(),
      path: db.location,
      holder: '{}',
      create: false,
    })
    await closedFolder.saveState((state) => ({ ...(state as SiteState), vote: 'b', inGroup: true }))
    await closedFolder.release()
    const { vote, inGroup, incarnation: kept } = (await stateOf(db.location)) as SiteState
    assert.deepEqual([vote, inGroup, kept], ['b', true, drawn])
  })

  it('is read from a file that has none of these: no vote, no group, no view, always the same incarnation', async (t) => {
    const db = await openFolder(t)
    await db.put('k', '1')
    await db.close()
    const path = join(db.location, 'state')
    const rewrite = (change: (state: Record<string, unknown>) => void): void => {
      const state = JSON.parse(String(readFileSync(path, 'utf8').split('\n')[0])) as Record<string, unknown>
      for (const name of ['vote', 'incarnation', 'inGroup', 'view']) delete state[name]
      change(state)
      const json = JSON.stringify(state)
      writeFileSync(path, `${json}\n${crc32(json).toString(16)}\n`)
    }
    rewrite(() => {})
    const old = (await stateOf(db.location)) as SiteState
    assert.deepEqual([old.vote, old.inGroup, old.view], [undefined, false, undefined])
    assert.match(old.incarnation, /^[0-9a-f]{16}$/)
    assert.deepEqual(await stateOf(db.location), old)
    const again = await openAt(t, db.location)
    assert.equal(await again.get('k'), '1')
    await again.put('k', '2')
    await again.close()
    assert.equal((await stateOf(db.location))?.incarnation, old.incarnation)
    rewrite((state) => {
      state.createdMs = Number(state.createdMs) + 1
    })
    assert.notEqual((await stateOf(db.location))?.incarnation, old.incarnation)
    assert.ok(readdirSync(db.location).includes('state'))
  })
})
