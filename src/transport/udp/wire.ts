// Integers in datagrams, little-endian. Numbers of 48 bits count datagrams and name connections: they are whole in a
// JavaScript number, and 2^48 datagrams are 89 years at a hundred thousand a second.

export const u48Max = 0xffff_ffff_ffff

export function writeU16(into: Uint8Array, at: number, value: number): void {
  into[at] = value
  into[at + 1] = value >>> 8
}

export function writeU32(into: Uint8Array, at: number, value: number): void {
  into[at] = value
  into[at + 1] = value >>> 8
  into[at + 2] = value >>> 16
  into[at + 3] = value >>> 24
}

export function writeU48(into: Uint8Array, at: number, value: number): void {
  writeU32(into, at, value >>> 0)
  writeU16(into, at + 4, Math.floor(value / 0x1_0000_0000))
}

export function readU16(bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) | ((bytes[at + 1] as number) << 8)
}

export function readU32(bytes: Uint8Array, at: number): number {
  return (readU16(bytes, at) | (readU16(bytes, at + 2) << 16)) >>> 0
}

export function readU48(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at) + readU16(bytes, at + 4) * 0x1_0000_0000
}
