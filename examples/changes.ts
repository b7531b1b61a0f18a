// A consumer of the change stream that stops and goes on where it was: it keeps the LSN of the last change that it has
// dealt with, and asks for the one after it. `node --import tsx examples/changes.ts`
import { type Database, open } from '../src/index.ts'

await using db = await open(':memory:')
// A real consumer keeps its position where it keeps its results, and writes both at once.
let position = 0

for (const name of ['Jakarta', 'Bandung', 'Surabaya']) await db.put(`city:${name}`, 'seen')
await consume(db, 2)
console.log(`stopped after LSN ${position}`)

await db.batch([
  { type: 'put', key: 'city:Medan', value: 'seen' },
  { type: 'del', key: 'city:Jakarta' },
])
await consume(db, 2)

/** Deals with so many transactions, from where it was. Nothing is buffered for it: it reads the log at its own pace. */
async function consume(source: Database, count: number): Promise<void> {
  const text = new TextDecoder()
  for await (const { lsn, writes } of source.changes({ from: position + 1 })) {
    for (const write of writes) console.log(`${lsn}: ${write.type} ${text.decode(write.key)}`)
    position = lsn
    if (--count === 0) break
  }
}
