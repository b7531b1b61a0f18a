// Gives snapshots to replicas: runs the core's effects of that on one open view of the store for each replica, and
// brings the answers back. An answer for a replica that has gone meanwhile is dropped.

import { assert } from '../base/assert.ts'
import { asError } from '../base/errors.ts'
import type { PeerId } from '../replication/core-options.ts'
import type { Effect } from '../replication/effects.ts'
import type { SiteSteps } from './site-steps.ts'
import { SnapshotSource } from './snapshot-source.ts'

export class SnapshotServing {
  readonly #site: SiteSteps
  /** Undefined while it is being opened. */
  readonly #sources = new Map<PeerId, SnapshotSource | undefined>()

  constructor(site: SiteSteps) {
    this.#site = site
  }

  run(effect: Extract<Effect, { kind: 'snapshotOpen' | 'snapshotRead' | 'snapshotClose' }>): void {
    const { peer } = effect
    const failed = (error: unknown): void =>
      this.#site.core.snapshotFailed({ peer, reason: asError(error).message, now: this.#site.now() })
    if (effect.kind === 'snapshotOpen') {
      this.#site.background(this.#openSource(peer, effect.afterKey), failed)
    } else if (effect.kind === 'snapshotRead') {
      const source = this.#sources.get(peer)
      assert(source !== undefined, 'a snapshot is open before it is read')
      const read = source.read(effect).then((chunk) => {
        // Closed meanwhile: the core has done with it.
        if (this.#sources.get(peer) !== source) return
        this.#site.step(() => this.#site.core.snapshotRows({ peer, ...chunk, now: this.#site.now() }))
      })
      this.#site.background(read, failed)
    } else {
      const source = this.#sources.get(peer)
      this.#sources.delete(peer)
      if (source !== undefined) this.#site.background(source.close())
    }
  }

  async #openSource(peer: PeerId, afterKey: Uint8Array | undefined): Promise<void> {
    this.#sources.set(peer, undefined)
    const source = await SnapshotSource.open(this.#site.engine, afterKey)
    if (!this.#sources.has(peer)) {
      // Closed while it was opened: the replica has gone.
      await source.close()
      return
    }
    this.#sources.set(peer, source)
    const { place, history } = source
    const rowsEstimate = await this.#estimateRows()
    if (this.#sources.get(peer) !== source) return
    this.#site.step(() =>
      this.#site.core.snapshotOpened({ peer, place, history, rowsEstimate, now: this.#site.now() }),
    )
  }

  /** A guess for progress bars: the store's size over that of a small row. */
  async #estimateRows(): Promise<number> {
    return Math.ceil((await this.#site.engine.parts.store.approximateBytes()) / 128)
  }

  async close(): Promise<void> {
    for (const [peer, source] of this.#sources) {
      this.#sources.delete(peer)
      await source?.close()
    }
  }
}
