// Reads the log for replicas that are behind: the core's effect `readLog`, and its answer. Records that this site has no
// more are an answer, too; records that it cannot read are told to the operator, and the replica gets none.

import { asError, CoterieError, isCoterieError } from '../base/errors.ts'
import type { Effect } from '../replication/effects.ts'
import type { SiteSteps } from './site-steps.ts'

export class LogServing {
  readonly #site: SiteSteps

  constructor(site: SiteSteps) {
    this.#site = site
  }

  run(effect: Extract<Effect, { kind: 'readLog' }>): void {
    const { peer, from, to, bytesMax } = effect
    const site = this.#site
    site.engine.parts.log.read({ from, to, bytesMax }).then(
      (batch) => site.step(() => site.core.logRead({ peer, from, batch, now: site.now() })),
      (error: unknown) => {
        if (site.engine.closed) return
        const why = isCoterieError(error, 'LOG_TRIMMED') ? 'trimmed' : 'failed'
        if (why === 'failed' && !isCoterieError(error, 'CLOSED'))
          site.events.emit('damaged', asCoterie(error))
        site.step(() => site.core.logRead({ peer, from, error: why, now: site.now() }))
      },
    )
  }
}

function asCoterie(error: unknown): CoterieError {
  return isCoterieError(error)
    ? error
    : new CoterieError('IO_ERROR', asError(error).message, { cause: error })
}
