// Bytes that an application's network hands in by mistake or malice: any at all, every truncation and every flip of the
// messages of a session, each at the moment when the real one would come. The Base API trusts its network with what
// messages say (docs/base-api.md), so a flip in one may be believed; but nothing fails, no record that is damaged gets
// into a log, and what is cut off or damaged in its records is as if it had been lost.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isCoterieError } from '../../src/base/errors.ts'
import { runSettling } from '../../src/sim/settle.ts'
import { BaseCluster, type BaseMessage, type BaseSite } from '../support/base-cluster.ts'

const isLong = process.env.COTERIE_TEST_ALL === '1'
const numRuns = isLong ? 100_000 : 1000
/** Of the messages of a session one in so many is changed. */
const oneIn = isLong ? 1 : 9

/** What comes before the message at the site that it goes to. */
type Meddle = (message: BaseMessage, to: string) => Pick<BaseMessage, 'control' | 'rec'>[]

interface Run {
  readonly cluster: BaseCluster
  readonly sites: readonly BaseSite[]
  /** The first message of each type between each two sites. */
  readonly seen: Map<string, BaseMessage>
  readonly rejections: readonly string[]
}

/** A session with a snapshot, records, a gap, and an election; `meddle` is asked once for each of `seen`. */
function play(meddle: Meddle): Run {
  const cluster = new BaseCluster(5)
  const sites = ['a', 'b', 'c'].map((name) => cluster.site(name, { sites: 3, acks: 'none' }))
  const [a, b, c] = sites as [BaseSite, BaseSite, BaseSite]
  const seen = new Map<string, BaseMessage>()
  let isLost = false
  cluster.onSend = (message, to) => {
    const key = `${message.from} ${message.type} ${to}`
    if (!seen.has(key)) {
      seen.set(key, message)
      for (const parts of meddle(message, to)) cluster.deliverIn(1, { ...message, ...parts }, to)
    }
    if (isLost && message.type === 'append') {
      isLost = false
      return 'lost'
    }
    return undefined
  }
  const rejections: string[] = []
  cluster.onEvent = (site, event, detail) => {
    // What cannot be taken is ignored. Before `start` nothing is taken.
    if (event !== 'rejected' || isCoterieError(detail, 'INVALID_STATE')) return
    rejections.push(`${site.name} rejects: ${String(detail)}`)
  }
  const act = (site: BaseSite, call: (rep: NonNullable<BaseSite['rep']>) => Promise<unknown>): void => {
    const { rep } = site
    if (rep !== undefined) site.machine.host?.run(() => void call(rep).catch(() => undefined))
    cluster.run(100)
  }
  const put = (site: BaseSite, key: string): void =>
    act(site, async () => await site.db?.put(key, key, { acks: 'none' }))
  act(a, (rep) => rep.start('master'))
  put(a, 'before')
  act(b, (rep) => rep.start('replica'))
  act(c, (rep) => rep.start('replica'))
  cluster.run(500)
  put(a, 'one')
  isLost = true
  put(a, 'two')
  put(a, 'three')
  cluster.run(2000)
  cluster.cut('a')
  cluster.run(4000)
  act(b, (rep) => rep.elect())
  cluster.run(4000)
  act(b, (rep) => rep.start('master'))
  put(b, 'four')
  cluster.heal('a')
  cluster.run(4000)
  return { cluster, sites, seen, rejections }
}

function assertNothingFailed({ sites, rejections }: Run, told: string): void {
  assert.deepEqual(rejections, [], told)
  for (const { name, db } of sites) {
    assert.equal(db?.status().failure, undefined, `${name} after ${told}`)
    const three = db?.getSync('three')
    assert.ok(three === undefined || three === 'three', `${name} after ${told}`)
  }
}

function assertEqual(run: Run, told: string): void {
  assertNothingFailed(run, told)
  const { sites, cluster } = run
  for (const site of sites) {
    for (const key of ['before', 'one', 'two', 'three', 'four']) {
      assert.equal(site.db?.getSync(key), key, `'${key}' at ${site.name} after ${told}`)
    }
  }
  const digests = sites.map((site) => cluster.on(site, async () => await site.db?.digest()))
  assert.equal(new Set(digests.map((each) => String(each?.digest))).size, 1, told)
}

const masks = [0x01, 0x80, 0xff]

function flips(bytes: Uint8Array, step: number): Uint8Array[] {
  const all: Uint8Array[] = []
  for (let at = 0; at < bytes.length; at += step) {
    const flipped = bytes.slice()
    flipped[at] = (flipped[at] as number) ^ (masks[at % masks.length] as number)
    all.push(flipped)
  }
  return all
}

function cuts(bytes: Uint8Array): Uint8Array[] {
  return Array.from({ length: Math.max(0, bytes.length - 1) }, (_, length) => bytes.slice(0, length + 1))
}

/** Each of the messages of a session by itself, changed in all these ways. */
function eachChanged(
  changesOf: (message: BaseMessage) => ReturnType<Meddle>,
  judge: (run: Run, told: string) => void,
): void {
  const { seen } = play(() => [])
  assert.ok(seen.size > 25, `${seen.size} messages`)
  for (const [index, key] of [...seen.keys()].entries()) {
    if (index % oneIn !== 0) continue
    judge(
      play((message, to) => (`${message.from} ${message.type} ${to}` === key ? changesOf(message) : [])),
      `changes of ${key}`,
    )
  }
}

test('[B3] every truncation of a message is as if the message had not come', () =>
  runSettling(() => {
    eachChanged(({ control, rec }) => cuts(control).map((cut) => ({ control: cut, rec })), assertEqual)
  }))

test('[B3] records that are cut or changed on the way are as if they had not come', () =>
  runSettling(() => {
    eachChanged(({ control, rec }) => {
      return [...cuts(rec), ...flips(rec, 1)].map((bytes) => ({ control, rec: bytes }))
    }, assertEqual)
  }))

test('[B3] whatever byte of a message is flipped, no site fails', () =>
  runSettling(() => {
    eachChanged(
      ({ control, rec }) => flips(control, 1).map((bytes) => ({ control: bytes, rec })),
      assertNothingFailed,
    )
  }))

test('[B3] messages that go to another site, or to their sender, are as if they had not come', () =>
  runSettling(() => {
    const run = play(() => [])
    const { cluster, seen, sites } = run
    for (const message of seen.values()) {
      for (const { name } of sites) if (name !== message.from) cluster.deliverIn(1, message, name)
    }
    cluster.run(10_000)
    assertEqual(run, 'all messages at all sites')
  }))

test('[B3] any bytes are ignored, in every role, and change nothing', () =>
  runSettling(() => {
    const run = play(() => [])
    const { cluster, sites } = run
    const stats = (): unknown =>
      sites.map(({ rep }) => {
        const { role, term, lastLsn, durableLsn, committedLsn } = rep?.stats() ?? {}
        return { role, term, lastLsn, durableLsn, committedLsn }
      })
    const before = stats()
    const property = fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 100 }),
      fc.uint8Array({ maxLength: 50 }),
      fc.constantFrom(...sites),
      (control, rec, site) => {
        const { rep } = site
        assert.ok(rep !== undefined)
        site.machine.host?.run(() => {
          rep.processMessage(control, rec, 'nobody').then(
            ({ kind }) => assert.equal(kind, 'ignore'),
            (error: unknown) => assert.fail(String(error)),
          )
        })
      },
    )
    fc.assert(property, { numRuns })
    cluster.run(0)
    assert.deepEqual(stats(), before)
    cluster.run(1000)
    assertEqual(run, 'bytes of chance')
  }))
