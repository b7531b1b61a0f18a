// The outside of datagrams: what stands readable on the network. The tables are in docs/udp.md.
//
//   data       = 5: u8 | 0: u8 | number: u48 | connection id of the receiver: u48 | body | check: 16 bytes
//   channel    = 6: u8 | 0: u8 | number: u48 | channel id: u48 | body | check: 16 bytes
//   hello      = 1: u8 | flags: u8 | "COTERIE\0" | versions: u16, u16 | id: u48 | nonce: 32 | cookie: 20 | mac: 16 | 0 ...
//   cookie     = 2: u8 | flags: u8 | "COTERIE\0" | id: u48 | cookie: 20 | mac: 16
//   accept     = 3: u8 | flags: u8 | "COTERIE\0" | version: u16 | id: u48 | id: u48 | nonce: 32 | mac: 16
//   refuse     = 4: u8 | flags: u8 | "COTERIE\0" | versions: u16, u16 | id: u48 | mac: 16
//
// A hello is padded to be longer than any answer to it. What has not exactly this shape is nothing: `undefined`.

import { equalBytes, utf8Encode } from '../../base/bytes.ts'
import type { ProtocolRange } from '../preface.ts'
import { readU16, readU48, writeU16, writeU48 } from './wire.ts'

export const packetTypes = { hello: 1, cookie: 2, accept: 3, refuse: 4, data: 5, channel: 6 } as const

export const dataHeaderBytes = 14
/** AES-GCM's tag, or a CRC-32 and zeros where there is no key: the room inside is the same. */
export const checkBytes = 16
export const nonceBytes = 32
export const cookieBytes = 20
export const macBytes = 16
export const helloBytes = 120

const keyedFlag = 1
const magic = utf8Encode('COTERIE\0')
const headBytes = 2 + magic.length
export const emptyCookie: Uint8Array = new Uint8Array(cookieBytes)

export interface Hello {
  readonly keyed: boolean
  readonly protocol: ProtocolRange
  readonly id: number
  readonly nonce: Uint8Array
  readonly cookie: Uint8Array
}

export interface CookieAnswer {
  readonly keyed: boolean
  readonly id: number
  readonly cookie: Uint8Array
}

export interface Accept {
  readonly keyed: boolean
  readonly version: number
  readonly id: number
  readonly serverId: number
  readonly nonce: Uint8Array
}

export interface Refuse {
  readonly keyed: boolean
  readonly protocol: ProtocolRange
  readonly id: number
}

/** Makes the last bytes of a handshake datagram from all that is before them. */
export type Signer = (signed: Uint8Array) => Uint8Array

const lengths = { hello: 88, cookie: 52, accept: 72, refuse: 36 } as const

export function encodeHello(hello: Hello, sign: Signer): Uint8Array {
  const out = begin('hello', hello.keyed, helloBytes)
  writeU16(out, 10, hello.protocol.oldest)
  writeU16(out, 12, hello.protocol.newest)
  writeU48(out, 14, hello.id)
  out.set(hello.nonce, 20)
  out.set(hello.cookie, 52)
  return finish(out, lengths.hello, sign)
}

export function encodeCookie(answer: CookieAnswer, sign: Signer): Uint8Array {
  const out = begin('cookie', answer.keyed, lengths.cookie)
  writeU48(out, 10, answer.id)
  out.set(answer.cookie, 16)
  return finish(out, lengths.cookie, sign)
}

export function encodeAccept(accept: Accept, sign: Signer): Uint8Array {
  const out = begin('accept', accept.keyed, lengths.accept)
  writeU16(out, 10, accept.version)
  writeU48(out, 12, accept.id)
  writeU48(out, 18, accept.serverId)
  out.set(accept.nonce, 24)
  return finish(out, lengths.accept, sign)
}

export function encodeRefuse(refuse: Refuse, sign: Signer): Uint8Array {
  const out = begin('refuse', refuse.keyed, lengths.refuse)
  writeU16(out, 10, refuse.protocol.oldest)
  writeU16(out, 12, refuse.protocol.newest)
  writeU48(out, 14, refuse.id)
  return finish(out, lengths.refuse, sign)
}

export function decodeHello(datagram: Uint8Array): Hello | undefined {
  if (!begins(datagram, 'hello', helloBytes)) return undefined
  if (datagram.subarray(lengths.hello).some((byte) => byte !== 0)) return undefined
  return {
    keyed: isKeyed(datagram),
    protocol: { oldest: readU16(datagram, 10), newest: readU16(datagram, 12) },
    id: readU48(datagram, 14),
    nonce: datagram.subarray(20, 52),
    cookie: datagram.subarray(52, 72),
  }
}

export function decodeCookie(datagram: Uint8Array): CookieAnswer | undefined {
  if (!begins(datagram, 'cookie', lengths.cookie)) return undefined
  return { keyed: isKeyed(datagram), id: readU48(datagram, 10), cookie: datagram.subarray(16, 36) }
}

export function decodeAccept(datagram: Uint8Array): Accept | undefined {
  if (!begins(datagram, 'accept', lengths.accept)) return undefined
  return {
    keyed: isKeyed(datagram),
    version: readU16(datagram, 10),
    id: readU48(datagram, 12),
    serverId: readU48(datagram, 18),
    nonce: datagram.subarray(24, 56),
  }
}

export function decodeRefuse(datagram: Uint8Array): Refuse | undefined {
  if (!begins(datagram, 'refuse', lengths.refuse)) return undefined
  const protocol = { oldest: readU16(datagram, 10), newest: readU16(datagram, 12) }
  return { keyed: isKeyed(datagram), protocol, id: readU48(datagram, 14) }
}

/** What is signed of a handshake datagram, and the signature. The datagram was decoded before. */
export function signedPart(datagram: Uint8Array): { readonly signed: Uint8Array; readonly mac: Uint8Array } {
  const end = datagram.length === helloBytes ? lengths.hello : datagram.length
  return { signed: datagram.subarray(0, end - macBytes), mac: datagram.subarray(end - macBytes, end) }
}

/** The number and the connection (or channel) of a datagram, which nothing has proved yet. */
export function decodeDataHeader(
  datagram: Uint8Array,
  type: 'data' | 'channel' = 'data',
): { readonly number: number; readonly id: number } | undefined {
  if (datagram.length < dataHeaderBytes + checkBytes) return undefined
  if (datagram[0] !== packetTypes[type] || datagram[1] !== 0) return undefined
  return { number: readU48(datagram, 2), id: readU48(datagram, 8) }
}

export function writeDataHeader(
  into: Uint8Array,
  { number, id }: { readonly number: number; readonly id: number },
  type: 'data' | 'channel' = 'data',
): void {
  into[0] = packetTypes[type]
  into[1] = 0
  writeU48(into, 2, number)
  writeU48(into, 8, id)
}

type HandshakeType = keyof typeof lengths

function begin(type: HandshakeType, keyed: boolean, bytes: number): Uint8Array {
  const out = new Uint8Array(bytes)
  out[0] = packetTypes[type]
  out[1] = keyed ? keyedFlag : 0
  out.set(magic, 2)
  return out
}

function finish(out: Uint8Array, end: number, sign: Signer): Uint8Array {
  const macAt = end - macBytes
  out.set(sign(out.subarray(0, macAt)).subarray(0, macBytes), macAt)
  return out
}

function begins(datagram: Uint8Array, type: HandshakeType, bytes: number): boolean {
  if (datagram.length !== bytes || datagram[0] !== packetTypes[type]) return false
  return (datagram[1] as number) <= keyedFlag && equalBytes(datagram.subarray(2, headBytes), magic)
}

function isKeyed(datagram: Uint8Array): boolean {
  return datagram[1] === keyedFlag
}
