// Sites that replicate by the Base API, on simulated machines and one virtual clock: the real database, log, core and
// driver, and a network that a test rules. The same calls give the same run.

import { Prng } from '../../src/base/prng.ts'
import { SimulatedMachine } from '../../src/env/simulated/simulated-machine.ts'
import { VirtualClock } from '../../src/env/simulated/virtual-clock.ts'
import type { Database } from '../../src/group/database.ts'
import { openIn } from '../../src/group/open.ts'
import type {
  ProcessResult,
  Replication,
  ReplicationOptions,
  SendFlags,
  SiteAddress,
} from '../../src/index.ts'
import { decodeMessage } from '../../src/replication/message-codec.ts'
import { settle } from '../../src/sim/settle.ts'
import { SimulatedStores } from '../../src/sim/simulated-store.ts'
import { TransportRegistry } from '../../src/transport/registry.ts'

export interface BaseMessage {
  readonly from: string
  readonly to: SiteAddress
  readonly type: string
  readonly control: Uint8Array
  readonly rec: Uint8Array
  readonly flags: SendFlags
}

export interface BaseSite {
  readonly name: string
  /** Where the network finds it: its name, unless it has moved. */
  address: string
  readonly machine: SimulatedMachine
  readonly stores: SimulatedStores
  options: Partial<ReplicationOptions>
  /** Undefined while its process is down. */
  db: Database | undefined
  rep: Replication | undefined
}

const latencyMs = 1

export class BaseCluster {
  readonly clock: VirtualClock = new VirtualClock()
  readonly prng: Prng
  readonly sites: Map<string, BaseSite> = new Map()
  /**
   * What becomes of a message. Undefined: it goes its way; a number: so many milliseconds later; `lost`; `failed`: and
   * the sender knows; `to`: to another site.
   */
  onSend:
    | ((message: BaseMessage, to: string) => undefined | number | 'lost' | 'failed' | { readonly to: string })
    | undefined
  /** `lastLsn`: of the log when the message had been taken, which is before its result is known. */
  onResult:
    | ((site: BaseSite, message: BaseMessage, result: ProcessResult, lastLsn: number) => void)
    | undefined
  onEvent: ((site: BaseSite, event: string, detail: unknown) => void) | undefined
  readonly #cut: Set<string> = new Set()

  constructor(seed: number) {
    this.prng = new Prng(seed)
  }

  /** Runs what is due up to `ms` from now. */
  run(ms: number): void {
    const endMs = this.clock.now() + ms
    settle()
    for (let due = this.clock.nextDueMs; due !== undefined && due <= endMs; due = this.clock.nextDueMs) {
      this.clock.runNext()
      settle()
    }
    this.clock.advance(Math.max(0, endMs - this.clock.now()))
    settle()
  }

  /** Runs until a promise is settled, and gives what it came to. */
  wait<T>(promise: Promise<T>, forMs = 60_000): T {
    let outcome: { readonly value: T } | { readonly error: unknown } | undefined
    promise.then(
      (value) => {
        outcome = { value }
      },
      (error: unknown) => {
        outcome = { error }
      },
    )
    settle()
    const endMs = this.clock.now() + forMs
    while (outcome === undefined && this.clock.now() < endMs) {
      if (!this.clock.runNext()) break
      settle()
    }
    const settled = outcome as { readonly value: T } | { readonly error: unknown } | undefined
    if (settled === undefined) throw new Error(`nothing came of it in ${forMs} ms`)
    if ('error' in settled) throw settled.error
    return settled.value
  }

  site(name: string, options: Partial<ReplicationOptions> = {}): BaseSite {
    const { clock } = this
    const site: BaseSite = {
      name,
      address: name,
      machine: new SimulatedMachine({ clock, prng: this.prng.fork() }),
      stores: new SimulatedStores({ prng: this.prng.fork() }),
      options,
      db: undefined,
      rep: undefined,
    }
    this.sites.set(name, site)
    this.boot(site)
    return site
  }

  /** Starts the site's process, on the data that its disk has. */
  boot(site: BaseSite): void {
    const host = site.machine.boot()
    const prng = this.prng.fork()
    const storeEngine = site.stores.engine((callback) => {
      host.deliver(prng.fraction() * 0.2, callback)
    })
    let opening: Promise<void> | undefined
    host.run(() => {
      opening = openIn(
        {
          location: site.name,
          path: '/site/db',
          host,
          storeEngine,
          inMemory: false,
          transports: new TransportRegistry([]),
        },
        { site: site.name },
        { asReplica: false },
      ).then(async (db) => {
        site.db = db
        site.rep = await db.replication({
          site: site.name,
          send: (control, rec, to, flags) => this.#send(site, { control, rec, to, flags }),
          ...site.options,
        })
        site.rep.onAny((event, detail) => this.onEvent?.(site, event, detail))
      })
    })
    if (opening !== undefined) this.wait(opening)
  }

  /** `kill`: its process only. `power`: the machine, which keeps of what was not synced as much as is drawn. */
  crash(site: BaseSite, how: 'kill' | 'power' = 'kill'): void {
    if (how === 'kill') {
      site.machine.kill()
      site.stores.kill()
    } else {
      site.machine.crash()
      site.stores.crash()
    }
    site.db = undefined
    site.rep = undefined
  }

  /** Makes a call on the site's machine, and gives what it came to. */
  on<T>(site: BaseSite, call: () => Promise<T>): T {
    let promise: Promise<T> | undefined
    site.machine.host?.run(() => {
      promise = call()
    })
    if (promise === undefined) throw new Error(`${site.name} is down`)
    return this.wait(promise)
  }

  cut(name: string): void {
    this.#cut.add(name)
  }

  heal(name: string): void {
    this.#cut.delete(name)
  }

  #send(site: BaseSite, sent: Pick<BaseMessage, 'control' | 'rec' | 'to' | 'flags'>): boolean {
    const decoded = decodeMessage(sent.control)
    const type = decoded.ok ? decoded.message.type : 'unknown'
    const message: BaseMessage = { from: site.address, type, ...sent }
    let isSent = true
    const everybody = [...this.sites.values()].map(({ address }) => address)
    for (const to of sent.to === 'all' ? everybody : [String(sent.to)]) {
      if (to === site.address) continue
      const fate = this.onSend?.(message, to)
      if (fate === 'failed') isSent = false
      else if (typeof fate === 'object') this.deliverIn(latencyMs, message, fate.to)
      else if (fate !== 'lost') this.deliverIn(latencyMs + (fate ?? 0), message, to)
    }
    return isSent
  }

  /** Hands a message to a site after so long; also one that was sent long ago. */
  deliverIn(ms: number, message: BaseMessage, to: string): void {
    this.clock.after(ms, () => {
      const site = [...this.sites.values()].find(({ address }) => address === to)
      if (site?.rep === undefined || this.#cut.has(to) || this.#cut.has(message.from)) return
      const { rep } = site
      site.machine.host?.run(() => {
        const taking = rep.processMessage(message.control, message.rec, message.from)
        const { lastLsn } = rep.isClosed ? { lastLsn: 0 } : rep.stats()
        taking.then(
          (result) => this.onResult?.(site, message, result, lastLsn),
          (error: unknown) => this.onEvent?.(site, 'rejected', error),
        )
      })
    })
  }
}
