// Writes the fields of a message, little-endian. What each type consists of is in message-codec.ts.

import type { RecordPlace } from '../base/batch.ts'
import { utf8Encode } from '../base/bytes.ts'
import type { History, HistoryEntry } from '../base/history.ts'
import { limits } from '../base/limits.ts'
import type { Envelope } from './envelope.ts'

/** One buffer serves all encoding, because it is synchronous; what is returned is a copy. */
const scratch = new Uint8Array(limits.handshakeFrameBytesMax)
const scratchView = new DataView(scratch.buffer)

export class MessageWriter {
  #at = 0

  begin(envelope: Envelope, head: { type: number; version: number; flags: number }): void {
    this.#at = 0
    this.u8(head.type)
    this.u8(head.version)
    this.u16(head.flags)
    this.u32(envelope.session)
    this.u32(envelope.term)
  }

  u8(value: number): void {
    scratchView.setUint8(this.#at, value)
    this.#at += 1
  }

  u16(value: number): void {
    scratchView.setUint16(this.#at, value, true)
    this.#at += 2
  }

  u32(value: number): void {
    scratchView.setUint32(this.#at, value, true)
    this.#at += 4
  }

  u64(value: number): void {
    scratchView.setUint32(this.#at, value >>> 0, true)
    scratchView.setUint32(this.#at + 4, Math.floor(value / 0x1_0000_0000), true)
    this.#at += 8
  }

  place(place: RecordPlace): void {
    this.u64(place.lsn)
    this.u32(place.term)
    this.u32(place.crc)
  }

  bytes(bytes: Uint8Array): void {
    this.u16(bytes.length)
    scratch.set(bytes, this.#at)
    this.#at += bytes.length
  }

  text(text: string, bytesMax: number): void {
    this.bytes(fitUtf8(text, bytesMax))
  }

  entry(entry: HistoryEntry): void {
    this.u32(entry.term)
    this.u64(entry.firstLsn)
    this.text(entry.site, limits.siteIdBytesMax)
  }

  history(history: History): void {
    const from = Math.max(0, history.length - limits.historyEntriesMax)
    this.u16(history.length - from)
    for (let i = from; i < history.length; i++) this.entry(history[i] as HistoryEntry)
  }

  finish(): Uint8Array {
    return scratch.slice(0, this.#at)
  }
}

/** UTF-8, cut at a whole character where it is too long. */
function fitUtf8(text: string, bytesMax: number): Uint8Array {
  const bytes = utf8Encode(text)
  if (bytes.length <= bytesMax) return bytes
  let end = bytesMax
  while (end > 0 && ((bytes[end] as number) & 0xc0) === 0x80) end--
  return bytes.subarray(0, end)
}
