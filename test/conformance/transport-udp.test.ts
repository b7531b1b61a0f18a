// Datagrams as a transport, with a key and without. On loopback at a pace that is followed nothing is lost; that
// messages keep their order is not promised, and not asked.

import { nodeHost } from '../../src/env/node/node-host.ts'
import { parseAddress } from '../../src/transport/address.ts'
import type { LinkOptions } from '../../src/transport/link-options.ts'
import type { Transport } from '../../src/transport/transport.ts'
import { udpTransport } from '../../src/transport/udp/udp-transport.ts'
import { transportConformance } from './transport-suite.ts'

const host = nodeHost()
const anyPort = parseAddress('udp://127.0.0.1:0')

/** The suite knows nothing of keys. */
function withLink(transport: Transport, options: LinkOptions): Transport {
  const link = { ...options, identity: () => ({ site: 'test', databaseId: undefined }) }
  return {
    scheme: transport.scheme,
    listen: (listening) => transport.listen({ ...listening, link }),
    connect: (connecting) => transport.connect({ ...connecting, link }),
  }
}

for (const { name, link } of [
  { name: 'udp', link: {} },
  { name: 'udp with a key', link: { key: new Uint8Array(32).fill(7) } },
]) {
  const transport = withLink(udpTransport(host), link)
  transportConformance({
    name,
    transport,
    ...(process.env.COTERIE_TEST_ALL === '1' ? {} : { largestMessageBytes: 5 * 1_048_576 }),
    ordered: false,
    freshAddress: () => anyPort,
    deadAddress: async () => {
      const listener = await transport.listen({ address: anyPort, onConnection: (c) => c.destroy() })
      await listener.close()
      return parseAddress(listener.address)
    },
  })
}
