// Keys and values as text on the command line: utf8 (default), hex, base64 or json. The database sees bytes only.
//
// Decoding bytes that are not UTF-8 as utf8 never guesses: the caller is told and shows base64 under another name.

import { fromHex, toHex, utf8Decode, utf8Encode } from '../base/bytes.ts'
import { usageError } from './exit-codes.ts'

export const textEncodings = ['utf8', 'hex', 'base64', 'json'] as const
export type TextEncoding = (typeof textEncodings)[number]

/** `what` names the argument in the error. */
export function encodeText(text: string, encoding: TextEncoding, what: string): Uint8Array {
  switch (encoding) {
    case 'utf8':
      return utf8Encode(text)
    case 'hex': {
      const bytes = fromHex(text)
      if (bytes === undefined) throw usageError(`${what} is not an even number of hexadecimal digits`)
      return bytes
    }
    case 'base64': {
      const bytes = fromBase64(text)
      if (bytes === undefined) throw usageError(`${what} is not base64`)
      return bytes
    }
    case 'json':
      return utf8Encode(normalisedJson(text, what))
  }
}

/** Undefined where the bytes are not of the encoding (utf8, json). */
export function decodeText(bytes: Uint8Array, encoding: TextEncoding): string | undefined {
  switch (encoding) {
    case 'utf8':
      return asUtf8(bytes)
    case 'hex':
      return toHex(bytes)
    case 'base64':
      return toBase64(bytes)
    case 'json': {
      const text = asUtf8(bytes)
      if (text === undefined) return undefined
      try {
        return JSON.stringify(JSON.parse(text))
      } catch {
        return undefined
      }
    }
  }
}

/** Undefined unless `bytes` are UTF-8 that turns back into the same bytes. */
export function asUtf8(bytes: Uint8Array): string | undefined {
  // The decoder drops a leading byte order mark, and the value would come back three bytes shorter.
  if (bytes.length >= 3 && bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) return undefined
  try {
    return utf8Decode(bytes)
  } catch {
    return undefined
  }
}

export function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}

/** Undefined for text that is not padded base64: `Buffer.from` alone skips what it does not know. */
export function fromBase64(text: string): Uint8Array | undefined {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return undefined
  const bytes = Buffer.from(text, 'base64')
  return bytes.toString('base64') === text ? new Uint8Array(bytes) : undefined
}

function normalisedJson(text: string, what: string): string {
  try {
    return JSON.stringify(JSON.parse(text))
  } catch (error) {
    throw usageError(`${what} is not JSON: ${(error as Error).message}`)
  }
}

/** A key or value as a field of a JSON object: `{ value: text }`, or `{ value64: base64 }` if it is not UTF-8. */
export function jsonField(
  name: 'key' | 'value',
  bytes: Uint8Array,
  encoding: TextEncoding,
): Record<string, unknown> {
  const text = decodeText(bytes, encoding)
  if (text === undefined) return { [`${name}64`]: toBase64(bytes) }
  return { [name]: encoding === 'json' ? (JSON.parse(text) as unknown) : text }
}
