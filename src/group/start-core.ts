// The replication core of a site as it starts: what the state file, the log and the store say, put together.

import { type Lsn, noLsn, toTerm } from '../base/lsn.ts'
import type { Engine } from '../database/engine.ts'
import type { SiteState } from '../database/site-state.ts'
import { placeBeforeAll } from '../log/record-format.ts'
import { Core } from '../replication/core.ts'
import type { Timings } from '../replication/timings.ts'
import { recordCodec } from './record-codec.ts'

export interface StartOptions {
  /** What is certain from the start; default: what the store shows, and what of it has no undo. */
  readonly committedLsn?: Lsn
  readonly permanentLsn?: Lsn
  readonly timings?: Partial<Timings>
}

export function startCore(engine: Engine, state: SiteState, options: StartOptions): Core {
  const parts = engine.partsInUse
  // A database without a record is nobody's yet: it can become a copy of any other.
  const isEmpty = parts === undefined || parts.log.lastLsn === noLsn
  return new Core({
    site: state.site,
    databaseId: isEmpty ? undefined : state.databaseId,
    term: toTerm(Math.max(state.term, parts?.log.last.term ?? 0)),
    // Who reigns in a later term of the log, the log itself says.
    ...(state.term < (parts?.log.last.term ?? 0) ? {} : { termMaster: state.termMaster, vote: state.vote }),
    incarnation: state.incarnation,
    promiseMs: state.promiseMs,
    membership: engine.membership,
    readableLsn: parts?.store.meta?.readableLsn ?? noLsn,
    log: {
      first: parts?.log.firstLsn ?? (1 as Lsn),
      last: parts?.log.last ?? placeBeforeAll,
      durableLsn: parts?.log.durableLsn ?? noLsn,
      history: parts?.log.history ?? [],
    },
    appliedLsn: parts?.appliedLsn ?? noLsn,
    committedLsn: options.committedLsn ?? engine.committedLsn,
    permanentLsn: options.permanentLsn ?? engine.permanentLsn,
    codec: recordCodec,
    random: () => new DataView(engine.host.random.bytes(4).buffer as ArrayBuffer).getUint32(0),
    ...(options.timings === undefined ? {} : { timings: options.timings }),
  })
}
