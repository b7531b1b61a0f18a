// What a transport is: it carries opaque messages between two sites, in order and whole, or ends the connection.
// It knows nothing of replication. Connections over byte streams (TCP now) share stream-connection.ts; the one in
// memory, and the lossy wrapper of the tests, implement the same interfaces.
//
// Backpressure: whoever sends stops when `send` returns false and goes on at `drain`; whoever receives may `pause`.

import type { CoterieError } from '../base/errors.ts'
import type { Address } from './address.ts'
import type { LinkOptions, LinkSettings } from './link-options.ts'

export interface Transport {
  /** The part of an address before `://` that this transport serves. */
  readonly scheme: string
  /**
   * The link options that it heeds; [] for none. Calls with protection (`tls`, `secret`, `key`) of which it heeds none are
   * OPTION_INVALID before it is asked. Left out: it is given all, and must itself refuse protection that it cannot give.
   */
  readonly takes?: readonly (keyof LinkOptions)[]
  /** Errors: ADDRESS_IN_USE, ADDRESS_INVALID, OPTION_INVALID, IO_ERROR. */
  listen(options: ListenOptions): Promise<Listener>
  /** Resolves when the other side is known to speak our protocol. Errors: ADDRESS_INVALID, CONNECT_FAILED,
   *  CONNECT_TIMEOUT, PROTOCOL_INCOMPATIBLE, TLS_FAILED, AUTH_FAILED, OPTION_INVALID, ABORTED (its cause the signal's
   *  reason). */
  connect(options: ConnectOptions): Promise<Connection>
}

export interface ListenOptions {
  readonly address: Address
  /** The largest message (control and payload) to accept at first. Default `limits.handshakeFrameBytesMax`. */
  readonly frameBytesMax?: number
  /** How what comes is protected. Default: not at all. */
  readonly link?: LinkSettings
  /** How long a peer may take to say which protocol it speaks. Default 10,000. */
  readonly connectTimeoutMs?: number
  /** Peers that have not said so yet; beyond it the oldest of them is dropped. Default 256. */
  readonly halfOpenMax?: number
  /** Sets `connection.handlers` before it returns. */
  onConnection(connection: Connection): void
  /** A peer was turned away before it became a connection: PROTOCOL_INCOMPATIBLE, TLS_FAILED, AUTH_FAILED, CONNECT_TIMEOUT ... */
  onRefused?(error: CoterieError, remote?: string): void
}

export interface ConnectOptions {
  readonly address: Address
  /** For all of it: reaching the other side and its answer. */
  readonly connectTimeoutMs: number
  /** As for `listen`. */
  readonly frameBytesMax?: number
  readonly link?: LinkSettings
  readonly signal?: AbortSignal
}

export interface Listener {
  /** With the real port: `tcp://127.0.0.1:4711`. */
  readonly address: string
  /** No connection is accepted any more; those that are open stay. */
  close(): Promise<void>
}

/** What a transport may want to know of a message. */
export interface SendHints {
  /** The last record in it that the group is asked to confirm. */
  readonly permanentLsn?: number
  /** Part of a catch-up or a snapshot: it may be gathered with others. All else should leave at once. */
  readonly bulk?: boolean
  /** Any other site may serve it, too. */
  readonly anywhere?: boolean
  /** It was asked before, and not answered. */
  readonly rerequest?: boolean
}

export interface Connection {
  readonly remote: string
  /** The address that was listened on; undefined for a connection that was made from here. */
  readonly local: string | undefined
  /** The newest version of the protocol that both sides speak. */
  readonly protocolVersion: number
  /** What both sides have agreed on. Default `none`. */
  readonly compression?: 'none' | 'deflate' | 'zstd'
  /** The ids under which the other side may take part: it has proved to be each of them. Undefined: under any. */
  readonly peerNames?: readonly string[] | undefined
  /** Set by the receiver, some turns after it has the connection: what comes before, the end too, is kept until then. */
  handlers: ConnectionHandlers
  /**
   * One message = control + payload, sent in order. Neither may change any more: they are not copied for certain.
   * False: more than the high water mark waits and `drain` follows, or the connection is closed and `closed` follows.
   * `hints` are wishes: a transport may leave them aside.
   */
  send(control: Uint8Array, payload?: Uint8Array, hints?: SendHints): boolean
  /** Bytes sent that wait on this side, as far as it knows. */
  readonly bufferedBytes: number
  /** On the wire: after compression, without what the layers below add. */
  readonly bytesIn: number
  readonly bytesOut: number
  /** When the last bytes came, by the host's clock. */
  readonly lastHeardMs: number
  /** What the other side hears beside this connection, as it has confirmed lately; undefined: nothing. */
  readonly channel?: SharedChannel | undefined
  /** Changes the bound on incoming messages, from the next one on. */
  acceptFramesUpTo(bytes: number): void
  /** No message is delivered until `resume`; the other side's sends back up. */
  pause(): void
  resume(): void
  /** Sends what waits, then closes; messages that still come in are dropped. Resolves when closed. */
  end(): Promise<void>
  /**
   * Closes at once; what waits is lost. `closed` reports `error` on this side (as the `cause` of CONNECTION_CLOSED where it
   * is no CoterieError; undefined without it), and CONNECTION_CLOSED on the other.
   */
  destroy(error?: Error): void
}

/** One way to many connections at once: each that has it as its `channel` gets what is sent here. */
export interface SharedChannel {
  /** How many have confirmed lately that they hear it. */
  readonly hearers: number
  /** As `Connection.send`, but nothing is ever repeated. False: it did not go, and must go to each by itself. */
  send(control: Uint8Array, payload: Uint8Array): boolean
}

export interface ConnectionHandlers {
  /** The two are views of what was received, and stay valid as long as they are held. */
  message(control: Uint8Array, payload: Uint8Array): void
  /** As `message`, for what came by the channel that this connection's other side sends on. */
  channelMessage?(control: Uint8Array, payload: Uint8Array): void
  drain(): void
  /** Called once, last. Undefined: one of the sides ended it in order. */
  closed(error: CoterieError | undefined): void
}

export const transportDefaults = {
  connectTimeoutMs: 10_000,
  halfOpenMax: 256,
  highWaterBytes: 1_048_576,
  /** How long `end` waits for the other side to take the rest. */
  lingerMs: 5000,
} as const
