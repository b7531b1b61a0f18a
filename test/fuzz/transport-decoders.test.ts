// A short look at every decoder; transport-decoders.long.test.ts takes a long one.

import { test } from 'node:test'
import { decoders } from './decoder-rounds.ts'

for (const [name, run] of Object.entries(decoders)) {
  test(`any bytes to the decoder: ${name}`, () => run(1000))
}
