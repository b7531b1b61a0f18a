// The bad network without faults must be a good one: whatever it breaks, it shall break because it was asked to.

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
