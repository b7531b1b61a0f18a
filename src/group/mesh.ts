// The links of a site to the others of its group: one that was dialled to each known address, dialled again when it is
// lost, for as long as the site is in the group.
//
// Addresses come from the seeds, from the members, and from what sites tell of themselves. Each is dialled on its
// own, so one that does not answer holds up nobody. A link that leads back to this site, or to a site that is linked
// under another address, is ended. Of two sites that are linked by both, the one of the greater id gives up its own.

import { asError, CoterieError, isCoterieError } from '../base/errors.ts'
import type { PeerId, SiteView } from '../replication/core-options.ts'
import { BackOff } from './back-off.ts'
import type { Links } from './links.ts'
import type { Site } from './site.ts'

export interface MeshOptions {
  readonly site: Site
  readonly links: Links
  /** Where this site listens, and where it says that it does. */
  readonly own: readonly string[]
  readonly seeds: readonly string[]
  readonly connectTimeoutMs: number
  readonly retryMinMs: number
  readonly retryMaxMs: number
  /** A seed could not be reached; told again only when the reason changes. */
  readonly onSeedFailed: (address: string, error: CoterieError) => void
}

interface Place {
  readonly address: string
  readonly backOff: BackOff
  /** Of the connect that is under way. */
  dialing: AbortController | undefined
  peer: PeerId | undefined
  /** Who was met there last. */
  site: string | undefined
  /** The last failure that was told. */
  told: string | undefined
}

/** What a seed has turned out to be. */
export type SeedFinding = { readonly address: string; readonly site: string | undefined }

/** A site that is no member and has not been heard for so long is not looked for any more. */
const strangerKeptMs = 60_000

export class Mesh {
  readonly #options: MeshOptions
  readonly #places = new Map<string, Place>()
  readonly #own: Set<string>
  #isClosed: boolean = false
  #dueAt = 0

  constructor(options: MeshOptions) {
    this.#options = options
    this.#own = new Set(options.own.map(plain))
  }

  /**
   * Seeds other than this site, and who is there. A site that has dialled this one, and says that it is at a seed's
   * address, is as good as an answer: nobody dials it any more.
   */
  get seeds(): SeedFinding[] {
    const { sites } = this.#options.site.core
    return this.#options.seeds
      .filter((address) => !this.#own.has(plain(address)))
      .map((address) => ({ address, site: this.#places.get(address)?.site ?? this.#siteAt(address, sites) }))
  }

  tick(now: number): void {
    if (this.#isClosed || now < this.#dueAt) return
    this.#dueAt = now + this.#options.retryMinMs
    const { sites } = this.#options.site.core
    const wanted = this.#wanted(now, sites)
    for (const place of this.#places.values()) {
      if (wanted.has(place.address)) continue
      this.#end(place, 'the site is not at this address any more')
      this.#places.delete(place.address)
    }
    for (const address of wanted) this.#tend(this.#placeAt(address), { now, sites })
  }

  #wanted(now: number, sites: readonly SiteView[]): Set<string> {
    const { site, seeds } = this.#options
    const { membership } = site.core
    const wanted = new Set<string>()
    for (const member of membership?.members ?? []) if (member.site !== site.site) wanted.add(member.address)
    const removed = new Set(membership?.removed)
    for (const view of sites) {
      const isMember = membership?.members.some((member) => member.site === view.site) === true
      if (isMember || removed.has(view.site) || now - view.heardAt > strangerKeptMs) continue
      wanted.add(view.address)
    }
    for (const seed of seeds) wanted.add(seed)
    for (const address of wanted) if (address === '' || this.#own.has(plain(address))) wanted.delete(address)
    return wanted
  }

  #placeAt(address: string): Place {
    let place = this.#places.get(address)
    if (place === undefined) {
      const { site, retryMinMs, retryMaxMs } = this.#options
      const { random } = site.engine.host
      const backOff = new BackOff({ random, minMs: retryMinMs, maxMs: retryMaxMs })
      place = { address, backOff, dialing: undefined, peer: undefined, site: undefined, told: undefined }
      this.#places.set(address, place)
    }
    return place
  }

  #tend(place: Place, { now, sites }: { readonly now: number; readonly sites: readonly SiteView[] }): void {
    if (place.dialing !== undefined || place.peer !== undefined || !place.backOff.isDue(now)) return
    const there = place.site ?? this.#siteAt(place.address, sites)
    if (there !== undefined && (this.#isLinked(there) || this.#isLinkedByTheOther(there, sites))) return
    const dialing = new AbortController()
    place.dialing = dialing
    this.#dial(place, dialing.signal).catch((error: unknown) => this.#options.site.engine.fail(error))
  }

  #isLinked(site: string): boolean {
    for (const place of this.#places.values()) {
      if (place.site === site && place.peer !== undefined) return true
    }
    return false
  }

  /** Who is known to be at an address. */
  #siteAt(address: string, sites: readonly SiteView[]): string | undefined {
    const { membership } = this.#options.site.core
    return (
      membership?.members.find((member) => member.address === address)?.site ??
      sites.find((view) => view.address === address)?.site
    )
  }

  #isLinkedByTheOther(there: string, sites: readonly SiteView[]): boolean {
    return there < this.#options.site.site && sites.some((view) => view.site === there && view.linked)
  }

  async #dial(place: Place, signal: AbortSignal): Promise<void> {
    const { site, links, connectTimeoutMs } = this.#options
    try {
      const connection = await links.connect({ address: place.address, connectTimeoutMs, signal })
      if (signal.aborted) {
        connection.destroy()
        return
      }
      // Whoever is there answers soon, or the link is ended and tried again later and later.
      place.backOff.failed(site.now())
      place.peer = site.peers.link(connection)
    } catch (error) {
      if (signal.aborted) return
      place.backOff.failed(site.now())
      this.#tellFailure(place, asUnreachable(error))
    } finally {
      place.dialing = undefined
    }
  }

  #tellFailure(place: Place, error: CoterieError): void {
    const { seeds, onSeedFailed } = this.#options
    if (!seeds.includes(place.address) || place.told === error.message) return
    place.told = error.message
    onSeedFailed(place.address, error)
  }

  /** Somebody has said on a link who it is. */
  met(event: { readonly site: string; readonly peer: PeerId }): void {
    const { site } = this.#options
    const place = this.#placeOf(event.peer)
    if (event.site === site.site) {
      if (place !== undefined) this.#own.add(plain(place.address))
      this.#unlink(place, event.peer, 'the link leads back to this site')
      return
    }
    if (place === undefined) {
      this.#yieldTo(event.site)
      return
    }
    for (const other of this.#places.values()) {
      if (other !== place && other.site === event.site && other.peer !== undefined) {
        place.site = event.site
        this.#unlink(place, event.peer, `site ${event.site} is linked at ${other.address} already`)
        return
      }
    }
    place.site = event.site
    place.told = undefined
    place.backOff.succeeded()
  }

  /** The other site has dialled, too: one link is enough. */
  #yieldTo(there: string): void {
    if (there >= this.#options.site.site) return
    for (const place of this.#places.values()) {
      if (place.site === there) this.#end(place, `site ${there} has made a link of its own`)
    }
  }

  /** A connection has ended. */
  gone(peer: PeerId): void {
    const place = this.#placeOf(peer)
    if (place !== undefined) place.peer = undefined
  }

  #placeOf(peer: PeerId): Place | undefined {
    for (const place of this.#places.values()) if (place.peer === peer) return place
    return undefined
  }

  #unlink(place: Place | undefined, peer: PeerId, why: string): void {
    if (place !== undefined) place.peer = undefined
    this.#options.site.peers.unlink(peer, why)
  }

  #end(place: Place, why: string): void {
    place.dialing?.abort()
    if (place.peer !== undefined) this.#unlink(place, place.peer, why)
  }

  close(): void {
    this.#isClosed = true
    for (const place of this.#places.values()) this.#end(place, 'this site leaves the group')
    this.#places.clear()
  }
}

/** One spelling for the names of this machine's loopback. */
function plain(address: string): string {
  return address.replace(/^tcp:\/\/(?:localhost|\[::1\]):/, 'tcp://127.0.0.1:')
}

function asUnreachable(error: unknown): CoterieError {
  if (isCoterieError(error)) return error
  return new CoterieError('CONNECT_FAILED', asError(error).message, { cause: error })
}
