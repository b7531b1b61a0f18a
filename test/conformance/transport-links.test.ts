// Protected and packed links are connections like others: the common suite over each.

import { nodeHost } from '../../src/env/node/node-host.ts'
import { parseAddress } from '../../src/transport/address.ts'
import type { LinkOptions } from '../../src/transport/link-options.ts'
import { tcpTransport } from '../../src/transport/tcp-transport.ts'
import { linked } from '../support/linked.ts'
import { transportConformance } from './transport-suite.ts'

const host = nodeHost()
const secret = 'a secret of all sites of the tests'

const links: Readonly<Record<string, LinkOptions>> = {
  'tcp with a secret': { secret },
  'tcp with deflate': { compression: 'deflate' },
  // Where there is no zstd, with deflate.
  'tcp with a secret and zstd': { secret, compression: 'zstd' },
}

for (const [name, options] of Object.entries(links)) {
  const transport = linked(tcpTransport(host), options)
  const anyPort = parseAddress('tcp://127.0.0.1:0')
  transportConformance({
    name,
    transport,
    ...(process.env.COTERIE_TEST_ALL === '1' ? {} : { largestMessageBytes: 5 * 1_048_576 }),
    freshAddress: () => anyPort,
    deadAddress: async () => {
      const listener = await transport.listen({ address: anyPort, onConnection: (c) => c.destroy() })
      await listener.close()
      return parseAddress(listener.address)
    },
  })
}
