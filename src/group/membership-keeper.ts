// The master keeps the list of its group's members: it adds sites that have caught up, notes where they are reached,
// and removes those that the operator names.
//
// Invariant 20 of docs/protocol.md: one change at a time, the first only after a record of the own term, and each only
// after the one before is permanent. So two lists that are in force anywhere share a majority. A change whose outcome is
// unknown holds in the log of whoever has it, and nothing follows it before it is settled.

import { CoterieError, isCoterieError } from '../base/errors.ts'
import {
  type Member,
  type Members,
  mayGoOnAlone,
  memberOf,
  type TwoSites,
  withMember,
  withoutMember,
  withTwoSites,
} from '../base/membership.ts'
import type { Receipt } from '../database/receipt.ts'
import type { SiteState } from '../database/site-state.ts'
import type { Site } from './site.ts'

export class MembershipKeeper {
  readonly #site: Site
  /** Where this site is reached. */
  readonly #address: string
  /** Of a group that is founded here. */
  readonly #twoSites: TwoSites
  #changing: Promise<Receipt> | undefined
  #waiters: (() => void)[] = []

  constructor(options: { readonly site: Site; readonly address: string; readonly twoSites: TwoSites }) {
    this.#site = options.site
    this.#address = options.address
    this.#twoSites = options.twoSites
  }

  /** This site, as it should stand in the list. */
  get self(): Member {
    const { incarnation } = this.#site.engine.folder.state as SiteState
    return { site: this.#site.site, address: this.#address, incarnation }
  }

  /** The next change may be made now. */
  get #mayChange(): boolean {
    const { core, isWriter } = this.#site
    if (!isWriter || this.#changing !== undefined || core.membership === undefined) return false
    return core.hasPermanentInReign && core.permanentLsn >= core.membership.lsn
  }

  /** Adds or corrects one member, if there is one to add or to correct. */
  tick(): void {
    if (!this.#mayChange && !this.#mayRemoveAlone) return
    this.#wake()
    if (!this.#mayChange) return
    const members = this.#site.core.membership as Members
    this.#sendAway(members.removed)
    const due = this.#memberDue(members)
    if (due === undefined) return
    const after = withMember(members, due)
    // Both must know that neither goes on alone any more before there is a third to elect somebody with.
    const change = after.members.length > 2 && mayGoOnAlone(members) ? withTwoSites(members, 'strict') : after
    // Nobody waits for it: if it fails, this site reigns no more, or the next tick tries again.
    this.#change(change).catch((error: unknown) => {
      if (!isCoterieError(error)) this.#site.engine.fail(error)
    })
  }

  /** Those who were removed may still be attached; the record that says so is permanent by now. */
  #sendAway(removed: readonly string[]): void {
    if (removed.length === 0) return
    for (const { site } of this.#site.replicas) {
      if (!removed.includes(site)) continue
      const message = `site ${site} was removed from the group`
      this.#site.detach({ site, code: 'MEMBER_REMOVED', message })
    }
  }

  #memberDue(members: Members): Member | undefined {
    const { self } = this
    if (memberOf(members, self.site)?.address !== self.address) return self
    for (const { site, member, inStep } of this.#site.replicas) {
      if (member === undefined || !inStep || member.address === '') continue
      const known = memberOf(members, site)
      const isNew = known === undefined || known.address !== member.address
      if (isNew && !members.removed.includes(site)) return { site, ...member }
    }
    return undefined
  }

  #change(members: Members): Promise<Receipt> {
    // A majority must have it on disk, whatever the group's commits wait for.
    const submitted = this.#site.engine.submitMembers(members, { acks: 'quorum', durability: 'sync' })
    const changing = submitted.finally(() => {
      this.#changing = undefined
      this.#wake()
    })
    this.#changing = changing
    this.#site.engine.flush()
    return changing
  }

  /** The first list: this site alone. */
  async found(): Promise<void> {
    await this.#change(withTwoSites({ members: [this.self], removed: [] }, this.#twoSites))
  }

  /**
   * Removes a member, or forbids a site that is not one yet to become one. INVALID_STATE for this site itself, for one
   * that nobody has heard of, and where this site is not master; else as a commit.
   */
  async remove(site: string): Promise<Receipt> {
    for (;;) {
      const members = this.#needMembers()
      if (site === this.#site.site) {
        throw new CoterieError('INVALID_STATE', 'the master cannot be removed: transfer the mastership first')
      }
      if (memberOf(members, site) === undefined) {
        throw new CoterieError('INVALID_STATE', `site '${site}' is no member of the group`)
      }
      if (this.#mayChange || this.#mayRemoveAlone) return await this.#change(withoutMember(members, site))
      await this.#untilReviewed()
    }
  }

  /** INVALID_STATE where this site is not master, and for two or more members too many; else as a commit. */
  async setTwoSites(twoSites: TwoSites): Promise<Receipt> {
    for (;;) {
      const members = this.#needMembers()
      if (twoSites !== 'strict' && members.members.length > 2) {
        const count = members.members.length
        throw new CoterieError(
          'INVALID_STATE',
          `setTwoSites is for two sites: the group has ${count} members`,
        )
      }
      if (this.#mayChange) return await this.#change(withTwoSites(members, twoSites))
      await this.#untilReviewed()
    }
  }

  /** Of two that go on alone, the other one is away for good: without it nothing would ever become permanent. */
  get #mayRemoveAlone(): boolean {
    const { core, isWriter, replicas } = this.#site
    const { membership } = core
    if (!isWriter || this.#changing !== undefined || membership === undefined) return false
    return core.goesOnAlone && !replicas.some(({ site }) => memberOf(membership, site) !== undefined)
  }

  #needMembers(): Members {
    const { core, isWriter } = this.#site
    if (isWriter && core.membership !== undefined) return core.membership
    const master = core.heardMaster
    const who = master === undefined ? 'there is none now' : `ask ${master.site} at ${master.address}`
    throw new CoterieError('INVALID_STATE', `only the master changes the members: ${who}`, {
      details: { ...(master === undefined ? {} : { master: master.address, site: master.site }) },
    })
  }

  #untilReviewed(): Promise<void> {
    return new Promise<void>((resolve) => {
      this.#waiters.push(resolve)
    })
  }

  #wake(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const wake of waiters) wake()
  }

  /** Whoever waits to change the members looks again: this site may not be master any more. */
  reviewed(): void {
    this.#wake()
  }
}
