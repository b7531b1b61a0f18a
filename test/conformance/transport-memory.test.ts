// The transport within one process.

import { nodeHost } from '../../src/env/node/node-host.ts'
import { parseAddress } from '../../src/transport/address.ts'
import { MemoryNetwork, memoryTransport } from '../../src/transport/memory-transport.ts'
import { transportConformance } from './transport-suite.ts'

let names = 0

transportConformance({
  name: 'memory',
  transport: memoryTransport(nodeHost(), { network: new MemoryNetwork() }),
  freshAddress: () => parseAddress(`memory://site-${++names}`),
  deadAddress: async () => parseAddress('memory://nobody'),
})
