// The simulator's store against the suite of all stores.

import { Prng } from '../../src/base/prng.ts'
import { SimulatedStores } from '../../src/sim/simulated-store.ts'
import { storeSuite } from './store-suite.ts'

storeSuite('simulated', async () => {
  let count = 0
  const stores = new SimulatedStores({ prng: new Prng(1) })
  return {
    engine: stores.engine((callback) => queueMicrotask(callback)),
    location: () => `store-${++count}`,
    cleanup: async () => {},
  }
})
