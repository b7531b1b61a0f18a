// A transport whose connections are all protected and packed alike.

import type { LinkOptions, LinkSettings } from '../../src/transport/link-options.ts'
import type { Transport } from '../../src/transport/transport.ts'

export function linked(transport: Transport, options: LinkOptions): Transport {
  const link: LinkSettings = {
    ...options,
    identity: () => ({ site: 'a site', databaseId: 'a database' }),
  }
  return {
    scheme: transport.scheme,
    listen: (given) => transport.listen({ ...given, link }),
    connect: (given) => transport.connect({ ...given, link }),
  }
}
