// A run of rows as bytes: how snapshots travel and how backups lie on disk.
//
//   row = u16 keyBytes | u32 valueBytes | key | value        little endian, one after the other

/** Framing of one row. */
export const rowHeaderBytes = 6

type RowLike = readonly [key: Uint8Array, value: Uint8Array]

/** The rows, one after the other. */
export function encodeRows(rows: readonly RowLike[]): Uint8Array {
  let length = 0
  for (const [key, value] of rows) length += rowHeaderBytes + key.length + value.length
  const bytes = new Uint8Array(length)
  const view = new DataView(bytes.buffer)
  let at = 0
  for (const [key, value] of rows) {
    view.setUint16(at, key.length, true)
    view.setUint32(at + 2, value.length, true)
    bytes.set(key, at + rowHeaderBytes)
    bytes.set(value, at + rowHeaderBytes + key.length)
    at += rowHeaderBytes + key.length + value.length
  }
  return bytes
}

/** The rows in `bytes`, as views; undefined if the bytes are not whole rows. */
export function decodeRows(bytes: Uint8Array): [Uint8Array, Uint8Array][] | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const rows: [Uint8Array, Uint8Array][] = []
  let at = 0
  while (at < bytes.length) {
    if (at + rowHeaderBytes > bytes.length) return undefined
    const keyBytes = view.getUint16(at, true)
    const end = at + rowHeaderBytes + keyBytes + view.getUint32(at + 2, true)
    if (end > bytes.length) return undefined
    const valueAt = at + rowHeaderBytes + keyBytes
    rows.push([bytes.subarray(at + rowHeaderBytes, valueAt), bytes.subarray(valueAt, end)])
    at = end
  }
  return rows
}
