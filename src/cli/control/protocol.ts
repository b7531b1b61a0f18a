// What the two ends of the control endpoint say to each other. It lets `coterie get` and the like reach a directory
// that a running `coterie serve` or `attach` has open: loopback only, for the user who can read control.json.
//
// A message is one of the project's transport (docs/protocol.md), with JSON as its control part, the head, and bytes as
// its payload.
//
// The handshake proves on both sides that they know the secret of control.json, without sending it: a port that
// another program has taken since learns nothing and is found out. Before the proof, a connection may send one small
// message and is closed for anything else.
//
//   client: hello { protocol, version, nonce }     server: challenge { nonce, proof }     client: proof { proof }
//   then     call { id, method, params } + payload  ->  result { id, result } + payload, or failure { id, error }
//            progress { id, done, total }, and for streams item { id } + payload, of which as many are under way as
//            the client gave credit for: more { id, credit }.  cancel { id } ends a call.

import { createHmac, timingSafeEqual } from 'node:crypto'
import { utf8Decode, utf8Encode } from '../../base/bytes.ts'
import { asError, CoterieError, type ErrorCode, errorCatalogue, isCoterieError } from '../../base/errors.ts'
import { toJson } from '../output.ts'

export const controlProtocol = 'coterie-control'
export const controlVersion = 1
/** Items of a stream that may be under way before the client has taken the first. */
export const streamCredit = 4
export const handshakeMs = 5000

export const methods = [
  'get',
  'write',
  'rows',
  'storeNames',
  'records',
  'status',
  'stat',
  'verify',
  'digest',
  'checkpoint',
  'archive',
  'backup',
  'promote',
  'takeOver',
  'transfer',
  'removeMember',
  'setTwoSites',
  'elect',
  'outcome',
] as const
export type Method = (typeof methods)[number]

export type ControlHead =
  | { readonly type: 'hello'; readonly protocol: string; readonly version: number; readonly nonce: string }
  | { readonly type: 'challenge'; readonly version: number; readonly nonce: string; readonly proof: string }
  | { readonly type: 'proof'; readonly proof: string }
  | { readonly type: 'call'; readonly id: number; readonly method: string; readonly params: Params }
  | { readonly type: 'more'; readonly id: number; readonly credit: number }
  | { readonly type: 'cancel'; readonly id: number }
  | { readonly type: 'item'; readonly id: number }
  | {
      readonly type: 'progress'
      readonly id: number
      readonly done: number
      readonly total: number | undefined
    }
  | { readonly type: 'result'; readonly id: number; readonly result: unknown }
  | { readonly type: 'failure'; readonly id: number; readonly error: WireError }

export type Params = Readonly<Record<string, unknown>>

export interface WireError {
  readonly code: string
  readonly message: string
  readonly details: Readonly<Record<string, unknown>>
}

export function encodeHead(head: ControlHead): Uint8Array {
  return utf8Encode(toJson(head))
}

/** FRAME_INVALID for anything else than a head; its fields are checked where they are used. */
export function decodeHead(bytes: Uint8Array): ControlHead {
  let head: unknown
  try {
    head = JSON.parse(utf8Decode(bytes))
  } catch (cause) {
    throw new CoterieError('FRAME_INVALID', 'the head of a control message is not JSON', { cause })
  }
  if (typeof head !== 'object' || head === null || typeof (head as { type?: unknown }).type !== 'string') {
    throw new CoterieError('FRAME_INVALID', 'the head of a control message has no type')
  }
  return head as ControlHead
}

export type ProofSide = 'client' | 'server'

export function proofOf(secret: string, side: ProofSide, clientNonce: string, serverNonce: string): string {
  return createHmac('sha256', secret).update(`${side}\n${clientNonce}\n${serverNonce}`).digest('hex')
}

/** In constant time for proofs of the right length; a wrong length tells nobody anything. */
export function sameProof(given: unknown, expected: string): boolean {
  if (typeof given !== 'string') return false
  const a = Buffer.from(given)
  const b = Buffer.from(expected)
  return a.length === b.length && timingSafeEqual(a, b)
}

export function toWireError(thrown: unknown): WireError {
  const error = asError(thrown)
  if (!isCoterieError(error)) return { code: 'FAILED', message: error.message, details: {} }
  return { code: error.code, message: error.message, details: error.details }
}

export function fromWireError(error: WireError): Error {
  if (!Object.hasOwn(errorCatalogue, error.code)) return new Error(error.message)
  return new CoterieError(error.code as ErrorCode, error.message, { details: error.details })
}
