// The handshake, as what follows from each datagram; it does no input or output and holds no timer.
//
//   client                                 server
//     hello, without a cookie      ->
//                                  <-      cookie                    (nothing is kept)
//     the same hello, with it      ->
//                                  <-      accept, or refuse         (kept from here on, within a bound)
//     the first data               ->      the connection is there
//
// The client repeats its hello until it is answered, and a hello that comes again is answered again. With a key each
// datagram is signed: a hello that is not, or by another key, gets no answer at all, and the server knows why. The
// answers are signed together with the nonce of the hello, so an old answer fits no new hello. A recorded hello that
// comes again makes at most a half-open connection, which ends by itself: only who can derive the keys sends data.

import { emptyBytes } from '../../base/bytes.ts'
import { CoterieError } from '../../base/errors.ts'
import type { DatagramPeer } from '../../env/datagrams.ts'
import type { Random } from '../../env/host.ts'
import type { ProtocolRange } from '../preface.ts'
import type { Cookies } from './cookie.ts'
import {
  type CookieAnswer,
  decodeAccept,
  decodeCookie,
  decodeHello,
  decodeRefuse,
  emptyCookie,
  encodeAccept,
  encodeCookie,
  encodeHello,
  encodeRefuse,
  type Hello,
  nonceBytes,
} from './packet.ts'
import type { BodySealer, Secrets } from './secrets.ts'
import { readU48 } from './wire.ts'

/** All that a connection needs of its handshake. */
export interface Session {
  readonly version: number
  /** The connection as this side names it, in what it receives. */
  readonly ownId: number
  readonly peerId: number
  readonly outgoing: BodySealer
  readonly incoming: BodySealer
}

export type ClientStep =
  | { readonly kind: 'ignored' }
  /** Send `ClientHandshake.hello` now. */
  | { readonly kind: 'again' }
  | { readonly kind: 'accepted'; readonly session: Session }
  | { readonly kind: 'refused'; readonly error: CoterieError }

export class ClientHandshake {
  readonly #secrets: Secrets
  readonly #protocol: ProtocolRange
  readonly #id: number
  readonly #nonce: Uint8Array
  #cookie: Uint8Array = emptyCookie
  #hello: Uint8Array

  constructor(options: {
    readonly secrets: Secrets
    readonly random: Random
    readonly protocol: ProtocolRange
  }) {
    this.#secrets = options.secrets
    this.#protocol = options.protocol
    this.#id = drawId(options.random)
    this.#nonce = options.random.bytes(nonceBytes)
    this.#hello = this.#encode()
  }

  /** What to send until something happens. */
  get hello(): Uint8Array {
    return this.#hello
  }

  received(datagram: Uint8Array): ClientStep {
    const cookie = decodeCookie(datagram)
    if (cookie !== undefined) return this.#gotCookie(cookie, datagram)
    const accept = decodeAccept(datagram)
    if (accept !== undefined) {
      if (!this.#isForMe(accept, datagram)) return { kind: 'ignored' }
      if (accept.version < this.#protocol.oldest || accept.version > this.#protocol.newest) {
        return { kind: 'ignored' }
      }
      const nonces = { client: this.#nonce, server: accept.nonce }
      const keys = this.#secrets.directionKeys(nonces)
      const session: Session = {
        version: accept.version,
        ownId: this.#id,
        peerId: accept.serverId,
        outgoing: keys.toServer,
        incoming: keys.toClient,
      }
      return { kind: 'accepted', session }
    }
    const refuse = decodeRefuse(datagram)
    if (refuse === undefined || !this.#isForMe(refuse, datagram)) return { kind: 'ignored' }
    return { kind: 'refused', error: incompatible(this.#protocol, refuse.protocol) }
  }

  #gotCookie(answer: CookieAnswer, datagram: Uint8Array): ClientStep {
    if (!this.#isForMe(answer, datagram)) return { kind: 'ignored' }
    // Also a second time: the listener may have been started anew, or the slot is over.
    this.#cookie = answer.cookie.slice()
    this.#hello = this.#encode()
    return { kind: 'again' }
  }

  #isForMe(answer: { readonly keyed: boolean; readonly id: number }, datagram: Uint8Array): boolean {
    if (answer.id !== this.#id || answer.keyed !== this.#secrets.keyed) return false
    return this.#secrets.isSigned(datagram, this.#nonce)
  }

  #encode(): Uint8Array {
    const hello: Hello = {
      keyed: this.#secrets.keyed,
      protocol: this.#protocol,
      id: this.#id,
      nonce: this.#nonce,
      cookie: this.#cookie,
    }
    return encodeHello(hello, (signed) => this.#secrets.sign(signed, emptyBytes))
  }
}

export type ServerStep =
  | { readonly kind: 'ignored' }
  /** Nobody is answered, but the operator may be told. */
  | { readonly kind: 'suspect'; readonly error: CoterieError }
  | { readonly kind: 'answer'; readonly datagram: Uint8Array }
  | { readonly kind: 'refuse'; readonly datagram: Uint8Array; readonly error: CoterieError }
  /** The sender receives at its address: it may be accepted. */
  | { readonly kind: 'hello'; readonly hello: Hello; readonly version: number }

export class ServerHandshake {
  readonly #secrets: Secrets
  readonly #cookies: Cookies
  readonly #protocol: ProtocolRange

  constructor(options: {
    readonly secrets: Secrets
    readonly cookies: Cookies
    readonly protocol: ProtocolRange
  }) {
    this.#secrets = options.secrets
    this.#cookies = options.cookies
    this.#protocol = options.protocol
  }

  /** Keeps nothing. */
  received(datagram: Uint8Array, from: DatagramPeer, nowMs: number): ServerStep {
    const hello = decodeHello(datagram)
    if (hello === undefined || hello.id === 0) return { kind: 'ignored' }
    if (hello.keyed !== this.#secrets.keyed) {
      const why = hello.keyed ? 'uses a key, and this side does not' : 'uses no key, and this side does'
      return { kind: 'suspect', error: keyMismatch(from, why) }
    }
    if (!this.#secrets.isSigned(datagram, emptyBytes)) {
      return { kind: 'suspect', error: keyMismatch(from, 'uses another key') }
    }
    const { id, keyed, nonce } = hello
    const sign = (signed: Uint8Array): Uint8Array => this.#secrets.sign(signed, nonce)
    if (!this.#cookies.isGood(hello, from, nowMs)) {
      const cookie = this.#cookies.make(hello, from, nowMs)
      return { kind: 'answer', datagram: encodeCookie({ keyed, id, cookie }, sign) }
    }
    const version = Math.min(this.#protocol.newest, hello.protocol.newest)
    if (version < this.#protocol.oldest || version < hello.protocol.oldest) {
      const refusal = encodeRefuse({ keyed, protocol: this.#protocol, id }, sign)
      return { kind: 'refuse', datagram: refusal, error: incompatible(this.#protocol, hello.protocol) }
    }
    return { kind: 'hello', hello, version }
  }

  /** Lets a hello in: the answer, to be sent again as often as the hello comes again. */
  accept(hello: Hello, version: number, random: Random): { session: Session; datagram: Uint8Array } {
    const nonce = random.bytes(nonceBytes)
    const serverId = drawId(random)
    const { id, keyed } = hello
    const keys = this.#secrets.directionKeys({ client: hello.nonce, server: nonce })
    const datagram = encodeAccept({ keyed, version, id, serverId, nonce }, (signed) =>
      this.#secrets.sign(signed, hello.nonce),
    )
    const session: Session = {
      version,
      ownId: serverId,
      peerId: id,
      outgoing: keys.toClient,
      incoming: keys.toServer,
    }
    return { session, datagram }
  }
}

/** Six random bytes that are not all zero. */
function drawId(random: Random): number {
  let id = 0
  while (id === 0) id = readU48(random.bytes(6), 0)
  return id
}

function keyMismatch(from: DatagramPeer, why: string): CoterieError {
  return new CoterieError('HANDSHAKE_FAILED', `${from.host}:${from.port} ${why}`, {
    details: { remote: `${from.host}:${from.port}` },
  })
}

function incompatible(ours: ProtocolRange, theirs: ProtocolRange): CoterieError {
  const ranges = `ours ${ours.oldest} to ${ours.newest}, theirs ${theirs.oldest} to ${theirs.newest}`
  return new CoterieError(
    'PROTOCOL_INCOMPATIBLE',
    `the other side speaks other versions of the protocol (${ranges})`,
    { details: { ours, theirs } },
  )
}
