// What the parts of a site's driver need of the site: to tell the core something, to do things aside, to save state.

import type { Emitter } from '../base/emitter.ts'
import type { Lsn } from '../base/lsn.ts'
import type { Engine } from '../database/engine.ts'
import type { LostReport } from '../database/lost-file.ts'
import type { SiteState } from '../database/site-state.ts'
import type { Core } from '../replication/core.ts'
import type { SiteEvents } from './site-events.ts'

export interface SiteSteps {
  readonly engine: Engine
  readonly core: Core
  readonly events: Emitter<SiteEvents>
  /** The durable id. */
  readonly site: string
  readonly isWriter: boolean
  readonly isFollowing: boolean
  now(): number
  /** Tells the core something and runs what follows from it. */
  step(tell: () => unknown): void
  /** Runs something that answers the core later. Its failure is told to the core, or else stops the site. */
  background(work: Promise<unknown>, onFailed?: (error: unknown) => void): void
  /** Durable when it resolves. */
  saveState(change: Partial<SiteState>): Promise<SiteState>
  /** Writes the records after `agreedLsn` to a file before they go. */
  keepWhatIsLost(agreedLsn: Lsn | undefined): Promise<LostReport | undefined>
}
