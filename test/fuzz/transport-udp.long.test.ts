// A hundred thousand inputs for each decoder of the datagram transport.

import { test } from 'node:test'
import { fuzzDecoders } from './udp-decoders.ts'

test('decoders of datagrams refuse or read back whatever bytes come, 100,000 times each', () => {
  fuzzDecoders(100_000)
})
