// A group that elects its own master, for tests that strike it: three sites in processes of their own, all under load,
// whoever is master taking it. At the end every site is held against every receipt: what was acknowledged must be on
// all of them, and what was in doubt must have ended in the same way everywhere.
//
// Sites listen on loopback, or each on a host of its own. What the load writes, and the waits, follow from the seed;
// who is master, and what it is doing when it is struck, does not.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import type { DatabaseStatus, GroupStatus, JoinOptions } from '../../src/index.ts'
import { RemoteSite } from '../support/remote-site.ts'
import type { Settled, SiteNotice } from '../support/site-messages.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

export const siteNames = ['a', 'b', 'c'] as const

/** So many commits show that a group goes on. */
export const acknowledgedMin = 30
export const settleTimeoutMs = 120_000
/** Between two questions to all of them: asking shall not be most of what they do. */
export const askEveryMs = 30
const isLong = process.env.COTERIE_TEST_ALL === '1'
const lsnsAtOnce = 20_000

/** Where a site runs. */
export interface Place {
  readonly address: string
  readonly namespace?: string
}

export interface LoadedMember {
  readonly name: string
  readonly path: string
  readonly place: Place
  site: RemoteSite
  address: string
}

/** Default those of `join`. */
export type GroupTimings = Pick<JoinOptions, 'electionTimeoutMs' | 'silenceTimeoutMs'>

export interface LoadedGroupOptions {
  readonly seed: number
  /** Default: all on loopback. */
  readonly placeOf?: (name: string) => Place
  readonly timings?: GroupTimings
}

export class LoadedGroup {
  readonly members: readonly LoadedMember[]
  readonly random: Prng
  /** In the order in which the test heard of them. */
  readonly acknowledged: Settled[] = []
  readonly totals = { applied: 0, lost: 0, kills: 0, failoversMs: [] as number[] }
  readonly #t: TestContext
  readonly #timings: GroupTimings
  readonly #unknown: Settled[] = []
  readonly #failures: string[] = []
  #loads = 0

  constructor(t: TestContext, options: LoadedGroupOptions) {
    const { seed, placeOf = (): Place => ({ address: '127.0.0.1' }), timings = {} } = options
    this.#t = t
    this.#timings = timings
    this.random = new Prng(seed)
    const folder = withTempFolder(t)
    this.members = siteNames.map((name) => {
      const place = placeOf(name)
      const site = this.#spawn(name, place)
      return { name, path: join(folder, name), place, site, address: anyPortAt(place) }
    })
  }

  #spawn(name: string, { namespace }: Place): RemoteSite {
    const onNotice = (notice: SiteNotice): void => this.#take(notice)
    return new RemoteSite(this.#t, { name, onNotice, ...(namespace === undefined ? {} : { namespace }) })
  }

  #take(notice: SiteNotice): void {
    if (notice.notice === 'acknowledged') this.acknowledged.push(...notice.commits)
    else if (notice.notice === 'unknown') this.#unknown.push(...notice.commits)
    else if (notice.notice === 'failed') this.#failures.push(`${notice.code} ${notice.message}`)
    else if (notice.notice === 'stopped') this.#failures.push(`stopped: ${notice.reason} ${notice.code}`)
  }

  async #start(): Promise<void> {
    for (const member of this.members) {
      await this.#begin(member)
      await this.whenAgreed([member])
    }
    const isWhole = async (): Promise<boolean> => {
      const statuses = await this.#statuses(this.members)
      return statuses.every((status) => status?.group?.members.length === siteNames.length)
    }
    await waitUntil(isWhole, {
      what: 'all three are members',
      timeoutMs: settleTimeoutMs,
      everyMs: askEveryMs,
    })
  }

  /** Opens, joins, and writes as soon as it is master. */
  async #begin(member: LoadedMember): Promise<void> {
    const { site, name, path } = member
    await site.call('open', { path, open: { site: name } })
    const seeds = this.members.filter((other) => other !== member && !other.address.endsWith(':0'))
    const joined = { ...this.#timings, listen: member.address, seeds: seeds.map(({ address }) => address) }
    member.address = (await site.call('join', joined)).address
    await site.call('startLoad', {
      seed: ++this.#loads,
      writers: this.random.pick(isLong ? [4, 16] : [4, 8]),
      keys: 2000,
      valueBytes: this.random.between(16, 200),
      restMs: isLong ? 5 : 20,
      mixed: true,
    })
  }

  #statuses(members: readonly LoadedMember[]): Promise<(DatabaseStatus | undefined)[]> {
    return Promise.all(members.map(({ site }) => site.call('status')))
  }

  /** Of each, in this order; all of them are in the group. */
  async groupStatuses(members: readonly LoadedMember[] = this.members): Promise<GroupStatus[]> {
    const statuses = await this.#statuses(members)
    return statuses.map((status) => {
      assert.ok(status?.group !== undefined, 'a site is in the group')
      return status.group
    })
  }

  /** All are master, or follow the same one of `among`. */
  async whenAgreed(
    members: readonly LoadedMember[] = this.members,
    among: readonly LoadedMember[] = this.members,
  ): Promise<LoadedMember> {
    let master: LoadedMember | undefined
    const isAgreed = async (): Promise<boolean> => {
      this.#assertNoneFailed()
      const statuses = await this.#statuses(members)
      const known = new Set(statuses.map((status) => status?.group?.master?.site))
      const [name] = known
      master = among.find((member) => member.name === name)
      return known.size === 1 && master !== undefined
    }
    const who = members.map(({ name }) => name).join(', ')
    await waitUntil(isAgreed, {
      what: `${who} agree on a master`,
      timeoutMs: settleTimeoutMs,
      everyMs: askEveryMs,
    })
    return master as LoadedMember
  }

  #assertNoneFailed(): void {
    assert.deepEqual(this.#failures, [], 'no site fails, and none is turned away')
  }

  /** So many commits more of those that count. */
  async whenAcknowledged(count: number, counts: (commit: Settled) => boolean = () => true): Promise<void> {
    let next = this.acknowledged.length
    let have = 0
    const isEnough = (): boolean => {
      for (; next < this.acknowledged.length; next++) if (counts(this.acknowledged[next] as Settled)) have++
      return have >= count
    }
    await waitUntil(isEnough, { what: `${count} more commits are acknowledged`, timeoutMs: settleTimeoutMs })
  }

  rest(options: { readonly mostMs: number }): Promise<void> {
    const ms = this.random.below(options.mostMs)
    return new Promise((resolve) => {
      setTimeout(resolve, ms)
    })
  }

  async kill(member: LoadedMember): Promise<void> {
    await member.site.kill()
    this.totals.kills++
  }

  async back(member: LoadedMember): Promise<void> {
    member.site = this.#spawn(member.name, member.place)
    // It may come back at another address than the one that the others know.
    if (this.random.chance(0.3)) member.address = anyPortAt(member.place)
    await this.#begin(member)
  }

  /** Starts, goes through the rounds, and checks everything. A failure tells its round, and how the group was. */
  async run<Kind extends string>(
    rounds: readonly Kind[],
    round: (kind: Kind) => Promise<void>,
  ): Promise<void> {
    await this.#named('the start', () => this.#start())
    for (const [index, kind] of rounds.entries()) {
      await this.#named(`round ${index + 1} (${kind})`, () => round(kind))
    }
    await this.#named('the end', () => this.#finish())
  }

  async #named(title: string, body: () => Promise<void>): Promise<void> {
    try {
      await body()
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      throw new Error(`${title}: ${why}\n${await this.#picture()}`, { cause: error })
    }
  }

  async #picture(): Promise<string> {
    const lines = this.members.map(async ({ name, site }) => {
      try {
        const status = await site.call('status')
        if (status?.group === undefined) return `${name} is in no group`
        const { role, term, master, elections, stepDowns, sites } = status.group
        const others = sites.filter(({ isSelf }) => !isSelf)
        return (
          `${name} is ${role} in term ${term}, master ${master?.site ?? 'none'}, ${elections} elections, ` +
          `${stepDowns} step-downs; LSNs: last ${status.lastLsn}, durable ${status.durableLsn}, ` +
          `committed ${status.committedLsn}, applied ${status.appliedLsn}; it sees ` +
          others.map((other) => `${other.site} ${other.state} ${other.linked ? '' : 'un'}linked`).join(', ')
        )
      } catch (error) {
        return `${name} says nothing: ${error instanceof Error ? error.message : error}`
      }
    })
    return (await Promise.all(lines)).join('\n')
  }

  /** Ends the load, waits until nothing moves, and holds every site against every receipt. */
  async #finish(): Promise<void> {
    await Promise.all(this.members.map(({ site }) => site.call('stopLoad')))
    const { first, last } = await this.#settle()
    await this.#checkEqual(first, last)
    await this.#checkLog(first, last)
    await this.#checkOutcomes()
    for (const { site } of this.members) await site.call('verify')
    for (const { site } of this.members) await site.call('close')
  }

  async #settle(): Promise<{ first: number; last: number }> {
    let statuses: (DatabaseStatus | undefined)[] = []
    const isStill = async (): Promise<boolean> => {
      statuses = await this.#statuses(this.members)
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
    await waitUntil(isStill, {
      what: 'all sites are equal',
      timeoutMs: settleTimeoutMs,
      everyMs: askEveryMs,
    })
    this.#assertNoneFailed()
    const first = Math.max(...statuses.map((status) => status?.firstLsn ?? 0))
    return { first, last: statuses[0]?.lastLsn ?? 0 }
  }

  async #checkEqual(from: number, to: number): Promise<void> {
    const digests = await Promise.all(this.members.map(({ site }) => site.call('digest')))
    for (const digest of digests) assert.deepEqual(digest, digests[0])
    const hashes = await Promise.all(this.members.map(({ site }) => site.call('logHash', { from, to })))
    for (const hash of hashes) assert.equal(hash, hashes[0], 'the logs are equal')
  }

  /** Each receipt's writes stand in the log at its LSN. */
  async #checkLog(first: number, last: number): Promise<void> {
    const receipts = new Map(this.acknowledged.map((receipt) => [receipt.lsn, receipt]))
    assert.equal(receipts.size, this.acknowledged.length, 'no LSN is acknowledged twice')
    for (const lsn of [...receipts.keys()]) if (lsn < first) receipts.delete(lsn)
    const [member] = this.members
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
    const tokens = this.acknowledged.map(({ token }) => token)
    const doubted = this.#unknown.map(({ token }) => token)
    let first: string[] | undefined
    for (const { site, name } of this.members) {
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
    const wrong = this.acknowledged.filter(({ lsn, term }) => kept.has(`${lsn} ${term}`))
    assert.deepEqual(wrong.slice(0, 3), [], 'nothing acknowledged was ever rolled back')
  }

  /** LSN and term of each commit that a rewind has taken back anywhere. */
  async #rolledBack(): Promise<Set<string>> {
    const commits = new Set<string>()
    const statuses = await this.#statuses(this.members)
    const files = statuses.flatMap((status, index) => {
      const folder = join((this.members[index] as LoadedMember).path, 'lost')
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

  /** After `run`. */
  get summary(): string {
    const { applied, lost, failoversMs } = this.totals
    const sorted = [...failoversMs].sort((x, y) => x - y)
    const median = sorted[Math.floor(sorted.length / 2)] ?? 0
    const failovers =
      sorted.length === 0
        ? ''
        : `; first commit of the next master after ${median.toFixed(0)} ms at the median, ${(sorted.at(-1) ?? 0).toFixed(0)} ms at most`
    return (
      `${this.acknowledged.length} commits acknowledged, none lost; of those in doubt ${applied} applied, ${lost} lost` +
      failovers
    )
  }
}

function anyPortAt(place: Place): string {
  return `tcp://${place.address}:0`
}
