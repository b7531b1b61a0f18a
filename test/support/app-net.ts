// A network of an application's own, for the Base API: sites of one process, messages that are lost, doubled, late and
// out of order as a seed says, and every result of `processMessage` noted. Loss and the like can be turned off.

import type { TestContext } from 'node:test'
import { Prng } from '../../src/base/prng.ts'
import type {
  ProcessResult,
  Replication,
  ReplicationOptions,
  SendFlags,
  SiteAddress,
} from '../../src/index.ts'
import { type Database, type OpenOptions, open } from '../../src/index.ts'
import { atEnd } from './at-end.ts'

export interface NetFaults {
  readonly lossChance: number
  readonly doubleChance: number
  /** A message is up to so late, so that later ones overtake it. */
  readonly lateMsMax: number
}

export const goodNet: NetFaults = { lossChance: 0, doubleChance: 0, lateMsMax: 0 }

export interface Sent {
  readonly from: string
  readonly to: SiteAddress
  readonly control: Uint8Array
  readonly rec: Uint8Array
  readonly flags: SendFlags
}

export interface Noted {
  readonly result: ProcessResult
  /** The last record here when the message had been taken. */
  readonly lastLsn: number
  /** What is durable here when the result came. */
  readonly durableLsn: number
}

export interface AppSite {
  readonly name: string
  readonly db: Database
  readonly rep: Replication
  readonly results: Noted[]
}

/** Waits that suit a test. */
const quick = {
  electionTimeoutMs: 200,
  heartbeatMs: 50,
  silenceTimeoutMs: 60_000,
  rerequest: { minMs: 10, maxMs: 80 },
}

export class AppNet {
  faults: NetFaults = goodNet
  readonly sites: Map<string, AppSite> = new Map()
  readonly sent: Sent[] = []
  /** Messages on the way. */
  pending = 0
  /** Called before a message goes its way; false: it is not sent. */
  onSend: ((sent: Sent) => boolean | undefined) | undefined
  readonly #t: TestContext
  readonly #prng: Prng
  readonly #cut: Set<string> = new Set()

  constructor(t: TestContext, seed: number) {
    this.#t = t
    this.#prng = new Prng(seed)
    // As the sockets of a real network do, it keeps the process alive.
    const holds = setInterval(() => undefined, 1000)
    atEnd(t, () => clearInterval(holds))
  }

  async site(
    name: string,
    options: Partial<ReplicationOptions> = {},
    openOptions: OpenOptions & { path?: string } = {},
  ): Promise<AppSite> {
    const { path = ':memory:', ...rest } = openOptions
    const db = await open(path, { site: name, ...rest })
    atEnd(this.#t, () => db.close())
    const rep = await db.replication({
      site: name,
      send: (control, rec, to, flags) => this.#carry({ from: name, to, control, rec, flags }),
      ...quick,
      ...options,
    })
    const site: AppSite = { name, db, rep, results: [] }
    this.sites.set(name, site)
    return site
  }

  /** Nothing reaches the site, and nothing of it reaches others. */
  cut(name: string): void {
    this.#cut.add(name)
  }

  heal(name: string): void {
    this.#cut.delete(name)
  }

  #carry(sent: Sent): boolean {
    this.sent.push(sent)
    if (this.onSend?.(sent) === false) return false
    const receivers = sent.to === 'all' ? [...this.sites.keys()] : [String(sent.to)]
    for (const to of receivers) {
      if (to === sent.from) continue
      const copies = this.#prng.chance(this.faults.doubleChance) ? 2 : 1
      for (let i = 0; i < copies; i++) {
        if (!this.#prng.chance(this.faults.lossChance)) this.#deliverLater(to, sent)
      }
    }
    return true
  }

  #deliverLater(to: string, sent: Sent): void {
    const { lateMsMax } = this.faults
    this.pending++
    const deliver = (): void => {
      this.pending--
      if (this.#cut.has(to) || this.#cut.has(sent.from)) return
      this.deliver(to, sent).catch((error: unknown) => {
        // A site that was closed, or has not been started, takes nothing.
        if (!['CLOSED', 'INVALID_STATE'].includes((error as { code?: string }).code ?? '')) throw error
      })
    }
    if (lateMsMax === 0) setImmediate(deliver)
    else setTimeout(deliver, this.#prng.below(lateMsMax))
  }

  /** Hands a message to a site, as its network would. */
  async deliver(to: string, sent: Sent): Promise<ProcessResult | undefined> {
    const site = this.sites.get(to)
    if (site === undefined) return undefined
    const taking = site.rep.processMessage(sent.control, sent.rec, sent.from)
    const { lastLsn } = site.rep.isClosed ? { lastLsn: 0 } : site.rep.stats()
    const result = await taking
    if (!site.rep.isClosed) {
      site.results.push({ result, lastLsn, durableLsn: site.rep.stats().durableLsn })
    }
    return result
  }
}
