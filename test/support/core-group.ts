// Sites of a CoreCluster as one group that elects its own master: what a real driver of a group does, at its least.
// It keeps links between all sites, follows the master that its core hears of, reigns when its core is elected, and as
// master makes a member of whoever has caught up. All of it happens a while after the core has asked, as in life.

import { CoterieError, type ErrorCode } from '../../src/base/errors.ts'
import {
  type Members,
  mayGoOnAlone,
  memberOf,
  type TwoSites,
  withMember,
  withoutMember,
  withTwoSites,
} from '../../src/base/membership.ts'
import type { AckPolicy } from '../../src/base/policy.ts'
import type { PeerId } from '../../src/replication/core-options.ts'
import type { CoreEvent, Effect } from '../../src/replication/effects.ts'
import type { Timings } from '../../src/replication/timings.ts'
import type { CoreCluster } from './core-cluster.ts'
import type { FakeSite } from './fake-site.ts'

export interface GroupSettings {
  readonly acks?: AckPolicy
  /** What two sites do while one of them is away; of a group that is founded. */
  readonly twoSites?: TwoSites
  /** False: no site begins an election of its own accord. */
  readonly automatic?: boolean
  /** How long a driver takes to do what its core asks for. */
  readonly workMs?: readonly [min: number, max: number]
}

interface Seat {
  readonly site: FakeSite
  readonly priority: number
  /** Connections that this site has made, by the site at the other end. */
  readonly links: Map<string, PeerId>
  /** The master that it was told of. */
  master: string | undefined
  /** Whom it follows, or tries to. */
  following: string | undefined
  /** Has been turned away, or has left. */
  isOut: boolean
  isReviewing: boolean
}

const reviewMs = 25

/** Short waits, so that much happens in a short life. */
export const shortTimings: Partial<Timings> = {
  heartbeatMs: 60,
  electionTimeoutMs: 200,
  helloMs: 250,
  handOverTimeoutMs: 400,
  silenceTimeoutMs: 900,
  initialTimeoutMs: 600,
  ackTimeoutMs: 600,
  stuckTimeoutMs: 1_500,
}

/** What only a defect can cause among sites of one group. */
export const neverCodes: ReadonlySet<string> = new Set([
  'REWIND_REFUSED',
  'FOREIGN_HISTORY',
  'DUPLICATE_MASTER',
  'HANDSHAKE_FAILED',
])

export class CoreGroup {
  readonly cluster: CoreCluster
  readonly #settings: GroupSettings
  readonly #seats = new Map<string, Seat>()
  /** Sites that the master is to remove. */
  readonly #unwanted = new Set<string>()
  onReign: ((site: FakeSite) => void) | undefined

  constructor(cluster: CoreCluster, settings: GroupSettings = {}) {
    this.cluster = cluster
    this.#settings = settings
    cluster.drivers.push((site, effect) => this.#effect(site, effect))
    cluster.onClosed = (a, b, peer) => this.#closed(a, b, peer)
  }

  // ---- what tests do

  /** The first site of the group: it has a database, and makes itself the only member. */
  found(name: string, options: { priority?: number } = {}): FakeSite {
    const site = this.join(name, { ...options, databaseId: 'db' })
    const { now } = this.cluster
    this.serve(site)
    const { incarnation } = site.disk
    const { twoSites = 'strict' } = this.#settings
    const alone = { members: [{ site: name, address: name, incarnation }], removed: [] }
    site.writeMembers(withTwoSites(alone, twoSites))
    site.step((core) => core.announce(now))
    return site
  }

  /** A master that was not elected. */
  serve(site: FakeSite): void {
    site.serve(this.#serveOptions(site))
    this.onReign?.(site)
  }

  /** Another site, without data; the master makes it a member once it has caught up. */
  join(name: string, options: { priority?: number; databaseId?: string } = {}): FakeSite {
    const { priority = 100, ...rest } = options
    const site = this.cluster.sites.get(name) ?? this.cluster.add(name, rest)
    const seat = {
      site,
      priority,
      links: new Map(),
      master: undefined,
      following: undefined,
      isOut: false,
      isReviewing: false,
    }
    this.#seats.set(name, seat)
    this.#enter(seat)
    return site
  }

  crash(name: string): void {
    this.#seats.get(name)?.links.clear()
    this.cluster.crash(name)
  }

  restart(name: string): void {
    this.cluster.restart(name)
    const seat = this.#seats.get(name)
    if (seat === undefined) return
    seat.master = undefined
    seat.following = undefined
    seat.isReviewing = false
    this.#enter(seat)
  }

  remove(name: string): void {
    this.#unwanted.add(name)
  }

  /** Of the sites that are up and think so: the one of the highest term. */
  get master(): FakeSite | undefined {
    let best: FakeSite | undefined
    for (const { site } of this.#seats.values()) {
      if (!site.isUp || site.core.role !== 'master') continue
      if (best === undefined || site.core.term > best.core.term) best = site
    }
    return best
  }

  get sites(): FakeSite[] {
    return [...this.#seats.values()].map((seat) => seat.site)
  }

  priorityOf(name: string): number {
    return this.#seats.get(name)?.priority ?? 0
  }

  isOut(name: string): boolean {
    return this.#seats.get(name)?.isOut === true
  }

  // ---- a driver

  #serveOptions(site: FakeSite): { acks: AckPolicy; elections: true; address: string } {
    return { acks: this.#settings.acks ?? 'quorum', elections: true, address: site.name }
  }

  #later(site: FakeSite, run: () => void): void {
    const [min, max] = this.#settings.workMs ?? [1, 1]
    const ms = max > min ? min + this.cluster.prng.fraction() * (max - min) : min
    site.later(ms, run)
  }

  #enter(seat: Seat): void {
    const { site, priority } = seat
    const { now } = this.cluster
    seat.links.clear()
    if (seat.isOut) return
    const { automatic = true } = this.#settings
    site.step((core) => core.joinGroup({ address: site.name, priority, automatic, now }))
    for (const other of this.#seats.values()) if (other !== seat) this.#dial(seat, other.site)
    if (seat.isReviewing) return
    seat.isReviewing = true
    this.#review(seat)
  }

  #dial(seat: Seat, to: FakeSite): void {
    const { site, links } = seat
    if (!site.isUp || !to.isUp || seat.isOut || links.has(to.name)) return
    const peer = this.cluster.connect(site, to)
    links.set(to.name, peer)
    site.step((core) => core.linked({ peer, now: this.cluster.now }))
  }

  #closed(a: FakeSite, b: FakeSite, peer: PeerId): void {
    for (const [one, other] of [
      [a, b],
      [b, a],
    ] as const) {
      const seat = this.#seats.get(one.name)
      if (seat?.links.get(other.name) !== peer) continue
      seat.links.delete(other.name)
    }
  }

  /** Every so often: connections that are missing, members to add or to remove, a master to follow. */
  #review(seat: Seat): void {
    const { site } = seat
    site.later(reviewMs, () => {
      if (seat.isOut) return
      // Only when it cannot be undone any more: until then this site may be needed.
      const { membership, permanentLsn } = site.core
      if (membership?.removed.includes(site.name) === true && membership.lsn <= permanentLsn)
        this.#leave(seat)
      for (const other of this.#seats.values())
        if (other !== seat && !other.isOut) this.#dial(seat, other.site)
      if (site.core.role === 'master') this.#reviewMembers(site)
      else this.#follow(seat)
      this.#review(seat)
    })
  }

  #reviewMembers(site: FakeSite): void {
    const { core } = site
    const { membership } = core
    if (membership === undefined || !core.hasPermanentInReign || membership.lsn > core.permanentLsn) return
    if (!core.gate().open) return
    const change = this.#changeOf(site, membership)
    if (change !== undefined) site.writeMembers(change)
  }

  #changeOf(site: FakeSite, members: Members): Members | undefined {
    for (const name of this.#unwanted) {
      if (name !== site.name && memberOf(members, name) !== undefined) return withoutMember(members, name)
    }
    for (const replica of site.core.replicas) {
      const { site: name, member, inStep } = replica
      if (member === undefined || !inStep || memberOf(members, name) !== undefined) continue
      if (members.removed.includes(name)) continue
      if (mayGoOnAlone(members)) return withTwoSites(members, 'strict')
      return withMember(members, { site: name, ...member })
    }
    return undefined
  }

  #follow(seat: Seat): void {
    const { site, master } = seat
    const { core } = site
    if (master === undefined || master === site.name || !site.isUp || seat.isOut) return
    if (core.role === 'master' || site.hasWork) return
    if (core.role === 'replica') {
      if (core.heardMaster !== undefined || seat.following === master) return
      site.step((each) => each.leave({ now: this.cluster.now, kind: 'cancel' }))
      return
    }
    const to = this.cluster.sites.get(master)
    if (to === undefined) return
    seat.following = master
    this.cluster.follow(site.name, master, { address: master, member: { address: site.name } })
  }

  #effect(site: FakeSite, effect: Effect): void {
    const seat = this.#seats.get(site.name)
    if (seat === undefined) return
    switch (effect.kind) {
      case 'event':
        this.#event(seat, effect.event)
        return
      case 'stopped':
        seat.following = undefined
        if (isFinal(effect.code)) this.#leave(seat)
        if (effect.master !== undefined) seat.master = effect.master
        else if (effect.reason !== 'cancelled') seat.master = undefined
        this.#later(site, () => this.#follow(seat))
        return
      case 'disconnect':
        // On a transport without connections nothing else tells that a link has ended.
        for (const [name, peer] of seat.links) if (peer === effect.peer) seat.links.delete(name)
        return
      case 'elected':
        seat.master = undefined
        this.#later(site, () => this.#reign(site))
        return
      default:
    }
  }

  #reign(site: FakeSite): void {
    if (site.core.role !== 'none') {
      site.step((core) => core.electionLost(this.cluster.now))
      return
    }
    if (site.reign(this.#serveOptions(site))) this.onReign?.(site)
  }

  #event(seat: Seat, event: CoreEvent): void {
    const { site } = seat
    switch (event.kind) {
      case 'masterFound':
        seat.master = event.address
        this.#later(site, () => this.#follow(seat))
        return
      case 'takeOverAsked':
        this.#later(site, () => this.#obey(site, event.site))
        return
      case 'refusedByGroup':
        if (isFinal(event.code)) this.#leave(seat)
        return
      default:
    }
  }

  /** Hands over to who has asked, if that is still possible. */
  #obey(site: FakeSite, to: string): void {
    try {
      if (site.core.role === 'master') this.handOver(site, to)
    } catch (error) {
      if (!(error instanceof CoterieError)) throw error
    }
  }

  handOver(from: FakeSite, to: string): void {
    from.step((core) => core.handOver({ site: to, now: this.cluster.now }))
  }

  #leave(seat: Seat): void {
    if (seat.isOut) return
    seat.isOut = true
    const { site } = seat
    this.#later(site, () => {
      const { now } = this.cluster
      site.step((core) => {
        core.leave({ now, kind: 'cancel' })
        core.leaveGroup(now)
      })
    })
  }
}

/** The group will never have the site, whenever it asks. */
function isFinal(code: ErrorCode | undefined): boolean {
  return code === 'SITE_WIPED' || code === 'MEMBER_REMOVED'
}
