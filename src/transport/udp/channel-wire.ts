// What the two ends of a connection say about a channel, within its protected datagrams (frame `channel`):
//
//   offer = 1: u8 | channel id: u48 | port: u16 | key: 32 | host: the rest, UTF-8      listener to who connected
//   heard = 2: u8 | channel id: u48                                                    back, while it is heard
//
// And the option `multicast: 'group:port'`.

import { utf8Decode, utf8Encode } from '../../base/bytes.ts'
import { CoterieError } from '../../base/errors.ts'
import { sealKeyBytes } from '../../env/ciphers.ts'
import type { DatagramPeer } from '../../env/datagrams.ts'
import { readU16, readU48, writeU16, writeU48 } from './wire.ts'

const types = { offer: 1, heard: 2 } as const
const offerHeadBytes = 9 + sealKeyBytes
const heardBytes = 7
const hostBytesMax = 64

export interface ChannelOffer {
  readonly kind: 'offer'
  readonly id: number
  readonly group: DatagramPeer
  readonly key: Uint8Array
}

export type ChannelWord = ChannelOffer | { readonly kind: 'heard'; readonly id: number }

export function encodeChannelWord(word: ChannelWord): Uint8Array {
  if (word.kind === 'heard') {
    const out = new Uint8Array(heardBytes)
    out[0] = types.heard
    writeU48(out, 1, word.id)
    return out
  }
  const host = utf8Encode(word.group.host)
  const out = new Uint8Array(offerHeadBytes + host.length)
  out[0] = types.offer
  writeU48(out, 1, word.id)
  writeU16(out, 7, word.group.port)
  out.set(word.key, 9)
  out.set(host, offerHeadBytes)
  return out
}

/** Undefined if it is neither. */
export function decodeChannelWord(bytes: Uint8Array): ChannelWord | undefined {
  if (bytes[0] === types.heard && bytes.length === heardBytes) return { kind: 'heard', id: readU48(bytes, 1) }
  const hostBytes = bytes.length - offerHeadBytes
  if (bytes[0] !== types.offer || hostBytes < 1 || hostBytes > hostBytesMax) return undefined
  const host = bytes.subarray(offerHeadBytes)
  if (host.some((byte) => byte < 0x21 || byte > 0x7e)) return undefined
  const group = { host: utf8Decode(host), port: readU16(bytes, 7) }
  return { kind: 'offer', id: readU48(bytes, 1), group, key: bytes.slice(9, offerHeadBytes) }
}

/** `239.1.2.3:4711` or `[ff02::1]:4711`. Errors: OPTION_INVALID. */
export function parseGroup(text: string): DatagramPeer {
  const match = /^(?:\[([0-9a-f:.]+(?:%[\w.-]+)?)\]|([0-9.]+)):([0-9]{1,5})$/i.exec(text)
  const host = match?.[1] ?? match?.[2] ?? ''
  const port = Number(match?.[3])
  const isGroup = host.includes(':') ? /^ff/i.test(host) : isGroupOfV4(host)
  if (isGroup && port > 0 && port <= 65_535) return { host, port }
  throw new CoterieError(
    'OPTION_INVALID',
    `'multicast' must be a group and a port, such as 239.1.2.3:4711, not ${JSON.stringify(text)}`,
    { details: { option: 'multicast' } },
  )
}

function isGroupOfV4(host: string): boolean {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(host)?.slice(1).map(Number)
  if (parts === undefined || parts.some((part) => part > 255)) return false
  const [first = 0] = parts
  return first >= 224 && first <= 239
}
