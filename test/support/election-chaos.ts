// A random life of a group that elects its own master: 3 or 5 sites or more, over a network that loses, repeats,
// delays, reorders and parts, with crashes that lose what was not persisted, slow disks, hand-overs, sites that join
// and that are removed. Judged at every step, and healed at the end: then it must come to rest, and make progress.

import assert from 'node:assert/strict'
import { isCoterieError } from '../../src/base/errors.ts'
import type { Term } from '../../src/base/lsn.ts'
import { majorityOf, memberOf } from '../../src/base/membership.ts'
import { Prng } from '../../src/base/prng.ts'
import type { CoreEvent, Effect } from '../../src/replication/effects.ts'
import type { Message } from '../../src/replication/messages.ts'
import type { Timings } from '../../src/replication/timings.ts'
import { type CoreCluster, randomCluster } from './core-cluster.ts'
import { CoreGroup, neverCodes, shortTimings } from './core-group.ts'
import { startPlace } from './fake-records.ts'
import type { FakeSite } from './fake-site.ts'

export interface ElectionChaosResult {
  readonly steps: number
  readonly messages: number
  readonly commits: number
  readonly reigns: number
  readonly failedElections: number
  readonly crashes: number
  readonly partitions: number
  readonly handOvers: number
  readonly failedHandOvers: number
  readonly stepDownsWithoutMajority: number
  readonly rewinds: number
  readonly snapshots: number
  readonly joins: number
  readonly removals: number
  readonly wipes: number
  /** Stores that were lost, where the log does not reach back. */
  readonly rowsLost: number
}

/** Small bounds too. */
const timings: Partial<Timings> = {
  ...shortTimings,
  inflightBytesMax: 800,
  readBytesMax: 300,
  recentBytesMax: 400,
  recentBatchesMax: 6,
  heldBytesMax: 500,
  heldBatchesMax: 8,
  snapshotTimeoutMs: 1_500,
}

interface Noted {
  readonly crc: number
  /** The term whose master committed it. */
  readonly byTerm: number
}

export class ElectionChaos {
  readonly cluster: CoreCluster
  readonly group: CoreGroup
  readonly #prng: Prng
  readonly #founders: number
  /** Who reigned in which term. */
  readonly #reigns = new Map<number, string>()
  /** By LSN, each record that a master with a majority behind it has called committed. */
  readonly #ledger = new Map<number, Noted>()
  /** How often a site crashes right after it has voted. */
  readonly #forgetting: number
  readonly #losesRows: boolean
  #isHealing = false
  #steps = 0
  #keys = 0
  #extra = 0
  #sums = {
    commits: 0,
    crashes: 0,
    partitions: 0,
    handOvers: 0,
    failedHandOvers: 0,
    failedElections: 0,
    stepDownsWithoutMajority: 0,
    rewinds: 0,
    snapshots: 0,
    joins: 0,
    removals: 0,
    wipes: 0,
    rowsLost: 0,
  }

  constructor(seed: number) {
    this.#prng = new Prng(seed)
    const prng = this.#prng
    this.#founders = prng.pick([3, 3, 5])
    const isHarsh = prng.chance(0.7)
    this.#forgetting = prng.pick([0, 0.05, 0.3])
    // Not by chance: the other lives stay as they are.
    this.#losesRows = seed % 7 === 3
    this.cluster = randomCluster(prng, { isHarsh, timings })
    if (prng.chance(0.5)) this.cluster.alter = (message) => this.#altered(message)
    this.group = new CoreGroup(this.cluster, {
      workMs: prng.pick([
        [1, 1],
        [1, 30],
        [1, 120],
      ] as const),
    })
    this.cluster.onEffect = (site, effect) => this.#judge(site, effect)
    this.cluster.onStep = () => {
      this.#steps++
    }
    this.group.onReign = (site) => this.#judgeReign(site)
    // Whatever minority is lost, a majority that can be elected stays: else the only ones that have a record may be such
    // as never become master, and the group waits for ever.
    let neverMaster = 1
    for (let i = 0; i < this.#founders; i++) {
      let priority = prng.pick([100, 100, 100, 50, 0])
      if (priority === 0 && (i === 0 || neverMaster-- <= 0)) priority = 100
      const site = i === 0 ? this.group.found('s0', { priority }) : this.group.join(`s${i}`, { priority })
      if (prng.chance(0.3)) site.slowness = prng.pick([0.3, 4])
    }
  }

  run(): ElectionChaosResult {
    this.cluster.run(1_500)
    const acts = this.#prng.between(40, 110)
    for (let i = 0; i < acts; i++) {
      this.cluster.run(this.#pauseMs())
      this.#act()
    }
    this.#heal()
    const { messages } = this.cluster
    for (const site of this.group.sites) this.#count(site)
    return { steps: this.#steps, messages, reigns: this.#reigns.size, ...this.#sums }
  }

  #pauseMs(): number {
    const prng = this.#prng
    if (prng.chance(0.3)) return prng.fraction() * 10
    return prng.chance(0.25) ? prng.between(200, 900) : prng.between(1, 80)
  }

  // ---- acting

  #act(): void {
    const prng = this.#prng
    const site = prng.pick(this.group.sites)
    const dice = prng.below(100)
    if (dice < 45) this.#write()
    else if (dice < 53) this.#crash(site)
    else if (dice < 57) this.#crash(this.group.master ?? site)
    else if (dice < 60) this.#powerCut()
    else if (dice < 72) this.#restart()
    else if (dice < 78) this.#part()
    else if (dice < 85) this.cluster.heal()
    else if (dice < 92) this.#handOver()
    else if (dice < 94) site.trim(prng.below(Math.max(1, site.last.lsn) + 1))
    else if (dice < 95) this.cluster.closeLinks(site)
    else if (dice < 96) this.#stepDown()
    else if (dice < 98) this.#join()
    else if (dice < 99) this.#remove(site)
    else this.#wipe(site)
  }

  #write(): void {
    const prng = this.#prng
    for (const site of this.group.sites) {
      if (!site.isUp || site.core.role !== 'master' || !site.core.gate().open || !this.#hasBegun(site))
        continue
      const texts = Array.from({ length: prng.between(1, 6) }, () => `k${prng.below(30)}=${this.#keys++}`)
      site.write(texts)
    }
  }

  /** The first record of the reign is there. */
  #hasBegun(site: FakeSite): boolean {
    return site.last.term === site.core.term
  }

  #crash(site: FakeSite): void {
    if (!site.isUp) return
    this.#sums.crashes++
    this.#count(site)
    this.group.crash(site.name)
  }

  /** Several sites at once, and up again before anybody has noticed: what was not synced is gone everywhere. */
  #powerCut(): void {
    for (const site of this.group.sites) {
      if (!site.isUp || !this.#prng.chance(0.6)) continue
      this.#crash(site)
      this.group.restart(site.name)
    }
  }

  #restart(): void {
    const down = this.group.sites.filter((site) => !site.isUp)
    if (down.length === 0) return
    const site = this.#prng.pick(down)
    if (this.#losesRows && this.#mayLoseRows(site) && site.loseRows()) this.#sums.rowsLost++
    this.group.restart(site.name)
  }

  /** Who lacks rows cannot reign: one at a time, and all others can. */
  #mayLoseRows(site: FakeSite): boolean {
    if (this.#sums.wipes > 0 || this.#sums.removals > 0 || site.name === 's0') return false
    return this.group.sites.every((each) => !each.hasLostRows && this.group.priorityOf(each.name) > 0)
  }

  #part(): void {
    const prng = this.#prng
    this.#sums.partitions++
    const all = this.group.sites
    const one = prng.chance(0.4) ? [this.group.master ?? prng.pick(all)] : all.filter(() => prng.chance(0.4))
    const other = all.filter((site) => !one.includes(site))
    if (prng.chance(0.6)) this.cluster.part(one, other)
    else if (prng.chance(0.5)) for (const a of one) for (const b of other) this.#cutOneWay(a, b)
    else for (let i = 0; i < all.length; i++) this.#cutOneWay(prng.pick(all), prng.pick(all))
  }

  #cutOneWay(from: FakeSite, to: FakeSite): void {
    this.cluster.cut.add(`${from.name}>${to.name}`)
  }

  #tryHandOver(master: FakeSite, heir: string): void {
    try {
      this.group.handOver(master, heir)
    } catch (error) {
      // Who is still catching up is not handed anything, nor a second one while a first one is asking.
      if (!isCoterieError(error, 'TRANSFER_FAILED') && !isCoterieError(error, 'INVALID_STATE')) throw error
      this.#sums.failedHandOvers++
    }
  }

  #handOver(): void {
    const { master } = this.group
    if (master === undefined || !master.core.gate().open || !this.#hasBegun(master)) return
    // Now and then one that is still catching up, which is refused.
    const any = this.#prng.chance(0.2)
    const able = master.core.replicas.filter((replica) => replica.votes && (any || replica.inStep))
    const heir = able.length === 0 ? undefined : this.#prng.pick(able).site
    if (heir === undefined || this.#priorityAt(master, heir) === 0) return
    if (this.#prng.chance(0.5)) this.#tryHandOver(master, heir)
    else {
      const asking = this.cluster.get(heir)
      const { now } = this.cluster
      if (asking.isUp && asking.core.role === 'replica')
        asking.step((core) => core.askTakeOver({ address: '', now }))
    }
  }

  #priorityAt(master: FakeSite, site: string): number | undefined {
    return master.core.sites.find((each) => each.site === site)?.priority
  }

  #stepDown(): void {
    const { master } = this.group
    master?.step((core) => core.stepDown(this.cluster.now))
  }

  #join(): void {
    if (this.#extra >= 2) return
    this.#sums.joins++
    this.group.join(`x${this.#extra++}`)
  }

  /** Not so many that a majority of the rest may be down for good. */
  #remove(site: FakeSite): void {
    const members = this.group.master?.core.membership?.members.length ?? 0
    if (members < 4 || site.name === 's0') return
    this.#sums.removals++
    this.group.remove(site.name)
  }

  /** One site only loses its disk: a group survives the loss of a minority for good, no more. */
  #wipe(site: FakeSite): void {
    if (this.#losesRows || this.#sums.wipes > 0 || this.#sums.removals > 0 || this.#founders < 5) return
    this.#sums.wipes++
    this.#crash(site)
    site.wipe()
  }

  /** What a canvass says is a hint: whoever believes a wrong one asks for votes that it must not get. */
  #altered(message: Message): Message {
    const prng = this.#prng
    if (message.type !== 'canvass' || this.#isHealing || prng.chance(0.5)) return message
    const last = prng.chance(0.7) ? startPlace : message.last
    const priority = message.priority === 0 ? 0 : prng.pick([1, 100, 500])
    return { ...message, last, priority, term: Math.max(0, message.term - prng.below(2)) as Term }
  }

  /** Right after a promise is when it is best forgotten. */
  #crashAfterVote(site: FakeSite): void {
    if (this.#isHealing || !this.#prng.chance(this.#forgetting)) return
    this.cluster.after(this.#prng.fraction() * 12, () => {
      if (!site.isUp) return
      this.#crash(site)
      this.group.restart(site.name)
    })
  }

  // ---- judging

  #judge(site: FakeSite, effect: Effect): void {
    switch (effect.kind) {
      case 'commit':
        this.#judgeCommit(site, effect)
        return
      case 'stopped':
        if (effect.code !== undefined && neverCodes.has(effect.code)) {
          assert.fail(`${site.name} stopped: ${effect.code} ${effect.message}`)
        }
        return
      case 'rewind':
        for (const [lsn, { crc }] of this.#ledger) {
          const isLost = lsn > effect.to && site.recordAt(lsn)?.place.crc === crc
          assert.ok(!isLost, `${site.name} is to undo the commit at ${lsn}`)
        }
        return
      case 'steppedDown':
        if (effect.reason === 'no-majority') this.#sums.stepDownsWithoutMajority++
        return
      case 'event':
        this.#judgeEvent(site, effect.event)
        return
      default:
    }
  }

  #judgeEvent(site: FakeSite, event: CoreEvent): void {
    switch (event.kind) {
      case 'diverged':
        assert.fail(`${site.name} diverged`)
        break
      case 'duplicateMaster':
        assert.fail(`${site.name} sees two masters of term ${event.term}`)
        break
      case 'handedOver':
        this.#sums.handOvers++
        break
      case 'handOverFailed':
        this.#sums.failedHandOvers++
        break
      case 'voted':
        this.#crashAfterVote(site)
        break
      case 'electionFailed':
        this.#sums.failedElections++
        break
      default:
    }
  }

  /** One master in a term, and in its log every record that an earlier one has committed. */
  #judgeReign(site: FakeSite): void {
    const { term } = site.core
    const before = this.#reigns.get(term)
    assert.equal(before, undefined, `${site.name} reigns in term ${term}, and so does ${before}`)
    this.#reigns.set(term, site.name)
    for (const [lsn, { crc, byTerm }] of this.#ledger) {
      if (byTerm >= term || lsn <= site.disk.base.lsn) continue
      assert.equal(site.recordAt(lsn)?.place.crc, crc, `${site.name} reigns without the commit at ${lsn}`)
    }
  }

  #judgeCommit(site: FakeSite, effect: Extract<Effect, { kind: 'commit' }>): void {
    // Also what a replica hears is permanent is the word of a master.
    if (site.core.role === 'master') this.#note(site, effect.committedLsn)
    else this.#note(site, effect.permanentLsn)
    if (site.core.role === 'master') this.#sums.commits++
  }

  #note(site: FakeSite, lsn: number): void {
    const byTerm = site.core.term
    for (let each = lsn; each > site.disk.base.lsn; each--) {
      const crc = site.recordAt(each)?.place.crc as number
      const known = this.#ledger.get(each)
      if (known !== undefined) {
        assert.equal(known.crc, crc, `two records are committed at ${each}`)
        break
      }
      this.#ledger.set(each, { crc, byTerm })
    }
  }

  // ---- the end

  #heal(): void {
    const { cluster, group } = this
    this.#isHealing = true
    cluster.heal()
    Object.assign(cluster.network, { loss: 0.02, duplication: 0.02 })
    for (const site of group.sites) if (!site.isUp) group.restart(site.name)
    const lowest = Math.max(0, ...this.#ledger.keys())
    let isDone = false
    let tries = 0
    for (; tries < 300 && !isDone; tries++) {
      cluster.run(100)
      if (tries % 10 === 5 && tries < 200) this.#write()
      isDone = tries > 20 && this.#isConverged(lowest)
    }
    if (!isDone) assert.fail('the group does not come to rest')
  }

  story(): string {
    const lines = this.group.sites.map((site) => {
      const { role, term, vote, committedLsn, appliedLsn, membership } = site.core
      const members = membership?.members.map((each) => each.site).join(',')
      const parts = [role, `term ${term}`, `vote ${vote}`, `last ${site.last.term}:${site.last.lsn}`]
      const more = [`committed ${committedLsn}`, `applied ${appliedLsn}`, `members ${members}`]
      const out = this.group.isOut(site.name) ? ['out'] : []
      return `${site.name} ${[...parts, ...more, ...out].join(' ')}`
    })
    return lines.join('\n')
  }

  /** All who belong to the group have its log, and it has grown since the end of the faults. */
  #isConverged(lowest: number): boolean {
    const { master } = this.group
    const { membership } = master?.core ?? {}
    if (master === undefined || membership === undefined || !master.core.hasPermanentInReign) return false
    const { lsn, crc } = master.last
    if (lsn <= lowest || master.core.committedLsn !== lsn) return false
    let voters = 0
    for (const site of this.group.sites) {
      const member = memberOf(membership, site.name)
      if (member === undefined || member.incarnation !== site.disk.incarnation) {
        if (this.group.isOut(site.name)) continue
        return false
      }
      voters++
      const { last } = site
      if (last.lsn !== lsn || last.crc !== crc || site.core.appliedLsn !== lsn) return false
      if (site.core.committedLsn !== lsn || site.core.permanentLsn !== lsn) return false
    }
    assert.ok(voters >= majorityOf(membership), 'a majority of the members is there')
    for (const site of this.group.sites) {
      if (this.group.isOut(site.name)) continue
      assert.equal(site.storeText(), master.storeText(), 'equal logs make equal stores')
    }
    return true
  }

  #count(site: FakeSite): void {
    const { counters } = site.core
    this.#sums.snapshots += counters.snapshotsReceived
    this.#sums.rewinds += counters.rewinds
  }
}
