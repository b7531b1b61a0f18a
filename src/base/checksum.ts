// CRC-32 as zlib has it. Node's own, because it is the fastest there is; the browser build will need another.

import { crc32 as nodeCrc32 } from 'node:zlib'

/** CRC-32 of `bytes`, going on from `seed` (the checksum of what came before; default 0). Unsigned. */
export function crc32(bytes: Uint8Array, seed = 0): number {
  return nodeCrc32(bytes, seed)
}
