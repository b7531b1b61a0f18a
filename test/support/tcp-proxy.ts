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
  /** Breaks all connections and takes no more. */
  close(): void
}

/** A message of the protocol that is about to pass. */
export interface PassingMessage {
  readonly from: 'client' | 'server'
  /** Its number in docs/protocol.md. */
  readonly type: number
}

export interface ProxyOptions {
  /** Asked of each message in turn: what becomes of it, and of the connections then. Default: it passes. */
  readonly onMessage?: (message: PassingMessage) => 'pass' | 'drop' | 'cutBefore' | 'cutAfter'
}

const prefaceBytes = 16
const frameHeadBytes = 12

/** What has come of one direction of a connection: a preface, then frames. */
class Frames {
  #bytes: Buffer = Buffer.alloc(0)
  #hasPreface = false

  add(bytes: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, bytes])
  }

  /** The next whole preface (type 0) or frame. */
  next(): { readonly bytes: Buffer; readonly type: number } | undefined {
    const length = this.#length()
    if (length === undefined || this.#bytes.length < length) return undefined
    const bytes = this.#bytes.subarray(0, length)
    this.#bytes = this.#bytes.subarray(length)
    const isFrame = this.#hasPreface
    this.#hasPreface = true
    return { bytes, type: isFrame ? (bytes[frameHeadBytes] as number) : 0 }
  }

  #length(): number | undefined {
    if (!this.#hasPreface) return prefaceBytes
    if (this.#bytes.length < frameHeadBytes) return undefined
    return frameHeadBytes + this.#bytes.readUInt32LE(0) + this.#bytes.readUInt32LE(4)
  }
}

/** `target`: `tcp://host:port`. */
export async function startProxy(
  t: TestContext,
  target: string,
  { onMessage }: ProxyOptions = {},
): Promise<TcpProxy> {
  const { hostname, port } = new URL(target.replace('tcp:', 'http:'))
  const sockets = new Set<Socket>()
  const cut = (): void => {
    for (const socket of sockets) socket.destroy()
  }
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
      if (onMessage === undefined) from.pipe(to)
      else passMessages(from, to, (type) => onMessage({ from: from === near ? 'client' : 'server', type }))
      from.on('error', () => to.destroy())
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
    }
    if (frozen) for (const socket of [near, far]) socket.unpipe().pause()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  function passMessages(
    from: Socket,
    to: Socket,
    judge: (type: number) => 'pass' | 'drop' | 'cutBefore' | 'cutAfter',
  ): void {
    const frames = new Frames()
    let isOver = false
    from.on('data', (bytes) => {
      if (isOver) return
      frames.add(bytes)
      for (let frame = frames.next(); frame !== undefined; frame = frames.next()) {
        const verdict = frame.type === 0 ? 'pass' : judge(frame.type)
        if (verdict === 'cutBefore') return cut()
        if (verdict === 'cutAfter') {
          isOver = true
          to.end(frame.bytes, cut)
          return
        }
        if (verdict === 'pass') to.write(frame.bytes)
      }
    })
    from.on('end', () => to.end())
  }
  const pairs = (): Socket[] => [...sockets]
  atEnd(t, async () => {
    cut()
    if (server.listening) await new Promise((resolve) => server.close(resolve))
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
    close: () => {
      server.close()
      cut()
    },
  }
}
