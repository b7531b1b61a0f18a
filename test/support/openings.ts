// Two sides that open a connection with each other over a stream which the test holds, and what became of both.

import type { CoterieError } from '../../src/base/errors.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'
import { VirtualClock } from '../../src/env/simulated/virtual-clock.ts'
import type { LinkIdentity, LinkOptions } from '../../src/transport/link-options.ts'
import { protocolRange } from '../../src/transport/preface.ts'
import type { StreamConnection } from '../../src/transport/stream-connection.ts'
import { StreamOpening } from '../../src/transport/stream-opening.ts'
import { type HeldStream, streamPair } from './stream-pair.ts'

export interface Side {
  readonly stream: HeldStream
  connection: StreamConnection | undefined
  refused: CoterieError | undefined
  readonly messages: Uint8Array[]
}

export interface Opening {
  readonly clock: VirtualClock
  readonly near: Side
  readonly far: Side
  /** Runs until nothing more is due. */
  run(): Promise<void>
}

/** `near` connects, `far` has listened. Nothing happens before `run`. */
export function opening(options: { near?: LinkOptions; far?: LinkOptions } = {}): Opening {
  const clock = new VirtualClock()
  const { near, far } = streamPair(clock)
  const sides = {
    near: openSide(clock, near, { role: 'connector', link: options.near ?? {} }),
    far: openSide(clock, far, { role: 'listener', link: options.far ?? {} }),
  }
  return { clock, ...sides, run: () => runAll(clock) }
}

/** One side alone. */
export function openSide(
  clock: VirtualClock,
  stream: HeldStream,
  options: {
    readonly role: 'connector' | 'listener'
    readonly link: LinkOptions
    readonly frameBytesMax?: number
    readonly identity?: LinkIdentity
    /** What every byte drawn is. Default: of chance. */
    readonly nonce?: number
  },
): Side {
  const { role, link, frameBytesMax, nonce } = options
  const { identity = { site: `site of the ${role}`, databaseId: 'the database' } } = options
  const host = nodeHost()
  const side: Side = { stream, connection: undefined, refused: undefined, messages: [] }
  new StreamOpening({
    stream,
    role,
    host: {
      ...host,
      clock,
      timers: clock,
      random: nonce === undefined ? host.random : { bytes: (length) => new Uint8Array(length).fill(nonce) },
    },
    link: { ...link, identity: () => identity },
    remote: 'test',
    local: undefined,
    protocol: protocolRange,
    frameBytesMax: frameBytesMax ?? 100_000,
    onOpen(connection) {
      side.connection = connection
      connection.handlers = {
        message: (control) => void side.messages.push(control),
        drain: () => undefined,
        closed: () => undefined,
      }
    },
    onRefused(error) {
      side.refused = error
    },
  })
  return side
}

async function runAll(clock: VirtualClock): Promise<void> {
  do {
    clock.runSoon()
    await Promise.resolve()
  } while (clock.pending.soon > 0)
}
