// A short look at every decoder of messages; message-decoders.long.test.ts takes a long one.

import { test } from 'node:test'
import { messageDecoders } from './message-rounds.ts'

for (const [name, run] of Object.entries(messageDecoders)) {
  test(`any bytes to the decoder: ${name}`, () => run(500))
}
