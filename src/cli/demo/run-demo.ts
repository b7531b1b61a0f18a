// The demo: real processes on this machine, real data, real kill -9; and then a count of what is left.
//
// A master and two replicas; a replica is killed and comes back, another one joins, the master is killed and comes
// back, all while cities are loaded. At the end every acknowledged receipt is looked up on every site.
//
// The size of the group. It begins as three sites, of which a quorum is two. The third replica is the fourth site: it
// joins as a copy beyond the three, and is counted from the master's restart on, when four are declared and a quorum is
// three. Each of the first commits is on two sites, and any three of four include one of those two: so the change
// loses nothing at any moment. (Elections and a replicated membership are not in this version.)

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { assert } from '../../base/assert.ts'
import type { SyncResult } from '../../index.ts'
import { CommandError } from '../exit-codes.ts'
import { formatBytes, formatCount, formatMs } from '../format.ts'
import { type City, Loader } from './loader.ts'
import type { SiteResults } from './messages.ts'
import { type Moments, momentsOf } from './moments.ts'
import type { DemoReport, SiteReport, Step } from './report.ts'
import { SiteHandle } from './site-handle.ts'

export interface DemoOptions {
  readonly cities: readonly City[]
  readonly seed: number
  readonly inFlight: number
  readonly signal: AbortSignal
  readonly onLoadStart: () => void
  readonly onProgress: (acknowledged: number) => void
  readonly onStep: (step: Step) => void
  readonly onPhase: (words: string) => void
}

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

interface MasterRestart {
  readonly servingMs: number
  readonly commitMs: number
  /** Commits that it had not answered when it died ... */
  readonly unknown: number
  /** ... and those of them that were not in its log. */
  readonly missing: number
}

interface Found {
  readonly catchUp: SyncResult
  readonly snapshot: SyncResult
  readonly restart: MasterRestart
  readonly loadMs: number
}

class DemoRun {
  readonly #options: DemoOptions
  readonly #folder: string
  readonly #sites: SiteHandle[] = []
  readonly #loader: Loader
  readonly #moments: Moments
  readonly #steps: Step[] = []
  readonly #startedAt = performance.now()
  readonly #broken: Promise<never>
  #break: (error: Error) => void = () => undefined
  #address = ''

  constructor(folder: string, options: DemoOptions) {
    this.#folder = folder
    this.#options = options
    const { cities, inFlight, onProgress } = options
    this.#loader = new Loader({ cities, inFlight, onProgress })
    this.#moments = momentsOf(options.seed, cities.length)
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
    const group = await this.#startGroup()
    const loadStartedAt = performance.now()
    this.#options.onLoadStart()
    const stopFeeding = this.#loader.useMaster(group.master)
    this.#loader.allowTo(this.#moments.addReplica)
    const catchUp = await this.#killReplica(group.replicas[this.#moments.victim])
    const { added, snapshot } = await this.#addReplica()
    const followers = [...group.replicas, added]
    const restart = await this.#killMaster(group.master, followers, stopFeeding)
    await this.#reached(this.#options.cities.length)
    const loadMs = performance.now() - loadStartedAt
    return await this.#report([group.master, ...followers], { catchUp, snapshot, restart, loadMs })
  }

  async #startGroup(): Promise<{ master: SiteHandle; replicas: readonly [SiteHandle, SiteHandle] }> {
    const master = this.#site('a')
    const replicas = [this.#site('b'), this.#site('c')] as const
    const { address } = await this.#wait(
      master.ask({ type: 'serve', path: master.path, site: 'a', listen: 'tcp://127.0.0.1:0', sites: 3 }),
      'the master to serve',
    )
    this.#address = address
    await Promise.all(replicas.map((replica) => this.#attach(replica)))
    this.#step(
      'master a and replicas b, c are up: a commit is acknowledged when two of three sites have it on disk',
    )
    return { master, replicas }
  }

  async #killReplica(victim: SiteHandle): Promise<SyncResult> {
    const { killReplica, restartReplica, killDelayMs } = this.#moments
    await this.#reached(killReplica)
    await delay(killDelayMs)
    await victim.kill()
    this.#step(`killed replica ${victim.name} (SIGKILL); the load goes on with the other`)
    await this.#reached(restartReplica)
    victim.start()
    const catchUp = await this.#attach(victim)
    this.#step(
      `replica ${victim.name} is back: ${catchUp.kind}, ${formatCount(catchUp.transactions)} transactions ` +
        `in ${formatMs(catchUp.ms)}`,
    )
    return catchUp
  }

  async #addReplica(): Promise<{ added: SiteHandle; snapshot: SyncResult }> {
    const { addReplica, killMaster } = this.#moments
    const loader = this.#loader
    await this.#reached(addReplica)
    loader.allowTo(killMaster + this.#options.inFlight)
    const before = loader.acknowledged
    const added = this.#site('d')
    const snapshot = await this.#attach(added)
    this.#step(
      `replica d is added: ${snapshot.kind}, ${formatBytes(snapshot.bytes)} in ${formatMs(snapshot.ms)}, ` +
        `while ${formatCount(loader.acknowledged - before)} cities were committed`,
    )
    return { added, snapshot }
  }

  async #killMaster(
    master: SiteHandle,
    followers: readonly SiteHandle[],
    stopFeeding: () => void,
  ): Promise<MasterRestart> {
    const loader = this.#loader
    await this.#reached(this.#moments.killMaster)
    // There must be something under way when it dies.
    loader.allowTo(this.#options.cities.length)
    await delay(this.#moments.killDelayMs)
    const killedAt = performance.now()
    const killed = master.kill()
    stopFeeding()
    const unknown = loader.masterDied()
    await killed
    this.#step(`killed the master (SIGKILL) with ${formatCount(unknown.length)} commits under way`)
    master.start()
    this.#address = (await this.#serveAgain(master)).address
    const servingMs = performance.now() - killedAt
    const address = this.#address
    await Promise.all(followers.map((replica) => replica.ask({ type: 'redirect', address })))
    // Once its old log is committed again, what became of the unknown commits can be read.
    await this.#reaches(master, 'committedLsn', (await this.#statusOf(master)).lastLsn)
    const missing = await this.#missingOn(master, unknown)
    const acknowledgedBefore = loader.acknowledged
    loader.sendAgain(unknown)
    loader.useMaster(master)
    await this.#reached(acknowledgedBefore + 1)
    const commitMs = performance.now() - killedAt
    this.#step(
      `the master is back on the same folder: serving after ${formatMs(servingMs)}, first commit after ` +
        `${formatMs(commitMs)}; the group is four sites now, a commit needs three`,
    )
    return { servingMs, commitMs, unknown: unknown.length, missing }
  }

  async #report(sites: readonly SiteHandle[], found: Found): Promise<DemoReport> {
    const { cities, seed } = this.#options
    const { catchUp, snapshot, restart, loadMs } = found
    const checkStartedAt = performance.now()
    this.#options.onPhase('checking every receipt on every site')
    const { reports, lostRows } = await this.#checkAll(sites)
    const checkMs = performance.now() - checkStartedAt
    await Promise.all(
      sites.map((site) => this.#wait(site.ask({ type: 'close' }), `site ${site.name} to close`)),
    )
    return {
      seed,
      cities: cities.length,
      acknowledged: this.#loader.acknowledged,
      lost: new Set(lostRows.map((row) => row.index)).size,
      digestsEqual: new Set(reports.map((each) => each.digest)).size === 1,
      lostRows,
      sites: reports,
      load: {
        ms: loadMs,
        commitsPerSecond: Math.round((cities.length * 1000) / loadMs),
        bytes: cities.reduce((sum, city) => sum + city.key.length + Buffer.byteLength(city.value), 0),
      },
      catchUp: { kind: catchUp.kind, transactions: catchUp.transactions, ms: catchUp.ms },
      snapshot: {
        kind: snapshot.kind,
        bytes: snapshot.bytes,
        ms: snapshot.ms,
        mbPerSecond: snapshot.bytes / 1000 / Math.max(snapshot.ms, 1),
      },
      masterRestart: { servingMs: restart.servingMs, commitMs: restart.commitMs },
      unknown: {
        total: restart.unknown,
        wereCommitted: restart.unknown - restart.missing,
        wereNot: restart.missing,
      },
      sentAgainBesides: this.#loader.sentAgainBesides,
      checkMs,
      totalMs: performance.now() - this.#startedAt,
      steps: this.#steps,
    }
  }

  async killAll(): Promise<void> {
    await Promise.all(this.#sites.map((site) => site.kill()))
  }

  #site(name: string): SiteHandle {
    const site = new SiteHandle({ name, path: join(this.#folder, name) })
    site.on('exit', ({ expected, words }) => {
      if (!expected) this.#break(new Error(`site ${name} ended by itself: ${words}`))
    })
    this.#sites.push(site)
    site.start()
    return site
  }

  /** Tells a replica to follow the master; resolves when it has caught up. */
  async #attach(site: SiteHandle): Promise<SyncResult> {
    let stop = ''
    const offStopped = site.on('stopped', ({ reason, code }) => {
      stop = ` (its last attempt: ${reason}${code === null ? '' : `, ${code}`})`
    })
    let off: () => void = () => undefined
    const synced = new Promise<SyncResult>((resolve) => {
      off = site.on('synced', ({ result }) => resolve(result))
    })
    try {
      await site.ask({ type: 'attach', path: site.path, site: site.name, address: this.#address })
      return await this.#wait(synced, () => `replica ${site.name} to be synchronised${stop}`)
    } finally {
      off()
      offStopped()
    }
  }

  /** On the same port, so that replicas that look for it find it; on another if that is taken. */
  async #serveAgain(master: SiteHandle): Promise<{ address: string }> {
    const serve = { type: 'serve', path: master.path, site: master.name, sites: 4 } as const
    try {
      return await this.#wait(master.ask({ ...serve, listen: this.#address }), 'the master to serve again')
    } catch (error) {
      if (!(error as Error).message.includes('ADDRESS_IN_USE')) throw error
      await master.ask({ type: 'close' })
      return await this.#wait(
        master.ask({ ...serve, listen: 'tcp://127.0.0.1:0' }),
        'the master to serve again',
      )
    }
  }

  /** How many of these the master does not have, now that it is a master again. */
  async #missingOn(master: SiteHandle, indexes: readonly number[]): Promise<number> {
    const { wrong } = await this.#wait(
      master.ask({ type: 'check', rows: this.#loader.rows(indexes) }),
      'the master to look up unknown outcomes',
    )
    return wrong.length
  }

  async #checkAll(
    sites: readonly SiteHandle[],
  ): Promise<{ reports: SiteReport[]; lostRows: DemoReport['lostRows'] }> {
    const [master] = sites
    assert(master !== undefined, 'there is a master')
    const { lastLsn } = await this.#statusOf(master)
    const indexes = this.#loader.acknowledgedIndexes()
    const lostRows: DemoReport['lostRows'][number][] = []
    const reports = await Promise.all(
      sites.map(async (site): Promise<SiteReport> => {
        await this.#reaches(site, 'appliedLsn', lastLsn)
        let wrong = 0
        for (let at = 0; at < indexes.length; at += rowsPerCheck) {
          const rows = this.#loader.rows(indexes.slice(at, at + rowsPerCheck))
          const found = await this.#wait(
            site.ask({ type: 'check', rows }),
            `site ${site.name} to check receipts`,
          )
          wrong += found.wrong.length
          for (const row of found.wrong) lostRows.push({ ...row, site: site.name })
        }
        const digest = await this.#wait(site.ask({ type: 'digest' }), `the digest of site ${site.name}`)
        return { site: site.name, ...digest, checked: indexes.length, wrong }
      }),
    )
    return { reports, lostRows }
  }

  #statusOf(site: SiteHandle): Promise<SiteResults['status']> {
    return this.#wait(site.ask({ type: 'status' }), `the status of site ${site.name}`)
  }

  async #reaches(site: SiteHandle, position: 'appliedLsn' | 'committedLsn', lsn: number): Promise<void> {
    const until = performance.now() + waitMsMax
    for (;;) {
      const at = (await this.#statusOf(site))[position]
      if (at >= lsn) return
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

  #step(words: string): void {
    const percent = Math.floor((this.#loader.acknowledged / Math.max(this.#options.cities.length, 1)) * 100)
    const step = { percent, words }
    this.#steps.push(step)
    this.#options.onStep(step)
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
