// Whether this site takes a write now; if it does not, whether the writer waits, or which error it gets.
//
// The core says what its replicas and a hand-over ask for. What it does not know is added here: that this site is about
// to follow another, that its reign is being ended, that it may not write of its own accord at all.

import { CoterieError } from '../base/errors.ts'
import type { Gate } from '../database/engine.ts'
import type { SiteSteps } from './site-steps.ts'
import type { Standing } from './standing.ts'

export class WriteGate {
  /** About to follow a master, or following it: takes no writes. */
  isLeavingReign = false
  /** Writers wait until the commits under way are settled. */
  isDraining = false
  /** Why a group has no master, for those who want to write. */
  whyNoMaster: CoterieError | undefined
  readonly #site: SiteSteps
  readonly #standing: Standing
  /** What the core said last. */
  #gate: Gate = { open: true }

  constructor(site: SiteSteps, standing: Standing) {
    this.#site = site
    this.#standing = standing
  }

  get gate(): Gate {
    if (this.isLeavingReign) return { open: false, wait: false, error: this.whyNotWriter() as CoterieError }
    return this.isDraining ? { open: false, wait: true } : this.#gate
  }

  /** Asks the core anew, and lets the writers that wait look again. */
  update(): void {
    const gate = this.#site.core.gate()
    if (gate.open || gate.wait || gate.code === 'HANDING_OVER') {
      this.#gate = gate.open ? { open: true } : { open: false, wait: true }
    } else {
      const error = new CoterieError(
        gate.code,
        gate.code === 'NO_QUORUM'
          ? `writes need ${gate.need} attached replicas, there are ${gate.have}`
          : `a replica lags by ${gate.have} bytes, allowed are ${gate.need}`,
        { details: { have: gate.have, need: gate.need } },
      )
      this.#gate = { open: false, wait: false, error }
    }
    this.#site.engine.wakeWriters()
  }

  /** Why this site may not write of its own accord, if so. */
  whyNotWriter(): CoterieError | undefined {
    const { role, sites, inGroup, masterAddress: master } = this.#standing
    const { hasData } = this.#site.engine
    if (inGroup && hasData) return this.#whyNotGroupWriter()
    const at = master === undefined ? '' : `; the master was last at ${master}`
    if (!hasData) {
      return new CoterieError('NOT_MASTER', `this replica has no data yet${at}`, {
        details: { ...(master === undefined ? {} : { master }) },
      })
    }
    if (this.isLeavingReign || this.#site.isFollowing || role === 'replica') {
      const what = this.#site.engine.folder.state?.view === undefined ? 'replica' : 'view'
      return new CoterieError('NOT_MASTER', `this site is a ${what} and takes no writes${at}`, {
        details: { ...(master === undefined ? {} : { master }) },
      })
    }
    if (role === 'master' && (sites ?? 1) > 1) {
      return new CoterieError(
        'NOT_MASTER',
        `this site was the master of a group of ${sites}: call serve(), or standalone() to go on alone`,
      )
    }
    return undefined
  }

  /** In a group only the elected master writes. */
  #whyNotGroupWriter(): CoterieError {
    const heard = this.#site.core.heardMaster
    if (heard !== undefined && heard.site !== this.#site.site) {
      const { site, address } = heard
      const message = `this site is a replica and takes no writes; the master is ${site} at ${address}`
      return new CoterieError('NOT_MASTER', message, { details: { master: address, site } })
    }
    return (
      this.whyNoMaster ?? new CoterieError('NO_MASTER', 'the group has no master now; an election is due')
    )
  }
}
