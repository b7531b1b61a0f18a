// Reads the fields of a message and checks each one. What each type consists of is in message-codec.ts.

import type { RecordPlace } from '../base/batch.ts'
import { emptyBytes, utf8Decode } from '../base/bytes.ts'
import type { History, HistoryEntry } from '../base/history.ts'
import { limits } from '../base/limits.ts'
import type { Lsn, Term } from '../base/lsn.ts'
import { messageLimits } from './message-limits.ts'

/** Reads fields; after the first fault it reads zeros, and `fault` says what was wrong. */
export class MessageReader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #at = 0
  fault = ''

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  }

  fail(reason: string): void {
    if (this.fault === '') this.fault = reason
  }

  expect(condition: boolean, reason: string): void {
    if (!condition) this.fail(reason)
  }

  /** Where the next `count` bytes stand, or -1. */
  #take(count: number): number {
    if (this.fault !== '') return -1
    const at = this.#at
    if (at + count > this.#bytes.length) {
      this.fail('a field is cut short')
      return -1
    }
    this.#at = at + count
    return at
  }

  u8(): number {
    const at = this.#take(1)
    return at < 0 ? 0 : this.#view.getUint8(at)
  }

  u16(): number {
    const at = this.#take(2)
    return at < 0 ? 0 : this.#view.getUint16(at, true)
  }

  u32(): number {
    const at = this.#take(4)
    return at < 0 ? 0 : this.#view.getUint32(at, true)
  }

  u64(): number {
    const at = this.#take(8)
    if (at < 0) return 0
    const high = this.#view.getUint32(at + 4, true)
    if (high > 0x1f_ffff) {
      this.fail('a number is beyond the safe integers')
      return 0
    }
    return high * 0x1_0000_0000 + this.#view.getUint32(at, true)
  }

  lsn(): Lsn {
    return this.u64() as Lsn
  }

  term(): Term {
    const term = this.u32()
    this.expect(term <= messageLimits.termMax, 'a term is out of range')
    return term as Term
  }

  place(): RecordPlace {
    const place = { lsn: this.lsn(), term: this.term(), crc: this.u32() }
    const isStart = place.term === 0 && place.crc === 0
    this.expect(place.lsn > 0 ? place.term > 0 : isStart, 'a place contradicts itself')
    return place
  }

  bytes(bytesMax: number): Uint8Array {
    const length = this.u16()
    this.expect(length <= bytesMax, 'a field is too long')
    const at = this.#take(length)
    return at < 0 ? emptyBytes : this.#bytes.subarray(at, at + length)
  }

  text(bytesMax: number): string {
    const bytes = this.bytes(bytesMax)
    try {
      return utf8Decode(bytes)
    } catch {
      this.fail('a text is not UTF-8')
      return ''
    }
  }

  name(): string {
    const name = this.text(limits.siteIdBytesMax)
    this.expect(name !== '', 'a name is empty')
    return name
  }

  entry(): HistoryEntry {
    const entry = { term: this.term(), firstLsn: this.lsn(), site: this.name() }
    this.expect(entry.term > 0 && entry.firstLsn > 0, 'a reign has no term or no record')
    return entry
  }

  /** Invariant of the result: terms and first LSNs grow, and none is after `lastLsn`. */
  history(lastLsn: Lsn): History {
    const count = this.u16()
    this.expect(count <= limits.historyEntriesMax, 'a history is too long')
    this.expect(count > 0 === lastLsn > 0, 'a log and its history contradict each other')
    const entries: HistoryEntry[] = []
    let previous: HistoryEntry | undefined
    for (let i = 0; i < count && this.fault === ''; i++) {
      const entry = this.entry()
      if (previous !== undefined) {
        this.expect(
          entry.term > previous.term && entry.firstLsn > previous.firstLsn,
          'a history is out of order',
        )
      }
      entries.push(entry)
      previous = entry
    }
    this.expect(previous === undefined || previous.firstLsn <= lastLsn, 'a history is longer than its log')
    return entries
  }

  oneOf<T>(values: readonly T[]): T {
    const value = values[this.u8()]
    if (value === undefined) this.fail('a choice is out of range')
    return value ?? (values[0] as T)
  }

  atEnd(): boolean {
    return this.#at === this.#bytes.length
  }
}
