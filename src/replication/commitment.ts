// The commit rule of one reign: which LSN the master may call committed and which permanent, from its own positions
// and the acks of its replicas. docs/protocol.md, section "Commit rule".
//
// Commits move in order. One that asks for its own policy is honoured at its own LSN, and holds back what is after it.

import { assert } from '../base/assert.ts'
import { type Lsn, lsnPlus, noLsn } from '../base/lsn.ts'
import type { AckPolicy, Attest, CommitException, Durability } from '../base/policy.ts'
import { countAtLeast, type GroupCount, majorityReplicas, reachedBy, replicasNeeded } from './acks.ts'

export interface CommitRules {
  readonly acks: AckPolicy
  readonly attest: Attest
  readonly durability: Durability
  readonly mode: 'sync' | 'async'
  readonly window: number
}

/** The positions that the rule is evaluated on. */
export interface CommitPositions {
  readonly lastLsn: Lsn
  readonly ownWrittenLsn: Lsn
  readonly ownDurableLsn: Lsn
  /** What each attached voting replica attests, one entry a site. */
  readonly attested: readonly Lsn[]
  /** What each attached voting replica has on disk. */
  readonly durable: readonly Lsn[]
  /** The least that a replica attests which asked for `forceSync`; undefined if none did. */
  readonly forcedLsn: Lsn | undefined
  readonly group: GroupCount
  /** Voting sites for permanence: of the group, or all that this reign has met. */
  readonly sitesKnown: number
}

export class Commitment {
  /** Invariant 5: only records of the own term are counted; undefined until the first of them is proposed. */
  #reignLsn: Lsn | undefined
  /** By LSN; those before `#head` are behind us. */
  #exceptions: CommitException[] = []
  #head = 0
  #committedLsn: Lsn
  #permanentLsn: Lsn

  constructor(options: { committedLsn: Lsn; permanentLsn: Lsn }) {
    this.#committedLsn = options.committedLsn
    this.#permanentLsn = options.permanentLsn
  }

  get committedLsn(): Lsn {
    return this.#committedLsn
  }

  get permanentLsn(): Lsn {
    return this.#permanentLsn
  }

  /** A record of the own term is permanent, whatever the policy: from then on the members may change. */
  get hasPermanentInReign(): boolean {
    return this.#reignLsn !== undefined && this.#permanentLsn >= this.#reignLsn
  }

  /** What earlier masters committed is committed here, too. */
  get hasCommittedInReign(): boolean {
    return this.#reignLsn !== undefined && this.#committedLsn >= this.#reignLsn
  }

  get exceptionsWaiting(): number {
    return this.#exceptions.length - this.#head
  }

  /** A term has begun; nothing is counted until its first record is there. */
  beginTerm(): void {
    this.#reignLsn = undefined
  }

  /** The first record of the term. */
  termRecord(lsn: Lsn): void {
    this.#reignLsn = lsn
  }

  addExceptions(exceptions: readonly CommitException[]): void {
    for (const exception of exceptions) {
      const newest = this.#exceptions[this.#exceptions.length - 1]
      assert(newest === undefined || newest.lsn < exception.lsn, 'exceptions come in order')
      this.#exceptions.push(exception)
    }
  }

  /** Moves both positions as far as the acks allow. True if one of them moved. */
  advance(rules: CommitRules, positions: CommitPositions): boolean {
    const reignLsn = this.#reignLsn
    if (reignLsn === undefined) return false
    const committedLsn = this.#committable(rules, positions)
    const permanentLsn = permanentReach(positions)
    let moved = false
    if (committedLsn > this.#committedLsn && committedLsn >= reignLsn) {
      this.#committedLsn = committedLsn
      this.#forgetExceptions()
      moved = true
    }
    if (permanentLsn > this.#permanentLsn && permanentLsn >= reignLsn) {
      this.#permanentLsn = permanentLsn
      moved = true
    }
    return moved
  }

  #committable(rules: CommitRules, positions: CommitPositions): Lsn {
    const policy = rules.mode === 'async' ? 'none' : rules.acks
    const reach = commitReach(rules, positions, { acks: policy, durability: rules.durability })
    let committedLsn = this.#committedLsn
    for (let i = this.#head; i < this.#exceptions.length; i++) {
      const exception = this.#exceptions[i] as CommitException
      const before = lsnPlus(exception.lsn, -1)
      if (committedLsn < before) committedLsn = Math.max(committedLsn, Math.min(reach, before)) as Lsn
      if (committedLsn < before) return committedLsn
      const acks = exception.acks ?? policy
      if (commitReach(rules, positions, { ...exception, acks }) < exception.lsn) return committedLsn
      committedLsn = exception.lsn
    }
    return Math.max(committedLsn, reach) as Lsn
  }

  #forgetExceptions(): void {
    while (this.#head < this.#exceptions.length) {
      if ((this.#exceptions[this.#head] as CommitException).lsn > this.#committedLsn) break
      this.#head++
    }
    if (this.#head === this.#exceptions.length) {
      this.#exceptions = []
      this.#head = 0
    } else if (this.#head > 1_024) {
      this.#exceptions = this.#exceptions.slice(this.#head)
      this.#head = 0
    }
  }
}

/** The last LSN for which one commit's own demands are met. */
function commitReach(
  rules: CommitRules,
  positions: CommitPositions,
  demand: { acks: AckPolicy; durability: Durability },
): Lsn {
  const { lastLsn } = positions
  const own = ownReach(demand.durability, positions)
  const need = replicasNeeded(demand.acks, positions.group)
  let reach = lastLsn
  if (need > 0) reach = withinWindow(rules, reachedBy(need, positions.attested), lastLsn)
  if (positions.forcedLsn !== undefined) {
    reach = Math.min(reach, withinWindow(rules, positions.forcedLsn, lastLsn)) as Lsn
  }
  const reached = Math.min(own, reach) as Lsn
  // Invariant 6: so many distinct voting sites have attested it, up to the window that was agreed.
  const mustHave = lsnPlus(reached, -(rules.window - 1))
  assert(
    reached === noLsn || mustHave <= 0 || countAtLeast(positions.attested, mustHave) >= need,
    'a commit has its acks',
  )
  return reached
}

/** The last record that this site has as safely as the commit asks. */
function ownReach(durability: Durability, positions: CommitPositions): Lsn {
  if (durability === 'sync') return positions.ownDurableLsn
  return durability === 'written' ? positions.ownWrittenLsn : positions.lastLsn
}

/** With a window of n, a record counts as attested when the one n-1 before it is. */
function withinWindow(rules: CommitRules, attestedLsn: Lsn, lastLsn: Lsn): Lsn {
  return attestedLsn === noLsn ? noLsn : (Math.min(attestedLsn + rules.window - 1, lastLsn) as Lsn)
}

/** On disk here and on a majority: no later majority can be without it. */
function permanentReach(positions: CommitPositions): Lsn {
  const need = majorityReplicas(positions.sitesKnown)
  const replicas = need === 0 ? positions.lastLsn : reachedBy(need, positions.durable)
  return Math.min(positions.ownDurableLsn, replicas) as Lsn
}
