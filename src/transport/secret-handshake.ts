// How two sides of a stream prove to each other that they know the same secret, without telling it. A pure state machine:
// bytes in, bytes out.
//
//   message    = u8 type | u16 bytes | body                                                          (little-endian)
//   1 challenge  nonce (32) | u16 bytes, site id | u16 bytes, database id (empty: there is none yet)
//   2 proof      HMAC-SHA-256 (32)
//   3 refusal    nothing
//
// Both sides send a challenge. The connector then proves itself first, and the listener only to one who has: a stranger
// who connects gets nothing to guess a secret with. A proof is
//
//   HMAC(secret, label of the prover's role | connector's preface | listener's preface
//                | connector's challenge | listener's challenge)
//
// so it holds for this connection only (both nonces are fresh), for these two sites and what each says its group is, and
// for the prefaces as both have seen them: whoever clears a demand or an offer on the way breaks it. A proof of one role
// is none of the other, so nothing can be sent back to its sender.
//
// How it fails: AUTH_FAILED where a proof does not hold, HANDSHAKE_FAILED where a message is malformed. At most one
// message is held, of at most `bodyBytesMax`. It says who is there at the beginning; it does not protect what follows
// from somebody who can change bytes on the way. TLS does.

import { concatBytes, emptyBytes, utf8Encode } from '../base/bytes.ts'
import { CoterieError } from '../base/errors.ts'
import { limits } from '../base/limits.ts'
import type { Crypto, Random } from '../env/host.ts'
import type { LinkIdentity } from './link-options.ts'

export type Role = 'connector' | 'listener'

export interface SecretHandshakeOptions {
  readonly role: Role
  readonly secret: Uint8Array
  readonly crypto: Crypto
  readonly random: Random
  readonly identity: LinkIdentity
  readonly ourPreface: Uint8Array
  readonly theirPreface: Uint8Array
}

export type HandshakeStep =
  /** More must come. */
  | { readonly kind: 'more'; readonly send: readonly Uint8Array[] }
  /** Both have proved it; `rest` is what came behind. */
  | { readonly kind: 'done'; readonly send: readonly Uint8Array[]; readonly rest: Uint8Array }
  | { readonly kind: 'failed'; readonly send: readonly Uint8Array[]; readonly error: CoterieError }

const nonceBytes = 32
const proofBytes = 32
const headerBytes = 3
const bodyBytesMax: number = nonceBytes + 2 * (2 + limits.siteIdBytesMax)
const types = { challenge: 1, proof: 2, refusal: 3 } as const
const labels: Readonly<Record<Role, Uint8Array>> = {
  connector: utf8Encode('coterie secret 1, connector\0'),
  listener: utf8Encode('coterie secret 1, listener\0'),
}

export class SecretHandshake {
  readonly #options: SecretHandshakeOptions
  readonly #ourChallenge: Uint8Array
  #theirChallenge: Uint8Array | undefined
  #held: Uint8Array = emptyBytes

  constructor(options: SecretHandshakeOptions) {
    this.#options = options
    const { random, identity } = options
    const body = concatBytes([random.bytes(nonceBytes), text(identity.site), text(identity.databaseId ?? '')])
    this.#ourChallenge = message(types.challenge, body)
  }

  /** What to send first. */
  get challenge(): Uint8Array {
    return this.#ourChallenge
  }

  /** Not to be called again once it has said `done` or `failed`. */
  push(bytes: Uint8Array): HandshakeStep {
    this.#held = this.#held.length === 0 ? bytes : concatBytes([this.#held, bytes])
    const send: Uint8Array[] = []
    while (this.#held.length >= headerBytes) {
      const [type = 0, low = 0, high = 0] = this.#held
      const length = headerBytes + (low | (high << 8))
      if (length - headerBytes > bodyBytesMax) return malformed(`a message of ${length} bytes`)
      if (this.#held.length < length) break
      const whole = this.#held.subarray(0, length)
      this.#held = this.#held.subarray(length)
      const step = this.#received(type, whole)
      if (step.kind === 'failed') return step
      send.push(...step.send)
      if (step.kind === 'done') return { kind: 'done', send, rest: this.#held }
    }
    // Of its own, so that the chunk that it came in can go.
    this.#held = this.#held.slice()
    return { kind: 'more', send }
  }

  #received(type: number, whole: Uint8Array): HandshakeStep {
    const body = whole.subarray(headerBytes)
    if (type === types.refusal)
      return refused('the other side says that our proof is wrong: the secrets differ')
    if (type === types.challenge && this.#theirChallenge === undefined) return this.#challenged(whole)
    if (type === types.proof && this.#theirChallenge !== undefined) return this.#proved(body)
    return malformed(`a message of type ${type} out of turn`)
  }

  #challenged(whole: Uint8Array): HandshakeStep {
    const body = whole.subarray(headerBytes)
    if (!isChallenge(body)) return malformed('a challenge')
    const { crypto, role } = this.#options
    const ours = this.#ourChallenge.subarray(headerBytes, headerBytes + nonceBytes)
    if (crypto.equal(body.subarray(0, nonceBytes), ours)) return refused('our own challenge came back')
    this.#theirChallenge = whole.slice()
    return { kind: 'more', send: role === 'connector' ? [this.#proofOf('connector')] : [] }
  }

  #proved(body: Uint8Array): HandshakeStep {
    const { crypto, role } = this.#options
    const theirs = role === 'connector' ? 'listener' : 'connector'
    const expected = this.#proofOf(theirs).subarray(headerBytes)
    if (body.length !== proofBytes || !crypto.equal(body, expected)) {
      return {
        kind: 'failed',
        send: [message(types.refusal, emptyBytes)],
        error: authFailed(
          'the proof of the other side is wrong: the secrets differ, or somebody changed what was sent',
        ),
      }
    }
    return { kind: 'done', send: role === 'listener' ? [this.#proofOf('listener')] : [], rest: emptyBytes }
  }

  #proofOf(prover: Role): Uint8Array {
    const { crypto, secret, role, ourPreface, theirPreface } = this.#options
    const ours = this.#ourChallenge
    const theirs = this.#theirChallenge ?? emptyBytes
    const parts =
      role === 'connector'
        ? [ourPreface, theirPreface, ours, theirs]
        : [theirPreface, ourPreface, theirs, ours]
    return message(types.proof, crypto.hmac(secret, [labels[prover], ...parts]))
  }
}

/** Errors: OPTION_INVALID. */
export function secretBytesOf(secret: string | Uint8Array): Uint8Array {
  const bytes = typeof secret === 'string' ? utf8Encode(secret) : secret
  if (bytes.length >= limits.secretBytesMin) return bytes
  throw new CoterieError('OPTION_INVALID', `'secret' has at least ${limits.secretBytesMin} bytes`, {
    details: { option: 'secret' },
  })
}

export function authFailed(reason: string): CoterieError {
  return new CoterieError('AUTH_FAILED', reason)
}

function isChallenge(body: Uint8Array): boolean {
  let at = nonceBytes
  for (let field = 0; field < 2; field++) {
    if (at + 2 > body.length) return false
    const length = (body[at] as number) | ((body[at + 1] as number) << 8)
    if (length > limits.siteIdBytesMax) return false
    at += 2 + length
  }
  return at === body.length
}

function message(type: number, body: Uint8Array): Uint8Array {
  return concatBytes([Uint8Array.of(type, body.length & 255, body.length >> 8), body])
}

function text(value: string): Uint8Array {
  const bytes = utf8Encode(value)
  return concatBytes([Uint8Array.of(bytes.length & 255, bytes.length >> 8), bytes])
}

function refused(reason: string): HandshakeStep {
  return { kind: 'failed', send: [], error: authFailed(reason) }
}

function malformed(what: string): HandshakeStep {
  const error = new CoterieError(
    'HANDSHAKE_FAILED',
    `the other side broke the rules of the handshake: ${what}`,
  )
  return { kind: 'failed', send: [], error }
}
