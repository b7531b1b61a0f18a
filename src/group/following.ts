// Follows the master of the group, whoever that is at the moment: dials it, attaches, attaches again after a loss, and
// goes over to a newer one as soon as it is named.
//
// At most one dial and one attachment are under way. What is named meanwhile is the target of the next step, and a
// newer term beats whatever is going on, so a dead address never holds up a failover. The core has the last word: it
// follows only where it has no role.

import { asError, type ErrorCode, isCoterieError } from '../base/errors.ts'
import { noTerm, type Term } from '../base/lsn.ts'
import type { Effect } from '../replication/effects.ts'
import { BackOff } from './back-off.ts'
import type { Links } from './links.ts'
import type { Site } from './site.ts'

/** A master that somebody has named. */
export interface Target {
  readonly address: string
  /** Undefined where only an address was named. */
  readonly site: string | undefined
  readonly term: Term
}

export interface FollowingOptions {
  readonly site: Site
  readonly links: Links
  /** Where this site listens, told to its master. */
  readonly address: string
  readonly replace: boolean
  readonly connectTimeoutMs: number
  readonly electionTimeoutMs: number
  readonly silenceTimeoutMs: number
  readonly retryMinMs: number
  readonly retryMaxMs: number
  /** The group has turned this site away. */
  readonly onRefused: (code: ErrorCode, message: string) => void
}

type Stopped = Extract<Effect, { kind: 'stopped' }>

/** Refusals that speak of this site, not of the moment. */
const refusals: ReadonlySet<ErrorCode> = new Set([
  'MEMBER_REMOVED',
  'SITE_WIPED',
  'FOREIGN_HISTORY',
  'REWIND_REFUSED',
  'DUPLICATE_SITE',
  'DUPLICATE_MASTER',
  'TOO_MANY_REPLICAS',
  'PROTOCOL_INCOMPATIBLE',
  'HANDSHAKE_FAILED',
  'AUTH_FAILED',
  'TLS_FAILED',
])

export class Following {
  readonly #options: FollowingOptions
  readonly #backOff: BackOff
  #target: Target | undefined
  /** Whom the attachment, or the dial, is about. */
  #current: Target | undefined
  #phase: 'idle' | 'dialing' | 'attached' = 'idle'
  #dial = new AbortController()
  #isLeaving = false
  #isHalted = false
  #idleWaiters: (() => void)[] = []
  #noMasterSince: number | undefined
  /** Only until this site has the group's data: what it has from then on is not to be set aside. */
  #mayReplace: boolean

  constructor(options: FollowingOptions) {
    this.#options = options
    const { site, replace, retryMinMs, retryMaxMs } = options
    this.#mayReplace = replace
    const { random } = site.engine.host
    this.#backOff = new BackOff({ random, minMs: retryMinMs, maxMs: retryMaxMs })
  }

  /** Somebody hears a master. */
  found(target: Target): void {
    const known = this.#target
    if (known !== undefined) {
      if (target.term < known.term) return
      if (target.term === known.term && this.#isSame(target, known)) return
    }
    this.#target = target
    this.#backOff.succeeded()
    this.#goOn()
  }

  /** One master may be known by several addresses; whoever has accepted this site is left for another only. */
  #isSame(target: Target, known: Target): boolean {
    if (target.address === known.address) return true
    return this.#phase === 'attached' && known.site !== undefined && known.site === target.site
  }

  /** The attachment has been accepted. */
  accepted(master: { readonly site: string; readonly term: Term }): void {
    this.#backOff.succeeded()
    if (this.#current === undefined) return
    const target = { ...this.#current, ...master }
    if (this.#target === this.#current) this.#target = target
    this.#current = target
  }

  /** This site has all that its master had. */
  synced(): void {
    this.#mayReplace = false
  }

  tick(now: number): void {
    this.#lookAround(now)
    this.#goOn()
  }

  /**
   * Names of masters are hints and may be lost, or be of a term below one that this site has raised in vain: who says
   * that it is master is asked then, whatever its term.
   */
  #lookAround(now: number): void {
    const { site, electionTimeoutMs } = this.#options
    if (site.core.heardMaster !== undefined) {
      this.#noMasterSince = undefined
      return
    }
    this.#noMasterSince ??= now
    if (now - this.#noMasterSince < 2 * electionTimeoutMs) return
    this.#noMasterSince = now
    let best: Target | undefined
    for (const view of site.core.sites) {
      if (view.activity !== 'master' || !view.linked) continue
      if (best === undefined || view.term > best.term) best = view
    }
    if (best === undefined || best.address === this.#target?.address) return
    const { address, site: name, term } = best
    this.#target = { address, site: name, term }
  }

  /** Whatever is the next step. */
  #goOn(): void {
    if (this.#isHalted) return
    const { site } = this.#options
    const hasMoved = this.#target !== this.#current
    if (this.#phase === 'dialing') {
      if (hasMoved) this.#dial.abort()
      return
    }
    if (this.#phase === 'attached') {
      if (hasMoved) this.#leave()
      return
    }
    const target = this.#target
    if (target === undefined || site.core.role !== 'none' || site.engine.failure !== undefined) return
    if (!this.#backOff.isDue(site.now())) return
    this.#attach(target).catch((error: unknown) => site.engine.fail(error))
  }

  async #attach(target: Target): Promise<void> {
    const { site, links, connectTimeoutMs } = this.#options
    this.#phase = 'dialing'
    this.#current = target
    const dial = new AbortController()
    this.#dial = dial
    try {
      links.check(target.address)
      const resume = await site.resumable()
      const connection = await links.connect({
        address: target.address,
        connectTimeoutMs,
        signal: dial.signal,
      })
      if (dial.signal.aborted || site.core.role !== 'none' || site.engine.failure !== undefined) {
        connection.destroy()
      } else {
        this.#phase = 'attached'
        this.#isLeaving = false
        site.follow(connection, this.#followOptions(target, resume))
      }
    } catch (error) {
      if (!dial.signal.aborted) this.#failed(error)
    } finally {
      // `follow` may have ended the attachment at once.
      if (this.#dial === dial && this.#phase === 'dialing') this.#rest()
    }
    this.#goOn()
  }

  #followOptions(
    target: Target,
    resume: Awaited<ReturnType<Site['resumable']>>,
  ): Parameters<Site['follow']>[1] {
    const { address, silenceTimeoutMs } = this.#options
    return {
      address: target.address,
      member: { address },
      timings: { initialTimeoutMs: silenceTimeoutMs },
      ...(this.#mayReplace ? { replace: true } : {}),
      ...(resume === undefined ? {} : { resume }),
    }
  }

  #failed(error: unknown): void {
    const { site, onRefused } = this.#options
    if (!isCoterieError(error)) throw asError(error)
    this.#backOff.failed(site.now())
    if (refusals.has(error.code)) onRefused(error.code, error.message)
  }

  #leave(): void {
    if (this.#isLeaving) return
    this.#isLeaving = true
    this.#options.site.leave('cancel')
  }

  /** The attachment has ended. */
  stopped(stopped: Stopped): void {
    if (this.#phase !== 'attached') return
    const { site, electionTimeoutMs, onRefused } = this.#options
    const current = this.#current
    this.#rest()
    const { reason, code, message, master } = stopped
    const now = site.now()
    const isTarget = this.#target === current
    if (reason === 'became-master') {
      this.#target = undefined
    } else if (code !== undefined && refusals.has(code)) {
      this.#backOff.failed(now)
      onRefused(code, message)
    } else if (isTarget && master !== undefined && master !== current?.address) {
      // Only an address: whoever is named with a term is the better word.
      this.#target = { address: master, site: undefined, term: noTerm }
      this.#backOff.failed(now)
    } else if (isTarget && (code === 'REPLACED' || code === 'MASTER_STOPPED')) {
      // Somebody else will be named; if not, the old one is asked again.
      this.#backOff.holdUntil(now + electionTimeoutMs)
    } else if (isTarget) {
      this.#backOff.failed(now)
    }
    this.#goOn()
  }

  #rest(): void {
    this.#phase = 'idle'
    this.#current = undefined
    this.#isLeaving = false
    const waiters = this.#idleWaiters
    this.#idleWaiters = []
    for (const wake of waiters) wake()
  }

  /** Ends whatever is under way and follows nobody until `resume`. Resolves when nothing is left of it. */
  async halt(how: 'stop' | 'cancel' = 'cancel'): Promise<void> {
    this.#isHalted = true
    if (this.#phase === 'dialing') this.#dial.abort()
    else if (this.#phase === 'attached' && !this.#isLeaving) {
      this.#isLeaving = true
      this.#options.site.leave(how)
    }
    const { engine } = this.#options.site
    while (this.#phase !== 'idle' && engine.failure === undefined) {
      await new Promise<void>((resolve) => {
        this.#idleWaiters.push(resolve)
      })
    }
  }

  resume(): void {
    this.#isHalted = false
    this.#noMasterSince = undefined
    this.#goOn()
  }

  /** The site has failed: nothing that is waited for will come. */
  failed(): void {
    this.#dial.abort()
    this.#rest()
  }

  /** This site reigns: what was named before is over. */
  forget(): void {
    this.#target = undefined
  }
}
