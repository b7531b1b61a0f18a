// Partitions of a group that elects its own master, under load (loaded-group.ts): each site on a host of its own, in a
// real network that is cut between two hosts, in one direction or both, and healed. Nothing is refused and no
// connection is closed; what is on its way at the cut arrives late, or at the wrong time, or never.
//
// A cut lasts until it is noticed, or until the group has gone on without those behind it. Where a majority can hear
// each other, it must go on; where none can, nothing may be acknowledged; and what was cut off must not disturb.

import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { type NetworkHosts, networkHosts } from '../support/network-hosts.ts'
import { waitUntil } from '../support/wait-until.ts'
import { withSeed } from './kill-nine-rounds.ts'
import {
  acknowledgedMin,
  askEveryMs,
  type GroupTimings,
  LoadedGroup,
  type LoadedMember,
  settleTimeoutMs,
  siteNames,
} from './loaded-group.ts'

/** The master can be another one afterwards. */
export const unseatingKinds = [
  'masterAlone',
  /** It hears the others, and they do not hear it. */
  'masterUnheard',
  /** The others hear it, and it hears nobody. */
  'masterDeaf',
  /** One replica and the master cannot reach each other; the other replica reaches both. */
  'masterHalfReached',
  'masterFlaps',
  'masterAloneKilled',
  'everyoneAlone',
] as const

/** The master goes on, in the same term, and does so when those that were cut off are back. */
export const quietKinds = ['replicaAlone', 'replicasApart'] as const

export type UnseatingKind = (typeof unseatingKinds)[number]
export type QuietKind = (typeof quietKinds)[number]
export type PartitionKind = UnseatingKind | QuietKind

/** What is cut of a site's links: what it says, what it hears, or both. */
type Way = 'both' | 'outwards' | 'inwards'

export interface PartitionOptions {
  /** The name of the test's file. */
  readonly file: string
  readonly roundsOf: (seed: number) => readonly PartitionKind[]
  readonly timings?: GroupTimings
  /** So much longer than needed a cut may last. By default links are given up after 3,000 ms of silence. */
  readonly extraMs: number
}

/** Skips the test where there can be no hosts. */
export async function partitionRounds(t: TestContext, options: PartitionOptions): Promise<void> {
  const made = networkHosts(t, siteNames)
  if ('refusal' in made) {
    t.skip(`no network of its own here: ${made.refusal}`)
    return
  }
  await withSeed(t, options.file, async (seed) => {
    const rounds = options.roundsOf(seed)
    const partitions = new Partitions(t, made.network, { ...options, seed })
    await partitions.run(rounds)
  })
}

interface Roles {
  readonly master: LoadedMember
  readonly one: LoadedMember
  readonly other: LoadedMember
}

class Partitions {
  readonly #t: TestContext
  readonly #network: NetworkHosts
  readonly #group: LoadedGroup
  readonly #extraMs: number

  constructor(t: TestContext, network: NetworkHosts, options: PartitionOptions & { readonly seed: number }) {
    const { seed, timings = {}, extraMs } = options
    this.#t = t
    this.#network = network
    this.#extraMs = extraMs
    this.#group = new LoadedGroup(t, {
      seed,
      placeOf: (name) => network.host(name),
      timings,
    })
  }

  async run(rounds: readonly PartitionKind[]): Promise<void> {
    await this.#group.run(rounds, (kind) => this.#round(kind))
    this.#t.diagnostic(`${rounds.length} rounds, ${this.#group.totals.kills} kills, ${this.#group.summary}`)
  }

  async #round(kind: PartitionKind): Promise<void> {
    const group = this.#group
    const master = await group.whenAgreed()
    await group.whenAcknowledged(acknowledgedMin)
    await group.rest({ mostMs: 300 })
    const before = await this.#reign()
    const replicas = group.members.filter((member) => member !== master)
    const one = group.random.pick(replicas)
    const other = replicas.find((member) => member !== one) as LoadedMember
    await this.#during(kind, { master, one, other })
    await this.#heal()
    const isQuiet = quietKinds.some((quiet) => quiet === kind)
    if (isQuiet) assert.deepEqual(await this.#reign(), before, 'the same master, in the same term')
  }

  /** Who reigns, and all terms that sites are in. */
  async #reign(): Promise<{ readonly site: string; readonly terms: readonly number[] }> {
    const { name } = await this.#group.whenAgreed()
    const statuses = await this.#group.groupStatuses()
    return { site: name, terms: [...new Set(statuses.map(({ term }) => term))] }
  }

  async #during(kind: PartitionKind, { master, one, other }: Roles): Promise<void> {
    switch (kind) {
      case 'masterAlone':
        return await this.#unseat(master, 'both')
      case 'masterUnheard':
        return await this.#unseat(master, 'outwards')
      case 'masterDeaf':
        return await this.#unseat(master, 'inwards')
      case 'masterHalfReached':
        return await this.#halfReach(master, one)
      case 'masterFlaps':
        return await this.#flap(master)
      case 'masterAloneKilled':
        return await this.#killAlone(master)
      case 'everyoneAlone':
        return await this.#everyoneAlone({ master, one, other })
      case 'replicaAlone':
        return await this.#replicaAlone(one)
      case 'replicasApart':
        return await this.#replicasApart({ master, one, other })
    }
  }

  // ---- cuts

  #part(one: LoadedMember, other: LoadedMember): void {
    this.#network.cut(one.name, other.name)
    this.#network.cut(other.name, one.name)
  }

  #isolate(member: LoadedMember, way: Way): void {
    for (const other of this.#group.members) {
      if (other === member) continue
      if (way !== 'inwards') this.#network.cut(member.name, other.name)
      if (way !== 'outwards') this.#network.cut(other.name, member.name)
    }
  }

  async #heal(): Promise<void> {
    this.#network.heal()
    for (const member of this.#group.members) if (member.site.hasEnded) await this.#group.back(member)
    await this.#group.whenAgreed()
    await this.#goesOn()
  }

  /** Commits are acknowledged that were not even logged before. */
  async #goesOn(): Promise<void> {
    const living = this.#group.members.filter(({ site }) => !site.hasEnded)
    const statuses = await this.#group.groupStatuses(living)
    const loggedLsn = Math.max(
      ...statuses.map(({ sites }) => sites.find(({ isSelf }) => isSelf)?.lastLsn ?? 0),
    )
    await this.#group.whenAcknowledged(acknowledgedMin, ({ lsn }) => lsn > loggedLsn)
  }

  async #termOf(member: LoadedMember): Promise<number> {
    const [status] = await this.#group.groupStatuses([member])
    return status?.term ?? 0
  }

  // ---- the master changes

  /** After the cut another one reigns, and the one that was master knows that it is not any more. */
  async #unseat(master: LoadedMember, way: Way): Promise<void> {
    await this.#failOver(master, () => this.#isolate(master, way))
    await this.#whenMasterless([master])
    const others = this.#group.members.filter((member) => member !== master)
    await this.#group.whenAgreed(others, others)
    await this.#goesOn()
    await this.#group.rest({ mostMs: this.#extraMs })
  }

  async #failOver(master: LoadedMember, strike: () => void | Promise<void>): Promise<void> {
    const term = await this.#termOf(master)
    const began = performance.now()
    await strike()
    await this.#group.whenAcknowledged(1, (commit) => commit.term > term)
    this.#group.totals.failoversMs.push(performance.now() - began)
  }

  /** They know of no master. */
  async #whenMasterless(members: readonly LoadedMember[]): Promise<void> {
    const areMasterless = async (): Promise<boolean> => {
      const statuses = await this.#group.groupStatuses(members)
      return statuses.every(({ role, master }) => role === 'candidate' && master === undefined)
    }
    const who = members.map(({ name }) => name).join(', ')
    await waitUntil(areMasterless, {
      what: `${who} know of no master`,
      timeoutMs: settleTimeoutMs,
      everyMs: askEveryMs,
    })
  }

  /** Its connections end unseen by the others, who hold theirs for open until they have been silent for long. */
  async #killAlone(master: LoadedMember): Promise<void> {
    const isSlow = this.#group.random.chance(0.5)
    await this.#failOver(master, async () => {
      this.#isolate(master, 'both')
      if (!isSlow) await this.#group.kill(master)
    })
    if (isSlow) await this.#group.kill(master)
    await this.#goesOn()
    await this.#group.rest({ mostMs: this.#extraMs })
  }

  /** Who reigns is for them to settle, but one of them does, and commits go on. */
  async #halfReach(master: LoadedMember, replica: LoadedMember): Promise<void> {
    const before = await this.#group.groupStatuses([replica])
    this.#part(master, replica)
    const isNoticed = async (): Promise<boolean> => {
      const [status] = await this.#group.groupStatuses([replica])
      if (status === undefined) return false
      // On a machine that stood still it may have been elected just before it was cut off.
      return status.elections > (before[0]?.elections ?? 0) || status.role === 'master'
    }
    await waitUntil(isNoticed, {
      what: `${replica.name} misses its master`,
      timeoutMs: settleTimeoutMs,
      everyMs: askEveryMs,
    })
    await this.#goesOn()
    await this.#group.rest({ mostMs: this.#extraMs })
    await this.#goesOn()
  }

  async #flap(master: LoadedMember): Promise<void> {
    const { random } = this.#group
    const flaps = random.between(3, 6)
    for (let flap = 0; flap < flaps; flap++) {
      this.#isolate(master, random.pick(['both', 'outwards', 'inwards']))
      await this.#group.rest({ mostMs: 700 })
      this.#network.heal()
      await this.#group.rest({ mostMs: 300 })
    }
  }

  /** Without a majority anywhere nothing is acknowledged. */
  async #everyoneAlone({ master, one, other }: Roles): Promise<void> {
    const group = this.#group
    this.#isolate(master, 'both')
    this.#part(one, other)
    await this.#whenMasterless(group.members)
    // What was acknowledged before the master stepped down has been told after these.
    for (let call = 0; call < 5; call++) await this.#look()
    const have = group.acknowledged.length
    for (let look = 0; look < 15; look++) {
      await this.#look()
      assert.equal(group.acknowledged.length, have, 'nothing is acknowledged where each is alone')
    }
    await group.rest({ mostMs: this.#extraMs })
    await this.#look()
    assert.equal(group.acknowledged.length, have, 'nothing is acknowledged where each is alone')
  }

  async #look(): Promise<void> {
    await new Promise((resolve) => {
      setTimeout(resolve, 20)
    })
    for (const { role, master } of await this.#group.groupStatuses()) {
      assert.deepEqual({ role, master }, { role: 'candidate', master: undefined })
    }
  }

  // ---- the master stays

  async #replicaAlone(replica: LoadedMember): Promise<void> {
    this.#isolate(replica, 'both')
    await this.#whenMasterless([replica])
    await this.#goesOn()
    await this.#group.rest({ mostMs: this.#extraMs })
  }

  async #replicasApart({ master, one, other }: Roles): Promise<void> {
    this.#part(one, other)
    const isNoticed = async (): Promise<boolean> => {
      const [status] = await this.#group.groupStatuses([one])
      return status?.sites.find(({ site }) => site === other.name)?.state === 'away'
    }
    await waitUntil(isNoticed, {
      what: `${one.name} hears nothing of ${other.name}`,
      timeoutMs: settleTimeoutMs,
      everyMs: askEveryMs,
    })
    await this.#goesOn()
    await this.#group.rest({ mostMs: this.#extraMs })
    assert.equal((await this.#reign()).site, master.name)
  }
}
