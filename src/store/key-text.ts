// Keys as strings: one character, 0 to 255, for each byte. Such strings compare as the bytes do, V8 keeps them at one
// byte a character, and a `Map` or a tree over them is several times faster than one over byte arrays.

type Latin1Slice = (this: Uint8Array, start: number, end: number) => string

/** What `buffer.toString('latin1')` calls. Absent outside Node; `TextDecoder` cannot do it ('latin1' means 1252). */
const latin1Slice: Latin1Slice | undefined =
  typeof Buffer === 'function'
    ? (Buffer.prototype as unknown as { latin1Slice?: Latin1Slice }).latin1Slice
    : undefined

/** The key as a string. Two keys are equal, less or greater exactly as their strings are. */
export function keyText(key: Uint8Array): string {
  return latin1Slice === undefined ? portableText(key) : latin1Slice.call(key, 0, key.length)
}

/** The bytes that `keyText` made `text` of. */
export function keyBytes(text: string): Uint8Array {
  // A loop beats the call up to here, and is many times slower far beyond (measured).
  if (text.length > 32 && typeof Buffer === 'function') return Buffer.from(text, 'latin1')
  const bytes = new Uint8Array(text.length)
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i)
  return bytes
}

/** `keyText` where there is no Buffer. */
export function portableText(key: Uint8Array): string {
  let text = ''
  for (let at = 0; at < key.length; at += 4096) {
    text += String.fromCharCode(...key.subarray(at, at + 4096))
  }
  return text
}
