// Reads of one kind for a while, in the process that has the database open.

import type { Database } from '../src/index.ts'
import { Draw, makeKeys } from './rows.ts'
import type { ReadOptions } from './worker-calls.ts'

const readsBetweenLooks = 256
const scanRows = 20

export async function measureReads(db: Database, options: ReadOptions): Promise<{ perSecond: number }> {
  if (options.what === 'entries' || options.what === 'all') return await measureRange(db, options)
  const keys = makeKeys(options.rows).slice(0, options.keys)
  const draw = new Draw(keys.length)
  const read = readerOf(db, options.what)
  // Whatever is cached is cached before anything is measured.
  if (options.keys < options.rows) for (const key of keys) await read(key)
  const startedAt = performance.now()
  const until = startedAt + options.seconds * 1000
  let count = 0
  const loop = async (): Promise<void> => {
    while (performance.now() < until) {
      for (let i = 0; i < readsBetweenLooks; i++) {
        const found = read(keys[draw.next()] as string)
        if (found instanceof Promise) await found
      }
      count += readsBetweenLooks
      if (options.what === 'getSync') await new Promise((resolve) => setImmediate(resolve))
    }
  }
  await Promise.all(Array.from({ length: options.inFlight }, loop))
  return { perSecond: (count * 1000) / (performance.now() - startedAt) }
}

function readerOf(db: Database, what: ReadOptions['what']): (key: string) => unknown {
  if (what === 'getSync') return (key) => found(db.getSync(key))
  if (what === 'scan20') return (key) => db.entries({ gte: key, limit: scanRows }).all()
  return (key) => db.get(key).then(found)
}

function found(value: string | undefined): string {
  if (value === undefined) throw new Error('a row that was written is not there')
  return value
}

async function measureRange(db: Database, options: ReadOptions): Promise<{ perSecond: number }> {
  const startedAt = performance.now()
  let rows = 0
  while (performance.now() - startedAt < options.seconds * 1000) {
    if (options.what === 'all') rows += (await db.entries().all()).length
    else for await (const [key] of db.entries()) if (key.length > 0) rows++
  }
  if (rows % options.rows !== 0)
    throw new Error(`a range had ${rows} rows instead of a multiple of ${options.rows}`)
  return { perSecond: (rows * 1000) / (performance.now() - startedAt) }
}
