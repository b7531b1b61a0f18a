// The real host: Node's clock, timers, randomness, files and sockets behind the interfaces of env/host.ts. Timers do
// not keep the process alive; `soon` does, because what it carries is work that has been asked for.

import { randomFillSync } from 'node:crypto'
import type { Clock, Host, Random, Timer, Timers } from '../host.ts'
import { nodeCiphers } from './node-ciphers.ts'
import { nodeCompression } from './node-compression.ts'
import { nodeCrypto } from './node-crypto.ts'
import { NodeDatagrams } from './node-datagrams.ts'
import { NodeFiles } from './node-files.ts'
import { NodeStreams } from './node-streams.ts'

/** Node fires a longer timeout at once. */
const timeoutMsMax = 2_147_483_647

const nodeClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
}

const nodeTimers: Timers = {
  after(ms: number, callback: () => void, options?: { readonly keepsAlive: boolean }): Timer {
    const timeout = setTimeout(callback, Math.min(ms, timeoutMsMax))
    if (options?.keepsAlive !== true) timeout.unref()
    return { cancel: () => clearTimeout(timeout) }
  },
  soon(callback: () => void): void {
    setImmediate(callback)
  },
}

/** Draws from the system 4 KiB at a time: a call for 16 bytes costs about as much as one for a page. */
class NodeRandom implements Random {
  readonly #pool = new Uint8Array(4096)
  #used = 4096

  bytes(length: number): Uint8Array {
    if (length > 512) return randomFillSync(new Uint8Array(length))
    if (this.#used + length > this.#pool.length) {
      randomFillSync(this.#pool)
      this.#used = 0
    }
    const bytes = this.#pool.slice(this.#used, this.#used + length)
    this.#used += length
    return bytes
  }
}

/** The host of the running Node process. */
export function nodeHost(): Host {
  return {
    clock: nodeClock,
    timers: nodeTimers,
    random: new NodeRandom(),
    crypto: nodeCrypto,
    compression: nodeCompression,
    files: new NodeFiles(),
    streams: new NodeStreams(),
    datagrams: new NodeDatagrams(),
    ciphers: nodeCiphers,
    processId: process.pid,
  }
}
