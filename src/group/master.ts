// A master as its operator sees it: where it listens, who is attached, and how to send them away (eXtremeDB's
// mco_HA_attach_replica, with the accept loop inside).

import { assert } from '../base/assert.ts'
import { Emitter } from '../base/emitter.ts'
import { CoterieError, isCoterieError } from '../base/errors.ts'
import {
  abortSignal,
  checkOptions,
  eitherOf,
  listOf,
  type OptionRules,
  oneOf,
  text,
  truth,
  wholeNumber,
} from '../base/options.ts'
import type { AckPolicy, Attest } from '../base/policy.ts'
import { commitRules } from '../database/named-store.ts'
import type { ServeOptions as CoreServeOptions } from '../replication/core-options.ts'
import { type LinkOptions, linkOptionsOf, linkRules } from '../transport/link-options.ts'
import type { TransportRegistry } from '../transport/registry.ts'
import type { Listener } from '../transport/transport.ts'
import type { MasterEvents } from './events.ts'
import { Links } from './links.ts'
import type { Site } from './site.ts'
import { type ReplicaStatus, replicaStatus } from './status.ts'
import { type Transferred, transferTo } from './transferring.ts'
import type { Witness } from './witness.ts'

export interface ServeOptions extends LinkOptions {
  /** Where to listen: `tcp://host:port` or `host:port`; port 0 takes a free one. Several at once are fine. */
  readonly listen: string | readonly string[]
  /** Sites of the group, this one included. Default: this one and the replicas attached now. */
  readonly sites?: number
  /** Which replicas must attest a commit before it resolves. Default `quorum`. */
  readonly acks?: AckPolicy
  /** What an ack attests. Default `durable`. */
  readonly attest?: Attest
  /** The gate: with fewer attached replicas than this, writes are refused with NO_QUORUM. Default 0. */
  readonly quorum?: number
  /** More are refused with TOO_MANY_REPLICAS. Default 64. */
  readonly maxReplicas?: number
  /** `async`: commits do not wait for replicas, which may lag by `maxLagBytes`. Default `sync`. */
  readonly mode?: 'sync' | 'async'
  /** Default 16 MiB. */
  readonly maxLagBytes?: number
  /** What happens to a write when a replica lags more: it waits, the replica goes, the write is refused. */
  readonly onFull?: 'wait' | 'detach' | 'reject'
  /** One ack serves so many transactions; a commit may resolve while that many less one lack theirs. Default 1. */
  readonly window?: number
  /** How long a commit waits for acks before OUTCOME_UNKNOWN. Default 10,000. */
  readonly ackTimeoutMs?: number
  /** How long a replica may take to attach, or its snapshot to make progress. Default 60,000. */
  readonly initialTimeoutMs?: number
  /** A replica that is heard but takes nothing is detached after so long. Default 60,000. */
  readonly sendTimeoutMs?: number
  /** How long `stop` waits for commits under way. Default 10,000. */
  readonly detachTimeoutMs?: number
  /** A replica of which nothing is heard for so long is detached. Default 10,000. */
  readonly silenceTimeoutMs?: number
  /** How often the master speaks when it has nothing to say. Default 500. */
  readonly heartbeatMs?: number
  /** `blocking`: writes wait while a replica takes its snapshot. Default `live`. */
  readonly initialSync?: 'live' | 'blocking'
  /** Rows in one chunk of a snapshot. Default 100. */
  readonly chunkRecords?: number
  /** Bytes in one chunk of a snapshot. Default 100 KiB. */
  readonly chunkBytes?: number
  /** Pause between chunks, to spare a link. Default 0. */
  readonly chunkDelayMs?: number
  /** Whether a replica that asks for it becomes master in this one's place. Default true. */
  readonly allowTakeOver?: boolean
  /** How long writes may wait for a hand-over before it is given up. Default 5,000. */
  readonly handOverTimeoutMs?: number
  /** Stops serving when it aborts. */
  readonly signal?: AbortSignal
}

export const serveRules: OptionRules = {
  ...linkRules,
  listen: eitherOf(text, listOf(text)),
  sites: wholeNumber(1, 1000),
  acks: commitRules.acks as OptionRules[string],
  attest: oneOf('received', 'durable', 'applied'),
  quorum: wholeNumber(0, 1000),
  maxReplicas: wholeNumber(0, 10_000),
  mode: oneOf('sync', 'async'),
  maxLagBytes: wholeNumber(1),
  onFull: oneOf('wait', 'detach', 'reject'),
  window: wholeNumber(1, 1_000_000),
  ackTimeoutMs: wholeNumber(1),
  initialTimeoutMs: wholeNumber(1),
  sendTimeoutMs: wholeNumber(1),
  detachTimeoutMs: wholeNumber(1),
  silenceTimeoutMs: wholeNumber(10),
  heartbeatMs: wholeNumber(5),
  initialSync: oneOf('live', 'blocking'),
  chunkRecords: wholeNumber(1, 100_000),
  chunkBytes: wholeNumber(1024, 16 * 1024 * 1024),
  chunkDelayMs: wholeNumber(0, 60_000),
  allowTakeOver: truth,
  handOverTimeoutMs: wholeNumber(1),
  signal: abortSignal,
}

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
}

type EndFacts = Pick<ServeEnd, 'cause' | 'by' | 'master'>

/** A database that others can attach to. */
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

  /** ADDRESS_INVALID, ADDRESS_IN_USE; then nothing has changed. */
  static async start(setting: MasterSetting, serve: ServeOptions): Promise<Master> {
    const { site } = setting
    checkOptions('serve', serve, serveRules)
    if (serve.listen === undefined) throw new CoterieError('OPTION_INVALID', "serve needs 'listen'")
    const listeners = await bind(setting, serve.listen, linkOptionsOf(serve))
    try {
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
      events.on('failed', (cause) => {
        if (engine.failure !== undefined) void this.#finish('failed', { cause })
      }),
    )
    // What came between the begin of the reign and now was heard by nobody.
    if (engine.failure !== undefined) void this.#finish('failed', { cause: engine.failure })
    else if (!this.#site.isWriter) {
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

  /** Changes the gate at run time. */
  setQuorum(quorum: number): void {
    checkOptions('setQuorum', { quorum }, serveRules)
    this.#site.configure({ quorum })
  }

  /** Asks the replicas to acknowledge at once what their window has gathered; resolves when all is committed. */
  async flushWindow(): Promise<void> {
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
   * nothing has changed, and those who wait go on here. INVALID_STATE while a hand-over is under way.
   */
  async transfer(site: string, options: { readonly timeoutMs?: number } = {}): Promise<Transferred> {
    checkOptions('transfer', options, { timeoutMs: wholeNumber(1) })
    if (this.#ending !== undefined) throw new CoterieError('NOT_MASTER', 'this site serves no more')
    return await transferTo(this.#site, { heir: site, timeoutMs: options.timeoutMs })
  }

  /**
   * Stops listening, gives commits under way up to `detachTimeoutMs` to be confirmed, and detaches the replicas. The
   * database stays open. It goes on taking writes, for itself alone, unless `sites` was given: the master of a group
   * of a fixed size takes none before `serve()` or `standalone()`.
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
      if (reason !== 'failed') {
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

/** What `serve` means for the core. */
export function coreOptions(serve: Partial<ServeOptions>, address: string | undefined): CoreServeOptions {
  const { listen, signal, detachTimeoutMs, ackTimeoutMs, initialTimeoutMs, sendTimeoutMs, ...rest } = serve
  const { silenceTimeoutMs, heartbeatMs, allowTakeOver, handOverTimeoutMs, ...more } = rest
  const { tls, secret, key, insecure, multicast, compression, ...core } = more
  const timings = {
    ...(ackTimeoutMs === undefined ? {} : { ackTimeoutMs }),
    ...(initialTimeoutMs === undefined ? {} : { initialTimeoutMs, snapshotTimeoutMs: initialTimeoutMs }),
    ...(sendTimeoutMs === undefined ? {} : { stuckTimeoutMs: sendTimeoutMs }),
    ...(silenceTimeoutMs === undefined ? {} : { silenceTimeoutMs }),
    ...(heartbeatMs === undefined ? {} : { heartbeatMs }),
    ...(handOverTimeoutMs === undefined ? {} : { handOverTimeoutMs }),
  }
  return { ...core, timings, ...(address === undefined ? {} : { address }) }
}
