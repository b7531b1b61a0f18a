// Every decoder of bytes from a stream, given any bytes: each answers with a value or an error of ours, holds no more than
// its bound, and takes nothing for a message that was not sent as one.

import assert from 'node:assert/strict'
import { deflateRawSync, constants as zlibConstants } from 'node:zlib'
import fc from 'fast-check'
import { concatBytes, utf8Encode } from '../../src/base/bytes.ts'
import { isCoterieError } from '../../src/base/errors.ts'
import { Prng } from '../../src/base/prng.ts'
import { nodeCompression } from '../../src/env/node/node-compression.ts'
import { simulatedCrypto } from '../../src/env/simulated/simulated-crypto.ts'
import { borrowedId } from '../../src/group/claims.ts'
import { encodeMessage } from '../../src/replication/message-codec.ts'
import { FrameReader } from '../../src/transport/frame.ts'
import { encodePreface, PrefaceReader, protocolRange } from '../../src/transport/preface.ts'
import { SecretHandshake } from '../../src/transport/secret-handshake.ts'

const chunks: fc.Arbitrary<Uint8Array[]> = fc.array(fc.uint8Array({ maxLength: 80 }), { maxLength: 6 })
const role = fc.constantFrom('connector' as const, 'listener' as const)

/** Messages that look like those of a handshake, and are wrong in any way. */
const handshakeMessage: fc.Arbitrary<Uint8Array> = fc
  .record({
    type: fc.integer({ min: 0, max: 4 }),
    claimed: fc.option(fc.integer({ min: 0, max: 65_535 }), { freq: 5, nil: undefined }),
    body: fc.oneof(fc.uint8Array({ maxLength: 40 }), challengeBody()),
  })
  .map(({ type, claimed, body }) => {
    const length = claimed ?? body.length
    return concatBytes([Uint8Array.of(type, length & 255, length >> 8), body])
  })

function challengeBody(): fc.Arbitrary<Uint8Array> {
  return fc
    .record({
      nonce: fc.uint8Array({ minLength: 32, maxLength: 32 }),
      texts: fc.array(fc.uint8Array({ maxLength: 70 }), { minLength: 2, maxLength: 2 }),
    })
    .map(({ nonce, texts }) =>
      concatBytes([nonce, ...texts.flatMap((text) => [Uint8Array.of(text.length, 0), text])]),
    )
}

function newHandshake(as: 'connector' | 'listener', seed: number): SecretHandshake {
  const prng = new Prng(seed)
  return new SecretHandshake({
    role: as,
    secret: utf8Encode('a secret that no bytes of chance know'),
    // Not to measure the hash: whoever knows nothing of the secret does not hit 32 bytes of it either.
    crypto: simulatedCrypto,
    random: { bytes: (length) => prng.bytes(length) },
    identity: { site: 'a', databaseId: 'd' },
    ourPreface: encodePreface(protocolRange),
    theirPreface: encodePreface(protocolRange),
  })
}

function playHandshake(as: 'connector' | 'listener', seed: number, parts: readonly Uint8Array[]): void {
  const handshake = newHandshake(as, seed)
  for (const part of parts) {
    const step = handshake.push(part)
    assert.notEqual(step.kind, 'done', 'bytes of chance prove nothing')
    if (step.kind === 'failed') {
      assert.ok(step.error.code === 'AUTH_FAILED' || step.error.code === 'HANDSHAKE_FAILED')
      return
    }
  }
}

/** By the name of the decoder. */
export const decoders: Readonly<Record<string, (numRuns: number) => void | Promise<void>>> = {
  'the preface': (numRuns) => {
    const property = fc.property(chunks, fc.boolean(), fc.nat(15), (parts, isNear, place) => {
      const first = encodePreface(protocolRange)
      if (isNear) first[place] = (parts[0]?.[0] ?? 0) as number
      const reader = new PrefaceReader(protocolRange)
      try {
        for (const part of isNear ? [first, ...parts] : parts) {
          const read = reader.push(part)
          if (read === undefined) continue
          assert.equal(read.bytes.length, 16)
          assert.ok(read.rest.length <= part.length)
          return
        }
      } catch (error) {
        assert.ok(isCoterieError(error), String(error))
        assert.ok(['PROTOCOL_INCOMPATIBLE', 'TLS_FAILED', 'HANDSHAKE_FAILED'].includes(error.code))
      }
    })
    fc.assert(property, { numRuns })
  },

  'the handshake with a secret, given bytes of chance': (numRuns) => {
    const property = fc.property(role, fc.integer(), chunks, (as, seed, parts) => {
      playHandshake(as, seed, parts)
    })
    fc.assert(property, { numRuns })
  },

  'the handshake with a secret, given what looks like it, in any pieces': (numRuns) => {
    const property = fc.property(
      role,
      fc.integer(),
      fc.array(handshakeMessage, { maxLength: 4 }),
      fc.integer({ min: 1, max: 200 }),
      (as, seed, messages, pieceBytes) => {
        const all = concatBytes(messages)
        const pieces: Uint8Array[] = []
        for (let at = 0; at < all.length; at += pieceBytes) pieces.push(all.subarray(at, at + pieceBytes))
        playHandshake(as, seed, pieces)
      },
    )
    fc.assert(property, { numRuns })
  },

  frames: (numRuns) => {
    const property = fc.property(chunks, (parts) => {
      const reader = new FrameReader({ boundBytes: 1000 })
      for (const part of parts) {
        reader.push(part)
        const found = reader.next()
        if (found === 'more') continue
        assert.equal(found, 'invalid', 'bytes of chance are no frame')
        assert.equal(reader.error?.code, 'FRAME_INVALID')
        return
      }
    })
    fc.assert(property, { numRuns })
  },

  'what deflate unpacks': async (numRuns) => {
    const valid = deflateRawSync(new Prng(9).bytes(200), { finishFlush: zlibConstants.Z_SYNC_FLUSH })
    const property = fc.asyncProperty(
      fc.uint8Array({ maxLength: 300 }),
      fc.option(fc.nat(valid.length - 1), { nil: undefined }),
      async (bytes, place) => {
        const input = place === undefined ? bytes : Uint8Array.from(valid)
        if (place !== undefined) input[place] = (input[place] as number) ^ (1 + ((bytes[0] ?? 0) % 255))
        let unpacked = 0
        await new Promise<void>((resolve) => {
          const decompressor = nodeCompression.decompressor('deflate', {
            data: (out) => {
              unpacked += out.length
            },
            failed: () => resolve(),
          })
          decompressor.write([input], () => {
            decompressor.destroy()
            resolve()
          })
        })
        // No byte of deflate becomes more than 1,032.
        assert.ok(unpacked <= 1032 * input.length)
      },
    )
    await fc.assert(property, { numRuns })
  },

  'what a message claims its sender to be': (numRuns) => {
    const hello = encodeMessage({
      type: 'higherTerm',
      session: 0,
      term: 1 as never,
      databaseId: 'd',
      site: 's',
    })
    const property = fc.property(
      fc.uint8Array({ maxLength: 200 }),
      fc.integer({ min: 0, max: 20 }),
      fc.boolean(),
      (bytes, type, isNear) => {
        const control = isNear ? concatBytes([hello.slice(0, 12), bytes]) : bytes.slice()
        if (control.length > 0) control[0] = type
        const claim = borrowedId(control, ['x'], 1 as never)
        if (claim !== undefined) assert.equal(claim.error.code, 'AUTH_FAILED')
      },
    )
    fc.assert(property, { numRuns })
  },
}
