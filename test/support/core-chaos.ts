// Random lives of a group under loss, repetition, reordering, crashes, partitions, full connections, trimmed logs and
// promotions by hand, judged after every step. One seed is one life; it always ends in the same way.
//
// What is judged: the invariants of the cores; that no site is asked to give up what is permanent; that each commit
// reported by a quorum is in the log of every later master; and that, once all is healed, all logs and stores are equal.
// With `leaves`, every site that is not master serves in its turn now and then, and some sites attach to such ones alone:
// they must never be told to undo anything.

import assert from 'node:assert/strict'
import type { Term } from '../../src/base/lsn.ts'
import type { AckPolicy, CommitException } from '../../src/base/policy.ts'
import { Prng } from '../../src/base/prng.ts'
import type { ServeOptions } from '../../src/replication/core-options.ts'
import type { Effect } from '../../src/replication/effects.ts'
import type { Timings } from '../../src/replication/timings.ts'
import { CoreCluster } from './core-cluster.ts'
import type { FakeSite } from './fake-site.ts'

export interface ChaosResult {
  readonly commits: number
  readonly promotions: number
  readonly crashes: number
  readonly snapshots: number
  readonly resumes: number
  readonly rewinds: number
  readonly gapsFilled: number
  readonly stepDowns: number
  readonly messages: number
  /** With `leaves`: replicas that were let in by one that serves in its turn, by how they came into step. */
  readonly below?: { readonly [plan: string]: number }
}

/** Small bounds and short waits, so that every limit is met in a short life. */
const timings: Partial<Timings> = {
  heartbeatMs: 60,
  silenceTimeoutMs: 700,
  initialTimeoutMs: 900,
  ackTimeoutMs: 500,
  stuckTimeoutMs: 1_500,
  inflightBytesMax: 600,
  readBytesMax: 200,
  ackBytesMax: 150,
  recentBytesMax: 300,
  recentBatchesMax: 6,
  heldBytesMax: 400,
  heldBatchesMax: 8,
  snapshotWindowBytesMax: 200,
  snapshotWindowChunksMax: 4,
  snapshotTimeoutMs: 1_500,
}

/** Refusals that only a defect can cause in a group that promotes as it should. */
const neverCodes = new Set(['REWIND_REFUSED', 'FOREIGN_HISTORY', 'DUPLICATE_MASTER', 'HANDSHAKE_FAILED'])

export class Chaos {
  readonly cluster: CoreCluster
  readonly #prng: Prng
  readonly #names: string[]
  /** Sites that only attach to those that serve in their turn. */
  readonly #leaves: readonly string[]
  /** Whom each site attached to last. */
  readonly #upstream = new Map<string, string>()
  readonly #below: Record<string, number> = {}
  /** Leaves that a master let in itself: it was still serving in its turn when they were to attach. */
  readonly #direct = new Set<string>()
  readonly #sites: number
  readonly #datagrams: boolean
  readonly #lossy: { loss: number; duplication: number; delayMaxMs: number; reorders: boolean }
  #chief = 's0'
  /** The operator numbers the promotions, so that no two of them have the same term. */
  #highestTerm = 0 as Term
  #settings: ServeOptions = {}
  #exceptions = new Map<string, AckPolicy | undefined>()
  /** By LSN, the checksum of each record that a quorum is known to have. */
  readonly #ledger = new Map<number, number>()
  readonly #followDue = new Map<FakeSite, number>()
  #isHealing = false
  #commits = 0
  #promotions = 0
  #crashes = 0
  #resumes = 0
  #counter = 0
  readonly #totals = { snapshots: 0, rewinds: 0, gapsFilled: 0, stepDowns: 0 }

  constructor(seed: number, options: { readonly leaves?: number } = {}) {
    this.#leaves = Array.from({ length: options.leaves ?? 0 }, (_, i) => `l${i}`)
    this.#prng = new Prng(seed)
    const prng = this.#prng
    this.#sites = prng.between(3, 5)
    this.#names = Array.from({ length: this.#sites }, (_, i) => `s${i}`)
    this.#datagrams = prng.chance(0.4)
    const isHarsh = prng.chance(0.7)
    this.#lossy = {
      loss: isHarsh ? prng.fraction() * 0.25 : 0,
      duplication: isHarsh ? prng.fraction() * 0.25 : 0,
      delayMaxMs: prng.between(1, 30),
      reorders: isHarsh && prng.chance(0.7),
    }
    this.cluster = new CoreCluster({
      seed: prng.next(),
      network: { ...this.#lossy, delayMinMs: 1 },
      syncMs: [0.5, prng.pick([2, 15, 60])],
      datagrams: this.#datagrams,
      timings,
    })
    this.cluster.onEffect = (site, effect) => this.#judge(site, effect)
    const isUneven = prng.chance(0.5)
    for (const [i, name] of this.#names.entries()) {
      const site = this.cluster.add(name, i === 0 ? { databaseId: 'db' } : {})
      if (isUneven) site.slowness = prng.pick([0.2, 1, 1, 8])
    }
    for (const name of this.#leaves) this.cluster.add(name)
  }

  run(): ChaosResult {
    const prng = this.#prng
    this.#promote(this.cluster.get('s0'))
    const steps = prng.between(40, 120)
    for (let i = 0; i < steps; i++) {
      this.cluster.run(this.#pauseMs())
      this.#serveInTurn()
      this.#followChief()
      this.#act()
    }
    this.#heal()
    for (const site of this.cluster.sites.values()) this.#count(site)
    const { commits, promotions, crashes } = {
      commits: this.#commits,
      promotions: this.#promotions,
      crashes: this.#crashes,
    }
    const { messages } = this.cluster
    const below = this.#leaves.length === 0 ? {} : { below: this.#below }
    return { commits, promotions, crashes, resumes: this.#resumes, messages, ...this.#totals, ...below }
  }

  #pauseMs(): number {
    const prng = this.#prng
    if (prng.chance(0.35)) return prng.fraction() * 8
    return prng.chance(0.15) ? prng.between(100, 1_000) : prng.between(1, 60)
  }

  // ---- acting

  #act(): void {
    const prng = this.#prng
    const site = this.cluster.get(prng.pick([...this.#names, ...this.#leaves]))
    const dice = prng.below(100)
    if (dice < 55) this.#write()
    else if (dice < 60) this.#crash(site)
    else if (dice < 63) this.#powerCut()
    else if (dice < 74) this.#restart()
    else if (dice < 79) this.#part()
    else if (dice < 85) this.cluster.heal()
    else if (dice < 91) this.#tryPromotion()
    else if (dice < 95) site.trim(prng.below(Math.max(1, site.last.lsn) + 1))
    else if (dice < 97) this.#congest(site)
    else if (dice < 98) site.step((core) => core.leave({ now: this.cluster.now, kind: 'stop' }))
    else if (dice < 99) site.step((core) => core.flushWindow(this.cluster.now))
    else this.#reconfigure(site)
  }

  #write(): void {
    const prng = this.#prng
    for (const site of this.cluster.sites.values()) {
      if (!site.isUp || site.core.role !== 'master' || !prng.chance(0.9)) continue
      const count = prng.between(1, 6)
      const texts: string[] = []
      for (let i = 0; i < count; i++) texts.push(`k${prng.below(30)}=${this.#counter++}`)
      const exceptions: CommitException[] = []
      if (prng.chance(0.15)) {
        const lsn = (site.last.lsn + prng.between(1, count)) as CommitException['lsn']
        const acks = prng.pick<AckPolicy | undefined>(['none', 'one', 'quorum', undefined])
        exceptions.push({ lsn, acks, durability: prng.pick(['sync', 'memory']) })
        this.#exceptions.set(`${site.core.term}:${lsn}`, exceptions[0]?.durability === 'sync' ? acks : 'none')
      }
      site.write(texts, exceptions)
    }
  }

  #crash(site: FakeSite): void {
    if (!site.isUp) return
    this.#crashes++
    this.#count(site)
    this.cluster.crash(site.name)
  }

  /** Several sites at once - best right after a commit was reported -, up again before anybody has noticed: what was not synced is gone everywhere. */
  #powerCut(surely?: FakeSite): void {
    if (this.#isHealing) return
    for (const site of this.cluster.sites.values()) {
      if (!site.isUp || (site !== surely && !this.#prng.chance(0.6))) continue
      this.#crash(site)
      this.cluster.restart(site.name)
    }
    this.#tryPromotion()
  }

  #restart(): void {
    const down = [...this.cluster.sites.values()].filter((site) => !site.isUp)
    if (down.length > 0) this.cluster.restart(this.#prng.pick(down).name)
  }

  #part(): void {
    const all = [...this.cluster.sites.values()]
    const one = all.filter(() => this.#prng.chance(0.4))
    const other = all.filter((site) => !one.includes(site))
    if (this.#prng.chance(0.7)) this.cluster.part(one, other)
    else for (const a of one) for (const b of other) this.cluster.cut.add(`${a.name}>${b.name}`)
  }

  #congest(site: FakeSite): void {
    for (const replica of site.core.replicas) {
      const { peer } = replica
      const congested = !site.full.has(peer)
      if (congested) site.full.add(peer)
      else site.full.delete(peer)
      site.step((core) => core.congested({ peer, congested, now: this.cluster.now }))
    }
  }

  #reconfigure(site: FakeSite): void {
    if (!site.isUp || site.core.role !== 'master' || site.name !== this.#chief) return
    this.#settings = this.#drawSettings()
    const { acks = 'quorum', window = 1 } = this.#settings
    site.step((core) => core.configure({ acks, window, now: this.cluster.now }))
  }

  #drawSettings(): ServeOptions {
    const prng = this.#prng
    const isQuorum = prng.chance(0.65)
    return {
      sites: this.#sites,
      acks: isQuorum ? 'quorum' : prng.pick<AckPolicy>(['none', 'one', 'all', 'allAvailable', 2, 'onePeer']),
      window: isQuorum || prng.chance(0.5) ? 1 : prng.between(2, 4),
      attest: prng.pick(['durable', 'durable', 'durable', 'applied', 'received']),
      mode: prng.chance(0.1) ? 'async' : 'sync',
      chunkRecords: prng.between(1, 5),
      chunkBytes: 60,
    }
  }

  // ---- promotion by hand

  /** As an operator should: a majority is told of the new term first, then the most advanced of it is promoted. */
  #tryPromotion(): boolean {
    const able = this.#voters().filter(
      (site) => site.isUp && site.disk.databaseId === 'db' && site.core.databaseId === 'db',
    )
    if (able.length * 2 <= this.#sites) return this.#serveAgain()
    const majority = shuffled(able, this.#prng).slice(0, Math.floor(this.#sites / 2) + 1)
    const { now } = this.cluster
    for (const site of majority) {
      if (site.core.role === 'master') site.step((core) => core.stopServing(now))
      else site.step((core) => core.leave({ now, kind: 'cancel' }))
      site.finishPersist()
      if (site.core.role !== 'none') return false
    }
    const [best] = [...majority].sort((a, b) => b.last.term - a.last.term || b.last.lsn - a.last.lsn)
    if (best === undefined || best.core.readableLsn > best.last.lsn) return false
    for (const site of majority) {
      if (site === best) continue
      const term = (this.#highestTerm + 1) as Term
      site.step((core) => core.adoptTerm({ term, now, master: best.name }))
      site.finishPersist()
    }
    this.#promote(best)
    return true
  }

  #voters(): FakeSite[] {
    return this.#names.map((name) => this.cluster.get(name))
  }

  /** The last master itself may always go on: it has whatever it reported as committed. */
  #serveAgain(): boolean {
    const chief = this.cluster.get(this.#chief)
    if (!chief.isUp || chief.core.role !== 'none' || chief.hasWork) return false
    if (chief.core.readableLsn > chief.last.lsn) return false
    this.#promote(chief)
    return true
  }

  #promote(site: FakeSite): void {
    for (const [lsn, crc] of this.#ledger) {
      if (lsn <= site.disk.base.lsn) continue
      assert.equal(
        site.recordAt(lsn)?.place.crc,
        crc,
        `${site.name} is promoted without the commit at ${lsn}`,
      )
    }
    this.#promotions++
    this.#chief = site.name
    this.#settings = this.#drawSettings()
    site.serve(this.#settings, this.#highestTerm)
    this.#highestTerm = site.core.term
  }

  /** Whoever has no role attaches to the last site that was promoted, after a while. */
  #followChief(): void {
    const prng = this.#prng
    for (const site of this.cluster.sites.values()) {
      if (!site.isUp || site.name === this.#chief || site.core.role !== 'none' || site.hasWork) continue
      const due = this.#followDue.get(site) ?? 0
      if (this.cluster.now < due) continue
      this.#followDue.set(site, this.cluster.now + prng.between(20, 200))
      const upstream = this.#upstreamOf(site)
      if (upstream === undefined) continue
      if (site.resumable() !== undefined) this.#resumes++
      this.#upstream.set(site.name, upstream)
      // Whom they ask may have become master: they are not of those that it counts.
      const view = this.#leaves.includes(site.name)
      this.cluster.follow(site.name, upstream, { forceSync: prng.chance(0.3), view })
    }
  }

  /** A leaf attaches to whoever serves in its turn; others now and then do, too. */
  #upstreamOf(site: FakeSite): string | undefined {
    if (this.#leaves.length === 0) return this.#chief
    const isLeaf = this.#leaves.includes(site.name)
    if (!isLeaf && (this.#isHealing || !this.#prng.chance(0.15))) return this.#chief
    const serving = [...this.cluster.sites.values()].filter(
      (each) => each !== site && each.isUp && each.core.isServingInTurn,
    )
    if (serving.length === 0) return isLeaf ? undefined : this.#chief
    return this.#prng.pick(serving).name
  }

  #serveInTurn(): void {
    if (this.#leaves.length === 0) return
    for (const site of this.cluster.sites.values()) {
      if (!site.isUp || site.core.role === 'master') continue
      if (site.core.isServingInTurn) {
        if (!this.#isHealing && this.#prng.chance(0.01)) {
          site.step((core) => core.stopServingInTurn(this.cluster.now))
        }
      } else if (this.#isHealing || this.#prng.chance(0.1)) {
        site.serveInTurn({ timings, chunkRecords: this.#prng.between(1, 5), chunkBytes: 60 })
      }
    }
  }

  /** Who counts for the master attaches to it. */
  #raiseVoters(): void {
    for (const site of this.#voters()) {
      if (site.core.role !== 'replica' || this.#upstream.get(site.name) === this.#chief) continue
      site.step((core) => core.leave({ now: this.cluster.now, kind: 'cancel' }))
    }
  }

  // ---- judging

  #judge(site: FakeSite, effect: Effect): void {
    if (effect.kind === 'commit') this.#judgeCommit(site, effect)
    if (effect.kind === 'stopped') {
      const isDefect = effect.code !== undefined && neverCodes.has(effect.code)
      assert.ok(!isDefect, `${site.name} stopped: ${effect.code} ${effect.message}`)
    }
    if (effect.kind === 'event' && effect.event.kind === 'diverged') assert.fail(`${site.name} diverged`)
    if (effect.kind === 'event' && effect.event.kind === 'replicaJoined' && site.core.isServingInTurn) {
      const { plan } = effect.event
      this.#below[plan] = (this.#below[plan] ?? 0) + 1
    }
    if (effect.kind === 'event' && effect.event.kind === 'newMaster') {
      if (effect.event.site === this.#upstream.get(site.name)) this.#direct.add(site.name)
    }
    if (effect.kind === 'rewind') {
      const isBelow = this.#leaves.includes(site.name) && !this.#direct.has(site.name)
      assert.ok(!isBelow, `${site.name} has what is to be undone`)
      for (const [lsn, crc] of this.#ledger) {
        const isLost = lsn > effect.to && site.recordAt(lsn)?.place.crc === crc
        assert.ok(!isLost, `${site.name} is to undo the commit at ${lsn}`)
      }
    }
  }

  #judgeCommit(site: FakeSite, effect: Extract<Effect, { kind: 'commit' }>): void {
    this.#note(site, effect.permanentLsn)
    if (site.core.role !== 'master') return
    const { settings } = site.core
    const isStrong =
      settings?.acks === 'quorum' &&
      settings.window === 1 &&
      settings.mode === 'sync' &&
      settings.attest !== 'received'
    if (!isStrong) return
    for (let lsn: number = effect.committedLsn; lsn > site.disk.base.lsn && !this.#ledger.has(lsn); lsn--) {
      const key = `${site.recordAt(lsn)?.place.term}:${lsn}`
      const isWeak =
        this.#exceptions.has(key) && !['quorum', undefined].includes(this.#exceptions.get(key) as string)
      // What stands before a record that a quorum has, the quorum has too.
      if (isWeak) continue
      this.#note(site, lsn)
      break
    }
    this.#commits++
    if (!this.#isHealing && this.#prng.chance(0.06)) this.cluster.after(0, () => this.#powerCut(site))
  }

  #note(site: FakeSite, lsn: number): void {
    for (let each = lsn; each > site.disk.base.lsn; each--) {
      const crc = site.recordAt(each)?.place.crc as number
      const known = this.#ledger.get(each)
      if (known !== undefined) {
        assert.equal(known, crc, `two records are committed at ${each}`)
        break
      }
      this.#ledger.set(each, crc)
    }
  }

  // ---- the end

  #heal(): void {
    const { cluster } = this
    this.#isHealing = true
    cluster.heal()
    Object.assign(cluster.network, { loss: 0.02, duplication: 0.02 })
    for (const site of cluster.sites.values()) {
      if (!site.isUp) cluster.restart(site.name)
      for (const peer of [...site.full]) {
        site.full.delete(peer)
        site.step((core) => core.congested({ peer, congested: false, now: cluster.now }))
      }
    }
    let isDone = false
    for (let i = 0; i < 600 && !isDone; i++) {
      cluster.run(100)
      const chief = cluster.get(this.#chief)
      if (chief.core.role !== 'master' && !this.#tryPromotion()) continue
      this.#serveInTurn()
      this.#raiseVoters()
      this.#followChief()
      if (i === 10) this.#retireOthers()
      if (i % 5 === 0 && i < 20) this.#write()
      if (i === 20)
        cluster
          .get(this.#chief)
          .step((core) => core.configure({ window: 1, acks: 'quorum', now: cluster.now }))
      isDone = i > 20 && this.#isConverged()
    }
    assert.ok(isDone, 'the group comes to rest')
  }

  story(): string {
    const lines = [...this.cluster.sites.values()].map((site) => {
      const { role, term, committedLsn, appliedLsn } = site.core
      return `${site.name} ${role} term ${term} last ${site.last.lsn} committed ${committedLsn} applied ${appliedLsn}`
    })
    return lines.join('\n')
  }

  /** An old master that nobody has told of its end: only the operator can. */
  #retireOthers(): void {
    for (const site of this.cluster.sites.values()) {
      if (site.name === this.#chief || site.core.role !== 'master') continue
      site.step((core) => core.stopServing(this.cluster.now))
    }
  }

  #isConverged(): boolean {
    const chief = this.cluster.get(this.#chief)
    const { lsn, crc } = chief.last
    for (const site of this.cluster.sites.values()) {
      const { last } = site
      if (last.lsn !== lsn || last.crc !== crc || site.core.appliedLsn !== lsn) return false
      if (site.core.committedLsn !== lsn || site.core.permanentLsn !== lsn) return false
    }
    for (const site of this.cluster.sites.values()) {
      assert.equal(site.storeText(), chief.storeText(), 'equal logs make equal stores')
    }
    return true
  }

  #count(site: FakeSite): void {
    const { counters } = site.core
    this.#totals.snapshots += counters.snapshotsReceived
    this.#totals.rewinds += counters.rewinds
    this.#totals.gapsFilled += counters.gapsFilled
    this.#totals.stepDowns += counters.stepDowns
  }
}

function shuffled<T>(items: readonly T[], prng: Prng): T[] {
  const all = [...items]
  for (let i = all.length - 1; i > 0; i--) {
    const j = prng.below(i + 1)
    const held = all[i] as T
    all[i] = all[j] as T
    all[j] = held
  }
  return all
}
