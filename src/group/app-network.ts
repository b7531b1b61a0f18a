// The network of an application that brings its own (Base API): what the core sends goes to the application's `send`,
// and what comes from others has a number under which the core knows its sender.
//
// There are no connections there. Who speaks is known from then on, under the address that the application gives with
// its messages; who is silent for long is forgotten, and known again when it speaks. What `send` cannot send is lost,
// as anything may be: it is counted, and the core repairs it.

import { emptyBytes } from '../base/bytes.ts'
import type { CoterieError } from '../base/errors.ts'
import type { PeerId } from '../replication/core-options.ts'
import { protocolRange } from '../transport/preface.ts'
import type { Connection, ConnectionHandlers, SendHints } from '../transport/transport.ts'
import type { Site } from './site.ts'

/** Another site, in the application's own words. */
export type SiteAddress = string | number

/** As the address of a message: to every site that can be reached. */
export const everybody = 'all'

/** What the application's network may want to know of a message (the flags of Berkeley DB's send). */
export interface SendFlags {
  /** The last record in the message; 0 where it has none. */
  readonly lsn: number
  /** It has commits that the group is asked to confirm. */
  readonly permanent: boolean
  /** It should leave at once: somebody waits for it. */
  readonly noBuffer: boolean
  /** Another site than `to` may be asked as well: whoever has the records may serve it. */
  readonly anywhere: boolean
  /** It was asked before, and not answered. */
  readonly rerequest: boolean
}

/**
 * Takes a message on its way; neither part changes afterwards. False, a throw or a rejected promise: it was not sent,
 * which is as if it were lost.
 */
export type AppSend = (control: Uint8Array, rec: Uint8Array, to: SiteAddress, flags: SendFlags) => unknown

/** Messages that `send` did not send. */
export interface SendFailure {
  readonly to: SiteAddress
  readonly flags: SendFlags
  readonly error: unknown
}

export class AppNetwork {
  readonly #site: Site
  readonly #send: AppSend
  readonly #onFailed: (failure: SendFailure) => void
  readonly #peers: Map<SiteAddress, PeerId> = new Map()
  /** A peer to greet all others at. */
  readonly #everybody: PeerId

  constructor(options: {
    readonly site: Site
    readonly send: AppSend
    readonly onFailed: (failure: SendFailure) => void
  }) {
    this.#site = options.site
    this.#send = options.send
    this.#onFailed = options.onFailed
    this.#everybody = this.#add(everybody)
  }

  /** The number of whoever is at an address; greets who was not known. */
  peerOf(address: SiteAddress): PeerId {
    const known = this.#peers.get(address)
    if (known !== undefined) return known
    const peer = this.#add(address)
    this.#peers.set(address, peer)
    const site = this.#site
    site.step(() => site.core.linked({ peer, now: site.now() }))
    return peer
  }

  /** Greets everybody. */
  call(): void {
    const site = this.#site
    site.step(() => site.core.call({ everybody: this.#everybody, now: site.now() }))
  }

  #add(address: SiteAddress): PeerId {
    const connection = new AppConnection({
      remote: String(address),
      send: (control, rec, hints) => this.#carry(control, rec, { to: address, hints }),
      onEnd: () => this.#peers.delete(address),
    })
    return this.#site.peers.add(connection, { trusted: true })
  }

  #carry(
    control: Uint8Array,
    rec: Uint8Array,
    { to, hints }: { readonly to: SiteAddress; readonly hints: SendHints },
  ): void {
    const { permanentLsn, bulk = false, anywhere = false, rerequest = false } = hints
    const permanent = permanentLsn !== undefined
    const flags: SendFlags = { lsn: permanentLsn ?? 0, permanent, noBuffer: !bulk, anywhere, rerequest }
    const failed = (error: unknown): void => this.#onFailed({ to, flags, error })
    try {
      const sent = this.#send(control, rec, to, flags)
      if (sent === false) failed(undefined)
      else if (sent instanceof Promise) {
        sent.then((result: unknown) => {
          if (result === false) failed(undefined)
        }, failed)
      }
    } catch (error) {
      failed(error)
    }
  }
}

/** A connection that is none: it stands for an address, and ends when that is forgotten. */
class AppConnection implements Connection {
  readonly remote: string
  readonly local = undefined
  readonly protocolVersion: number = protocolRange.newest
  readonly bufferedBytes = 0
  readonly bytesIn = 0
  readonly lastHeardMs = 0
  readonly #carry: (control: Uint8Array, rec: Uint8Array, hints: SendHints) => void
  readonly #onEnd: () => void
  handlers: ConnectionHandlers = nobodyListens
  bytesOut = 0
  #isOpen: boolean = true

  constructor(options: {
    readonly remote: string
    readonly send: (control: Uint8Array, rec: Uint8Array, hints: SendHints) => void
    readonly onEnd: () => void
  }) {
    this.remote = options.remote
    this.#carry = options.send
    this.#onEnd = options.onEnd
  }

  send(control: Uint8Array, payload: Uint8Array = emptyBytes, hints: SendHints = {}): boolean {
    if (!this.#isOpen) return true
    this.bytesOut += control.length + payload.length
    this.#carry(control, payload, hints)
    return true
  }

  acceptFramesUpTo(): void {
    // The application's network has bounds of its own.
  }

  pause(): void {
    // The application hands in what it likes.
  }

  resume(): void {}

  async end(): Promise<void> {
    this.destroy()
  }

  destroy(error?: Error): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#onEnd()
    this.handlers.closed(error as CoterieError | undefined)
  }
}

const nobodyListens: ConnectionHandlers = {
  message: () => undefined,
  drain: () => undefined,
  closed: () => undefined,
}
