// When this site reigns: it founds the group, or it was elected, or was handed the mastership. Each begins a reign that
// the core has allowed, and ends whatever this site was following before.
//
// A reign that cannot begin - another term has begun meanwhile, the disk is full - is given back to the core, and the
// group elects again.

import { CoterieError, isCoterieError } from '../base/errors.ts'
import type { ServeOptions } from '../replication/core-options.ts'
import type { Following } from './following.ts'
import type { JoinSettings } from './join-options.ts'
import type { MembershipKeeper } from './membership-keeper.ts'
import type { Site } from './site.ts'

export interface ReigningOptions {
  readonly site: Site
  readonly settings: JoinSettings
  /** Where the others reach this site. */
  readonly address: string
  readonly following: Following
  readonly keeper: MembershipKeeper
  /** This site takes writes from now on. */
  readonly onReigns: () => void
  /** It is about to leave the group: no reign begins any more. */
  readonly isEnding: () => boolean
}

export class Reigning {
  readonly #options: ReigningOptions
  /** Reigns that are about to begin: one that another term overtakes may overlap with the next. */
  #beginning = 0

  constructor(options: ReigningOptions) {
    this.#options = options
  }

  get isBeginning(): boolean {
    return this.#beginning > 0
  }

  /**
   * Founds a group: a first reign, then the first list of members, of this site alone. A crash between the two leaves a
   * site without a group that has data, and the next start founds again.
   */
  async found(): Promise<void> {
    const { site, settings, address, keeper } = this.#options
    await this.#begin(async () => {
      const serve = { ...settings.serve, address }
      if (site.core.membership === undefined) await site.roles.reign('master', serve)
      else await this.#leaveOldGroup(serve)
      try {
        await keeper.found()
      } catch (error) {
        if (site.core.role === 'master') site.stepDown()
        throw error
      }
    })
  }

  /**
   * The data is that of another group, whose members have no say any more: their list goes in a reign that this site
   * has alone, before the new group begins.
   */
  async #leaveOldGroup(serve: ServeOptions): Promise<void> {
    const { site } = this.#options
    const { durability } = site.engine
    await site.roles.reign('standalone', { sites: 1, durability })
    await site.engine.submitMembers({ members: [], removed: [] }, { durability: 'sync' })
    await site.roles.changeReign('master', serve)
  }

  /** The core says that this site shall reign. */
  elected(): void {
    const { site } = this.#options
    this.#reign().catch((error: unknown) => site.engine.fail(error))
  }

  async #reign(): Promise<void> {
    const { site, settings, address, isEnding } = this.#options
    try {
      await this.#begin(async () => {
        if (isEnding()) throw new CoterieError('INVALID_STATE', 'this site leaves the group')
        await site.roles.reignElected({ ...settings.serve, address })
      })
    } catch (error) {
      if (!isCoterieError(error)) throw error
      if (!site.engine.closed) site.step(() => site.core.electionLost(site.now()))
    }
  }

  async #begin(reign: () => Promise<void>): Promise<void> {
    const { site, settings, following, onReigns, isEnding } = this.#options
    this.#beginning++
    try {
      await following.halt()
      site.engine.ackTimeoutMs = settings.ackTimeoutMs
      await reign()
      following.forget()
      onReigns()
    } finally {
      this.#beginning--
      if (this.#beginning === 0 && !isEnding()) following.resume()
    }
  }
}
