// Which named stores there are, and how large: by reading every key once.

import type { StoreSnapshot } from '../store/store.ts'
import { splitWholeKey } from './key-space.ts'
import { isSystemKey } from './system-keys.ts'

export interface StoreStat {
  /** The empty string for the unnamed store. */
  readonly name: string
  readonly rows: number
  /** Of keys and values. */
  readonly bytes: number
}

const chunkRows = 2000

export async function storeStats(
  rows: StoreSnapshot,
  onProgress: (rows: number) => void,
): Promise<StoreStat[]> {
  const iterator = rows.iterate({})
  const stats = new Map<string, { rows: number; bytes: number }>()
  let count = 0
  for (let chunk = await iterator.next(chunkRows); chunk.length > 0; chunk = await iterator.next(chunkRows)) {
    for (const [wholeKey, value] of chunk) {
      if (isSystemKey(wholeKey)) continue
      const { storeName, key } = splitWholeKey(wholeKey)
      const stat = stats.get(storeName) ?? { rows: 0, bytes: 0 }
      stat.rows++
      stat.bytes += key.length + value.length
      stats.set(storeName, stat)
    }
    count += chunk.length
    onProgress(count)
  }
  await iterator.close()
  return [...stats].map(([name, { rows: storeRows, bytes }]) => ({ name, rows: storeRows, bytes }))
}
