// kill -9 against a group that elects its own master: three sites in processes of their own, all under load, whoever is
// master taking it. In each round some of them are killed and brought back; what was acknowledged must be on every site
// at the end, and what was in doubt must have ended in the same way everywhere.
//
// Which kind of round comes, and the waits, follow from the seed; who is master then, and what it is doing, does not.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import type { DatabaseStatus } from '../../src/index.ts'
import { RemoteSite } from '../support/remote-site.ts'
import type { Settled, SiteNotice } from '../support/site-messages.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

export type GroupRoundKind =
  | 'master'
  | 'replica'
  | 'masterAgain'
  | 'majority'
  | 'everyone'
  /** It stands still until another reigns, and then goes on as if nothing had been. */
  | 'masterFrozen'

const siteNames = ['a', 'b', 'c']
const acknowledgedMin = 30
const settleTimeoutMs = 120_000
const lsnsAtOnce = 20_000

interface Member {
  readonly name: string
  readonly path: string
  site: RemoteSite
  address: string
}

export async function groupKillRounds(
  t: TestContext,
  rounds: readonly GroupRoundKind[],
  seed: number,
): Promise<void> {
  const group = new KilledGroup(t, seed)
  await group.start()
  for (const [index, kind] of rounds.entries()) {
    try {
      await group.round(kind)
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      throw new Error(`round ${index + 1} (${kind}): ${why}`, { cause: error })
    }
  }
  await group.finish()
  const { acknowledged, applied, lost, kills, failoversMs } = group.totals
  const sorted = [...failoversMs].sort((x, y) => x - y)
  const median = sorted[Math.floor(sorted.length / 2)] ?? 0
  t.diagnostic(
    `${kills} kills, ${acknowledged} commits acknowledged, none lost; of those in doubt ${applied} applied, ${lost} lost; ` +
      `first commit of the next master after ${median.toFixed(0)} ms at the median, ${(sorted.at(-1) ?? 0).toFixed(0)} ms at most`,
  )
}

class KilledGroup {
  readonly totals = { acknowledged: 0, applied: 0, lost: 0, kills: 0, failoversMs: [] as number[] }
  readonly #t: TestContext
  readonly #random: Prng
  readonly #members: Member[]
  readonly #acknowledged: Settled[] = []
  readonly #unknown: Settled[] = []
  readonly #failures: string[] = []
  #loads = 0

  constructor(t: TestContext, seed: number) {
    this.#t = t
    this.#random = new Prng(seed)
    const folder = withTempFolder(t)
    this.#members = siteNames.map((name) => {
      return { name, path: join(folder, name), site: this.#spawn(name), address: 'tcp://127.0.0.1:0' }
    })
  }

  #spawn(name: string): RemoteSite {
    return new RemoteSite(this.#t, { name, onNotice: (notice) => this.#take(notice) })
  }

  #take(notice: SiteNotice): void {
    if (notice.notice === 'acknowledged') this.#acknowledged.push(...notice.commits)
    else if (notice.notice === 'unknown') this.#unknown.push(...notice.commits)
    else if (notice.notice === 'failed') this.#failures.push(`${notice.code} ${notice.message}`)
    else if (notice.notice === 'stopped') this.#failures.push(`stopped: ${notice.reason} ${notice.code}`)
  }

  async start(): Promise<void> {
    for (const member of this.#members) {
      await this.#begin(member)
      await this.#whenAll([member])
    }
    const isWhole = async (): Promise<boolean> => {
      const statuses = await this.#statuses(this.#members)
      return statuses.every((status) => status?.group?.members.length === siteNames.length)
    }
    await waitUntil(isWhole, { what: 'all three are members', timeoutMs: settleTimeoutMs })
  }

  /** Opens, joins, and writes as soon as it is master. */
  async #begin(member: Member): Promise<void> {
    const { site, name, path } = member
    await site.call('open', { path, open: { site: name } })
    const seeds = this.#members.filter((other) => other !== member && !other.address.endsWith(':0'))
    const joined = { listen: member.address, seeds: seeds.map(({ address }) => address) }
    member.address = (await site.call('join', joined)).address
    await site.call('startLoad', {
      seed: ++this.#loads,
      writers: 16,
      keys: 2000,
      valueBytes: this.#random.between(16, 200),
      restMs: 5,
      mixed: true,
    })
  }

  #statuses(members: readonly Member[]): Promise<(DatabaseStatus | undefined)[]> {
    return Promise.all(members.map(({ site }) => site.call('status')))
  }

  /** All are master, or follow one. */
  async #whenAll(members: readonly Member[]): Promise<Member> {
    let master: Member | undefined
    const isSettled = async (): Promise<boolean> => {
      assert.deepEqual(this.#failures, [], 'no site fails, and none is turned away')
      const statuses = await this.#statuses(members)
      const known = new Set(statuses.map((status) => status?.group?.master?.site))
      const [name] = known
      master = this.#members.find((member) => member.name === name)
      return known.size === 1 && master !== undefined
    }
    await waitUntil(isSettled, { what: 'all agree on a master', timeoutMs: settleTimeoutMs })
    return master as Member
  }

  async #whenAcknowledged(count: number): Promise<void> {
    const have = this.#acknowledged.length
    await waitUntil(() => this.#acknowledged.length >= have + count, {
      what: `${count} more commits are acknowledged`,
      timeoutMs: settleTimeoutMs,
    })
  }

  #rest(options: { readonly mostMs: number }): Promise<void> {
    const ms = this.#random.below(options.mostMs)
    return new Promise((resolve) => {
      setTimeout(resolve, ms)
    })
  }

  async round(kind: GroupRoundKind): Promise<void> {
    const master = await this.#whenAll(this.#members)
    await this.#whenAcknowledged(acknowledgedMin)
    await this.#rest({ mostMs: 300 })
    const replicas = this.#members.filter((member) => member !== master)
    const [one] = replicas
    assert.ok(one !== undefined)
    if (kind === 'everyone') await this.#bounce(this.#members)
    else if (kind === 'majority') await this.#bounce([master, one])
    else if (kind === 'masterFrozen') await this.#freeze(master)
    else if (kind === 'replica') await this.#bounce([this.#random.pick(replicas)])
    else {
      await this.#failOver(master)
      if (kind === 'masterAgain') {
        // The second master dies as soon as there is a third who could be it.
        await this.#back(master)
        await this.#failOver(await this.#whenAll(this.#members))
      }
    }
    for (const member of this.#members) if (member.site.hasEnded) await this.#back(member)
    await this.#whenAll(this.#members)
    await this.#whenAcknowledged(acknowledgedMin)
  }

  async #failOver(master: Member): Promise<void> {
    await this.#kill(master)
    const began = performance.now()
    await this.#whenAcknowledged(1)
    this.totals.failoversMs.push(performance.now() - began)
    await this.#rest({ mostMs: 300 })
  }

  async #freeze(master: Member): Promise<void> {
    master.site.freeze()
    await this.#whenAcknowledged(acknowledgedMin)
    master.site.thaw()
    // It may not have noticed yet what has happened; whatever it acknowledges now is checked like all the rest.
    await this.#rest({ mostMs: 300 })
  }

  async #bounce(victims: readonly Member[]): Promise<void> {
    await Promise.all(victims.map((member) => this.#kill(member)))
    await this.#rest({ mostMs: 500 })
  }

  async #kill(member: Member): Promise<void> {
    await member.site.kill()
    this.totals.kills++
  }

  async #back(member: Member): Promise<void> {
    member.site = this.#spawn(member.name)
    // It may come back at another address than the one that the others know.
    if (this.#random.chance(0.3)) member.address = 'tcp://127.0.0.1:0'
    await this.#begin(member)
  }

  /** Ends the load, waits until nothing moves, and holds every site against every receipt. */
  async finish(): Promise<void> {
    await Promise.all(this.#members.map(({ site }) => site.call('stopLoad')))
    const { first, last } = await this.#settle()
    await this.#checkEqual(first, last)
    await this.#checkLog(first, last)
    await this.#checkOutcomes()
    for (const { site } of this.#members) await site.call('verify')
    this.totals.acknowledged = this.#acknowledged.length
    for (const { site } of this.#members) await site.call('close')
  }

  async #settle(): Promise<{ first: number; last: number }> {
    let statuses: (DatabaseStatus | undefined)[] = []
    const isStill = async (): Promise<boolean> => {
      statuses = await this.#statuses(this.#members)
      const [one] = statuses
      return statuses.every(
        (status) =>
          status !== undefined &&
          status.lastLsn === one?.lastLsn &&
          status.committedLsn === one.lastLsn &&
          status.permanentLsn === one.lastLsn &&
          status.appliedLsn === one.lastLsn,
      )
    }
    await waitUntil(isStill, { what: 'all sites are equal', timeoutMs: settleTimeoutMs })
    assert.deepEqual(this.#failures, [])
    const first = Math.max(...statuses.map((status) => status?.firstLsn ?? 0))
    return { first, last: statuses[0]?.lastLsn ?? 0 }
  }

  async #checkEqual(from: number, to: number): Promise<void> {
    const digests = await Promise.all(this.#members.map(({ site }) => site.call('digest')))
    for (const digest of digests) assert.deepEqual(digest, digests[0])
    const hashes = await Promise.all(this.#members.map(({ site }) => site.call('logHash', { from, to })))
    for (const hash of hashes) assert.equal(hash, hashes[0], 'the logs are equal')
  }

  /** Each receipt's writes stand in the log at its LSN. */
  async #checkLog(first: number, last: number): Promise<void> {
    const receipts = new Map(this.#acknowledged.map((receipt) => [receipt.lsn, receipt]))
    assert.equal(receipts.size, this.#acknowledged.length, 'no LSN is acknowledged twice')
    for (const lsn of [...receipts.keys()]) if (lsn < first) receipts.delete(lsn)
    const [member] = this.#members
    assert.ok(member !== undefined)
    for (let from = first; from <= last; from += lsnsAtOnce) {
      const to = Math.min(last, from + lsnsAtOnce - 1)
      for (const { lsn, term, writes } of await member.site.call('changes', { from, to })) {
        const receipt = receipts.get(lsn)
        if (receipt === undefined) continue
        assert.deepEqual({ term, writes }, { term: receipt.term, writes: receipt.writes })
        receipts.delete(lsn)
      }
    }
    assert.deepEqual([...receipts.values()].slice(0, 3), [], `${receipts.size} acknowledged commits are lost`)
  }

  async #checkOutcomes(): Promise<void> {
    const tokens = this.#acknowledged.map(({ token }) => token)
    const doubted = this.#unknown.map(({ token }) => token)
    let first: string[] | undefined
    for (const { site, name } of this.#members) {
      for (let at = 0; at < tokens.length; at += lsnsAtOnce) {
        const outcomes = await site.call('outcomes', tokens.slice(at, at + lsnsAtOnce))
        assert.ok(
          outcomes.every((outcome) => outcome === 'applied'),
          `every acknowledged commit is on ${name}`,
        )
      }
      const outcomes = await site.call('outcomes', doubted)
      first ??= outcomes
      assert.deepEqual(outcomes, first, 'all sites say the same of what was in doubt')
      assert.ok(!outcomes.includes('pending'), 'nothing stays in doubt')
    }
    for (const outcome of first ?? []) {
      if (outcome === 'lost') this.totals.lost++
      else this.totals.applied++
    }
    const kept = await this.#rolledBack()
    const wrong = this.#acknowledged.filter(({ lsn, term }) => kept.has(`${lsn} ${term}`))
    assert.deepEqual(wrong.slice(0, 3), [], 'nothing acknowledged was ever rolled back')
  }

  /** LSN and term of each commit that a rewind has taken back anywhere. */
  async #rolledBack(): Promise<Set<string>> {
    const commits = new Set<string>()
    const statuses = await this.#statuses(this.#members)
    const files = statuses.flatMap((status, index) => {
      const folder = join((this.#members[index] as Member).path, 'lost')
      return (status?.lost ?? []).map((file) => join(folder, file))
    })
    for (const file of files) {
      for (const line of readFileSync(file, 'utf8').trim().split('\n')) {
        const { lsn, term } = JSON.parse(line) as { lsn: number; term: number }
        commits.add(`${lsn} ${term}`)
      }
    }
    return commits
  }
}
