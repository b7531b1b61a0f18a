// What this site is, as its state file keeps it: its role, its group and the last known master.
//
// The fields say what the next save writes, and may be ahead of the disk: whoever changes one saves it, or leaves it to
// the next term that the core asks to persist, and takes it back where the save fails. A full disk leaves the old file.

import { assert } from '../base/assert.ts'
import { isCoterieError } from '../base/errors.ts'
import type { Engine } from '../database/engine.ts'
import type { SiteRole, SiteState } from '../database/site-state.ts'

/** How often a term is tried to be written while the disk is full. */
const persistRetryMs = 500

export class Standing {
  /** The role that the next persisted term is taken in. */
  role: SiteRole
  /** Sites of the group, where its master has said. */
  sites: number | undefined
  masterAddress: string | undefined
  /** It is one of a group: elections decide whether it writes, and never what it last was. */
  inGroup: boolean
  readonly #engine: Engine
  #closing = false

  constructor(engine: Engine, state: SiteState) {
    this.#engine = engine
    this.role = state.role
    this.sites = state.sites
    this.masterAddress = state.master
    this.inGroup = state.inGroup
  }

  /** Durable when it resolves. */
  save(change: Partial<SiteState>): Promise<SiteState> {
    return this.#engine.folder.saveState((state) => {
      const next = {
        ...(state as SiteState),
        // A site of a group comes back as a replica, whatever it was: others may reign by then.
        role: this.inGroup ? 'replica' : this.role,
        inGroup: this.inGroup,
        sites: this.sites,
        master: this.masterAddress,
        cleanEnd: undefined,
        ...change,
      }
      const isSame = next.databaseId === (state as SiteState).databaseId
      assert(
        !isSame || next.term >= (state as SiteState).term,
        'the persisted term of a database never falls',
      )
      return next
    })
  }

  /** As `save`, but a full disk is waited for: nothing is in doubt then, and writers are told meanwhile. */
  async saveWhenRoom(change: Partial<SiteState>): Promise<void> {
    const engine = this.#engine
    for (;;) {
      try {
        await this.save(change)
        if (isCoterieError(engine.stall, 'DISK_FULL') && !engine.isLogStalled) engine.setStall(undefined)
        return
      } catch (error) {
        if (!isCoterieError(error, 'DISK_FULL') || this.#closing) throw error
        if (engine.stall === undefined) engine.setStall(error)
        await new Promise<void>((resolve) => {
          engine.host.timers.after(persistRetryMs, resolve)
        })
      }
    }
  }

  /** A full disk is not waited for any more. */
  close(): void {
    this.#closing = true
  }
}
