// Compression of the real host, over node:zlib, which works aside in a thread. One context for each direction of a
// connection; what is written is flushed, so that the other side can take it at once. zstd is there from Node 22.15 on.

import * as zlib from 'node:zlib'
import type { Compression, CompressionFormat, Packer, PackerHandlers } from '../host.ts'

/** Links are fast: a level above costs twice the time for a tenth of the bytes. */
const deflateLevel = 3
const zstdLevel = 3
const zstdWindowLogMax = 20

/** What newer versions of Node add to `zlib`. */
interface Zstd {
  createZstdCompress(options: object): zlib.Zlib & NodeJS.ReadWriteStream
  createZstdDecompress(options: object): zlib.Zlib & NodeJS.ReadWriteStream
}

type Transform = zlib.DeflateRaw | zlib.InflateRaw

const constants: Readonly<Record<string, number>> = { ...zlib.constants }
const zstd: Zstd | undefined =
  'createZstdCompress' in zlib && 'createZstdDecompress' in zlib ? (zlib as unknown as Zstd) : undefined

export const nodeCompression: Compression = {
  formats: zstd === undefined ? ['deflate'] : ['deflate', 'zstd'],
  compressor: (format, handlers) => new NodePacker(compressorOf(format), handlers, flushOf(format)),
  decompressor: (format, handlers) => new NodePacker(decompressorOf(format), handlers, undefined),
}

class NodePacker implements Packer {
  readonly #transform: Transform
  readonly #flush: number | undefined
  #handlers: PackerHandlers | undefined

  /** `flush`: how a compressor gives out what it has; a decompressor does so by itself. */
  constructor(transform: Transform, handlers: PackerHandlers, flush: number | undefined) {
    this.#transform = transform
    this.#handlers = handlers
    this.#flush = flush
    transform.on('data', (bytes: Buffer) => this.#handlers?.data(bytes))
    transform.on('error', (error) => this.#fail(error))
    // A decompressor that comes to an end by itself was given bytes behind the end.
    transform.on('end', () => this.#fail(new Error('bytes came behind the end of what was compressed')))
  }

  get bufferedBytes(): number {
    return this.#transform.writableLength + this.#transform.readableLength
  }

  write(parts: readonly Uint8Array[], done: () => void): void {
    const whenDone = (error?: Error | null): void => {
      if (!(error instanceof Error) && this.#handlers !== undefined) done()
    }
    const last = parts.length - 1
    for (const [i, part] of parts.entries()) {
      if (i === last && this.#flush === undefined) this.#transform.write(part, whenDone)
      else this.#transform.write(part)
    }
    if (this.#flush !== undefined) this.#transform.flush(this.#flush, whenDone)
  }

  pause(): void {
    this.#transform.pause()
  }

  resume(): void {
    this.#transform.resume()
  }

  destroy(): void {
    this.#handlers = undefined
    this.#transform.destroy()
  }

  #fail(error: Error): void {
    const handlers = this.#handlers
    this.destroy()
    handlers?.failed(error)
  }
}

function compressorOf(format: CompressionFormat): Transform {
  if (format === 'deflate') return zlib.createDeflateRaw({ level: deflateLevel })
  const params = {
    [numberOf('ZSTD_c_compressionLevel')]: zstdLevel,
    [numberOf('ZSTD_c_windowLog')]: zstdWindowLogMax,
  }
  return zstdOf().createZstdCompress({ params }) as unknown as Transform
}

function decompressorOf(format: CompressionFormat): Transform {
  if (format === 'deflate') return zlib.createInflateRaw()
  const params = { [numberOf('ZSTD_d_windowLogMax')]: zstdWindowLogMax }
  return zstdOf().createZstdDecompress({ params }) as unknown as Transform
}

function flushOf(format: CompressionFormat): number {
  return format === 'deflate' ? zlib.constants.Z_SYNC_FLUSH : numberOf('ZSTD_e_flush')
}

function zstdOf(): Zstd {
  if (zstd === undefined) throw new TypeError('this version of Node has no zstd')
  return zstd
}

function numberOf(name: string): number {
  const value = constants[name]
  if (value === undefined) throw new TypeError(`zlib has no ${name}`)
  return value
}
