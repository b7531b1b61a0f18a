// How the keys of named stores share one ordered key space: every key begins with the length of its store's name and
// the name. The unnamed store costs one byte. The log carries whole keys, so that applying needs to know no store.
//
// In memory a whole key is also a latin1 string, one character a byte: strings hash and compare fast in maps, and
// order as the bytes do.

import { afterPrefix, concatBytes, utf8Encode } from '../base/bytes.ts'
import { CoterieError } from '../base/errors.ts'
import { limits } from '../base/limits.ts'
import type { RowRange } from '../store/store.ts'
import { asBuffer, type Codec } from './encoding.ts'

/** A range over the decoded keys of one store. All of it by default. */
export interface KeyRange<K> {
  readonly gt?: K
  readonly gte?: K
  readonly lt?: K
  readonly lte?: K
  /** From the last key to the first. Default false. */
  readonly reverse?: boolean
  /** At most so many; default (or -1) all. */
  readonly limit?: number
}

const rangeOptions = new Set(['gt', 'gte', 'lt', 'lte', 'reverse', 'limit'])

/** A whole key in both of its forms. */
export interface WholeKey {
  readonly bytes: Uint8Array
  readonly text: string
}

/** The part of the key space that belongs to one named store. */
export class KeySpace {
  readonly storeName: string
  readonly prefix: Uint8Array
  /** The prefix as text, where text and UTF-8 have the same characters; else undefined. */
  readonly #prefixText: string | undefined

  constructor(storeName: string) {
    const name = utf8Encode(storeName)
    if (name.length > limits.storeNameBytesMax) {
      throw new CoterieError('OPTION_INVALID', `a store's name has at most ${limits.storeNameBytesMax} bytes`)
    }
    this.storeName = storeName
    this.prefix = concatBytes([Uint8Array.of(name.length), name])
    const isAscii = name.length === storeName.length && name.length < 128
    this.#prefixText = isAscii ? String.fromCharCode(name.length) + storeName : undefined
  }

  /** KEY_INVALID for null, undefined, empty or too long. */
  wholeKey(key: unknown, codec: Codec): WholeKey {
    if (key === null || key === undefined) {
      throw new CoterieError('KEY_INVALID', 'a key cannot be null or undefined')
    }
    if (codec.isUtf8 && typeof key === 'string' && key !== '' && this.#prefixText !== undefined) {
      const text = this.#prefixText + key
      const bytes = Buffer.from(text, 'utf8')
      // Plain ASCII, the common case, is its own latin1 text.
      if (bytes.length === text.length && text.length <= limits.keyBytesMax) return { bytes, text }
    }
    const encoded = codec.encode(key)
    const length = encoded.length
    if (length === 0) throw new CoterieError('KEY_INVALID', 'a key cannot be empty')
    if (length > limits.keyBytesMax) {
      throw new CoterieError(
        'KEY_INVALID',
        `a key has at most ${limits.keyBytesMax} bytes, this one ${length}`,
        {
          details: { bytes: length, bytesMax: limits.keyBytesMax },
        },
      )
    }
    const prefixLength = this.prefix.length
    const bytes = Buffer.allocUnsafe(prefixLength + length)
    if (prefixLength === 1) bytes[0] = 0
    else bytes.set(this.prefix, 0)
    bytes.set(encoded, prefixLength)
    return { bytes, text: bytes.toString('latin1') }
  }

  /** The store's own key within a whole key. A view. */
  ownKey(wholeKey: Uint8Array): Uint8Array {
    return wholeKey.subarray(this.prefix.length)
  }

  /** The rows of a range. RANGE_INVALID where bounds exclude each other or `limit` is no number. */
  rowRange<K>(range: KeyRange<K>, codec: Codec): RowRange {
    checkRange(range)
    const bound = (key: K): Uint8Array => concatBytes([this.prefix, codec.encode(key)])
    const end = afterPrefix(this.prefix)
    const lower =
      range.gt !== undefined ? { gt: bound(range.gt) } : { gte: bound2(range.gte, bound, this.prefix) }
    const upper = range.lte !== undefined ? { lte: bound(range.lte) } : { lt: bound2(range.lt, bound, end) }
    return {
      ...lower,
      ...(upper as { lt?: Uint8Array; lte?: Uint8Array }),
      reverse: range.reverse === true,
      ...(range.limit !== undefined && range.limit >= 0 ? { limit: range.limit } : {}),
    }
  }
}

function bound2<K, F>(key: K | undefined, bound: (key: K) => Uint8Array, otherwise: F): Uint8Array | F {
  return key === undefined ? otherwise : bound(key)
}

function checkRange<K>(range: KeyRange<K>): void {
  if (typeof range !== 'object' || range === null) throw new TypeError('a range is an object')
  for (const option of Object.keys(range)) {
    if (!rangeOptions.has(option))
      throw new CoterieError('OPTION_UNKNOWN', `a range has no option '${option}'`)
  }
  for (const bound of ['gt', 'gte', 'lt', 'lte'] as const) {
    if (range[bound] === null) throw new CoterieError('RANGE_INVALID', `the bound '${bound}' cannot be null`)
  }
  if (range.gt !== undefined && range.gte !== undefined) {
    throw new CoterieError('RANGE_INVALID', 'a range has gt or gte, not both')
  }
  if (range.lt !== undefined && range.lte !== undefined) {
    throw new CoterieError('RANGE_INVALID', 'a range has lt or lte, not both')
  }
  if (range.limit !== undefined && (!Number.isSafeInteger(range.limit) || range.limit < -1)) {
    throw new CoterieError('RANGE_INVALID', 'limit is a whole number, or -1 for all')
  }
  if (range.reverse !== undefined && typeof range.reverse !== 'boolean') {
    throw new CoterieError('RANGE_INVALID', 'reverse is true or false')
  }
}

/** One character a byte. */
export function latin1(bytes: Uint8Array): string {
  return asBuffer(bytes).toString('latin1')
}

/** Splits a whole key into the name of its store and the store's own key. */
export function splitWholeKey(wholeKey: Uint8Array): { storeName: string; key: Uint8Array } {
  const nameLength = wholeKey[0] ?? 0
  return {
    storeName: asBuffer(wholeKey).toString('utf8', 1, 1 + nameLength),
    key: wholeKey.subarray(1 + nameLength),
  }
}

/** The bounds of a `RowRange` as latin1 text, for comparing with keys that are held as text. */
export interface TextRange {
  readonly gt: string | undefined
  readonly gte: string | undefined
  readonly lt: string | undefined
  readonly lte: string | undefined
}

export function textRange(range: RowRange): TextRange {
  const asText = (bytes: Uint8Array | undefined): string | undefined =>
    bytes === undefined ? undefined : latin1(bytes)
  return { gt: asText(range.gt), gte: asText(range.gte), lt: asText(range.lt), lte: asText(range.lte) }
}

/** Whether a whole key lies in a range. */
export function inRange(key: string, range: TextRange): boolean {
  if (range.gt !== undefined && key <= range.gt) return false
  if (range.gte !== undefined && key < range.gte) return false
  if (range.lt !== undefined && key >= range.lt) return false
  return range.lte === undefined || key <= range.lte
}
