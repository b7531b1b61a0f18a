// The bad network without faults must be a good one: whatever it breaks, it shall break because it was asked to. With
// them it passes what is asked of a transport that promises neither order nor delivery.

import { Prng } from '../../src/base/prng.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { parseAddress } from '../../src/transport/address.ts'
import { LossyNetwork } from '../../src/transport/lossy.ts'
import { MemoryNetwork, memoryTransport } from '../../src/transport/memory-transport.ts'
import { transportConformance } from './transport-suite.ts'

const host = nodeHost()
const network = new LossyNetwork({ prng: new Prng(1), timers: host.timers })
let names = 0

transportConformance({
  name: 'lossy without faults',
  transport: network.wrap(memoryTransport(host, { network: new MemoryNetwork() }), 'site'),
  freshAddress: () => parseAddress(`memory://site-${++names}`),
  deadAddress: async () => parseAddress('memory://nobody'),
})

const bad = new LossyNetwork({
  prng: new Prng(2),
  timers: host.timers,
  faults: { dropChance: 0.2, duplicateChance: 0.1, delayChance: 0.2, delayMsMax: 20 },
})

transportConformance({
  name: 'lossy with faults',
  transport: bad.wrap(memoryTransport(host, { network: new MemoryNetwork() }), 'site'),
  freshAddress: () => `memory://site-${++names}`,
  deadAddress: async () => 'memory://nobody',
  ordered: false,
  reliable: false,
})
