// What waits to be sent, and in which order. Short messages (acks, heartbeats, live records) go before long ones
// (chunks of snapshots, records that were missed), and several of them share a datagram. A message that fits into one
// datagram is sent once: if it is lost the replication core repairs that, as it does for records that never came. A
// longer one goes in fragments, and those that are lost go again until all are confirmed: with n fragments and a loss
// of p it would else arrive with (1 - p)^n, which is never.

import { udpBounds } from './bounds.ts'
import { type FragmentFrame, type Frame, fragmentHeadBytes, messageHeadBytes } from './frames.ts'

/** What a message costs beside its bytes: empty ones must not wait without a bound either. */
const waitingCost = 16

/** A message that goes in fragments. */
export interface LongMessage {
  readonly id: number
  readonly control: Uint8Array
  readonly payload: Uint8Array
  readonly unit: number
  readonly fragments: number
  readonly isUrgent: boolean
  next: number
  unconfirmed: number
  /** Which fragments are confirmed. */
  readonly confirmed: Uint8Array
}

export interface Cargo {
  readonly message: LongMessage
  readonly index: number
}

type Waiting = { readonly control: Uint8Array; readonly payload: Uint8Array } | LongMessage

export class Outgoing {
  readonly #bodyBytes: number
  readonly #urgent: Waiting[] = []
  readonly #bulk: LongMessage[] = []
  #urgentHead = 0
  #bulkHead = 0
  /** Sent in part or in full, and not confirmed. */
  readonly #open: Set<LongMessage> = new Set()
  #openBytes = 0
  #again: Cargo[] = []
  #lastId = 0
  #waitingBytes = 0

  /** `bodyBytes`: what a datagram has room for. */
  constructor(options: { readonly bodyBytes: number }) {
    this.#bodyBytes = options.bodyBytes
  }

  /** Not sent, or fragments that are not confirmed. */
  get waitingBytes(): number {
    return this.#waitingBytes
  }

  /** Whether something could be sent now. */
  get hasMore(): boolean {
    if (this.#again.length > 0 || this.#urgentHead < this.#urgent.length) return true
    return this.#bulkHead < this.#bulk.length && this.#mayOpen(this.#bulk[this.#bulkHead] as LongMessage)
  }

  /** Whether everything is sent, and what is long is confirmed. */
  get isDone(): boolean {
    return this.#waitingBytes === 0
  }

  add(control: Uint8Array, payload: Uint8Array): void {
    const bytes = control.length + payload.length
    this.#waitingBytes += bytes + waitingCost
    if (messageHeadBytes + bytes <= this.#bodyBytes) {
      this.#urgent.push({ control, payload })
      return
    }
    const unit = this.#bodyBytes - fragmentHeadBytes
    const fragments = Math.ceil(bytes / unit)
    const isUrgent = bytes <= udpBounds.urgentBytes
    this.#lastId = (this.#lastId + 1) >>> 0
    const message: LongMessage = {
      id: this.#lastId,
      control,
      payload,
      unit,
      fragments,
      isUrgent,
      next: 0,
      unconfirmed: fragments,
      confirmed: new Uint8Array(Math.ceil(fragments / 8)),
    }
    if (isUrgent) this.#urgent.push(message)
    else this.#bulk.push(message)
  }

  /** Adds to `frames` and `cargo` what fits into a datagram beside `used` bytes; returns the bytes used then. */
  fill(frames: Frame[], cargo: Cargo[], used: number): number {
    let bytes = used
    for (;;) {
      const left = this.#bodyBytes - bytes
      const taken = this.#takeAgain(frames, cargo, left) || this.#takeUrgent(frames, cargo, left)
      const added = taken || this.#takeBulk(frames, cargo, left)
      if (added === 0) return bytes
      bytes += added
    }
  }

  confirmed({ message, index }: Cargo): void {
    const mask = 1 << (index & 7)
    const byte = message.confirmed[index >> 3] as number
    if ((byte & mask) !== 0) return
    message.confirmed[index >> 3] = byte | mask
    message.unconfirmed--
    const bytes = message.control.length + message.payload.length
    this.#waitingBytes -= Math.min(message.unit, bytes - index * message.unit)
    if (message.unconfirmed > 0) return
    this.#waitingBytes -= waitingCost
    if (this.#open.delete(message)) this.#openBytes -= bytes
  }

  lost(cargo: Cargo): void {
    if (!isConfirmed(cargo)) this.#again.push(cargo)
  }

  clear(): void {
    this.#urgent.length = 0
    this.#bulk.length = 0
    this.#urgentHead = 0
    this.#bulkHead = 0
    this.#again = []
    this.#open.clear()
    this.#openBytes = 0
    this.#waitingBytes = 0
  }

  #takeAgain(frames: Frame[], cargo: Cargo[], left: number): number {
    for (let next = this.#again[0]; next !== undefined; next = this.#again[0]) {
      // What was taken for lost may have been confirmed since.
      if (!isConfirmed(next)) {
        const frame = fragmentOf(next)
        const bytes = fragmentHeadBytes + frame.bytes.length
        if (bytes > left) return 0
        this.#again.shift()
        frames.push(frame)
        cargo.push(next)
        return bytes
      }
      this.#again.shift()
    }
    return 0
  }

  #takeUrgent(frames: Frame[], cargo: Cargo[], left: number): number {
    const next = this.#urgent[this.#urgentHead]
    if (next === undefined) return 0
    if ('id' in next) {
      const bytes = this.#takeFragment(next, frames, cargo, left)
      if (next.next === next.fragments) this.#dropUrgent()
      return bytes
    }
    const bytes = messageHeadBytes + next.control.length + next.payload.length
    if (bytes > left) return 0
    frames.push({ kind: 'message', control: next.control, payload: next.payload })
    this.#waitingBytes -= next.control.length + next.payload.length + waitingCost
    this.#dropUrgent()
    return bytes
  }

  #takeBulk(frames: Frame[], cargo: Cargo[], left: number): number {
    const next = this.#bulk[this.#bulkHead]
    if (next === undefined || !this.#mayOpen(next)) return 0
    const bytes = this.#takeFragment(next, frames, cargo, left)
    if (next.next === next.fragments) {
      this.#bulkHead++
      if (this.#bulkHead === this.#bulk.length) {
        this.#bulk.length = 0
        this.#bulkHead = 0
      }
    }
    return bytes
  }

  /** Whether the other side will have room to put it together beside those that are under way. */
  #mayOpen(message: LongMessage): boolean {
    if (this.#open.has(message) || this.#open.size === 0) return true
    const bytes = message.control.length + message.payload.length
    return (
      this.#open.size < udpBounds.unconfirmedMessages && this.#openBytes + bytes <= udpBounds.unconfirmedBytes
    )
  }

  #takeFragment(message: LongMessage, frames: Frame[], cargo: Cargo[], left: number): number {
    const item = { message, index: message.next }
    const frame = fragmentOf(item)
    const bytes = fragmentHeadBytes + frame.bytes.length
    if (bytes > left) return 0
    if (!this.#open.has(message)) {
      this.#open.add(message)
      this.#openBytes += message.control.length + message.payload.length
    }
    message.next++
    frames.push(frame)
    cargo.push(item)
    return bytes
  }

  #dropUrgent(): void {
    this.#urgentHead++
    if (this.#urgentHead === this.#urgent.length) {
      this.#urgent.length = 0
      this.#urgentHead = 0
    } else if (this.#urgentHead === 4096) {
      this.#urgent.splice(0, this.#urgentHead)
      this.#urgentHead = 0
    }
  }
}

function isConfirmed({ message, index }: Cargo): boolean {
  return ((message.confirmed[index >> 3] as number) & (1 << (index & 7))) !== 0
}

function fragmentOf({ message, index }: Cargo): FragmentFrame {
  const { control, payload, unit } = message
  const start = unit * index
  const end = Math.min(start + unit, control.length + payload.length)
  return {
    kind: 'fragment',
    message: message.id,
    controlBytes: control.length,
    payloadBytes: payload.length,
    unit,
    index,
    bytes: bytesBetween(control, payload, { start, end }),
  }
}

/** Of control and payload as if they stood one after the other. */
function bytesBetween(
  control: Uint8Array,
  payload: Uint8Array,
  { start, end }: { readonly start: number; readonly end: number },
): Uint8Array {
  if (start >= control.length) return payload.subarray(start - control.length, end - control.length)
  if (end <= control.length) return control.subarray(start, end)
  const joined = new Uint8Array(end - start)
  joined.set(control.subarray(start))
  joined.set(payload.subarray(0, end - control.length), control.length - start)
  return joined
}
