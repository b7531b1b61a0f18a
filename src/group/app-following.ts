// Follows the master that the other sites name, over the application's network (Base API). Nothing is dialled: a site
// that has greeted can be written to. At most one attachment is under way; a newer term beats it.
//
// A master that has refused this site is not asked again in the same term, unless the application says so: it has been
// told why, as the result of a message.

import { type ErrorCode, isCoterieError } from '../base/errors.ts'
import type { Term } from '../base/lsn.ts'
import type { FollowOptions, PeerId } from '../replication/core-options.ts'
import type { Effect } from '../replication/effects.ts'
import { BackOff } from './back-off.ts'
import type { Site } from './site.ts'

interface Target {
  readonly site: string
  readonly term: Term
}

export interface AppFollowingOptions {
  readonly site: Site
  /** How to attach, but for the address and what a broken snapshot has left. */
  readonly follow: () => FollowOptions
  /** A new master is not followed before `sync`. */
  readonly isDelayed: () => boolean
  /** Where a site is that has not greeted, or is silent, others are to be asked. */
  readonly call: () => void
  readonly retryMinMs: number
  readonly retryMaxMs: number
}

/**
 * Answers that say that the next one will be no other. That the master knows this site already at another address passes:
 * it forgets who is silent.
 */
const refusals: ReadonlySet<ErrorCode> = new Set([
  'FOREIGN_HISTORY',
  'REWIND_REFUSED',
  'SNAPSHOT_REFUSED',
  'DUPLICATE_MASTER',
  'PROTOCOL_INCOMPATIBLE',
  'HANDSHAKE_FAILED',
])

export class AppFollowing {
  readonly #options: AppFollowingOptions
  readonly #backOff: BackOff
  readonly #peers: Map<string, PeerId> = new Map()
  #target: Target | undefined
  /** Whom this site follows, or asks to. */
  #current: Target | undefined
  #currentPeer: PeerId | undefined
  #refusedBy: Target | undefined
  /** A master has been named, and waits for `sync`. */
  #isWaiting = false
  #isHalted = true
  #isBeginning = false
  #idleWaiters: (() => void)[] = []

  constructor(options: AppFollowingOptions) {
    this.#options = options
    const { retryMinMs, retryMaxMs, site } = options
    this.#backOff = new BackOff({ random: site.engine.host.random, minMs: retryMinMs, maxMs: retryMaxMs })
  }

  /** A master is known that this site does not follow yet, because it is told to wait. */
  get isWaiting(): boolean {
    return this.#isWaiting
  }

  get isHalted(): boolean {
    return this.#isHalted
  }

  /** Who is at the other end of a peer. */
  met(site: string, peer: PeerId): void {
    this.#peers.set(site, peer)
  }

  /** A peer was forgotten: what is sent to it goes nowhere. The site will greet again, as another one. */
  gone(peer: PeerId): void {
    for (const [site, each] of this.#peers) if (each === peer) this.#peers.delete(site)
    if (this.#current !== undefined && this.#currentPeer === peer) this.#options.site.leave('cancel')
  }

  /** Somebody hears a master. */
  found(target: Target): void {
    const known = this.#target
    if (known !== undefined && target.term < known.term && this.#current !== undefined) return
    if (known?.site !== target.site || known.term !== target.term) {
      this.#target = target
      this.#isWaiting = this.#options.isDelayed()
      this.#backOff.succeeded()
    }
    this.#goOn()
  }

  accepted(master: Target): void {
    this.#backOff.succeeded()
    if (this.#target === this.#current) this.#target = master
    this.#current = master
  }

  /** What waited may begin, and who has refused is asked again; without a master to follow others are asked for one. */
  sync(): void {
    this.#isWaiting = false
    this.#refusedBy = undefined
    if (this.#target === undefined) this.#options.call()
    this.#goOn()
  }

  tick(): void {
    this.#goOn()
  }

  #goOn(): void {
    if (this.#isHalted || this.#isWaiting || this.#isBeginning) return
    const { site, call } = this.#options
    const target = this.#target
    if (this.#current !== undefined) {
      const isOther = target?.site !== this.#current.site
      if (target !== undefined && isOther && target.term > this.#current.term) site.leave('cancel')
      return
    }
    if (target === undefined || site.core.role !== 'none' || site.engine.failure !== undefined) return
    const refused = this.#refusedBy
    if (refused?.site === target.site && refused.term === target.term) return
    if (!this.#backOff.isDue(site.now())) return
    const peer = this.#peers.get(target.site)
    if (peer === undefined) {
      this.#backOff.failed(site.now())
      call()
      return
    }
    this.#isBeginning = true
    this.#follow(target, peer)
      .catch((error: unknown) => site.engine.fail(error))
      .finally(() => {
        this.#isBeginning = false
        this.#wake()
      })
  }

  async #follow(target: Target, peer: PeerId): Promise<void> {
    const { site, follow } = this.#options
    const resume = await site.resumable()
    if (this.#isHalted || site.core.role !== 'none' || site.engine.failure !== undefined) return
    // It may have been forgotten meanwhile.
    if (this.#peers.get(target.site) !== peer) return
    this.#current = target
    this.#currentPeer = peer
    try {
      site.followPeer(peer, {
        ...follow(),
        address: target.site,
        ...(resume === undefined ? {} : { resume }),
      })
    } catch (error) {
      this.#current = undefined
      if (!isCoterieError(error)) throw error
      this.#backOff.failed(site.now())
    }
  }

  /** The attachment has ended. */
  stopped({ reason, code }: Extract<Effect, { kind: 'stopped' }>): void {
    const current = this.#current
    if (current === undefined) return
    this.#current = undefined
    this.#wake()
    const { site } = this.#options
    if (reason === 'became-master') this.#target = undefined
    else if (code !== undefined && refusals.has(code)) this.#refusedBy = current
    this.#backOff.failed(site.now())
    this.#goOn()
  }

  #wake(): void {
    const waiters = this.#idleWaiters
    this.#idleWaiters = []
    for (const wake of waiters) wake()
  }

  /** Ends whatever is under way and follows nobody until `resume`. */
  async halt(how: 'stop' | 'cancel' = 'cancel'): Promise<void> {
    this.#isHalted = true
    const { site } = this.#options
    if (this.#current !== undefined) site.leave(how)
    while ((this.#current !== undefined || this.#isBeginning) && site.engine.failure === undefined) {
      await new Promise<void>((resolve) => {
        this.#idleWaiters.push(resolve)
      })
    }
  }

  resume(): void {
    this.#isHalted = false
    this.#refusedBy = undefined
    this.#goOn()
  }

  /** This site reigns: what was named before is over. */
  forget(): void {
    this.#target = undefined
    this.#isWaiting = false
  }

  /** The site has failed: nothing that is waited for will come. */
  failed(): void {
    this.#current = undefined
    this.#wake()
  }
}
