// The world of one run: its time, its sites, its network, and what the clients have seen. It runs event by event, and
// lets promises settle in between, so that the same seed makes the same run.

import { Prng } from '../base/prng.ts'
import { VirtualClock } from '../env/simulated/virtual-clock.ts'
import { Fingerprint } from './fingerprint.ts'
import type { Operation, SimViolation } from './history.ts'
import { SimulatedNetwork } from './network.ts'
import { settle } from './settle.ts'
import { SimSite } from './site.ts'
import type { Follows, GroupSettings, HandedOver, Rewound, Stage } from './stage.ts'

/** Looks at the world, and calls `world.violate` when it finds what must not be. */
export interface Judge {
  readonly name: string
  /** After every event. Must be cheap; `world.touched` says which sites ran. */
  afterEvent?(world: World): void
  /** Once, when the group has been healed and has converged. */
  atEnd?(world: World): void
}

/** A commit that a client was told of, as it was told. */
export interface Acknowledged {
  readonly operation: Operation
  readonly lsn: number
  readonly term: number
  readonly token: string
}

export type Phase = 'safety' | 'healing' | 'end'

export class World implements Stage {
  readonly seed: number
  readonly prng: Prng
  readonly clock: VirtualClock = new VirtualClock()
  readonly network: SimulatedNetwork
  readonly settings: GroupSettings
  readonly fingerprint: Fingerprint = new Fingerprint()
  /** All that there are or were, in the order in which they were made; those that are lost stay in it. */
  readonly sites: SimSite[] = []
  readonly history: Operation[] = []
  readonly acknowledged: Acknowledged[] = []
  readonly handedOver: HandedOver[] = []
  readonly rewound: Rewound[] = []
  readonly faults: Record<string, number> = {}
  readonly isTold: boolean
  phase: Phase = 'safety'
  events = 0
  violation: SimViolation | undefined
  /** The sites that something ran on in the last event. */
  readonly touched: Set<SimSite> = new Set()
  readonly #trace: ((line: string) => void) | undefined
  readonly #judges: readonly Judge[]
  readonly #eventJudges: readonly Judge[]

  constructor(options: {
    readonly seed: number
    readonly settings: (prng: Prng) => GroupSettings
    readonly judges: readonly Judge[]
    readonly trace: ((line: string) => void) | undefined
    readonly copiesMessages: boolean
  }) {
    this.seed = options.seed
    this.prng = new Prng(options.seed)
    this.settings = options.settings(this.prng.fork())
    this.#trace = options.trace
    this.isTold = options.trace !== undefined
    this.#judges = options.judges
    this.#eventJudges = options.judges.filter((judge) => judge.afterEvent !== undefined)
    this.network = new SimulatedNetwork({
      clock: this.clock,
      prng: this.prng.fork(),
      copiesMessages: options.copiesMessages,
    })
    this.network.watcher = (what, link, message): void => {
      const { fingerprint } = this
      fingerprint.text(what)
      fingerprint.text(link.from)
      fingerprint.text(link.to)
      fingerprint.number(this.clock.now())
      fingerprint.bytes(message.control)
      fingerprint.word(message.payload.length)
    }
  }

  get nowMs(): number {
    return this.clock.now()
  }

  get clockSkew(): number {
    // A site that takes the place of a lost one runs at the true rate.
    const rates = [1, ...this.members.map((site) => site.rate)]
    return Math.max(...rates) / Math.min(...rates)
  }

  get seeds(): readonly string[] {
    return this.members.filter((site) => site.state !== 'lost').map((site) => site.address)
  }

  get relays(): readonly string[] {
    return this.livingSites.filter((site) => site.follows?.serves === true).map((site) => site.address)
  }

  addressOf(name: string): string | undefined {
    const site = this.site(name)
    if (site?.isReplaced !== true) return site?.address
    const heir = this.sites.find((each) => each.replaces === site)
    return heir === undefined ? undefined : this.addressOf(heir.name)
  }

  /** Those that vote, or did until they were lost. */
  get members(): SimSite[] {
    return this.sites.filter((site) => site.isMember)
  }

  site(name: string): SimSite | undefined {
    return this.sites.find((site) => site.name === name)
  }

  /** Those that may take part again. */
  get livingSites(): SimSite[] {
    return this.sites.filter((site) => site.state !== 'lost')
  }

  addSite(options: {
    readonly name: string
    readonly founds: boolean
    readonly rate: number
    readonly priority: number
    readonly follows?: Follows
  }): SimSite {
    const site: SimSite = new SimSite({
      stage: this,
      prng: this.prng.fork(),
      ...options,
      onRun: () => {
        this.touched.add(site)
      },
    })
    this.sites.push(site)
    return site
  }

  onReign: (site: SimSite) => void = () => {}

  reigns(name: string): void {
    const site = this.site(name)
    if (site !== undefined) this.onReign(site)
  }

  tell(who: string, what: string): void {
    this.#trace?.(`${(this.clock.now() / 1000).toFixed(4).padStart(9)} ${who.padEnd(8)} ${what}`)
  }

  countFault(kind: string): void {
    this.fingerprint.text(kind)
    this.faults[kind] = (this.faults[kind] ?? 0) + 1
  }

  violate(judge: string, message: string): void {
    if (this.violation !== undefined) return
    this.violation = { judge, message, atMs: this.clock.now() }
    this.tell('judge', `${judge}: ${message}`)
  }

  /** Runs until the time, or a violation, or until `until` holds. True: it does. */
  runTo(endMs: number, until?: () => boolean): boolean {
    const { clock } = this
    // Whoever called may have set something off.
    settle()
    for (;;) {
      if (this.violation !== undefined) return false
      if (until?.() === true) return true
      const dueMs = clock.nextDueMs
      if (dueMs === undefined || dueMs > endMs) {
        clock.advance(Math.max(0, endMs - clock.now()))
        return until?.() ?? true
      }
      this.#runEvent()
    }
  }

  #runEvent(): void {
    this.touched.clear()
    try {
      this.clock.runNext()
    } catch (error) {
      this.violate('exception', `an event threw ${(error as Error).stack ?? String(error)}`)
    }
    settle()
    this.events++
    for (const judge of this.#eventJudges) this.#judge(judge, () => judge.afterEvent?.(this))
  }

  judgeEnd(): void {
    for (const judge of this.#judges) {
      if (this.violation === undefined) this.#judge(judge, () => judge.atEnd?.(this))
    }
  }

  /** Judges read as users do: what they are thrown, a user would be. */
  #judge(judge: Judge, look: () => void): void {
    try {
      look()
    } catch (error) {
      this.violate(judge.name, `a judge was thrown ${(error as Error).stack ?? String(error)}`)
    }
  }
}
