// Takes a snapshot from the master: runs the core's effects of that on the staging, and puts the result to use. The
// one step that installs it is the replacement of the state file (snapshot-staging.ts).

import { asError, isCoterieError } from '../base/errors.ts'
import { noLsn } from '../base/lsn.ts'
import type { Parts } from '../database/parts.ts'
import { newIncarnation } from '../database/site-id.ts'
import type { SiteState } from '../database/site-state.ts'
import type { SnapshotResume } from '../replication/core-options.ts'
import type { Effect } from '../replication/effects.ts'
import type { SiteSteps } from './site-steps.ts'
import { SnapshotStaging } from './snapshot-staging.ts'

export class SnapshotTaking {
  readonly #site: SiteSteps
  readonly #staging: SnapshotStaging
  readonly #segmentBytes: number | undefined
  #storing: { readonly index: number; readonly bytes: Uint8Array }[] = []
  /** Settles, and never rejects, when the rows handed to the staging are stored. */
  #storeRunning: Promise<void> | undefined
  /** Generations that were in use and still have readers. */
  readonly #retiring = new Map<Parts, Promise<void>>()
  /** Counts the snapshots that were begun here: rows of an earlier one are nobody's. */
  #snapshots = 0

  constructor(site: SiteSteps, options: { readonly segmentBytes: number | undefined }) {
    this.#site = site
    this.#staging = new SnapshotStaging(site.engine)
    this.#segmentBytes = options.segmentBytes
  }

  /** What an earlier snapshot has left, to go on with. */
  async resumable(): Promise<SnapshotResume | undefined> {
    await this.#storeRunning
    return await this.#staging.resumable()
  }

  /** Drops what an earlier snapshot has left. */
  async discard(): Promise<void> {
    await this.#storeRunning
    await this.#staging.discard()
  }

  /** Ends what is under way; the staged rows stay for a later attachment. */
  async close(): Promise<void> {
    this.#snapshots++
    await this.#storeRunning
    await this.#staging.release()
    for (const parts of this.#retiring.keys()) parts.dropReaders()
    await Promise.all(this.#retiring.values())
  }

  run(effect: Extract<Effect, { kind: 'snapshotPrepare' | 'snapshotStore' | 'snapshotInstall' }>): void {
    const site = this.#site
    const failed = (error: unknown): void => {
      // What is to be kept of the old log cannot be read, or the filter of a view cannot say what is kept of the rows: the
      // next snapshot would end the same way.
      const isFinal = isCoterieError(error, 'LOG_DAMAGED') || isCoterieError(error, 'VIEW_FILTER_FAILED')
      if (isFinal) site.engine.fail(error)
      else site.core.snapshotInstallFailed({ reason: asError(error).message, now: site.now() })
    }
    if (effect.kind === 'snapshotPrepare') {
      site.background(this.#prepareStaging(effect), failed)
    } else if (effect.kind === 'snapshotStore') {
      this.#storing.push({ index: effect.index, bytes: effect.bytes })
      if (this.#storeRunning === undefined) site.background(this.#storeChunks(this.#snapshots), failed)
    } else {
      site.background(this.#install(effect), failed)
    }
  }

  async #prepareStaging(effect: Extract<Effect, { kind: 'snapshotPrepare' }>): Promise<void> {
    const snapshot = ++this.#snapshots
    this.#storing = []
    await this.#storeRunning
    await this.#staging.prepare(effect)
    if (snapshot === this.#snapshots)
      this.#site.step(() => this.#site.core.snapshotPrepared({ now: this.#site.now() }))
  }

  /** Rows go to the staging one group after the other; those of a snapshot that was given up are dropped. */
  #storeChunks(snapshot: number): Promise<void> {
    const run = async (): Promise<void> => {
      while (this.#storing.length > 0 && snapshot === this.#snapshots) {
        const chunks = this.#storing
        this.#storing = []
        await this.#staging.storeRows(chunks.map((chunk) => chunk.bytes))
        const index = chunks.at(-1)?.index as number
        if (snapshot === this.#snapshots) {
          this.#site.step(() => this.#site.core.snapshotStored({ index, now: this.#site.now() }))
        }
      }
    }
    const running = run()
    const settled = running
      .catch(() => {})
      .then(() => {
        this.#storeRunning = undefined
      })
    this.#storeRunning = settled
    return running
  }

  async #install(effect: Extract<Effect, { kind: 'snapshotInstall' }>): Promise<void> {
    const { engine } = this.#site
    const lost = await this.#site.keepWhatIsLost(effect.agreedLsn)
    const before = engine.partsInUse
    const { keptLsn } = effect
    const kept = before === undefined || keptLsn === undefined ? undefined : { from: before.log, to: keptLsn }
    const generation = await this.#staging.complete({ ...effect, segmentBytes: this.#segmentBytes, kept })
    try {
      await this.#switchTo(generation, effect, before)
    } catch (error) {
      // The disk may name the new generation while this handle has the old one: nothing may be written to either.
      if (!isCoterieError(error, 'DISK_FULL') || engine.folder.state?.generation === generation) {
        engine.fail(error)
      }
      throw error
    }
    if (before !== undefined) {
      const retiring = this.#retire(before).finally(() => this.#retiring.delete(before))
      this.#retiring.set(before, retiring)
      this.#site.background(retiring)
    }
    const { last, history } = engine.parts.log
    const { membership } = engine
    const { incarnation } = engine.folder.state as SiteState
    const now = this.#site.now()
    this.#site.step(() =>
      this.#site.core.snapshotInstalled({ place: last, history, membership, incarnation, now }),
    )
    if (lost !== undefined) this.#site.events.emit('rewound', { to: effect.base.lsn, lost })
  }

  async #switchTo(
    generation: number,
    effect: Extract<Effect, { kind: 'snapshotInstall' }>,
    before: Parts | undefined,
  ): Promise<void> {
    const { engine } = this.#site
    const { databaseId, term, master, base, agreedLsn, keptLsn = base.lsn } = effect
    const state = engine.folder.state as SiteState
    // Terms of other databases do not compare. A term that was seen meanwhile keeps its master and its vote.
    const isNewTerm = databaseId !== state.databaseId || term > state.term
    const chosen = isNewTerm ? { term, termMaster: master, vote: undefined } : {}
    const setAside = before !== undefined && agreedLsn === undefined && before.log.lastLsn > noLsn
    await this.#site.saveState({
      databaseId,
      ...chosen,
      generation,
      staging: undefined,
      // What this site has promised with that data it does not know any more: it is no longer the member that it was.
      ...(setAside
        ? {
            aside: [...state.aside, before.generation],
            incarnation: newIncarnation(engine.host.random),
          }
        : {}),
    })
    const parts = await engine.openParts({ databaseId, generation, durableAtLeast: keptLsn })
    // How much of it is permanent the master will say.
    engine.useParts(parts, { databaseId, permanentLsn: noLsn })
  }

  /** The generation that was: gone when its last reader is, unless it was set aside. */
  async #retire(before: Parts): Promise<void> {
    const { folder, storeEngine } = this.#site.engine
    await before.close({ waitForReaders: true })
    const isAside = folder.state?.aside.includes(before.generation) === true
    if (!isAside) await storeEngine.destroy(folder.storePath(before.generation))
    await folder.sweep()
  }
}
