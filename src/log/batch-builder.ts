// The master's tail: records are encoded straight into the bytes that disk, sockets and the applier will share.
//
// One slab serves many batches, one behind the other, and is left to the garbage collector when it is full. So a
// cut copies nothing, bytes that were handed out are never written again, and keeping a small batch alive keeps
// one slab alive at most. A wrong call order is a defect of the caller and fails an assertion.

import { assert } from '../base/assert.ts'
import type { RecordBatch, RecordPlace } from '../base/batch.ts'
import { crc32 } from '../base/checksum.ts'
import { type Lsn, lsnPlus, type Term } from '../base/lsn.ts'
import type { Membership } from '../base/membership.ts'
import { membershipAt } from './members-record.ts'
import {
  databaseSeed,
  hasWrites,
  isRecordKind,
  recordBytesMax,
  recordField,
  recordHeaderBytes,
  recordKind,
  writeOp,
  writeU64,
  writeWallMs,
} from './record-format.ts'

const slabBytesDefault = 524_288

/** Below this a loop copies faster than `.set`, whose call costs as much as it copies (measured). */
const loopCopyBytesMax = 40

export interface BatchBuilderOptions {
  readonly databaseId: string
  /** The record that the first one built follows. */
  readonly previous: RecordPlace
  /** The size of a slab. Default 512 KiB. */
  readonly initialBytes?: number
}

export interface RecordStart {
  readonly term: Term
  readonly wallMs: number
  readonly kind: number
}

export class BatchBuilder {
  readonly #seed: number
  readonly #slabBytes: number
  #slab: Uint8Array
  #view: DataView
  /** Invariant: batchStart <= recordStart <= at <= slab.length; whole records stand in [batchStart, recordStart). */
  #batchStart = 0
  #recordStart = 0
  #at = 0
  #inRecord = false
  #term: Term
  #kind = 0
  #beforeBatch: RecordPlace
  #last: RecordPlace
  /** Of the last members record that waits to be cut. */
  #membership: Membership | undefined

  constructor(options: BatchBuilderOptions) {
    this.#seed = databaseSeed(options.databaseId)
    this.#slabBytes = options.initialBytes ?? slabBytesDefault
    this.#slab = newSlab(this.#slabBytes)
    this.#view = new DataView(this.#slab.buffer)
    this.#beforeBatch = options.previous
    this.#last = options.previous
    this.#term = options.previous.term
  }

  /** True if no whole record waits to be cut. */
  get isEmpty(): boolean {
    return this.#recordStart === this.#batchStart
  }

  /** The size of the whole records that wait to be cut. */
  get bytes(): number {
    return this.#recordStart - this.#batchStart
  }

  /** The LSN of the last whole record, cut or not. */
  get lastLsn(): Lsn {
    return this.#last.lsn
  }

  /** The size of the record begun, so far. */
  get recordBytes(): number {
    return this.#at - this.#recordStart
  }

  begin(options: RecordStart): void {
    assert(!this.#inRecord, 'a record is begun when the one before has ended')
    const { term, kind, wallMs } = options
    // Histories are made of term records: a reign that begins without one would be invisible to sync-up.
    if (kind === recordKind.term) assert(term > this.#last.term, 'a term record raises the term')
    else assert(term === this.#last.term, 'a new term begins with a term record')
    assert(isRecordKind(kind), 'the kind of record is known')
    if (this.#slab.length - this.#at < recordHeaderBytes) this.#grow(recordHeaderBytes)
    const at = this.#at
    const view = this.#view
    writeU64(view, at + recordField.lsn, this.#last.lsn + 1)
    view.setUint32(at + recordField.term, term, true)
    view.setUint32(at + recordField.previousCrc, this.#last.crc, true)
    writeWallMs(view, at + recordField.wallMs, wallMs)
    view.setUint8(at + recordField.kind, kind)
    view.setUint8(at + recordField.flags, 0)
    this.#term = term
    this.#kind = kind
    this.#at = at + recordHeaderBytes
    this.#inRecord = true
  }

  /** A members record is one put, of the members' row. */
  put(key: Uint8Array, value: Uint8Array): void {
    assert(this.#inRecord && hasWrites(this.#kind), 'writes go into a commit record')
    assert(key.length <= 0xffff, 'a key fits its length field')
    const bytes = 7 + key.length + value.length
    if (this.#slab.length - this.#at < bytes) this.#grow(bytes)
    const at = this.#at
    const view = this.#view
    view.setUint8(at, writeOp.put)
    view.setUint16(at + 1, key.length, true)
    view.setUint32(at + 3, value.length, true)
    this.#copy(key, at + 7)
    this.#copy(value, at + 7 + key.length)
    this.#at = at + bytes
  }

  del(key: Uint8Array): void {
    assert(this.#inRecord && this.#kind === recordKind.commit, 'writes go into a commit record')
    assert(key.length <= 0xffff, 'a key fits its length field')
    const bytes = 3 + key.length
    if (this.#slab.length - this.#at < bytes) this.#grow(bytes)
    const at = this.#at
    this.#view.setUint8(at, writeOp.del)
    this.#view.setUint16(at + 1, key.length, true)
    this.#copy(key, at + 3)
    this.#at = at + bytes
  }

  /** The payload of a term record: the site id. */
  payload(bytes: Uint8Array): void {
    assert(this.#inRecord && this.#kind === recordKind.term, 'a plain payload goes into a term record')
    if (this.#slab.length - this.#at < bytes.length) this.#grow(bytes.length)
    this.#copy(bytes, this.#at)
    this.#at += bytes.length
  }

  /** Finishes the record: length, checksum, chain. */
  end(): RecordPlace {
    assert(this.#inRecord, 'a record that ends has begun')
    const start = this.#recordStart
    const length = this.#at - start
    assert(length <= recordBytesMax, 'a record is within the size bound')
    this.#view.setUint32(start + recordField.length, length, true)
    const crc = crc32(this.#slab.subarray(start + recordField.length, this.#at), this.#seed)
    this.#view.setUint32(start + recordField.crc, crc, true)
    if (this.#kind === recordKind.members) {
      this.#membership = membershipAt(this.#slab, start)
      assert(this.#membership !== undefined, 'the members that are logged can be read')
    }
    this.#recordStart = this.#at
    this.#inRecord = false
    this.#last = { lsn: lsnPlus(this.#last.lsn, 1), term: this.#term, crc }
    return this.#last
  }

  /** Drops the record begun. */
  abandon(): void {
    assert(this.#inRecord, 'a record that is abandoned has begun')
    this.#at = this.#recordStart
    this.#inRecord = false
  }

  /** Hands out the whole records built since the last cut; undefined if there are none. */
  cut(): RecordBatch | undefined {
    assert(!this.#inRecord, 'a batch is cut between records')
    if (this.isEmpty) return undefined
    const previous = this.#beforeBatch
    const batch: RecordBatch = {
      bytes: this.#slab.subarray(this.#batchStart, this.#recordStart),
      firstLsn: lsnPlus(previous.lsn, 1),
      lastLsn: this.#last.lsn,
      previous,
      last: this.#last,
    }
    this.#batchStart = this.#recordStart
    this.#beforeBatch = this.#last
    if (this.#membership === undefined) return batch
    const membership = this.#membership
    this.#membership = undefined
    return { ...batch, membership }
  }

  /** Drops what was built and not cut, and goes on from `previous`. */
  reset(previous: RecordPlace): void {
    assert(!this.#inRecord, 'a builder is reset between records')
    this.#at = this.#batchStart
    this.#recordStart = this.#batchStart
    this.#beforeBatch = previous
    this.#last = previous
    this.#membership = undefined
  }

  #copy(from: Uint8Array, at: number): void {
    const length = from.length
    if (length > loopCopyBytesMax) {
      this.#slab.set(from, at)
      return
    }
    const slab = this.#slab
    for (let i = 0; i < length; i++) slab[at + i] = from[i] as number
  }

  /** Moves what is being built, and only that, to a new slab with room for `bytes` more. */
  #grow(bytes: number): void {
    const kept = this.#at - this.#batchStart
    const wanted = kept + bytes
    const slab = newSlab(Math.max(wanted * 2, this.#slabBytes))
    slab.set(this.#slab.subarray(this.#batchStart, this.#at))
    this.#recordStart -= this.#batchStart
    this.#at = kept
    this.#batchStart = 0
    this.#slab = slab
    this.#view = new DataView(slab.buffer)
  }
}

/** Not zeroed: every byte of a record is written before it is handed out, and zeroing cost 1 us a commit. */
function newSlab(bytes: number): Uint8Array {
  return new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer)
}
