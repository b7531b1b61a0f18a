// A random life of two sites that go on alone while the other one is away: a network that loses, parts and heals,
// crashes that lose what was not synced, hand-overs. Both are master at times. Judged at every step, and healed at the
// end: then one is master, both have the same, and nothing that both had has been lost.

import assert from 'node:assert/strict'
import { isCoterieError } from '../../src/base/errors.ts'
import { preferredMasterOf, type TwoSites, withTwoSites } from '../../src/base/membership.ts'
import { Prng } from '../../src/base/prng.ts'
import type { Effect } from '../../src/replication/effects.ts'
import { type CoreCluster, randomCluster } from './core-cluster.ts'
import { CoreGroup, neverCodes, shortTimings } from './core-group.ts'
import type { FakeSite } from './fake-site.ts'

export interface PairChaosResult {
  readonly reigns: number
  /** Times at which both were master. */
  readonly double: number
  readonly crashes: number
  readonly partitions: number
  readonly rewinds: number
  /** Commits that were undone, as they may be where both went on alone. */
  readonly undone: number
  readonly commits: number
  readonly handOvers: number
  /** Of what the two do while one of them is away. */
  readonly changes: number
}

export class PairChaos {
  readonly cluster: CoreCluster
  readonly group: CoreGroup
  readonly preferred: string | undefined
  readonly #prng: Prng
  readonly #twoSites: TwoSites
  readonly #reigns = new Map<number, string>()
  /** By LSN, what a master knew to be on the disks of both. */
  readonly #permanent = new Map<number, number>()
  #keys = 0
  #sums = {
    double: 0,
    crashes: 0,
    partitions: 0,
    rewinds: 0,
    undone: 0,
    commits: 0,
    handOvers: 0,
    changes: 0,
  }

  constructor(seed: number) {
    this.#prng = new Prng(seed)
    const prng = this.#prng
    const isHarsh = prng.chance(0.6)
    this.cluster = randomCluster(prng, { isHarsh, timings: shortTimings })
    this.preferred = prng.pick([undefined, 's0', 's1'])
    const { preferred } = this
    this.#twoSites = preferred === undefined ? 'available' : { preferredMaster: preferred }
    const twoSites = this.#twoSites
    const workMs = prng.pick([
      [1, 1],
      [1, 30],
      [1, 120],
    ] as const)
    this.group = new CoreGroup(this.cluster, { workMs, twoSites })
    this.cluster.onEffect = (site, effect) => this.#judge(site, effect)
    this.group.onReign = (site) => this.#judgeReign(site)
    this.group.found('s0')
    const second = this.group.join('s1')
    if (prng.chance(0.3)) second.slowness = prng.pick([0.3, 4])
  }

  run(): PairChaosResult {
    assert.ok(this.cluster.runUntil(20_000, () => this.group.master?.core.membership?.members.length === 2))
    // Now and then something happens before both know that they are two.
    if (this.#prng.chance(0.5)) this.cluster.run(500)
    const acts = this.#prng.between(40, 110)
    for (let i = 0; i < acts; i++) {
      const prng = this.#prng
      this.cluster.run(prng.chance(0.3) ? prng.between(200, 1_500) : prng.between(1, 80))
      this.#act()
    }
    this.#heal()
    return { reigns: this.#reigns.size, ...this.#sums }
  }

  // ---- acting

  #act(): void {
    const prng = this.#prng
    const site = prng.pick(this.group.sites)
    const dice = prng.below(100)
    if (this.#masters.length > 1) this.#sums.double++
    if (dice < 45) this.#write()
    else if (dice < 57) this.#crash(site)
    else if (dice < 60) for (const each of this.group.sites) this.#crash(each)
    else if (dice < 72) this.#restart()
    else if (dice < 80) this.#part()
    else if (dice < 88) this.cluster.heal()
    else if (dice < 94) this.#handOver()
    else if (dice < 96) this.#changeMode()
    else if (dice < 98) site.trim(prng.below(Math.max(1, site.last.lsn) + 1))
    else this.cluster.closeLinks(site)
  }

  get #masters(): FakeSite[] {
    return this.group.sites.filter((site) => site.isUp && site.core.role === 'master')
  }

  #write(): void {
    const prng = this.#prng
    for (const site of this.#masters) {
      if (!site.core.gate().open || site.last.term !== site.core.term) continue
      site.write(Array.from({ length: prng.between(1, 6) }, () => `k${prng.below(30)}=${this.#keys++}`))
    }
  }

  #crash(site: FakeSite): void {
    if (!site.isUp) return
    this.#sums.crashes++
    this.group.crash(site.name)
  }

  #restart(): void {
    for (const site of this.group.sites)
      if (!site.isUp && this.#prng.chance(0.7)) this.group.restart(site.name)
  }

  #part(): void {
    this.#sums.partitions++
    const [one, other] = this.group.sites as [FakeSite, FakeSite]
    if (this.#prng.chance(0.7)) this.cluster.part([one], [other])
    else this.cluster.cut.add(this.#prng.chance(0.5) ? 's0>s1' : 's1>s0')
  }

  /** Strict, or what they began with, as a driver changes it. */
  #changeMode(): void {
    for (const site of this.#masters) {
      const { core } = site
      const { membership } = core
      if (membership === undefined || membership.lsn > core.permanentLsn || !core.hasPermanentInReign)
        continue
      if (!core.gate().open) continue
      const isStrict = (membership.twoSites ?? 'strict') === 'strict'
      site.writeMembers(withTwoSites(membership, isStrict ? this.#twoSites : 'strict'))
      this.#sums.changes++
    }
  }

  #handOver(): void {
    const master = this.#prng.pick(this.#masters.length === 0 ? [undefined] : this.#masters)
    const heir = master?.core.replicas.find(({ votes, inStep }) => votes && inStep)?.site
    if (master === undefined || heir === undefined || !master.core.gate().open) return
    try {
      this.group.handOver(master, heir)
      this.#sums.handOvers++
    } catch (error) {
      if (!isCoterieError(error)) throw error
    }
  }

  // ---- judging

  #judge(site: FakeSite, effect: Effect): void {
    switch (effect.kind) {
      case 'commit':
        if (site.core.role === 'master') this.#sums.commits++
        for (let lsn: number = effect.permanentLsn; lsn > site.disk.base.lsn; lsn--) {
          const crc = site.recordAt(lsn)?.place.crc as number
          const known = this.#permanent.get(lsn)
          assert.ok(known === undefined || known === crc, `two records are permanent at ${lsn}`)
          if (known !== undefined) break
          this.#permanent.set(lsn, crc)
        }
        return
      case 'stopped':
        if (effect.code !== undefined && neverCodes.has(effect.code)) {
          assert.fail(`${site.name} stopped: ${effect.code} ${effect.message}`)
        }
        return
      case 'rewind':
        this.#judgeRewind(site, effect.to)
        return
      case 'event':
        assert.ok(
          effect.event.kind !== 'diverged' && effect.event.kind !== 'duplicateMaster',
          effect.event.kind,
        )
        return
      default:
    }
  }

  #judgeRewind(site: FakeSite, to: number): void {
    this.#sums.rewinds++
    for (const [lsn, crc] of this.#permanent) {
      const isLost = lsn > to && site.recordAt(lsn)?.place.crc === crc
      assert.ok(!isLost, `${site.name} is to undo what both have at ${lsn}`)
    }
    this.#sums.undone += Math.max(0, site.core.committedLsn - to)
    const isPreferred = site.name === preferredMasterOf(site.core.membership)
    assert.ok(!isPreferred || to >= site.core.committedLsn, `${site.name} is preferred, and undoes a commit`)
  }

  /** One master in a term, and in its log everything that both have. */
  #judgeReign(site: FakeSite): void {
    const { term } = site.core
    const before = this.#reigns.get(term)
    assert.equal(before, undefined, `${site.name} reigns in term ${term}, and so does ${before}`)
    this.#reigns.set(term, site.name)
    for (const [lsn, crc] of this.#permanent) {
      if (lsn <= site.disk.base.lsn) continue
      assert.equal(site.recordAt(lsn)?.place.crc, crc, `${site.name} reigns without what both have at ${lsn}`)
    }
  }

  // ---- the end

  #heal(): void {
    const { cluster, group } = this
    cluster.heal()
    Object.assign(cluster.network, { loss: 0.02, duplication: 0.02 })
    for (const site of group.sites) if (!site.isUp) group.restart(site.name)
    for (let tries = 0; tries < 300; tries++) {
      cluster.run(100)
      if (tries % 10 === 5 && tries < 200) this.#write()
      if (tries > 30 && this.#isAtRest()) return
    }
    assert.fail('the two do not come to rest')
  }

  #isAtRest(): boolean {
    const [master, ...more] = this.#masters
    if (master === undefined || more.length > 0 || !master.core.hasPermanentInReign) return false
    const preferred = preferredMasterOf(master.core.membership)
    if (preferred !== undefined && master.name !== preferred) return false
    const { lsn, crc } = master.last
    for (const site of this.group.sites) {
      if (site.last.lsn !== lsn || site.last.crc !== crc || site.core.appliedLsn !== lsn) return false
      if (site.core.permanentLsn !== lsn) return false
    }
    const [one, other] = this.group.sites as [FakeSite, FakeSite]
    assert.equal(one.storeText(), other.storeText(), 'equal logs make equal stores')
    return true
  }

  story(): string {
    return this.group.sites
      .map((site) => {
        const { role, term, vote, committedLsn, permanentLsn } = site.core
        const log = `last ${site.last.term}:${site.last.lsn} committed ${committedLsn} permanent ${permanentLsn}`
        return `${site.name} ${site.isUp ? role : 'down'} term ${term} vote ${vote} ${log}`
      })
      .join('\n')
  }
}
