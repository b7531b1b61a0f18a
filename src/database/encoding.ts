// Encodings of keys and values: those of the Level ecosystem, through `level-transcoder`, so that a codec written for
// any Level database works here.

import { type IEncoding as LevelEncoding, Transcoder } from 'level-transcoder'
import { asError, CoterieError } from '../base/errors.ts'
import { anything, type OptionRules } from '../base/options.ts'

/** An encoding's name (`utf8`, `json`, `view`, `buffer`, `hex`, `base64`) or a codec with `encode` and `decode`. */
export type Encoding = string | LevelEncoding<unknown, unknown, unknown>

/** The options of a store. */
export const encodingRules: OptionRules = { keyEncoding: anything, valueEncoding: anything }

/** An encoding resolved to bytes on one side. */
export interface Codec {
  readonly name: string
  /** Text as UTF-8, which callers may encode by themselves where that is faster. */
  readonly isUtf8: boolean
  encode(value: unknown): Uint8Array
  decode(bytes: Uint8Array): unknown
}

// Buffers inside, because Node encodes and decodes text fastest into them; they are Uint8Arrays to everyone else.
const transcoder = new Transcoder<Buffer>(['buffer'])
const resolved = new Map<string, Codec>()

/** The codec of an encoding. OPTION_INVALID for one that does not exist or cannot be transcoded to bytes. */
export function codecOf(encoding: Encoding): Codec {
  if (typeof encoding === 'string') {
    const known = resolved.get(encoding)
    if (known !== undefined) return known
  }
  let inner: LevelEncoding<unknown, Buffer, unknown>
  try {
    inner = transcoder.encoding(encoding as string) as LevelEncoding<unknown, Buffer, unknown>
  } catch (cause) {
    throw new CoterieError('OPTION_INVALID', `no such encoding: ${asError(cause).message}`, { cause })
  }
  const codec: Codec =
    encoding === 'utf8'
      ? utf8
      : {
          name: String(typeof encoding === 'string' ? encoding : (encoding.name ?? 'custom')),
          isUtf8: false,
          encode: (value) => inner.encode(value),
          decode: (bytes) => ownBytes(inner.decode(asBuffer(bytes)), bytes),
        }
  if (typeof encoding === 'string') resolved.set(encoding, codec)
  return codec
}

/** What a caller is given is its own to change; what was read may be shared with the cache and with other readers. */
function ownBytes(decoded: unknown, read: Uint8Array): unknown {
  if (!ArrayBuffer.isView(decoded) || decoded.buffer !== read.buffer) return decoded
  const bytes = new Uint8Array(decoded.buffer, decoded.byteOffset, decoded.byteLength)
  return Buffer.isBuffer(decoded) ? Buffer.from(bytes) : bytes.slice()
}

/** The default: text. Values that are not strings are turned into text, as in the Level ecosystem. */
const utf8: Codec = {
  name: 'utf8',
  isUtf8: true,
  encode: (value) =>
    ArrayBuffer.isView(value) ? asBuffer(value as Uint8Array) : Buffer.from(String(value), 'utf8'),
  decode: (bytes) => asBuffer(bytes).toString('utf8'),
}

/** The same bytes as a Buffer, without a copy. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
