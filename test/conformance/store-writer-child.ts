// Writes to a store until it is killed. Batch n puts row n and a row that says n, and deletes a row of long ago, with
// `appliedLsn` n. Tells its parent n after each batch.

import { nodeHost } from '../../src/env/node/node-host.ts'
import { classicLevelEngine } from '../../src/store/classic-level-engine.ts'
import { bytes, metaAt } from './store-suite.ts'
import { keptRows, lastKey, rowKey, rowValue } from './store-writer-rows.ts'

const { files, timers } = nodeHost()
// A small write buffer: logs are switched and tables written all the time.
const engine = classicLevelEngine({ files, timers, writeBufferBytes: 65_536 })
const store = await engine.open(process.argv[2] as string)
for (let n = (store.meta?.appliedLsn ?? 0) + 1; ; n++) {
  await store.write({
    writes: [
      { key: rowKey(n), value: rowValue(n) },
      { key: lastKey, value: bytes(String(n)) },
      { key: rowKey(n - keptRows), value: undefined },
    ],
    meta: metaAt(n),
  })
  process.send?.(n)
}
