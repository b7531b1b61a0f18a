// The connections of a site, by the number that the core knows them by. Carries messages between them and the core,
// tells the core when one begins, is full or ends, and drops those on which nobody asked to join in time.

import { emptyBytes } from '../base/bytes.ts'
import { CoterieError, type ErrorCode } from '../base/errors.ts'
import { limits } from '../base/limits.ts'
import type { PeerId } from '../replication/core-options.ts'
import { type Effect, noHints } from '../replication/effects.ts'
import type { Connection } from '../transport/transport.ts'
import { borrowedId } from './claims.ts'
import { Multicasting } from './multicasting.ts'
import type { SiteSteps } from './site-steps.ts'

interface Peer {
  readonly connection: Connection
  /** The other side has connected, not this one. */
  readonly accepted: boolean
  joined: boolean
}

const silentCodes: ReadonlySet<ErrorCode> = new Set(['SILENCE_TIMEOUT', 'CONNECT_TIMEOUT'])
/** How long a stranger may be connected without asking to join. */
const strangerTimeoutMs = 10_000
/** Refusals that somebody should look at: a site with the wrong secret or certificate, or one who tries to get in. */
const tellingCodes: ReadonlySet<ErrorCode> = new Set(['AUTH_FAILED', 'TLS_FAILED'])
/** Whoever knocks again and again is told of so often. */
const tellStrangerMs = 1000
/** Connections on which nobody has joined yet. */
const strangersMax = 256

export class Peers {
  readonly #site: SiteSteps
  readonly #peers = new Map<PeerId, Peer>()
  readonly #multicasting = new Multicasting()
  #lastPeer: PeerId = 0
  /** Messages by which a site claimed an id that its connection does not prove. */
  claimsRefused = 0
  /** Of those that were turned away before they had a connection. */
  strangersRefused = 0
  #toldOfStrangerAt = Number.NEGATIVE_INFINITY

  constructor(site: SiteSteps) {
    this.#site = site
  }

  get count(): number {
    return this.#peers.size
  }

  /** A connection on which a replica may ask to join. */
  accept(connection: Connection): void {
    const site = this.#site
    const peer = this.add(connection, { trusted: false })
    site.step(() => site.core.connected({ peer, now: site.now() }))
  }

  /** Somebody did not come as far as a connection. `remote`: from where, if that is known. */
  refused(error: CoterieError, remote: string | undefined): void {
    const site = this.#site
    this.strangersRefused++
    if (!tellingCodes.has(error.code) || site.now() - this.#toldOfStrangerAt < tellStrangerMs) return
    this.#toldOfStrangerAt = site.now()
    // Without its port, which is another one each time: whoever tries again is told of in the same words.
    const from = remote === undefined ? '' : ` (from ${remote.replace(/:\d+$/, '')})`
    const message = error.message + from
    site.events.emit('core', { kind: 'replicaRefused', site: '', code: error.code, message })
  }

  /** A connection to another site of the group. */
  link(connection: Connection): PeerId {
    const site = this.#site
    const peer = this.add(connection, { trusted: true })
    site.step(() => site.core.linked({ peer, now: site.now() }))
    return peer
  }

  unlink(peer: PeerId, why: string): void {
    const site = this.#site
    this.disconnect(peer, new CoterieError('CONNECTION_CLOSED', why))
    site.step(() => site.core.disconnected({ peer, now: site.now(), cause: why }))
  }

  /** `trusted`: the operator chose this address, so its messages may be large. */
  add(connection: Connection, options: { trusted: boolean }): PeerId {
    const id = ++this.#lastPeer
    const peer: Peer = { connection, accepted: !options.trusted, joined: options.trusted }
    this.#peers.set(id, peer)
    connection.acceptFramesUpTo(options.trusted ? limits.frameBytesMax : limits.handshakeFrameBytesMax)
    connection.handlers = {
      message: (control, payload) => {
        if (this.#peers.get(id) !== peer) return
        const { peerNames } = connection
        if (peerNames === undefined || !this.#isBorrowed(id, control, peerNames)) {
          this.#received(id, control, payload)
        }
      },
      channelMessage: (control, payload) => {
        const own = this.#peers.get(id) === peer ? this.#multicasting.received(id, control) : undefined
        if (own !== undefined) this.#received(id, own, payload)
      },
      drain: () => {
        if (this.#peers.get(id) === peer) this.#drained(id)
      },
      closed: (error) => {
        this.#multicasting.forget(id)
        if (this.#peers.delete(id)) this.#closed(id, error)
      },
    }
    if (!options.trusted) this.#limitStrangers(id, peer)
    return id
  }

  /** True: the message claims an id that its sender has not proved, and the connection is at its end. */
  #isBorrowed(id: PeerId, control: Uint8Array, proved: readonly string[]): boolean {
    const site = this.#site
    const borrowed = borrowedId(control, proved, site.core.term)
    if (borrowed === undefined) return false
    const { error, answer, instead } = borrowed
    this.claimsRefused++
    this.send({ kind: 'send', to: id, control: answer, hints: noHints })
    if (instead !== undefined) this.#received(id, instead, emptyBytes)
    else {
      const { code, message } = error
      site.events.emit('core', { kind: 'replicaRefused', site: borrowed.site, code, message })
    }
    if (this.#peers.has(id)) {
      this.disconnect(id, error)
      this.#closed(id, error)
    }
    return true
  }

  #received(from: PeerId, control: Uint8Array, rec: Uint8Array): void {
    const site = this.#site
    site.step(() => site.core.processMessage({ control, rec, from, now: site.now() }))
  }

  #drained(peer: PeerId): void {
    this.#site.step(() => this.#site.core.congested({ peer, congested: false }))
  }

  #closed(peer: PeerId, cause: CoterieError | undefined): void {
    const site = this.#site
    site.step(() =>
      site.core.disconnected({
        peer,
        now: site.now(),
        ...(cause === undefined ? {} : { cause: cause.message }),
      }),
    )
    site.events.emit('peerGone', { peer, cause })
  }

  #limitStrangers(id: PeerId, peer: Peer): void {
    const strangers = [...this.#peers].filter(([, each]) => !each.joined)
    const oldest = strangers[0]
    if (strangers.length > strangersMax && oldest !== undefined) {
      this.disconnect(oldest[0], new CoterieError('HANDSHAKE_FAILED', 'too many connections wait to join'))
    }
    this.#site.engine.host.timers.after(strangerTimeoutMs, () => {
      if (this.#peers.get(id) === peer && !peer.joined) {
        this.disconnect(id, new CoterieError('HANDSHAKE_FAILED', 'nobody asked to join in time'))
      }
    })
  }

  joined(id: PeerId): void {
    const peer = this.#peers.get(id)
    if (peer !== undefined) peer.joined = true
  }

  /** False once the other side takes no more; the core hears when it does. Sending to who has gone is like a loss. */
  send({ to, control, rec, hints }: Extract<Effect, { kind: 'send' }>): boolean {
    const peer = this.#peers.get(to)
    if (peer === undefined) return true
    if (rec !== undefined && this.#multicasting.send(to, peer.connection, { control, rec })) return true
    this.#multicasting.sends(to, control)
    return peer.connection.send(control, rec, hints)
  }

  trafficOf(id: PeerId): { bytesIn: number; bytesOut: number; remote: string } | undefined {
    const connection = this.#peers.get(id)?.connection
    if (connection === undefined) return undefined
    return { bytesIn: connection.bytesIn, bytesOut: connection.bytesOut, remote: connection.remote }
  }

  /** Sends what was given to it, then closes. The core is not told: it asked for this. */
  disconnect(id: PeerId, cause: CoterieError): void {
    const peer = this.#peers.get(id)
    if (peer === undefined) return
    this.#peers.delete(id)
    // Who has been silent will not take the rest either.
    if (silentCodes.has(cause.code)) peer.connection.destroy(cause)
    else peer.connection.end().catch(() => peer.connection.destroy(cause))
  }

  disconnectAll(cause: CoterieError): void {
    for (const [id, peer] of this.#peers) {
      this.#peers.delete(id)
      peer.connection.destroy(cause)
      this.#closed(id, cause)
    }
  }

  async endAll(): Promise<void> {
    await this.#end([...this.#peers])
  }

  /** Those that others have made; the one to this site's own master stays. */
  async endAccepted(): Promise<void> {
    await this.#end([...this.#peers].filter(([, peer]) => peer.accepted))
  }

  async #end(peers: readonly [PeerId, Peer][]): Promise<void> {
    for (const [id] of peers) this.#peers.delete(id)
    await Promise.all(peers.map(([, { connection }]) => connection.end()))
  }
}
