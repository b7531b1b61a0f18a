// One site of a simulated group: a machine, the process that runs on it, and the supervisor that starts the process
// again when it has stopped. What the process does is the real code, from `openIn` up.
//
// A process that is killed is never heard of again: its host runs nothing any more, so its promises stay as they are.
// A site that refuses to start because its disk is damaged is given up; its operator brings in a new one.

import { AssertionFailure } from '../base/assert.ts'
import { asError, CoterieError, isCoterieError } from '../base/errors.ts'
import type { Prng } from '../base/prng.ts'
import type { SimulatedHost } from '../env/simulated/simulated-host.ts'
import { SimulatedMachine } from '../env/simulated/simulated-machine.ts'
import type { Database } from '../group/database.ts'
import type { Group } from '../group/group.ts'
import { openIn } from '../group/open.ts'
import { TransportRegistry } from '../transport/registry.ts'
import { Follower } from './follower.ts'
import { enterGroup } from './member.ts'
import { SimulatedStores } from './simulated-store.ts'
import type { Follows, Stage } from './stage.ts'

/** `kill`: the process only. `power`: the machine. `wipe`: the machine, and its disk is lost. */
export type CrashKind = 'kill' | 'power' | 'wipe'

/**
 * down: no process. starting: it opens its files. up: it takes part. stopping: it closes in order. lost: its files
 * are damaged or gone, and it does not start any more.
 */
export type SiteState = 'down' | 'starting' | 'up' | 'stopping' | 'lost'

export interface SimSiteOptions {
  readonly stage: Stage
  readonly prng: Prng
  readonly name: string
  readonly rate: number
  /** Founds the group, where nothing is known of one. */
  readonly founds: boolean
  readonly priority: number
  /** Left out: it is one of the group. */
  readonly follows?: Follows
  /** Called before anything runs on it. */
  readonly onRun: () => void
}

/** On each machine. */
export const databasePath = '/site/db'

export class SimSite {
  readonly name: string
  readonly machine: SimulatedMachine
  readonly stores: SimulatedStores
  /** In use; of a process that runs and has opened it. */
  db: Database | undefined
  group: Group | undefined
  /** What attaches it, where it is no member; of a process that runs. */
  follower: Follower | undefined
  readonly follows: Follows | undefined
  state: SiteState = 'down'
  /** Why it does not start. */
  refusal: CoterieError | undefined
  /** The supervisor starts it again when it stops; off while a fault keeps it down. */
  restarts: boolean = true
  starts = 0
  /** True once it was up. */
  wasUp: boolean = false
  /** Where its log ended, as it noted when it was stopped in order before its last start. */
  endedAtLsn: number | undefined
  #willHaveEndedAtLsn: number | undefined
  /** Its disk was damaged or lost: it may refuse to start, and does not count for durability. */
  isSuspect: boolean = false
  /** A new site stands in for it. */
  isReplaced: boolean = false
  /** The one whose place it takes. */
  replaces: SimSite | undefined
  founds: boolean
  readonly priority: number
  /** Of its clocks, to the true one. */
  readonly rate: number
  #moves = 0
  readonly #stage: Stage
  readonly #prng: Prng
  readonly #onRun: () => void

  constructor(options: SimSiteOptions) {
    const { stage, prng, name } = options
    this.#stage = stage
    this.#prng = prng
    this.#onRun = options.onRun
    this.name = name
    this.founds = options.founds
    this.priority = options.priority
    this.follows = options.follows
    this.rate = options.rate
    this.machine = new SimulatedMachine({
      clock: stage.clock,
      prng: prng.fork(),
      rate: options.rate,
      wallOffsetMs: prng.between(-1000, 1000),
    })
    this.stores = new SimulatedStores({ prng: prng.fork() })
  }

  /** Where it listens, or will when it starts. */
  get address(): string {
    return this.#moves === 0 ? `sim://${this.name}` : `sim://${this.name}-${this.#moves}`
  }

  /** From its next start on it listens elsewhere. */
  move(): void {
    this.#moves++
  }

  /** Its process is down, and was stopped in order: it has noted how far its log went. */
  get wasClosed(): boolean {
    return this.state === 'down' && this.#willHaveEndedAtLsn !== undefined
  }

  get host(): SimulatedHost | undefined {
    return this.machine.host
  }

  /** It runs, and is not held back. */
  get isAwake(): boolean {
    return this.host !== undefined && !this.host.paused
  }

  /** It votes, and counts. */
  get isMember(): boolean {
    return this.follows?.mayReign ?? true
  }

  /** The stores whose rows it keeps; undefined: all. */
  get keptStores(): readonly string[] | undefined {
    const view = this.follows?.view
    return typeof view === 'object' ? view : undefined
  }

  /** It takes itself for the master. */
  get isMaster(): boolean {
    return this.db?.site.isWriter ?? false
  }

  start(): void {
    if (this.state !== 'down') return
    this.state = 'starting'
    this.starts++
    this.endedAtLsn = this.#willHaveEndedAtLsn
    this.#willHaveEndedAtLsn = undefined
    const host = this.machine.boot()
    host.onRun = this.#onRun
    if (this.#stage.isTold) this.#tell(`starts (process ${host.processId})`)
    const transport = this.#stage.network.transport(this.name, host)
    host.run(() => {
      this.#open(host, new TransportRegistry([transport])).then(
        () => undefined,
        (error: unknown) => this.#didNotStart(asError(error)),
      )
    })
  }

  async #open(host: SimulatedHost, transports: TransportRegistry): Promise<void> {
    const { settings } = this.#stage
    const environment = {
      location: this.name,
      path: databasePath,
      host,
      storeEngine: this.stores.engine((callback) => {
        host.deliver(this.#prng.fraction() * 0.2, callback)
      }),
      inMemory: false,
      transports,
    }
    const db: Database = await openIn(
      environment,
      {
        site: this.name,
        segmentBytes: settings.segmentBytes,
        checkpointBytes: settings.checkpointBytes,
        retain: { bytes: settings.retainBytes },
        cacheBytes: 65_536,
      },
      { asReplica: this.follows !== undefined && !this.founds },
    )
    this.db = db
    db.on('failed', (error) => this.#failed(error))
    const { starts: start } = this
    db.on('rewound', ({ to }) => this.#stage.rewound.push({ site: this.name, start, to }))
    if (this.#stage.isTold) this.#listen(db)
    if (this.follows === undefined) await this.#enterGroup(db)
    else await this.#follow(db, this.follows)
    this.state = 'up'
    this.wasUp = true
    this.founds = false
  }

  async #enterGroup(db: Database): Promise<void> {
    this.group = await enterGroup({
      db,
      site: this,
      stage: this.#stage,
      onRefused: (cause) => this.#turnedAway(cause),
    })
  }

  async #follow(db: Database, follows: Follows): Promise<void> {
    const follower = new Follower({
      db,
      site: this,
      follows,
      stage: this.#stage,
      prng: this.#prng.fork(),
      onRefused: (cause) => this.#turnedAway(cause),
    })
    this.follower = follower
    db.site.events.on('core', (event) => {
      if (event.kind === 'handedOver')
        this.#stage.handedOver.push({ from: this.name, to: event.site, lsn: event.lsn })
    })
    await follower.begin()
  }

  #listen(db: Database): void {
    db.on('role', ({ role, term }) => this.#tell(`is ${role} in term ${term}`))
    db.on('rewound', ({ to, transactions }) => this.#tell(`rewound to ${to}, ${transactions} rolled back`))
    db.on('stalled', (error) => this.#tell(`stalls: ${error.code}`))
    db.on('resumed', () => this.#tell('goes on'))
    db.on('damaged', (error) => this.#tell(`met damage: ${error.message}`))
  }

  /** The handle takes no more writes: whoever runs such a process ends it and starts it again. */
  #failed(error: CoterieError): void {
    this.#tell(`failed: ${error.code} ${error.message}`)
    this.#checkDefect(error)
    this.#restartIn(this.#prng.between(1, 300), () => this.crash('kill'))
  }

  #didNotStart(error: Error): void {
    this.#tell(`did not start: ${error.message}`)
    this.#checkDefect(error)
    this.crash('kill')
    const code = isCoterieError(error) ? error.code : undefined
    if (code !== undefined && hopelessCodes.has(code)) {
      this.#giveUp(error as CoterieError)
    } else {
      this.#restartIn(this.#prng.between(20, 500))
    }
  }

  /** The group wants nothing of it any more. */
  #turnedAway(cause: CoterieError): void {
    this.#tell(`is turned away: ${cause.code}`)
    if (!this.isSuspect && this.state !== 'stopping') {
      this.#stage.violate('refusal', `${this.name}, whose disk is sound, was turned away: ${cause.message}`)
    }
    this.#stage.clock.after(0, () => {
      this.crash('kill')
      this.#giveUp(cause)
    })
  }

  #giveUp(cause: CoterieError): void {
    this.state = 'lost'
    this.refusal = cause
  }

  /** What no fault accounts for. */
  #checkDefect(error: Error): void {
    const cause = error instanceof CoterieError ? error.cause : error
    if (error instanceof AssertionFailure || cause instanceof AssertionFailure) {
      this.#stage.violate('assertion', `${this.name}: ${(cause as Error).message}\n${(cause as Error).stack}`)
    } else if (
      !(error instanceof CoterieError) ||
      (error.code === 'INVALID_STATE' && cause instanceof Error)
    ) {
      this.#stage.violate('defect', `${this.name}: ${error.message}\n${asError(cause).stack}`)
    }
  }

  #restartIn(ms: number, before?: () => void): void {
    const { starts } = this
    this.#stage.clock.after(ms, () => {
      // Something else may have ended it meanwhile.
      if (this.starts !== starts) return
      before?.()
      if (this.restarts) this.start()
    })
  }

  crash(kind: CrashKind): void {
    const { host } = this
    if (this.state === 'lost') return
    if (host !== undefined) {
      if (kind === 'kill') this.#stage.network.killed(host)
      else this.#stage.network.crashed(this.name, host)
    }
    if (kind === 'kill') {
      this.machine.kill()
      this.stores.kill()
    } else if (kind === 'power') {
      this.machine.crash()
      this.stores.crash()
    } else {
      this.machine.wipe()
      this.stores.wipe()
    }
    this.#gone()
  }

  /** As an operator stops it: it closes in order, and then the process ends. */
  stop(): void {
    const { db, host } = this
    if (this.state !== 'up' || db === undefined || host === undefined) return
    this.state = 'stopping'
    const { starts } = this
    const ended = (): void => {
      if (this.starts !== starts || this.host !== host) return
      this.crash('kill')
      // All may have been made well while it was ending.
      if (this.restarts) this.start()
    }
    host.run(() => {
      const noteEnd = (): void => {
        this.#willHaveEndedAtLsn = db.site.engine.folder.state?.cleanEnd?.lsn
      }
      db.close()
        .then(noteEnd)
        .then(ended, (error: unknown) => {
          this.#checkDefect(asError(error))
          ended()
        })
    })
  }

  /** What it says of itself; undefined while no process has its files open. */
  get status(): ReturnType<Database['status']> | undefined {
    return this.db?.status()
  }

  #gone(): void {
    this.db = undefined
    this.group = undefined
    this.follower = undefined
    this.state = 'down'
  }

  #tell(what: string): void {
    this.#stage.tell(this.name, what)
  }
}

/** Starting again does not help. */
const hopelessCodes: ReadonlySet<string> = new Set([
  'LOG_DAMAGED',
  'STATE_DAMAGED',
  'STORE_FAILED',
  'NOT_A_DATABASE',
  'FORMAT_UNSUPPORTED',
  'SITE_WIPED',
  'MEMBER_REMOVED',
  'FOREIGN_HISTORY',
])
