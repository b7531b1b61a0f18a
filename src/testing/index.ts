// `coterie/testing`: what every transport must do, as tests of node:test, for whoever writes one (docs/transports.md).
// Those of Coterie pass it.

import { type TransportUnderTest, testedOf } from './pair.ts'
import { testBackpressure } from './transport-backpressure.ts'
import { testEnds } from './transport-ends.ts'
import { testListening } from './transport-listening.ts'
import { testMessages } from './transport-messages.ts'

export type { ErrorCode } from '../base/errors.ts'
export { type Address, parseAddress } from '../transport/address.ts'
export type {
  Connection,
  ConnectionHandlers,
  ConnectOptions,
  Listener,
  ListenOptions,
  SendHints,
  SharedChannel,
  Transport,
} from '../transport/transport.ts'
export { connectPair, hasCode, type Pair, type TransportUnderTest } from './pair.ts'
export { type ReceivedMessage, Recorder } from './recorder.ts'

/** Declares the tests; call it in a file that `node --test` runs. */
export function transportConformance(under: TransportUnderTest): void {
  const tested = testedOf(under)
  testMessages(tested)
  testBackpressure(tested)
  testEnds(tested)
  testListening(tested)
}
