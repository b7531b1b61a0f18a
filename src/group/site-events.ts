// What the driver of a site reports to the faces above it.

import type { CoterieError } from '../base/errors.ts'
import type { Lsn, Term } from '../base/lsn.ts'
import type { LostReport } from '../database/lost-file.ts'
import type { SiteRole } from '../database/site-state.ts'
import type { PeerId } from '../replication/core-options.ts'
import type { CoreEvent, Effect } from '../replication/effects.ts'

/** What a site tells those above it. */
export type SiteEvents = {
  /** Everything that the core reports. */
  core: CoreEvent
  stopped: Extract<Effect, { kind: 'stopped' }>
  steppedDown: Extract<Effect, { kind: 'steppedDown' }>
  /** This site shall begin to reign: `Roles.reignElected`. */
  elected: Extract<Effect, { kind: 'elected' }>
  /** A connection has ended, or was ended here; not told of those that `unlink` ends. */
  peerGone: { readonly peer: PeerId; readonly cause: CoterieError | undefined }
  rewound: { readonly to: Lsn; readonly lost: LostReport | undefined }
  failed: CoterieError
  /** Records of the log could not be read for a replica. */
  damaged: CoterieError
  stalled: CoterieError
  resumed: undefined
  role: { readonly role: SiteRole; readonly term: Term }
}
