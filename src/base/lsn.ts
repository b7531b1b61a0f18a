// Positions in a log. An LSN numbers records 1, 2, 3 ...; 0 is "before the first". Safe integers in memory,
// u64 on disk and wire: 9e15 records outlast any disk, and BigInt costs more than the record it would number.

import { assert } from './assert.ts'

declare const lsnBrand: unique symbol
/** Log sequence number: the number of a log record. */
export type Lsn = number & { readonly [lsnBrand]: true }

declare const termBrand: unique symbol
/** A reign of one master. Grows with each change of master; u32 on disk and wire. */
export type Term = number & { readonly [termBrand]: true }

export const noLsn: Lsn = 0 as Lsn

/** No record ever has it. */
export const lsnMax: Lsn = Number.MAX_SAFE_INTEGER as Lsn
export const noTerm: Term = 0 as Term

export function toLsn(value: number): Lsn {
  assert(Number.isSafeInteger(value) && value >= 0, 'an LSN is a safe integer and not negative')
  return value as Lsn
}

export function toTerm(value: number): Term {
  assert(Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff, 'a term is a u32')
  return value as Term
}

/** `lsn + count`; the one place that adds to a branded number. */
export function lsnPlus(lsn: Lsn, count: number): Lsn {
  return (lsn + count) as Lsn
}
