// Elections that the application holds on a network that loses messages: each `elect` is answered, another may be held
// at once, and the others come to follow who has won. `COTERIE_SEED=n` runs one seed.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isCoterieError } from '../../src/base/errors.ts'
import { Prng } from '../../src/base/prng.ts'
import type { Replication } from '../../src/index.ts'
import { runSettling } from '../../src/sim/settle.ts'
import { BaseCluster, type BaseSite } from '../support/base-cluster.ts'

const given = process.env.COTERIE_SEED
const count = process.env.COTERIE_TEST_ALL === '1' ? 1000 : 15
const seeds = given === undefined ? Array.from({ length: count }, (_, i) => 1 + i) : [Number(given)]

const names = ['a', 'b', 'c']
const electionTimeoutMs = 300
/** More than one of each phase. */
const settleMsMax = 2000

class Life {
  readonly #prng: Prng
  readonly #cluster: BaseCluster
  readonly #electing: Map<BaseSite, number> = new Map()
  readonly #problems: string[] = []
  readonly answers: Map<string, number> = new Map()
  #loss = 0
  #isOver = false

  constructor(seed: number) {
    this.#prng = new Prng(seed)
    this.#cluster = new BaseCluster(seed)
    const prng = this.#prng
    const lateMs = prng.pick([5, 50])
    this.#cluster.onSend = () => (prng.chance(this.#loss) ? 'lost' : prng.below(lateMs))
    this.#cluster.onResult = (site, _, result) => {
      if (result.kind === 'holdElection' || result.kind === 'dupMaster') this.#elect(site)
    }
    this.#cluster.onEvent = (site, event, detail) => {
      if (event === 'elected') this.#startLater(site)
      if (event === 'rejected') this.#problems.push(`${site.name}: ${detail}`)
    }
  }

  /** An application has its own to do first, and may ask once more meanwhile. */
  #startLater(site: BaseSite): void {
    const { rep } = site
    const waitMs = this.#prng.pick([0, 0, 50, 200])
    this.#cluster.clock.after(waitMs, () => {
      if (site.rep === rep) this.#act(site, (each) => each.start('master'), 'start')
    })
  }

  #act(site: BaseSite, call: (rep: NonNullable<BaseSite['rep']>) => Promise<unknown>, what: string): void {
    const { rep } = site
    if (rep === undefined) return
    site.machine.host?.run(() => {
      call(rep).catch((error: unknown) => {
        const isLate = what === 'start' && isCoterieError(error, 'NOT_MASTER')
        if (!isLate) this.#problems.push(`${site.name}: ${what}: ${error}`)
      })
    })
  }

  /** One at a time, as the application takes care. */
  #elect(site: BaseSite): void {
    const { rep } = site
    const { clock } = this.#cluster
    if (rep?.role !== 'replica' || this.#electing.has(site)) return
    this.#electing.set(site, clock.now())
    this.#act(
      site,
      async () => {
        try {
          const { kind } = await rep.elect()
          this.answers.set(kind, (this.answers.get(kind) ?? 0) + 1)
        } finally {
          this.#electing.delete(site)
        }
        // Whatever the answer was, another one may be held at once.
        if (this.#prng.chance(0.3)) this.#elect(site)
      },
      'elect',
    )
  }

  #watch(): void {
    this.#cluster.clock.after(100, () => {
      if (this.#isOver) return
      for (const site of this.#cluster.sites.values()) {
        if (site.rep?.role === 'replica' && site.rep.master === undefined) this.#elect(site)
        const since = this.#electing.get(site)
        if (
          since !== undefined &&
          site.rep !== undefined &&
          this.#cluster.clock.now() - since > settleMsMax
        ) {
          this.#problems.push(`${site.name}: elect has not been answered`)
          this.#electing.delete(site)
        }
      }
      this.#watch()
    })
  }

  run(): string[] {
    const cluster = this.#cluster
    const prng = this.#prng
    const options = { sites: 3, electionTimeoutMs, heartbeatMs: 60 }
    const sites = names.map((name) => cluster.site(name, options))
    const [first, ...others] = sites as [BaseSite, ...BaseSite[]]
    cluster.on(first, async () => await first.rep?.start('master'))
    for (const other of others) this.#act(other, (rep) => rep.start('replica'), 'start')
    cluster.run(500)
    this.#loss = prng.pick([0.1, 0.2, 0.3])
    this.#watch()
    cluster.run(1500)
    cluster.crash(sites.find(({ rep }) => rep?.role === 'master') ?? first)
    cluster.run(prng.below(5000))
    this.#loss = 0
    cluster.run(5000)
    this.#isOver = true
    const left = sites.filter(({ rep }) => rep !== undefined)
    const state = left.map(({ name, rep }) => `${name} ${rep?.role} ${rep?.master} ${rep?.term}`).join(', ')
    const masters = new Set(left.map(({ rep }) => rep?.master))
    if (masters.size !== 1 || masters.has(undefined)) this.#problems.push(`no one master: ${state}`)
    return this.#problems
  }
}

test('[B6] elections on a network that loses messages are all answered, and one master is followed', async (t) => {
  const answers = new Map<string, number>()
  for (const seed of seeds) {
    const life = new Life(seed)
    assert.deepEqual(await runSettling(() => life.run()), [], `COTERIE_SEED=${seed}`)
    for (const [kind, times] of life.answers) answers.set(kind, (answers.get(kind) ?? 0) + times)
  }
  t.diagnostic([...answers].map(([kind, times]) => `${kind} ${times}`).join(', '))
  if (given === undefined) assert.deepEqual([...answers.keys()].sort(), ['elected', 'other', 'unavailable'])
})

function trio(seed: number): { cluster: BaseCluster; a: BaseSite; b: BaseSite; repB: Replication } {
  const cluster = new BaseCluster(seed)
  const sites = names.map((name) => cluster.site(name, { sites: 3, electionTimeoutMs, heartbeatMs: 60 }))
  const [a, b, c] = sites as [BaseSite, BaseSite, BaseSite]
  cluster.on(a, async () => await a.rep?.start('master'))
  for (const site of [b, c]) cluster.on(site, async () => await site.rep?.start('replica'))
  cluster.run(1000)
  assert.ok(b.rep !== undefined)
  assert.equal(b.rep.master, 'a')
  cluster.cut('c')
  return { cluster, a, b, repB: b.rep }
}

const fromA = { kind: 'other', master: 'a', term: 1 } as const

test('[B6] an election ends when the master is heard again, though nobody answered', async () => {
  await runSettling(() => {
    const { cluster, b, repB } = trio(1)
    cluster.cut('a')
    cluster.run(500)
    assert.equal(repB.master, undefined)
    cluster.onSend = ({ type }) => (type === 'canvass' || type === 'hello' ? 'lost' : undefined)
    cluster.heal('a')
    assert.deepEqual(
      cluster.on(b, () => repB.elect()),
      fromA,
    )
    assert.equal(repB.master, 'a')
  })
})

test('[B6] once another master was named the next election may be held at once', async () => {
  await runSettling(() => {
    const { cluster, b, repB } = trio(2)
    // What it follows its master by does not come.
    cluster.onSend = ({ type, from }) => (from === 'a' && type !== 'hello' ? 'lost' : undefined)
    cluster.run(500)
    for (let i = 0; i < 3; i++) {
      assert.equal(repB.master, undefined)
      assert.deepEqual(
        cluster.on(b, () => repB.elect()),
        fromA,
      )
    }
    cluster.onSend = undefined
    cluster.run(1000)
    assert.equal(repB.master, 'a')
  })
})

test('[B6] who has won and not begun to reign is told so again; a reign of its own choice ends an election', async () => {
  await runSettling(() => {
    const { cluster, a, b, repB } = trio(3)
    cluster.crash(a)
    cluster.heal('c')
    cluster.run(500)
    const won = cluster.on(b, () => repB.elect())
    assert.equal(won.kind, 'elected')
    assert.deepEqual(
      cluster.on(b, () => repB.elect()),
      won,
    )
    cluster.on(b, () => repB.start('master'))
    assert.equal(repB.term, 2)
    cluster.cut('c')
    cluster.on(b, () => repB.start('replica'))
    const pending = cluster.on(b, async () => [repB.elect()])
    cluster.on(b, () => repB.start('master'))
    assert.deepEqual(
      cluster.on(b, async () => await pending[0]),
      { kind: 'elected', master: 'b', term: 3 },
    )
  })
})
