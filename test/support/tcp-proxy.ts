// A network between two sites that a test can freeze and cut: it passes bytes on between TCP connections.

import type { AddressInfo } from 'node:net'
import { connect, createServer, type Socket } from 'node:net'
import type { TestContext } from 'node:test'
import { atEnd } from './at-end.ts'

export interface TcpProxy {
  /** Connect here instead. */
  readonly address: string
  /** Bytes that came back from the server. */
  readonly bytesBack: number
  /** Open now. */
  readonly connections: number
  /** From now on nothing passes, in either direction; connections stay open. */
  freeze(): void
  thaw(): void
  /** Breaks all connections; new ones are taken. */
  cut(): void
}

/** `target`: `tcp://host:port`. */
export async function startProxy(t: TestContext, target: string): Promise<TcpProxy> {
  const { hostname, port } = new URL(target.replace('tcp:', 'http:'))
  const sockets = new Set<Socket>()
  let frozen = false
  let bytesBack = 0
  const server = createServer((near) => {
    const far = connect({ host: hostname, port: Number(port) })
    far.on('data', (bytes) => {
      bytesBack += bytes.length
    })
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from)
      from.pipe(to)
      from.on('error', () => to.destroy())
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
    }
    if (frozen) for (const socket of [near, far]) socket.unpipe().pause()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const cut = (): void => {
    for (const socket of sockets) socket.destroy()
  }
  const pairs = (): Socket[] => [...sockets]
  atEnd(t, async () => {
    cut()
    await new Promise((resolve) => server.close(resolve))
  })
  return {
    address: `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get connections() {
      return sockets.size / 2
    },
    get bytesBack() {
      return bytesBack
    },
    freeze: () => {
      frozen = true
      for (const socket of pairs()) socket.pause()
    },
    thaw: () => {
      frozen = false
      for (const socket of pairs()) socket.resume()
    },
    cut,
  }
}
