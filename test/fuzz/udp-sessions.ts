// A session over datagrams for the fuzz tests: two sites on a network in the test's hand, and what came of it.

import assert from 'node:assert/strict'
import type { CoterieError } from '../../src/base/errors.ts'
import type { DatagramPeer } from '../../src/env/datagrams.ts'
import { parseAddress } from '../../src/transport/address.ts'
import type { Connection, Listener } from '../../src/transport/transport.ts'
import { UdpListener } from '../../src/transport/udp/udp-listener.ts'
import { udpTransport } from '../../src/transport/udp/udp-transport.ts'
import { DatagramNet } from '../support/memory-datagrams.ts'

export const server: DatagramPeer = { host: '127.0.0.1', port: 900 }
export const key: Uint8Array = new Uint8Array(32).fill(2)
export const boundBytes = 100_000

export interface Got {
  readonly control: Uint8Array
  readonly payload: Uint8Array
}

export interface Session {
  readonly net: DatagramNet
  readonly listener: UdpListener
  readonly near: Connection
  readonly atServer: { readonly connection: Connection; readonly messages: Got[]; closed: boolean }[]
  readonly atClient: Got[]
  readonly refused: CoterieError[]
  readonly ends: (CoterieError | undefined)[]
}

function linkOf(keyed: boolean): {
  identity: () => { site: string; databaseId: undefined }
  key?: Uint8Array
} {
  const identity = (): { site: string; databaseId: undefined } => ({ site: 'test', databaseId: undefined })
  return keyed ? { identity, key } : { identity }
}

/** Two sites that are connected. */
export async function startSession(options: {
  readonly keyed: boolean
  readonly net?: DatagramNet
  readonly halfOpenMax?: number
}): Promise<Session> {
  const net = options.net ?? new DatagramNet()
  const link = linkOf(options.keyed)
  const atServer: Session['atServer'] = []
  const atClient: Got[] = []
  const refused: CoterieError[] = []
  const ends: (CoterieError | undefined)[] = []
  const listener: Listener = await udpTransport(net.host()).listen({
    address: parseAddress('udp://127.0.0.1:900'),
    frameBytesMax: boundBytes,
    link,
    ...(options.halfOpenMax === undefined ? {} : { halfOpenMax: options.halfOpenMax }),
    onRefused: (error) => refused.push(error),
    onConnection(connection) {
      const each = { connection, messages: [] as Got[], closed: false }
      connection.handlers = {
        message: (control, payload) => each.messages.push({ control, payload }),
        drain: () => undefined,
        closed: () => {
          each.closed = true
        },
      }
      atServer.push(each)
    },
  })
  assert.ok(listener instanceof UdpListener)
  const connecting = udpTransport(net.host()).connect({
    address: parseAddress('udp://127.0.0.1:900'),
    connectTimeoutMs: 5000,
    frameBytesMax: boundBytes,
    link,
  })
  await net.run(40)
  const near = await connecting
  near.handlers = {
    message: (control, payload) => atClient.push({ control, payload }),
    drain: () => undefined,
    closed: (error) => ends.push(error),
  }
  await net.run(20)
  return { net, listener, near, atServer, atClient, refused, ends }
}

/** Sends both ways what a session has: short messages, several in one datagram, and long ones. */
export function talk({ near, atServer }: Pick<Session, 'near' | 'atServer'>, messages: readonly Got[]): void {
  for (const { control, payload } of messages) {
    near.send(control, payload)
    atServer[0]?.connection.send(control, payload)
  }
}

export function isAmong(got: Got, messages: readonly Got[]): boolean {
  return messages.some(
    ({ control, payload }) =>
      Buffer.compare(control, got.control) === 0 && Buffer.compare(payload, got.payload) === 0,
  )
}
