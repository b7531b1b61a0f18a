// Live records by a shared channel: what the core sends to each replica by itself leaves once for all who hear the
// channel. All of it is here; the core knows nothing of it, and peers.ts asks at two places.
//
// The core sends a live batch to one replica after the other, at once, and the messages differ in the session alone.
// So the first of them goes to the channel and the others are already served. Only what is newer than all that went by
// the channel before goes there: what is older is a repair or a replica catching up, and goes by its own connection.
// The receiving side puts its own session in, which it knows from the Join that it sent.
//
// It fails softly: a replica that misses something asks for it, as it would on any network that loses messages. Nothing
// but Append is taken from a channel.

import type { PeerId } from '../replication/core-options.ts'
import type { Connection, SharedChannel } from '../transport/transport.ts'

// The places in a message, by docs/protocol.md, section "Bytes".
const joinType = 1
const appendType = 4
const sessionAt = 4
const termAt = 8
const lastLsnAt = 28
const appendBytes = 52

/** What went by a channel last. */
interface Sent {
  term: number
  lastLsn: number
  control: Uint8Array
  rec: Uint8Array
  readonly served: Set<PeerId>
}

export class Multicasting {
  readonly #sent: WeakMap<SharedChannel, Sent> = new WeakMap()
  /** Of the attachments that this site has asked for. */
  readonly #sessions: Map<PeerId, number> = new Map()

  /** Whether it went, or has gone, by the channel that the peer hears; else it must go by the connection. */
  send(peer: PeerId, connection: Connection, message: { control: Uint8Array; rec: Uint8Array }): boolean {
    const { channel } = connection
    const { control, rec } = message
    if (channel === undefined || control[0] !== appendType || control.length !== appendBytes) return false
    const term = readU32(control, termAt)
    const lastLsn = readU32(control, lastLsnAt) + readU32(control, lastLsnAt + 4) * 0x1_0000_0000
    const sent = this.#sent.get(channel)
    if (sent !== undefined && sent.rec === rec && isSame(sent.control, control)) {
      if (sent.served.has(peer)) return false
      sent.served.add(peer)
      return true
    }
    const isNew = sent === undefined || term !== sent.term || lastLsn > sent.lastLsn
    // One alone is served as well by its own connection, and that repeats what is lost of long batches.
    if (!isNew || channel.hearers < 2 || !channel.send(control, rec)) return false
    this.#sent.set(channel, { term, lastLsn, control, rec, served: new Set([peer]) })
    return true
  }

  /** A message leaves by the connection: a Join says which session the answers have. */
  sends(peer: PeerId, control: Uint8Array): void {
    if (control[0] === joinType) this.#sessions.set(peer, readU32(control, sessionAt))
  }

  /** What came by the channel of the peer, as if it had come by the connection; undefined: it is not for us. */
  received(peer: PeerId, control: Uint8Array): Uint8Array | undefined {
    const session = this.#sessions.get(peer)
    if (session === undefined || control[0] !== appendType || control.length !== appendBytes) return undefined
    const own = control.slice()
    new DataView(own.buffer).setUint32(sessionAt, session, true)
    return own
  }

  forget(peer: PeerId): void {
    this.#sessions.delete(peer)
  }
}

/** But for the session. */
function isSame(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < appendBytes; i++) {
    const isSession = i >= sessionAt && i < termAt
    if (!isSession && a[i] !== b[i]) return false
  }
  return true
}

function readU32(bytes: Uint8Array, at: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true)
}
