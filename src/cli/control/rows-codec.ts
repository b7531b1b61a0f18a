// Rows as bytes, for the control endpoint: JSON would cost a third more for binary values and twice the time.
//
//   row := u32 storeBytes store  u32 keyBytes key  u32 valueBytes value
//
// A length of 0xffffffff stands for "none": the default store, or a delete.

import { utf8Decode, utf8Encode } from '../../base/bytes.ts'
import { CoterieError } from '../../base/errors.ts'
import type { PortWrite } from '../port.ts'

const none = 0xffff_ffff

export function encodeRows(rows: readonly PortWrite[]): Uint8Array {
  const stores = rows.map((row) => (row.store === undefined ? undefined : utf8Encode(row.store)))
  let length = 0
  for (const [i, row] of rows.entries()) {
    length += 12 + (stores[i]?.length ?? 0) + row.key.length + (row.value?.length ?? 0)
  }
  const bytes = new Uint8Array(length)
  const view = new DataView(bytes.buffer)
  let at = 0
  const put = (part: Uint8Array | undefined): void => {
    view.setUint32(at, part === undefined ? none : part.length)
    at += 4
    if (part === undefined) return
    bytes.set(part, at)
    at += part.length
  }
  for (const [i, row] of rows.entries()) {
    put(stores[i])
    put(row.key)
    put(row.value)
  }
  return bytes
}

/** FRAME_INVALID for anything that `encodeRows` does not write. */
export function decodeRows(bytes: Uint8Array): PortWrite[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const rows: PortWrite[] = []
  let at = 0
  const take = (): Uint8Array | undefined => {
    if (at + 4 > bytes.length) throw truncated()
    const length = view.getUint32(at)
    at += 4
    if (length === none) return undefined
    if (at + length > bytes.length) throw truncated()
    const part = bytes.subarray(at, at + length)
    at += length
    return part
  }
  while (at < bytes.length) {
    const store = take()
    const key = take()
    const value = take()
    if (key === undefined) throw new CoterieError('FRAME_INVALID', 'a row has no key')
    rows.push({ store: store === undefined ? undefined : storeName(store), key, value })
  }
  return rows
}

function storeName(bytes: Uint8Array): string {
  try {
    return utf8Decode(bytes)
  } catch (cause) {
    throw new CoterieError('FRAME_INVALID', 'the name of a store is not UTF-8', { cause })
  }
}

function truncated(): CoterieError {
  return new CoterieError('FRAME_INVALID', 'rows end in the middle')
}
