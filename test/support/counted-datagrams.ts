// A host whose datagrams are counted, and may be kept from a multicast group.

import type { DatagramSocket, Datagrams } from '../../src/env/datagrams.ts'
import type { Host } from '../../src/env/host.ts'
import { nodeHost } from '../../src/env/node/node-host.ts'

export interface CountedDatagrams {
  readonly host: Host
  readonly counts: {
    bytesOut: number
    bytesToGroups: number
    /** Datagrams that came by a group. */
    fromGroups: number
  }
  /** True: nothing comes by a group, and nobody is told. */
  isDeaf: boolean
}

export function countedDatagrams(): CountedDatagrams {
  const real = nodeHost()
  const { datagrams } = real
  if (datagrams === undefined) throw new Error('the real host has datagrams')
  const counts = { bytesOut: 0, bytesToGroups: 0, fromGroups: 0 }
  const counted: { -readonly [K in keyof CountedDatagrams]: CountedDatagrams[K] } = {
    host: real,
    counts,
    isDeaf: false,
  }
  const wrap = (socket: DatagramSocket, isGroup: boolean): DatagramSocket => ({
    host: socket.host,
    port: socket.port,
    receiveBufferBytes: socket.receiveBufferBytes,
    get handlers() {
      return socket.handlers
    },
    set handlers(handlers) {
      socket.handlers = {
        message: (datagram, host, port) => {
          if (isGroup && counted.isDeaf) return
          if (isGroup) counts.fromGroups++
          handlers.message(datagram, host, port)
        },
        failed: (error) => handlers.failed(error),
      }
    },
    send: (datagram, to) => {
      counts.bytesOut += datagram.length
      if (to?.host.startsWith('239.') === true) counts.bytesToGroups += datagram.length
      socket.send(datagram, to)
    },
    close: () => socket.close(),
  })
  const wrapped: Datagrams = {
    bind: async (options) => wrap(await datagrams.bind(options), false),
    connect: async (options) => wrap(await datagrams.connect(options), false),
    join: async (options) => wrap(await datagrams.join(options), true),
  }
  // Transports are known by the streams of their host.
  counted.host = { ...real, streams: { ...real.streams }, datagrams: wrapped }
  return counted
}
