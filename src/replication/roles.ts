// Which role a site has - master, replica or none - and beside it its part in a group: how each begins and ends, and
// what that means for the term and for the election. What a role does is in master.ts, replica.ts and group-side.ts. A site
// that is not master may serve in its turn, whether it follows one at the moment or not: relay.ts.
//
// Invariant 16: a site has one role. Who ends a reign writes no more from the effect `steppedDown` on, and only then
// the term is raised: the barrier of the new term may take as long as the disk takes.

import { assert } from '../base/assert.ts'
import type { RecordBatch } from '../base/batch.ts'
import { CoterieError, type ErrorCode } from '../base/errors.ts'
import { lsnMax, type Term } from '../base/lsn.ts'
import type { CommitException } from '../base/policy.ts'
import {
  defaultServeSettings,
  type FollowOptions,
  type GroupOptions,
  givenSettings,
  type PeerId,
  type RelayOptions,
  type ServeOptions,
} from './core-options.ts'
import type { CoreState } from './core-state.ts'
import type { StepDownReason } from './effects.ts'
import type { HeardMaster, SiteActivity } from './group-messages.ts'
import { type GroupHooks, GroupSide } from './group-side.ts'
import { Master } from './master.ts'
import { Preference } from './preference.ts'
import { Relay } from './relay.ts'
import { Replica } from './replica.ts'
import type { Serving } from './serving.ts'

export type Role = 'none' | 'master' | 'replica'

/** The master that this site knows of. */
export interface KnownMaster {
  readonly site: string
  readonly term: Term
  readonly address: string | undefined
}

export interface EndOfReign {
  readonly reason: StepDownReason
  readonly term: Term
  readonly site: string | undefined
  readonly address?: string
}

export class Roles implements GroupHooks {
  readonly #state: CoreState
  #master: Master | undefined
  #replica: Replica | undefined
  #relay: Relay | undefined
  #group: GroupSide | undefined
  /** Where this site serves. */
  #address: string | undefined
  /** A term that the old master has given to this site, outside of a group. */
  #givenTerm: Term | undefined
  readonly #preference: Preference

  constructor(state: CoreState) {
    this.#state = state
    this.#preference = new Preference(state)
  }

  get role(): Role {
    if (this.#master !== undefined) return 'master'
    return this.#replica === undefined ? 'none' : 'replica'
  }

  get master(): Master | undefined {
    return this.#master
  }

  get replica(): Replica | undefined {
    return this.#replica
  }

  /** This site serves in its turn. */
  get relay(): Relay | undefined {
    return this.#relay
  }

  /** Those who are attached here, whichever way it serves. */
  get serving(): Serving | undefined {
    return this.#master?.serving ?? this.#relay?.serving
  }

  get group(): GroupSide | undefined {
    return this.#group
  }

  needMaster(): Master {
    if (this.#master === undefined)
      throw new CoterieError('NOT_MASTER', `site ${this.#state.site} is not master`)
    return this.#master
  }

  needReplica(): Replica {
    assert(this.#replica !== undefined, 'this answers what a replica asked for')
    return this.#replica
  }

  #needNoRole(call: string): void {
    if (this.role === 'none') return
    throw new CoterieError('INVALID_STATE', `${call}: site ${this.#state.site} is ${this.role}`)
  }

  // ---- whom this site has for master

  /** This site, as master, or whom it follows and was accepted by. */
  get knownMaster(): KnownMaster | undefined {
    const { site, term } = this.#state
    if (this.#master !== undefined) return { site, term, address: this.#address }
    return this.#replica?.master
  }

  /** A master counts as heard here from the beginning of its role, also before it reigns. */
  heardMaster(): HeardMaster | undefined {
    const { site, term, timings } = this.#state
    if (this.#master !== undefined) return { site, term, address: this.#address ?? '' }
    return this.#replica?.heardMaster(timings.electionTimeoutMs)
  }

  announcedMaster(): HeardMaster | undefined {
    return this.#master?.reigns === false ? undefined : this.heardMaster()
  }

  activity(): SiteActivity {
    if (this.#master !== undefined) return 'master'
    const replica = this.#replica
    if (replica?.master === undefined) return 'alone'
    return replica.isSynced ? 'replica' : 'syncing'
  }

  canReign(): boolean {
    const { readableLsn, last } = this.#state
    return this.#replica?.isBusy !== true && readableLsn <= last.lsn && last.lsn > 0
  }

  // ---- master: the role, and the reign in it

  /** Takes the role, or changes how the master serves: options that are not given go back to their defaults. */
  serve(options: ServeOptions): void {
    const { databaseId, address, timings } = options
    const settings = givenSettings(options)
    const state = this.#state
    if (this.#master === undefined) this.#needNoRole('serve')
    if (databaseId !== undefined && databaseId !== state.databaseId) state.found(databaseId)
    if (state.databaseId === undefined)
      throw new CoterieError('INVALID_STATE', 'there is no database to serve')
    if (state.readableLsn > state.last.lsn) {
      const message =
        state.readableLsn === lsnMax
          ? 'the rows here are lost: they come with the next snapshot of a master'
          : `the rows here are complete only with LSN ${state.readableLsn}, which this site does not have`
      throw new CoterieError('SYNCING', message)
    }
    this.stopRelaying({ code: 'RELAY_CHANGED', message: `site ${state.site} becomes master` })
    this.#address = address
    state.useTimings(timings)
    if (this.#master === undefined) this.#master = new Master(state, settings)
    else this.#master.configure({ ...defaultServeSettings, ...settings })
  }

  /** The old master has given this site a term, which it is to begin. */
  given(term: Term): void {
    this.#givenTerm = term
  }

  /** Raises the term for a reign, or takes the one that it was elected to. */
  beginReign(options: { above?: Term; elected?: boolean }): Term {
    const state = this.#state
    const master = this.needMaster()
    if (options.elected === true) {
      const term = this.#group?.election.electedTerm ?? this.#givenTerm
      if (term !== state.term) throw new CoterieError('NOT_MASTER', 'another term has begun meanwhile')
      state.wonTerm()
    } else {
      this.#needNoPromise()
      const term = (Math.max(state.term, options.above ?? 0) + 1) as Term
      state.raiseTerm(term, state.site, state.site)
    }
    this.#givenTerm = undefined
    this.#group?.election.began()
    master.beginTerm()
    return state.term
  }

  /** Whoever was not elected would reign beside a master whose lease holds. */
  #needNoPromise(): void {
    const { promise, site, now } = this.#state
    if (!promise.binds(site, now)) return
    throw new CoterieError(
      'INVALID_STATE',
      'a lease that this site has granted may hold: it can be elected only',
    )
  }

  /** The first records of a reign begin it: the others learn of the master at once. */
  proposed(batch: RecordBatch, exceptions: readonly CommitException[]): void {
    const master = this.needMaster()
    const isFirst = !master.reigns
    master.proposed(batch, exceptions)
    if (isFirst) this.#group?.greetings.announce()
  }

  /** The reign that this site was elected to, or was given, does not begin. */
  forgetReign(): void {
    this.#givenTerm = undefined
    this.#group?.election.interrupted()
  }

  /** The site writes no more. Returns the reign that was, for its replicas to be sent away. */
  endReign(why: EndOfReign): Master | undefined {
    const master = this.#master
    if (master === undefined) return undefined
    this.#master = undefined
    this.#state.counters.stepDowns++
    this.#state.emit({ kind: 'steppedDown', ...why })
    return master
  }

  /** Gives up the reign; its term stays. */
  stepDown(reason: StepDownReason, message: string): void {
    const { term } = this.#state
    const master = this.endReign({ reason, term, site: undefined })
    master?.end({ code: 'MASTER_STOPPED', message })
  }

  /** A higher term unseats a master; others just know it from now on. `chosen`: its master, if that is certain. */
  seeTerm(term: Term, site: string | undefined, chosen?: string): void {
    // Before the barrier of the new term: not one more write, whatever the disk takes.
    const master = this.endReign({ reason: 'replaced', term, site })
    this.#state.raiseTerm(term, chosen)
    master?.end({ code: 'REPLACED', message: `term ${term} has begun` })
    this.#group?.election.interrupted()
  }

  /** The driver ends the role of master. */
  stopServing(options: { code: ErrorCode; message: string }): void {
    const master = this.needMaster()
    this.#master = undefined
    master.end(options)
    // The reign that it was elected to may not have begun.
    this.forgetReign()
  }

  // ---- replica

  follow(options: FollowOptions & { peer: PeerId }): void {
    this.#needNoRole('follow')
    this.#state.useTimings(options.timings)
    const mayReign = (): boolean => this.#group !== undefined && this.#group.election.priority > 0
    this.#replica = new Replica(this.#state, { ...options, mayReign })
  }

  // ---- serving in turn

  /** INVALID_STATE on a master, or where it serves already. */
  serveInTurn(options: RelayOptions): void {
    if (this.#master !== undefined || this.#relay !== undefined) {
      throw new CoterieError('INVALID_STATE', `site ${this.#state.site} serves already`)
    }
    this.#relay = new Relay(this.#state, options, () => this.#replica)
  }

  stopRelaying(why: { code: ErrorCode; message: string }): void {
    const relay = this.#relay
    this.#relay = undefined
    relay?.end(why)
  }

  /** A replica that has come to its end leaves the site without a role. */
  dropEnded(): void {
    if (this.#replica?.hasEnded === true) this.#replica = undefined
  }

  endRole(reason: string): void {
    this.stepDown('replaced', reason)
    this.#replica?.endForTerm(reason)
    this.dropEnded()
  }

  // ---- one of a group

  joinGroup(options: GroupOptions): void {
    const state = this.#state
    if (state.incarnation === '') throw new CoterieError('INVALID_STATE', 'this site has no incarnation')
    state.changeTimings(options.timings)
    state.leases = options.leases
    state.promise.begin(state.now)
    if (this.#group === undefined) this.#group = new GroupSide(state, options, this)
    else this.#group.change(options)
  }

  leaveGroup(): void {
    this.#group = undefined
  }

  // ---- what concerns every part

  disconnected(peer: PeerId, cause: string): void {
    this.#master?.serving.disconnected(peer)
    this.#relay?.disconnected(peer)
    if (this.#replica?.peer === peer) this.#replica.disconnected(cause)
    this.#group?.disconnected(peer)
  }

  /** But for the group: its turn comes when all this is settled. */
  tick(): void {
    this.#master?.serving.tick()
    this.#relay?.tick()
    // Where nobody is elected unless it is asked for, a master waits for the others.
    if (this.#master?.hasLostMajority === true && this.#group?.election.isAutomatic !== false)
      this.stepDown('no-majority', 'too few members of the group are heard')
    this.#replica?.tick()
    this.#preference.tick(this.#replica, this.#group)
  }
}
