// How a simulated site takes part that is no member of a group: it attaches to whoever serves - the master, or a site that
// is attached itself - and attaches again when that has ended, as a supervisor and an operator would do it together. Some
// serve others in their turn, so that there are chains; some are views.
//
// Where it goes is not always wise: it asks sites that are no masters, and sites that are below it. What comes of that is
// for the code under test to refuse.

import { asError, type CoterieError, type ErrorCode, isCoterieError } from '../base/errors.ts'
import type { Prng } from '../base/prng.ts'
import type { AttachOptions } from '../group/attach-options.ts'
import type { Attachment } from '../group/attachment.ts'
import type { Database } from '../group/database.ts'
import type { StopResult } from '../group/events.ts'
import type { Master, ServeEnd } from '../group/master.ts'
import { attachMaster } from '../group/open.ts'
import type { Follows, Stage } from './stage.ts'

export interface FollowerOptions {
  readonly db: Database
  readonly site: { readonly name: string; readonly address: string }
  readonly follows: Follows
  readonly stage: Stage
  readonly prng: Prng
  /** It was turned away for good. */
  readonly onRefused: (cause: CoterieError) => void
}

/** What no waiting helps against, and what sound data never meets. */
const lasting: ReadonlySet<ErrorCode> = new Set([
  'FOREIGN_HISTORY',
  'REWIND_REFUSED',
  'DUPLICATE_MASTER',
  'PROTOCOL_INCOMPATIBLE',
  'VIEW_FILTER_FAILED',
  'INVALID_STATE',
  'OPTION_INVALID',
])

const connectTimeoutMs = 1000
const pauseMsMax = 400

export class Follower {
  readonly #options: FollowerOptions
  readonly #prng: Prng
  /** How rows and chunks of snapshots are cut, so that some are broken off in the middle. */
  readonly #chunkRecords: number
  #attachment: Attachment<Database> | undefined
  #serving: Master | undefined
  /** The operator wants it to be below this one for now. */
  #sentTo: string | undefined
  /** Whom the last one who refused named as master. */
  #named: string | undefined
  #failures = 0

  constructor(options: FollowerOptions) {
    this.#options = options
    this.#prng = options.prng
    this.#chunkRecords = options.prng.pick([2, 10, 100])
  }

  /** As its disk says: as the master that it was, or as one that follows. */
  async begin(): Promise<void> {
    const { db, follows } = this.#options
    if (follows.mayReign && db.status().role !== 'replica') {
      await this.#reign()
      return
    }
    await this.serve()
    this.#attach()
  }

  async #reign(): Promise<void> {
    const { db, site, stage } = this.#options
    const { heartbeatMs, silenceTimeoutMs, ackTimeoutMs, sites, attest } = stage.settings
    const serving = await db.serve({
      listen: site.address,
      sites,
      attest,
      heartbeatMs,
      silenceTimeoutMs,
      ackTimeoutMs,
      chunkRecords: this.#chunkRecords,
    })
    this.#serves(serving)
    stage.reigns(site.name)
  }

  /** It serves, as master or in its turn, and may go from one to the other. */
  #serves(serving: Master): void {
    const { site, stage } = this.#options
    this.#serving = serving
    if (stage.isTold) {
      serving.onAny((type, detail) => {
        if (type !== 'synced') stage.tell(site.name, `serves: ${type} ${JSON.stringify(detail)}`)
      })
    }
    serving.stopped.then(
      ({ reason }) => this.#servesNoMore(serving, reason),
      () => stage.violate('defect', `${site.name}: stopped rejected`),
    )
  }

  /** Another site has taken its place: it follows that one. */
  #servesNoMore(serving: Master, reason: ServeEnd['reason']): void {
    const { db, site, stage } = this.#options
    const { engine } = db.site
    if (stage.isTold) stage.tell(site.name, `serves no more: ${reason}`)
    if (engine.closed || engine.failure !== undefined) return
    if (this.#serving === serving) {
      this.#serving = undefined
      this.#guard(this.serve())
    }
    this.#attachSoon()
  }

  /** The address may be held still, or the site be closed meanwhile: a supervisor sees to that. */
  #guard(work: Promise<void>): void {
    const { db, site, stage } = this.#options
    work.catch((error: unknown) => {
      if (!isCoterieError(error)) stage.violate('defect', `${site.name}: ${asError(error).stack}`)
      else if (!db.site.engine.closed) db.site.engine.host.timers.after(pauseMsMax, () => this.goOnServing())
    })
  }

  /** As what it is by now: one that was to serve nobody for a while may have become master meanwhile. */
  goOnServing(): void {
    const { db } = this.#options
    const { engine } = db.site
    if (this.#serving !== undefined || engine.closed || engine.failure !== undefined) return
    this.#guard(db.site.isWriter ? this.#reign() : this.serve())
  }

  get isServing(): boolean {
    return this.#serving !== undefined
  }

  /** Serves in its turn, if it is one that does. */
  async serve(): Promise<void> {
    const { db, site, follows, stage } = this.#options
    if (!follows.serves || this.#serving !== undefined) return
    const { heartbeatMs, silenceTimeoutMs } = stage.settings
    const serving = await db.serve({
      listen: site.address,
      inTurn: true,
      heartbeatMs,
      silenceTimeoutMs,
      chunkRecords: this.#chunkRecords,
    })
    this.#serves(serving)
  }

  async stopServing(): Promise<void> {
    const serving = this.#serving
    this.#serving = undefined
    await serving?.stop()
  }

  /** Ends the attachment that there is; the next one is to this site. */
  sendTo(name: string): void {
    this.#sentTo = name
    this.#attachment?.stop().catch(() => undefined)
  }

  #attach(): void {
    const { db, site, stage } = this.#options
    const address = this.#choose()
    const { silenceTimeoutMs } = stage.settings
    const attachment = attachMaster(db, address, {
      connectTimeoutMs,
      initialTimeoutMs: this.#prng.pick([3000, 10_000]),
      silenceTimeoutMs,
      ...this.#viewOption,
    })
    this.#attachment = attachment
    if (stage.isTold) {
      attachment.onAny((type, detail) => {
        if (type === 'synced' || type === 'newMaster' || type === 'connected')
          stage.tell(site.name, `below ${address}: ${type} ${JSON.stringify(detail)}`)
      })
    }
    attachment.synced.then(
      () => {
        this.#failures = 0
        this.#goToMaster(attachment, address)
      },
      () => undefined,
    )
    attachment.stopped.then(
      (result) => this.#ended(result),
      () => stage.violate('defect', `${site.name}: stopped rejected`),
    )
  }

  /** Who counts only with the master itself does not stay below another site for long. */
  #goToMaster(attachment: Attachment<Database>, address: string): void {
    const { db, follows } = this.#options
    if (!follows.mayReign || follows.above !== undefined) return
    db.site.engine.host.timers.after(this.#prng.between(200, 2000), () => {
      const { master } = db.site.engine.closed ? {} : db.status()
      if (this.#attachment !== attachment || master === undefined || master === address) return
      this.#named = master
      attachment.stop().catch(() => undefined)
    })
  }

  get #viewOption(): Pick<AttachOptions, 'view'> {
    const { view } = this.#options.follows
    if (view === 'none') return {}
    return { view: view === 'full' ? true : { filter: (store) => view.includes(store) } }
  }

  /** Where it belongs, or where it was told that the master is; where that does not help, anywhere. */
  #choose(): string {
    const { db, site, follows, stage } = this.#options
    const named = this.#named
    this.#named = undefined
    if (this.#sentTo !== undefined) {
      const address = stage.addressOf(this.#sentTo)
      this.#sentTo = undefined
      if (address !== undefined) return address
    }
    if (named !== undefined && this.#prng.chance(0.7)) return named
    const { above } = follows
    const usual = above === undefined ? db.status().master : stage.addressOf(above)
    if (usual !== undefined && (this.#failures === 0 || this.#prng.chance(0.5))) return usual
    return this.#prng.pick([...stage.seeds, ...stage.relays].filter((each) => each !== site.address))
  }

  #ended({ reason, cause }: StopResult): void {
    const { db, site, stage, onRefused } = this.#options
    this.#attachment = undefined
    this.#failures++
    if (stage.isTold) stage.tell(site.name, `follows nobody: ${reason} ${cause?.code} ${cause?.message}`)
    const { engine } = db.site
    if (engine.closed || engine.failure !== undefined) return
    if (reason === 'became-master') {
      if (this.#serving === undefined) this.goOnServing()
      return
    }
    if (cause !== undefined && lasting.has(cause.code)) {
      onRefused(cause)
      return
    }
    const master = cause?.details.master
    if (typeof master === 'string' && master !== site.address) this.#named = master
    this.#attachSoon()
  }

  #attachSoon(): void {
    const { site } = this.#options.db
    const { engine } = site
    engine.host.timers.after(this.#prng.between(1, pauseMsMax), () => {
      const isFree = this.#attachment === undefined && !site.isWriter
      if (isFree && !engine.closed && engine.failure === undefined) this.#attach()
    })
  }
}
