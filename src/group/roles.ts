// The roles of a site: how it comes to write, alone or as master, how it ceases to, and how it becomes a replica or one
// of a group. Each role is on disk before it counts: a reign with its term, the others by a save of their own.
//
// A reign begins in one order: the core opens a term, the term is made durable (effect-loop.ts), and only then does the
// engine take writes, the first record of the reign before all others. One that cannot begin leaves the role as it was.
// When a reign ends, whoever waits for a commit is told that its outcome is unknown, unless it could be settled before.

import { assert } from '../base/assert.ts'
import type { RecordPlace } from '../base/batch.ts'
import { CoterieError, isCoterieError } from '../base/errors.ts'
import { type Lsn, noTerm, type Term } from '../base/lsn.ts'
import { aborted } from '../database/aborted.ts'
import type { SiteRole, SiteState, ViewState } from '../database/site-state.ts'
import type { Core } from '../replication/core.ts'
import type { GroupOptions, RelayOptions, ServeOptions } from '../replication/core-options.ts'
import type { Effect } from '../replication/effects.ts'
import type { AckMeter } from './ack-meter.ts'
import type { EffectLoop } from './effect-loop.ts'
import type { Peers } from './peers.ts'
import type { ReignQuestions } from './reign-questions.ts'
import type { SiteSteps } from './site-steps.ts'
import type { Standing } from './standing.ts'
import type { WriteGate } from './write-gate.ts'

export interface RolesParts {
  readonly standing: Standing
  readonly loop: EffectLoop
  readonly peers: Peers
  readonly writeGate: WriteGate
  readonly questions: ReignQuestions
  readonly ackMeter: AckMeter
}

export class Roles {
  readonly #site: SiteSteps
  readonly #parts: RolesParts
  /** A reign that is beginning. */
  #reigning: Promise<void> | undefined
  /** How this site serves in its turn; undefined where it does not. */
  #inTurn: Omit<RelayOptions, 'end' | 'master'> | undefined

  constructor(site: SiteSteps, parts: RolesParts) {
    this.#site = site
    this.#parts = parts
  }

  get #core(): Core {
    return this.#site.core
  }

  // ---- a reign begins ----------------------------------------------------------------------------------------

  /** Makes this site ready to write, if it may of its own accord. */
  async becomeWriter(): Promise<void> {
    if (this.#reigning !== undefined) {
      await this.#reigning
      return
    }
    const { writeGate, standing } = this.#parts
    const reason = writeGate.whyNotWriter()
    if (reason !== undefined) throw reason
    await this.reign(standing.role, { sites: 1, durability: this.#site.engine.durability })
  }

  /** Takes mastership in a new term: the term is on disk before the first record of the reign is. */
  reign(role: SiteRole, options: ServeOptions): Promise<void> {
    assert(role !== 'replica', 'a replica does not reign')
    if (!this.#site.engine.hasData) {
      return Promise.reject(new CoterieError('INVALID_STATE', 'this replica has no data yet'))
    }
    if (this.#parts.writeGate.isLeavingReign) {
      return Promise.reject(new CoterieError('INVALID_STATE', 'this site is attaching to a master'))
    }
    this.#reigning ??= this.#startReign(role, options).finally(() => {
      this.#reigning = undefined
    })
    return this.#reigning
  }

  /** Begins the reign that this site was elected to, or was given. */
  reignElected(options: ServeOptions): Promise<void> {
    const { writeGate, standing } = this.#parts
    writeGate.isLeavingReign = false
    this.#reigning ??= this.#startReign('master', options, { elected: true })
      .catch(async (error: unknown) => {
        // A later term is another site's: this one does not begin one of its own accord.
        if (!standing.inGroup && this.#core.termMaster !== this.#site.site)
          await this.becomeReplica(undefined, standing.sites)
        throw error
      })
      .finally(() => {
        this.#reigning = undefined
      })
    return this.#reigning
  }

  async #startReign(
    role: 'standalone' | 'master',
    options: ServeOptions,
    how: { readonly elected: boolean } = { elected: false },
  ): Promise<void> {
    const site = this.#site
    const { engine } = site
    const { standing, loop } = this.#parts
    const before = { role: standing.role, sites: standing.sites }
    const { databaseId, site: id, view } = engine.folder.state as SiteState
    assert(view === undefined, 'a view never reigns')
    standing.role = role
    standing.sites = role === 'master' ? options.sites : undefined
    assert(databaseId !== undefined, 'a master has a database')
    let term: Term = noTerm
    try {
      loop.attempt(() => {
        this.#core.serve({ ...options, databaseId, now: site.now() })
        term = this.#core.startTerm(site.now(), how)
      })
      await loop.idle()
      const isStillMaster = (): boolean => this.#core.role === 'master' && this.#core.term === term
      this.#parts.ackMeter.reset()
      await engine.beginReign({ databaseId, site: id, term }, { firstRecord: true, isStillMaster })
    } catch (error) {
      if (this.#core.role === 'master') {
        site.step(() => this.#core.stopServing(site.now()))
        standing.role = before.role
        standing.sites = before.sites
      }
      if (how.elected) site.step(() => this.#core.electionLost(site.now()))
      // The core has sent those away who were attached; they find this site as it was.
      if (this.#inTurn !== undefined) await this.#beginInTurn(this.#inTurn)
      throw error
    }
    this.#inTurn = undefined
    this.#parts.writeGate.update()
    site.events.emit('role', { role, term })
  }

  /** Changes how a reign goes on: from alone to serving and back. */
  async changeReign(role: 'standalone' | 'master', options: ServeOptions): Promise<void> {
    // One that a write has just begun is not served as this one asks.
    await this.#reigning?.catch(() => {})
    const site = this.#site
    if (!site.isWriter) {
      await this.reign(role, options)
      return
    }
    const { standing } = this.#parts
    const before = { role: standing.role, sites: standing.sites }
    standing.role = role
    standing.sites = role === 'master' ? options.sites : undefined
    try {
      await standing.save({})
    } catch (error) {
      standing.role = before.role
      standing.sites = before.sites
      throw error
    }
    if (!site.isWriter) throw new CoterieError('NOT_MASTER', 'another site has become master meanwhile')
    site.step(() => this.#core.serve({ ...options, now: site.now() }))
    this.#parts.writeGate.update()
    await this.#parts.loop.idle()
    site.events.emit('role', { role, term: this.#core.term })
  }

  // ---- a reign ends ------------------------------------------------------------------------------------------

  /**
   * Takes no more writes until `resumeReign`: about to follow another site. What is under way is confirmed first, where
   * this site can do so alone; everything logged is durable when it resolves.
   */
  async abdicate(): Promise<void> {
    this.#parts.writeGate.isLeavingReign = true
    await this.#reigning?.catch(() => {})
    const { engine } = this.#site
    engine.flush()
    if (engine.hasData) {
      if (engine.stall !== undefined) throw engine.stall
      const { log } = engine.parts
      await log.whenDurable(log.lastLsn)
    }
    this.#endReign('this site is becoming a replica', { unseated: false })
    if (this.#core.role === 'master') this.#site.step(() => this.#core.stopServing(this.#site.now()))
    await this.#parts.loop.idle()
  }

  /** The attachment has ended: whether this site takes writes is a matter of its role again. */
  resumeReign(): void {
    this.#parts.writeGate.isLeavingReign = false
  }

  /** The core says that this site is master no more. */
  steppedDown(effect: Extract<Effect, { kind: 'steppedDown' }>): void {
    const { standing } = this.#parts
    standing.role = 'replica'
    standing.masterAddress = effect.address === '' ? undefined : effect.address
    const why = {
      replaced: 'another site has become master',
      'no-majority': 'this master has lost the majority of its group',
      'handed-over': 'this master has handed over to another site',
      asked: 'this master has given up its reign',
    }[effect.reason]
    this.#endReign(why, { unseated: true })
    // The role goes to the disk with the new term, which the core asks to persist next.
    this.#site.events.emit('steppedDown', effect)
    this.#site.events.emit('role', { role: 'replica', term: effect.term })
  }

  /**
   * Ends the reign: commits under way have up to `waitMs` to be confirmed, and new ones wait meanwhile; then the
   * replicas are sent away.
   */
  async stopServing(options: { waitMs: number }): Promise<void> {
    const { engine } = this.#site
    const { writeGate, loop, peers } = this.#parts
    writeGate.isDraining = true
    try {
      if (this.#site.isWriter) await this.#drain(options.waitMs)
      this.#endReign('this site has stopped serving', { unseated: false })
      if (this.#core.role === 'master') this.#site.step(() => this.#core.stopServing(this.#site.now()))
      // What waits behind a barrier, a hand-over perhaps, shall still leave.
      await loop.idle()
    } finally {
      writeGate.isDraining = false
      engine.wakeWriters()
    }
    await peers.endAll()
  }

  async #drain(waitMs: number): Promise<void> {
    const { engine } = this.#site
    engine.flush()
    this.#site.step(() => this.#core.flushWindow(this.#site.now()))
    if (waitMs === 0) return
    const timeUp = new AbortController()
    const timer = engine.host.timers.after(waitMs, () => timeUp.abort())
    try {
      const { log } = engine.parts
      await aborted(log.whenDurable(log.lastLsn), timeUp.signal)
      // Without replicas nobody is left to confirm what their acks are asked for.
      if (this.#core.replicas.length > 0) await engine.whenCommitted(engine.lastLsn, timeUp.signal)
    } catch (error) {
      // Out of time, or the log has failed: whoever waits is told that the outcome is unknown.
      if (!isCoterieError(error)) throw error
    } finally {
      timer.cancel()
    }
  }

  #endReign(why: string, how: { readonly unseated: boolean }): void {
    this.#site.engine.endReign(why, how)
    this.#parts.questions.reignOver(why)
  }

  // ---- serving in turn ---------------------------------------------------------------------------------------

  /** Lets others attach to this replica, until it stops or reigns. INVALID_STATE on a master. */
  async serveInTurn(options: Omit<RelayOptions, 'end' | 'master'>): Promise<void> {
    await this.#beginInTurn(options)
    this.#inTurn = options
  }

  async #beginInTurn(options: Omit<RelayOptions, 'end' | 'master'>): Promise<void> {
    const site = this.#site
    const end = await this.#permanentPlace()
    const { masterAddress: address, sites } = this.#parts.standing
    const master = {
      ...(address === undefined ? {} : { address }),
      ...(sites === undefined ? {} : { sites }),
    }
    this.#parts.loop.attempt(() => this.#core.serveInTurn({ ...options, end, master, now: site.now() }))
  }

  /** Of the last record that is permanent and on this disk; undefined where the log does not have it any more. */
  async #permanentPlace(): Promise<RecordPlace | undefined> {
    const { engine } = this.#site
    while (engine.hasData) {
      const { parts } = engine
      const { permanentLsn, durableLsn } = this.#core
      try {
        const place = await parts.log.placeOf(Math.min(permanentLsn, durableLsn) as Lsn)
        if (engine.hasData && engine.parts === parts) return place
      } catch (error) {
        if (isCoterieError(error, 'LOG_TRIMMED')) return undefined
        // A snapshot has replaced the log that was being read.
        if (!engine.hasData || engine.parts === parts) throw error
      }
    }
    return undefined
  }

  /** Sends those away who are attached; this site stays what it is. */
  async stopServingInTurn(): Promise<void> {
    const site = this.#site
    this.#inTurn = undefined
    site.step(() => this.#core.stopServingInTurn(site.now()))
    await this.#parts.loop.idle()
    await this.#parts.peers.endAccepted()
  }

  // ---- replica, and one of a group ---------------------------------------------------------------------------

  /** The site is a replica from now on, also after a restart. */
  async becomeReplica(master: string | undefined, sites: number | undefined): Promise<void> {
    const { standing } = this.#parts
    standing.role = 'replica'
    standing.sites = sites
    standing.masterAddress = master
    await standing.saveWhenRoom({})
    this.#site.events.emit('role', { role: 'replica', term: this.#core.term })
  }

  /** A view from now on, on disk when it resolves; it has taken its last write. */
  async becomeView(view: ViewState): Promise<void> {
    assert(!this.#site.isWriter, 'a view does not reign')
    await this.#saveView('replica', view)
  }

  /** Undoes `becomeView`, also on disk, where no master has let it in. */
  async ceaseView(role: SiteRole): Promise<void> {
    await this.#saveView(role, undefined)
  }

  async #saveView(role: SiteRole, view: ViewState | undefined): Promise<void> {
    const { standing } = this.#parts
    const before = standing.role
    standing.role = role
    try {
      await standing.save({ view })
    } catch (error) {
      standing.role = before
      throw error
    }
  }

  /** From now on this site is one of a group; it takes no writes of its own accord any more. */
  async joinGroup(options: GroupOptions): Promise<void> {
    const { standing, writeGate } = this.#parts
    if (!standing.inGroup) {
      await this.abdicate()
      standing.inGroup = true
      standing.role = 'replica'
      try {
        await standing.saveWhenRoom({})
      } catch (error) {
        standing.inGroup = false
        throw error
      } finally {
        writeGate.isLeavingReign = false
      }
    }
    const site = this.#site
    site.step(() => this.#core.joinGroup({ ...options, now: site.now() }))
  }

  /** Takes no part in the group any more; it stays a replica of it, on disk too. */
  leaveGroup(): void {
    const site = this.#site
    site.step(() => this.#core.leaveGroup(site.now()))
  }

  /** Undoes `joinGroup`, also on disk, where nothing of a group was taken. */
  async withdraw(role: SiteRole): Promise<void> {
    const { standing, writeGate } = this.#parts
    standing.inGroup = false
    standing.role = role
    // Until that is on disk it is no database of its own, whose rows are the newest there are.
    writeGate.isLeavingReign = true
    try {
      await standing.saveWhenRoom({})
    } finally {
      writeGate.isLeavingReign = false
    }
  }

  /** It is one of no group any more, on disk with the next reign. */
  forgetGroup(): void {
    this.#parts.standing.inGroup = false
  }
}
