// The cryptography that datagrams need, behind an interface: codes that authenticate, keys made from keys, and an
// authenticated cipher. All of it is synchronous, because a datagram costs microseconds.

/** What `seal` adds. */
export const sealTagBytes = 16
export const sealNonceBytes = 12
export const sealKeyBytes = 32

export interface Ciphers {
  /** HMAC-SHA-256: 32 bytes. */
  mac(key: Uint8Array, text: Uint8Array): Uint8Array
  /** Compares in a time that does not depend on where they differ. */
  same(a: Uint8Array, b: Uint8Array): boolean
  /** HKDF-SHA-256: `bytes` of key from a key. */
  derive(options: DeriveOptions): Uint8Array
  /** AES-256-GCM under one key of 32 bytes. */
  sealer(key: Uint8Array): Sealer
}

export interface DeriveOptions {
  readonly key: Uint8Array
  readonly salt: Uint8Array
  readonly info: string
  readonly bytes: number
}

export interface Sealer {
  /**
   * Encrypts in place: `datagram` is header, body and `sealTagBytes` of room; the header stays readable and is
   * authenticated too. A nonce of 12 bytes must never come again under the same key.
   */
  seal(nonce: Uint8Array, datagram: Uint8Array, headerBytes: number): void
  /** The body, or undefined if the datagram was not sealed so under this key. */
  open(nonce: Uint8Array, datagram: Uint8Array, headerBytes: number): Uint8Array | undefined
}
