// A group of three sites in processes of their own, under load, whose processes are killed. The master carries the load
// and tells every receipt; what it had told when it died was acknowledged, and must be found on all sites afterwards.
//
// `check` holds the group against the receipts: equal logs, equal digests, each receipt's writes in the log at its LSN,
// each key's last write in every store, each token applied, and each unknown outcome decided, equally everywhere.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import type { DatabaseStatus, ServeOptions } from '../../src/index.ts'
import { RemoteSite } from '../support/remote-site.ts'
import type { LoadOptions, Settled, SiteNotice } from '../support/site-messages.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

export const roundKinds = ['replica', 'replicaTwice', 'masterBack', 'masterReplaced', 'masterCutOff'] as const
export type RoundKind = (typeof roundKinds)[number]

const siteNames = ['a', 'b', 'c']
const lsnsAtOnce = 20_000
const settleTimeoutMs = 60_000
const cutOffAckTimeoutMs = 300

const serveOptions: ServeOptions = {
  listen: 'tcp://127.0.0.1:0',
  acks: 'quorum',
  sites: 3,
  // Frozen replicas stay attached for as long as a round may freeze them.
  silenceTimeoutMs: 20_000,
}

interface Member {
  readonly name: string
  readonly path: string
  site: RemoteSite
}

export interface GroupTotals {
  acknowledged: number
  applied: number
  lost: number
  kills: number
  rewinds: number
  /** How replicas came into step with their master. */
  readonly syncKinds: Set<string>
}

export class CrashGroup {
  readonly totals: GroupTotals = {
    acknowledged: 0,
    applied: 0,
    lost: 0,
    kills: 0,
    rewinds: 0,
    syncKinds: new Set(),
  }
  readonly #t: TestContext
  readonly #random: Prng
  readonly #members: Member[]
  #master: Member
  #address = ''
  #loads = 0
  #wasCutOff = false
  /** Receipts and unknown outcomes that `check` has not yet seen. */
  #acknowledged: Settled[] = []
  #unknown: Settled[] = []
  /** All that was ever acknowledged. */
  readonly #tokens: string[] = []
  /** What the stores must hold, by the log up to `#checkedLsn`. */
  readonly #rows = new Map<string, string>()
  #checkedLsn = 0
  readonly #failures: string[] = []
  /** Where rewinds say that they have put what they took back. */
  readonly #lostFiles: string[] = []

  constructor(t: TestContext, seed: number) {
    this.#t = t
    this.#random = new Prng(seed)
    const folder = withTempFolder(t)
    this.#members = siteNames.map((name) => {
      return { name, path: join(folder, name), site: this.#spawn(name) }
    })
    this.#master = this.#members[0] as Member
  }

  #spawn(name: string): RemoteSite {
    return new RemoteSite(this.#t, { name, onNotice: (notice) => this.#take(notice) })
  }

  #take(notice: SiteNotice): void {
    if (notice.notice === 'acknowledged') this.#acknowledged.push(...notice.commits)
    else if (notice.notice === 'unknown') this.#unknown.push(...notice.commits)
    else if (notice.notice === 'rewound') {
      this.totals.rewinds++
      if (notice.transactions > 0) this.#lostFiles.push(notice.file)
    } else if (notice.notice === 'synced') this.totals.syncKinds.add(notice.result.kind)
    else if (notice.notice === 'failed') this.#failures.push(`${notice.code} ${notice.message}`)
  }

  get #replicas(): Member[] {
    return this.#members.filter((member) => member !== this.#master)
  }

  /** Opens the master and attaches both replicas. */
  async start(): Promise<void> {
    const { site, path, name } = this.#master
    await site.call('open', { path, open: { site: name } })
    await this.#serve()
    for (const replica of this.#replicas) await this.#follow(replica)
    for (const replica of this.#replicas) await this.#synced(replica)
    // A replica's log begins behind its first snapshot.
    this.#checkedLsn = await this.#settle()
  }

  async #serve(listen: string = serveOptions.listen as string): Promise<void> {
    const { address } = await this.#master.site.call('serve', { ...serveOptions, listen })
    this.#address = address
  }

  async #follow(member: Member): Promise<void> {
    const { path, name } = member
    await member.site.call('follow', { path, address: this.#address, open: { site: name } })
  }

  async #synced(member: Member): Promise<string> {
    const notice = await member.site.noticed((each) => each.notice === 'synced', { what: 'synced' })
    return notice.notice === 'synced' ? notice.result.kind : ''
  }

  async #kill(member: Member): Promise<void> {
    await member.site.kill()
    this.totals.kills++
  }

  async #load(options: Partial<LoadOptions> = {}): Promise<void> {
    await this.#master.site.call('startLoad', {
      seed: ++this.#loads,
      writers: this.#random.pick(process.env.COTERIE_TEST_ALL === '1' ? [4, 16, 64] : [4, 8]),
      keys: 3000,
      valueBytes: this.#random.between(16, 200),
      restMs: process.env.COTERIE_TEST_ALL === '1' ? 5 : 15,
      mixed: true,
      ...options,
    })
  }

  #rest(options: { readonly mostMs: number }): Promise<void> {
    const ms = this.#random.below(options.mostMs)
    return new Promise((resolve) => {
      setTimeout(resolve, ms)
    })
  }

  /** Load, one or more kills in the midst of it, all sites back; then `check`. */
  async round(kind: RoundKind): Promise<void> {
    if (kind === 'masterCutOff') await this.#cutOffMaster()
    else {
      await this.#load()
      await this.#rest({ mostMs: 700 })
      if (kind === 'replica') await this.#bounceReplica({ again: false })
      else if (kind === 'replicaTwice') await this.#bounceReplica({ again: true })
      else if (kind === 'masterBack') await this.#bounceMaster()
      else await this.#replaceMaster()
    }
    await this.check()
  }

  async #bounceReplica(options: { readonly again: boolean }): Promise<void> {
    const replica = this.#random.pick(this.#replicas)
    for (let kills = options.again ? 2 : 1; kills > 0; kills--) {
      await this.#kill(replica)
      await this.#rest({ mostMs: 300 })
      replica.site = this.#spawn(replica.name)
      await this.#follow(replica)
      // The second kill comes while it starts, opens, or catches up.
      if (kills > 1) await this.#rest({ mostMs: 1200 })
    }
    const kind = await this.#synced(replica)
    assert.notEqual(kind, 'snapshot', 'the log has all that a replica missed')
    await this.#rest({ mostMs: 200 })
    await this.#master.site.call('stopLoad')
  }

  async #bounceMaster(): Promise<void> {
    await this.#kill(this.#master)
    await this.#rest({ mostMs: 200 })
    const { name, path } = this.#master
    this.#master.site = this.#spawn(name)
    await this.#master.site.call('open', { path })
    if (this.#random.chance(0.5)) await this.#serve(this.#address)
    else {
      await this.#serve()
      for (const replica of this.#replicas) await this.#turnTo(replica)
    }
    await this.#loadOnce()
  }

  /** A replica turns to the new address of its master. */
  async #turnTo(replica: Member): Promise<void> {
    await replica.site.call('unfollow')
    await this.#follow(replica)
  }

  async #replaceMaster(): Promise<void> {
    await this.#kill(this.#master)
    await this.#promoteTheBest()
    await this.#loadOnce()
  }

  /**
   * The master goes on without its replicas, so that nobody acknowledges its last commits; then it dies. Replicas that
   * were frozen find those commits in their sockets; replicas that were killed never see them, and they are rewound.
   */
  async #cutOffMaster(): Promise<void> {
    await this.#load({ ackTimeoutMs: cutOffAckTimeoutMs, writers: 16 })
    await this.#rest({ mostMs: 300 })
    const freeze = this.#wasCutOff && this.#random.chance(0.5)
    this.#wasCutOff = true
    for (const replica of this.#replicas) {
      if (freeze) replica.site.freeze()
      else await this.#kill(replica)
    }
    const before = this.#unknown.length
    await waitUntil(() => this.#unknown.length >= before + 64, { what: 'commits end as OUTCOME_UNKNOWN' })
    await this.#kill(this.#master)
    for (const replica of this.#replicas) {
      if (freeze) replica.site.thaw()
      else {
        replica.site = this.#spawn(replica.name)
        await replica.site.call('open', { path: replica.path })
      }
    }
    await this.#promoteTheBest()
    await this.#loadOnce()
  }

  /** As an operator would: both replicas are asked, and the one that has more becomes master. */
  async #promoteTheBest(): Promise<void> {
    const old = this.#master
    const asked: { member: Member; lastLsn: number }[] = []
    for (const member of this.#replicas) {
      await member.site.call('unfollow')
      const { lastLsn } = await this.#status(member)
      asked.push({ member, lastLsn })
    }
    asked.sort((left, right) => right.lastLsn - left.lastLsn)
    const [best, other] = asked.map(({ member }) => member) as [Member, Member]
    this.#master = best
    await best.site.call('promote')
    await this.#serve()
    await this.#follow(other)
    old.site = this.#spawn(old.name)
    await this.#follow(old)
  }

  /** Load on a group that has just got together again, so that its new reign commits something under load. */
  async #loadOnce(): Promise<void> {
    await this.#load()
    await this.#rest({ mostMs: 300 })
    await this.#master.site.call('stopLoad')
  }

  async #status(member: Member): Promise<DatabaseStatus> {
    const status = await member.site.call('status')
    assert.ok(status !== undefined, `site ${member.name} has no data`)
    return status
  }

  /** Waits until nothing moves and every site has applied everything; returns the last LSN. */
  async #settle(): Promise<number> {
    let seen = ''
    const settled = async (): Promise<boolean> => {
      assert.deepEqual(this.#failures, [], 'no site fails')
      const statuses = await Promise.all(this.#members.map(({ site }) => site.call('status')))
      seen = this.#members.map(({ name }, index) => `${name} ${describe(statuses[index])}`).join('; ')
      const last = statuses[0]?.lastLsn
      return statuses.every(
        (status) =>
          status !== undefined &&
          status.lastLsn === last &&
          status.committedLsn === last &&
          status.appliedLsn === last &&
          status.failure === undefined &&
          (status.role === 'master' || status.attached),
      )
    }
    try {
      await waitUntil(settled, { what: 'all sites are equal', timeoutMs: settleTimeoutMs, everyMs: 20 })
    } catch (error) {
      throw new Error(`the sites do not become equal: ${seen}`, { cause: error })
    }
    return (await this.#status(this.#master)).lastLsn
  }

  async check(): Promise<void> {
    const lastLsn = await this.#settle()
    const from = this.#checkedLsn + 1
    await this.#checkEqual(from, lastLsn)
    const touched = await this.#checkLog(from, lastLsn)
    await this.#checkRows([...touched])
    const tokens = this.#acknowledged.map(({ token }) => token)
    await this.#checkApplied(tokens)
    await this.#checkUnknown()
    this.#tokens.push(...tokens)
    this.totals.acknowledged += tokens.length
    this.#acknowledged = []
    this.#unknown = []
    this.#checkedLsn = lastLsn
  }

  async #checkEqual(from: number, lastLsn: number): Promise<void> {
    const digests = await Promise.all(this.#members.map(({ site }) => site.call('digest')))
    for (const digest of digests) assert.deepEqual(digest, { ...digests[0], lsn: lastLsn })
    const hashes = await Promise.all(
      this.#members.map(({ site }) => site.call('logHash', { from, to: lastLsn })),
    )
    for (const hash of hashes) assert.equal(hash, hashes[0], 'the logs are equal')
  }

  /** Each receipt's writes stand in the log at its LSN. Returns the keys that the log writes from `from` on. */
  async #checkLog(from: number, lastLsn: number): Promise<Set<string>> {
    const receipts = new Map(this.#acknowledged.map((receipt) => [receipt.lsn, receipt]))
    assert.equal(receipts.size, this.#acknowledged.length, 'no LSN is given out twice')
    const touched = new Set<string>()
    for (let at = from; at <= lastLsn; at += lsnsAtOnce) {
      const to = Math.min(lastLsn, at + lsnsAtOnce - 1)
      for (const change of await this.#master.site.call('changes', { from: at, to })) {
        const receipt = receipts.get(change.lsn)
        if (receipt !== undefined) {
          assert.deepEqual(change, { lsn: change.lsn, term: receipt.term, writes: receipt.writes })
          receipts.delete(change.lsn)
        }
        for (const [key, value] of change.writes) {
          touched.add(key)
          if (value === undefined) this.#rows.delete(key)
          else this.#rows.set(key, value)
        }
      }
    }
    assert.deepEqual([...receipts.values()].slice(0, 3), [], `${receipts.size} acknowledged commits are lost`)
    return touched
  }

  async #checkRows(keys: readonly string[]): Promise<void> {
    const expected = keys.map((key) => this.#rows.get(key))
    for (const { site, name } of this.#members) {
      assert.deepEqual(await site.call('values', keys), expected, `the rows of site ${name}`)
      assert.equal((await site.call('digest')).rows, this.#rows.size, `the rows of site ${name}`)
    }
  }

  async #checkApplied(tokens: readonly string[]): Promise<void> {
    for (const { site, name } of this.#members) {
      const outcomes = await site.call('outcomes', tokens)
      const missing = tokens.filter((_, index) => outcomes[index] !== 'applied')
      assert.deepEqual(missing.slice(0, 3), [], `${missing.length} acknowledged commits are not on ${name}`)
    }
  }

  /** An unknown outcome is decided by now, in the same way everywhere, and the log agrees. */
  async #checkUnknown(): Promise<void> {
    if (this.#unknown.length === 0) return
    const tokens = this.#unknown.map(({ token }) => token)
    const bySite = await Promise.all(this.#members.map(({ site }) => site.call('outcomes', tokens)))
    for (const outcomes of bySite) assert.deepEqual(outcomes, bySite[0])
    const kept = this.#rolledBack()
    for (const [index, unknown] of this.#unknown.entries()) {
      const { lsn, term, writes } = unknown
      const [inLog] = await this.#master.site.call('changes', { from: lsn, to: lsn })
      const outcome = bySite[0]?.[index]
      if (outcome === 'applied') {
        this.totals.applied++
        assert.deepEqual(inLog?.writes, writes)
      } else {
        this.totals.lost++
        assert.equal(outcome, 'lost', 'no outcome stays open')
        assert.notDeepEqual(inLog?.writes, writes)
        assert.ok(kept.has(`${lsn} ${term}`), 'a commit that was rolled back is kept in a file')
      }
    }
  }

  /** LSN and term of each commit in the files that rewinds have written. */
  #rolledBack(): Set<string> {
    const commits = new Set<string>()
    for (const file of this.#lostFiles) {
      for (const line of readFileSync(file, 'utf8').trim().split('\n')) {
        const { lsn, term } = JSON.parse(line) as { lsn: number; term: number }
        commits.add(`${lsn} ${term}`)
      }
    }
    return commits
  }

  /** Everything that was ever acknowledged is still there, and every checksum of log and store is right. */
  async checkAll(): Promise<void> {
    await this.check()
    await this.#checkRows([...this.#rows.keys()])
    for (let at = 0; at < this.#tokens.length; at += lsnsAtOnce) {
      await this.#checkApplied(this.#tokens.slice(at, at + lsnsAtOnce))
    }
    for (const { site } of this.#members) {
      assert.equal((await site.call('verify')).rows, this.#rows.size)
    }
  }

  async close(): Promise<void> {
    for (const replica of this.#replicas) await replica.site.call('close')
    await this.#master.site.call('close')
  }
}

function describe(status: DatabaseStatus | undefined): string {
  if (status === undefined) return 'has no data'
  const { role, attached, term, lastLsn, durableLsn, committedLsn, appliedLsn, failure } = status
  const where = `last ${lastLsn} durable ${durableLsn} committed ${committedLsn} applied ${appliedLsn}`
  return `${role}${attached ? ', attached' : ''}, term ${term}, ${where}${failure ? `, ${failure.code} ${failure.message}` : ''}`
}
