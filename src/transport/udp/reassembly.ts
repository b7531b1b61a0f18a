// Messages from their fragments. What a peer can make this side hold is bounded in messages, in bytes and in time, and
// a claim alone costs nothing: memory is taken for what has come, and above the bound on one message nothing is begun.
// A fragment that contradicts an earlier one, has no room or belongs to a message that is complete is dropped.

import { emptyBytes } from '../../base/bytes.ts'
import { udpBounds } from './bounds.ts'
import type { FragmentFrame } from './frames.ts'

interface Partial {
  readonly controlBytes: number
  readonly unit: number
  readonly bytes: number
  readonly parts: Map<number, Uint8Array>
  missing: number
  heldBytes: number
  touchedMs: number
}

export interface WholeMessage {
  readonly control: Uint8Array
  readonly payload: Uint8Array
}

export type ReassemblyStep =
  | { readonly kind: 'more' }
  | { readonly kind: 'dropped' }
  /** The message is above the bound on one. */
  | { readonly kind: 'tooLong'; readonly bytes: number }
  | { readonly kind: 'whole'; readonly message: WholeMessage }

/** What a fragment costs beside its bytes. */
const partCost = 128

const more: ReassemblyStep = { kind: 'more' }
const dropped: ReassemblyStep = { kind: 'dropped' }

export class Reassembly {
  /** The largest message, control and payload. */
  messageBytesMax: number
  readonly #partials: Map<number, Partial> = new Map()
  /** In the order of their completion. */
  readonly #completed: Set<number> = new Set()
  #heldBytes = 0

  constructor(options: { readonly messageBytesMax: number }) {
    this.messageBytesMax = options.messageBytesMax
  }

  get heldBytes(): number {
    return this.#heldBytes
  }

  get count(): number {
    return this.#partials.size
  }

  add(fragment: FragmentFrame, nowMs: number): ReassemblyStep {
    if (this.#completed.has(fragment.message)) return dropped
    const total = fragment.controlBytes + fragment.payloadBytes
    if (total > this.messageBytesMax) return { kind: 'tooLong', bytes: total }
    const partial = this.#partials.get(fragment.message) ?? this.#begin(fragment, nowMs)
    if (partial === undefined) return dropped
    const isSame =
      partial.bytes === total &&
      partial.controlBytes === fragment.controlBytes &&
      partial.unit === fragment.unit
    if (!isSame) return dropped
    if (partial.parts.has(fragment.index)) return more
    const cost = fragment.bytes.length + partCost
    if (this.#heldBytes + cost > this.#bytesMax) return dropped
    partial.parts.set(fragment.index, fragment.bytes)
    partial.heldBytes += cost
    this.#heldBytes += cost
    partial.touchedMs = nowMs
    partial.missing--
    if (partial.missing > 0) return more
    this.#forget(fragment.message, partial)
    this.#complete(fragment.message)
    return { kind: 'whole', message: join(partial) }
  }

  /** Gives up what nothing was added to for too long. */
  sweep(nowMs: number): void {
    for (const [message, partial] of this.#partials) {
      if (nowMs - partial.touchedMs > udpBounds.reassemblyIdleMs) this.#forget(message, partial)
    }
  }

  clear(): void {
    this.#partials.clear()
    this.#heldBytes = 0
  }

  #begin(fragment: FragmentFrame, nowMs: number): Partial | undefined {
    const total = fragment.controlBytes + fragment.payloadBytes
    if (this.#partials.size >= udpBounds.reassembledMessages) return undefined
    const partial: Partial = {
      controlBytes: fragment.controlBytes,
      unit: fragment.unit,
      bytes: total,
      parts: new Map(),
      missing: Math.ceil(total / fragment.unit),
      heldBytes: 0,
      touchedMs: nowMs,
    }
    this.#partials.set(fragment.message, partial)
    return partial
  }

  get #bytesMax(): number {
    return 2 * this.messageBytesMax + udpBounds.reassembledBytes
  }

  #forget(message: number, partial: Partial): void {
    this.#partials.delete(message)
    this.#heldBytes -= partial.heldBytes
  }

  #complete(message: number): void {
    this.#completed.add(message)
    if (this.#completed.size <= udpBounds.completedMessages) return
    const [oldest] = this.#completed
    if (oldest !== undefined) this.#completed.delete(oldest)
  }
}

function join(partial: Partial): WholeMessage {
  const { parts, unit, controlBytes } = partial
  const bytes = new Uint8Array(partial.bytes)
  for (const [index, part] of parts) bytes.set(part, index * unit)
  const control = bytes.subarray(0, controlBytes)
  return { control, payload: controlBytes === bytes.length ? emptyBytes : bytes.subarray(controlBytes) }
}
