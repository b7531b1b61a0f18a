// Both store engines against the one suite.

import * as fs from 'node:fs'
import * as os from 'node:os'
import * as path from 'node:path'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { classicLevelEngine } from '../../src/store/classic-level-engine.ts'
import { memoryEngine } from '../../src/store/memory-engine.ts'
import { storeSuite } from './store-suite.ts'

storeSuite('memory', async () => {
  let count = 0
  return { engine: memoryEngine(), location: () => `store-${++count}`, cleanup: async () => {} }
})

storeSuite('classic-level', async () => {
  const folder = await fs.promises.mkdtemp(path.join(os.tmpdir(), 'coterie-store-'))
  let count = 0
  const { files, timers } = nodeHost()
  return {
    engine: classicLevelEngine({ files, timers }),
    location: () => path.join(folder, `store-${++count}`),
    cleanup: () => fs.promises.rm(folder, { recursive: true, force: true }),
  }
})
