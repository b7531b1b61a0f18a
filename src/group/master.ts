// A master as its operator sees it: where it listens, who is attached, and how to send them away (eXtremeDB's
// mco_HA_attach_replica, with the accept loop inside).

import { assert } from '../base/assert.ts'
import { Emitter } from '../base/emitter.ts'
import { CoterieError, isCoterieError } from '../base/errors.ts'
import { checkOptions, wholeNumber } from '../base/options.ts'
import type { ServeOptions as CoreServeOptions } from '../replication/core-options.ts'
import { type LinkOptions, linkOptionsOf } from '../transport/link-options.ts'
import type { TransportRegistry } from '../transport/registry.ts'
import type { Listener } from '../transport/transport.ts'
import type { MasterEvents } from './events.ts'
import { Links } from './links.ts'
import { checkInTurn, coreOptions, inTurnOptions, type ServeOptions, serveRules } from './serve-options.ts'
import type { Site } from './site.ts'
import { type ReplicaStatus, replicaStatus } from './status.ts'
import { type Transferred, transferTo } from './transferring.ts'
import type { Witness } from './witness.ts'

const detachTimeoutMsDefault = 10_000
const ackTimeoutMsDefault = 10_000

/** Why serving ended. */
export interface ServeEnd {
  readonly reason: 'stopped' | 'cancelled' | 'replaced' | 'failed'
  readonly cause?: CoterieError
  /** The site that is master now, where known ... */
  readonly by?: string
  /** ... and its address: where to attach this database now. */
  readonly master?: string
  readonly lsn: number
  readonly term: number
}

/** Where a master lives. */
export interface MasterSetting {
  readonly site: Site
  readonly transports: TransportRegistry
  readonly witness: Witness
  /** What serves this database now, as master or in its turn. */
  readonly serving: () => Master | undefined
}

type EndFacts = Pick<ServeEnd, 'cause' | 'by' | 'master'>

/** A database that others can attach to: a master, or a replica that serves in its turn. */
export class Master extends Emitter<MasterEvents> implements AsyncDisposable {
  /** Where it really listens, for `attachMaster`. */
  readonly addresses: readonly string[]
  /** Settles once, when serving has ended for whatever reason. Never rejects. */
  readonly stopped: Promise<ServeEnd>
  readonly #site: Site
  readonly #listeners: readonly Listener[]
  readonly #options: ServeOptions
  readonly #witness: Witness
  readonly #offs: (() => void)[] = []
  #end: ((end: ServeEnd) => void) | undefined
  #ending: Promise<void> | undefined
  #endedInTurn = false

  private constructor(setting: MasterSetting, serve: ServeOptions, listeners: readonly Listener[]) {
    super()
    this.#site = setting.site
    this.#witness = setting.witness
    this.#listeners = listeners
    this.#options = serve
    this.addresses = listeners.map((listener) => listener.address)
    this.stopped = new Promise((resolve) => {
      this.#end = resolve
    })
    this.#watch()
  }

  /** `inTurn`: this site stays the replica that it is. ADDRESS_INVALID, ADDRESS_IN_USE; then nothing has changed. */
  static async start(setting: MasterSetting, serve: ServeOptions, how: { inTurn: boolean }): Promise<Master> {
    const { site } = setting
    if (how.inTurn) checkInTurn(serve)
    const listeners = await bind(setting, serve.listen, linkOptionsOf(serve))
    try {
      if (how.inTurn) {
        await site.roles.serveInTurn(inTurnOptions(serve))
        return new Master(setting, serve, listeners)
      }
      const { durability } = site.engine
      await site.roles.changeReign('master', { ...coreOptions(serve, listeners[0]?.address), durability })
      site.engine.ackTimeoutMs = serve.ackTimeoutMs ?? ackTimeoutMsDefault
    } catch (error) {
      await Promise.all(listeners.map((listener) => listener.close()))
      throw error
    }
    return new Master(setting, serve, listeners)
  }

  /** Serves in a reign that the old master has given to this site; it listens already. The reign has begun by then. */
  static goOn(setting: MasterSetting, serve: ServeOptions, listeners: readonly Listener[]): Master {
    setting.site.engine.ackTimeoutMs = serve.ackTimeoutMs ?? ackTimeoutMsDefault
    return new Master(setting, serve, listeners)
  }

  #watch(): void {
    const { events, engine } = this.#site
    this.#offs.push(
      events.on('core', (event) => {
        if (event.kind === 'replicaJoined') this.emit('attached', { site: event.site, plan: event.plan })
        else if (event.kind === 'replicaSynced') this.emit('synced', { site: event.site, lsn: event.lsn })
        else if (event.kind === 'replicaDetached') {
          const { site, code, message, lsn } = event
          this.emit('detached', { site, code, message, lsn })
        } else if (event.kind === 'replicaRefused') {
          const { site, code, message } = event
          this.emit('refused', { site, code, message })
        } else if (event.kind === 'quorumGained' || event.kind === 'quorumLost') {
          this.emit(event.kind, { have: event.have, need: event.need })
        } else if (event.kind === 'takeOverAsked') this.#askedToHandOver(event.site)
        else if (event.kind === 'handOverFailed') {
          const { site, code, message } = event
          this.emit('handOverFailed', { site, code, message })
        }
      }),
      events.on('steppedDown', ({ site, reason }) => {
        const isGiven = reason === 'handed-over'
        const how = isGiven ? 'has taken over' : 'has become master in a higher term'
        const cause = new CoterieError('REPLACED', `site ${site ?? '(unknown)'} ${how}`)
        if (isGiven) this.#witness.keep(this.#listeners)
        const { masterAddress } = this.#site
        void this.#finish(
          'replaced',
          {
            cause,
            ...(site === undefined ? {} : { by: site }),
            ...(masterAddress === undefined ? {} : { master: masterAddress }),
          },
          isGiven,
        )
      }),
      // Whoever writes for itself alone has nobody to pass it on to.
      events.on('role', ({ role }) => {
        if (role === 'standalone') void this.#finish('stopped', {})
      }),
      events.on('failed', (cause) => {
        if (engine.failure !== undefined) void this.#finish('failed', { cause })
      }),
    )
    // What came between the begin of the reign and now was heard by nobody.
    if (engine.failure !== undefined) void this.#finish('failed', { cause: engine.failure })
    else if (!this.#site.isWriter && !this.isInTurn) {
      const cause = new CoterieError('REPLACED', 'another site has become master in a higher term')
      void this.#finish('replaced', { cause })
    }
    const { signal } = this.#options
    if (signal === undefined) return
    const abort = (): void => void this.#finish('cancelled', {})
    if (signal.aborted) abort()
    else {
      signal.addEventListener('abort', abort, { once: true })
      this.#offs.push(() => signal.removeEventListener('abort', abort))
    }
  }

  /** This site is a replica, and passes on what it gets. */
  get isInTurn(): boolean {
    return this.#site.core.isServingInTurn
  }

  /** Internal: this site may follow another one, also while it is ceasing to serve. */
  get letsAttach(): boolean {
    return this.isInTurn || this.#endedInTurn
  }

  /** Internal: how it goes on when this site, which serves in its turn, becomes master. */
  get asMaster(): CoreServeOptions {
    return coreOptions(this.#options, this.addresses[0])
  }

  #needMaster(): void {
    if (!this.isInTurn) return
    throw this.#site.writeGate.whyNotWriter() ?? new CoterieError('NOT_MASTER', 'this site is not master')
  }

  /** Every replica: its state, positions, lag, traffic and round trip. */
  get replicas(): ReplicaStatus[] {
    return this.#site.replicas.map((view) => replicaStatus(this.#site, view))
  }

  /**
   * Sends a replica away; its `stopped` says `detached-by-master`. Where `sites` is not fixed, the site is no longer
   * counted: what it lacks can become permanent, and the log that was kept for it can go. So this is also for a
   * replica that has gone and will not come back. INVALID_STATE if this reign has not met such a site.
   */
  detach(site: string): void {
    if (!this.#site.core.hasMet(site)) {
      throw new CoterieError('INVALID_STATE', `no site '${site}' has been attached`)
    }
    const message = 'the master was told to detach this replica'
    this.#site.detach({ site, code: 'DETACHED', message })
  }

  /** Changes the gate at run time. NOT_MASTER on a replica that serves in its turn. */
  setQuorum(quorum: number): void {
    checkOptions('setQuorum', { quorum }, serveRules)
    this.#needMaster()
    this.#site.configure({ quorum })
  }

  /**
   * Asks the replicas to acknowledge at once what their window has gathered; resolves when all is committed. NOT_MASTER on
   * a replica that serves in its turn.
   */
  async flushWindow(): Promise<void> {
    this.#needMaster()
    const { engine } = this.#site
    engine.flush()
    this.#site.flushWindow()
    await engine.whenCommitted(engine.lastLsn)
  }

  /** A replica asks to be master: writes wait from now on, until it is or the attempt has failed. */
  #askedToHandOver(heir: string): void {
    this.emit('takeOverAsked', { site: heir })
    try {
      if (this.#options.allowTakeOver === false) {
        throw new CoterieError('TRANSFER_FAILED', 'this master does not let replicas take over')
      }
      this.#site.handOver(heir)
    } catch (error) {
      if (!isCoterieError(error)) throw error
      const { code, message } = error
      this.#site.refuseTakeOver(heir, message)
      this.emit('handOverFailed', { site: heir, code, message })
    }
  }

  /**
   * Hands the mastership over to an attached replica, as if that one had asked to take over: commits under way resolve
   * here, those that come meanwhile wait, and from the moment it resolves this site is a replica and `stopped` says
   * `replaced`. The other site takes writes as soon as it has heard of it.
   *
   * TRANSFER_FAILED: it is not attached, did not catch up in `timeoutMs` (`handOverTimeoutMs`), or has gone: then
   * nothing has changed, and those who wait go on here. INVALID_STATE while a hand-over is under way. NOT_MASTER on a
   * replica that serves in its turn.
   */
  async transfer(site: string, options: { readonly timeoutMs?: number } = {}): Promise<Transferred> {
    checkOptions('transfer', options, { timeoutMs: wholeNumber(1) })
    if (this.#ending !== undefined) throw new CoterieError('NOT_MASTER', 'this site serves no more')
    this.#needMaster()
    return await transferTo(this.#site, { heir: site, timeoutMs: options.timeoutMs })
  }

  /**
   * Stops listening, gives commits under way up to `detachTimeoutMs` to be confirmed, and detaches the replicas. The
   * database stays open. It goes on taking writes, for itself alone, unless `sites` was given: the master of a group
   * of a fixed size takes none before `serve()` or `standalone()`. A replica that serves in its turn stays attached.
   */
  async stop(): Promise<void> {
    await this.#finish('stopped', {})
  }

  #finish(reason: ServeEnd['reason'], facts: EndFacts, keepsListening = false): Promise<void> {
    this.#ending ??= this.#close(reason, facts, keepsListening)
    return this.#ending
  }

  async #close(reason: ServeEnd['reason'], facts: EndFacts, keepsListening: boolean): Promise<void> {
    for (const off of this.#offs) off()
    const { engine, core } = this.#site
    const { detachTimeoutMs = detachTimeoutMsDefault } = this.#options
    let problem: { cause: CoterieError } | undefined
    try {
      this.#site.cancelHandOver('the master stops serving')
      if (!keepsListening) await Promise.all(this.#listeners.map((listener) => listener.close()))
      this.#endedInTurn = this.isInTurn
      if (this.isInTurn && reason !== 'failed') await this.#site.roles.stopServingInTurn()
      else if (reason !== 'failed') {
        await this.#site.roles.stopServing({ waitMs: reason === 'stopped' ? detachTimeoutMs : 0 })
      }
    } catch (error) {
      if (!isCoterieError(error)) engine.fail(error)
      problem = { cause: engine.failure ?? (error as CoterieError) }
    }
    assert(this.#end !== undefined, 'a master ends once')
    this.#end({ reason, ...problem, ...facts, lsn: engine.lastLsn, term: core.term })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }
}

/** Whoever connects before the reign has begun is answered that this is no master, and tries again. */
export async function bind(
  setting: MasterSetting,
  listen: string | readonly string[],
  link: LinkOptions,
): Promise<Listener[]> {
  const { site, transports, witness } = setting
  const addresses = typeof listen === 'string' ? [listen] : listen
  const links = new Links({ site, transports, link })
  for (const address of addresses) links.check(address)
  await witness.end()
  return await links.listen(addresses)
}
