// The demo: real processes on this machine, real data, real kill -9; and then a count of what is left.
//
// A group of three sites loads cities while its master, whoever that is at the moment, is killed again and again. The
// other two elect a new one by themselves and the load goes on there; the killed site is started again on its folder
// and joins. After each kill every receipt given since the last one is looked up on the new master, and at the end
// every receipt on every site. Nothing here tells the group who shall be master.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { assert } from '../../base/assert.ts'
import type { SyncResult } from '../../index.ts'
import { CommandError } from '../exit-codes.ts'
import { formatCount, formatMs } from '../format.ts'
import { type City, Loader } from './loader.ts'
import type { SiteResults, WrongRow } from './messages.ts'
import { type Moment, momentsOf } from './moments.ts'
import type { Comeback, DemoReport, Failover, Kill, SiteReport } from './report.ts'
import { SiteHandle } from './site-handle.ts'

export interface DemoOptions {
  readonly cities: readonly City[]
  readonly seed: number
  readonly kills: number
  readonly inFlight: number
  readonly signal: AbortSignal
  readonly onLoadStart: () => void
  readonly onProgress: (acknowledged: number) => void
  readonly onKill: (kill: Kill) => void
  readonly onComeback: (site: string, comeback: Comeback) => void
  readonly onPhase: (words: string) => void
}

const siteNames = ['a', 'b', 'c'] as const
const anyPort = 'tcp://127.0.0.1:0'
/** No single wait of the demo takes nearly so long; one that does is a failure to report. */
const waitMsMax = 60_000
const rowsPerCheck = 2000

/** Ends with nothing running and nothing left on the disk, however it ends. */
export async function runDemo(options: DemoOptions): Promise<DemoReport> {
  const folder = await mkdtemp(join(tmpdir(), 'coterie-demo-'))
  const run = new DemoRun(folder, options)
  try {
    return await run.run()
  } finally {
    await run.killAll()
    await rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  }
}

interface LostRow extends WrongRow {
  readonly site: string
}

interface DemoSite {
  readonly handle: SiteHandle
  /** Where it listens, once it has joined. */
  address: string
  /** Stops hearing its answers to the load. */
  stopHearing: () => void
}

interface Master {
  readonly site: DemoSite
  readonly term: number
  readonly at: number
}

class DemoRun {
  readonly #options: DemoOptions
  readonly #folder: string
  readonly #sites: DemoSite[] = []
  readonly #loader: Loader
  readonly #moments: readonly Moment[]
  readonly #startedAt = performance.now()
  readonly #broken: Promise<never>
  readonly #lostRows: LostRow[] = []
  #break: (error: Error) => void = () => undefined
  #master: Master | undefined
  #masterWaiters: (() => void)[] = []
  #changes = 0

  constructor(folder: string, options: DemoOptions) {
    this.#folder = folder
    this.#options = options
    const { cities, inFlight, onProgress } = options
    this.#loader = new Loader({ cities, inFlight, onProgress })
    this.#moments = momentsOf(options.seed, { cities: cities.length, kills: options.kills })
    this.#broken = new Promise((_resolve, reject) => {
      this.#break = reject
    })
    this.#broken.catch(() => undefined)
    const interrupt = (): void =>
      this.#break(new CommandError('INTERRUPTED', 'interrupted; all processes are ended'))
    if (options.signal.aborted) interrupt()
    else options.signal.addEventListener('abort', interrupt, { once: true })
  }

  async run(): Promise<DemoReport> {
    await this.#startGroup()
    const loadStartedAt = performance.now()
    this.#options.onLoadStart()
    const failovers: Failover[] = []
    for (const [index, moment] of this.#moments.entries()) {
      // One city at least is left for the master that comes: by its receipt one knows when that takes commits.
      const most = this.#options.cities.length - 1
      this.#loader.allowTo(Math.min(moment.acknowledged + this.#options.inFlight, most))
      await this.#reached(moment.acknowledged)
      // The load goes on up to the next kill while this one is dealt with.
      this.#loader.allowTo(Math.min(this.#moments[index + 1]?.acknowledged ?? most, most))
      await delay(moment.delayMs)
      failovers.push(await this.#killMaster())
    }
    this.#loader.allowTo(this.#options.cities.length)
    await this.#reached(this.#options.cities.length)
    const loadMs = performance.now() - loadStartedAt
    return await this.#report(failovers, loadMs)
  }

  async #startGroup(): Promise<void> {
    for (const name of siteNames) this.#sites.push(this.#site(name))
    const [founder, ...others] = this.#sites
    assert(founder !== undefined, 'there are sites')
    await this.#join(founder)
    for (const site of others) await this.#join(site)
    await this.#whenAllAreMembers()
    this.#options.onPhase(
      `${siteNames.join(', ')} are a group: a commit is acknowledged when two of three have it on disk`,
    )
  }

  async #whenAllAreMembers(): Promise<void> {
    const until = performance.now() + waitMsMax
    for (;;) {
      const statuses = await Promise.all(this.#sites.map(({ handle }) => this.#statusOf(handle)))
      if (statuses.every(({ members }) => members === siteNames.length)) return
      if (performance.now() > until) throw new Error('the three sites do not become members')
      await delay(20)
    }
  }

  async #killMaster(): Promise<Failover> {
    const loader = this.#loader
    const before = await this.#masterOtherThan(undefined, 0)
    const { site: victim, term } = before
    const { acknowledged } = loader
    const killedAt = performance.now()
    const killed = victim.handle.kill()
    victim.stopHearing()
    const unknown = loader.masterDied()
    loader.allowTo(Math.max(loader.allowed, acknowledged + 1))
    const given = loader.takeUnchecked()
    const changesBefore = this.#changes
    const next = await this.#masterOtherThan(victim, term)
    this.#changes = changesBefore
    const masterMs = next.at - killedAt
    // Of the cities that were not sent yet, or, where there are none left, of those that are sent again.
    const commitMs = this.#reached(acknowledged + 1).then(() => performance.now() - killedAt)
    commitMs.catch(() => undefined)
    const missing = await this.#checkOnMaster(unknown)
    loader.sendAgain(unknown)
    const lost = await this.#checkOnMaster(given)
    for (const row of lost) this.#lostRows.push({ ...row, site: next.site.handle.name })
    await killed
    const kill: Kill = {
      killed: victim.handle.name,
      master: next.site.handle.name,
      masterMs,
      commitMs: await commitMs,
      acknowledged,
      lost: this.#lostCount(),
      unknown: unknown.length,
      wereCommitted: unknown.length - missing.length,
    }
    this.#options.onKill(kill)
    const comeback = await this.#bringBack(victim)
    this.#options.onComeback(victim.handle.name, comeback)
    return { ...kill, comeback }
  }

  async #bringBack(site: DemoSite): Promise<Comeback> {
    const startedAt = performance.now()
    let synced: SyncResult | undefined
    let rewound = 0
    const offs = [
      site.handle.on('synced', ({ result }) => {
        synced = result
      }),
      site.handle.on('rewound', ({ transactions }) => {
        rewound += transactions
      }),
    ]
    site.handle.start()
    await this.#join(site)
    for (const off of offs) off()
    return {
      kind: synced?.kind ?? 'equal',
      transactions: synced?.transactions ?? 0,
      ms: performance.now() - startedAt,
      rewound,
    }
  }

  async #report(failovers: readonly Failover[], loadMs: number): Promise<DemoReport> {
    const { cities, seed } = this.#options
    const checkStartedAt = performance.now()
    this.#options.onPhase('checking every receipt on every site')
    const { site: master } = await this.#masterOtherThan(undefined, 0)
    const { canLose } = await this.#statusOf(master.handle)
    const reports = await this.#checkAll(master.handle)
    const checkMs = performance.now() - checkStartedAt
    await Promise.all(
      this.#sites.map(({ handle }) =>
        this.#wait(handle.ask({ type: 'close' }), `site ${handle.name} to close`),
      ),
    )
    return {
      seed,
      cities: cities.length,
      acknowledged: this.#loader.acknowledged,
      lost: this.#lostCount(),
      digestsEqual: new Set(reports.map((each) => each.digest)).size === 1,
      lostRows: this.#lostRows,
      sites: reports,
      failovers,
      otherChanges: this.#changes,
      load: {
        ms: loadMs,
        commitsPerSecond: Math.round((cities.length * 1000) / loadMs),
        bytes: cities.reduce((sum, city) => sum + city.key.length + Buffer.byteLength(city.value), 0),
      },
      sentAgainBesides: this.#loader.sentAgainBesides,
      canLose,
      checkMs,
      totalMs: performance.now() - this.#startedAt,
    }
  }

  async killAll(): Promise<void> {
    await Promise.all(this.#sites.map(({ handle }) => handle.kill()))
  }

  #site(name: string): DemoSite {
    const handle = new SiteHandle({ name, path: join(this.#folder, name) })
    handle.on('exit', ({ expected, words }) => {
      if (!expected) this.#break(new Error(`site ${name} ended by itself: ${words}`))
    })
    const site: DemoSite = { handle, address: anyPort, stopHearing: () => undefined }
    handle.on('master', ({ term }) => this.#heardMaster(site, term))
    handle.start()
    return site
  }

  #heardMaster(site: DemoSite, term: number): void {
    if (term <= (this.#master?.term ?? 0)) return
    if (this.#master !== undefined) this.#changes++
    this.#master = { site, term, at: performance.now() }
    this.#loader.useMaster(site.handle)
    for (const wake of this.#masterWaiters.splice(0)) wake()
  }

  /** The master, once there is one of a later term at another site. */
  async #masterOtherThan(site: DemoSite | undefined, term: number): Promise<Master> {
    for (;;) {
      const master = this.#master
      if (master !== undefined && master.site !== site && master.term > term) return master
      const heard = new Promise<void>((resolve) => {
        this.#masterWaiters.push(resolve)
      })
      await this.#wait(heard, 'the group to elect a master')
    }
  }

  /** Resolves when the site is in the group and has its data. On the port of before, if nobody has taken it. */
  async #join(site: DemoSite): Promise<void> {
    const { handle } = site
    site.stopHearing = this.#loader.hear(handle)
    const seeds = this.#sites.filter((each) => each !== site && each.address !== anyPort).map(addressOf)
    const join = { type: 'join', path: handle.path, site: handle.name, seeds } as const
    const what = `site ${handle.name} to join`
    try {
      site.address = (await this.#wait(handle.ask({ ...join, listen: site.address }), what)).address
    } catch (error) {
      if (!(error as Error).message.includes('ADDRESS_IN_USE')) throw error
      site.address = (await this.#wait(handle.ask({ ...join, listen: anyPort }), what)).address
    }
  }

  /** On whichever site is master: what it took over is committed first, and it must be master still afterwards. */
  async #checkOnMaster(indexes: readonly number[]): Promise<WrongRow[]> {
    for (;;) {
      const { site, term } = await this.#masterOtherThan(undefined, 0)
      const { lastLsn } = await this.#statusOf(site.handle)
      await this.#reaches(site.handle, 'committedLsn', lastLsn)
      const wrong = await this.#check(site.handle, indexes)
      if (wrong.length === 0) return wrong
      const status = await this.#statusOf(site.handle)
      if (status.isMaster && status.term === term) return wrong
      await delay(20)
    }
  }

  async #check(site: SiteHandle, indexes: readonly number[]): Promise<WrongRow[]> {
    const found: WrongRow[] = []
    for (let at = 0; at < indexes.length; at += rowsPerCheck) {
      const rows = this.#loader.rows(indexes.slice(at, at + rowsPerCheck))
      const { wrong } = await this.#wait(
        site.ask({ type: 'check', rows }),
        `site ${site.name} to check receipts`,
      )
      found.push(...wrong)
    }
    return found
  }

  async #checkAll(master: SiteHandle): Promise<SiteReport[]> {
    const { lastLsn } = await this.#statusOf(master)
    const indexes = this.#loader.acknowledgedIndexes()
    return await Promise.all(
      this.#sites.map(async ({ handle }): Promise<SiteReport> => {
        const { name } = handle
        await this.#reaches(handle, 'appliedLsn', lastLsn)
        const wrong = await this.#check(handle, indexes)
        for (const row of wrong) this.#lostRows.push({ ...row, site: name })
        const digest = await this.#wait(handle.ask({ type: 'digest' }), `the digest of site ${name}`)
        return { site: name, ...digest, checked: indexes.length, wrong: wrong.length }
      }),
    )
  }

  /** Cities that some site that was asked did not have as it should. */
  #lostCount(): number {
    return new Set(this.#lostRows.map((row) => row.index)).size
  }

  #statusOf(site: SiteHandle): Promise<SiteResults['status']> {
    return this.#wait(site.ask({ type: 'status' }), `the status of site ${site.name}`)
  }

  async #reaches(site: SiteHandle, position: 'appliedLsn' | 'committedLsn', lsn: number): Promise<void> {
    const until = performance.now() + waitMsMax
    for (;;) {
      const status = await this.#statusOf(site)
      const at = status[position]
      if (at >= lsn) return
      // Its end of the log may have been taken back, if another is master by now.
      if (position === 'committedLsn' && (!status.isMaster || at >= status.lastLsn)) return
      if (performance.now() > until) {
        throw new Error(`${position} of site ${site.name} is ${at} and does not reach ${lsn}`)
      }
      await delay(5)
    }
  }

  #reached(count: number): Promise<void> {
    return this.#wait(
      this.#loader.reached(count),
      () => `${formatCount(count)} cities to be acknowledged; ${formatCount(this.#loader.acknowledged)} are`,
    )
  }

  /** Ends early when the demo is interrupted, a site ends by itself, or the load fails. */
  async #wait<T>(promise: Promise<T>, what: string | (() => string)): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const timeout = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        const words = typeof what === 'string' ? what : what()
        reject(new Error(`waited ${formatMs(waitMsMax)} for ${words}`))
      }, waitMsMax)
    })
    try {
      return await Promise.race([promise, this.#broken, this.#loader.failure, timeout])
    } finally {
      clearTimeout(timer)
    }
  }
}

function addressOf(site: DemoSite): string {
  return site.address
}
