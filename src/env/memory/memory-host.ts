// A host whose files are in memory; the clock, the timers, the randomness and the sockets are those of another host.

import type { Files, Host } from '../host.ts'
import { MemoryFiles } from './memory-files.ts'

export interface MemoryHostOptions {
  /** Gives everything but the files. */
  readonly base: Host
  /** Default: empty files of its own. */
  readonly files?: Files
}

export function memoryHost(options: MemoryHostOptions): Host {
  const { clock, timers, random, crypto, compression, streams, datagrams, ciphers, processId } = options.base
  return {
    clock,
    timers,
    random,
    crypto,
    compression,
    streams,
    datagrams,
    ciphers,
    processId,
    files: options.files ?? new MemoryFiles({ timers }),
  }
}
