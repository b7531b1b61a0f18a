// The host behind interfaces: everything that a simulator must be able to control. `env/node` is the real one.
// Nothing else in the project reads a clock, sets a timer, draws a random number, or touches a file or a socket.

import type { Ciphers } from './ciphers.ts'
import type { Datagrams } from './datagrams.ts'

export interface Host {
  readonly clock: Clock
  readonly timers: Timers
  readonly random: Random
  readonly crypto: Crypto
  readonly compression: Compression
  readonly files: Files
  readonly streams: Streams
  /** Undefined where there are none: `udp://` is refused there. */
  readonly datagrams?: Datagrams | undefined
  readonly ciphers?: Ciphers | undefined
  /** Says who holds a lock. */
  readonly processId: number
}

export interface Clock {
  /** Milliseconds since an arbitrary start, with fractions; never goes back. */
  now(): number
  /** Milliseconds since 1970. May jump; safety never depends on it. */
  wall(): number
}

export interface Timers {
  /** Runs `callback` once, `ms` from now. Does not keep the process alive, unless it is told to. */
  after(ms: number, callback: () => void, options?: { readonly keepsAlive: boolean }): Timer
  /** Runs `callback` after the input and output events that are due now. Keeps the process alive. */
  soon(callback: () => void): void
}

export interface Timer {
  cancel(): void
}

export interface Random {
  bytes(length: number): Uint8Array
}

export interface Crypto {
  /** HMAC-SHA-256 over the parts, one after the other: 32 bytes. */
  hmac(key: Uint8Array, parts: readonly Uint8Array[]): Uint8Array
  /** In a time that does not depend on the content. False for different lengths. */
  equal(a: Uint8Array, b: Uint8Array): boolean
}

export type CompressionFormat = 'deflate' | 'zstd'

export interface Compression {
  /** Those that this host has. */
  readonly formats: readonly CompressionFormat[]
  compressor(format: CompressionFormat, handlers: PackerHandlers): Packer
  /** Its window has at most 1 MiB, and it holds back what nobody takes: small input that becomes much costs time only. */
  decompressor(format: CompressionFormat, handlers: PackerHandlers): Packer
}

/** One direction of a stream: bytes in, others out, in order. */
export interface Packer {
  /** Taken, and not given out yet. */
  readonly bufferedBytes: number
  /** The parts must not change. `done`: all that they amount to has been worked out. */
  write(parts: readonly Uint8Array[], done: () => void): void
  /** Nothing is given out until `resume`, and little is worked out. */
  pause(): void
  resume(): void
  /** Nothing is called any more. */
  destroy(): void
}

export interface PackerHandlers {
  data(bytes: Uint8Array): void
  /** What came in is not of the format. Called once, last. */
  failed(error: Error): void
}

/** Paths are absolute or relative to the working directory, in the host's own notation. */
export interface Files {
  join(...parts: string[]): string
  resolve(path: string): string
  /** Creates the folder and its parents; syncs the parent. */
  makeFolder(path: string): Promise<void>
  /** Names in the folder, sorted; undefined if there is no such folder. */
  list(path: string): Promise<string[] | undefined>
  size(path: string): Promise<number | undefined>
  rename(from: string, to: string): Promise<void>
  remove(path: string): Promise<void>
  removeTree(path: string): Promise<void>
  /** Makes creates, renames and removes in the folder durable. */
  syncFolder(path: string): Promise<void>
  /** The whole file, or undefined if there is none. */
  readAll(path: string): Promise<Uint8Array | undefined>
  /** Replaces the file so that a crash leaves the old or the new content; durable when it resolves. */
  replace(path: string, content: Uint8Array): Promise<void>
  open(path: string, mode: 'read' | 'write' | 'create'): Promise<OpenFile>
  /** Takes an exclusive lock that dies with the process; undefined if another holder has it. */
  lock(path: string): Promise<FileLock | undefined>
  /** Bytes free to this process on the disk that holds `path`. */
  freeBytes(path: string): Promise<number>
}

/** Callbacks where the commit path runs, promises elsewhere: a promise per write costs a third of its rate. */
export interface OpenFile {
  readonly path: string
  /** Reads up to `into.length` bytes; resolves to how many there were. */
  read(into: Uint8Array, at: number): Promise<number>
  /** Writes all of `parts`, one after the other, from `at` on: loops on short counts. */
  write(parts: readonly Uint8Array[], at: number, done: (error: Error | null) => void): void
  /** Makes the content durable (fdatasync). */
  sync(done: (error: Error | null) => void): void
  truncate(bytes: number): Promise<void>
  close(): Promise<void>
}

export interface FileLock {
  /** Writes `content` (who holds it) where a process that is refused can read it: the file itself. */
  describe(content: string): Promise<void>
  release(): Promise<void>
}

/** Byte streams: TCP, with TLS or without, and pipes (Unix sockets; named pipes on Windows). */
export interface Streams {
  /**
   * A pipe is made so that only its owner can connect. ADDRESS_IN_USE: somebody listens there. ADDRESS_INVALID: there is
   * no such place, or something else is in it. A pipe that nobody listens on any more is taken over.
   */
  listen(options: StreamListenOptions, onStream: (stream: Stream) => void): Promise<StreamListener>
  connect(options: StreamConnectOptions): Promise<Stream>
}

export type StreamPlace =
  | { readonly host: string; readonly port: number }
  /** Of a pipe. */
  | { readonly path: string }

/** Of Node's `tls` module, as PEM or DER. */
export interface StreamTls {
  /** Whom to believe: the authorities that sign the certificates of the group's sites. */
  readonly ca: string | Uint8Array | readonly (string | Uint8Array)[]
  /** Of this site; shown as a client, too: both sides prove who they are. */
  readonly cert: string | Uint8Array
  readonly key: string | Uint8Array
  readonly passphrase?: string
  readonly minVersion?: 'TLSv1.2' | 'TLSv1.3'
  readonly ciphers?: string
}

/** OPTION_INVALID: a key or certificate cannot be used. */
export type StreamListenOptions = StreamPlace & { readonly tls?: StreamTls }

export type StreamConnectOptions = StreamPlace & {
  /** `serverName`: what the other side's certificate must bear. */
  readonly tls?: StreamTls & { readonly serverName: string }
  readonly signal?: AbortSignal
}

/** What TLS has shown of the other side. */
export type StreamProof =
  /** Its common name and its DNS names. */
  | { readonly isTrusted: true; readonly names: readonly string[] }
  /**
   * The stream is as good as a plain one to anybody: say why, and end it. `untrusted`: signed by none of the authorities;
   * `missing`: there is no certificate; `plain`: it does not speak TLS, and what is written goes out in the clear.
   */
  | {
      readonly isTrusted: false
      readonly reason: 'untrusted' | 'expired' | 'name' | 'missing' | 'plain'
      readonly message: string
    }

export interface StreamListener {
  /** Of a pipe its path. */
  readonly host: string
  /** 0 where there are none. */
  readonly port: number
  close(): Promise<void>
}

export interface Stream {
  /** Host and port, or the path of a pipe. */
  readonly remote: string
  /** Bytes that the host holds because the other side does not take them. */
  readonly bufferedBytes: number
  /** Takes the bytes without copying: they must not change. Returns false once the host would rather wait. */
  write(parts: readonly Uint8Array[]): boolean
  /** Set once, before the first await after the stream was received. */
  handlers: StreamHandlers
  pause(): void
  resume(): void
  /** Sends what is buffered, then closes. */
  end(): void
  /** Closes at once. */
  destroy(): void
}

export interface StreamHandlers {
  /** With TLS: called once, before anything else but `closed`. Nothing is written before it. */
  secured?(proof: StreamProof): void
  data(bytes: Uint8Array): void
  drain(): void
  /** Called once. `error` is undefined for an orderly end; TLS_FAILED where the handshake of TLS failed. */
  closed(error: Error | undefined): void
}
