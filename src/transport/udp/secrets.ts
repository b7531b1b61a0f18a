// What protects datagrams: with `key` the handshake is signed and data is sealed under keys of its own for each
// connection and direction; without, both carry checksums that find damage and keep nobody out.
//
//   handshake key = HKDF(key, "", "coterie udp handshake")
//   signature     = HMAC(handshake key, what it answers | the datagram up to here), 16 bytes of it
//   data key      = HKDF(key, client's nonce | server's nonce, "coterie udp <direction>")
//
// Both nonces are 32 random bytes, so no two connections share a key; the number of a datagram is its nonce, and a
// direction never uses a number twice.

import { concatBytes, emptyBytes } from '../../base/bytes.ts'
import { crc32 } from '../../base/checksum.ts'
import { CoterieError } from '../../base/errors.ts'
import { type Ciphers, type Sealer, sealKeyBytes, sealNonceBytes } from '../../env/ciphers.ts'
import { checkBytes, macBytes, signedPart } from './packet.ts'
import { readU32, writeU32, writeU48 } from './wire.ts'

export interface BodySealer {
  /** Fills in the check of a datagram, and encrypts its body if there is a key. */
  seal(number: number, datagram: Uint8Array, headerBytes: number): void
  /** The body, or undefined if the datagram is damaged or not from who has the key. */
  open(number: number, datagram: Uint8Array, headerBytes: number): Uint8Array | undefined
}

export interface DirectionKeys {
  readonly toServer: BodySealer
  readonly toClient: BodySealer
}

export class Secrets {
  readonly keyed: boolean
  readonly #ciphers: Ciphers
  readonly #key: Uint8Array | undefined
  readonly #handshakeKey: Uint8Array

  /** Errors: OPTION_INVALID for a key that has not 32 bytes. */
  constructor(ciphers: Ciphers, key: Uint8Array | undefined) {
    if (key !== undefined && key.length !== sealKeyBytes) {
      throw new CoterieError('OPTION_INVALID', `'key' must have ${sealKeyBytes} bytes, not ${key.length}`, {
        details: { option: 'key' },
      })
    }
    this.keyed = key !== undefined
    this.#ciphers = ciphers
    this.#key = key === undefined ? undefined : new Uint8Array(key)
    // Without a key this is a checksum that anybody can make.
    this.#handshakeKey =
      key === undefined
        ? new Uint8Array(sealKeyBytes)
        : ciphers.derive({ key, salt: emptyBytes, info: 'coterie udp handshake', bytes: sealKeyBytes })
  }

  /** `context`: the nonce of the hello that is answered, so that an answer fits no other; empty in a hello. */
  sign(signed: Uint8Array, context: Uint8Array): Uint8Array {
    return this.#ciphers.mac(this.#handshakeKey, concatBytes([context, signed]))
  }

  isSigned(datagram: Uint8Array, context: Uint8Array): boolean {
    const { signed, mac } = signedPart(datagram)
    return this.#ciphers.same(this.sign(signed, context).subarray(0, macBytes), mac)
  }

  /** For one connection. */
  directionKeys(nonces: { readonly client: Uint8Array; readonly server: Uint8Array }): DirectionKeys {
    const key = this.#key
    const salt = concatBytes([nonces.client, nonces.server])
    if (key === undefined) return { toServer: new Checksums(salt, 0), toClient: new Checksums(salt, 1) }
    const sealer = (direction: string): BodySealer => {
      const info = `coterie udp ${direction}`
      return keyedSealer(this.#ciphers, this.#ciphers.derive({ key, salt, info, bytes: sealKeyBytes }))
    }
    return { toServer: sealer('client to server'), toClient: sealer('server to client') }
  }
}

/** Seals under a key that is used for nothing else. */
export function keyedSealer(ciphers: Ciphers, key: Uint8Array): BodySealer {
  return new Sealing(ciphers.sealer(key))
}

/** Checksums seeded with bytes that both ends have. */
export function unkeyedSealer(seed: Uint8Array): BodySealer {
  return new Checksums(seed, 0)
}

class Sealing implements BodySealer {
  readonly #sealer: Sealer
  readonly #nonce: Uint8Array = new Uint8Array(sealNonceBytes)

  constructor(sealer: Sealer) {
    this.#sealer = sealer
  }

  seal(number: number, datagram: Uint8Array, headerBytes: number): void {
    writeU48(this.#nonce, 0, number)
    this.#sealer.seal(this.#nonce, datagram, headerBytes)
  }

  open(number: number, datagram: Uint8Array, headerBytes: number): Uint8Array | undefined {
    writeU48(this.#nonce, 0, number)
    return this.#sealer.open(this.#nonce, datagram, headerBytes)
  }
}

class Checksums implements BodySealer {
  readonly #seed: number

  constructor(salt: Uint8Array, direction: number) {
    this.#seed = crc32(Uint8Array.of(direction), crc32(salt))
  }

  seal(_number: number, datagram: Uint8Array): void {
    const checkAt = datagram.length - checkBytes
    datagram.fill(0, checkAt)
    writeU32(datagram, checkAt, crc32(datagram.subarray(0, checkAt), this.#seed))
  }

  open(_number: number, datagram: Uint8Array, headerBytes: number): Uint8Array | undefined {
    const checkAt = datagram.length - checkBytes
    if (checkAt < headerBytes) return undefined
    for (let i = checkAt + 4; i < datagram.length; i++) if (datagram[i] !== 0) return undefined
    if (readU32(datagram, checkAt) !== crc32(datagram.subarray(0, checkAt), this.#seed)) return undefined
    return datagram.subarray(headerBytes, checkAt)
  }
}
