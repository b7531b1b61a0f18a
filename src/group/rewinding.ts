// Takes back the tail of the log that the master does not have: the core's effect `rewind`. What is lost by it is in a
// file before it goes, so a crash in between leaves it in both places; the operator can read those files and replay them.
//
// How it fails: a log that is damaged on the way stops the site, as it would at the next start; anything else ends the
// attachment, and is tried again with the next one.

import { asError, isCoterieError } from '../base/errors.ts'
import type { Lsn } from '../base/lsn.ts'
import { keepLost, type LostReport } from '../database/lost-file.ts'
import type { Effect } from '../replication/effects.ts'
import type { SiteSteps } from './site-steps.ts'

export class Rewinding {
  readonly #site: SiteSteps
  #lostFiles: readonly string[] = []

  constructor(site: SiteSteps) {
    this.#site = site
  }

  /** Files with transactions that were rolled back here. */
  get lostFiles(): readonly string[] {
    return this.#lostFiles
  }

  async loadLostFiles(): Promise<void> {
    this.#lostFiles = await this.#site.engine.folder.lostFiles()
  }

  /** Writes the records after `agreedLsn` to a file before they go, by a rewind or under a snapshot. */
  async keepWhatIsLost(agreedLsn: Lsn | undefined): Promise<LostReport | undefined> {
    const { engine } = this.#site
    if (agreedLsn === undefined || !engine.hasData) return undefined
    const lost = await keepLost(engine.folder, engine.parts.log, agreedLsn)
    await this.loadLostFiles()
    return lost
  }

  run({ to }: Extract<Effect, { kind: 'rewind' }>): void {
    const site = this.#site
    site.background(this.#rewind(to), (error) => {
      // Trying again would meet the same damage, again and again: the operator has to know, and this site to be gone.
      if (isCoterieError(error, 'LOG_DAMAGED')) site.engine.fail(error)
      else site.core.rewindFailed({ reason: asError(error).message, now: site.now() })
    })
  }

  async #rewind(to: Lsn): Promise<void> {
    const site = this.#site
    const lost = await this.keepWhatIsLost(to)
    // The mark of an orderly end attests records that are about to go.
    await site.saveState({})
    const { place, history } = await site.engine.rewind(to)
    site.events.emit('rewound', { to, lost })
    const { membership } = site.engine
    site.step(() => site.core.rewound({ place, history, membership, now: site.now() }))
  }
}
