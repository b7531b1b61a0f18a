// The public suite for transports, as the tests of ours import it.

export {
  connectPair,
  hasCode,
  type Pair,
  Recorder,
  type TransportUnderTest,
  transportConformance,
} from '../../src/testing/index.ts'
