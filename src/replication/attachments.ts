// Who is attached to a master: one replica for each peer and for each site, and the sessions that have ended, so that
// a Join that was delayed on the way does not bring back an attachment that is over.

import { assert } from '../base/assert.ts'
import type { PeerId } from './core-options.ts'
import type { Progress } from './progress.ts'

const endedSessionsMax = 1_024

export class Attachments {
  readonly #byPeer = new Map<PeerId, Progress>()
  readonly #bySite = new Map<string, Progress>()
  readonly #ended = new Set<number>()
  /**
   * Sites that were attached in this reign. Those that vote, with their incarnations, make up a group whose size nobody
   * has told.
   */
  readonly #met = new Set<string>()
  readonly #known = new Map<string, string>()
  /** When sites that are attached no more were heard last. */
  readonly #heardAt = new Map<string, number>()

  get size(): number {
    return this.#byPeer.size
  }

  /** In the order in which they attached. */
  all(): IterableIterator<Progress> {
    return this.#byPeer.values()
  }

  ofPeer(peer: PeerId): Progress | undefined {
    return this.#byPeer.get(peer)
  }

  ofSite(site: string): Progress | undefined {
    return this.#bySite.get(site)
  }

  /** Voting sites that this reign has met, without the master. */
  get knownSites(): number {
    return this.#known.size
  }

  hasMet(site: string): boolean {
    return this.#met.has(site)
  }

  /** When a site was heard last in this reign. */
  heardAt(site: string): number | undefined {
    return this.#bySite.get(site)?.heardAt ?? this.#heardAt.get(site)
  }

  /** The operator says that a site will not come back. */
  forget(site: string): void {
    this.#known.delete(site)
    this.#met.delete(site)
  }

  /**
   * A view has answered, so it has been let in and is one for good: it will never stand for what it may have acknowledged
   * before. Another site of its id says nothing of it.
   */
  noteView({ site, join }: Progress): void {
    if (this.#known.get(site) === join.incarnation) this.#known.delete(site)
  }

  hasEnded(session: number): boolean {
    return this.#ended.has(session)
  }

  endSession(session: number): void {
    this.#ended.add(session)
    if (this.#ended.size > endedSessionsMax) {
      const [oldest] = this.#ended
      if (oldest !== undefined) this.#ended.delete(oldest)
    }
  }

  add(progress: Progress): void {
    assert(!this.#byPeer.has(progress.peer), 'one replica on a peer')
    assert(!this.#bySite.has(progress.site), 'one replica of a site')
    this.#byPeer.set(progress.peer, progress)
    this.#bySite.set(progress.site, progress)
    this.#met.add(progress.site)
    if (progress.votes) this.#known.set(progress.site, progress.join.incarnation)
  }

  remove(progress: Progress): void {
    this.#byPeer.delete(progress.peer)
    this.#bySite.delete(progress.site)
    this.#heardAt.set(progress.site, progress.heardAt)
    this.endSession(progress.session)
  }

  checkInvariants(): void {
    assert(this.#byPeer.size === this.#bySite.size, 'each attached site has one peer')
    for (const progress of this.#byPeer.values()) {
      assert(this.#bySite.get(progress.site) === progress, 'a site and its peer name the same replica')
    }
  }
}
