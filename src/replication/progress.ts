// One replica as its master sees it: what it has acknowledged, what has been sent and not acknowledged, and in which
// state it is. Changes itself only; what to send next is decided in feed.ts.
//
//   joining   accepted; its first Ack tells that its log ends where the plan said
//   snapshot  takes rows; its first Ack tells that they are installed
//   catchUp   older records go to it, from memory or the log, within the window
//   live      every batch goes to it the moment it is proposed

import { assert } from '../base/assert.ts'
import type { Lsn } from '../base/lsn.ts'
import type { Attest } from '../base/policy.ts'
import type { PeerId, ReplicaState } from './core-options.ts'
import type { Ack, Join, SyncPlan } from './messages.ts'
import type { SnapshotSender } from './snapshot-sender.ts'
import { type Retry, startRetry, type Timings } from './timings.ts'

/** Sends are joined until they are this large, so that a window of tiny batches stays a short list. */
const inflightGrainBytes = 65_536
/** Heartbeats whose acks may still come, however long the way is. */
const stampsMax = 64

export interface ProgressOptions {
  readonly peer: PeerId
  readonly join: Join
  readonly votes: boolean
  readonly plan: SyncPlan
  readonly agreedLsn: Lsn
  /** The end of the master's log when the replica attached. */
  readonly targetLsn: Lsn
  readonly now: number
  readonly timings: Timings
}

export class Progress {
  readonly peer: PeerId
  readonly site: string
  readonly session: number
  readonly join: Join
  readonly plan: SyncPlan
  readonly agreedLsn: Lsn
  readonly targetLsn: Lsn
  readonly attachedAt: number
  state: ReplicaState
  /** Has caught up once: from then on it is one of the attached that policies count. */
  inStep = false
  snapshot: SnapshotSender | undefined
  /** Its acks count. In a group only those of members do. */
  votes: boolean
  congested = false
  /** A read of the log is under way for it. */
  reading = false
  /** Records that it has asked for again while the newer ones go on flowing. */
  repair: { from: Lsn; to: Lsn } | undefined
  /** The commit position that it has been told. */
  toldLsn = 0 as Lsn
  /** The log that is kept for it. */
  retainLsn: Lsn
  heardAt: number
  /** Since when nothing new was acknowledged although something waited. */
  waitingSince: number
  heartbeatAt: number
  /** When to ask again for an ack that records wait for: it, or the records, may be lost. */
  probe: Retry
  bytesOut = 0
  recordsOut = 0
  roundTripMs: number | undefined
  #receivedLsn = 0 as Lsn
  #durableLsn = 0 as Lsn
  #appliedLsn = 0 as Lsn
  /** Where its log ended when records began to flow. */
  #floorLsn: Lsn
  #sentLsn: Lsn
  #sentMaxLsn: Lsn
  #inflightLsns: Lsn[] = []
  #inflightSizes: number[] = []
  #inflightBytes = 0
  #stamp = 0
  #stampAt: number | undefined
  /** When the last heartbeats were sent that ask for an ack, by stamp. */
  readonly #sentAt = new Map<number, number>()

  constructor(options: ProgressOptions) {
    const { join, now } = options
    this.peer = options.peer
    this.site = join.site
    this.session = join.session
    this.join = join
    this.votes = options.votes
    this.plan = options.plan
    this.agreedLsn = options.agreedLsn
    this.targetLsn = options.targetLsn
    this.state = options.plan === 'snapshot' ? 'snapshot' : 'joining'
    this.attachedAt = now
    this.heardAt = now
    this.waitingSince = now
    this.heartbeatAt = now
    this.probe = startRetry(options.timings, now)
    this.retainLsn = (options.agreedLsn + 1) as Lsn
    this.#floorLsn = options.agreedLsn
    this.#sentLsn = options.agreedLsn
    this.#sentMaxLsn = options.agreedLsn
  }

  get receivedLsn(): Lsn {
    return this.#receivedLsn
  }

  get durableLsn(): Lsn {
    return this.#durableLsn
  }

  get appliedLsn(): Lsn {
    return this.#appliedLsn
  }

  get sentLsn(): Lsn {
    return this.#sentLsn
  }

  get inflightBytes(): number {
    return this.#inflightBytes
  }

  attested(attest: Attest): Lsn {
    if (attest === 'received') return this.#receivedLsn
    return attest === 'durable' ? this.#durableLsn : this.#appliedLsn
  }

  /** After a snapshot the log goes on from its base; the replica may have kept more of what it shares. */
  beginAfter(lsn: Lsn): void {
    this.#floorLsn = lsn
    this.#sentLsn = lsn
    this.#sentMaxLsn = Math.max(lsn, this.agreedLsn) as Lsn
    this.retainLsn = (lsn + 1) as Lsn
  }

  /** Room for `bytes`; one batch always fits into an empty window. */
  hasRoom(bytes: number, inflightBytesMax: number): boolean {
    return this.#inflightBytes === 0 || this.#inflightBytes + bytes <= inflightBytesMax
  }

  sent(firstLsn: Lsn, lastLsn: Lsn, bytes: number): void {
    assert(firstLsn <= this.#sentLsn + 1, 'records are sent without a hole')
    this.bytesOut += bytes
    this.recordsOut += lastLsn - firstLsn + 1
    if (lastLsn <= this.#sentLsn) return
    this.#sentLsn = lastLsn
    if (lastLsn > this.#sentMaxLsn) this.#sentMaxLsn = lastLsn
    this.#inflightBytes += bytes
    const end = this.#inflightLsns.length - 1
    const size = this.#inflightSizes[end]
    if (size !== undefined && size + bytes <= inflightGrainBytes) {
      this.#inflightLsns[end] = lastLsn
      this.#inflightSizes[end] = size + bytes
    } else {
      this.#inflightLsns.push(lastLsn)
      this.#inflightSizes.push(bytes)
    }
  }

  /** Whether the positions can be those of the replica: nothing beyond what it was sent, nothing lost. */
  isPlausible(ack: Ack): boolean {
    return ack.receivedLsn >= this.#floorLsn && ack.receivedLsn <= this.#sentMaxLsn
  }

  /** Cumulative: positions only grow within a session. True if one did. */
  acked(ack: Ack, now: number): boolean {
    const grew =
      ack.receivedLsn > this.#receivedLsn ||
      ack.durableLsn > this.#durableLsn ||
      ack.appliedLsn > this.#appliedLsn
    if (!grew) return false
    this.waitingSince = now
    if (ack.receivedLsn > this.#receivedLsn) this.#receivedLsn = ack.receivedLsn
    if (ack.durableLsn > this.#durableLsn) this.#durableLsn = ack.durableLsn
    if (ack.appliedLsn > this.#appliedLsn) this.#appliedLsn = ack.appliedLsn
    this.retainLsn = (this.#receivedLsn + 1) as Lsn
    if (this.#receivedLsn > this.#sentLsn) this.#sentLsn = this.#receivedLsn
    let settled = 0
    while (settled < this.#inflightLsns.length) {
      if ((this.#inflightLsns[settled] as Lsn) > this.#receivedLsn) break
      this.#inflightBytes -= this.#inflightSizes[settled] as number
      settled++
    }
    if (settled > 0) {
      this.#inflightLsns.splice(0, settled)
      this.#inflightSizes.splice(0, settled)
    }
    return true
  }

  /** What was sent after `lsn` was lost: it will be sent again. */
  sendAgainAfter(lsn: Lsn): void {
    assert(lsn >= this.#receivedLsn, 'what was acknowledged as received is not lost')
    this.#sentLsn = lsn
    this.#inflightLsns.length = 0
    this.#inflightSizes.length = 0
    this.#inflightBytes = 0
  }

  /** A new stamp for a heartbeat. */
  drawStamp(now: number): number {
    this.#stamp = (this.#stamp + 1) >>> 0
    this.#stampAt = now
    this.#sentAt.set(this.#stamp, now)
    if (this.#sentAt.size > stampsMax) this.#sentAt.delete((this.#stamp - stampsMax) >>> 0)
    return this.#stamp
  }

  /** When the heartbeat with this stamp was sent; undefined where that is long ago, or never was. */
  sentAt(stamp: number): number | undefined {
    return this.#sentAt.get(stamp)
  }

  /** The first echo of the last stamp measures the round trip. */
  echoed(stamp: number, now: number): void {
    if (stamp !== this.#stamp || this.#stampAt === undefined) return
    this.roundTripMs = now - this.#stampAt
    this.#stampAt = undefined
  }

  checkInvariants(lastLsn: Lsn): void {
    assert(this.#durableLsn <= this.#receivedLsn, 'a replica has on disk only what it received')
    assert(this.#appliedLsn <= this.#receivedLsn, 'a replica applies only what it received')
    assert(this.#receivedLsn <= this.#sentMaxLsn, 'a replica receives only what was sent')
    assert(this.#sentMaxLsn <= lastLsn, 'only records of the log are sent')
    let bytes = 0
    for (const size of this.#inflightSizes) bytes += size
    assert(bytes === this.#inflightBytes, 'bytes in flight add up')
    assert(this.state !== 'live' || this.snapshot === undefined, 'a live replica takes no snapshot')
  }
}
