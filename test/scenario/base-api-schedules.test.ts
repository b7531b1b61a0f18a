// The oracle of the Base API under schedules of chance, in virtual time: messages are lost, doubled, overtaken and late
// by minutes, go to a site that they were not meant for, and come from sites that have died; sites lose power and come
// back; whoever is told to holds an election. A LSN that is `isPerm` is on the disk of who said so, and those of a term
// never fall; one that is `notPerm` is not in its log; once everything has come the last `isPerm` is the last permanent
// record that was sent. And no commit that was acknowledged is lost. `COTERIE_SEED=n` runs one seed.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isCoterieError } from '../../src/base/errors.ts'
import { Prng } from '../../src/base/prng.ts'
import type { ProcessResult } from '../../src/index.ts'
import { runSettling } from '../../src/sim/settle.ts'
import { BaseCluster, type BaseSite } from '../support/base-cluster.ts'

const given = process.env.COTERIE_SEED
const count = process.env.COTERIE_TEST_ALL === '1' ? 300 : 3
const seeds = given === undefined ? Array.from({ length: count }, (_, i) => 1 + i) : [Number(given)]

const names = ['a', 'b', 'c']
const electMs = 100
const lateMsMax = 120_000
/** What the driver says to a call that has come too late or too early. */
const expected = new Set(['CLOSED', 'INVALID_STATE', 'NOT_MASTER', 'OUTCOME_UNKNOWN', 'ABORTED'])

interface Told {
  term: number
  lsn: number
}

class Schedule {
  readonly #seed: number
  readonly #prng: Prng
  readonly #cluster: BaseCluster
  readonly #isFaulty: { lossChance: number; doubleChance: number; lateChance: number; strayChance: number }
  #isCalm: boolean = false
  /** Of the life that a site lives now. */
  readonly #told: Map<string, Told> = new Map()
  /** The term of the master that a site has been told of last. */
  readonly #masters: Map<string, number> = new Map()
  readonly #acknowledged: Map<string, string> = new Map()
  readonly #isCut: Set<string> = new Set()
  readonly kinds: Map<string, number> = new Map()
  #puts = 0

  constructor(seed: number) {
    this.#seed = seed
    this.#prng = new Prng(seed)
    this.#cluster = new BaseCluster(seed)
    this.#isFaulty = {
      lossChance: this.#prng.pick([0.02, 0.1, 0.3]),
      doubleChance: this.#prng.pick([0, 0.1]),
      lateChance: this.#prng.pick([0.02, 0.1]),
      strayChance: this.#prng.pick([0, 0.02]),
    }
    this.#cluster.onSend = (message, to) => {
      const prng = this.#prng
      const { lossChance, doubleChance, lateChance, strayChance } = this.#isFaulty
      if (this.#isCalm) return undefined
      if (prng.chance(doubleChance)) this.#cluster.deliverIn(this.#lateMs(), message, to)
      if (prng.chance(strayChance)) this.#cluster.deliverIn(this.#lateMs(), message, prng.pick(names))
      if (prng.chance(lossChance)) return prng.pick(['lost', 'failed'])
      return prng.chance(lateChance) ? this.#lateMs() : prng.below(5)
    }
    this.#cluster.onResult = (site, _, result, lastLsn) => this.#judge(site, result, lastLsn)
    this.#cluster.onEvent = (site, event, detail) => {
      if (event === 'newMaster') this.#masters.set(site.name, (detail as { term: number }).term)
      if (event === 'synced') {
        // `newMaster` is told before the `synced` of the same master.
        assert.equal(this.#masters.get(site.name), site.rep?.term, this.#say(site, 'synced with whom?'))
      }
      if (event === 'elected') this.#act(site, async (rep) => await rep.start('master'))
      if (event === 'rejected' && !this.#isExpected(detail)) assert.fail(this.#say(site, String(detail)))
    }
  }

  #lateMs(): number {
    return this.#prng.chance(0.2) ? this.#prng.below(lateMsMax) : this.#prng.below(300)
  }

  #say(site: BaseSite, what: string): string {
    return `${site.name}: ${what} (COTERIE_SEED=${this.#seed})`
  }

  #isExpected(error: unknown): boolean {
    return isCoterieError(error) && expected.has(error.code)
  }

  #judge(site: BaseSite, result: ProcessResult, lastLsnThen: number): void {
    this.kinds.set(result.kind, (this.kinds.get(result.kind) ?? 0) + 1)
    const { rep } = site
    if (rep === undefined) return
    const { durableLsn, lastLsn, term } = rep.stats()
    if (result.kind === 'isPerm') {
      assert.ok(result.lsn <= durableLsn, this.#say(site, `${result.lsn} is isPerm, durable ${durableLsn}`))
      const before = this.#told.get(site.name)
      const isFall = before?.term === term && result.lsn < before.lsn
      assert.ok(!isFall, this.#say(site, `isPerm ${result.lsn} after ${before?.lsn} in term ${term}`))
      this.#told.set(site.name, { term, lsn: result.lsn })
    }
    if (result.kind === 'notPerm') {
      // Of a record that a new master had undone meanwhile the log had more.
      const last = Math.min(lastLsn, lastLsnThen)
      assert.ok(result.lsn > last, this.#say(site, `${result.lsn} is notPerm, the log goes to ${last}`))
    }
    if (result.kind === 'holdElection' || result.kind === 'dupMaster') this.#elect(site)
  }

  #elect(site: BaseSite): void {
    this.#act(site, async (rep) => void (await rep.elect()))
  }

  /** A call of the application, on the site's machine. */
  #act(site: BaseSite, call: (rep: NonNullable<BaseSite['rep']>) => Promise<void>): void {
    const { rep } = site
    if (rep === undefined || rep.isClosed) return
    site.machine.host?.run(() => {
      call(rep).catch((error: unknown) => {
        if (site.rep === rep && !this.#isExpected(error)) assert.fail(this.#say(site, String(error)))
      })
    })
  }

  /** As the application of examples/own-transport.mjs does. */
  #watch(): void {
    this.#cluster.clock.after(electMs, () => {
      for (const site of this.#cluster.sites.values()) {
        if (site.rep?.role === 'replica' && site.rep.master === undefined) this.#elect(site)
      }
      this.#watch()
    })
  }

  #put(): void {
    const { db, machine } = this.#prng.pick([...this.#cluster.sites.values()])
    const key = `key ${this.#puts++}`
    machine.host?.run(() => {
      db?.put(key, key).then(
        () => void this.#acknowledged.set(key, key),
        () => undefined,
      )
    })
  }

  #boot(site: BaseSite): void {
    this.#told.delete(site.name)
    this.#masters.delete(site.name)
    this.#cluster.boot(site)
    this.#act(site, async (rep) => await rep.start('replica'))
  }

  /** Mostly one site is away at a time, so that commits go on. */
  #strike(): void {
    const prng = this.#prng
    const sites = [...this.#cluster.sites.values()]
    const away = sites.filter(({ name, rep }) => rep === undefined || this.#isCut.has(name))
    const site = prng.pick(away.length > 0 && prng.chance(0.85) ? away : sites)
    if (site.rep === undefined) this.#boot(site)
    else if (this.#isCut.delete(site.name)) this.#cluster.heal(site.name)
    else if (prng.chance(0.5)) this.#cluster.crash(site, prng.pick(['kill', 'power']))
    else {
      this.#isCut.add(site.name)
      this.#cluster.cut(site.name)
    }
  }

  run(): void {
    const cluster = this.#cluster
    const prng = this.#prng
    const bulk = prng.chance(0.5)
    const sites = names.map((name) => cluster.site(name, { sites: 3, bulk, ackTimeoutMs: 5000 }))
    const [first, ...others] = sites as [BaseSite, ...BaseSite[]]
    this.#isCalm = true
    cluster.wait(first.rep?.start('master') ?? Promise.reject(new Error('it is up')))
    for (const other of others) this.#act(other, async (rep) => await rep.start('replica'))
    cluster.run(2000)
    this.#watch()
    this.#isCalm = false
    for (let i = 0; i < 250; i++) {
      cluster.run(prng.below(400))
      for (let puts = prng.below(4); puts > 0; puts--) this.#put()
      if (prng.chance(0.08)) this.#strike()
    }
    this.#end(sites)
  }

  /** All are up and hear each other; what was late comes; one more commit. */
  #end(sites: readonly BaseSite[]): void {
    const cluster = this.#cluster
    this.#isCalm = true
    for (const site of sites) {
      cluster.heal(site.name)
      if (site.rep === undefined) this.#boot(site)
    }
    cluster.run(lateMsMax + 10_000)
    const master = sites.find(({ rep }) => rep?.role === 'master' && rep.master === rep.site)
    assert.ok(master?.db !== undefined, `there is a master (COTERIE_SEED=${this.#seed})`)
    cluster.on(master, async () => await master.db?.put('last', 'of all'))
    cluster.run(5000)
    const lastLsn = master.rep?.stats().lastLsn
    for (const site of sites) {
      const { db, rep } = site
      assert.equal(rep?.stats().durableLsn, lastLsn, this.#say(site, 'it has everything'))
      for (const key of this.#acknowledged.keys()) {
        assert.equal(db?.getSync(key), key, this.#say(site, `'${key}' was acknowledged`))
      }
      if (site === master) continue
      assert.equal(
        this.#told.get(site.name)?.lsn,
        lastLsn,
        this.#say(site, 'the last isPerm is the last sent'),
      )
    }
    assert.ok(this.#acknowledged.size > 0, `commits were acknowledged (COTERIE_SEED=${this.#seed})`)
  }
}

test('[B3 B5 B6 B14 B15a] what results say holds under schedules of chance, and nothing acknowledged is lost', async (t) => {
  const kinds = new Map<string, number>()
  for (const seed of seeds) {
    const schedule = new Schedule(seed)
    await runSettling(() => schedule.run())
    for (const [kind, times] of schedule.kinds) kinds.set(kind, (kinds.get(kind) ?? 0) + times)
  }
  t.diagnostic([...kinds].map(([kind, times]) => `${kind} ${times}`).join(', '))
  if (seeds.length < 20) return
  for (const kind of ['isPerm', 'notPerm', 'ignore', 'holdElection', 'dupMaster', 'newSite']) {
    assert.ok(kinds.has(kind), `there was ${kind}`)
  }
})
