// A chunk of a snapshot is a run of rows (base/row-run.ts). The core checks only that it is whole, without making
// an object of each row.

import { rowHeaderBytes } from '../base/row-run.ts'

/** How many whole rows `bytes` are; undefined if they are not. */
export function countRows(bytes: Uint8Array): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  let count = 0
  let at = 0
  while (at < bytes.length) {
    if (at + rowHeaderBytes > bytes.length) return undefined
    at += rowHeaderBytes + view.getUint16(at, true) + view.getUint32(at + 2, true)
    count++
  }
  return at === bytes.length ? count : undefined
}
