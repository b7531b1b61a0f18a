// All records that were ever durable on any site of a run, and what the database is after each of them. Judges hold
// against it what sites show and what clients were told.
//
// A record is named by its LSN and its checksum, which covers all before it. What the rows should be is worked out here
// from the records alone, along the one chain that is permanent, by code that shares nothing with the applier.

import { assert } from '../base/assert.ts'
import type { RecordPlace } from '../base/batch.ts'
import { crc32 } from '../base/checksum.ts'
import { splitWholeKey } from '../database/key-space.ts'
import { isSystemKey } from '../database/system-keys.ts'
import { hasWrites, readU32, recordField, recordHeaderBytes, recordKind } from '../log/record-format.ts'
import { eachWrite } from '../log/record-reader.ts'
import { keyBytes, keyText } from '../store/key-text.ts'

/** One write: the key as the store has it, and a name for its row; undefined: deleted. */
export type LedgerWrite = readonly [key: string, rowSum: number | undefined]

export interface LedgerRecord {
  readonly place: RecordPlace
  readonly previousCrc: number
  /** A transaction of a user, and not of the group itself. */
  readonly isCommit: boolean
  readonly writes: readonly LedgerWrite[]
}

/** Of a set of rows; does not depend on their order. */
export interface RowsSum {
  readonly rows: number
  readonly sum: number
}

const sumRange = 2 ** 51

/** For one row. Two rows that differ have different ones, but for chance. */
export function rowSumOf(key: string, value: Uint8Array): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193)
  const crc = crc32(value, hash >>> 0)
  return (crc * 0x8_0000 + ((hash >>> 0) % 0x8_0000) + value.length) % sumRange
}

export function addToSum(sum: number, rowSum: number): number {
  return (sum + rowSum) % sumRange
}

export class Ledger {
  readonly #records: Map<string, LedgerRecord> = new Map()
  /** The checksum of each permanent record, from LSN 1 on, as far as it is known. */
  readonly #chain: number[] = [0]
  /** What the rows are after each, by what is kept of them. */
  readonly #tallies: Map<string, Tally> = new Map([[nameOfKept(undefined), new Tally(undefined)]])
  readonly #rows: Map<string, number> = new Map()
  /** Every key that any record ever wrote, as the store has it. */
  readonly keys: Set<string> = new Set()
  /** Permanent, and perhaps not yet on the chain, because the record has not been seen. */
  #permanent: RecordPlace | undefined
  /** One term and LSN with two contents. */
  onMismatch: (a: RecordPlace, b: RecordPlace) => void = () => {}
  /** Something has come that the chain may go on with. */
  #isStale = false
  readonly #byTerm: Map<string, RecordPlace> = new Map()

  /** Takes a record that is durable somewhere. True: it was not known. */
  add(record: {
    readonly place: RecordPlace
    readonly previous: RecordPlace
    readonly kind: number
    readonly bytes: Uint8Array
  }): boolean {
    const { place, previous, kind, bytes } = record
    const name = nameOf(place)
    if (this.#records.has(name)) return false
    const writes: LedgerWrite[] = []
    if (hasWrites(kind)) {
      eachWrite(bytes, recordHeaderBytes, readU32(bytes, recordField.length), (key, value) => {
        const text = keyText(key)
        this.keys.add(text)
        writes.push([text, value === undefined ? undefined : rowSumOf(text, value)])
      })
    }
    const isCommit = kind === recordKind.commit
    this.#isStale = true
    this.#records.set(name, { place, previousCrc: previous.crc, isCommit, writes })
    this.noteTerm(place)
    return true
  }

  /** A record with this term and LSN is this one, on whichever site. */
  noteTerm(place: RecordPlace): void {
    const termName = `${place.lsn}/${place.term}`
    const other = this.#byTerm.get(termName)
    if (other === undefined) this.#byTerm.set(termName, place)
    else if (other.crc !== place.crc) this.onMismatch(other, place)
  }

  get(place: { readonly lsn: number; readonly crc: number }): LedgerRecord | undefined {
    return this.#records.get(nameOf(place))
  }

  /** The record of a term at an LSN, if it was ever durable anywhere. */
  find(lsn: number, term: number): LedgerRecord | undefined {
    const place = this.#byTerm.get(`${lsn}/${term}`)
    return place === undefined ? undefined : this.get(place)
  }

  /** The last LSN of the chain. */
  get permanentLsn(): number {
    return this.#chain.length - 1
  }

  /** Undefined beyond the chain. */
  permanentCrc(lsn: number): number | undefined {
    return this.#chain[lsn]
  }

  permanentRecord(lsn: number): LedgerRecord | undefined {
    const crc = this.#chain[lsn]
    return crc === undefined ? undefined : this.get({ lsn, crc })
  }

  /** Some site keeps these stores only: its rows will be asked for. Before the first record. */
  watch(stores: readonly string[]): void {
    assert(this.permanentLsn === 0, 'what is kept is known from the beginning')
    this.#tallies.set(nameOfKept(stores), new Tally(stores))
  }

  /** What the rows are after a permanent record, of all stores or of some that are watched. */
  rowsAt(lsn: number, stores?: readonly string[]): RowsSum | undefined {
    return this.#tallies.get(nameOfKept(stores))?.sums[lsn]
  }

  /**
   * The record is permanent, and with it all before it. Returns the permanent record that it contradicts, if there is
   * one: another one at the same LSN.
   */
  makePermanent(place: RecordPlace): RecordPlace | undefined {
    const known = this.#chain[place.lsn]
    if (known !== undefined) {
      return known === place.crc ? undefined : (this.get({ lsn: place.lsn, crc: known })?.place ?? place)
    }
    if (this.#permanent === undefined || place.lsn > this.#permanent.lsn) this.#permanent = place
    this.#isStale = true
    return this.extend()
  }

  /** Goes on along the chain where records have come to be known since. Returns as `makePermanent`. */
  extend(): RecordPlace | undefined {
    const permanent = this.#permanent
    if (!this.#isStale) return undefined
    this.#isStale = false
    if (permanent === undefined || permanent.lsn < this.#chain.length) return undefined
    const found: LedgerRecord[] = []
    let place: { lsn: number; crc: number } = permanent
    while (place.lsn >= this.#chain.length) {
      const record = this.get(place)
      if (record === undefined) return undefined
      found.push(record)
      place = { lsn: place.lsn - 1, crc: record.previousCrc }
    }
    if (place.crc !== this.#chain[place.lsn]) return (found.at(-1) as LedgerRecord).place
    for (const record of found.reverse()) this.#append(record)
    return undefined
  }

  #append(record: LedgerRecord): void {
    for (const tally of this.#tallies.values()) tally.begin()
    for (const [key, rowSum] of record.writes) {
      const before = this.#rows.get(key)
      if (rowSum === undefined) this.#rows.delete(key)
      else this.#rows.set(key, rowSum)
      for (const tally of this.#tallies.values()) tally.change(key, before, rowSum)
    }
    this.#chain.push(record.place.crc)
  }
}

/** What the rows are after each record of the chain, or those of some stores. */
class Tally {
  readonly sums: RowsSum[] = [{ rows: 0, sum: 0 }]
  readonly #stores: readonly string[] | undefined

  constructor(stores: readonly string[] | undefined) {
    this.#stores = stores
  }

  begin(): void {
    this.sums.push(this.sums.at(-1) as RowsSum)
  }

  change(key: string, before: number | undefined, after: number | undefined): void {
    if (!isKept(key, this.#stores)) return
    let { rows, sum } = this.sums.at(-1) as RowsSum
    if (before !== undefined) {
      sum = (sum - before + sumRange) % sumRange
      rows--
    }
    if (after !== undefined) {
      sum = addToSum(sum, after)
      rows++
    }
    this.sums[this.sums.length - 1] = { rows, sum }
  }
}

/** For what a site keeps: none of the stores is something else than the unnamed one. */
export function nameOfKept(stores: readonly string[] | undefined): string {
  return stores === undefined ? 'all' : JSON.stringify(stores)
}

/** Whether a row, by its key as the store has it, is one of these stores, or of the database itself. */
export function isKept(key: string, stores: readonly string[] | undefined): boolean {
  if (stores === undefined) return true
  const bytes = keyBytes(key)
  return isSystemKey(bytes) || stores.includes(splitWholeKey(bytes).storeName)
}

function nameOf(place: { readonly lsn: number; readonly crc: number }): string {
  return `${place.lsn}/${place.crc}`
}
