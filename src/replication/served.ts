// What a site shows to those who attach to it: as much of its log as they may have, and how they are served. A master
// shows all that it has (below); a replica that serves in its turn only what is permanent (relayed-log.ts).

import type { RecordPlace } from '../base/batch.ts'
import type { History } from '../base/history.ts'
import type { Lsn } from '../base/lsn.ts'
import type { CoreState } from './core-state.ts'
import type { Route } from './messages.ts'
import type { Timings } from './timings.ts'

/** Invariant: no record after `last` is sent, and no row that is newer. It may be less than the log here has. */
export interface Served {
  readonly last: RecordPlace
  /** Up to `last`. */
  readonly history: History
  readonly committedLsn: Lsn
  readonly permanentLsn: Lsn
  readonly timings: Timings
  /** How the log comes here; undefined at the master itself. */
  readonly route: Route | undefined
}

/** A master's own log. */
export class OwnLog implements Served {
  readonly #state: CoreState
  readonly route: undefined = undefined

  constructor(state: CoreState) {
    this.#state = state
  }

  get last(): RecordPlace {
    return this.#state.last
  }

  get history(): History {
    return this.#state.history
  }

  get committedLsn(): Lsn {
    return this.#state.committedLsn
  }

  get permanentLsn(): Lsn {
    return this.#state.permanentLsn
  }

  get timings(): Timings {
    return this.#state.timings
  }
}
