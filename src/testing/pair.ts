// Two connected ends of a transport, and what the tests of a transport need to know of it.

import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { compareBytes } from '../base/bytes.ts'
import { type ErrorCode, isCoterieError } from '../base/errors.ts'
import { type Address, parseAddress } from '../transport/address.ts'
import type { Connection, Listener, Transport } from '../transport/transport.ts'
import { type ReceivedMessage, Recorder } from './recorder.ts'

/** What is tested, and what it promises. */
export interface TransportUnderTest {
  /** For the titles of the tests. */
  readonly name: string
  readonly transport: Transport
  /** An address to listen on that no other test uses. A port of 0 is one. */
  freshAddress(): Address | string
  /** An address where nobody listens. */
  deadAddress(): Promise<Address | string>
  /** Messages come in the order in which they were sent. Default true. */
  readonly ordered?: boolean
  /**
   * What was sent arrives, once, as long as the connection lasts. Default true. Without it a message may be lost or come
   * twice, but what comes is whole and unaltered; tests that make no sense then are skipped, others send again.
   */
  readonly reliable?: boolean
  /** Of the largest message that is sent, up to `limits.frameBytesMax`. Default 30 MiB; less where that takes long. */
  readonly largestMessageBytes?: number
}

/** What each group of tests is given. */
export interface Tested {
  readonly name: string
  readonly transport: Transport
  readonly isReliable: boolean
  /** Why a test is skipped that presumes a transport which loses nothing. */
  readonly skip: false | string
  readonly largestMessageBytes: number
  /** Messages as they are compared: as they stand where their order is promised, else by their bytes. */
  readonly arranged: <Each extends ReceivedMessage>(messages: readonly Each[]) => readonly Each[]
  readonly freshAddress: () => Address
  readonly deadAddress: () => Promise<Address>
  readonly pairOf: (t: TestContext) => Promise<Pair>
}

export function testedOf(under: TransportUnderTest): Tested {
  const { name, transport, ordered = true, reliable = true, largestMessageBytes = 30 * 1_048_576 } = under
  const parsed = (given: Address | string): Address =>
    typeof given === 'string' ? parseAddress(given) : given
  return {
    name,
    transport,
    isReliable: reliable,
    largestMessageBytes,
    skip: reliable ? false : 'the transport does not promise that messages arrive',
    arranged: (messages) => (ordered ? messages : [...messages].sort(byBytes)),
    freshAddress: () => parsed(under.freshAddress()),
    deadAddress: async () => parsed(await under.deadAddress()),
    pairOf: (t) => connectPair(t, transport, under.freshAddress()),
  }
}

function byBytes(a: ReceivedMessage, b: ReceivedMessage): number {
  return compareBytes(a.control, b.control) || compareBytes(a.payload, b.payload)
}

export interface Pair {
  readonly near: Connection
  readonly nearSide: Recorder
  readonly far: Connection
  readonly farSide: Recorder
  readonly listener: Listener
}

export async function connectPair(
  t: TestContext,
  transport: Transport,
  given: Address | string,
): Promise<Pair> {
  const address = typeof given === 'string' ? parseAddress(given) : given
  const farSide = new Recorder()
  const nearSide = new Recorder()
  let accepted: (connection: Connection) => void = () => undefined
  const accepting = new Promise<Connection>((resolve) => {
    accepted = resolve
  })
  const listener = await transport.listen({
    address,
    onConnection(connection) {
      connection.handlers = farSide
      accepted(connection)
    },
  })
  const near = await transport.connect({ address: parseAddress(listener.address), connectTimeoutMs: 5000 })
  near.handlers = nearSide
  const far = await accepting
  t.after(async () => {
    near.destroy()
    far.destroy()
    await listener.close()
  })
  return { near, nearSide, far, farSide, listener }
}

export function hasCode(code: ErrorCode): (error: unknown) => boolean {
  return (error) => {
    assert.ok(isCoterieError(error, code), `${String(error)} has the code ${code}`)
    return true
  }
}
