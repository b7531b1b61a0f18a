// Takeovers under load between two sites in processes of their own, one of which is killed at some moment of it. What
// the processes are doing then, the seed does not say; the totals tell which moments were met.
//
// After each round one site is master and the other follows, and `check` holds both against every receipt.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import { RemoteError, RemoteSite } from '../support/remote-site.ts'
import type { Settled, SiteNotice } from '../support/site-messages.ts'
import { withTempFolder } from '../support/temp-folder.ts'
import { waitUntil } from '../support/wait-until.ts'

const listen = 'tcp://127.0.0.1:0'
const settleTimeoutMs = 60_000
/** A takeover takes about so long here, so the kills are spread over it. */
const killWithinMs = 40
const tokensAtOnce = 5000
/** Between two questions to a site. */
const askEveryMs = 20

interface Member {
  readonly name: string
  readonly path: string
  site: RemoteSite
  address: string
}

export type Victim = 'master' | 'heir'

export class TakeOverRounds {
  readonly moments: Map<string, number> = new Map()
  acknowledged = 0
  kills = 0
  readonly #t: TestContext
  readonly #random: Prng
  readonly #lsns = new Set<number>()
  #settled: Settled[] = []
  #unknown: Settled[] = []
  #loads = 0
  #master: Member
  #other: Member
  readonly #failures: string[] = []

  constructor(t: TestContext, seed: number) {
    this.#t = t
    this.#random = new Prng(seed)
    const folder = withTempFolder(t)
    const [a, b] = ['a', 'b'].map((name) => {
      return { name, path: join(folder, name), site: this.#spawn(name), address: listen }
    }) as [Member, Member]
    this.#master = a
    this.#other = b
  }

  #spawn(name: string): RemoteSite {
    return new RemoteSite(this.#t, { name, onNotice: (notice) => this.#take(notice) })
  }

  #take(notice: SiteNotice): void {
    if (notice.notice === 'acknowledged') {
      for (const { lsn } of notice.commits) {
        if (this.#lsns.has(lsn)) this.#failures.push(`LSN ${lsn} was acknowledged twice`)
        this.#lsns.add(lsn)
      }
      this.acknowledged += notice.commits.length
      this.#settled.push(...notice.commits)
    } else if (notice.notice === 'unknown') this.#unknown.push(...notice.commits)
    else if (notice.notice === 'failed') this.#failures.push(`${notice.code} ${notice.message}`)
  }

  async start(): Promise<void> {
    for (const { site, path, name } of [this.#master, this.#other]) {
      await site.call('open', { path, open: { site: name } })
    }
    await this.#serve(this.#master)
    await this.#follow(this.#other, this.#master)
    await this.#synced(this.#other)
    await this.#load(this.#master)
    await this.#load(this.#other)
  }

  async round(victim: Victim): Promise<void> {
    const [old, heir] = [this.#master, this.#other]
    await this.#progress(old)
    const asked = heir.site.call('takeOver', { listen }).then(
      ({ address }) => {
        heir.address = address as string
        return 'taken' as const
      },
      (error: unknown) => {
        if (error instanceof RemoteError) return error.code ?? error.message
        return 'killed' as const
      },
    )
    await new Promise((resolve) => setTimeout(resolve, this.#random.below(killWithinMs)))
    const killed = victim === 'master' ? old : heir
    await killed.site.kill()
    this.kills++
    const outcome = await asked
    killed.site = this.#spawn(killed.name)
    const { path, name } = killed
    await killed.site.call('open', { path, open: { site: name } })
    if (victim === 'master') await this.#masterCameBack(old, heir, outcome)
    else await this.#heirCameBack(old, heir, outcome)
    await this.#synced(this.#other)
    await this.#load(killed)
    await this.#progress(this.#master)
    await this.#check()
  }

  async #masterCameBack(old: Member, heir: Member, outcome: string): Promise<void> {
    const wasGiven = await this.#hasGivenUp(old)
    if (outcome === 'taken') {
      assert.ok(wasGiven, 'who has handed over knows it')
      this.#note('master killed: handed over before')
      this.#reigns(heir, old)
    } else if (wasGiven) {
      this.#note('master killed: given up, and the heir had not heard')
      await heir.site.call('promote')
      await this.#serve(heir)
      this.#reigns(heir, old)
    } else {
      this.#note('master killed: not given up')
      await this.#serve(old)
      await heir.site.call('unfollow')
      this.#reigns(old, heir)
    }
    await this.#follow(this.#other, this.#master)
  }

  async #heirCameBack(old: Member, heir: Member, outcome: string): Promise<void> {
    const isMaster = (await heir.site.call('status'))?.role === 'master'
    if (outcome === 'taken' || isMaster) {
      assert.ok(isMaster, 'who has taken over knows it')
      this.#note(outcome === 'taken' ? 'heir killed: taken over before' : 'heir killed: given, and not told')
      assert.ok(await this.#hasGivenUp(old))
      await this.#serve(heir)
      this.#reigns(heir, old)
      await this.#follow(old, heir)
      return
    }
    // It asks where it asked before, and hears what became of it.
    await this.#follow(heir, old)
    let heirReigns = false
    const isDecided = async (): Promise<boolean> => {
      heirReigns = (await heir.site.call('status'))?.writable === true
      return heirReigns || heir.site.notices.some(({ notice }) => notice === 'synced')
    }
    await waitUntil(isDecided, {
      what: 'the heir knew what it is',
      timeoutMs: settleTimeoutMs,
      everyMs: askEveryMs,
    })
    if (!heirReigns) {
      this.#note('heir killed: not given up')
      return
    }
    this.#note('heir killed: given up, and told again')
    await this.#serve(heir)
    this.#reigns(heir, old)
    await this.#follow(old, heir)
  }

  async #hasGivenUp({ site }: Member): Promise<boolean> {
    return (await site.call('status'))?.role === 'replica'
  }

  #note(moment: string): void {
    this.moments.set(moment, (this.moments.get(moment) ?? 0) + 1)
  }

  #reigns(master: Member, other: Member): void {
    this.#master = master
    this.#other = other
  }

  async #serve(member: Member): Promise<void> {
    member.address = (await member.site.call('serve', { listen })).address
  }

  async #follow(member: Member, master: Member): Promise<void> {
    const { site, path, name } = member
    await site.call('follow', {
      path,
      address: master.address,
      open: { site: name },
      attach: { connectTimeoutMs: 300 },
    })
  }

  async #synced({ site }: Member): Promise<void> {
    await site.noticed(({ notice }) => notice === 'synced', { what: 'synced', timeoutMs: settleTimeoutMs })
  }

  async #load({ site }: Member): Promise<void> {
    await site.call('startLoad', {
      seed: ++this.#loads,
      writers: this.#random.pick(process.env.COTERIE_TEST_ALL === '1' ? [4, 32] : [4, 12]),
      keys: 500,
      valueBytes: 50,
      restMs: process.env.COTERIE_TEST_ALL === '1' ? 2 : 8,
      mixed: true,
    })
  }

  /** Commits are acknowledged there. */
  async #progress({ site, name }: Member): Promise<void> {
    const until = site.acknowledged.length + 200
    await waitUntil(() => site.acknowledged.length >= until, {
      what: `${name} acknowledged commits`,
      timeoutMs: settleTimeoutMs,
    })
  }

  /** Every receipt is on both sites, nothing unknown is undecided, and they are equal. */
  async #check(): Promise<void> {
    assert.deepEqual(this.#failures, [])
    const sites = [this.#master.site, this.#other.site]
    for (const site of sites) await site.call('stopLoad')
    const lastLsn = async (): Promise<number> => (await this.#master.site.call('status'))?.lastLsn ?? 0
    const followed = async (): Promise<boolean> => {
      const states = await Promise.all(sites.map((site) => site.call('status')))
      const writers = states.filter((state) => state?.writable === true)
      assert.ok(writers.length <= 1, 'one site writes')
      return states[1]?.appliedLsn === (await lastLsn())
    }
    await waitUntil(followed, {
      what: 'the replica had everything',
      timeoutMs: settleTimeoutMs,
      everyMs: askEveryMs,
    })
    const [settled, unknown] = [this.#settled, this.#unknown]
    this.#settled = []
    this.#unknown = []
    const outcomesOf = async (site: RemoteSite, commits: readonly Settled[]): Promise<string[]> => {
      const found: string[] = []
      for (let at = 0; at < commits.length; at += tokensAtOnce) {
        const tokens = commits.slice(at, at + tokensAtOnce).map(({ token }) => token)
        found.push(...(await site.call('outcomes', tokens)))
      }
      return found
    }
    const undecided: string[][] = []
    for (const site of sites) {
      const outcomes = await outcomesOf(site, settled)
      const lost = settled.filter((_, index) => outcomes[index] !== 'applied')
      assert.deepEqual(lost, [], `${site.name} has every commit that was acknowledged`)
      undecided.push(await outcomesOf(site, unknown))
    }
    assert.deepEqual(undecided[0], undecided[1], 'both know what became of the unknown')
    assert.ok(!undecided[0]?.includes('pending'), 'nothing is left open')
    const [digest, other] = await Promise.all(sites.map((site) => site.call('digest')))
    assert.equal(digest?.digest, other?.digest)
    for (const member of [this.#master, this.#other]) await this.#load(member)
  }

  async end(): Promise<void> {
    for (const { site } of [this.#other, this.#master]) {
      await site.call('stopLoad')
      await site.call('verify')
      await site.call('close')
    }
  }
}

/** Rounds in turn: the master is killed, the heir is killed. */
export async function takeOverRounds(t: TestContext, rounds: number, seed: number): Promise<void> {
  const run = new TakeOverRounds(t, seed)
  await run.start()
  for (let round = 1; round <= rounds; round++) {
    const victim = round % 2 === 0 ? 'heir' : 'master'
    try {
      await run.round(victim)
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      throw new Error(`round ${round} (${victim} killed): ${message}`, { cause: error })
    }
  }
  await run.end()
  const moments = [...run.moments].map(([moment, count]) => `${moment} ${count}`).join('; ')
  t.diagnostic(`${run.kills} kills, ${run.acknowledged} commits acknowledged, none lost; ${moments}`)
  assert.ok(run.kills === rounds && run.acknowledged > rounds * 400, 'the rounds did what they are for')
}
